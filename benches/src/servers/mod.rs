//! The HTTP servers that are compared. All answer `GET /` with the same bytes of plain text: on one core, or, with more
//! routes, with several workers on all cores.

mod epoll;
mod maniple;
mod may;
mod routes;
mod threads;
mod tokio;

use std::{fmt, net::SocketAddr, num::NonZero, str::FromStr};

use anyhow::{Result, bail};
use clap::Args;
use serde::Serialize;

use crate::process::{self, Core};

/// A contender, by the name that it has on the command line and in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    /// maniple-server as it comes, one worker.
    Maniple,
    /// may_minihttp, one worker.
    MayMinihttp,
    /// hyper on tokio's current-thread runtime.
    Hyper,
    /// axum on tokio's current-thread runtime.
    Axum,
    /// A thread per connection.
    Threads,
    /// The limit: a loop around epoll with a canned answer.
    Epoll,
}

impl Name {
    pub(crate) const ALL: [Self; 6] = [
        Self::Maniple,
        Self::MayMinihttp,
        Self::Hyper,
        Self::Axum,
        Self::Threads,
        Self::Epoll,
    ];

    /// Those that can have several workers. Threads, one for each connection, are the reference.
    pub(crate) const WITH_WORKERS: [Self; 4] =
        [Self::Maniple, Self::MayMinihttp, Self::Hyper, Self::Threads];

    fn as_str(self) -> &'static str {
        match self {
            Self::Maniple => "maniple",
            Self::MayMinihttp => "may_minihttp",
            Self::Hyper => "hyper",
            Self::Axum => "axum",
            Self::Threads => "threads",
            Self::Epoll => "epoll",
        }
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl FromStr for Name {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL
            .into_iter()
            .find(|name| name.as_str() == text)
            .ok_or_else(|| {
                format!(
                    "no such server; known are {}",
                    Self::ALL.map(Self::as_str).join(", ")
                )
            })
    }
}

/// One server, to be run in this process until it is killed.
#[derive(Args, Debug)]
pub(crate) struct Options {
    server: Name,
    /// So many workers, free to run on all cores, with the routes of `compare skew`. Without it, one worker on the
    /// first core, which knows `/` alone.
    #[arg(long)]
    workers: Option<NonZero<usize>>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    match options.workers {
        None => serve_on_one_core(options.server),
        Some(workers) => serve_with_workers(options.server, workers.get()),
    }
}

fn serve_on_one_core(server: Name) -> Result<()> {
    process::settle(Core::First)?;
    match server {
        Name::Maniple => maniple::serve(),
        Name::MayMinihttp => may::serve(),
        Name::Hyper => tokio::serve_hyper(),
        Name::Axum => tokio::serve_axum(),
        Name::Threads => threads::serve(),
        Name::Epoll => epoll::serve(),
    }
}

fn serve_with_workers(server: Name, workers: usize) -> Result<()> {
    process::settle(Core::Any)?;
    match server {
        Name::Maniple => maniple::serve_with_workers(workers),
        Name::MayMinihttp => may::serve_with_workers(workers),
        Name::Hyper => tokio::serve_hyper_with_workers(workers),
        Name::Threads => threads::serve_routes(),
        Name::Axum | Name::Epoll => bail!("{server} has no variant with several workers"),
    }
}

/// Where every server listens: at a port that the system chooses.
const ANY_PORT: SocketAddr =
    SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::LOCALHOST), 0);

/// Tells the parent, which waits for this line, where the server listens.
fn announce(address: SocketAddr) {
    println!("{address}");
}

const BODY: &str = "Hello, World!";
const CONTENT_TYPE: &str = "text/plain; charset=utf-8";

/// The whole answer as maniple-server writes it, for servers that do not make one up.
fn canned_answer() -> Vec<u8> {
    answer_with(BODY)
}

fn answer_with(body: &str) -> Vec<u8> {
    let date = httpdate::fmt_http_date(std::time::SystemTime::now());
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: {CONTENT_TYPE}\r\ncontent-length: {}\r\ndate: {date}\r\n\r\n{body}",
        body.len()
    )
    .into_bytes()
}
