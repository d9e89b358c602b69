//! How TLS is spoken with a broker, with the feature `tls`.

use std::io;

use maniple::net::TcpStream;
use maniple_tls::{ClientConfig, Stream};

/// How TLS is spoken.
#[derive(Clone)]
pub(crate) struct Tls(ClientConfig);

/// A connection by TLS.
pub(crate) type Secured = Stream<TcpStream>;

impl Tls {
    pub(crate) fn of(config: ClientConfig) -> Self {
        Self(config)
    }

    /// As with a server of which nothing is known: by what the machine believes.
    pub(crate) fn usual() -> io::Result<Self> {
        let usual = ClientConfig::builder().system_roots().build();
        usual
            .map(Self)
            .map_err(|error| io::Error::new(io::ErrorKind::InvalidInput, error))
    }

    /// Shakes hands.
    pub(crate) fn secure(&self, stream: TcpStream, host: &str) -> io::Result<Secured> {
        let stream = self.0.stream(stream, host)?;
        stream.handshake()?;
        Ok(stream)
    }
}
