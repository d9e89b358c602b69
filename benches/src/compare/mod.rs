//! Whole programs under the same load.

pub(crate) mod fanout;
pub(crate) mod http;

use anyhow::Result;
use clap::Subcommand;

/// What to compare.
#[derive(Debug, Subcommand)]
pub(crate) enum Compare {
    /// HTTP servers that answer `GET /` over keep-alive connections, by CPU time per request.
    Http(http::Options),
    /// A leader that asks three backends over connections of its own, by CPU time per aggregate.
    Fanout(fanout::Options),
}

pub(crate) fn run(compare: &Compare) -> Result<()> {
    match compare {
        Compare::Http(options) => http::run(options),
        Compare::Fanout(options) => fanout::run(options),
    }
}
