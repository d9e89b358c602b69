//! The server: settings, listening, accepting, signals, and the end.

mod conn;

use std::{
    cell::Cell,
    io,
    net::SocketAddr,
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    drain::DrainReport,
    log_limit::LogLimit,
    log_within,
    net::{TcpListener, TcpStream, ToSocketAddrs},
    panics,
    sync::WaitGroup,
    task::{spawn_least_loaded, spawn_when_readable},
    time::coarse_now,
};

use crate::{
    body::BodyLimits,
    drain::Registry,
    http1::head::{Limits, MOST_FIELDS, MOST_TARGET_BYTES},
    line::Line,
    refusal::Refusals,
    router::Router,
};

use conn::{Service, Standby, Timeouts};

/// Settings of a server; made by [`Server::builder`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct Builder {
    router: Router,
    limits: Limits,
    timeouts: Timeouts,
    body_limits: BodyLimits,
    max_connections: usize,
    drain_grace: Duration,
    handle_signals: bool,
}

impl Builder {
    /// How long a request's head may take from its first byte. Default: 10 s. Then 408.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.header = timeout;
        self
    }

    /// How long a connection may wait for its next request. Default: 60 s. Then it is closed.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.idle = timeout;
        self
    }

    /// How long a body may stall, and a client may take no bytes of an answer. Default: 20 s.
    ///
    /// A client that takes some bytes of its answer in that time, however few, goes on; it is looked at four
    /// times in it. One that does not is reset, so that what it has cannot be taken for the whole.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_limits.stall = timeout;
        self
    }

    /// Bytes of a request's head. Default: 32 KiB. Beyond it 431.
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.limits.head_bytes = bytes;
        self
    }

    /// Bytes of a request's target. Default: 8 KiB, at most 65,534. Beyond it 414.
    pub fn max_target_bytes(mut self, bytes: usize) -> Self {
        self.limits.line_bytes = bytes;
        self
    }

    /// Header fields of a request. Default: 100, at most 256. Beyond it 431.
    pub fn max_header_fields(mut self, fields: usize) -> Self {
        self.limits.fields = fields;
        self
    }

    /// Bytes of a request's body. Default: 2 MiB. Beyond it 413.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.body_limits.length = bytes;
        self
    }

    /// Connections at a time. Default: 1,000,000. Further ones wait to be accepted.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long a drain waits for what is in flight. Default: 30 s. Then it is cancelled.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Whether SIGTERM and SIGINT drain the server, a second one ending the process at once.
    /// Default: no.
    pub fn handle_signals(mut self, handle: bool) -> Self {
        self.handle_signals = handle;
        self
    }

    /// Listens on the address.
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`), or the address cannot be resolved or bound; the
    /// message names it.
    pub fn bind<A: ToSocketAddrs>(self, address: A) -> io::Result<Server> {
        self.check()?;
        let never = |timeout: Duration| timeout.min(NEVER);
        let timeouts = Timeouts {
            header: never(self.timeouts.header),
            idle: never(self.timeouts.idle),
        };
        let body_limits = BodyLimits {
            stall: never(self.body_limits.stall),
            ..self.body_limits
        };
        // Alone on the address first, so that one in use is noticed: sharing would succeed.
        let first = TcpListener::bind(address)?;
        let local_addr = first.local_addr()?;
        Ok(Server {
            listener: first,
            shared: Arc::new(Shared {
                local_addr,
                stop: CancelToken::new(),
                drained: AtomicBool::new(false),
                refusals: Arc::new(Refusals::new(local_addr)),
                failed_accepts: LogLimit::new(1),
                service: Arc::new(Service {
                    router: self.router,
                    limits: self.limits,
                    timeouts,
                    body_limits,
                    registry: Registry::new(),
                }),
            }),
            max_connections: self.max_connections,
            drain_grace: never(self.drain_grace),
            handle_signals: self.handle_signals,
        })
    }

    fn check(&self) -> io::Result<()> {
        let wrong = if self.limits.fields == 0 || self.limits.fields > MOST_FIELDS {
            format!(
                "max_header_fields is {}, must be from 1 to {MOST_FIELDS}",
                self.limits.fields
            )
        } else if self.limits.head_bytes < 64 {
            "max_header_bytes must be at least 64".to_owned()
        } else if self.limits.line_bytes == 0 || self.limits.line_bytes > MOST_TARGET_BYTES {
            format!(
                "max_target_bytes is {}, must be from 1 to {MOST_TARGET_BYTES}",
                self.limits.line_bytes
            )
        } else if self.max_connections == 0 {
            "max_connections must be at least 1".to_owned()
        } else if self.timeouts.header.is_zero()
            || self.timeouts.idle.is_zero()
            || self.body_limits.stall.is_zero()
        {
            "timeouts must be longer than zero".to_owned()
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
    }
}

/// What is longer counts as this, since instants do not reach to the end of all durations.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// An HTTP/1.1 server that listens.
///
/// # Examples
/// ```
/// use maniple_server::{Client, Request, Router, Server};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let router = Router::new().get("/", |_: &mut Request| "hello");
///     let server = Server::builder(router).bind("127.0.0.1:0")?;
///     let (url, handle) = (format!("http://{}/", server.local_addr()), server.handle());
///     let serving = maniple::spawn(move || server.serve());
///     assert_eq!(Client::new().get(&url)?.text()?, "hello");
///     handle.drain();
///     serving.join()??;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
    shared: Arc<Shared>,
    max_connections: usize,
    drain_grace: Duration,
    handle_signals: bool,
}

