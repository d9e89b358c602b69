//! TLS over any other kind of connection, and listeners that speak it.

use std::{
    io::{self, IoSlice, Read, Write},
    sync::OnceLock,
    time::{Duration, Instant},
};

use maniple::{
    net::{Shutdown, TcpListener, ToSocketAddrs},
    time::coarse_now,
};
use maniple_tls::{ClientConfig, Error, Info, ServerConfig};

#[cfg(feature = "http2")]
use super::Dialed;
use super::{Kind, Listener, Peer, Transport};

/// A connection over TLS.
#[derive(Debug)]
pub(crate) struct Secure {
    stream: maniple_tls::Stream<Transport>,
}

impl Secure {
    fn new(transport: Transport, config: &ServerConfig) -> io::Result<Self> {
        let stream = config.stream(transport)?;
        Ok(Self { stream })
    }

    /// What TLS goes over.
    #[inline]
    pub(super) fn below(&self) -> &Transport {
        self.stream.transport()
    }

    #[inline]
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = (&mut &self.stream).read(buffer);
        read.map_err(|error| self.settle(error))
    }

    #[inline]
    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        (&mut &self.stream).write(bytes)
    }

    pub(super) fn write_vectored(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        (&mut &self.stream).write_vectored(slices)
    }

    pub(super) fn flush(&self) -> io::Result<()> {
        (&mut &self.stream).flush()
    }

    pub(super) fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let read = self.stream.try_read(buffer);
        read.map_err(|error| self.settle(error))
    }

    pub(super) fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.stream.try_write(bytes)
    }

    pub(super) fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let peeked = self.stream.peek(buffer);
        peeked.map_err(|error| self.settle(error))
    }

    #[inline]
    pub(super) fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        let waited = self.stream.wait_readable_until(until);
        waited.map_err(|error| self.settle(error))
    }

    /// For who has tried both, so that nothing is left that could be decrypted, and what is unsent has no room.
    pub(super) fn wait_either(&self) -> io::Result<()> {
        match self.stream.info() {
            Some(_) => self.below().wait_either(),
            None => self.stream.handshake().map(drop),
        }
    }

    pub(super) fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_read_timeout(timeout)?;
        // For waits that are the transport's own.
        self.below().set_read_timeout(timeout)
    }

    pub(super) fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.stream.set_write_timeout(timeout)
    }

    pub(super) fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        self.stream.shutdown(how)
    }

    #[inline]
    pub(super) fn is_behind(&self) -> bool {
        self.stream.is_behind()
    }

    pub(super) fn unsent(&self) -> usize {
        self.stream.unsent()
    }

    pub(super) fn holds_input(&self) -> bool {
        self.stream.holds_input()
    }

    pub(super) fn reset_on_close(&self) {
        self.stream.abandon();
        self.below().reset_on_close();
    }

    /// What the server makes of an error: a handshake that took too long is no wait that could be gone on with, and who
    /// speaks plain HTTP is answered in plain HTTP.
    #[cold]
    fn settle(&self, error: io::Error) -> io::Error {
        match Error::of(&error) {
            Some(Error::HandshakeTimeout(_)) => {
                io::Error::new(io::ErrorKind::ConnectionAborted, error)
            }
            Some(Error::PlainHttp) => {
                self.answer_plain();
                error
            }
            _ => error,
        }
    }

    /// The rest of the request is read away, or closing would reset the connection and might take the answer with it.
    fn answer_plain(&self) {
        let plain = self.below();
        if plain.try_write(SPEAKS_TLS).is_err() || plain.shutdown(Shutdown::Write).is_err() {
            return;
        }
        let until = coarse_now() + LINGER;
        for _ in 0..MOST_READ_AWAY / PIECE {
            if plain.wait_readable_until(until).is_err() {
                return;
            }
            match plain.try_read(&mut [0; PIECE]) {
                Ok(1..) => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                _ => return,
            }
        }
    }
}

const SPEAKS_TLS: &[u8] = b"HTTP/1.1 400 Bad Request\r\n\
    content-type: text/plain; charset=utf-8\r\n\
    content-length: 58\r\n\
    connection: close\r\n\r\n\
    this port speaks HTTPS, and the request came in plain HTTP";

