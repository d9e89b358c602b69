//! Responses, and what can be turned into one.

use std::{
    borrow::Cow,
    convert::Infallible,
    fmt,
    io::{self, Read},
};

use bytes::Bytes;
use cookie::Cookie;
use http::{
    HeaderMap, HeaderName, HeaderValue, StatusCode,
    header::{CONNECTION, CONTENT_TYPE, LOCATION, SET_COOKIE, UPGRADE},
};
use serde::Serialize;

use crate::{
    http1::{
        reference,
        response::{ContentType, HTML, JSON, OCTETS, TEXT},
    },
    problem::Problem,
    server::upgrade::{Takeover, Upgraded},
    source::{Plain, Source},
    writer::BodyWriter,
};

use maniple::{log_limit::LogLimit, log_within};

/// An answer to a request.
///
/// `Content-Length` or `Transfer-Encoding`, `Connection` and `Date` are written by the server; values
/// set for them here are ignored, but for `Connection: close`, which ends the connection, and for a
/// `Content-Length` where no body is sent that has one.
///
/// 204, 205 and 304 are sent without their body, and so is any answer to `HEAD`. Its `Content-Length` is
/// that of the body which the handler made; if it made none, then what it set, or else none. So it is with
/// 304. A 1xx status is not an answer: it is logged and sent as 500.
///
/// # Examples
/// ```
/// use maniple_server::{Response, StatusCode};
/// let response = Response::new(StatusCode::CREATED)
///     .with_header("location", "/things/7")
///     .with_body("made");
/// assert_eq!(response.status(), StatusCode::CREATED);
/// ```
#[derive(Debug)]
pub struct Response {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<&'static ContentType>,
    pub(crate) headers: Option<Box<HeaderMap>>,
    pub(crate) body: Body,
}

