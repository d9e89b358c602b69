//! The server: what it is made of, how it is drained, and its end.

mod accept;
mod answer;
mod arrival;
pub(crate) mod buffers;
mod builder;
mod conn;
mod date;
mod dialogue;
mod drain;
mod ending;
pub(crate) mod exchange;
mod faults;
mod health;
#[cfg_attr(not(feature = "http2"), path = "no_http2.rs")]
pub(crate) mod http2;
mod left;
mod lookout;
pub(crate) mod out;
pub(crate) mod overrun;
mod partial;
mod refusal;
mod service;
mod shared;
mod standby;
pub(crate) mod state;
mod stream;
pub(crate) mod upgrade;
mod usual;

use std::{
    io,
    net::SocketAddr,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{
    JoinHandle,
    cancel::CancelToken,
    drain::DrainReport,
    log_limit::LogLimit,
    net::{TcpListener, ToSocketAddrs},
    panics,
    signal::{SIGINT, SIGTERM, Signals, shutdown_signals},
    task,
};

use crate::{
    body::BodyLimits,
    middleware::Metrics,
    router::Router,
    transport::{Address, IntoListener, Listener},
};
use accept::{OWN_SIZE, Unbegun, accept_all, accept_last};
use builder::NEVER;
use drain::Registry;
use refusal::Refusals;
use service::{Life, Service, Timeouts};
use shared::{Departure, Shared};

pub use builder::Builder;
pub use health::Health;
#[cfg(feature = "http2")]
pub use http2::Http2;
pub use lookout::Disconnects;
pub use upgrade::{UpgradedReader, UpgradedWriter};

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
    listeners: Vec<Listener>,
    shared: Arc<Shared>,
    max_connections: usize,
    drain_grace: Duration,
    handle_signals: bool,
}

/// Drains a server from anywhere; clones are for the same server.
#[derive(Clone, Debug)]
pub struct ServerHandle {
    shared: Arc<Shared>,
}

impl ServerHandle {
    /// Begins to drain: no connection is accepted beyond those that have arrived, idle ones are closed,
    /// requests in flight are answered. Returns at once; [`Server::serve`] returns when it is done.
    ///
    /// All that is put off by [`Builder::drain_delay`], but for the word of [`Health::ready`].
    pub fn drain(&self) {
        self.shared.leave();
    }

    /// Drains while others go on to accept from the same listeners, as the next process of a rolling restart does.
    ///
    /// It is a [`drain`](Self::drain) that begins at once and leaves [`Health`] as it is, as the service goes on. What
    /// waits to be accepted is left to the others. And idle connections have at least a second to send one request more,
    /// whose answer says `Connection: close`; so a client that is asking all the time loses none.
    pub fn hand_over(&self) {
        self.shared.hand_over();
    }

    /// Whether the server is draining, or has drained. Not yet while [`Builder::drain_delay`] lasts.
    pub fn is_draining(&self) -> bool {
        self.shared.service.registry.is_draining()
    }

    /// Whether the server has ended.
    pub fn is_drained(&self) -> bool {
        self.shared.drained.load(Ordering::SeqCst)
    }

