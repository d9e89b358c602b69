//! Responses: status, header fields, and where their bodies are.

mod body;
mod fields;
mod into;

use std::{
    borrow::Cow,
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
        response::{ContentType, Extra, HTML, JSON, TEXT},
    },
    id::{self, Id},
    problem::Problem,
    server::upgrade::Upgraded,
    writer::BodyWriter,
};

use maniple::{log_limit::LogLimit, log_within};

use fields::{Boxed, Fields};

pub use body::Body;
pub(crate) use body::{BodyKind, Write};
pub use into::{Html, IntoResponse, Json};

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
    fields: Boxed,
    pub(crate) body: Body,
}

impl Response {
    /// An answer without a body.
    pub fn new(status: StatusCode) -> Self {
        Self {
            status,
            content_type: None,
            fields: Boxed::NONE,
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
            fields: Boxed::NONE,
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
        let fields = self.fields.as_ref()?;
        if let Some(id) = &fields.id
            && name.eq_ignore_ascii_case(id::FIELD.as_str())
        {
            return Some(id.text());
        }
        fields.map.get(name)?.to_str().ok()
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

    /// Sets the field with the request's id, in place of one that is there: without a map of fields where there is none.
    #[inline]
    pub(crate) fn set_id(&mut self, id: Id) {
        let fields = self.fields.made();
        match fields.map.is_empty() {
            true => fields.id = Some(id),
            false => _ = fields.map.insert(id::FIELD, id.value()),
        }
    }

    /// All fields but the type.
    #[inline]
    pub(crate) fn extra(&self) -> Extra<'_> {
        match &*self.fields {
            None => Extra::NONE,
            Some(fields) => Extra {
                map: Some(&fields.map).filter(|map| !map.is_empty()),
                id: fields.id.as_ref(),
            },
        }
    }

    /// The header fields, but for the type and the id that are kept apart.
    #[inline]
    pub(crate) fn map(&self) -> Option<&HeaderMap> {
        self.fields.as_ref().map(|fields| &fields.map)
    }

    /// That map, and the body to be sent with it.
    pub(crate) fn map_and_body(&mut self) -> (Option<&HeaderMap>, &mut BodyKind) {
        let map = self.fields.as_ref().map(|fields| &fields.map);
        (map, &mut self.body.kind)
    }

    /// Whether there are no fields beside the type and the id, and all of it is at hand and ours.
    #[inline]
    pub(crate) fn is_plain(&self) -> bool {
        !self.body.is_foreign() && self.extra().map.is_none()
    }

    /// Whether dropping it runs code that is not ours: shared bytes have an owner, and so may a field's value.
    #[inline]
    pub(crate) fn is_foreign(&self) -> bool {
        self.fields.is_some() || self.body.is_foreign()
    }

    /// Whether the handler set `Connection: close`.
    #[cold]
    pub(crate) fn asks_to_close(&self) -> bool {
        self.map()
            .into_iter()
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
        if self.fields.is_some() {
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

    /// The same, with fields behind a body that is there already. A function that writes one adds its own, by
    /// [`BodyWriter::trailer`](crate::BodyWriter::trailer).
    ///
    /// They are sent over HTTP/2; in HTTP/1.1 they are left out, since the length of such a body is told.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{HeaderMap, HeaderValue, Response, StatusCode};
    /// let mut trailers = HeaderMap::new();
    /// trailers.insert("x-sum", HeaderValue::from_static("7"));
    /// let response = Response::new(StatusCode::OK).with_body("bytes").with_trailers(trailers);
    /// # let _ = response;
    /// ```
    pub fn with_trailers(mut self, trailers: HeaderMap) -> Self {
        let fields = self.fields.made();
        fields.trailers = (!trailers.is_empty()).then(|| Box::new(trailers));
        self
    }

    /// The same, whose head waits for the first bytes of a body that a function writes, for the function to add fields by
    /// [`BodyWriter::headers_mut`](crate::BodyWriter::headers_mut). It leaves at a flush, too.
    ///
    /// It is so over HTTP/2. In HTTP/1.1 the head leaves first.
    pub fn with_late_head(mut self) -> Self {
        self.fields.made().is_late = true;
        self
    }

    #[cfg(feature = "http2")]
    pub(crate) fn has_trailers(&self) -> bool {
        let fields = self.fields.as_ref();
        fields.is_some_and(|fields| fields.trailers.is_some())
    }

    #[cfg(feature = "http2")]
    pub(crate) fn take_trailers(&mut self) -> Option<HeaderMap> {
        let trailers = self.fields.as_mut()?.trailers.take()?;
        Some(*trailers)
    }

    #[cfg(feature = "http2")]
    pub(crate) fn has_late_head(&self) -> bool {
        self.fields.as_ref().is_some_and(|fields| fields.is_late)
    }

    /// The header fields, for reading and changing.
    pub fn headers_mut(&mut self) -> &mut HeaderMap {
        let content_type = self.content_type.take();
        let Fields {
            map: headers, id, ..
        } = self.fields.made();
        if let Some(content_type) = content_type {
            headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type.value));
        }
        if let Some(id) = id.take() {
            headers.insert(id::FIELD, id.value());
        }
        headers
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
