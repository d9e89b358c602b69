//! A connection to one of a few servers, for many calls, which is made anew when it has gone.

use std::{
    fmt, io,
    sync::Arc,
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle,
    future::Poller,
    sync::{Mutex, Notify},
    task,
};

use crate::{
    connection::Connection,
    settings::{Settings, settings},
    stats::{self, ConnectionStats},
    status::{Code, Status},
    transport::Stream,
    waiters::Waiters,
};

/// Makes a [`Channel`].
#[derive(Debug)]
#[must_use = "a builder does nothing until it opens a channel"]
pub struct Builder {
    addresses: Vec<String>,
    settings: Settings,
    repeats: u32,
    longest_pause: Duration,
    #[cfg(feature = "tls")]
    tls: Option<maniple_tls::ClientConfig>,
}

impl Builder {
    settings!();

    /// One more server, as [`Channel::to`] has it, which is called if those before are not there. They are taken in turn:
    /// a server that comes back is called again when the one in its place goes.
    pub fn or(mut self, address: impl Into<String>) -> Self {
        self.addresses.push(address.into());
        self
    }

    /// How long the beginning of a connection may take; and how long a call without a deadline waits while there is no
    /// server. Default: 10 s.
    pub fn connect_timeout(mut self, time: Duration) -> Self {
        self.settings.patience = time;
        self
    }

    /// How often a call that may be repeated is made again after its connection was lost with it. Default: 3, so that
    /// one that brings servers down brings down four at most.
    pub fn max_repeats(mut self, repeats: u32) -> Self {
        self.repeats = repeats;
        self
    }

    /// The longest pause between attempts to connect, which begin with 10 ms and double. Default: 1 s.
    pub fn longest_pause(mut self, time: Duration) -> Self {
        self.longest_pause = time;
        self
    }

    /// Has its connections go over TLS, with these settings. The certificate of each server has to be for the host in its
    /// address. With the feature `tls`.
    #[cfg(feature = "tls")]
    pub fn tls(mut self, config: maniple_tls::ClientConfig) -> Self {
        self.tls = Some(config);
        self
    }

    /// The channel, which begins to connect.
    ///
    /// # Errors
    /// If no coroutine can be had for its connections.
    pub fn open(self) -> io::Result<Channel> {
        let shared = Arc::new(Shared {
            addresses: self.addresses,
            settings: self.settings,
            repeats: self.repeats,
            longest_pause: self.longest_pause,
            #[cfg(feature = "tls")]
            tls: self.tls,
            state: Mutex::new(State::default()),
            news: Arc::new(Notify::new()),
        });
        let maintained = shared.clone();
        let named = task::Builder::new().name("RPC channel");
        let maintaining = named.spawn(move || maintained.maintain())?;
        Ok(Channel(Arc::new(Owner {
            shared,
            maintaining,
        })))
    }
}

/// Calls to one server at a time of those that it knows, over one connection. Clones share it, in coroutines and threads.
///
/// It connects by itself, in the runtime in which it was opened, and goes on trying: servers may start later, end and
/// come back. Calls wait meanwhile.
#[derive(Clone)]
pub struct Channel(Arc<Owner>);

/// The connection ends with the last who could call over it.
struct Owner {
    shared: Arc<Shared>,
    maintaining: JoinHandle<()>,
}

impl Drop for Owner {
    fn drop(&mut self) {
        let mut state = self.shared.state.lock();
        state.is_closed = true;
        let current = state.current.take();
        let waiting = state.waiting.take();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        if let Some(current) = current {
            current.retire();
        }
        self.maintaining.cancel();
    }
}

struct Shared {
    addresses: Vec<String>,
    settings: Settings,
    repeats: u32,
    longest_pause: Duration,
    #[cfg(feature = "tls")]
    tls: Option<maniple_tls::ClientConfig>,
    state: Mutex<State>,
    /// The connection takes no more calls.
    news: Arc<Notify>,
}

#[derive(Default)]
struct State {
    current: Option<Arc<Connection>>,
    /// Who waits for a connection.
    waiting: Waiters,
    /// Why there is none.
    why: String,
    is_closed: bool,
}

impl Channel {
    /// To `host:port`, or to `unix:` and the path of a socket, or `unix:@` and a name that is no file; with the defaults. In
    /// a coroutine its connection is of that runtime, else of the default one.
    ///
    /// # Errors
    /// If no coroutine can be had for its connections. Whether a server is there the calls tell.
    pub fn to(address: impl Into<String>) -> io::Result<Self> {
        Self::builder(address).open()
    }

    /// To such a server, with settings.
    pub fn builder(address: impl Into<String>) -> Builder {
        Builder {
            addresses: vec![address.into()],
            settings: Settings::default(),
            repeats: 3,
            longest_pause: Duration::from_secs(1),
            #[cfg(feature = "tls")]
            tls: None,
        }
    }

    /// The connection as it is now, if there is one.
    pub fn connection(&self) -> Option<ConnectionStats> {
        let current = self.0.shared.state.lock().current.clone()?;
        Some(ConnectionStats::of(&current.link, current.calls()))
    }

    /// Numbers of the connection, in the format that Prometheus reads.
    pub fn metrics(&self) -> String {
        let connection = self.connection();
        stats::exposition("client", connection.as_slice())
    }

    pub(crate) fn repeats(&self) -> u32 {
        self.0.shared.repeats
    }

    /// A connection that takes calls; waits until there is one.
    pub(crate) fn usable(&self) -> Result<Arc<Connection>, Status> {
        let shared = &self.0.shared;
        if let Some(current) = &shared.state.lock().current
            && !current.is_leaving()
        {
            return Ok(current.clone());
        }
        shared.wait()
    }
}

