//! Looking names up, and remembering the answers for a while.
//!
//! The system's resolver tells no time to live, so there is one for all names. Answers are kept per name and
//! process; errors and empty answers are not.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::simulated;
use crate::{offload, scheduler::now, sys::spin::SpinLock, wait};

/// How long the addresses of a name are remembered, unless [`set_name_ttl`] says otherwise.
pub const DEFAULT_NAME_TTL: Duration = Duration::from_secs(5);

/// Names that are remembered at most; beyond that, the one whose time ends first goes.
pub const MAX_NAMES: usize = 256;

/// Sets for how long the addresses of a name that was looked up are remembered, in the whole process, from the
/// next look-up on: [`DEFAULT_NAME_TTL`] to begin with. Zero remembers none.
///
/// What is remembered already is forgotten.
///
/// # Examples
/// ```
/// use maniple::net::{ToSocketAddrs, set_name_ttl};
/// use std::time::Duration;
/// // Every look-up asks the system.
/// set_name_ttl(Duration::ZERO);
/// # maniple::run(|| ("localhost", 80).to_socket_addrs().map(drop)).ok();
/// ```
pub fn set_name_ttl(ttl: Duration) {
    let nanos = u64::try_from(ttl.as_nanos()).unwrap_or(u64::MAX);
    let mut names = NAMES.lock();
    // Under the lock, so that no answer with the former time comes in behind.
    TTL_NANOS.store(nanos, Ordering::Relaxed);
    let forgotten = std::mem::replace(&mut *names, Names::new());
    drop(names);
    drop(forgotten);
}

static TTL_NANOS: AtomicU64 = AtomicU64::new(DEFAULT_NAME_TTL.as_nanos() as u64);

static NAMES: LazyLock<SpinLock<Names>> = LazyLock::new(|| SpinLock::new(Names::new()));

/// The addresses of a name, from memory or from getaddrinfo(3) on a thread.
pub(super) fn look_up(host: &str, port: u16) -> io::Result<Vec<SocketAddr>> {
    wait::check()?;
    if let Some(world) = simulated::world() {
        return simulated::look_up(&world, host, port).map(|address| vec![address]);
    }
    let remembers = TTL_NANOS.load(Ordering::Relaxed) != 0;
    if remembers && let Some(addresses) = NAMES.lock().get(host, port, now()) {
        return Ok(addresses);
    }
    let name = host.to_owned();
    let answer = offload::look_up(move || {
        std::net::ToSocketAddrs::to_socket_addrs(&(name.as_str(), port)).map(Vec::from_iter)
    })?;
    let addresses: Vec<SocketAddr> =
        answer.map_err(|error| io::Error::new(error.kind(), format!("look up {host}: {error}")))?;
    let asked = now();
    let mut names = NAMES.lock();
    let ttl = Duration::from_nanos(TTL_NANOS.load(Ordering::Relaxed));
    if !ttl.is_zero()
        && !addresses.is_empty()
        && let Some(until) = asked.checked_add(ttl)
    {
        names.put(host, &addresses, until, asked);
    }
    Ok(addresses)
}

/// What is remembered: each name's addresses, whose ports mean nothing, and until when.
struct Names(BTreeMap<Box<str>, (Vec<SocketAddr>, Instant)>);

impl Names {
    const fn new() -> Self {
        Self(BTreeMap::new())
    }

    fn get(&self, host: &str, port: u16, now: Instant) -> Option<Vec<SocketAddr>> {
        let (addresses, until) = self.0.get(host)?;
        if *until <= now {
            return None;
        }
        let mut addresses = addresses.clone();
        addresses
            .iter_mut()
            .for_each(|address| address.set_port(port));
        Some(addresses)
    }

    fn put(&mut self, host: &str, addresses: &[SocketAddr], until: Instant, now: Instant) {
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(host) {
            self.0.retain(|_, (_, until)| *until > now);
        }
        if self.0.len() >= MAX_NAMES && !self.0.contains_key(host) {
            let first = self.0.iter().min_by_key(|(_, (_, until))| *until);
            if let Some(name) = first.map(|(name, _)| name.clone()) {
                self.0.remove(&name);
            }
        }
        self.0.insert(host.into(), (addresses.to_vec(), until));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    #[test]
    fn a_name_is_remembered_for_any_port_until_its_time_ends() {
        let (mut names, begun) = (Names::new(), now());
        assert_eq!(names.get("a", 80, begun), None);
        names.put("a", &[address(80)], begun + SECOND, begun);
        assert_eq!(names.get("a", 443, begun), Some(vec![address(443)]));
        assert_eq!(names.get("b", 443, begun), None);
        assert_eq!(names.get("a", 80, begun + SECOND), None);
        names.put("a", &[address(1), address(2)], begun + 3 * SECOND, begun);
        assert_eq!(names.get("a", 7, begun + SECOND).unwrap().len(), 2);
    }

    #[test]
    fn no_more_names_are_remembered_than_the_limit_and_the_oldest_go_first() {
        let (mut names, begun) = (Names::new(), now());
        for number in 0..MAX_NAMES as u32 + 10 {
            let until = begun + (number + 1) * SECOND;
            names.put(&number.to_string(), &[address(0)], until, begun);
        }
        assert_eq!(names.0.len(), MAX_NAMES);
        assert_eq!(names.get("9", 0, begun), None);
        assert!(names.get("10", 0, begun).is_some());
        // Those whose time has ended make room together.
        let later = begun + 100 * SECOND;
        names.put("new", &[address(0)], later + SECOND, later);
        assert_eq!(names.0.len(), MAX_NAMES - 90 + 1);
    }
}
