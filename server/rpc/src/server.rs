//! The server: connections, each with a reader, and coroutines that carry its calls out.

use std::{
    fmt, io,
    net::SocketAddr,
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, AtomicUsize, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use maniple::{
    cancel::CancelToken,
    log_limit::LogLimit,
    net::ToSocketAddrs,
    sync::{Mutex, Notify},
    task,
};

use crate::{
    address::Address,
    answering::{Answering, Calls},
    crew::{Crew, Job},
    frame::{
        CallId, Fault, Frame, Goaway, IDEMPOTENT, Inlet, Kind, Reason, Request, STREAM, read_window,
    },
    link::{Link, Side},
    metadata::Metadata,
    service::{Call, Method, Methods, Peer, Service, Underway},
    settings::{Settings, settings},
    slot::{Flow, Phase, Slot},
    stats::{self, ConnectionStats},
    status::{Code, Status},
    transport::{Listener, Stream},
};

/// Makes a [`Server`].
#[must_use = "a builder does nothing until it binds"]
pub struct Builder {
    methods: Methods,
    settings: Settings,
    max_connections: usize,
    drain: Duration,
    #[cfg(feature = "tls")]
    tls: Option<maniple_tls::ServerConfig>,
}

impl Builder {
    settings!();

    /// Adds a service.
    pub fn service(mut self, service: Service) -> Self {
        service.add_to(&mut self.methods);
        self
    }

    /// Calls of a connection that are taken at a time. Default: 1024. A client waits with those beyond.
    pub fn max_calls(mut self, calls: u32) -> Self {
        self.settings.max_calls = calls.max(1);
        self
    }

    /// Connections at a time; those beyond wait to be accepted. Default: 10,000.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections.max(1);
        self
    }

    /// How long a drain waits for calls that are under way, before they are cancelled. Default: 30 s.
    pub fn drain_timeout(mut self, time: Duration) -> Self {
        self.drain = time;
        self
    }

    /// Listens there.
    ///
    /// The port is the guard of a single instance: while one listens, whichever way it may end, no other does.
    ///
    /// # Errors
    /// If it cannot: kind `AddrInUse` while another does.
    pub fn bind(self, address: impl ToSocketAddrs) -> io::Result<Server> {
        self.listen(Listener::bind(address)?)
    }

    /// Listens on a Unix-domain socket at that path; with `@` as its first character it is a name that is no file.
    ///
    /// Such a path is the guard of a single instance, too: a lock is held on a file beside it, with `.lock` behind its name.
    /// A socket that a process left there which is no more is replaced, and ours is removed once this one serves no more.
    ///
    /// # Errors
    /// If it cannot: kind `AddrInUse` while another does.
    pub fn bind_unix(self, path: impl AsRef<Path>) -> io::Result<Server> {
        let path = path.as_ref().to_str();
        let path = path
            .ok_or_else(|| io::Error::new(io::ErrorKind::InvalidInput, "a path that is no text"))?;
        self.listen(Listener::bind_unix(path)?)
    }

    /// Has its connections go over TLS, with these settings. With the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: maniple_tls::ServerConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// Accepts from a listener that is there already, of TCP or of a Unix-domain socket.
    ///
    /// # Errors
    /// If the listener has no address, or is of a Unix-domain socket and the connections are to go over TLS.
    pub fn listen(self, listener: impl Into<Listener>) -> io::Result<Server> {
        let listener = listener.into();
        #[cfg(feature = "tls")]
        if self.tls.is_some() && !listener.is_tcp() {
            let text = "TLS over a Unix-domain socket";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let address = listener.address()?;
        Ok(Server {
            listener,
            shared: Arc::new(Shared {
                address,
                methods: self.methods,
                settings: self.settings,
                max_connections: self.max_connections,
                drain: self.drain,
                #[cfg(feature = "tls")]
                tls: self.tls,
                stop: CancelToken::new(),
                is_over: AtomicBool::new(false),
                news: Notify::new(),
                count: AtomicUsize::new(0),
                connections: Mutex::new(Vec::new()),
            }),
        })
    }
}

impl fmt::Debug for Builder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Builder")
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

/// Serves calls over long connections.
#[derive(Debug)]
pub struct Server {
    listener: Listener,
    shared: Arc<Shared>,
}

struct Shared {
    address: Address,
    methods: Methods,
    settings: Settings,
    max_connections: usize,
    drain: Duration,
    #[cfg(feature = "tls")]
    tls: Option<maniple_tls::ServerConfig>,
    /// Cancelled by a drain.
    stop: CancelToken,
    /// Nothing is served any more.
    is_over: AtomicBool,
    /// A connection has gone.
    news: Notify,
    /// Connections, also those that have not said hello.
    count: AtomicUsize,
    connections: Mutex<Vec<Arc<Calls>>>,
}

impl Server {
    /// One without services.
    pub fn builder() -> Builder {
        Builder {
            methods: Methods::new(),
            settings: Settings::default(),
            max_connections: 10_000,
            drain: Duration::from_secs(30),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The address of TCP that it listens on.
    ///
    /// # Panics
    /// If it listens on a Unix-domain socket: see [`Server::address`].
    #[track_caller]
    pub fn local_addr(&self) -> SocketAddr {
        let address = self.shared.address.tcp();
        address.expect("a server that listens on TCP")
    }

    /// Where it listens; as text, it is what a channel is opened to.
    pub fn address(&self) -> &Address {
        &self.shared.address
    }

    /// A handle, by which others drain it and look at its connections.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle(self.shared.clone())
    }

    /// Serves until it is drained.
    ///
    /// # Errors
    /// If the wait was cut short. The connections end then, and what their calls do is cancelled.
    pub fn serve(self) -> io::Result<()> {
        let Self { listener, shared } = self;
        let all = Everybody(&shared);
        let accepted = shared.stop.run(|| shared.accept(&listener));
        // Before clients are sent away, so that they do not come back here.
        drop(listener);
        if !shared.stop.is_cancelled() {
            return accepted.unwrap_or(Ok(()));
        }
        shared.see_off();
        drop(all);
        Ok(())
    }
}

impl Shared {
    fn accept(self: &Arc<Self>, listener: &Listener) -> io::Result<()> {
        loop {
            while self.count.load(Ordering::Acquire) >= self.max_connections {
                self.news.notified();
            }
            match listener.accept() {
                Ok(stream) => {
                    let place = Place::of(self);
                    let mut named = task::Builder::new().name("RPC connection");
                    if let Ok([_, Address::Tcp(peer)]) = stream.ends() {
                        named = named.connection_from(peer);
                    }
                    if let Err(error) = named.spawn_least_loaded(move || place.serve(stream)) {
                        self.cannot_accept(&error);
                    }
                }
                Err(error) => {
                    maniple::cancel::check()?;
                    self.cannot_accept(&error);
                    // It may be descriptors that are used up: others give some back.
                    maniple::sleep(Duration::from_millis(20));
                }
            }
        }
    }

    #[cold]
    fn cannot_accept(&self, error: &io::Error) {
        static LIMIT: LogLimit = LogLimit::new(1);
        maniple::log_within!(LIMIT, warn, "RPC: accept at {}: {error}", self.address);
    }

    /// Over TLS, if that was set; its handshake is part of the beginning of the connection.
    fn secured(&self, stream: Stream) -> io::Result<Stream> {
        #[cfg(feature = "tls")]
        let stream = match (stream, &self.tls) {
            (Stream::Tcp(stream), Some(config)) => Stream::Tls(Box::new(config.stream(stream)?)),
            (stream, _) => stream,
        };
        Ok(stream)
    }

    /// Has the clients leave, each once its calls are answered.
    fn see_off(&self) {
        for calls in &*self.connections.lock() {
            calls.see_off();
        }
        if !self.wait_for_all(self.drain) {
            for calls in &*self.connections.lock() {
                calls.finish();
                calls.link.close();
            }
            // What was cancelled has still to say so.
            self.wait_for_all(Duration::from_secs(1));
        }
    }

    fn wait_for_all(&self, time: Duration) -> bool {
        let until = maniple::time::now().checked_add(time);
        while self.count.load(Ordering::Acquire) > 0 {
            let left = until.map(|until| until.saturating_duration_since(maniple::time::now()));
            match left {
                Some(Duration::ZERO) => return false,
                Some(left) => drop(self.news.notified_timeout(left)),
                None => self.news.notified(),
            }
        }
        true
    }
}

impl fmt::Debug for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Shared")
            .field("address", &self.address)
            .finish_non_exhaustive()
    }
}

