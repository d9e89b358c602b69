//! A request as its handler sees it: a view of the received bytes, and a body that is read on demand.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Read},
    net::SocketAddr,
};

use bytes::Bytes;
use http::{Extensions, HeaderMap, Method, StatusCode, Uri, Version};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::{
    body::{BodyError, BodyState},
    http1::{
        conversation::is_interim,
        head::{Framing, Head, ascii},
    },
    server::{buffers::Scratch, exchange::Exchange},
    transport::Peer,
};

/// A request in the hands of its handler.
///
/// Method, path and header fields are looked up in the received bytes; a [`HeaderMap`] or [`Uri`] is
/// made only when asked for. The body is read from the connection as the handler reads it.
pub struct Request {
    pub(crate) exchange: Exchange,
}

impl Request {
    #[inline]
    fn scratch(&self) -> &Scratch {
        self.exchange.scratch()
    }

    #[inline]
    fn head(&self) -> &Head {
        self.exchange.head()
    }

    fn text(&self, range: std::ops::Range<usize>) -> &str {
        let input = &self.scratch().input;
        ascii(&input.bytes[input.start..][range])
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head().method
    }

    /// The path as it was sent, without percent-decoding and query; of a `CONNECT` the host and port that it names.
    #[inline]
    pub fn path(&self) -> &str {
        self.exchange.path()
    }

    /// The query as it was sent, without the `?`; `None` if there is none.
    pub fn query(&self) -> Option<&str> {
        self.head().query.clone().map(|query| self.text(query))
    }

