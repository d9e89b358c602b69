//! A blocking HTTP/1.1 client on coroutine sockets, with a pool of keep-alive connections.
//!
//! It has no deadline of its own: its I/O is cut short by the scope that the caller is in, as any I/O
//! is. A connection goes back to the pool only when its response has been read to the end.

mod builder;
mod call;
pub(crate) mod connection;
mod error;
mod exceptions;
mod exchange;
mod form;
pub(crate) mod head;
#[cfg(feature = "http2")]
pub(crate) mod http2;
#[cfg(not(feature = "http2"))]
#[path = "no_http2.rs"]
pub(crate) mod http2;
mod inbox;
mod jar;
#[cfg(feature = "http2")]
mod linked;
pub(crate) mod manner;
mod phase;
pub(crate) mod place;
mod pool;
mod proxy;
pub(crate) mod reach;
pub(crate) mod redirect;
mod response;
mod sending;
mod servers;
pub(crate) mod shared;
mod socks;
mod source;
pub(crate) mod upload;
pub(crate) mod url;

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method,
    header::{ACCEPT_ENCODING, CONTENT_TYPE, COOKIE, RANGE},
};
use maniple::time::now;
use serde::Serialize;

pub use builder::Builder;
pub use error::ClientError;
pub use form::Form;
pub use phase::Phase;
pub use proxy::Proxy;
pub use response::ClientResponse;
pub use servers::Servers;

use connection::{Connection, OnInterim};
use head::Outgoing;
use shared::Shared;
use source::Source;
use upload::Sender;
use url::Url;

use crate::{
    http1::reply::Reply,
    response::{Body, BodyKind},
};

/// Requests other services; clones share the pool of connections.
///
/// Speaks HTTP/1.1 over TCP, with TLS for `https` URLs (with the feature `tls`), or over what [`Builder::connector`]
/// connects to; HTTP/2 with servers that agree on it (with the feature `http2`: see [`Builder::http2`]). Follows redirects,
/// and asks for compressed answers, if its builder says so; else it adds no header fields but `Host` and
/// `Content-Length`. Works in coroutines and in plain threads, which it blocks.
///
/// What a URL has in its path and query is sent as it is, so it must be a URI: anything else has to be percent-encoded,
/// and is refused ([`ClientError::Url`]).
///
/// # Idle connections
/// They are kept for [`Builder::idle_timeout`], within [`Builder::max_idle`] and
/// [`Builder::max_idle_per_host`]. One that its server closes meanwhile is closed within a second. A coroutine
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
    pub(crate) shared: Arc<Shared>,
}

impl Builder {
    /// The client.
    pub fn build(self) -> Client {
        Client {
            shared: Arc::new(self.into_shared()),
        }
    }
}

impl Client {
    /// A client with the defaults.
    pub fn new() -> Self {
        Self::builder().build()
    }

    /// Settings for a client.
    pub fn builder() -> Builder {
        Builder::new()
    }

    /// Sends a `GET` and returns the response once its head has come.
    ///
    /// # Errors
    /// If the URL is not allowed, the connection fails, the answer is malformed, or the caller's scope is cancelled or
    /// past its deadline: see [`Request::send`].
    pub fn get(&self, url: &str) -> Result<ClientResponse, ClientError> {
        let Shared { decoding, jar, .. } = &*self.shared;
        if self.shared.max_redirects > 0 || decoding.is_some() || jar.is_some() {
            return self.request(Method::GET, url).send();
        }
        let request = Outgoing {
            method: &Method::GET,
            url: Url::parse(url)?,
            headers: &HeaderMap::new(),
            body: &Bytes::new(),
            streamed: None,
            expect: None,
            until: None,
            key: None,
        };
        self.send(&request, None)
    }

