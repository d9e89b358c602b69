//! Settings of WebSockets.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::handshake::Origins;
use crate::client::Client;

/// Settings of WebSockets, made once and used for many.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::{Request, Response, websocket::Settings};
///
/// let settings = Settings::new()
///     .protocols(["chat.v2", "chat.v1"])
///     .max_message(64 * 1024)
///     .ping(Duration::from_secs(15));
/// let chat = move |request: &mut Request| -> Response {
///     settings.upgrade(request, |socket| {
///         let is_new = socket.protocol() == Some("chat.v2");
///         # let _ = is_new;
///         while let Some(message) = socket.receive()? {
///             socket.send(message)?;
///         }
///         Ok(())
///     })
/// };
/// # let _ = chat;
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing by themselves"]
pub struct Settings {
    pub(super) max_message: usize,
    pub(super) max_frame: usize,
    pub(super) ping: Option<Duration>,
    pub(super) ping_timeout: Duration,
    pub(super) close_timeout: Duration,
    pub(super) write_timeout: Duration,
    pub(super) protocols: Vec<String>,
    pub(super) origins: Origins,
    pub(super) needs_key: bool,
    /// Of the request that a client sends.
    pub(super) headers: HeaderMap,
    pub(super) client: Option<Client>,
}

/// Fields that a client's request has in any case, or must not have.
const OURS: [&str; 5] = [
    "host",
    "connection",
    "upgrade",
    "content-length",
    "transfer-encoding",
];

impl Settings {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            max_message: 1024 * 1024,
            max_frame: 1024 * 1024,
            ping: Some(Duration::from_secs(30)),
            ping_timeout: Duration::from_secs(20),
            close_timeout: Duration::from_secs(5),
            write_timeout: Duration::from_secs(30),
            protocols: Vec::new(),
            origins: Origins::Own,
            needs_key: true,
            headers: HeaderMap::new(),
            client: None,
        }
    }

    /// Bytes of a message at most that is received. Default: 1 MiB. One that is larger closes the connection with 1009.
    pub fn max_message(mut self, bytes: usize) -> Self {
        self.max_message = bytes;
        self
    }

    /// Bytes of a frame at most, of which a message may have many. Default: 1 MiB. One that is larger closes the
    /// connection with 1009, as soon as its head has come.
    pub fn max_frame(mut self, bytes: usize) -> Self {
        self.max_frame = bytes;
        self
    }

    /// After how long a silence of the peer it is sent a Ping, while somebody receives. Default: 30 s. It keeps
    /// connections open at what stands in between, and finds out about peers that are gone.
    pub fn ping(mut self, after: Duration) -> Self {
        self.ping = Some(after);
        self
    }

    /// No Pings: a peer that is gone without a word is not noticed but by sending to it.
    pub fn no_ping(mut self) -> Self {
        self.ping = None;
        self
    }

    /// How long the peer may be silent after a Ping. Default: 20 s. Then receiving fails with
    /// [`Error::Unanswered`](super::Error::Unanswered) and the connection ends.
    pub fn ping_timeout(mut self, timeout: Duration) -> Self {
        self.ping_timeout = timeout;
        self
    }

    /// How long the peer may take to answer a Close. Default: 5 s.
    pub fn close_timeout(mut self, timeout: Duration) -> Self {
        self.close_timeout = timeout;
        self
    }

    /// How long a send may wait for the peer to take something. Default: 30 s.
    pub fn write_timeout(mut self, timeout: Duration) -> Self {
        self.write_timeout = timeout;
        self
    }

    /// Adds a field to the request by which a client opens: `Authorization`, `Cookie`, `Origin`. Default: none but those of
    /// the protocol.
    ///
    /// # Panics
    /// If the name or the value is not allowed, or the name is one that the protocol sets: `Host`, `Connection`, `Upgrade`,
    /// `Content-Length`, `Transfer-Encoding`, or one that begins with `Sec-WebSocket-`.
    #[track_caller]
    pub fn header(mut self, name: &str, value: &str) -> Self {
        let given = HeaderName::from_bytes(name.as_bytes()).ok();
        let given = given.zip(HeaderValue::from_str(value).ok());
        let (name, value) = given.unwrap_or_else(|| panic!("header field {name:?} is not allowed"));
        let is_ours = OURS.contains(&name.as_str()) || name.as_str().starts_with("sec-websocket-");
        assert!(!is_ours, "header field {name} is the protocol's");
        self.headers.append(name, value);
        self
    }

    /// Connects as that client does: by its time limit for connecting, its [connector](crate::client::Builder::connector) to a Unix-domain
    /// socket or within the process, and for `wss` by what it believes of certificates. Default: as
    /// [`Client::new`] does. A WebSocket is none of the client's kept connections.
    pub fn client(mut self, client: &Client) -> Self {
        self.client = Some(client.clone());
        self
    }

    /// Subprotocols: those that a server speaks, the best first, of which the first is chosen that the client offers;
    /// those that a client offers. Default: none. A client that offers none of the server's is served without: see
    /// [`WebSocket::protocol`](super::WebSocket::protocol).
    pub fn protocols<P: Into<String>>(mut self, names: impl IntoIterator<Item = P>) -> Self {
        self.protocols = names.into_iter().map(Into::into).collect();
        self
    }

    /// Pages of these origins may connect, such as `https://app.example.org`. Default: those of the host alone that the
    /// request is to, by its `Host` field; behind a proxy that changes that field, say here what the browser sees.
    ///
    /// Browsers let any page connect anywhere, with the cookies that they have, and say in `Origin` which page it is.
    /// Who is no browser sends no origin, and may connect.
    pub fn origins<O: Into<String>>(mut self, origins: impl IntoIterator<Item = O>) -> Self {
        self.origins = Origins::These(origins.into_iter().map(Into::into).collect());
        self
    }

    /// Pages of any origin may connect: for what needs no cookies.
    pub fn any_origin(mut self) -> Self {
        self.origins = Origins::Any;
        self
    }

    /// Takes requests that have no `Sec-WebSocket-Key`. Default: they are answered 400. Envoy sends such for clients
    /// that speak HTTP/2 to it.
    pub fn without_key(mut self) -> Self {
        self.needs_key = false;
        self
    }
}

impl Default for Settings {
    fn default() -> Self {
        Self::new()
    }
}
