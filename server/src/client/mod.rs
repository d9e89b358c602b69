//! A blocking HTTP/1.1 client on coroutine sockets, with a pool of keep-alive connections.
//!
//! It has no deadline of its own: its I/O is cut short by the scope that the caller is in, as any I/O
//! is. A connection goes back to the pool only when its response has been read to the end.

mod pool;
mod response;

use std::{fmt, io, sync::Arc, time::Duration};

use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};
use maniple::{cancel::is_cancelled_error, net::TcpStream};

pub use response::ClientResponse;

use pool::{Pool, Pooled};

/// Why a request has no response.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not one that can be requested.
    #[error("bad URL {url:?}: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header field's name or value is not allowed.
    #[error("bad header field {name:?}")]
    Header {
        /// The field's name as given.
        name: String,
    },
    /// No connection could be made.
    #[error("connect to {host}: {error}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// The deadline of the caller's scope, or the client's timeout, passed.
    #[error("{host}: no answer in time")]
    Timeout {
        /// Host and port.
        host: String,
    },
    /// The caller's scope was cancelled.
    #[error("{host}: request was cancelled")]
    Cancelled {
        /// Host and port.
        host: String,
    },
    /// The connection failed.
    #[error("{host}: {error}")]
    Io {
        /// Host and port.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// The answer is not HTTP, or exceeds a limit.
    #[error("{host}: malformed response: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Whether a deadline or timeout passed.
    pub fn is_timeout(&self) -> bool {
        matches!(self, ClientError::Timeout { .. })
    }

    /// Whether the caller's scope was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, ClientError::Cancelled { .. })
    }

    pub(crate) fn from_io(host: &str, error: io::Error) -> Self {
        let host = host.to_owned();
        if is_cancelled_error(&error) {
            ClientError::Cancelled { host }
        } else if error.kind() == io::ErrorKind::TimedOut {
            ClientError::Timeout { host }
        } else {
            ClientError::Io { host, error }
        }
    }
}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Url { .. } | ClientError::Header { .. } => io::ErrorKind::InvalidInput,
            ClientError::Connect { error, .. } | ClientError::Io { error, .. } => error.kind(),
            ClientError::Timeout { .. } => io::ErrorKind::TimedOut,
            ClientError::Cancelled { .. } => return maniple::cancel::Cancelled.into(),
            ClientError::Protocol { .. } => io::ErrorKind::InvalidData,
        };
        io::Error::new(kind, error)
    }
}

/// Requests other services; clones share the pool.
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
    max_body: u64,
}

/// Settings of a [`Client`].
#[derive(Clone, Copy, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    connect_timeout: Duration,
    timeout: Option<Duration>,
    max_idle_per_host: usize,
    max_body: u64,
}

impl ClientBuilder {
    /// How long making a connection may take. Default: 5 s.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each read or write may wait. Default: no limit but the caller's deadline.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Idle connections that are kept for each host and port. Default: 64.
    pub fn max_idle_per_host(mut self, connections: usize) -> Self {
        self.max_idle_per_host = connections;
        self
    }

    /// Bytes of a response body that are read into memory. Default: 16 MiB.
    pub fn max_body(mut self, bytes: u64) -> Self {
        self.max_body = bytes;
        self
    }