    /// The address that it listens on, with the port that was chosen for port 0.
    ///
    /// # Panics
    /// If it does not listen on TCP.
    #[track_caller]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr()
    }

    /// Where it listens; of several listeners the first.
    pub fn address(&self) -> &Address {
        self.shared.address()
    }

    /// Where each of its listeners listens, in the order in which they were given.
    pub fn addresses(&self) -> &[Address] {
        &self.shared.addresses
    }

    /// Connections that are open now.
    pub fn connections(&self) -> usize {
        self.shared.service.registry.count()
    }

    /// Has metrics tell how many of its connections do what, and what its handshakes came to: see [`Metrics`]. They go on
    /// as long as the server is there.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Router, Server, middleware::Metrics, transport::memory};
    ///
    /// maniple::run(|| {
    ///     let metrics = Metrics::new();
    ///     let router = Router::new().get("/metrics", metrics.handler());
    ///     let (listener, _) = memory::listener();
    ///     let server = Server::builder(router).listener(listener).unwrap();
    ///     server.handle().report_to(&metrics);
    ///     let told = metrics.handler()(&mut Request::for_test("GET", "/metrics")).into_text().unwrap();
    ///     assert!(told.contains("http_server_connections{server=\"memory\",state=\"busy\"} 0\n"));
    /// });
    /// ```
    pub fn report_to(&self, metrics: &Metrics) {
        let shared = Arc::downgrade(&self.shared);
        let ask = move || Some(shared.upgrade()?.numbers());
        metrics.ask_server(self.address().to_string(), ask);
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

impl Builder {
    /// Listens on the address, and on what was given to [`Builder::listen`] before.
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`), or the address cannot be resolved or bound; the
    /// message names it.
    pub fn bind<A: ToSocketAddrs>(self, address: A) -> io::Result<Server> {
        self.check()?;
        // Alone on the address, so that one in use is noticed: sharing would succeed.
        let listener = TcpListener::bind(address)?;
        self.listener(listener)
    }

    /// Serves what connects to a listener that exists already: one that was bound before, by this program or by what
    /// started it, a Unix-domain socket, or one [in memory](crate::transport::memory). See [`Listener`].
    ///
    /// A Unix-domain socket's file stays where it is when the server has ended, and one that is there already fails the
    /// bind: remove it before.
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`), or it is no listener.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple::net::UnixListener;
    /// use maniple_server::{Request, Router, Server};
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let router = Router::new().get("/", |_: &mut Request| "hello");
    ///     // curl --unix-socket /run/hello.sock http://hello/
    ///     let server = Server::builder(router).listener(UnixListener::bind("/run/hello.sock")?)?;
    ///     server.serve().map(drop)
    /// })
    /// # }
    /// ```
    pub fn listener<L>(self, listener: L) -> io::Result<Server>
    where
        L: IntoListener,
    {
        self.listen(listener)?.build()
    }

    /// Adds a listener to those that the server will accept from. All serve the same routes within the same limits.
    ///
    /// # Errors
    /// If it is no listener.
    ///
    /// # Examples
    /// ```
    /// use maniple::net::TcpListener;
    /// use maniple_server::{Router, Server};
    /// # fn main() -> std::io::Result<()> {
    /// let server = Server::builder(Router::new())
    ///     .listen(TcpListener::bind("127.0.0.1:0")?)?
    ///     .listen(TcpListener::bind("[::1]:0").or_else(|_| TcpListener::bind("127.0.0.2:0"))?)?
    ///     .build()?;
    /// assert_eq!(server.addresses().len(), 2);
    /// # Ok(())
    /// # }
    /// ```
    pub fn listen<L>(mut self, listener: L) -> io::Result<Self>
    where
        L: IntoListener,
    {
        self.listeners.push(listener.into_listener()?);
        Ok(self)
    }

    /// A server that accepts from the listeners that were [given](Builder::listen).
    ///
    /// # Errors
    /// If a setting is out of range, or there is no listener (`InvalidInput`).
    pub fn build(self) -> io::Result<Server> {
        self.check()?;
        if let Some(complaint) = self.listeners.iter().find_map(Listener::complaint) {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, complaint));
        }
        let addresses = self.listeners.iter().map(Listener::address);
        let addresses = addresses.collect::<io::Result<Vec<_>>>()?;
        let Some(name) = addresses.first().map(Address::to_string) else {
            let text = "a server needs a listener";
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        };
        let never = |timeout: Duration| timeout.min(NEVER);
        let timeouts = Timeouts {
            header: never(self.timeouts.header),
            idle: never(self.timeouts.idle),
        };
        let body_limits = BodyLimits {
            stall: never(self.body_limits.stall),
            ..self.body_limits
        };
        let handshakes = self.listeners.iter().filter_map(Listener::tls_counts);
        let handshakes = handshakes.collect();
        let stop = CancelToken::new();
        Ok(Server {
            listeners: self.listeners,
            shared: Arc::new(Shared {
                stop: stop.clone(),
                drained: AtomicBool::new(false),
                refusals: Arc::new(Refusals::new(name)),
                addresses,
                departure: Departure::new(
                    never(self.drain_delay),
                    never(self.drain_idle),
                    self.health,
                ),
                failed_accepts: LogLimit::new(1),
                turned_away: Arc::new(()),
                handshakes,
                service: Arc::new(Service {
                    router: self.router,
                    limits: self.limits,
                    timeouts,
                    body_limits,
                    slowest_answer: self.slowest_answer,
                    life: Life {
                        requests: self.max_requests,
                        age: never(self.max_age),
                    },
                    disconnects: match self.disconnects {
                        Disconnects::Asked if !body_limits.interim => Disconnects::Reset,
                        disconnects => disconnects,
                    },
                    registry: Arc::new(Registry::new(stop, self.max_connections_per_peer)),
                    http2: self.http2,
                }),
            }),
            max_connections: self.max_connections,
            drain_grace: never(self.drain_grace),
            handle_signals: self.handle_signals,
        })
    }
}

impl Server {
    /// Settings for a server with these routes.
    pub fn builder(router: Router) -> Builder {
        Builder::new(router)
    }

