//! What a scenario has set up, by name, and what of that is left out.
//!
//! What is set up by calls on a world, its hosts and links, has a name: the place of the call, and which time it was
//! there. A world can be made without some of these: the call then does nothing.

use std::{
    collections::{BTreeMap, BTreeSet},
    panic::Location,
    sync::{Mutex, PoisonError},
};

/// Names of what is left out.
pub(super) type Without = BTreeSet<String>;

/// Turns that are drawn; without, they go round.
pub(super) const TURNS: &str = "turns";

/// What [`buggify!`](super::buggify) has happen.
pub(super) const CHANCES: &str = "chances";

/// What a scenario has set up so far, and what is left out of that.
pub(super) struct Setting {
    without: Without,
    /// How often each place was come by.
    times: Mutex<BTreeMap<String, u32>>,
    /// By name, in words.
    set_up: Mutex<BTreeMap<String, String>>,
}

impl Setting {
    pub(super) fn without(without: Without) -> Self {
        Self {
            without,
            times: Mutex::default(),
            set_up: Mutex::default(),
        }
    }

    /// Whether something that is to be set up there is left out.
    pub(super) fn leaves_out(&self, at: &Location<'_>, what: impl FnOnce() -> String) -> bool {
        let place = format!("{}:{}:{}", at.file(), at.line(), at.column());
        let mut times = self.times.lock().unwrap_or_else(PoisonError::into_inner);
        let time = times.entry(place.clone()).or_insert(0);
        *time += 1;
        let name = format!("{place}#{time}");
        if self.without.contains(&place) || self.without.contains(&name) {
            return true;
        }
        // A loop sets up more than anybody wants to read, or to leave out one by one.
        if *time <= MOST_TIMES {
            let mut set_up = self.set_up.lock().unwrap_or_else(PoisonError::into_inner);
            set_up.insert(name, what());
        }
        false
    }

    pub(super) fn take_set_up(&self) -> BTreeMap<String, String> {
        std::mem::take(&mut self.set_up.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const MOST_TIMES: u32 = 20;