impl Response {
    /// An answer without a body.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            headers: None,
            body: Body::empty(),
        }
    }

    /// 200 with plain text.
    pub fn text(text: impl Into<Body>) -> Self {
        Self::of_type(&TEXT, text.into())
    }

    /// 200 with HTML.
    pub fn html(html: impl Into<Body>) -> Self {
        Self::of_type(&HTML, html.into())
    }

    /// 200 with `value` as JSON; 500 if it cannot be serialised.
    pub fn json(value: &impl Serialize) -> Self {
        match serde_json::to_vec(value) {
            Ok(json) => Self::of_type(&JSON, json.into()),
            Err(error) => Self::unserialisable(&error),
        }
    }

    /// In place of what could not be serialised.
    #[cold]
    pub(crate) fn unserialisable(error: &dyn fmt::Display) -> Self {
        static RATE: LogLimit = LogLimit::new(1);
        log_within!(RATE, error, "response could not be serialised: {error}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR)
    }

    /// 303, which sends the client there by `GET`: for the answer to a form that was posted.
    ///
    /// `place` is a URL, or a path of this server's; what may not stand in a URI is percent-encoded, so that any text may be
    /// given. Text that a client has sent may name another server (`//example.net`): look at it before.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::Response;
    /// let response = Response::see_other("/orders/7 a");
    /// assert_eq!(response.header("location"), Some("/orders/7%20a"));
    /// ```
    pub fn see_other(place: &str) -> Self {
        Self::redirect(StatusCode::SEE_OTHER, place)
    }

    /// 307, which sends the client there for this time, with the same method and body. See [`Response::see_other`].
    pub fn temporary_redirect(place: &str) -> Self {
        Self::redirect(StatusCode::TEMPORARY_REDIRECT, place)
    }

    /// 308, which sends the client there for good, with the same method and body. Browsers keep it without an end unless
    /// `Cache-Control` says otherwise. See [`Response::see_other`].
    ///
    /// Not 301, after which clients do different things with methods and bodies.
    pub fn permanent_redirect(place: &str) -> Self {
        Self::redirect(StatusCode::PERMANENT_REDIRECT, place)
    }

    fn redirect(status: StatusCode, place: &str) -> Self {
        let mut response = Self::new(status);
        response
            .headers_mut()
            .insert(LOCATION, reference::value(place));
        response
    }

    /// 101, and the connection for `f`: from then on the bytes are those of another protocol.
    ///
    /// `f` runs in the connection's coroutine once the answer has left, and may hand the connection on; see [`Upgraded`]
    /// for what it can do with it, and for what a drain does. A panic in it is logged and ends the connection.
    ///
    /// The client must have asked for the protocol: HTTP/1.1, `Connection: upgrade`, and the protocol's name among those of
    /// `Upgrade`. If it has not, it is answered 426 with the name of the protocol, and `f` is dropped. What is left of the
    /// request's body is read away before; if there is too much of it, the answer is 413.
    ///
    /// # Panics
    /// If the protocol's name is not allowed in a header.
    ///
    /// # Examples
    /// ```
    /// use std::io::{Read, Write};
    /// use maniple_server::{Request, Response};
    /// fn echo(_: &mut Request) -> Response {
    ///     Response::upgrade("echo", |mut connection| {
    ///         let mut bytes = [0; 1024];
    ///         while let Ok(count @ 1..) = connection.read(&mut bytes) {
    ///             if connection.write_all(&bytes[..count]).is_err() {
    ///                 break;
    ///             }
    ///         }
    ///     })
    ///     .with_header("x-greeting", "hello")
    /// }
    /// # let _ = echo;
    /// ```
    #[track_caller]
    pub fn upgrade(protocol: &str, f: impl FnOnce(Upgraded) + Send + 'static) -> Self {
        Self::taken_over(StatusCode::SWITCHING_PROTOCOLS, f).with_header(UPGRADE.as_str(), protocol)
    }

    /// 200 to a `CONNECT`, and the connection for `f`: from then on its bytes are the tunnel's.
    ///
    /// It hands over like [`Response::upgrade`], for a handler of [`Router::connect`](crate::Router::connect). In answer to
    /// any other method it is logged and sent as 500.
    ///
    /// # Examples
    /// A proxy that leads to one place:
    /// ```
    /// use maniple::{io::copy, net::{Shutdown, TcpStream}};
    /// use maniple_server::{IntoResponse, Request, Response, Router, StatusCode};
    ///
    /// fn tunnel(request: &mut Request) -> Response {
    ///     if request.path() != "db.internal:5432" {
    ///         return StatusCode::FORBIDDEN.into_response();
    ///     }
    ///     let Ok(upstream) = TcpStream::connect(request.path()) else {
    ///         return StatusCode::BAD_GATEWAY.into_response();
    ///     };
    ///     Response::tunnel(move |connection| {
    ///         let (mut reader, mut writer) = connection.split();
    ///         let mut there = || {
    ///             copy(&mut reader, &mut &upstream)?;
    ///             upstream.shutdown(Shutdown::Write)
    ///         };
    ///         let mut back = || {
    ///             copy(&mut &upstream, &mut writer)?;
    ///             writer.shutdown()
    ///         };
    ///         // The first error of either direction ends the other.
    ///         let _ = maniple::try_join!(there(), back());
    ///     })
    /// }
    /// let router = Router::new().connect(tunnel);
    /// # let _ = router;
    /// ```
    pub fn tunnel(f: impl FnOnce(Upgraded) + Send + 'static) -> Self {
        Self::taken_over(StatusCode::OK, f)
    }

    fn taken_over(status: StatusCode, f: impl FnOnce(Upgraded) + Send + 'static) -> Self {
        let kind = BodyKind::Takeover(Box::new(f));
        Self {
            body: Body { kind },
            ..Self::new(status)
        }
    }

    /// Whether the connection is to be handed over.
    pub(crate) fn is_takeover(&self) -> bool {
        matches!(self.body.kind, BodyKind::Takeover(_))
    }

    #[inline]
    fn of_type(content_type: &'static ContentType, body: Body) -> Self {
        Self {
            status: StatusCode::OK,
            content_type: Some(content_type),
            headers: None,
            body,
        }
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// The first value of a header field, if it is text; the server's own fields are not there yet.
    ///
    /// # Examples
    /// ```
    /// let response = maniple_server::Response::text("hello");
    /// assert_eq!(response.header("content-type"), Some("text/plain; charset=utf-8"));
    /// ```
    pub fn header(&self, name: &str) -> Option<&str> {
        if let Some(content_type) = self.content_type
            && name.eq_ignore_ascii_case(CONTENT_TYPE.as_str())
        {
            return Some(content_type.value);
        }
        self.headers.as_ref()?.get(name)?.to_str().ok()
    }

    /// The whole body, of a reader what it gives, of a function what it writes, for which the request has no body: to see in
    /// a test what a handler answers.
    ///
    /// # Errors
    /// That of the reader or the function.
    pub fn into_bytes(self) -> io::Result<Bytes> {
        match self.body.kind {
            BodyKind::Static(bytes) => Ok(Bytes::from_static(bytes)),
            BodyKind::Owned(bytes) => Ok(bytes.into()),
            BodyKind::Shared(bytes) => Ok(bytes),
            BodyKind::Takeover(_) => Ok(Bytes::new()),
            BodyKind::Writer { write, .. } => {
                let mut bytes = Vec::new();
                write(&mut io::empty(), &mut BodyWriter::new(&mut bytes))?;
                Ok(bytes.into())
            }
            BodyKind::Problem(problem) => Ok(problem.line().to_owned().into()),
            BodyKind::Reader { mut reader, .. } => {
                let mut bytes = Vec::new();
                reader.read_to_end(&mut bytes)?;
                Ok(bytes.into())
            }
        }
    }

    /// The whole body as text; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// That of the reader.
    pub fn into_text(self) -> io::Result<String> {
        let bytes = self.into_bytes()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The same with another status.
    pub fn with_status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }

    /// The same with a header field set.
    ///
    /// # Panics
    /// If name or value is not allowed in a header (CR and LF are not, so nothing can be injected). Use
    /// [`Response::headers_mut`] for names and values that are not the program's own.
    #[track_caller]
    pub fn with_header(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes())
            .unwrap_or_else(|_| panic!("not a header name: {name:?}"));
        let value = HeaderValue::from_str(value)
            .unwrap_or_else(|_| panic!("not a header value: {value:?}"));
        self.headers_mut().insert(name, value);
        self
    }

    /// The same with a cookie to be set, beside others. See [`Cookies`](crate::extract::Cookies) for an example.
    ///
    /// To have the client forget one, set it anew with `Cookie::make_removal`, and the path and domain that it has.
    ///
    /// # Panics
    /// If its name or a value is not allowed in a header. Names and values are not encoded.
    #[track_caller]
    pub fn with_cookie<'c>(mut self, cookie: impl Into<Cookie<'c>>) -> Self {
        let cookie = cookie.into().to_string();
        let value = HeaderValue::from_str(&cookie)
            .unwrap_or_else(|_| panic!("not a header value: {cookie:?}"));
        self.headers_mut().append(SET_COOKIE, value);
        self
    }

    /// The same with another body.
    pub fn with_body(mut self, body: impl Into<Body>) -> Self {
        self.body = body.into();
        self
    }

    /// Whether dropping it runs code that is not ours: shared bytes have an owner, and so may a field's value.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.headers.is_some() || self.body.is_foreign()
    }

    /// Whether the handler set `Connection: close`.
    #[cold]
    pub(crate) fn asks_to_close(&self) -> bool {
        self.headers
            .iter()
            .flat_map(|headers| headers.get_all(CONNECTION))
            .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
            .any(|option| option.trim_ascii().eq_ignore_ascii_case(b"close"))
    }

    /// What it tells its client of what is wrong, if nobody has given that a form: it is one, or a status of 4xx or 5xx
    /// without a body.
    pub(crate) fn problem(&self) -> Option<Cow<'_, Problem>> {
        match &self.body.kind {
            BodyKind::Problem(problem) => Some(Cow::Borrowed(problem)),
            BodyKind::Static(b"") if self.content_type.is_none() => self.bare_problem(),
            _ => None,
        }
    }

    fn bare_problem(&self) -> Option<Cow<'_, Problem>> {
        let status = self.status;
        if !status.is_client_error() && !status.is_server_error() {
            return None;
        }
        let reason = status.canonical_reason().unwrap_or("error").to_lowercase();
        Some(Cow::Owned(Problem::new(status, reason)))
    }

    /// The same in that form: with its fields, and the status of this if it has none of its own.
    pub(crate) fn in_form(mut self, mut form: Response) -> Self {
        if form.status == StatusCode::OK {
            form.status = self.status;
        }
        if self.headers.is_some() {
            self.headers_mut().remove(CONTENT_TYPE);
            for (name, value) in self.headers_mut().drain() {
                if let Some(name) = name
                    && !form.headers_mut().contains_key(&name)
                {
                    form.headers_mut().insert(name, value);
                }
            }
        }
        form
    }

    /// The header fields, for reading and changing.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        let content_type = self.content_type.take();
        let headers = self.headers.get_or_insert_default();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type.value));
        }
        headers
    }
}

