//! Whole programs under the same load.

pub(crate) mod fanout;
pub(crate) mod http;
pub(crate) mod latency;
mod pair;
mod rows;
pub(crate) mod skew;
mod startup;
pub(crate) mod streams;
mod tails;
mod tasks;
pub(crate) mod tls;

use anyhow::Result;
use clap::Subcommand;

/// What to compare.
#[derive(Debug, Subcommand)]
pub(crate) enum Compare {
    /// HTTP servers that answer `GET /` over keep-alive connections, by CPU time per request.
    Http(http::Options),
    /// HTTPS servers by CPU time per request and per handshake, and by memory of idle connections.
    Tls(tls::Options),
    /// HTTP servers at a rate below their peaks, by latency.
    Latency(latency::Options),
    /// A leader that asks three backends over connections of its own, by CPU time per aggregate.
    Fanout(fanout::Options),
    /// HTTP servers with two workers each, under loads that meet the workers unevenly, by tail latency.
    Skew(skew::Options),
    /// HTTP servers by the time from their start to their first answer, and the memory they then have.
    Startup(startup::Options),
    /// WebSocket echoes and streams of events, by CPU time per message.
    Streams(streams::Options),
}

pub(crate) fn run(compare: &Compare) -> Result<()> {
    match compare {
        Compare::Http(options) => http::run(options),
        Compare::Tls(options) => tls::run(options),
        Compare::Latency(options) => latency::run(options),
        Compare::Fanout(options) => fanout::run(options),
        Compare::Skew(options) => skew::run(options),
        Compare::Startup(options) => startup::run(options),
        Compare::Streams(options) => streams::run(options),
    }
}
