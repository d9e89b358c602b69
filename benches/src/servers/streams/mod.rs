//! Servers of streams that are compared: echoes of WebSocket messages, and an event to all subscribers every so often.

mod epoll;
mod own;
mod tokio;

use std::{
    fmt,
    net::{Ipv4Addr, SocketAddr},
    str::FromStr,
    time::Duration,
};

use anyhow::Result;
use clap::Args;
use serde::Serialize;

use crate::process::{self, Core};

/// A contender, by the name that it has on the command line and in tables.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Name {
    /// maniple-server's WebSocket, one worker.
    ManipleWebsocket,
    /// tungstenite's protocol over a connection that maniple-server has handed over.
    TungsteniteOnManiple,
    /// tokio-tungstenite on tokio's current-thread runtime.
    TokioTungstenite,
    /// maniple-server's events, one worker.
    ManipleEvents,
    /// The limit of echoes: a loop around epoll.
    EpollWebsocket,
    /// axum's events on tokio's current-thread runtime.
    AxumEvents,
    /// The limit of events: a loop around epoll.
    EpollEvents,
}

impl Name {
    pub(crate) const WEBSOCKETS: [Self; 4] = [
        Self::ManipleWebsocket,
        Self::TungsteniteOnManiple,
        Self::TokioTungstenite,
        Self::EpollWebsocket,
    ];

    pub(crate) const EVENTS: [Self; 3] = [Self::ManipleEvents, Self::AxumEvents, Self::EpollEvents];

    fn as_str(self) -> &'static str {
        match self {
            Self::ManipleWebsocket => "maniple-websocket",
            Self::TungsteniteOnManiple => "tungstenite-on-maniple",
            Self::TokioTungstenite => "tokio-tungstenite",
            Self::ManipleEvents => "maniple-events",
            Self::AxumEvents => "axum-events",
            Self::EpollWebsocket => "epoll-websocket",
            Self::EpollEvents => "epoll-events",
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
        let mut all = Self::WEBSOCKETS.into_iter().chain(Self::EVENTS);
        all.find(|name| name.as_str() == text)
            .ok_or_else(|| format!("no such server of streams: {text}"))
    }
}

/// One server, to be run in this process until it is killed.
#[derive(Args, Debug)]
pub(crate) struct Options {
    server: Name,
    /// How often an event is published.
    #[arg(long, default_value_t = 100)]
    period_ms: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::settle(Core::First)?;
    let period = Duration::from_millis(options.period_ms);
    match options.server {
        Name::ManipleWebsocket => own::echo(),
        Name::TungsteniteOnManiple => own::echo_by_tungstenite(),
        Name::TokioTungstenite => tokio::echo(),
        Name::ManipleEvents => own::events(period),
        Name::AxumEvents => tokio::events(period),
        Name::EpollWebsocket => epoll::echo(),
        Name::EpollEvents => epoll::events(period),
    }
}

const LISTEN: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::LOCALHOST), 0);

/// What each event says. The load counts its last byte, which nothing else that is sent has.
const EVENT: &str = "forty bytes that a subscriber may want #";

/// Events that a subscriber may be behind.
const BEHIND: usize = 16;