/// The body of a response: bytes, or a reader that is sent as it is read.
pub struct Body {
    pub(crate) kind: BodyKind,
}

pub(crate) enum BodyKind {
    Static(&'static [u8]),
    Owned(Vec<u8>),
    Shared(Bytes),
    Reader {
        reader: Box<dyn Source>,
        length: Option<u64>,
    },
    /// What the function writes, which is lent the request's body.
    Writer {
        write: Write,
        length: Option<u64>,
    },
    /// None: the connection is to be handed over.
    Takeover(Takeover),
    /// A line of text, unless there is another form for all of them.
    Problem(Box<Problem>),
}

/// A function that writes a body, and may read that of the request meanwhile.
pub(crate) type Write =
    Box<dyn FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()> + Send>;

impl Body {
    /// No bytes.
    pub const fn empty() -> Self {
        Self {
            kind: BodyKind::Static(b""),
        }
    }

    /// What `reader` gives, of unknown length: sent in chunks. An error of the reader breaks the
    /// connection off, so that the client sees that the body is incomplete.
    pub fn from_reader(reader: impl Read + Send + 'static) -> Self {
        Self {
            kind: BodyKind::Reader {
                reader: Box::new(Plain(reader)),
                length: None,
            },
        }
    }

    /// The first `length` bytes that `reader` gives; fewer break the connection off.
    pub fn from_sized_reader(reader: impl Read + Send + 'static, length: u64) -> Self {
        Self::from_source(Plain(reader.take(length)), length)
    }

