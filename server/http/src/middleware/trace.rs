//! The trace that each request belongs to, taken over or begun.

use super::chain::{Middleware, Next};
use crate::{
    request::Request,
    response::Response,
    trace_context::{Entered, TraceContext},
};

/// Takes over the trace that a request belongs to by its `traceparent` and `tracestate` (W3C Trace Context), or begins
/// one.
///
/// While the request is answered [`trace_context`](super::trace_context) has it, in the coroutine that answers and in those
/// which that spawns, so a logger can put it into each line. Requests that a [`Client`](crate::Client) sends there, or a
/// [`Proxy`](crate::Proxy) passes on, carry it on, each with an id of its own; one that has a `traceparent` of its caller's
/// keeps that.
///
/// A field that is not valid, or is there twice, begins a new trace, and so does version `ff`; of versions to come what is
/// known is read. Of `tracestate` 32 members and 512 bytes are handed on, and nothing if it is malformed or has more members.
/// Nothing is recorded or sent to a collector; a span of OpenTelemetry takes
/// [`TraceContext::parent`] for its parent, as the book's chapter on locks shows.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::{Trace, trace_context}};
///
/// let router = Router::new().with(Trace::new()).get("/", |_: &mut Request| {
///     let trace = trace_context().unwrap();
///     log::info!("trace_id={} hello", trace.trace_id());
///     trace.trace_id()
/// });
/// let mut request = Request::for_test("GET", "/")
///     .with_header("traceparent", "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01");
/// let answer = router.answer(&mut request).into_text().unwrap();
/// assert_eq!(answer, "4bf92f3577b34da6a3ce929d0e0e4736");
/// ```
#[derive(Clone, Debug, Default)]
pub struct Trace {
    ignores_clients: bool,
}

impl Trace {
    /// Takes traces over.
    pub fn new() -> Self {
        Self::default()
    }

    /// Whether traces of clients are taken over. Default: yes. Without a proxy in front that sets or removes the fields,
    /// anybody can put requests into a trace: then no.
    pub fn trust_clients(mut self, trusts: bool) -> Self {
        self.ignores_clients = !trusts;
        self
    }
}

impl Middleware for Trace {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let context = match self.ignores_clients {
            true => TraceContext::of(&http::HeaderMap::new()),
            false => TraceContext::of(request.headers()),
        };
        let _entered = Entered::into(context);
        next.run(request)
    }
}
