//! A blocking HTTP/1.1 client on coroutine sockets, with a pool of keep-alive connections.
//!
//! It has no deadline of its own: its I/O is cut short by the scope that the caller is in, as any I/O
//! is. A connection goes back to the pool only when its response has been read to the end.

mod connection;
mod error;
mod pool;
mod response;
mod url;

use std::{borrow::Cow, fmt, io, net::SocketAddr, sync::Arc, time::Duration};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, header::CONTENT_TYPE};
use maniple::net::{TcpStream, ToSocketAddrs};
use serde::Serialize;

pub use error::ClientError;
pub use response::ClientResponse;

use connection::{Connection, Outgoing};
use pool::{Limits, Pool};
use url::Url;

/// Requests other services; clones share the pool of connections.
///
/// Speaks HTTP/1.1 over plain TCP. Follows no redirects, and adds no header fields but `Host` and
/// `Content-Length`. Works in coroutines and in plain threads, which it blocks.
///
/// What a URL has in its path and query is sent as it is, so it must be a URI: anything else has to be percent-encoded,
/// and is refused ([`ClientError::Url`]).
///
/// # Idle connections
/// They are kept for [`ClientBuilder::idle_timeout`], within [`ClientBuilder::max_idle`] and
/// [`ClientBuilder::max_idle_per_host`]. One that its server closes meanwhile is closed within a second. A coroutine
/// does that, `http client keeper`, which there is only while there are idle connections. It belongs to the runtime
/// where the first of them was kept, on a plain thread to the default runtime; when that ends they are closed. So are
/// all when the last clone of the client and its last response are dropped.
///
/// # Examples
/// ```no_run
/// use maniple_server::Client;
/// use std::time::Duration;
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new();
/// let page = maniple::timeout(Duration::from_millis(300), || {
///     client.get("http://127.0.0.1:9001/items/7")?.text()
/// })??;
/// println!("{page}");
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct Client {
    shared: Arc<Shared>,
}

struct Shared {
    pool: Pool,
    connect_timeout: Duration,
    timeout: Option<Duration>,
    max_body_bytes: u64,
}

/// Settings of a [`Client`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    connect_timeout: Duration,
    timeout: Option<Duration>,
    idle: Limits,
    max_body_bytes: u64,
}

impl ClientBuilder {
    /// How long making a connection may take, for each address of the host. Default: 5 s. Zero lets no connection be
    /// made: requests end with [`ClientError::Connect`], of which [`ClientError::is_timeout`] is true.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each read or write may wait. Default: no limit but the caller's deadline. With zero, which no answer
    /// can keep to, requests end with [`ClientError::Timeout`] at once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Idle connections that are kept for all hosts. Default: 512. Beyond that the one is closed that has been idle for
    /// longest. With 0 none is kept.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.idle.total = connections;
        self
    }

    /// Idle connections that are kept for each host and port. Default: 64. Beyond that the host's one is closed that has
    /// been idle for longest. With 0 none is kept.
    pub fn max_idle_per_host(mut self, connections: usize) -> Self {
        self.idle.per_host = connections;
        self
    }

    /// How long a connection is kept idle. Default: 30 s, which is less than servers allow. It is closed within a second
    /// after that, whether the client is used or not. With zero none is kept.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle.age = timeout;
        self
    }

    /// Bytes of a response body that are read into memory. Default: 16 MiB.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        Client {
            shared: Arc::new(Shared {
                pool: Pool::new(self.idle),
                connect_timeout: self.connect_timeout,
                timeout: self.timeout,
                max_body_bytes: self.max_body_bytes,
            }),
        }
    }
}

