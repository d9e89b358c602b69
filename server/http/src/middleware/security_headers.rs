//! Fields that have browsers be careful with an answer.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::chain::{Middleware, Next};
use crate::{request::Request, response::Response};

/// Adds to each answer the fields that have browsers be careful with it; a field that the handler set stays.
///
/// By default: `X-Content-Type-Options: nosniff` (the type is what it says), `X-Frame-Options: DENY` (no page of
/// another site shows it), `Referrer-Policy: no-referrer`, `Cross-Origin-Opener-Policy: same-origin`, and
/// `Content-Security-Policy: default-src 'self'; frame-ancestors 'none'`. `Strict-Transport-Security` is not among
/// them: it is a promise for years that all is served over TLS; add it with [`SecurityHeaders::set`].
///
/// # Examples
/// ```
/// use maniple_server::{Html, Request, Router, middleware::SecurityHeaders};
/// let headers = SecurityHeaders::new()
///     .set("strict-transport-security", "max-age=31536000")
///     .without("x-frame-options");
/// let router = Router::new().with(headers).get("/", |_: &mut Request| Html("<p>hello"));
/// let answer = router.answer(&mut Request::for_test("GET", "/"));
/// assert_eq!(answer.header("x-content-type-options"), Some("nosniff"));
/// assert_eq!(answer.header("x-frame-options"), None);
/// ```
#[derive(Clone, Debug)]
pub struct SecurityHeaders {
    fields: HeaderMap,
}

impl Default for SecurityHeaders {
    fn default() -> Self {
        Self::new()
    }
}

impl SecurityHeaders {
    /// The defaults.
    pub fn new() -> Self {
        let fields = [
            ("x-content-type-options", "nosniff"),
            ("x-frame-options", "DENY"),
            ("referrer-policy", "no-referrer"),
            ("cross-origin-opener-policy", "same-origin"),
            (
                "content-security-policy",
                "default-src 'self'; frame-ancestors 'none'",
            ),
        ];
        let field = |(name, value)| {
            let name = HeaderName::from_static(name);
            (name, HeaderValue::from_static(value))
        };
        Self {
            fields: fields.into_iter().map(field).collect(),
        }
    }

    /// Sets a field, in place of the default.
    ///
    /// # Panics
    /// If name or value is not allowed in a header.
    #[track_caller]
    pub fn set(mut self, name: &str, value: &str) -> Self {
        let name = HeaderName::from_bytes(name.as_bytes())
            .unwrap_or_else(|_| panic!("not a header name: {name:?}"));
        let value = HeaderValue::from_str(value)
            .unwrap_or_else(|_| panic!("not a header value: {value:?}"));
        self.fields.insert(name, value);
        self
    }

    /// Leaves a field out.
    pub fn without(mut self, name: &str) -> Self {
        self.fields.remove(name);
        self
    }
}

impl Middleware for SecurityHeaders {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let mut response = next.run(request);
        let headers = response.headers_mut();
        for (name, value) in &self.fields {
            headers.entry(name).or_insert_with(|| value.clone());
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::router::Router;

    #[test]
    fn a_field_of_the_handlers_stays() {
        let router = Router::new()
            .with(SecurityHeaders::new())
            .get("/", |_: &mut Request| {
                Response::text("hello").with_header("X-Frame-Options", "SAMEORIGIN")
            });
        let answer = router.answer(&mut Request::for_test("GET", "/"));
        assert_eq!(answer.header("x-frame-options"), Some("SAMEORIGIN"));
        assert_eq!(answer.header("referrer-policy"), Some("no-referrer"));
        assert_eq!(
            answer.header("content-type"),
            Some("text/plain; charset=utf-8")
        );
    }
}