#[derive(Debug)]
struct Shared {
    local_addr: SocketAddr,
    stop: CancelToken,
    drained: AtomicBool,
    refusals: Arc<Refusals>,
    failed_accepts: LogLimit,
    service: Arc<Service>,
}

/// Drains a server from anywhere; clones are for the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl ServerHandle {
    /// Begins to drain: no connection is accepted beyond those that have arrived, idle ones are closed,
    /// requests in flight are answered. Returns at once; [`Server::serve`] returns when it is done.
    pub fn drain(&self) {
        self.shared.begin_drain();
    }

    /// Whether the server is draining, or has drained.
    pub fn is_draining(&self) -> bool {
        self.shared.service.registry.is_draining()
    }

    /// Whether the server has ended.
    pub fn is_drained(&self) -> bool {
        self.shared.drained.load(Ordering::SeqCst)
    }

    /// The address that it listens on.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.service.registry.count()
    }

    /// Connections that were accepted and then closed unserved, as no stack could be had for a coroutine: the
    /// runtime's `max_coroutines` was reached, or a limit of the kernel's. Why is in the log, as an error at most
    /// every 10 s.
    ///
    /// More connections than coroutines are better bounded by [`Builder::max_connections`]: then further ones wait.
    pub fn refused(&self) -> u64 {
        self.shared.refusals.count()
    }
}

impl Server {
    /// Settings for a server with these routes.
    pub fn builder(router: Router) -> Builder {
        Builder {
            router,
            limits: Limits {
                head_bytes: 32 * 1024,
                line_bytes: 8 * 1024,
                fields: 100,
            },
            timeouts: Timeouts {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(60),
            },
            body_limits: BodyLimits {
                length: 2 * 1024 * 1024,
                stall: Duration::from_secs(20),
            },
            max_connections: 1_000_000,
            drain_grace: Duration::from_secs(30),
            handle_signals: false,
        }
    }