    /// Begins a `POST`: give it a body, and send it.
    pub fn post(&self, url: &str) -> Request<'_> {
        self.request(Method::POST, url)
    }

    /// Begins a request.
    pub fn request(&self, method: Method, url: &str) -> Request<'_> {
        Request {
            client: self,
            method,
            url: url.to_owned(),
            headers: HeaderMap::new(),
            body: Body::empty(),
            expect: None,
            timeout: None,
            key: None,
            bad_header: None,
        }
    }

    fn send(
        &self,
        request: &Outgoing<'_>,
        mut body: Option<Body>,
    ) -> Result<ClientResponse, ClientError> {
        let (reply, source) = self.shared.exchange(request, &mut body, None)?;
        Ok(ClientResponse::new(reply, source, self.shared.clone()))
    }

    /// Has a request without a body answered, for who looks at the head first.
    pub(crate) fn ask(
        &self,
        request: &Outgoing<'_>,
        on_interim: OnInterim<'_>,
    ) -> Result<(Reply, Box<Connection>), ClientError> {
        let (reply, source) = self.shared.exchange(request, &mut None, Some(on_interim))?;
        match source {
            Source::Http1(connection) => Ok((reply, connection)),
            // Where interim answers are heard, HTTP/1.1 is spoken.
            Source::Http2(asked) => Err(ClientError::protocol(&asked.host, "HTTP/2")),
        }
    }

    /// Sends the head of a request whose body the caller sends.
    pub(crate) fn begin(
        &self,
        request: &Outgoing<'_>,
    ) -> Result<(Box<Connection>, Sender), ClientError> {
        self.shared.begin(request)
    }

    /// The answer whose head has come.
    pub(crate) fn response(&self, reply: Reply, connection: Box<Connection>) -> ClientResponse {
        let source = Source::Http1(connection);
        ClientResponse::new(reply, source, self.shared.clone())
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
pub struct Request<'a> {
    client: &'a Client,
    method: Method,
    url: String,
    headers: HeaderMap,
    body: Body,
    expect: Option<Duration>,
    timeout: Option<Duration>,
    key: Option<Box<[u8]>>,
    /// The name of a header field that was not allowed.
    bad_header: Option<String>,
}