impl fmt::Debug for Channel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Channel")
            .field("addresses", &self.0.shared.addresses)
            .finish_non_exhaustive()
    }
}

impl Shared {
    #[cold]
    fn wait(&self) -> Result<Arc<Connection>, Status> {
        let until = match maniple::time::remaining() {
            Some(_) => None,
            None => maniple::time::now().checked_add(self.settings.patience),
        };
        let mut own = None;
        let waited = Poller::new().wait(until, |context| {
            let mut state = self.state.lock();
            if state.is_closed {
                return Poll::Ready(None);
            }
            match &state.current {
                Some(current) if !current.is_leaving() => Poll::Ready(Some(current.clone())),
                _ => {
                    state.waiting.join(&mut own, context.waker());
                    Poll::Pending
                }
            }
        });
        if waited.is_err() {
            self.state.lock().waiting.leave(own.as_ref());
        }
        match waited {
            Ok(Some(current)) => Ok(current),
            Ok(None) => Err(Status::new(Code::Cancelled, "the channel is closed")),
            Err(error) => Err(match (until, error.kind()) {
                (Some(_), io::ErrorKind::TimedOut) => {
                    let why = self.state.lock().why.clone();
                    Status::new(Code::Unavailable, why)
                }
                _ => Status::of_io(&error),
            }),
        }
    }

    /// Has a connection, for as long as somebody may call.
    fn maintain(&self) {
        let (mut turn, mut failures) = (0_usize, 0_u32);
        loop {
            let address = &self.addresses[turn % self.addresses.len()];
            let began = maniple::time::now();
            match self.connect(address) {
                Ok(connection) => {
                    self.stay_with(&connection);
                    // One that ends at once is none.
                    let was_of_use = connection.answered() > 0 || is_past(began, SOME_TIME);
                    failures = if was_of_use { 0 } else { failures + 1 };
                    self.state.lock().why = format!("the connection to {address} has gone");
                }
                Err(error) => {
                    let why = format!("connect to {address}: {error}");
                    maniple::panics::catch(|| log::debug!("RPC: {why}"));
                    self.state.lock().why = why;
                    failures += 1;
                }
            }
            turn += 1;
            // Once each of them has been asked.
            let rounds = failures / self.addresses.len() as u32;
            if rounds > 0 && failures.is_multiple_of(self.addresses.len() as u32) {
                maniple::sleep(pause(rounds).min(self.longest_pause));
            }
        }
    }

    fn connect(&self, address: &str) -> io::Result<Arc<Connection>> {
        let late = |_| io::Error::from(io::ErrorKind::TimedOut);
        let stream = maniple::timeout(self.settings.patience, || Stream::connect(address));
        let stream = self.secured(stream.map_err(late)??, address)?;
        let news = self.news.clone();
        let left = Box::new(move || news.notify_one());
        let (connection, inlet) = Connection::open(stream, self.settings.clone(), left)?;
        let connection = Arc::new(connection);
        let (reading, keeping) = (connection.clone(), connection.clone());
        let reader = task::Builder::new().name("RPC connection");
        reader.spawn(move || reading.run(inlet))?;
        let keeper = task::Builder::new().name("RPC keeper");
        let keeper = keeper.spawn(move || keeping.link.keep(|| ()));
        if let Err(error) = keeper {
            connection.link.close();
            return Err(error);
        }
        Ok(connection)
    }

    /// Over TLS, if that was set; the handshake is part of the beginning of the connection.
    fn secured(&self, stream: Stream, address: &str) -> io::Result<Stream> {
        #[cfg(feature = "tls")]
        if let Some(config) = &self.tls {
            let Stream::Tcp(stream) = stream else {
                let text = "TLS over a Unix-domain socket";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            let host = address.rsplit_once(':').map_or(address, |(host, _)| host);
            let host = host.trim_start_matches('[').trim_end_matches(']');
            return Ok(Stream::Tls(Box::new(config.stream(stream, host)?)));
        }
        let _ = address;
        Ok(stream)
    }

    fn stay_with(&self, connection: &Arc<Connection>) {
        let mut state = self.state.lock();
        if state.is_closed {
            drop(state);
            return connection.retire();
        }
        state.current = Some(connection.clone());
        let waiting = state.waiting.take();
        drop(state);
        waiting.into_iter().for_each(Waker::wake);
        while !connection.is_leaving() {
            self.news.notified();
        }
        self.state.lock().current = None;
    }
}

/// A server that lives so long was there.
const SOME_TIME: Duration = Duration::from_secs(1);

fn is_past(began: Instant, time: Duration) -> bool {
    maniple::time::now().saturating_duration_since(began) > time
}

/// How long to wait after so many rounds in vain: half of it by chance, so that clients of one server do not come together.
fn pause(rounds: u32) -> Duration {
    let most = Duration::from_millis(10).saturating_mul(1 << (rounds - 1).min(16));
    let own = || std::hash::BuildHasher::hash_one(&std::hash::RandomState::new(), rounds);
    let chance = maniple::sim::random().unwrap_or_else(own);
    most.mul_f64(0.5 + (chance % 1000) as f64 / 2000.0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_give_up_while_nobody_is_there_leave_nothing_behind() {
        maniple::run(|| {
            let nobody = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = nobody.local_addr().unwrap().to_string();
            drop(nobody);
            let channel = Channel::builder(address).open().unwrap();
            for _ in 0..100 {
                let tried = maniple::timeout(Duration::from_millis(1), || channel.usable().err());
                assert!(!matches!(tried, Ok(None)));
            }
            assert_eq!(channel.0.shared.state.lock().waiting.take().len(), 0);
        });
    }
}