    /// What a source gives, which is of that length.
    pub(crate) fn from_source(source: impl Source + 'static, length: u64) -> Self {
        Self {
            kind: BodyKind::Reader {
                reader: Box::new(source),
                length: Some(length),
            },
        }
    }

    /// What `write` writes, of unknown length: sent in chunks, as [`Flush`](crate::Flush) says. It is called once the head is
    /// on its way, in the connection's coroutine, and may wait.
    ///
    /// An error of the function, or a panic, breaks the connection off, so that the client sees that the body is
    /// incomplete.
    ///
    /// # Examples
    /// ```
    /// use std::io::Write;
    /// use maniple_server::{Body, Request, Response};
    /// fn count(_: &mut Request) -> Response {
    ///     Response::text(Body::from_fn(|out| {
    ///         for number in 1..=3 {
    ///             writeln!(out, "{number}")?;
    ///             maniple::sleep(std::time::Duration::from_millis(5)); // it leaves meanwhile
    ///         }
    ///         Ok(())
    ///     }))
    /// }
    /// let answer = count(&mut Request::for_test("GET", "/"));
    /// assert_eq!(answer.into_text().unwrap(), "1\n2\n3\n");
    /// ```
    pub fn from_fn(
        write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::written(None, |_, out| write(out))
    }

