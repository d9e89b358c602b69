//! The chain around a handler: functions, each of which is given the rest of it.
//!
//! A chain is two slices that the router made when it was built, and the handler behind them. [`Next`] is a view of what
//! is left, on the stack, so a request allocates nothing for it.

use std::{fmt, sync::Arc, time::Duration};

use http::StatusCode;

use super::refused::Refused;
use crate::{
    problem::Problem,
    request::Request,
    response::{IntoResponse, Response},
    router::handler::Handler,
};

/// What is done around handlers: any `Fn(&mut Request, Next) -> impl IntoResponse` that threads can share.
///
/// It may look at the request and change what later ones see of it ([`Request::extensions_mut`]), call the
/// rest of the chain with [`Next::run`] and look at or change its answer, or answer by itself. It is plain blocking code
/// on the connection's coroutine, like the handler. A panic in it is answered as one in the handler: with 500, and the
/// end of the connection.
///
/// It is put around all routes of a router by [`Router::with`](crate::Router::with), and around those of one path by
/// [`Route::with`](crate::Route::with). The first that was added is the outermost: it sees the request first and the
/// answer last. All of a router's are outside of those of routers that are nested in it, and these outside of a route's.
///
/// A middleware with settings is a type that implements this trait.
///
/// # Examples
/// ```
/// use maniple_server::{IntoResponse, Request, Response, Router, StatusCode, middleware::Next};
///
/// fn timed(request: &mut Request, next: Next<'_>) -> Response {
///     let began = std::time::Instant::now();
///     let response = next.run(request);
///     let route = request.route().unwrap_or("none");
///     log::info!("{} {route}: {} in {:?}", request.method(), response.status(), began.elapsed());
///     response
/// }
///
/// fn members_only(request: &mut Request, next: Next<'_>) -> Result<Response, StatusCode> {
///     match request.header("authorization") {
///         Some(b"Bearer secret") => Ok(next.run(request)),
///         _ => Err(StatusCode::UNAUTHORIZED),
///     }
/// }
///
/// let router = Router::new()
///     .with(timed)
///     .get("/", |_: &mut Request| "for all")
///     .nest("/members", Router::new().with(members_only).get("/", |_: &mut Request| "for members"));
///
/// let answer = router.answer(&mut Request::for_test("GET", "/members"));
/// assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
/// let mut request = Request::for_test("GET", "/members").with_header("authorization", "Bearer secret");
/// assert_eq!(router.answer(&mut request).into_text().unwrap(), "for members");
/// ```
#[diagnostic::on_unimplemented(
    message = "`{Self}` is not a middleware",
    label = "not a middleware",
    note = "a middleware is a function `fn(&mut Request, Next<'_>) -> impl IntoResponse`",
    note = "in a closure write the types: `|request: &mut Request, next: Next<'_>| next.run(request)`",
    note = "what it captures must be `Send`, `Sync` and `'static`"
)]
pub trait Middleware: Send + Sync + 'static {
    /// Answers one request, with or without the rest of the chain.
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response;

    /// Hears of what came to no handler, since the server could not take it for a request; for logs and counts. By
    /// default it does nothing.
    ///
    /// It is called of what is around a [server](crate::Server)'s whole router, as it is not known what else it would have
    /// come to. The answer is the server's: see [`Router::on_error`](crate::Router::on_error).
    fn refused(&self, refused: &Refused<'_>) {
        let _ = refused;
    }
}

impl<F, R> Middleware for F
where
    F: Fn(&mut Request, Next<'_>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    #[inline]
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        self(request, next).into_response()
    }
}

/// How problems are told: see [`Router::on_error`](crate::Router::on_error).
pub(crate) type Form = dyn Fn(&Problem, Option<&Request>) -> Response + Send + Sync;

/// The response, in that form if it is a problem that has none yet.
pub(crate) fn give_form(form: &Form, response: Response, request: Option<&Request>) -> Response {
    let Some(problem) = response.problem() else {
        return response;
    };
    let formed = form(&problem, request);
    drop(problem);
    response.in_form(formed)
}

/// Cuts the waits of what answers after a time.
pub(super) fn answer_in_time(
    time: Duration,
    status: StatusCode,
    answer: impl FnOnce() -> Response,
) -> Response {
    maniple::timeout(time, answer)
        .unwrap_or_else(|_| Problem::new(status, "it took too long to answer").into_response())
}

/// A middleware of several chains.
pub(crate) type Link = Arc<dyn Middleware>;

/// The rest of a chain, down to the handler: what a [`Middleware`] calls, or leaves.
#[must_use = "the handler is called by `run`"]
pub struct Next<'a> {
    /// The router's.
    outer: &'a [Link],
    /// The route's own.
    inner: &'a [Link],
    end: &'a End<'a>,
}

/// What is behind a chain, and alike for all of its links: these are given few words.
#[derive(Clone, Copy)]
pub(crate) struct End<'a> {
    handler: &'a dyn Handler,
    form: Option<&'a Form>,
    /// For the handler.
    time: Option<&'a Duration>,
}

impl<'a> End<'a> {
    #[inline]
    pub(crate) fn by(handler: &'a dyn Handler) -> Self {
        Self {
            handler,
            form: None,
            time: None,
        }
    }

    /// With a form that problems are given as soon as they are answered, by whomever.
    pub(crate) fn with_form(self, form: Option<&'a Form>) -> Self {
        Self { form, ..self }
    }

    /// With a time for the handler.
    pub(crate) fn in_time(self, time: Option<&'a Duration>) -> Self {
        Self { time, ..self }
    }
}

impl<'a> Next<'a> {
    #[inline]
    pub(crate) fn new(outer: &'a [Link], inner: &'a [Link], end: &'a End<'a>) -> Self {
        Self { outer, inner, end }
    }

    /// Runs with a form within that of the router around.
    pub(crate) fn run_in_form(self, form: &Form, request: &mut Request) -> Response {
        let end = self.end.with_form(Some(form));
        let (outer, inner) = (self.outer, self.inner);
        Next::new(outer, inner, &end).run(request)
    }

    /// Calls what is left: the next middleware, or the handler.
    pub fn run(self, request: &mut Request) -> Response {
        match self.end.form {
            None => self.run_first(request),
            Some(form) => {
                let response = self.run_first(request);
                give_form(form, response, Some(request))
            }
        }
    }

    #[inline]
    fn run_first(self, request: &mut Request) -> Response {
        let (first, rest) = match (self.outer, self.inner) {
            ([first, outer @ ..], _) => (first, Self { outer, ..self }),
            ([], [first, inner @ ..]) => (first, Self { inner, ..self }),
            ([], []) => return self.call(request),
        };
        first.handle(request, rest)
    }

    #[inline]
    fn call(self, request: &mut Request) -> Response {
        let mut call = || self.end.handler.call(request);
        match self.end.time {
            None => call(),
            Some(time) => answer_in_time(*time, StatusCode::SERVICE_UNAVAILABLE, call),
        }
    }
}

impl fmt::Debug for Next<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let left = self.outer.len() + self.inner.len();
        f.debug_struct("Next")
            .field("middlewares", &left)
            .finish_non_exhaustive()
    }
}