    /// The address that it listens on, with the port that was chosen for port 0.
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr
    }

    /// A handle to drain it.
    pub fn handle(&self) -> ServerHandle {
        ServerHandle {
            shared: self.shared.clone(),
        }
    }

    /// Serves until it has been drained.
    ///
    /// Each worker accepts connections and keeps those that it accepts. Works from a coroutine and from
    /// a plain thread, which then blocks. Cancelling the caller drains the server.
    ///
    /// A worker that has no stack for what accepts is told to the log, and the others accept for it.
    ///
    /// # Errors
    /// If signals cannot be handled, the listener fails for good, or no worker has a stack for what accepts.
    pub fn serve(self) -> io::Result<DrainReport> {
        let signals = if self.handle_signals {
            Some(Signals::watch(self.handle())?)
        } else {
            None
        };
        let refusals = self.shared.refusals.clone();
        let watcher = maniple::spawn(move || refusals.watch());
        let listener = Arc::new(self.listener);
        let unbegun = Unbegun::default();
        let mut acceptors = {
            let shared = self.shared.clone();
            let max_connections = self.max_connections;
            let listener = listener.clone();
            let unbegun = unbegun.clone();
            maniple::task::spawn_on_workers(move |_worker| {
                unbegun.begin();
                accept_all(&shared, &listener, max_connections)
            })
        };
        maniple::cancel::shield(|| unbegun.begin());
        // Those without a stack first, to tell of them before the others end.
        acceptors.sort_by_key(|acceptor| !acceptor.is_finished());
        let mut others = acceptors.len();
        let mut result = Ok(());
        for acceptor in acceptors {
            match acceptor.join() {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    self.shared.begin_drain();
                    result = Err(error);
                }
                // The caller is cancelled, or past its deadline, or the runtime ends.
                Err(error) if error.is_cancelled() || error.is_elapsed() => {
                    self.shared.begin_drain();
                }
                Err(error) if error.is_panic() => {
                    self.shared.begin_drain();
                    result = Err(error.into());
                }
                // It got no stack: the others accept for it, if there are any.
                Err(error) => {
                    others -= 1;
                    let address = self.shared.local_addr;
                    panics::catch(|| {
                        log::warn!("{others} of the workers accept on {address}: {error}");
                    });
                    if others == 0 {
                        result = Err(error.into());
                    }
                }
            }
        }
        let shared = self.shared;
        shared.begin_drain();
        let report = maniple::cancel::shield(|| {
            accept_last(&shared, &listener, self.drain_grace);
            drop(listener);
            let report = shared.service.registry.finish(self.drain_grace);
            watcher.cancel();
            // Cancelled, or refused a stack itself.
            drop(watcher.join());
            shared.refusals.finish();
            report
        });
        shared.drained.store(true, Ordering::SeqCst);
        drop(signals);
        result.map(|()| report)
    }
}

impl Shared {
    fn begin_drain(&self) {
        self.service.registry.begin_drain();
        self.stop.cancel();
    }
}

/// An acceptor's token while it has not begun. None accepts before all have begun, or the connections of one could
/// take the stack of the next. Who gets no stack drops its token, too.
#[derive(Default)]
struct Unbegun(Cell<Option<WaitGroup>>);

impl Clone for Unbegun {
    fn clone(&self) -> Self {
        let token = self.0.take().unwrap_or_default();
        self.0.set(Some(token.clone()));
        Self(Cell::new(Some(token)))
    }
}

impl Unbegun {
    /// Begins, and waits for the others, though not for a worker that is busy for long.
    fn begin(&self) {
        if let Some(token) = self.0.take() {
            let _ = maniple::timeout(LONGEST_BEGINNING, || token.wait());
        }
    }
}

/// How long a worker may take to begin to accept before the others do.
const LONGEST_BEGINNING: Duration = Duration::from_millis(100);

