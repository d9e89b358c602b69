//! Waiting for the ends of many connections at once.

use std::{fmt, io, os::fd::BorrowedFd, time::Instant};

use rustix::io::Errno;

use super::source::{Moved, Source};
use crate::{driver::hangups, scheduler::now, sys::event::Direction};

/// Connections of which only the end is waited for: whose peers have gone, or have ended their sending.
///
/// For who watches over many that others work on: it is not woken for bytes, and takes none. One waits for the whole
/// set, and it costs one descriptor. Each end is told once, also one that came before the connection was watched.
///
/// # Examples
/// ```
/// use maniple::net::{Hangups, TcpListener, TcpStream};
/// use std::{io::Write, time::{Duration, Instant}};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let listener = TcpListener::bind("127.0.0.1:0")?;
///     let mut client = TcpStream::connect(listener.local_addr()?)?;
///     let (stream, _peer) = listener.accept()?;
///     let hangups = Hangups::new()?;
///     hangups.watch(stream.fd_to_wait_for(), 7)?;
///     client.write_all(b"bytes that are no end")?;
///     drop(client);
///     let told = hangups.wait_until(Instant::now() + Duration::from_secs(60))?;
///     assert_eq!((told[0].key, told[0].is_whole), (7, false));
///     Ok(())
/// })
/// # }
/// ```
pub struct Hangups {
    set: Source,
}

/// The end of a connection; made by [`Hangups::wait_until`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Hangup {
    /// What the connection was watched under.
    pub key: u64,
    /// Whether nothing can be sent any more either: it was reset, or has failed, or both sides have ended it. Otherwise
    /// the peer has ended its sending, which TCP says in the same way for a peer that is gone. A Unix-domain socket
    /// whose peer is gone is whole.
    pub is_whole: bool,
}

impl Hangups {
    /// A set without connections.
    ///
    /// # Errors
    /// If the process has no descriptor left.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            set: Source::new(hangups::new_set()?),
        })
    }

    /// Watches the connection under that key, in place of a former one. What is closed is not watched any more.
    ///
    /// Of a connection of ours, `fd_to_wait_for` gives the descriptor.
    ///
    /// # Errors
    /// If the descriptor cannot be watched, such as a file's, or the user watches too many.
    pub fn watch(&self, connection: BorrowedFd<'_>, key: u64) -> io::Result<()> {
        hangups::watch(self.set.fd_to_wait_for(), connection, key).map_err(Into::into)
    }

    /// Waits until connections have ended, and returns which, at least one.
    ///
    /// # Errors
    /// Past `until` (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_until(&self, until: Instant) -> io::Result<Vec<Hangup>> {
        let patience = until.saturating_duration_since(now());
        self.set.io(Direction::Read, Some(patience), |set| {
            let mut told = Vec::new();
            let tell = |key, is_whole| told.push(Hangup { key, is_whole });
            match hangups::take(set, tell)? {
                0 => Err(Errno::AGAIN),
                _ => Ok(Moved::Fully(told)),
            }
        })
    }
}

impl fmt::Debug for Hangups {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Hangups").finish_non_exhaustive()
    }
}