impl Client {
    /// A client with the defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a client.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            connect_timeout: Duration::from_secs(5),
            timeout: None,
            idle: Limits {
                total: 512,
                per_host: 64,
                age: Duration::from_secs(30),
            },
            max_body_bytes: 16 * 1024 * 1024,
        }
    }

    /// Sends a `GET` and returns the response once its head has come.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn get(&self, url: &str) -> Result<ClientResponse, ClientError> {
        self.send(&Outgoing {
            method: &Method::GET,
            url: Url::parse(url)?,
            headers: &HeaderMap::new(),
            body: &Bytes::new(),
        })
    }

    /// Begins a `POST`: give it a body, and send it.
    pub fn post(&self, url: &str) -> RequestBuilder<'_> {
        self.request(Method::POST, url)
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            client: self,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Bytes::new(),
            bad_header: None,
        }
    }

    fn send(&self, request: &Outgoing<'_>) -> Result<ClientResponse, ClientError> {
        let host = request.url.authority;
        if *request.method == Method::CONNECT {
            let url = format!("http://{host}");
            let reason = "CONNECT asks for a tunnel, which there is none here".to_owned();
            return Err(ClientError::Url { url, reason });
        }
        if self.shared.timeout == Some(Duration::ZERO) {
            let host = host.to_owned();
            return Err(ClientError::Timeout { host });
        }
        if let Some(mut kept) = self.shared.pool.take(host) {
            match kept.exchange(request) {
                Ok(reply) => return Ok(ClientResponse::new(reply, kept, self.shared.clone())),
                // The server closed it just before: nothing was lost that may not be repeated.
                Err(failed) if failed.unheard && request.method.is_idempotent() => {}
                Err(failed) => return Err(failed.error),
            }
        }
        let mut fresh = self.connect(&request.url)?;
        match fresh.exchange(request) {
            Ok(reply) => Ok(ClientResponse::new(reply, fresh, self.shared.clone())),
            Err(failed) => Err(failed.error),
        }
    }

    fn connect(&self, url: &Url<'_>) -> Result<Connection, ClientError> {
        let host = match url.port_is_named {
            true => Cow::Borrowed(url.authority),
            false => Cow::Owned(format!("{}:80", url.authority)),
        };
        let addresses = host.to_socket_addrs();
        let addresses = addresses.map_err(|error| ClientError::resolve(&host, error))?;
        let mut failed = ClientError::resolve(
            &host,
            io::Error::new(io::ErrorKind::NotFound, "the name has no address"),
        );
        for address in addresses {
            match self.connect_to(&address) {
                Ok(stream) => return Ok(Connection::new(url.authority, stream)),
                Err(error) => failed = ClientError::connect(&host, error),
            }
            if matches!(
                failed,
                ClientError::Cancelled { .. } | ClientError::Timeout { .. }
            ) {
                break;
            }
        }
        Err(failed)
    }

    fn connect_to(&self, address: &SocketAddr) -> io::Result<TcpStream> {
        let Shared {
            connect_timeout,
            timeout,
            ..
        } = *self.shared;
        if connect_timeout.is_zero() {
            return Err(io::ErrorKind::TimedOut.into());
        }
        let stream = TcpStream::connect_timeout(address, connect_timeout)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(timeout)?;
        stream.set_write_timeout(timeout)?;
        Ok(stream)
    }
}

impl Default for Client {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").finish_non_exhaustive()
    }
}

/// A request that is being put together; made by [`Client::request`].
#[derive(Debug)]
#[must_use = "a request does nothing until it is sent"]
pub struct RequestBuilder<'a> {
    client: &'a Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Bytes,
    /// The name of a header field that was not allowed.
    bad_header: Option<String>,
}

impl RequestBuilder<'_> {
    /// Adds a header field. A name or value that is not allowed is reported by [`RequestBuilder::send`].
    pub fn header(mut self, name: &str, value: &str) -> Self {
        match (
            HeaderName::from_bytes(name.as_bytes()),
            HeaderValue::from_str(value),
        ) {
            (Ok(name), Ok(value)) => {
                self.headers.append(name, value);
            }
            _ => self.bad_header = Some(name.to_owned()),
        }
        self
    }

    /// Sets the body.
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Self {
        self.body = body.into().into();
        self
    }

    /// Sets the body to `value` as JSON, and its type.
    ///
    /// # Panics
    /// If `value` cannot be serialised: a map with keys that are no strings, or its own error.
    #[track_caller]
    pub fn json(mut self, value: &impl Serialize) -> Self {
        let body = serde_json::to_vec(value);
        self.body = body
            .unwrap_or_else(|error| panic!("request body could not be serialised: {error}"))
            .into();
        self.headers
            .insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        self
    }

    /// Sends the request and returns the response once its head has come.
    ///
    /// A kept connection that the server had closed is replaced once, if the method is idempotent and
    /// nothing of an answer had come.
    ///
    /// A server may answer before it has taken the whole body, as one does that refuses it (RFC 9112, 9.5). The answer is
    /// returned then; see [`ClientResponse`] for what becomes of the rest.
    ///
    /// # Errors
    /// If the URL or a header field is not allowed, the connection fails, the answer is malformed (its head, or all the
    /// interim ones before it, of more than 64 KiB; more than 128 of these), or the caller's scope is cancelled or past
    /// its deadline. `CONNECT` is refused, as what makes no URL.
    pub fn send(self) -> Result<ClientResponse, ClientError> {
        if let Some(name) = self.bad_header {
            return Err(ClientError::Header { name });
        }
        self.client.send(&Outgoing {
            method: &self.method,
            url: Url::parse(&self.url)?,
            headers: &self.headers,
            body: &self.body,
        })
    }
}
