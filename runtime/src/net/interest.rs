//! What a coroutine wants of a socket while it waits for something else as well.

use std::{fmt, io, os::fd::AsFd, time::Instant};

use super::source::{Source, wait_beside};
use crate::{sys::event::Direction, waiter::Waiter};

/// What is waited for of a socket beside a waker: see
/// [`Poller::wait_beside`](crate::future::Poller::wait_beside). Made by
/// [`TcpStream::interest`](super::TcpStream::interest) and
/// [`UnixStream::interest`](super::UnixStream::interest).
#[derive(Clone, Copy)]
pub struct Interest<'a> {
    source: &'a Source,
    reads: bool,
    writes: bool,
}

impl<'a> Interest<'a> {
    pub(super) fn new(source: &'a Source, reads: bool, writes: bool) -> Self {
        Self {
            source,
            reads,
            writes,
        }
    }

    /// Waits until the socket is ready, or for what `arm` makes the waiter known to, which says false
    /// if there is no need to wait. `forget` takes that back.
    pub(crate) fn wait(
        self,
        until: Option<Instant>,
        arm: impl FnOnce(&Waiter) -> bool,
        forget: impl Fn(),
    ) -> io::Result<()> {
        let both = [
            (self.source, Direction::Read),
            (self.source, Direction::Write),
        ];
        let places = match (self.reads, self.writes) {
            (true, true) => &both[..],
            (true, false) => &both[..1],
            (false, true) => &both[1..],
            (false, false) => &[],
        };
        wait_beside(places, until, arm, forget)
    }
}

impl fmt::Debug for Interest<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Interest")
            .field("fd", &self.source.as_fd())
            .field("reads", &self.reads)
            .field("writes", &self.writes)
            .finish()
    }
}