impl Request<'_> {
    /// Adds a header field. A name or value that is not allowed is reported by [`Request::send`].
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

    /// Sets the body: bytes, or one that is made while it is sent, by [`Body::from_reader`], [`Body::from_sized_reader`],
    /// [`Body::from_fn`] or [`Body::from_sized_fn`].
    ///
    /// One that is made is sent by a coroutine of its own, `http client upload`, as fast as the server takes it: each part
    /// that a reader gives, and each that a function writes, unless it sets another [`Flush`](crate::Flush). Without a
    /// length it goes in chunks. If its maker fails, or does not keep to the length, the connection is closed so that the
    /// server sees that the request is incomplete, and the error is [`ClientError::Body`].
    ///
    /// # Examples
    /// ```no_run
    /// use std::{fs::File, io::Write};
    /// use maniple_server::{Body, Client};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::new();
    /// let file = File::open("backup.tar")?;
    /// let length = file.metadata()?.len();
    /// client.post("http://127.0.0.1:9001/files").body(Body::from_sized_reader(file, length)).send()?;
    ///
    /// let lines = Body::from_fn(|out| (1..=9).try_for_each(|number| writeln!(out, "{number}")));
    /// client.post("http://127.0.0.1:9001/lines").body(lines).send()?;
    /// # Ok(())
    /// # }
    /// ```
    pub fn body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Asks the server first whether it wants the body (`Expect: 100-continue`), and sends it once it says so, or has said
    /// nothing for so long. If it answers before that, nothing of the body is made or sent, and the connection is closed.
    /// Default: the body is sent at once.
    ///
    /// Nothing is asked of a request without a body.
    pub fn expect_continue(mut self, patience: Duration) -> Self {
        self.expect = Some(patience);
        self
    }

    /// How long the call may take, from now to the end of the answer's body, redirects included; the caller's own deadline may
    /// come sooner. Default: no limit but that. With zero it ends at once.
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use maniple_server::{Client, Method};
    /// # fn main() -> Result<(), maniple_server::ClientError> {
    /// let client = Client::new();
    /// let report = client.request(Method::GET, "http://127.0.0.1:9001/report");
    /// println!("{}", report.timeout(Duration::from_millis(300)).send()?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Whose it is, where the [servers](Builder::servers) of a service are told apart by keys
    /// (`maniple_parts::endpoints::Balance::Ring`, `Maglev`): requests of one key go to one server. Default: none, and any
    /// server.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(key.as_ref().into());
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

    /// Sets the body to a form with files, and its type.
    pub fn form(mut self, form: Form) -> Self {
        if form.bad_type.is_some() {
            self.bad_header = Some(CONTENT_TYPE.to_string());
        }
        let (content_type, body) = form.into_parts();
        self.headers.insert(CONTENT_TYPE, content_type);
        self.body = body;
        self
    }

    /// Sends the request and returns the response once its head has come.
    ///
    /// A kept connection that the server had closed is replaced once, if nothing of the request has left; or if the method
    /// is idempotent, nothing of an answer had come, and nothing of a body was made that cannot be made again.
    ///
    /// A server may answer before it has taken the whole body, as one does that refuses it (RFC 9112, 9.5). The answer is
    /// returned then; see [`ClientResponse`] for what becomes of the rest.
    ///
    /// # Errors
    /// If the URL or a header field is not allowed, the connection fails, the answer is malformed (its head, or all the
    /// interim ones before it, of more than 64 KiB; more than 128 of these), or the caller's scope is cancelled or past
    /// its deadline. `CONNECT` is refused, as what makes no URL. What becomes of redirects:
    /// [`Builder::max_redirects`].
    pub fn send(self) -> Result<ClientResponse, ClientError> {
        let Some(timeout) = self.timeout else {
            return self.send_until(None);
        };
        let Some(until) = now().checked_add(timeout) else {
            return self.send_until(None);
        };
        let host = Url::parse(&self.url)?.authority.to_owned();
        maniple::deadline(until, || self.send_until(Some(until)))
            .unwrap_or_else(|_| Err(ClientError::timeout(&host, Phase::Send)))
    }

    fn send_until(self, until: Option<Instant>) -> Result<ClientResponse, ClientError> {
        if let Some(name) = self.bad_header {
            return Err(ClientError::Header { name });
        }
        let streamed = match &self.body.kind {
            BodyKind::Reader { length, .. } | BodyKind::Writer { length, .. } => Some(*length),
            _ => None,
        };
        let (mut bytes, mut body) = match self.body.into_at_hand() {
            Ok(bytes) => (bytes, None),
            Err(made) => (Bytes::new(), Some(made)),
        };
        let (mut method, mut url, mut headers) = (self.method, self.url, self.headers);
        let mut streamed = streamed;
        let mut followed = 0;
        let asks = |headers: &HeaderMap| {
            headers.contains_key(ACCEPT_ENCODING) || headers.contains_key(RANGE)
        };
        let decoding = self.client.shared.decoding.as_ref();
        let decoding = decoding.filter(|_| !asks(&headers));
        if let Some(decoding) = decoding {
            headers.insert(ACCEPT_ENCODING, decoding.accepted.clone());
        }
        let jar = self.client.shared.jar.as_ref();
        let jar = jar.filter(|_| !headers.contains_key(COOKIE));
        loop {
            let parsed = Url::parse(&url)?;
            if let Some(jar) = jar {
                match jar.field(&parsed) {
                    Some(cookies) => drop(headers.insert(COOKIE, cookies)),
                    None => drop(headers.remove(COOKIE)),
                }
            }
            let request = Outgoing {
                method: &method,
                url: parsed,
                headers: &headers,
                body: &bytes,
                streamed,
                expect: self
                    .expect
                    .filter(|_| streamed.is_some() || !bytes.is_empty()),
                until,
                key: self.key.as_deref(),
            };
            let mut response = self.client.send(&request, body.take())?;
            if let Some(jar) = &self.client.shared.jar {
                jar.keep(&parsed, response.headers());
            }
            let limit = self.client.shared.max_redirects;
            let next = match limit {
                0 => None,
                _ => redirect::next(response.status(), response.headers(), &method, &url)?,
            };
            // What was made while it was sent cannot be sent again.
            let next = next.filter(|next| !next.keeps_body || streamed.is_none());
            let Some(next) = next else {
                if let Some(decoding) = decoding {
                    response.decode(decoding);
                }
                response.set_deadline(until);
                if followed > 0 {
                    response.url = Some(url.into_boxed_str());
                }
                return Ok(response);
            };
            let refused = |reason| ClientError::Redirect {
                url: url.clone(),
                location: next.url.clone(),
                reason,
            };
            if followed == limit {
                return Err(refused(format!("it would be more than {limit} redirects")));
            }
            if next.is_elsewhere && self.client.shared.connector.is_some() {
                return Err(refused(
                    "the connector leads to one server alone".to_owned(),
                ));
            }
            let to_service = || {
                let to = Url::parse(&next.url);
                to.is_ok_and(|to| self.client.shared.services.of(&to).is_some())
            };
            if next.is_elsewhere && to_service() {
                return Err(refused(
                    "others do not say what is asked of a service".to_owned(),
                ));
            }
            response.skim();
            followed += 1;
            next.keep_fields(&mut headers);
            if !next.keeps_body {
                (bytes, streamed) = (Bytes::new(), None);
            }
            (method, url) = (next.method, next.url);
        }
    }
}
