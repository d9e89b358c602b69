//! Clocks that tell the time of day, a host's each: they are set ahead or behind, and drift.

use std::{
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use super::host::HostId;

/// When every world begins, since 1970: the first of January 2030.
const BEGINS: Duration = Duration::from_secs(1_893_456_000);

/// Clocks by host. Apart from what else a world knows, for it is asked from anywhere, also under that one's lock.
#[derive(Default)]
pub(super) struct Walls(Mutex<Vec<Wall>>);

#[derive(Clone, Copy, Default)]
struct Wall {
    /// In nanoseconds, of the time at which it was set.
    ahead: i128,
    /// Nanoseconds that it gains in each second.
    drift: i128,
    since: u64,
}

impl Wall {
    fn ahead_at(&self, nanos: u64) -> i128 {
        self.ahead + self.drift * i128::from(nanos - self.since) / 1_000_000_000
    }
}

impl Walls {
    /// What a host's clock shows, since 1970, so long after the world began.
    pub(super) fn show(&self, host: HostId, nanos: u64) -> Duration {
        let wall = self.lock().get(host.0 as usize).copied();
        let ahead = wall.unwrap_or_default().ahead_at(nanos);
        let shown = BEGINS.as_nanos() as i128 + i128::from(nanos) + ahead;
        let shown = u128::try_from(shown).unwrap_or(0);
        let seconds = u64::try_from(shown / 1_000_000_000).unwrap_or(u64::MAX);
        Duration::new(seconds, (shown % 1_000_000_000) as u32)
    }

    /// Sets a host's clock so far ahead of the world's, or behind it.
    pub(super) fn set(&self, host: HostId, nanos: u64, ahead: i128) {
        self.change(host, nanos, |wall| wall.ahead = ahead);
    }

    /// Has a host's clock gain so many nanoseconds in each second, from now on.
    pub(super) fn drift(&self, host: HostId, nanos: u64, drift: i128) {
        self.change(host, nanos, |wall| wall.drift = drift);
    }

    fn change(&self, host: HostId, nanos: u64, change: impl FnOnce(&mut Wall)) {
        let mut walls = self.lock();
        let at = host.0 as usize;
        if walls.len() <= at {
            walls.resize(at + 1, Wall::default());
        }
        let wall = &mut walls[at];
        wall.ahead = wall.ahead_at(nanos);
        wall.since = nanos;
        change(wall);
    }

    fn lock(&self) -> MutexGuard<'_, Vec<Wall>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
