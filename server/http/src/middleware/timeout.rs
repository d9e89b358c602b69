//! Handlers that take too long.

use std::time::Duration;

use http::StatusCode;

use super::chain::{Middleware, Next, answer_in_time};
use crate::{request::Request, response::Response};

/// Cuts the waits of what it is around after a time, and answers 503.
///
/// It is a [deadline](maniple::deadline) around the rest of the chain: calls of the runtime that return errors
/// return one then, and a handler that makes its own answer of it, such as what has come in by then, has that sent. What
/// cannot return an error unwinds. Children of the handler's groups are cut with it; a handler that computes goes on until
/// it waits; what is [shielded](maniple::cancel::shield) goes on.
///
/// Of several around each other the first ends it. [`Router::timeout`](crate::Router::timeout) is for handlers alone, and a
/// route's is in place of its router's.
///
/// The time ends with the handler. A body that is made while it is sent comes after it.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::{Request, Router, StatusCode, middleware::Timeout};
///
/// let router = Router::new()
///     .with(Timeout::new(Duration::from_millis(10)))
///     .get("/slow", |_: &mut Request| maniple::sleep(Duration::from_secs(60)));
/// maniple::run(move || {
///     let answer = router.answer(&mut Request::for_test("GET", "/slow"));
///     assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
/// });
/// ```
#[derive(Clone, Copy, Debug)]
pub struct Timeout {
    after: Duration,
    status: StatusCode,
}

impl Timeout {
    /// Ends a handler after so long.
    pub fn new(after: Duration) -> Self {
        Self {
            after,
            status: StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    /// With which status. Default: 503; a gateway says 504.
    pub fn status(mut self, status: StatusCode) -> Self {
        self.status = status;
        self
    }
}

impl Middleware for Timeout {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        answer_in_time(self.after, self.status, || next.run(request))
    }
}

#[cfg(test)]
mod tests {
    use std::sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    };

    use super::*;
    use crate::router::Router;

    const LONG: Duration = Duration::from_secs(600);

    fn ask(outer: Duration, inner: Duration, target: &str) -> (StatusCode, bool) {
        let cut = Arc::new(AtomicBool::new(false));
        struct Told(Arc<AtomicBool>);
        impl Drop for Told {
            fn drop(&mut self) {
                self.0.store(std::thread::panicking(), SeqCst);
            }
        }
        let theirs = cut.clone();
        let routes = Router::new()
            .with(Timeout::new(inner).status(StatusCode::GATEWAY_TIMEOUT))
            .get("/slow", move |_: &mut Request| {
                let _told = Told(theirs.clone());
                let ((), ()) = maniple::join!(maniple::sleep(LONG), maniple::sleep(LONG));
            })
            .get("/partial", |_: &mut Request| {
                let (_sender, receiver) = maniple::sync::channel::unbounded::<()>();
                match receiver.recv_timeout(LONG) {
                    Err(_) => "what there is",
                    Ok(()) => "all",
                }
            });
        let router = Router::new().with(Timeout::new(outer)).merge(routes);
        let status = maniple::run(|| {
            router
                .answer(&mut Request::for_test("GET", target))
                .status()
        });
        (status, cut.load(SeqCst))
    }

    #[test]
    fn the_first_of_several_ends_handler_and_children() {
        let soon = Duration::from_millis(5);
        assert_eq!(
            ask(LONG, soon, "/slow"),
            (StatusCode::GATEWAY_TIMEOUT, true)
        );
        assert_eq!(
            ask(soon, LONG, "/slow"),
            (StatusCode::SERVICE_UNAVAILABLE, true)
        );
    }

    #[test]
    fn what_a_handler_makes_of_the_end_is_sent() {
        let soon = Duration::from_millis(5);
        assert_eq!(ask(LONG, soon, "/partial").0, StatusCode::OK);
    }
}