    /// A body like [`Body::from_fn`]'s, with a length that the client is told. Fewer bytes break the connection off; a write beyond
    /// them is an error of kind `InvalidInput`.
    pub fn from_sized_fn(
        length: u64,
        write: impl FnOnce(&mut BodyWriter<'_>) -> io::Result<()> + Send + 'static,
    ) -> Self {
        Self::written(Some(length), |_, out| write(out))
    }

    /// A body like [`Body::from_fn`]'s, with what is left of the request's body to read meanwhile: an echo, or a proxy. A
    /// client that does not take what is written has the function wait, and so is no longer read from.
    ///
    /// Clients that send all before they read anything, as many do, stand still once what is between is full: the answer
    /// is then cut after `body_timeout`. Errors of the reader carry a [`BodyError`](crate::BodyError). A client
    /// that expects `100 Continue` is sent it before the head.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Body, Request, Response, Router};
    /// let router = Router::new().post("/echo", |_: &mut Request| {
    ///     Response::new(http::StatusCode::OK).with_body(Body::duplex(|request, out| {
    ///         maniple::io::copy(request, out).map(drop)
    ///     }))
    /// });
    /// # let _ = router;
    /// ```
    pub fn duplex(
        write: impl FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()>
        + Send
        + 'static,
    ) -> Self {
        Self::written(None, write)
    }

    pub(crate) fn written(
        length: Option<u64>,
        write: impl FnOnce(&mut (dyn Read + Send), &mut BodyWriter<'_>) -> io::Result<()>
        + Send
        + 'static,
    ) -> Self {
        let write = Box::new(write);
        Self {
            kind: BodyKind::Writer { write, length },
        }
    }

    /// The bytes, or itself if they are still to be made.
    pub(crate) fn into_at_hand(self) -> Result<Bytes, Self> {
        match self.kind {
            BodyKind::Static(bytes) => Ok(Bytes::from_static(bytes)),
            BodyKind::Owned(bytes) => Ok(bytes.into()),
            BodyKind::Shared(bytes) => Ok(bytes),
            BodyKind::Problem(problem) => Ok(problem.line().to_owned().into()),
            BodyKind::Takeover(_) => Ok(Bytes::new()),
            BodyKind::Reader { .. } | BodyKind::Writer { .. } => Err(self),
        }
    }

    /// Whether it is made while it is sent.
    #[cold]
    pub(crate) fn is_streamed(&self) -> bool {
        matches!(self.kind, BodyKind::Reader { .. } | BodyKind::Writer { .. })
    }

    /// Whether what makes it may read the request's body meanwhile.
    #[cold]
    pub(crate) fn may_read(&self) -> bool {
        matches!(self.kind, BodyKind::Writer { .. })
    }

    /// Whether there is memory to give back, and no more.
    #[inline]
    pub(crate) fn is_owned(&self) -> bool {
        matches!(self.kind, BodyKind::Owned(_))
    }

    /// Whether dropping it runs code that is not ours.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        !matches!(self.kind, BodyKind::Static(_) | BodyKind::Owned(_))
    }

    /// The bytes, unless it is a reader.
    #[inline]
    pub(crate) fn bytes(&self) -> Option<&[u8]> {
        match &self.kind {
            BodyKind::Static(bytes) => Some(bytes),
            BodyKind::Owned(bytes) => Some(bytes),
            BodyKind::Shared(bytes) => Some(bytes),
            BodyKind::Problem(problem) => Some(problem.line().as_bytes()),
            BodyKind::Reader { .. } | BodyKind::Writer { .. } | BodyKind::Takeover(_) => None,
        }
    }
}

impl fmt::Debug for Body {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.bytes() {
            Some(bytes) => write!(f, "Body({} bytes)", bytes.len()),
            None => f.write_str(match self.kind {
                BodyKind::Takeover(_) => "Body(takes the connection over)",
                BodyKind::Writer { .. } => "Body(function)",
                _ => "Body(reader)",
            }),
        }
    }
}

impl From<&'static str> for Body {
    fn from(text: &'static str) -> Self {
        text.as_bytes().into()
    }
}

impl From<&'static [u8]> for Body {
    fn from(bytes: &'static [u8]) -> Self {
        Self {
            kind: BodyKind::Static(bytes),
        }
    }
}

impl From<String> for Body {
    fn from(text: String) -> Self {
        text.into_bytes().into()
    }
}

impl From<Cow<'static, str>> for Body {
    fn from(text: Cow<'static, str>) -> Self {
        match text {
            Cow::Borrowed(text) => text.into(),
            Cow::Owned(text) => text.into(),
        }
    }
}

impl From<Vec<u8>> for Body {
    fn from(bytes: Vec<u8>) -> Self {
        Self {
            kind: BodyKind::Owned(bytes),
        }
    }
}

impl From<Bytes> for Body {
    fn from(bytes: Bytes) -> Self {
        Self {
            kind: BodyKind::Shared(bytes),
        }
    }
}

/// What a handler may return.
///
/// Text is sent as `text/plain; charset=utf-8`, bytes as `application/octet-stream`, a bare status
/// without a body; a `Result` is whichever of the two it holds, and `None` is 404.
///
/// # Examples
/// ```
/// use maniple_server::{IntoResponse, StatusCode};
/// assert_eq!("hello".into_response().status(), StatusCode::OK);
/// assert_eq!((StatusCode::CONFLICT, "taken").into_response().status(), StatusCode::CONFLICT);
/// ```
pub trait IntoResponse {
    /// The response.
    fn into_response(self) -> Response;
}

