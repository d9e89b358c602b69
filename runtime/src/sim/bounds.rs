//! How far worlds may go.

use std::time::Duration;

use super::World;
use crate::driver::sim;

/// How far a world may go before its seed fails, for [`World::bound`].
///
/// # Examples
/// ```
/// use maniple::sim::{self, Bounds};
/// use std::time::Duration;
/// let week = Duration::from_secs(7 * 24 * 3600);
/// sim::check(0..3, move |world| {
///     world.bound(Bounds::default().longest(2 * week));
///     maniple::sleep(week);
/// });
/// ```
#[derive(Clone, Copy, Debug, Default)]
pub struct Bounds(sim::Bounds);

impl Bounds {
    /// How long the scenario may take, by the world's clock. Default: a day.
    pub fn longest(mut self, time: Duration) -> Self {
        self.0.longest = time;
        self
    }

    /// How many turns coroutines may take while time stands still. Default: a million.
    pub fn turns_at_once(mut self, turns: u64) -> Self {
        self.0.turns_at_once = turns;
        self
    }

    /// How long a coroutine may hold the world without a wait, in real time: it computes, or never ends. Default: a
    /// minute.
    pub fn patience(mut self, time: Duration) -> Self {
        self.0.patience = time;
        self
    }
}

impl World {
    /// Sets how far it may go, from now on.
    pub fn bound(&self, bounds: Bounds) {
        self.inner.set_bounds(bounds.0);
    }
}