const LINGER: Duration = Duration::from_secs(1);
const PIECE: usize = 2 * 1024;
const MOST_READ_AWAY: usize = 256 * 1024;

/// In place of a time that never comes.
const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

impl maniple_tls::Transport for Transport {
    #[inline]
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::read(self, buffer)
    }

    #[inline]
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        Transport::write(self, bytes)
    }

    fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        Transport::try_read(self, buffer)
    }

    fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        Transport::try_write(self, bytes)
    }

    #[inline]
    fn wait_readable(&self, until: Option<Instant>) -> io::Result<()> {
        self.wait_readable_until(until.unwrap_or_else(|| coarse_now() + NEVER))
    }

    fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        Transport::set_write_timeout(self, timeout)
    }

    fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        Transport::shutdown(self, how)
    }

    #[inline]
    fn is_emptied_by_short_reads(&self) -> bool {
        Transport::is_emptied_by_short_reads(self)
    }
}

impl Transport {
    /// What the handshake came to.
    pub(crate) fn tls(&self) -> Option<&Info> {
        match self {
            Transport::Tls(secure) => secure.stream.info(),
            _ => None,
        }
    }
}

/// How a client speaks TLS: whom it believes.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTls {
    given: Option<ClientConfig>,
    /// Made of this machine's roots when it is first needed.
    system: OnceLock<ClientConfig>,
    /// The same, offering HTTP/2, or without it where it is offered.
    #[cfg(feature = "http2")]
    with_http2: OnceLock<ClientConfig>,
    #[cfg(feature = "http2")]
    without_http2: OnceLock<ClientConfig>,
}

/// Why there is no TLS on a connection of a client's.
#[derive(Debug)]
pub(crate) enum Unsecured {
    /// The handshake took too long.
    Late,
    /// The handshake failed, or the settings are none.
    Refused(io::Error),
    /// The connection failed, or the wait was cut short.
    Broken(io::Error),
}

#[cfg(feature = "http2")]
impl Dialed {
    /// The same behind a handshake of TLS with the server of that name, and the protocol that was agreed on, if any. With the
    /// feature `tls`.
    ///
    /// # Errors
    /// If the handshake fails, takes too long, or is cut short.
    pub fn secure(self, config: &ClientConfig, name: &str) -> io::Result<(Self, Option<Vec<u8>>)> {
        let secured = ClientTls::secure_by(config, self.transport, name);
        let transport = secured.map_err(|unsecured| match unsecured {
            Unsecured::Late => io::Error::new(
                io::ErrorKind::TimedOut,
                "the handshake of TLS took too long",
            ),
            Unsecured::Refused(error) | Unsecured::Broken(error) => error,
        })?;
        let alpn = transport.tls().and_then(Info::alpn).map(<[u8]>::to_vec);
        Ok((Self { transport }, alpn))
    }
}

impl ClientTls {
    /// By these settings.
    pub(crate) fn by(config: ClientConfig) -> Self {
        Self {
            given: Some(config),
            ..Self::default()
        }
    }

    /// Why it cannot be spoken, if it cannot.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        None
    }

    /// Shakes hands with the server of that name, for HTTP/1.1 or what begins as that.
    pub(crate) fn secure(&self, below: Transport, name: &str) -> Result<Transport, Unsecured> {
        let config = self.config().map_err(Unsecured::Refused)?;
        #[cfg(feature = "http2")]
        let config = match config.alpn().contains(&HTTP2) {
            true => self.without_http2.get_or_init(|| {
                let others = config.alpn().into_iter();
                config.with_alpn(others.filter(|name| *name != HTTP2))
            }),
            false => config,
        };
        Self::secure_by(config, below, name)
    }

    /// The same, and offers HTTP/2, unless the settings name what is to be offered.
    #[cfg(feature = "http2")]
    pub(crate) fn secure_for_http2(
        &self,
        below: Transport,
        name: &str,
    ) -> Result<Transport, Unsecured> {
        let config = self.config().map_err(Unsecured::Refused)?;
        let is_open = self.given.is_none() || config.alpn().is_empty();
        let config = match is_open {
            true => self
                .with_http2
                .get_or_init(|| config.with_alpn([HTTP2, b"http/1.1"])),
            false => config,
        };
        Self::secure_by(config, below, name)
    }

    fn secure_by(
        config: &ClientConfig,
        below: Transport,
        name: &str,
    ) -> Result<Transport, Unsecured> {
        let stream = config.stream(below, name).map_err(Unsecured::Refused)?;
        if let Err(error) = stream.handshake() {
            return Err(match Error::of(&error) {
                Some(Error::HandshakeTimeout(_)) => Unsecured::Late,
                Some(_) => Unsecured::Refused(error),
                None => Unsecured::Broken(error),
            });
        }
        Ok(Transport::Tls(Box::new(Secure { stream })))
    }

    fn config(&self) -> io::Result<&ClientConfig> {
        if let Some(config) = self.given.as_ref().or_else(|| self.system.get()) {
            return Ok(config);
        }
        let system = ClientConfig::builder().system_roots().alpn(["http/1.1"]);
        let system = system.build()?;
        Ok(self.system.get_or_init(|| system))
    }
}