/// However serving ends, no connection outlasts it.
struct Everybody<'a>(&'a Shared);

impl Drop for Everybody<'_> {
    fn drop(&mut self) {
        let Self(shared) = self;
        shared.is_over.store(true, Ordering::Release);
        for calls in &*shared.connections.lock() {
            calls.link.close();
        }
    }
}

impl Calls {
    /// Says that the server leaves. What comes before that is heard is answered.
    fn see_off(&self) {
        if self.is_draining.swap(true, Ordering::AcqRel) {
            return;
        }
        self.link
            .send_goaway(Goaway::SOON, Reason::Leaving, "the server ends");
        self.link
            .send_short(Kind::Ping, CallId::default(), &FAREWELL);
    }

    /// Says which requests are answered. No other is, from now on.
    fn finish(&self) {
        if !self.is_finished.swap(true, Ordering::AcqRel) {
            let taken = self.taken.load(Ordering::Acquire);
            self.link
                .send_goaway(taken, Reason::Leaving, "the server ends");
        }
    }

    /// What the keeper looks at.
    fn look(&self) {
        let is_idle = self.open.load(Ordering::Acquire) == 0;
        if self.has_heard.load(Ordering::Acquire) && is_idle {
            self.finish();
        }
        if self.is_finished.load(Ordering::Acquire) && self.link.is_flushed() {
            self.link.shut();
        }
    }
}

