//! The HTTP servers that are compared. All answer `GET /` with the same bytes of plain text: on one core, or, with more
//! routes, with several workers on all cores.

mod epoll;
mod go;
mod hooked;
pub(crate) mod kernel;
mod maniple;
mod may;
pub(crate) mod nginx;
mod routes;
pub(crate) mod streams;
mod tasks;
mod threads;
mod tls;
mod tokio;

use std::{fmt, net::SocketAddr, num::NonZero, path::PathBuf, str::FromStr, time::Duration};

use anyhow::{Result, bail, ensure};
use clap::Args;
use serde::Serialize;

use crate::{
    process::{self, Core},
    task::Task,
};

/// A contender, by the name that it has on the command line and in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Name {
    /// maniple-server as it comes, one worker.
    Maniple,
    /// The same in a program whose calls are hooked; by its name alone.
    ManipleHooked,
    /// may_minihttp, one worker.
    MayMinihttp,
    /// hyper on tokio's current-thread runtime.
    Hyper,
    /// axum on tokio's current-thread runtime.
    Axum,
    /// Go's net/http with its router.
    Go,
    /// A thread per connection.
    Threads,
    /// The limit: a loop around epoll with a canned answer.
    Epoll,
}

impl Name {
    pub(crate) const ALL: [Self; 7] = [
        Self::Maniple,
        Self::MayMinihttp,
        Self::Hyper,
        Self::Axum,
        Self::Go,
        Self::Threads,
        Self::Epoll,
    ];

    /// Those that can have several workers. Threads, one for each connection, are the reference.
    pub(crate) const WITH_WORKERS: [Self; 5] = [
        Self::Maniple,
        Self::MayMinihttp,
        Self::Hyper,
        Self::Go,
        Self::Threads,
    ];

    /// Those that speak TLS, the limit among them.
    pub(crate) const WITH_TLS: [Self; 3] = [Self::Maniple, Self::Hyper, Self::Epoll];

    /// That it can be started, or why not.
    pub(crate) fn ready(self) -> Result<()> {
        match self {
            Self::Go => crate::go::ready(),
            Self::ManipleHooked => hooked::ready(),
            _ => Ok(()),
        }
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Maniple => "maniple",
            Self::ManipleHooked => "maniple_hooked",
            Self::MayMinihttp => "may_minihttp",
            Self::Hyper => "hyper",
            Self::Axum => "axum",
            Self::Go => "go",
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
            .chain([Self::ManipleHooked])
            .find(|name| name.as_str() == text || (*name == Self::MayMinihttp && text == "may"))
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
    /// The limit alone: time its system calls, and print the figures when its last connection is closed.
    #[arg(long, conflicts_with = "workers")]
    timed: bool,
    /// So many workers, free to run on all cores, with the routes of `compare skew`. Without it, one worker on the
    /// first core, which knows `/` alone.
    #[arg(long)]
    workers: Option<NonZero<usize>>,
    /// Other work than saying hello, on one core.
    #[arg(long, requires = "root", conflicts_with = "workers")]
    task: Option<Task>,
    /// Where the files for that are.
    #[arg(long)]
    root: Option<PathBuf>,
    /// Without what the task has around its handler.
    #[arg(long)]
    bare: bool,
    #[command(flatten)]
    listening: Listening,
}

#[derive(Args, Debug)]
struct Listening {
    /// Where to listen; the system chooses the port if it is 0.
    #[arg(long, default_value = "127.0.0.1:0")]
    listen: SocketAddr,
    /// Speak TLS, on one core.
    #[arg(long)]
    tls: bool,
    /// Speak HTTP/2, too, on one core.
    #[arg(long, conflicts_with = "tls")]
    http2: bool,
    /// How long a connection may be idle, for servers that close such ones; if not given, as long as they come with.
    #[arg(long)]
    idle_seconds: Option<u64>,
}

impl Listening {
    fn idle(&self) -> Option<Duration> {
        self.idle_seconds.map(Duration::from_secs)
    }
}

pub(crate) fn run(options: &Options) -> Result<()> {
    if let (Some(task), Some(root)) = (options.task, &options.root) {
        process::settle(Core::First)?;
        return tasks::serve(options.server, &options.listening, task, root, options.bare);
    }
    match options.workers {
        None if options.timed => {
            ensure!(options.server == Name::Epoll, "only epoll is timed");
            process::settle(Core::First)?;
            epoll::serve(&options.listening, kernel::Timed::new())
        }
        None => serve_on_one_core(options.server, &options.listening),
        Some(workers) => serve_with_workers(options.server, &options.listening, workers.get()),
    }
}

/// As a backend of others, which have the first core.
pub(crate) fn serve_epoll_on_last_core() -> Result<()> {
    process::settle(Core::Last)?;
    let listening = Listening {
        listen: ([127, 0, 0, 1], 0).into(),
        tls: false,
        http2: false,
        idle_seconds: None,
    };
    epoll::serve(&listening, kernel::Unobserved)
}

fn serve_on_one_core(server: Name, listening: &Listening) -> Result<()> {
    process::settle(Core::First)?;
    if listening.tls {
        return match server {
            Name::Maniple => tls::serve_maniple(listening),
            Name::Hyper => tls::serve_hyper(listening),
            Name::Epoll => tls::serve_epoll(listening),
            _ => bail!("{server} has no variant with TLS"),
        };
    }
    if listening.http2 {
        return match server {
            Name::Maniple => maniple::serve(listening),
            Name::Hyper => tokio::serve_hyper_http2(listening),
            _ => bail!("{server} has no variant with HTTP/2"),
        };
    }
    match server {
        Name::Maniple => maniple::serve(listening),
        Name::ManipleHooked => hooked::serve(listening),
        Name::MayMinihttp => may::serve(listening),
        Name::Hyper => tokio::serve_hyper(listening),
        Name::Axum => tokio::serve_axum(listening),
        Name::Go => go::serve(listening),
        Name::Threads => threads::serve(listening),
        Name::Epoll => epoll::serve(listening, kernel::Unobserved),
    }
}

fn serve_with_workers(server: Name, listening: &Listening, workers: usize) -> Result<()> {
    process::settle(Core::Any)?;
    match server {
        Name::Maniple => maniple::serve_with_workers(listening, workers),
        Name::MayMinihttp => may::serve_with_workers(listening, workers),
        Name::Hyper => tokio::serve_hyper_with_workers(listening, workers),
        Name::Go => go::serve_with_workers(listening, workers),
        Name::Threads => threads::serve_routes(listening),
        Name::ManipleHooked | Name::Axum | Name::Epoll => {
            bail!("{server} has no variant with several workers")
        }
    }
}

/// Tells the parent, which waits for this line, where the server listens.
fn announce(address: SocketAddr) {
    println!("{address}");
}

pub(crate) const BODY: &str = "Hello, World!";
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
