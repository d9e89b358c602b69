//! How a client's connections are made.

use std::{
    io,
    net::SocketAddr,
    os::unix::net::SocketAddr as UnixAddr,
    path::{Path, PathBuf},
    time::Duration,
};

use maniple::net::{TcpStream, UnixStream};

use super::{Address, Transport, memory};

/// What a client connects to, whatever host its URLs name.
///
/// Made from the path of a Unix-domain socket, from the address of one, which may be an abstract name, or from the
/// [connector](memory::Connector) of a listener in memory. Without one, a client connects by TCP to the host of the URL.
///
/// # Examples
/// ```
/// use maniple_server::{Client, Request, Router, Server, transport::memory};
/// # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
/// maniple::run(|| {
///     let router = Router::new().get("/", |_: &mut Request| "no port was needed");
///     let (listener, connector) = memory::listener();
///     let server = Server::builder(router).listener(listener)?;
///     let handle = server.handle();
///     let serving = maniple::spawn(move || server.serve());
///
///     let client = Client::builder().connector(connector)?.build();
///     assert_eq!(client.get("http://test/")?.text()?, "no port was needed");
///
///     handle.drain();
///     serving.join()??;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Connector {
    to: To,
}

#[derive(Clone, Debug)]
enum To {
    Unix(UnixAddr),
    Memory(memory::Connector),
}

impl Connector {
    /// Connects, if that takes no longer than `timeout`.
    pub(crate) fn connect(&self, timeout: Duration) -> io::Result<Transport> {
        let connect = || match &self.to {
            To::Unix(address) => UnixStream::connect_addr(address).map(Transport::Unix),
            To::Memory(listener) => listener.connect().map(Transport::Memory),
        };
        match maniple::timeout(timeout, connect) {
            Ok(connected) => connected,
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }

    /// Where that is.
    pub(crate) fn address(&self) -> Address {
        match &self.to {
            To::Unix(address) => Address::Unix(address.clone()),
            To::Memory(_) => Address::Memory,
        }
    }
}

impl Transport {
    /// Connects to whichever of the addresses answers first (RFC 8305).
    pub(crate) fn connect_tcp(addresses: &[SocketAddr]) -> io::Result<Self> {
        let stream = Transport::Tcp(TcpStream::connect(addresses)?);
        stream.set_nodelay();
        Ok(stream)
    }
}

macro_rules! connectors {
    ($($from:ty, $given:ident => $to:expr;)*) => {$(
        impl TryFrom<$from> for Connector {
            type Error = io::Error;

            fn try_from($given: $from) -> io::Result<Self> {
                Ok(Self { to: $to })
            }
        }
    )*};
}

connectors! {
    &Path, path => To::Unix(UnixAddr::from_pathname(path)?);
    PathBuf, path => To::Unix(UnixAddr::from_pathname(path)?);
    UnixAddr, address => To::Unix(address);
    memory::Connector, listener => To::Memory(listener);
}
