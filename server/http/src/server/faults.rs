//! What handlers do wrong: told to the log, answered in their place, and dropped behind the fence.

use std::{any::Any, io};

use http::StatusCode;
use maniple::{log_limit::LogLimit, log_within, panics};

use super::exchange::Exchange;
use crate::{
    response::{IntoResponse, Response},
    transport::Peer,
};

/// Lines in ten seconds of what peers can bring about, each kind for itself.
const MOST_LINES: u32 = 20;

/// Says in the log what a handler's panic said.
#[cold]
pub(super) fn report_panic(exchange: &Exchange, panic: &(dyn Any + Send)) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    let message = panics::message(panic)
        .unwrap_or("(no message)")
        .escape_debug();
    let (method, path) = (&exchange.head().method, exchange.path());
    log_within!(
        RATE,
        error,
        "handler of {method} {path} panicked: {message}"
    );
}

#[cold]
pub(super) fn report_broken_body(error: io::Error) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    log_within!(RATE, error, "response body broke off: {error}");
    // Its destructor is the reader's, as its message is.
    panics::catch(move || drop(error));
}

/// Drops a response whose body is of the handler's own making, and so its destructor.
#[cold]
pub(super) fn dispose(response: Response) {
    panics::catch(move || drop(response));
}

#[cold]
pub(super) fn internal_error() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n").into_response()
}

/// A tunnel is for a client that asked for one.
#[cold]
pub(super) fn no_tunnel() -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(
        RATE,
        error,
        "a handler answered a request that is no CONNECT with a tunnel"
    );
    internal_error()
}

/// Says in the log that who had taken over a connection panicked.
#[cold]
pub(super) fn report_takeover_panic(peer: &Peer, panic: &(dyn Any + Send)) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    let message = panics::message(panic)
        .unwrap_or("(no message)")
        .escape_debug();
    log_within!(
        RATE,
        error,
        "what took over the connection from {peer} panicked: {message}"
    );
}

/// A handler's answer is the final one, so the client would wait for ever behind a 1xx.
#[cold]
pub(super) fn not_final(status: StatusCode) -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(
        RATE,
        error,
        "a handler answered with {status}, which is not a final status"
    );
    internal_error()
}
