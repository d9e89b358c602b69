//! So many requests at a time, and so many that wait for their turn.

use std::time::Duration;

use super::{
    chain::{Middleware, Next},
    line::Line,
};
use crate::{request::Request, response::Response};

/// Lets so many requests be answered at a time; further ones wait, so many and so long, and are then answered with 503
/// and `Retry-After`.
///
/// One around a router limits all of its routes together, one around a route that route. Those who wait are served in
/// order. A request counts until its handler has answered: not while a body is sent that is made meanwhile. What
/// unwinds, or is cancelled while it waits, gives its place back.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// use maniple_server::{Request, Router, middleware::ConcurrencyLimit};
///
/// let limit = ConcurrencyLimit::new(64).queue(256).patience(Duration::from_millis(500));
/// let router = Router::new().with(limit).get("/report", |_: &mut Request| "made with much work");
/// ```
#[derive(Debug)]
pub struct ConcurrencyLimit {
    line: Line,
}

impl ConcurrencyLimit {
    /// At most so many at a time.
    ///
    /// # Panics
    /// If it is 0: nothing would ever be answered.
    #[track_caller]
    pub fn new(at_a_time: usize) -> Self {
        assert!(at_a_time > 0, "a limit of 0 requests at a time");
        Self {
            line: Line::new(at_a_time, at_a_time),
        }
    }

    /// How many may wait. Default: as many as are answered at a time. With 0, none waits.
    pub fn queue(mut self, length: usize) -> Self {
        self.line.settings.length = length;
        self
    }

    /// How long one may wait. Default: a second. More than its client waits is wasted.
    pub fn patience(mut self, patience: Duration) -> Self {
        self.line.settings.patience = patience;
        self
    }

    /// What `Retry-After` says, in whole seconds, rounded up. Default: a second.
    pub fn retry_after(mut self, after: Duration) -> Self {
        self.line.settings.retry_after = after;
        self
    }
}

impl Middleware for ConcurrencyLimit {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        match self.line.enter() {
            Ok(_place) => next.run(request),
            Err(refusal) => refusal,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use http::StatusCode;

    use super::*;
    use crate::router::Router;

    #[test]
    fn what_finds_no_place_is_told_when_to_come_again() {
        // With one worker, what is spawned has come to its first wait when its spawner goes on after a yield.
        let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (leave, may_leave) = maniple::sync::channel::unbounded::<()>();
            let limit = ConcurrencyLimit::new(1)
                .queue(1)
                .patience(Duration::from_secs(60))
                .retry_after(Duration::from_millis(1500));
            let handler = move |_: &mut Request| may_leave.recv().unwrap();
            let router = Arc::new(Router::new().with(limit).get("/", handler));
            let ask = || {
                let router = router.clone();
                let asking =
                    maniple::spawn(move || router.answer(&mut Request::for_test("GET", "/")));
                maniple::yield_now();
                asking
            };
            let (first, second, third) = (ask(), ask(), ask());
            let refused = third.join().unwrap();
            assert_eq!(refused.status(), StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(refused.header("retry-after"), Some("2"));
            assert!(!first.is_finished() && !second.is_finished());
            leave.send(()).unwrap();
            assert_eq!(first.join().unwrap().status(), StatusCode::OK);
            leave.send(()).unwrap();
            assert_eq!(second.join().unwrap().status(), StatusCode::OK);
        });
    }

    #[test]
    fn a_handler_that_panics_gives_its_place_back() {
        let router = Router::new().with(ConcurrencyLimit::new(1).queue(0)).get(
            "/",
            |request: &mut Request| {
                assert!(request.query().is_none());
                "fine"
            },
        );
        let ask = |target| router.answer(&mut Request::for_test("GET", target));
        let panics = std::panic::AssertUnwindSafe(|| ask("/?panics"));
        assert!(std::panic::catch_unwind(panics).is_err());
        assert_eq!(ask("/").status(), StatusCode::OK);
    }
}
