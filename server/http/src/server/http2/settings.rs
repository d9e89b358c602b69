//! Settings of HTTP/2, and their defaults.

use std::time::Duration;

/// Settings of HTTP/2: how much of its memory and of its work a client may have. For
/// [`Builder::http2`](crate::server::Builder::http2).
///
/// # Examples
/// ```
/// use maniple_server::{Router, Server, server::Http2};
/// let settings = Http2::new().max_streams(32);
/// let server = Server::builder(Router::new()).http2(settings).bind("127.0.0.1:0").unwrap();
/// # let _ = server;
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing by themselves"]
pub struct Http2 {
    pub(super) is_spoken: bool,
    pub(super) max_streams: u32,
    pub(super) stream_window: u32,
    pub(super) connection_window: u32,
    pub(super) max_unsent: usize,
    pub(super) max_resets: u32,
    pub(super) max_control_frames: u32,
    pub(super) ping_interval: Option<Duration>,
    pub(super) age_grace: Option<Duration>,
}

impl Http2 {
    /// The defaults.
    pub fn new() -> Self {
        Self {
            is_spoken: true,
            max_streams: 100,
            stream_window: 64 * 1024,
            connection_window: 1024 * 1024,
            max_unsent: 64 * 1024,
            max_resets: 1_000,
            max_control_frames: 1_000,
            ping_interval: None,
            age_grace: None,
        }
    }

    /// Not spoken: who begins with it is answered 505.
    pub fn off() -> Self {
        Self {
            is_spoken: false,
            ..Self::new()
        }
    }

    /// Requests at a time on one connection. Default: 100. The client is told so, and more are refused. As many handlers run
    /// at the most, whatever became of their requests: one whose request was reset counts until it has returned.
    pub fn max_streams(mut self, streams: u32) -> Self {
        self.max_streams = streams;
        self
    }

    /// Bytes of a request's body that may come before its handler reads them. Default: 64 KiB, at most 2^31-1.
    pub fn stream_window(mut self, bytes: u32) -> Self {
        self.stream_window = bytes;
        self
    }

    /// Bytes of all bodies of a connection that may come before handlers read them. Default: 1 MiB, from 65,535 to 2^31-1.
    pub fn connection_window(mut self, bytes: u32) -> Self {
        self.connection_window = bytes;
        self
    }

    /// Bytes of an answer that are kept until the client has room for them; who writes more waits. Default: 64 KiB.
    pub fn max_unsent_bytes(mut self, bytes: usize) -> Self {
        self.max_unsent = bytes;
        self
    }

    /// Requests that a client may reset, more than it gets answers, at once; 33 a second in the long run. Default: 1,000.
    /// Then the connection ends with `ENHANCE_YOUR_CALM`.
    pub fn max_resets(mut self, resets: u32) -> Self {
        self.max_resets = resets;
        self
    }

    /// Frames that ask for nothing (`PING`, `SETTINGS`, `WINDOW_UPDATE`, `PRIORITY`, `CONTINUATION`, `DATA` without data,
    /// kinds that nobody knows) which a client may send, more than it is sent frames of answers, at once; 100 a second in the
    /// long run. Default: 1,000. Then the connection ends with `ENHANCE_YOUR_CALM`.
    pub fn max_control_frames(mut self, frames: u32) -> Self {
        self.max_control_frames = frames;
        self
    }

    /// How far apart a client's `PING`s must be, unless it was sent something of an answer in between. Two that are not are
    /// let pass; then the connection ends with `ENHANCE_YOUR_CALM` and the words `too_many_pings`, by which clients of gRPC know
    /// to ask more rarely. Default: they may come as often as [`max_control_frames`](Http2::max_control_frames) has it; servers
    /// of gRPC elsewhere ask for 5 minutes.
    pub fn ping_interval(mut self, least: Duration) -> Self {
        self.ping_interval = Some(least);
        self
    }

    /// How long requests may still take on a connection that has reached its
    /// [`max_connection_age`](crate::server::Builder::max_connection_age), from the `GOAWAY` on. Default: as long as they take.
    pub fn age_grace(mut self, grace: Duration) -> Self {
        self.age_grace = Some(grace);
        self
    }

    /// What cannot be.
    pub(crate) fn complaint(&self) -> Option<String> {
        let windows = [
            ("stream_window", self.stream_window, 1),
            ("connection_window", self.connection_window, 65_535),
        ];
        for (name, bytes, least) in windows {
            if bytes < least || bytes > MOST_WINDOW {
                return Some(format!(
                    "{name} is {bytes}, must be from {least} to {MOST_WINDOW}"
                ));
            }
        }
        let is_zero = self.max_streams == 0
            || self.max_unsent == 0
            || self.max_resets == 0
            || self.max_control_frames == 0;
        let what =
            "max_streams, max_unsent_bytes, max_resets and max_control_frames must be at least 1";
        is_zero.then(|| what.to_owned())
    }
}

impl Default for Http2 {
    fn default() -> Self {
        Self::new()
    }
}

/// The most that a window may be (RFC 9113, 6.9.1).
const MOST_WINDOW: u32 = (1 << 31) - 1;