/// The name of HTTP/2 (RFC 9113, 3.2).
#[cfg(feature = "http2")]
const HTTP2: &[u8] = b"h2";

#[cfg(feature = "http2")]
impl Transport {
    /// Whether HTTP/2 was agreed on in the handshake.
    pub(crate) fn speaks_http2(&self) -> bool {
        self.tls().and_then(Info::alpn) == Some(HTTP2)
    }
}

/// Whether a connection failed since its client spoke plain HTTP, of which it has been told.
pub(crate) fn is_plain_http(error: &io::Error) -> bool {
    matches!(Error::of(error), Some(Error::PlainHttp))
}

/// A listener below, and what makes TLS of its connections.
#[derive(Debug)]
pub(super) struct SecureListener {
    below: Kind,
    config: ServerConfig,
}

impl SecureListener {
    pub(super) fn below(&self) -> &Kind {
        &self.below
    }

    pub(super) fn secure(&self, (below, peer): (Transport, Peer)) -> io::Result<(Transport, Peer)> {
        let secure = Secure::new(below, &self.config)?;
        Ok((Transport::Tls(Box::new(secure)), peer))
    }

    pub(super) fn try_clone(&self) -> io::Result<Self> {
        Ok(Self {
            below: self.below.try_clone()?,
            config: self.config.clone(),
        })
    }
}

/// Where the handshakes of a listener are counted.
#[derive(Clone, Debug)]
pub(crate) struct TlsCounts(ServerConfig);

impl TlsCounts {
    /// How many came to what.
    pub(crate) fn read(&self) -> [(&'static str, u64); 3] {
        let so_far = self.0.handshakes();
        [
            ("full", so_far.full),
            ("resumed", so_far.resumed),
            ("failed", so_far.failed),
        ]
    }
}

impl Listener {
    /// Where its handshakes are counted, if it speaks TLS.
    pub(crate) fn tls_counts(&self) -> Option<TlsCounts> {
        match &self.kind {
            Kind::Tls(secure) => Some(TlsCounts(secure.config.clone())),
            _ => None,
        }
    }

    /// Speaks TLS with what connects.
    ///
    /// # Examples
    /// HTTP and HTTPS from one server:
    /// ```
    /// use maniple::net::TcpListener;
    /// use maniple_server::{Router, Server, tls::ServerConfig, transport::Listener};
    /// # fn serve(config: ServerConfig) -> std::io::Result<()> {
    /// let plain = TcpListener::bind("127.0.0.1:0")?;
    /// let secure = Listener::try_from(TcpListener::bind("127.0.0.1:0")?)?.tls(config);
    /// let server = Server::builder(Router::new()).listen(plain)?.listener(secure)?;
    /// # let _ = server;
    /// # Ok(())
    /// # }
    /// ```
    #[must_use]
    pub fn tls(self, config: ServerConfig) -> Self {
        let secure = SecureListener {
            below: self.kind,
            config,
        };
        Self {
            kind: Kind::Tls(Box::new(secure)),
            ..self
        }
    }

    /// On an address of TCP.
    pub(crate) fn bind_tls(address: impl ToSocketAddrs, config: ServerConfig) -> io::Result<Self> {
        let listener = Self::try_from(TcpListener::bind(address)?)?;
        Ok(listener.tls(config))
    }
}
