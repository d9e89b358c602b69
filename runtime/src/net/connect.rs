//! Connecting over TCP: to one address, or to whichever of several answers first (Happy Eyeballs, RFC 8305).
//!
//! The attempts are non-blocking connects, which one waiter waits for all together: no coroutine for each, and
//! giving up closes them.

use std::{
    collections::VecDeque,
    io,
    net::SocketAddr,
    time::{Duration, Instant},
};

use rustix::{io::Errno, net::sockopt};

use super::{
    resolve::no_address,
    simulated,
    socket::tcp_socket,
    source::{Source, wait_any},
};
use crate::{scheduler::now, sys::event::Direction};

/// How long an attempt may take before the next one joins in (RFC 8305, section 8).
const STAGGER: Duration = Duration::from_millis(250);

/// Connects to the address.
pub(super) fn to(address: &SocketAddr, until: Option<Instant>) -> io::Result<Source> {
    if let Some(world) = simulated::world() {
        return simulated::connect(&world, address, until, Source::of_world);
    }
    match begin(address)? {
        Begun::Done(source) => Ok(source),
        Begun::Pending(source) => {
            source.wait_ready(Direction::Write, until)?;
            ended(source)
        }
    }
}

/// Connects to the addresses, each [`STAGGER`] after the one before or as soon as that has failed, until one
/// answers. The last error if none does.
pub(super) fn to_first_of(addresses: Vec<SocketAddr>) -> io::Result<Source> {
    if simulated::world().is_some() {
        // A name stands for one address there.
        return to(addresses.first().ok_or_else(no_address)?, None);
    }
    let mut race = Race {
        ahead: interleaved(addresses),
        running: Vec::new(),
        error: None,
    };
    loop {
        if let Some(winner) = race.start_next() {
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

enum Begun {
    Done(Source),
    Pending(Source),
}

fn begin(address: &SocketAddr) -> io::Result<Begun> {
    let fd = tcp_socket(address)?;
    match rustix::net::connect(&fd, address) {
        Ok(()) => Ok(Begun::Done(Source::new(fd))),
        Err(Errno::INPROGRESS | Errno::INTR) => Ok(Begun::Pending(Source::new(fd))),
        Err(errno) => Err(errno.into()),
    }
}

/// How an attempt went whose socket has become writable.
fn ended(source: Source) -> io::Result<Source> {
    sockopt::socket_error(&source)??;
    Ok(source)
}

struct Race {
    ahead: VecDeque<SocketAddr>,
    running: Vec<Source>,
    error: Option<io::Error>,
}

impl Race {
    /// Starts the next attempt, passing over those that fail at once; a socket if one connects at once.
    fn start_next(&mut self) -> Option<Source> {
        while let Some(address) = self.ahead.pop_front() {
            match begin(&address) {
                Ok(Begun::Done(source)) => return Some(source),
                Ok(Begun::Pending(source)) => {
                    self.running.push(source);
                    return None;
                }
                Err(error) => self.error = Some(error),
            }
        }
        None
    }

    /// Waits until an attempt succeeds, whose socket is returned; until one fails, or until `then` if there is
    /// another to start.
    fn watch(&mut self, then: Instant) -> io::Result<Option<Source>> {
        let until = (!self.ahead.is_empty()).then_some(then);
        let attempts: Vec<_> = (self.running.iter())
            .map(|source| (source, Direction::Write))
            .collect();
        let first = match wait_any(&attempts, until) {
            Ok(first) => first,
            Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                // Ours, unless the scope's deadline has passed.
                crate::cancel::check()?;
                return Ok(None);
            }
            Err(error) => return Err(error),
        };
        match ended(self.running.remove(first)) {
            Ok(winner) => Ok(Some(winner)),
            Err(error) => {
                self.error = Some(error);
                Ok(None)
            }
        }
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