/// A ping whose answer tells that the client has heard that the server leaves.
const FAREWELL: [u8; 8] = *b"farewell";

/// One of the connections that there may be.
struct Place(Arc<Shared>);

impl Place {
    fn of(shared: &Arc<Shared>) -> Self {
        shared.count.fetch_add(1, Ordering::AcqRel);
        Self(shared.clone())
    }

    fn serve(self, stream: Stream) {
        let Self(shared) = &self;
        let opened = shared.secured(stream);
        let opened =
            opened.and_then(|stream| Link::open(stream, shared.settings.clone(), Side::Server));
        let (link, inlet) = match opened {
            Ok(opened) => opened,
            Err(error) => {
                static LIMIT: LogLimit = LogLimit::new(5);
                return maniple::log_within!(LIMIT, debug, "RPC: no hello: {error}");
            }
        };
        let calls = Arc::new(Calls {
            link,
            open: AtomicU32::new(0),
            taken: AtomicU64::new(0),
            is_draining: AtomicBool::new(false),
            has_heard: AtomicBool::new(false),
            is_finished: AtomicBool::new(false),
        });
        let listed = Listed::of(shared, &calls);
        let keeping = calls.clone();
        let keeper = task::Builder::new().name("RPC keeper");
        let keeper = keeper.spawn(move || keeping.link.keep(|| keeping.look()));
        if keeper.is_ok() {
            let mut reader = Reader {
                shared: shared.clone(),
                peer: Arc::new(Peer {
                    address: calls.link.peer.clone(),
                    name: calls.link.hello.name.clone(),
                }),
                calls: calls.clone(),
                crew: Arc::default(),
                entries: Vec::new(),
                last: None,
            };
            reader.read(inlet);
            reader.give_up();
        }
        calls.link.close();
        drop(listed);
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.0.count.fetch_sub(1, Ordering::AcqRel);
        self.0.news.notify_one();
    }
}