    /// The address that it listens on, with the port that was chosen for port 0.
    ///
    /// # Panics
    /// If it does not listen on TCP, which it does after [`Builder::bind`]: see [`Server::address`].
    #[track_caller]
    pub fn local_addr(&self) -> SocketAddr {
        self.shared.local_addr()
    }

    /// Where it listens; of several listeners the first.
    pub fn address(&self) -> &Address {
        self.shared.address()
    }

    /// Where each of its listeners listens, in the order in which they were given.
    pub fn addresses(&self) -> &[Address] {
        &self.shared.addresses
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
        let signals = match self.handle_signals {
            true => Some(DrainAtSignal::watch(self.handle())?),
            false => None,
        };
        let refusals = self.shared.refusals.clone();
        let watcher = spawn_named(&self.shared, "refusals", move || refusals.watch())?;
        let departure = match self.shared.departure.delay.is_zero() {
            true => None,
            false => {
                let shared = self.shared.clone();
                Some(spawn_named(&self.shared, "drain delay", move || {
                    shared.departure.wait();
                    shared.begin_drain();
                })?)
            }
        };
        let listeners = Arc::new(self.listeners);
        let result = accept_until_drain(&self.shared, &listeners, self.max_connections);
        let shared = self.shared;
        shared.begin_drain();
        let report = maniple::cancel::shield(|| {
            // Still there if something else than the delay began the drain.
            if let Some(departure) = departure {
                departure.cancel();
            }
            for listener in &*listeners {
                accept_last(&shared, listener, self.drain_grace);
            }
            drop(listeners);
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

/// Has each worker accept from each listener until the server drains.
fn accept_until_drain(
    shared: &Arc<Shared>,
    listeners: &Arc<Vec<Listener>>,
    max_connections: usize,
) -> io::Result<()> {
    let unbegun = Unbegun::default();
    let mut acceptors = Vec::new();
    for index in 0..listeners.len() {
        let (shared, listeners) = (shared.clone(), listeners.clone());
        let unbegun = unbegun.clone();
        let name = format!("acceptor {}", shared.addresses[index]);
        let named = task::Builder::new().name(name);
        let of_this = named.spawn_on_workers(move |_worker| {
            unbegun.begin();
            let address = &shared.addresses[index];
            accept_all(&shared, &listeners[index], address, max_connections)
        });
        let of_this = of_this.expect(OWN_SIZE);
        acceptors.extend(of_this.into_iter().map(|acceptor| (index, acceptor)));
    }
    maniple::cancel::shield(|| unbegun.begin());
    // Those without a stack first, to tell of them before the others end.
    acceptors.sort_by_key(|(_, acceptor)| !acceptor.is_finished());
    let mut others = vec![acceptors.len() / listeners.len(); listeners.len()];
    let mut result = Ok(());
    for (index, acceptor) in acceptors {
        match acceptor.join() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => {
                shared.begin_drain();
                result = Err(error);
            }
            // The caller is cancelled, or past its deadline, or the runtime ends.
            Err(error) if error.is_cancelled() || error.is_elapsed() => {
                shared.begin_drain();
            }
            Err(error) if error.is_panic() => {
                shared.begin_drain();
                result = Err(error.into());
            }
            // It got no stack: the others accept for it, if there are any.
            Err(error) => {
                others[index] -= 1;
                let (others, address) = (others[index], &shared.addresses[index]);
                panics::catch(|| {
                    log::warn!("{others} of the workers accept on {address}: {error}");
                });
                if others == 0 {
                    shared.begin_drain();
                    result = Err(error.into());
                }
            }
        }
    }
    result
}

/// A coroutine of the server's own, whose name says so.
fn spawn_named(
    shared: &Shared,
    what: &str,
    body: impl FnOnce() + Send + 'static,
) -> io::Result<JoinHandle<()>> {
    let name = format!("http {} {what}", shared.address());
    task::Builder::new().name(name).spawn(body)
}

/// A coroutine that drains the server at SIGTERM or SIGINT. A second one ends the process for as long as this is there.
#[derive(Debug)]
struct DrainAtSignal {
    watcher: JoinHandle<()>,
    _received: Arc<Signals>,
}

impl DrainAtSignal {
    fn watch(handle: ServerHandle) -> io::Result<Self> {
        let received = Arc::new(shutdown_signals(&[SIGTERM, SIGINT])?);
        let signals = received.clone();
        let shared = handle.shared.clone();
        let watcher = spawn_named(&shared, "signals", move || {
            if let Ok(signal) = signals.recv() {
                panics::catch(|| log::info!("{signal}: draining {}", handle.address()));
                handle.drain();
            }
        })?;
        Ok(Self {
            watcher,
            _received: received,
        })
    }
}

impl Drop for DrainAtSignal {
    fn drop(&mut self) {
        self.watcher.cancel();
    }
}
