//! What is to happen in a world when, and the dice that decide it.

use std::collections::BTreeMap;

use super::dice::Dice;

/// What is called when something has come to its end.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// What happens when, and by which dice.
pub(crate) struct Plan<E> {
    pub(super) dice: Dice,
    pub(super) now: u64,
    agenda: BTreeMap<(u64, u64), E>,
    entries: u64,
}

impl<E> Plan<E> {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed),
            now: 0,
            agenda: BTreeMap::new(),
            entries: 0,
        }
    }

    /// Has `event` happen `nanos` from now.
    pub(super) fn after(&mut self, nanos: u64, event: E) {
        self.at(self.now.saturating_add(nanos), event);
    }

    pub(super) fn at(&mut self, nanos: u64, event: E) {
        self.entries += 1;
        self.agenda.insert((nanos, self.entries), event);
    }

    pub(super) fn take_due(&mut self) -> Option<E> {
        let entry = self.agenda.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|(&(at, _), _)| at)
    }
}
