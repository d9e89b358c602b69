//! What clients are told of a panic.

use std::{
    fmt,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
};

use maniple::{cancel::is_cut_short, panics};

use super::chain::{Middleware, Next};
use crate::{
    request::Request,
    response::{IntoResponse, Response},
};

/// Answers for what panics in it, in words of the program's own.
///
/// Without it the server logs a panic of a handler, answers 500 and closes the connection. With it the function is given
/// the request and what the panic said, answers, and the connection stays: what it logs, or reports elsewhere, is its affair.
/// The panic hook has been called before. A handler that is cut short, because its client has gone or its time is over, unwinds
/// as well, and is not caught. Nor is a panic in a body that is made while it is sent.
///
/// What the handler has left half done stays so: locks of std are poisoned, those of the runtime are not.
///
/// # Examples
/// ```
/// use maniple_server::{Problem, Request, Router, StatusCode, middleware::CatchPanic};
///
/// let tell = |request: &mut Request, message: Option<&str>| {
///     log::error!("{} {}: {}", request.method(), request.path(), message.unwrap_or("a panic"));
///     Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "we have been told of it")
/// };
/// let router = Router::new()
///     .with(CatchPanic::new(tell))
///     .get("/", |_: &mut Request| -> StatusCode { panic!("no such luck") });
/// let answer = router.answer(&mut Request::for_test("GET", "/"));
/// assert_eq!(answer.into_text().unwrap(), "we have been told of it\n");
/// ```
pub struct CatchPanic<F> {
    tell: F,
}

impl<F, R> CatchPanic<F>
where
    F: Fn(&mut Request, Option<&str>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    /// Has `tell` answer, given the request and, if there was one, the panic's message.
    pub fn new(tell: F) -> Self {
        Self { tell }
    }
}

impl<F> fmt::Debug for CatchPanic<F> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CatchPanic").finish_non_exhaustive()
    }
}

impl<F, R> Middleware for CatchPanic<F>
where
    F: Fn(&mut Request, Option<&str>) -> R + Send + Sync + 'static,
    R: IntoResponse,
{
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match catch_unwind(AssertUnwindSafe(|| next.run(request))) {
            Ok(response) => response,
            Err(cut) if is_cut_short(&*cut) => resume_unwind(cut),
            Err(panic) => {
                let response = (self.tell)(request, panics::message(&*panic)).into_response();
                panics::discard(panic);
                response
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::StatusCode;

    use super::*;
    use crate::{middleware::Timeout, router::Router};

    #[test]
    fn a_handler_that_is_cut_short_has_not_panicked() {
        let tell = |_: &mut Request, message: Option<&str>| {
            (
                StatusCode::IM_A_TEAPOT,
                message.unwrap_or("none").to_owned(),
            )
        };
        let caught = |routes: Router| Router::new().with(CatchPanic::new(tell)).merge(routes);
        let slow = Router::new().get("/slow", |_: &mut Request| {
            maniple::sleep(Duration::from_secs(600));
        });
        let soon = Timeout::new(Duration::from_millis(5));
        let slow = Router::new().with(soon).merge(caught(slow));
        let others = caught(
            Router::new()
                .get("/panic", |_: &mut Request| -> StatusCode {
                    panic!("it is {}", 7)
                })
                .get("/odd", |_: &mut Request| -> StatusCode {
                    std::panic::panic_any(7)
                }),
        );
        maniple::run(|| {
            let ask =
                |router: &Router, target| router.answer(&mut Request::for_test("GET", target));
            assert_eq!(
                ask(&slow, "/slow").status(),
                StatusCode::SERVICE_UNAVAILABLE
            );
            assert_eq!(ask(&others, "/panic").into_text().unwrap(), "it is 7");
            assert_eq!(ask(&others, "/odd").into_text().unwrap(), "none");
        });
    }
}
