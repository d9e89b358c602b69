//! Bodies of some routes are shorter than the server allows.

use super::chain::{Middleware, Next};
use crate::{
    request::Request,
    response::{IntoResponse, Response},
};

/// Bounds the bodies of requests around which it is, below what they may have without it: see
/// [`Router::max_body_bytes`](crate::Router::max_body_bytes), which raises the limit of a route too.
///
/// A body whose length was told is answered 413 before anything of it is read, and before `100 Continue` is sent; one in
/// chunks when it goes beyond. Of several the least counts. Of a compressed body it bounds what travels;
/// [`Decompression`](super::Decompression) bounds what comes out.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, Route, StatusCode, middleware::BodyLimit};
///
/// let login = Router::new()
///     .with(BodyLimit::new(1024))
///     .post("/login", |request: &mut Request| request.read_body().map(|_| "welcome"));
///
/// let mut long = Request::for_test("POST", "/login").with_body(vec![b'x'; 1025]);
/// assert_eq!(login.answer(&mut long).status(), StatusCode::PAYLOAD_TOO_LARGE);
/// ```
#[derive(Clone, Copy, Debug)]
pub struct BodyLimit {
    bytes: u64,
}

impl BodyLimit {
    /// At most so many bytes.
    pub fn new(bytes: u64) -> Self {
        Self { bytes }
    }
}

impl Middleware for BodyLimit {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match request.exchange.limit_body(self.bytes) {
            Ok(()) => next.run(request),
            Err(error) => error.into_response(),
        }
    }
}