impl IntoResponse for Response {
    #[inline]
    fn into_response(self) -> Response {
        self
    }
}

impl IntoResponse for () {
    fn into_response(self) -> Response {
        Response::new(StatusCode::OK)
    }
}

impl IntoResponse for Infallible {
    fn into_response(self) -> Response {
        match self {}
    }
}

impl IntoResponse for StatusCode {
    fn into_response(self) -> Response {
        Response::new(self)
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = self.status();
        let kind = BodyKind::Problem(Box::new(self));
        Response::of_type(&TEXT, Body { kind }).with_status(status)
    }
}

impl Problem {
    /// As `application/problem+json` (RFC 9457): `type` if it has one, `title`, `status`, `detail` and, of what part of
    /// the request it is about, `field`.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Problem, StatusCode};
    /// let answer = Problem::new(StatusCode::CONFLICT, "taken").with_field("name").to_json();
    /// assert_eq!(answer.header("content-type"), Some("application/problem+json"));
    /// let text = answer.into_text().unwrap();
    /// assert_eq!(text, r#"{"title":"Conflict","status":409,"detail":"taken","field":"name"}"#);
    /// ```
    pub fn to_json(&self) -> Response {
        Response::json(&self.members())
            .with_status(self.status())
            .with_header(CONTENT_TYPE.as_str(), "application/problem+json")
    }
}

macro_rules! of_type {
    ($($from:ty => $content_type:ident),* $(,)?) => {$(
        impl IntoResponse for $from {
            #[inline]
            fn into_response(self) -> Response {
                Response::of_type(&$content_type, self.into())
            }
        }
    )*};
}

of_type!(
    &'static str => TEXT,
    String => TEXT,
    Cow<'static, str> => TEXT,
    &'static [u8] => OCTETS,
    Vec<u8> => OCTETS,
    Bytes => OCTETS,
);

impl<R: IntoResponse> IntoResponse for (StatusCode, R) {
    fn into_response(self) -> Response {
        self.1.into_response().with_status(self.0)
    }
}

impl<T: IntoResponse, E: IntoResponse> IntoResponse for Result<T, E> {
    fn into_response(self) -> Response {
        match self {
            Ok(value) => value.into_response(),
            Err(error) => error.into_response(),
        }
    }
}

impl<T: IntoResponse> IntoResponse for Option<T> {
    fn into_response(self) -> Response {
        match self {
            Some(value) => value.into_response(),
            None => Response::new(StatusCode::NOT_FOUND),
        }
    }
}

/// A value that is sent as JSON; and a JSON body, as [the argument of a handler](crate::extract).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Json<T>(pub T);

impl<T: Serialize> IntoResponse for Json<T> {
    fn into_response(self) -> Response {
        Response::json(&self.0)
    }
}

/// Text that is sent as HTML.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Html<T>(pub T);

impl<T: Into<Body>> IntoResponse for Html<T> {
    fn into_response(self) -> Response {
        Response::html(self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_become_responses_of_their_type() {
        assert_eq!("a".into_response().content_type, Some(&TEXT));
        assert_eq!(vec![1u8].into_response().content_type, Some(&OCTETS));
        assert_eq!(Json([1]).into_response().body.bytes(), Some(&b"[1]"[..]));
        assert_eq!(Html("<p>").into_response().content_type, Some(&HTML));
        assert_eq!(None::<&str>.into_response().status, StatusCode::NOT_FOUND);
        let failed: Result<&str, StatusCode> = Err(StatusCode::BAD_GATEWAY);
        assert_eq!(failed.into_response().status, StatusCode::BAD_GATEWAY);
    }

    #[test]
    fn a_header_of_the_handlers_replaces_the_content_type() {
        let mut response = "a".into_response().with_header("content-type", "text/css");
        assert_eq!(response.content_type, None);
        assert_eq!(response.headers_mut()["content-type"], "text/css");
    }

    #[test]
    #[should_panic(expected = "not a header value")]
    fn headers_cannot_be_injected() {
        let _ = Response::new(StatusCode::OK).with_header("a", "b\r\nc: d");
    }
}