    /// The client.
    pub fn build(self) -> Client {
        Client {
            shared: Arc::new(Shared {
                pool: Pool::new(self.max_idle_per_host),
                connect_timeout: self.connect_timeout,
                timeout: self.timeout,
                max_body: self.max_body,
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
            max_idle_per_host: 64,
            max_body: 16 * 1024 * 1024,
        }
    }

    /// Sends a `GET` and returns the response once its head has come.
    ///
    /// # Errors
    /// As [`RequestBuilder::send`].
    pub fn get(&self, url: &str) -> Result<ClientResponse, ClientError> {
        self.request(Method::GET, url).send()
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &str) -> RequestBuilder<'_> {
        RequestBuilder {
            client: self,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Vec::new(),
            bad_header: None,
        }
    }

    fn connect(&self, host: &str) -> Result<Pooled, ClientError> {
        let failed = |error: io::Error| match ClientError::from_io(host, error) {
            ClientError::Io { host, error } => ClientError::Connect { host, error },
            cut => cut,
        };
        let addresses = maniple::net::ToSocketAddrs::to_socket_addrs(host).map_err(failed)?;
        let mut last = None;
        for address in addresses {
            match TcpStream::connect_timeout(&address, self.shared.connect_timeout) {
                Ok(stream) => {
                    let _ = stream.set_nodelay(true);
                    stream
                        .set_read_timeout(self.shared.timeout)
                        .and_then(|()| stream.set_write_timeout(self.shared.timeout))
                        .map_err(failed)?;
                    return Ok(Pooled::new(host.to_owned(), stream));
                }
                Err(error) => last = Some(error),
            }
            if maniple::cancel::check().is_err() {
                break;
            }
        }
        Err(failed(last.unwrap_or_else(|| {
            io::Error::new(io::ErrorKind::NotFound, "the name has no address")
        })))
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
    body: Vec<u8>,
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
        self.body = body.into();
        self
    }

    /// Sends the request and returns the response once its head has come.
    ///
    /// A kept connection that the server had closed is replaced once, if the method is idempotent and
    /// nothing of an answer had come.
    ///
    /// # Errors
    /// If the URL or a header field is not allowed, the connection fails, the answer is malformed, or
    /// the caller's scope is cancelled or past its deadline.
    pub fn send(self) -> Result<ClientResponse, ClientError> {
        if let Some(name) = self.bad_header {
            return Err(ClientError::Header { name });
        }
        let (host, target) = split_url(&self.url)?;
        let shared = &self.client.shared;
        let mut connection = match shared.pool.take(&host) {
            Some(connection) => connection,
            None => self.client.connect(&host)?,
        };
        let head = write_head(&self.method, &host, &target, &self.headers, self.body.len());
        loop {
            let was_kept = connection.was_kept;
            let stale = match connection.exchange(&head, &self.body, &self.method) {
                Ok(head) => {
                    return ClientResponse::new(head, connection, self.client.shared.clone());
                }
                Err(stale) if was_kept && stale.nothing_came && self.method.is_idempotent() => {
                    stale
                }
                Err(failed) => return Err(failed.error),
            };
            if stale.error.is_cancelled() || stale.error.is_timeout() {
                return Err(stale.error);
            }
            connection = self.client.connect(&host)?;
        }
    }
}

/// Host with port, and request target.
fn split_url(url: &str) -> Result<(String, String), ClientError> {
    let bad = |reason: &str| ClientError::Url {
        url: url.to_owned(),
        reason: reason.to_owned(),
    };
    let uri: Uri = url.parse().map_err(|error| ClientError::Url {
        url: url.to_owned(),
        reason: format!("{error}"),
    })?;
    match uri.scheme_str() {
        Some("http") => {}
        Some(_) => return Err(bad("only http is spoken here")),
        None => return Err(bad("no scheme, expected http://HOST[:PORT]/PATH")),
    }
    let authority = uri.authority().ok_or_else(|| bad("no host"))?;
    if authority.as_str().contains('@') {
        return Err(bad("user information is not sent"));
    }
    let host = authority.host();
    if host.is_empty() {
        return Err(bad("no host"));
    }
    let target = uri.path_and_query().map_or("/", |target| target.as_str());
    let target = if target.starts_with('/') {
        target.to_owned()
    } else {
        format!("/{target}")
    };
    Ok((
        format!("{host}:{}", authority.port_u16().unwrap_or(80)),
        target,
    ))
}

fn write_head(
    method: &Method,
    host: &str,
    target: &str,
    headers: &HeaderMap,
    body: usize,
) -> Vec<u8> {
    use http::header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
    let mut out = Vec::with_capacity(256);
    let mut put = |parts: &[&[u8]]| parts.iter().for_each(|part| out.extend_from_slice(part));
    put(&[
        method.as_str().as_bytes(),
        b" ",
        target.as_bytes(),
        b" HTTP/1.1\r\n",
    ]);
    if !headers.contains_key(HOST) {
        put(&[b"host: ", host.as_bytes(), b"\r\n"]);
    }
    for (name, value) in headers {
        // The message is framed by what is sent, not by what is claimed.
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            put(&[name.as_str().as_bytes(), b": ", value.as_bytes(), b"\r\n"]);
        }
    }
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if body > 0 || expects_body {
        put(&[
            b"content-length: ",
            itoa::Buffer::new().format(body).as_bytes(),
            b"\r\n",
        ]);
    }
    put(&[b"\r\n"]);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_split_or_refused_with_a_reason() {
        assert_eq!(
            split_url("http://h:81/a?b").unwrap(),
            ("h:81".to_owned(), "/a?b".to_owned())
        );
        assert_eq!(
            split_url("http://h").unwrap(),
            ("h:80".to_owned(), "/".to_owned())
        );
        for url in [
            "https://h/",
            "h/",
            "/a",
            "http://u@h/",
            "http://",
            "http://h/\r\n",
        ] {
            assert!(
                matches!(split_url(url), Err(ClientError::Url { .. })),
                "{url}"
            );
        }
    }

    #[test]
    fn the_head_frames_what_is_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("99"));
        headers.insert("x-a", HeaderValue::from_static("b"));
        let head = write_head(&Method::POST, "h:80", "/", &headers, 0);
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "POST / HTTP/1.1\r\nhost: h:80\r\nx-a: b\r\ncontent-length: 0\r\n\r\n"
        );
    }
}
