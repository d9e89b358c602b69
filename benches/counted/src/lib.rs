//! The names of the hot paths whose instructions are counted, and how often each is done.
//!
//! The program beside it does them and has nothing else in it: what a compiler inlines also depends on what else is
//! in a program, and counts of one with all contenders of all comparisons in it changed with any of them.

use std::{fmt, str::FromStr};

/// An operation; what its count is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Path {
    /// Two coroutines that yield to each other; per yield.
    Yield2,
    /// 1,000 coroutines that yield; per yield.
    Yield1000,
    /// Spawn an empty coroutine and join it; per coroutine.
    SpawnJoin,
    /// Three spawned children of a group, joined in it; per group.
    Group3,
    /// `join!` of three calls; per `join!`.
    Join3,
    /// A message to another coroutine over a channel of capacity 1 and one back; per round trip.
    PingPong,
    /// As ping-pong, but the answer is awaited under a timeout: a timer armed and cancelled; per round trip.
    Timer,
    /// Lock and unlock a mutex that nobody else wants.
    Mutex,
    /// Sleep for a millisecond, with nothing else to do.
    Sleep,
    /// One request and its answer on a TCP connection, the client's side included; per request.
    Http,
    /// The same behind the usual middleware: metrics, a request id, a limit of concurrency and a timeout; per request.
    HttpChain,
    /// The same by the client, with its pool, the server's side included; per call.
    Client,
    /// Sixteen requests at once and their answers, the client's side included; per request.
    HttpPipelined,
    /// An event to sixteen subscribers of server-sent events, the clients' side included; per event and subscriber.
    Events16,
    /// A WebSocket message of 64 bytes and its echo, the client's side included; per message.
    Websocket,
}

impl Path {
    /// All, in the order of tables.
    pub const ALL: [Self; 15] = [
        Self::Yield2,
        Self::Yield1000,
        Self::SpawnJoin,
        Self::Group3,
        Self::Join3,
        Self::PingPong,
        Self::Timer,
        Self::Mutex,
        Self::Sleep,
        Self::Http,
        Self::HttpChain,
        Self::Client,
        Self::HttpPipelined,
        Self::Events16,
        Self::Websocket,
    ];

    /// How it is called on command lines and in the baseline.
    pub fn name(self) -> &'static str {
        match self {
            Self::Yield2 => "yield-2",
            Self::Yield1000 => "yield-1000",
            Self::SpawnJoin => "spawn-join",
            Self::Group3 => "group-3",
            Self::Join3 => "join-3",
            Self::PingPong => "ping-pong",
            Self::Timer => "timer",
            Self::Mutex => "mutex",
            Self::Sleep => "sleep",
            Self::Http => "http",
            Self::Client => "client",
            Self::HttpChain => "http-chain",
            Self::HttpPipelined => "http-pipelined",
            Self::Events16 => "events-16",
            Self::Websocket => "websocket",
        }
    }

    /// How often it is done in the shorter of two runs.
    pub fn times(self) -> u64 {
        match self {
            // The clock has a say in how a sleep goes, so there must be enough of them to even that out.
            Self::Sleep => 1_000,
            Self::Yield1000 => 20_000,
            Self::Http
            | Self::HttpChain
            | Self::Client
            | Self::HttpPipelined
            | Self::Events16
            | Self::Websocket => 4_000,
            _ => 10_000,
        }
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Path {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let known = || Self::ALL.map(Self::name).join(", ");
        let mut all = Self::ALL.into_iter();
        all.find(|path| path.name() == name)
            .ok_or_else(|| format!("no path '{name}': known are {}", known()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_path_is_found_by_its_name() {
        for path in Path::ALL {
            assert_eq!(path.to_string().parse(), Ok(path));
        }
        let refused = "fork".parse::<Path>().unwrap_err();
        assert!(refused.contains("'fork': known are yield-2, "), "{refused}");
    }
}
