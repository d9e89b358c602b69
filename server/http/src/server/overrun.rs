//! What went beyond a limit: in the log, once in a while for each kind.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

use http::StatusCode;
use maniple::{log_limit::LogLimit, log_within};

use crate::transport::Peer;

/// Kinds of limits, of which each has its own lines.
const KINDS: [&str; 9] = [
    "time",
    "body_bytes",
    "target_bytes",
    "header_bytes",
    "answer_rate",
    "connections_per_peer",
    "connections",
    "request_rate",
    "http2_frames",
];

static RATES: [LogLimit; KINDS.len()] = [const { LogLimit::new(1) }; KINDS.len()];

static COUNTS: [AtomicU64; KINDS.len()] = [const { AtomicU64::new(0) }; KINDS.len()];

/// How often each has been, in all servers.
pub(crate) fn counts() -> impl Iterator<Item = (&'static str, u64)> {
    let counts = COUNTS.iter().map(|count| count.load(Relaxed));
    KINDS.into_iter().zip(counts)
}

/// A request was refused with that status, or its body; nothing is said of what is no limit.
#[cold]
pub(crate) fn report(peer: &Peer, status: StatusCode, what: &str) {
    let kind = match status {
        StatusCode::REQUEST_TIMEOUT => 0,
        StatusCode::PAYLOAD_TOO_LARGE => 1,
        StatusCode::URI_TOO_LONG => 2,
        StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE => 3,
        _ => return,
    };
    COUNTS[kind].fetch_add(1, Relaxed);
    log_within!(RATES[kind], warn, "{peer}: {what}");
}

/// A client took too little of its answer.
#[cold]
pub(crate) fn report_slow_reader(peer: &Peer) {
    COUNTS[4].fetch_add(1, Relaxed);
    log_within!(RATES[4], warn, "{peer} takes its answer too slowly");
}

/// A client did that too often which asks for nothing.
#[cfg(feature = "http2")]
#[cold]
pub(crate) fn report_flood(peer: &Peer, what: &str) {
    COUNTS[8].fetch_add(1, Relaxed);
    log_within!(RATES[8], warn, "{peer} sends too many {what}");
}

/// A client has as many connections as one may.
#[cold]
pub(crate) fn report_crowd(peer: &Peer, limit: usize) {
    COUNTS[5].fetch_add(1, Relaxed);
    log_within!(
        RATES[5],
        warn,
        "{peer}: its address has {limit} connections, and no more may (max_connections_per_peer)"
    );
}

/// All connections that may be open are.
#[cold]
pub(crate) fn report_full(limit: usize) {
    COUNTS[6].fetch_add(1, Relaxed);
    log_within!(
        RATES[6],
        warn,
        "{limit} connections are open, and no more may (max_connections): others wait"
    );
}

/// A client asks more often than it may.
#[cold]
pub(crate) fn report_rate(peer: &Peer) {
    COUNTS[7].fetch_add(1, Relaxed);
    log_within!(
        RATES[7],
        warn,
        "{peer} asks more often than it may (RateLimit)"
    );
}
