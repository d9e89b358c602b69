//! Routers, middleware and handlers, called without a port; over a connection where that matters.

mod around;
mod routing;

use maniple_server::{Request, Response, Router};

fn ask(router: &Router, method: &str, path: &str) -> Response {
    router.answer(&mut Request::for_test(method, path))
}

/// The body of an answer.
fn text(router: &Router, method: &str, path: &str) -> String {
    ask(router, method, path).into_text().unwrap()
}

/// Its status.
fn status(router: &Router, method: &str, path: &str) -> u16 {
    ask(router, method, path).status().as_u16()
}
