//! Whole programs under the same load.

pub(crate) mod client;
pub(crate) mod fanout;
pub(crate) mod gateway;
pub(crate) mod grpc;
pub(crate) mod http;
mod http2;
pub(crate) mod latency;
mod meter;
mod pair;
mod rows;
pub(crate) mod rpc;
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
    /// Servers of HTTP/2 by CPU time per request, under h2load of nghttp2.
    Http2(http2::Options),
    /// gRPC servers and clients by CPU time per call and per message, and by memory of idle connections.
    Grpc(grpc::Options),
    /// Calls over long connections, beside gRPC and beside a client and a server of bytes, by CPU time per call.
    Rpc(rpc::Options),
    /// HTTPS servers by CPU time per request and per handshake, and by memory of idle connections.
    Tls(tls::Options),
    /// HTTP servers at a rate below their peaks, by latency.
    Latency(latency::Options),
    /// HTTP clients that ask over kept connections, by CPU time per call, and by memory of idle connections.
    Client(client::Options),
    /// A leader that asks three backends over connections of its own, by CPU time per aggregate.
    Fanout(fanout::Options),
    /// Servers that ask three others for each request, by CPU time per aggregate: the real client and server.
    Gateway(gateway::Options),
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
        Compare::Http2(options) => http2::run(options),
        Compare::Grpc(options) => grpc::run(options),
        Compare::Rpc(options) => rpc::run(options),
        Compare::Tls(options) => tls::run(options),
        Compare::Latency(options) => latency::run(options),
        Compare::Client(options) => client::run(options),
        Compare::Fanout(options) => fanout::run(options),
        Compare::Gateway(options) => gateway::run(options),
        Compare::Skew(options) => skew::run(options),
        Compare::Startup(options) => startup::run(options),
        Compare::Streams(options) => streams::run(options),
    }
}
