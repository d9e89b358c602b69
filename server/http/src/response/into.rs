//! What can be turned into a response.

use std::{borrow::Cow, convert::Infallible};

use bytes::Bytes;
use http::{StatusCode, header::CONTENT_TYPE};
use serde::Serialize;

use crate::{
    http1::response::{OCTETS, TEXT},
    problem::Problem,
    response::{Body, BodyKind, Response},
};

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
    use crate::http1::response::HTML;

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
}
