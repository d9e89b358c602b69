//! What answers a request.

use crate::{
    request::Request,
    response::{IntoResponse, Response},
};

/// Answers requests: any `Fn(&mut Request) -> impl IntoResponse` that threads can share.
///
/// It runs on the connection's coroutine, as plain blocking code. A panic is answered with 500 and ends
/// the connection, not the server.
pub trait Handler: Send + Sync + 'static {
    /// Answers one request.
    fn call(&self, request: &mut Request) -> Response;
}

impl<F, R> Handler for F
where
    F: Fn(&mut Request) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    #[inline]
    fn call(&self, request: &mut Request) -> Response {
        self(request).into_response()
    }
}
