//! Whether the server is still there: it is asked by `PING`.

use std::{
    task::{Context, Poll},
    time::{Duration, Instant},
};

use h2::{Ping, PingPong};
use maniple::time::now;

use super::settings::KeepAlive;

/// Asks the server whether it is there.
pub(super) struct Pings {
    settings: KeepAlive,
    ping_pong: PingPong,
    /// When the next is due, or the answer to the last.
    due: Instant,
    is_out: bool,
}

impl Pings {
    pub(super) fn new(settings: KeepAlive, ping_pong: PingPong) -> Self {
        Self {
            settings,
            ping_pong,
            due: after(settings.every),
            is_out: false,
        }
    }

    pub(super) fn due(&self) -> Instant {
        self.due
    }

    /// Whether the time has passed for an answer. If none is waited for, it is asked.
    pub(super) fn is_late(&mut self, is_calling: bool) -> bool {
        if self.due > now() {
            return false;
        }
        if self.is_out {
            return true;
        }
        let is_asked = is_calling || self.settings.when_idle;
        self.is_out = is_asked && self.ping_pong.send_ping(Ping::opaque()).is_ok();
        self.due = after(match self.is_out {
            true => self.settings.patience,
            false => self.settings.every,
        });
        false
    }

    /// Ready when the connection failed, or an answer has put off the next question.
    pub(super) fn poll(&mut self, context: &mut Context<'_>) -> Poll<Result<(), h2::Error>> {
        if !self.is_out {
            return Poll::Pending;
        }
        self.ping_pong.poll_pong(context).map_ok(|_| {
            self.is_out = false;
            self.due = after(self.settings.every);
        })
    }
}

/// So much from now, or in a time that never comes.
fn after(time: Duration) -> Instant {
    let never = Duration::from_secs(100 * 365 * 24 * 3600);
    now() + time.min(never)
}