/// Accepts until the server drains, on a descriptor of its own, which may be as hard to get as those of connections.
fn accept_all(
    shared: &Arc<Shared>,
    listener: &TcpListener,
    max_connections: usize,
) -> io::Result<()> {
    let registry = &shared.service.registry;
    let mut pause = SHORTEST_PAUSE;
    let mut own = None;
    while !registry.is_draining() {
        let accepted = shared.stop.run(|| {
            let listener = match &mut own {
                Some(own) => own,
                none => none.insert(listener.try_clone()?),
            };
            let place = registry.reserve(max_connections);
            Ok((listener.accept()?, place))
        });
        match accepted {
            Ok(Ok(((stream, peer), place))) => {
                pause = SHORTEST_PAUSE;
                begin(shared, stream, peer);
                drop(place);
            }
            Err(_) => break,
            Ok(Err(error)) if is_cancelled_error(&error) => break,
            Ok(Err(error)) if is_final(&error) => {
                let text = format!("accept on {}: {error}", shared.local_addr);
                return Err(io::Error::new(error.kind(), text));
            }
            Ok(Err(error)) => {
                // Out of descriptors or memory, most likely: those in use must be given back first. Each
                // pauses by itself: they would go on waking one another.
                let address = shared.local_addr;
                log_within!(shared.failed_accepts, warn, "accept on {address}: {error}");
                if shared.stop.run(|| maniple::sleep(pause)).is_err() {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(())
}

/// How long to leave an accept alone that failed; doubled while it goes on failing, which ends unnoticed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Accepts what has arrived by now, handshakes under way included: as the listener is closed, the kernel resets
/// what was not accepted.
fn accept_last(shared: &Arc<Shared>, listener: &TcpListener, grace: Duration) {
    if let Err(error) = listener.ignore_new() {
        // Others may go on connecting: as many as can have been waiting.
        panics::catch(|| log::debug!("drain of {}: {error}", shared.local_addr));
        for _ in 0..MOST_WAITING {
            let Ok((stream, peer)) = listener.try_accept() else {
                break;
            };
            begin(shared, stream, peer);
        }
        return;
    }
    let until = coarse_now() + LAST_HANDSHAKES.min(grace);
    let _ = maniple::deadline(until, || {
        loop {
            match listener.accept() {
                Ok((stream, peer)) => begin(shared, stream, peer),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Err(error) if is_final(&error) => return,
                Err(_) => maniple::sleep(SHORTEST_PAUSE),
            }
        }
    });
}

/// How long handshakes that are under way may take to come to an end when no other can begin.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps for a listener, at the most that is usual.
const MOST_WAITING: usize = 4096;

/// Whether the listener itself is unusable, so that no later accept can succeed (accept(2)).
fn is_final(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    const ENOTSOCK: i32 = 88;
    matches!(error.raw_os_error(), Some(EBADF | EINVAL | ENOTSOCK))
}

fn begin(shared: &Shared, stream: TcpStream, peer: SocketAddr) {
    let service = shared.service.clone();
    let line = Arc::new(Line::new(stream));
    let id = service.registry.enter(line.clone());
    let open = Open {
        service,
        refusals: shared.refusals.clone(),
        id,
        line: line.clone(),
        unbegun: true,
    };
    let unbegun = line.entrust(|| spawn_least_loaded(move || serve(open, peer, None)));
    if let Some(coroutine) = unbegun {
        shared.refusals.note(coroutine);
    }
}

/// Serves a connection, from coroutine to coroutine where it has to wait for long.
fn serve(mut open: Open, peer: SocketAddr, waited: Option<Standby>) {
    open.unbegun = false;
    let line = open.line.clone();
    if let Some(wait) = conn::serve(&open.service, line.clone(), peer, waited) {
        line.stream.unwatch();
        let refusals = open.refusals.clone();
        let unbegun = line.entrust(|| {
            open.unbegun = true;
            spawn_when_readable(line.clone(), wait.until, move |_| {
                serve(open, peer, Some(wait));
            })
        });
        if let Some(coroutine) = unbegun {
            refusals.note(coroutine);
        }
    }
}

/// A connection's place in the registry, left whichever way the connection ends.
struct Open {
    service: Arc<Service>,
    refusals: Arc<Refusals>,
    id: u64,
    line: Arc<Line>,
    /// Whether the coroutine that shall serve it next has yet to begin.
    unbegun: bool,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.unbegun
            && let Some(coroutine) = self.line.disown()
        {
            self.refusals.note(coroutine);
        }
        // Last: the server may end with its last connection.
        self.service.registry.leave(self.id);
    }
}

/// A coroutine that drains the server at SIGTERM or SIGINT.
#[derive(Debug)]
struct Signals {
    registered: Vec<signal_hook::SigId>,
    watcher: Option<maniple::JoinHandle<()>>,
}

impl Signals {
    fn watch(handle: ServerHandle) -> io::Result<Self> {
        use signal_hook::{
            consts::{SIGINT, SIGTERM},
            flag,
            low_level::pipe,
        };
        let (reader, writer) = std::os::unix::net::UnixStream::pair()?;
        reader.set_nonblocking(true)?;
        writer.set_nonblocking(true)?;
        let second = Arc::new(AtomicBool::new(false));
        let mut registered = Vec::new();
        for signal in [SIGTERM, SIGINT] {
            // In this order: the shutdown sees the flag that an earlier signal has set.
            registered.push(flag::register_conditional_shutdown(
                signal,
                128 + signal,
                second.clone(),
            )?);
            registered.push(flag::register(signal, second.clone())?);
            registered.push(pipe::register(signal, writer.try_clone()?)?);
        }
        let watcher = maniple::spawn(move || {
            if maniple::net::wait_readable(reader.as_fd()).is_ok() {
                panics::catch(|| log::info!("draining {}", handle.local_addr()));
                handle.drain();
            }
        });
        Ok(Self {
            registered,
            watcher: Some(watcher),
        })
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            signal_hook::low_level::unregister(id);
        }
        if let Some(watcher) = self.watcher.take() {
            watcher.cancel();
        }
    }
}