    /// The decoded value of the first query parameter of that name, form-encoded (`+` is a space).
    ///
    /// As the URL Standard has it, a `%` without two digits stays as it is, and what is not UTF-8 becomes U+FFFD:
    /// [`Request::query`] has what was sent.
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(key) == name).then(|| decode_form(value))
        })
    }

    /// The decoded value of a path parameter, by its name in the route.
    ///
    /// What is not UTF-8 becomes U+FFFD: [`Request::path`] has what was sent.
    pub fn param(&self, name: &str) -> Option<&str> {
        let input = &self.scratch().input;
        self.scratch().params.get(name, &input.bytes[input.start..])
    }

    /// The path parameters, decoded: names and values, in the order of the route.
    pub fn params(&self) -> impl Iterator<Item = (&str, &str)> + Clone {
        let input = &self.scratch().input;
        self.scratch().params.iter(&input.bytes[input.start..])
    }

    /// The value of that type that the router's handlers share: see [`Router::state`](crate::Router::state).
    pub fn state<T: 'static>(&self) -> Option<&T> {
        self.scratch().states()?.get()
    }

    /// The template of the route that matched, such as `/users/{id}`, with the prefixes of nested routers: a label for
    /// metrics that has as many values as the program has routes. `None` where no route has the path.
    ///
    /// It is there for all middleware, before [`Next::run`](crate::middleware::Next::run) and after it.
    pub fn route(&self) -> Option<&'static str> {
        self.scratch().route.copied()
    }

    /// Values that middleware handed on with this request, by their types.
    pub fn extensions(&self) -> &Extensions {
        &self.scratch().extensions
    }

    /// Values to hand on with this request, by their types: to middleware further in, to the handler, and back.
    ///
    /// They are dropped once the answer has been sent, its body included. Memory is allocated with the first.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, Response, Router, middleware::Next};
    ///
    /// #[derive(Clone)]
    /// struct User(String);
    ///
    /// fn identify(request: &mut Request, next: Next<'_>) -> Response {
    ///     request.extensions_mut().insert(User("Ann".to_owned()));
    ///     next.run(request)
    /// }
    ///
    /// let router = Router::new().with(identify).get("/", |request: &mut Request| {
    ///     request.extensions().get::<User>().map(|user| format!("hello, {}", user.0))
    /// });
    /// let answer = router.answer(&mut Request::for_test("GET", "/"));
    /// assert_eq!(answer.into_text().unwrap(), "hello, Ann");
    /// ```
    pub fn extensions_mut(&mut self) -> &mut Extensions {
        self.exchange.scratch_mut().extensions_mut()
    }

    /// The HTTP version: 1.0, 1.1, or 2 with the feature `http2`.
    pub fn version(&self) -> Version {
        if self.exchange.is_apart() {
            Version::HTTP_2
        } else if self.head().http_11 {
            Version::HTTP_11
        } else {
            Version::HTTP_10
        }
    }

    /// Who sent it.
    pub fn peer(&self) -> &Peer {
        self.exchange.peer()
    }

    /// The client's address, if it came over TCP.
    pub fn peer_addr(&self) -> Option<SocketAddr> {
        match self.peer() {
            Peer::Tcp(address) => Some(*address),
            _ => None,
        }
    }

    /// The first value of a header field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let scratch = self.scratch();
        let head = &scratch.input.bytes[scratch.input.start..];
        let field = scratch
            .fields
            .iter()
            .find(|field| head[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))?;
        Some(&head[field.value.clone()])
    }

    /// The values of all header fields of a name, in any case, in their order.
    pub fn header_values(&self, name: &str) -> impl Iterator<Item = &[u8]> {
        let scratch = self.scratch();
        let head = &scratch.input.bytes[scratch.input.start..];
        let fields = scratch.fields.iter();
        let named = fields
            .filter(move |field| head[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()));
        named.map(|field| &head[field.value.clone()])
    }

    /// The first value of a header field, if it is UTF-8. So `None` does not tell that there is no such field.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// All header fields, made into a map at the first call.
    pub fn headers(&self) -> &HeaderMap {
        self.scratch().headers()
    }

    /// All header fields, for who keeps them beyond the request; [`headers`](Request::headers) has them again if it is asked.
    pub fn take_headers(&mut self) -> HeaderMap {
        self.exchange.scratch_mut().take_headers()
    }

    /// The request target, made into a [`Uri`] at the first call.
    ///
    /// Its path and query are those of [`Request::path`] and [`Request::query`], but of a `CONNECT`, whose [`Uri`] has an
    /// authority alone: what is no URI was answered with 400.
    pub fn uri(&self) -> &Uri {
        self.scratch().uri()
    }

    /// The body, to be read as it comes.
    ///
    /// A client that expects `100 Continue` is sent that at the first read. Errors carry a [`BodyError`].
    pub fn body(&mut self) -> BodyReader<'_> {
        BodyReader { request: self }
    }

    /// From now on the body may pause for as long as it likes, within the caller's deadline: for streams whose client speaks
    /// when it has something to say. Without, a pause longer than
    /// [`body_timeout`](crate::server::Builder::body_timeout) ends it.
    ///
    /// A client that never says anything holds a stack. Over HTTP/1.1, one that has vanished without a word is noticed by
    /// nobody.
    pub fn let_body_pause(&mut self) {
        self.exchange.scratch_mut().pace.pauses = true;
    }

    /// A token that is cancelled when the server begins to drain: for what waits for long, and is to end then. The
    /// request itself has until the end of [`drain_grace`](crate::server::Builder::drain_grace).
    ///
    /// # Examples
    /// ```
    /// use std::time::Duration;
    /// use maniple_server::{Request, Router};
    /// let router = Router::new().get("/news", |request: &mut Request| {
    ///     match request.drain_token().run(|| maniple::sleep(Duration::from_secs(20))) {
    ///         Ok(()) => "nothing new",
    ///         Err(_) => "ask again", // the server goes away
    ///     }
    /// });
    /// # let _ = router;
    /// ```
    pub fn drain_token(&self) -> maniple::cancel::CancelToken {
        self.exchange.drain_token()
    }

    /// The fields behind a body that came in chunks, once it has been read to its end; `None` before, and for other bodies.
    ///
    /// Fields that say how the message is to be read, such as `Content-Length`, or who asks, such as `Authorization`, are
    /// left out (RFC 9110, 6.5.1).
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{BodyError, Request, StatusCode};
    /// fn put(request: &mut Request) -> Result<StatusCode, BodyError> {
    ///     let body = request.read_body()?;
    ///     let sum = request.trailers().and_then(|fields| fields.get("x-sum").cloned());
    ///     # let _ = (body, sum);
    ///     Ok(StatusCode::NO_CONTENT)
    /// }
    /// # let _ = put;
    /// ```
    pub fn trailers(&self) -> Option<HeaderMap> {
        self.exchange.trailers()
    }

    /// Sends an answer before the final one, at once: `103 Early Hints`, most likely. Whether it was sent.
    ///
    /// It is not sent to clients that speak HTTP/1.0, nor where
    /// [`Builder::interim_responses`](crate::server::Builder::interim_responses) says so, nor for a request
    /// [for a test](Request::for_test).
    ///
    /// # Errors
    /// Kind `InvalidInput` if the status is not 1xx, or is 101; or if the connection has failed.
    ///
    /// # Examples
    /// ```
    /// use http::{HeaderMap, HeaderValue, header::LINK};
    /// use maniple_server::{Request, StatusCode};
    /// fn page(request: &mut Request) -> std::io::Result<String> {
    ///     let mut hints = HeaderMap::new();
    ///     hints.insert(LINK, HeaderValue::from_static("</style.css>; rel=preload; as=style"));
    ///     request.inform(StatusCode::EARLY_HINTS, &hints)?;
    ///     Ok("a page that takes long".to_owned())
    /// }
    /// assert!(page(&mut Request::for_test("GET", "/")).is_ok());
    /// ```
    pub fn inform(&mut self, status: StatusCode, headers: &HeaderMap) -> io::Result<bool> {
        if !is_interim(status) {
            let text = format!("{status} is no interim answer");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        self.exchange.inform(status, headers)
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is too large, malformed, late or incomplete.
    pub fn read_body(&mut self) -> Result<Bytes, BodyError> {
        let mut bytes = Vec::new();
        if let BodyState::Length(length) | BodyState::Expected(Framing::Length(length)) =
            self.scratch().body
        {
            // What a client claims is not yet reason to set memory aside.
            bytes.reserve(usize::try_from(length).unwrap_or(0).min(64 * 1024));
        }
        let mut buffer = [0; 4096];
        loop {
            match self.exchange.read_some(&mut buffer)? {
                0 => return Ok(bytes.into()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The whole body, if all of it came with the head: it is taken from there, and not copied.
    #[inline]
    pub(crate) fn with_body_at_hand<R>(&mut self, f: impl FnOnce(&[u8]) -> R) -> Option<R> {
        let at = self.exchange.take_body_at_hand()?;
        Some(f(&self.scratch().input.bytes[at]))
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// If it is not such JSON, or for what fails [`Request::read_body`].
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, BodyError> {
        if let Some(read) = self.with_body_at_hand(|body| serde_json::from_slice(body)) {
            return read.map_err(BodyError::Json);
        }
        let body = self.read_body()?;
        serde_json::from_slice(&body).map_err(BodyError::Json)
    }
}

fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Request");
        if self.exchange.is_busy() {
            debug
                .field("method", self.method())
                .field("path", &self.path());
        }
        debug.field("peer", self.peer()).finish_non_exhaustive()
    }
}

/// Reads a request's body; made by [`Request::body`].
#[derive(Debug)]
pub struct BodyReader<'a> {
    request: &'a mut Request,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.request.exchange.read_some(buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_encoding_is_decoded() {
        assert_eq!(decode_form("plain"), "plain");
        assert_eq!(decode_form("a+b%20c%2B"), "a b c+");
        assert_eq!(decode_form("%ff"), "\u{fffd}");
    }
}