/// A connection that a drain and statistics know of.
struct Listed<'a> {
    shared: &'a Shared,
    calls: &'a Arc<Calls>,
}

impl<'a> Listed<'a> {
    fn of(shared: &'a Shared, calls: &'a Arc<Calls>) -> Self {
        shared.connections.lock().push(calls.clone());
        if shared.is_over.load(Ordering::Acquire) {
            calls.link.close();
        } else if shared.stop.is_cancelled() {
            calls.see_off();
        }
        Self { shared, calls }
    }
}

impl Drop for Listed<'_> {
    fn drop(&mut self) {
        let mut connections = self.shared.connections.lock();
        connections.retain(|each| !Arc::ptr_eq(each, self.calls));
    }
}

/// Who reads from a connection, and starts its calls.
struct Reader {
    shared: Arc<Shared>,
    peer: Arc<Peer>,
    calls: Arc<Calls>,
    crew: Arc<Crew>,
    /// By slots; as many as were used.
    entries: Vec<Option<Arc<Slot>>>,
    /// The method that was called last: most often it is called again.
    last: Option<(Bytes, Arc<Method>)>,
}

impl Reader {
    fn read(&mut self, mut inlet: Inlet) {
        let calls = self.calls.clone();
        let link = &calls.link;
        let crew = self.crew.clone();
        match link.read(&mut inlet, |frame| self.take(frame), || crew.start()) {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                maniple::panics::catch(|| log::debug!("RPC: {link}: {error}"));
            }
            Err(fault) => {
                static LIMIT: LogLimit = LogLimit::new(5);
                maniple::log_within!(LIMIT, warn, "RPC: {link}: {}", fault.text);
                let taken = calls.taken.load(Ordering::Acquire);
                link.send_goaway(taken, fault.reason, fault.text);
            }
        }
    }

    fn take(&mut self, frame: Frame) -> Result<bool, Fault> {
        let Frame {
            kind,
            flags,
            call,
            body,
        } = frame;
        match kind {
            Kind::Request => self.begin(flags, call, body),
            Kind::Cancel => {
                if let Some(slot) = self.slot(call) {
                    self.give_up_call(slot, call.serial);
                }
                Ok(true)
            }
            Kind::Message => {
                if let Some(slot) = self.slot(call) {
                    slot.receive(call.serial, flags, body)?;
                }
                Ok(true)
            }
            Kind::Window => {
                let bytes = read_window(&body)?;
                if let Some(slot) = self.slot(call) {
                    slot.widen(call.serial, bytes);
                }
                Ok(true)
            }
            Kind::Ping => {
                self.calls.link.send_pong(call, &body)?;
                Ok(false)
            }
            Kind::Pong => {
                if body == FAREWELL[..] && self.calls.is_draining.load(Ordering::Acquire) {
                    self.calls.has_heard.store(true, Ordering::Release);
                    self.calls.link.tell_keeper();
                }
                Ok(false)
            }
            // A client that leaves ends its connection.
            Kind::Goaway => Goaway::read(&body).map(|_| false),
            Kind::Hello | Kind::Response => {
                Err(Fault::protocol("a frame that a client does not send"))
            }
        }
    }

    fn slot(&self, call: CallId) -> Option<&Slot> {
        self.entries.get(call.slot as usize)?.as_deref()
    }

    fn begin(&mut self, flags: u8, call: CallId, body: Bytes) -> Result<bool, Fault> {
        if self.calls.is_finished.load(Ordering::Acquire) {
            // Its client was told that it is not looked at.
            return Ok(false);
        }
        let request = Request::read(body)?;
        let metadata = Metadata::read(request.parts.metadata);
        let metadata = metadata.ok_or_else(|| Fault::protocol("metadata that is cut"))?;
        if call.slot >= self.shared.settings.max_calls {
            return Err(Fault::protocol("more calls than allowed"));
        }
        let index = call.slot as usize;
        if index >= self.entries.len() {
            self.entries.resize_with(index + 1, || None);
        }
        let slot = self.entries[index].get_or_insert_with(|| Arc::new(Slot::new()));
        let slot = slot.clone();
        let method = match &self.last {
            Some((path, method)) if *path == request.method => Some(method),
            _ => {
                let method = self.shared.methods.get(&request.method[..]);
                if let Some(method) = method {
                    // A copy, which keeps nothing else in memory.
                    let path = Bytes::copy_from_slice(&request.method);
                    self.last = Some((path, method.clone()));
                }
                method
            }
        };
        let mut state = slot.state.lock();
        if !matches!(state.phase, Phase::Free) {
            return Err(Fault::protocol("a second call in the place of one"));
        }
        state.serial = call.serial;
        state.phase = Phase::Open;
        let link = &self.calls.link;
        if method.is_some_and(|method| method.has_streams) {
            state.flow = Some(Flow::new(link.settings.window, link.hello.window));
        }
        drop(state);
        self.calls.taken.fetch_add(1, Ordering::AcqRel);
        let mut answering = Answering::new(self.calls.clone(), slot, call);
        let Some(method) = method else {
            answering.fail(&Status::new(Code::Unimplemented, "there is no such method"));
            return Ok(false);
        };
        if method.takes_stream != (flags & STREAM != 0) {
            let text = "a method that takes one message, and many, or the other way round";
            answering.fail(&Status::new(Code::Unimplemented, text));
            return Ok(false);
        }
        let deadline = match request.timeout {
            0 => None,
            micros => maniple::time::now().checked_add(Duration::from_micros(micros)),
        };
        let underway = Underway {
            call: Call {
                metadata,
                attachment: request.parts.attachment,
                deadline,
                peer: self.peer.clone(),
                is_idempotent: flags & IDEMPOTENT != 0,
                answer_metadata: Metadata::new(),
                answer_attachment: Bytes::new(),
            },
            message: request.parts.message,
            answering,
        };
        let method = method.clone();
        self.crew.push(Job { method, underway });
        Ok(true)
    }

    /// Cancels what runs, and waits for it to end.
    fn give_up(&mut self) {
        self.give_all_up();
        self.crew.wait_for_all();
    }

    /// Nobody waits for that call any more.
    fn give_up_call(&self, slot: &Slot, serial: u32) {
        let mut state = slot.state.lock();
        if state.serial != serial || !matches!(state.phase, Phase::Open) {
            return;
        }
        state.phase = Phase::Abandoned;
        slot.wake(&mut state);
        // Under the lock, so that its coroutine does not go on to another call meanwhile.
        if let Some(runner) = state.runner {
            self.crew.cancel(runner);
        }
    }

    fn give_all_up(&self) {
        self.calls.link.close();
        for slot in self.entries.iter().flatten() {
            let serial = slot.state.lock().serial;
            self.give_up_call(slot, serial);
        }
        self.crew.refuse_waiting();
    }
}

/// Whatever ends the reader, no call of its connection goes on for nobody.
impl Drop for Reader {
    fn drop(&mut self) {
        self.give_all_up();
    }
}

/// Drains a server, and looks at it.
#[derive(Clone, Debug)]
pub struct ServerHandle(Arc<Shared>);

impl ServerHandle {
    /// Has the server take no new connections, tell its clients that it leaves, and end once the calls that it has are
    /// answered. Returns at once; [`Server::serve`] returns then.
    pub fn drain(&self) {
        self.0.stop.cancel();
        self.0.news.notify_one();
    }

    /// Its connections as they are now.
    pub fn connections(&self) -> Vec<ConnectionStats> {
        let connections = self.0.connections.lock().clone();
        let stats = connections
            .iter()
            .map(|calls| ConnectionStats::of(&calls.link, calls.open.load(Ordering::Relaxed)));
        stats.collect()
    }

    /// Numbers of its connections, in the format that Prometheus reads.
    pub fn metrics(&self) -> String {
        stats::exposition("server", &self.connections())
    }
}
