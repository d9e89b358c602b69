//! Settings of a connection of HTTP/2 that is made from here, and their defaults.

use std::time::Duration;

/// Settings of a [`Link`](super::Link): how much of its memory a server may have, and when it is asked whether it is there.
///
/// # Examples
/// ```
/// use maniple_server::http2::LinkSettings;
/// use std::time::Duration;
/// let settings = LinkSettings::new()
///     .stream_window(64 * 1024)
///     .keep_alive(Duration::from_secs(30), Duration::from_secs(10));
/// # drop(settings);
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing by themselves"]
pub struct LinkSettings {
    pub(super) name: &'static str,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) max_head_bytes: u32,
    pub(super) handshake_timeout: Duration,
    pub(super) keep_alive: Option<KeepAlive>,
    pub(super) idle_timeout: Option<Duration>,
}

/// When the server is asked whether it is there.
#[derive(Clone, Copy, Debug)]
pub(super) struct KeepAlive {
    pub(super) every: Duration,
    pub(super) patience: Duration,
    pub(super) when_idle: bool,
}

impl LinkSettings {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            name: "HTTP/2 link",
            stream_window: 256 * 1024,
            connection_window: 4 * 1024 * 1024,
            max_head_bytes: 64 * 1024,
            handshake_timeout: Duration::from_secs(10),
            keep_alive: None,
            idle_timeout: None,
        }
    }

    /// The name of the connection's coroutine, for dumps and logs. Default: `HTTP/2 link`.
    pub fn name(mut self, name: &'static str) -> Self {
        self.name = name;
        self
    }

    /// Bytes of an answer that may come before they are read. Default: 256 KiB; at least 1, at most 2^31-1.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes.clamp(1, MOST_WINDOW);
        self
    }

    /// Bytes of all answers of a connection that may come before they are read. Default: 4 MiB; at least 65,535, at most 2^31-1.
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.connection_window = bytes.clamp(LEAST_CONNECTION_WINDOW, MOST_WINDOW);
        self
    }

    /// Bytes of an answer's head, as RFC 9113 (6.5.2) counts them, and of its trailers. Default: 64 KiB. The server is told, and
    /// the request that is answered more ends with an error.
    pub fn max_head_bytes(mut self, bytes: u32) -> Self {
        self.max_head_bytes = bytes;
        self
    }

    /// How long the connection stays without requests. Default: as long as there is a clone of the [`Link`](super::Link).
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle_timeout = Some(timeout);
        self
    }

    /// How long the first words may take, from when the connection was made. Default: 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Asks the server whether it is there (`PING`) after each `every` in which requests are under way; at least 100 ms. One that
    /// has not answered after `patience` is gone, and the connection and all its requests end. Default: it is not asked.
    pub fn keep_alive(mut self, every: Duration, patience: Duration) -> Self {
        self.keep_alive = Some(KeepAlive {
            every: every.max(LEAST_KEEP_ALIVE),
            patience,
            when_idle: false,
        });
        self
    }

    /// Asks without requests, too, for what is between to keep the connection. Nothing without [`keep_alive`](Self::keep_alive).
    /// Default: no.
    pub fn keep_alive_when_idle(mut self, yes: bool) -> Self {
        if let Some(keep_alive) = &mut self.keep_alive {
            keep_alive.when_idle = yes;
        }
        self
    }
}

impl Default for LinkSettings {
    fn default() -> Self {
        Self::new()
    }
}

/// More often than this is a flood.
const LEAST_KEEP_ALIVE: Duration = Duration::from_millis(100);

/// What windows may be (RFC 9113, 6.9).
const LEAST_CONNECTION_WINDOW: u32 = 65_535;
const MOST_WINDOW: u32 = (1 << 31) - 1;
