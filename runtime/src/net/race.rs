//! Connecting to whichever of several addresses answers first (Happy Eyeballs, RFC 8305).
//!
//! The attempts are non-blocking connects, all in one epoll of their own, which is waited for as any other
//! descriptor is: no coroutine for each, and giving up closes them.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    os::fd::{BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{Timespec, epoll},
    io::Errno,
    net::sockopt,
};

use super::{
    resolve::no_address,
    source::{Moved, Source},
    tcp,
};
use crate::{scheduler::now, sys::event::Direction};

/// How long an attempt may take before the next one joins in (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the addresses, each [`STAGGER`] after the one before or as soon as that has failed, until one
/// answers. The last error if none does.
pub(super) fn connect(addresses: Vec<SocketAddr>) -> io::Result<OwnedFd> {
    let mut race = Race {
        ahead: interleaved(addresses),
        running: Vec::new(),
        finish: Source::new(epoll::create(epoll::CreateFlags::CLOEXEC)?),
        error: None,
    };
    loop {
        if let Some(winner) = race.start_next()? {
            return Ok(winner);
        }
        if race.running.is_empty() {
            return Err(race.error.unwrap_or_else(no_address));
        }
        if let Some(winner) = race.watch(now() + STAGGER)? {
            return Ok(winner);
        }
    }
}

struct Race {
    ahead: VecDeque<SocketAddr>,
    /// By the number under which the epoll reports them.
    running: Vec<(u64, OwnedFd)>,
    finish: Source,
    error: Option<io::Error>,
}

impl Race {
    /// Starts the next attempt, passing over those that fail at once; a socket if one connects at once.
    fn start_next(&mut self) -> io::Result<Option<OwnedFd>> {
        while let Some(address) = self.ahead.pop_front() {
            let started =
                tcp::socket(&address).and_then(|fd| match rustix::net::connect(&fd, &address) {
                    Ok(()) => Ok((fd, true)),
                    Err(Errno::INPROGRESS | Errno::INTR) => Ok((fd, false)),
                    Err(errno) => Err(errno.into()),
                });
            match started {
                Ok((fd, true)) => return Ok(Some(fd)),
                Ok((fd, false)) => {
                    let number = self.ahead.len() as u64;
                    let data = epoll::EventData::new_u64(number);
                    epoll::add(&self.finish, &fd, data, epoll::EventFlags::OUT)?;
                    self.running.push((number, fd));
                    return Ok(None);
                }
                Err(error) => self.error = Some(error),
            }
        }
        Ok(None)
    }

    /// Waits until an attempt succeeds, whose socket is returned; until one fails, or until `then` if there is
    /// another to start.
    fn watch(&mut self, then: Instant) -> io::Result<Option<OwnedFd>> {
        let patience = match self.ahead.is_empty() {
            true => None,
            false => Some(then.saturating_duration_since(now())),
        };
        let ended = match self.finish.io(Direction::Read, patience, first_event) {
            Ok(number) => number,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Ours, unless the scope's deadline has passed.
                crate::cancel::check()?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        let Some(at) = self.running.iter().position(|(number, _)| *number == ended) else {
            return Ok(None);
        };
        let (_, fd) = self.running.swap_remove(at);
        match sockopt::socket_error(&fd)? {
            Ok(()) => {
                epoll::delete(&self.finish, &fd)?;
                Ok(Some(fd))
            }
            Err(errno) => {
                self.error = Some(errno.into());
                Ok(None)
            }
        }
    }
}

/// The number of an attempt that has ended.
fn first_event(fd: BorrowedFd<'_>) -> rustix::io::Result<Moved<u64>> {
    let mut events = [epoll::Event {
        flags: epoll::EventFlags::empty(),
        data: epoll::EventData::new_u64(0),
    }];
    let at_once = Timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    match epoll::wait(fd, &mut events, Some(&at_once))? {
        0 => Err(Errno::AGAIN),
        _ => Ok(Moved::Fully(events[0].data.u64())),
    }
}

/// The families in turn, the first address's first, each in its own order (RFC 8305, section 4).
fn interleaved(addresses: Vec<SocketAddr>) -> VecDeque<SocketAddr> {
    let Some(first) = addresses.first().map(SocketAddr::is_ipv6) else {
        return VecDeque::new();
    };
    let (ours, others): (Vec<_>, Vec<_>) =
        (addresses.into_iter()).partition(|address| address.is_ipv6() == first);
    let (mut ours, mut others) = (ours.into_iter(), others.into_iter());
    let mut turns = VecDeque::new();
    loop {
        let before = turns.len();
        turns.extend(ours.next());
        turns.extend(others.next());
        if turns.len() == before {
            return turns;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn order(addresses: &[&str]) -> Vec<String> {
        let addresses = addresses.iter().map(|address| address.parse().unwrap());
        let turns = interleaved(addresses.collect());
        turns.iter().map(SocketAddr::to_string).collect()
    }

    #[test]
    fn families_take_turns_beginning_with_the_first_addresss() {
        assert_eq!(
            order(&["[::1]:1", "[::2]:1", "[::3]:1", "1.0.0.1:1", "1.0.0.2:1"]),
            ["[::1]:1", "1.0.0.1:1", "[::2]:1", "1.0.0.2:1", "[::3]:1"]
        );
        assert_eq!(
            order(&["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]),
            ["1.0.0.1:1", "[::1]:1", "1.0.0.2:1"]
        );
        assert_eq!(order(&["1.0.0.1:1"]), ["1.0.0.1:1"]);
        assert!(order(&[]).is_empty());
    }
}
