//! What is to happen in a world when, and the dice that decide it.

use std::collections::BTreeMap;

use super::{
    chronicle::{Chronicle, Moment},
    dice::Dice,
    host::HostId,
};

/// What is called when something has come to its end.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// What happens when, and by which dice.
pub(crate) struct Plan<E> {
    pub(super) dice: Dice,
    pub(super) now: u64,
    pub(super) chronicle: Chronicle,
    agenda: BTreeMap<(u64, u64), E>,
    entries: u64,
}

impl<E> Plan<E> {
    pub(super) fn new(seed: u64, chronicle: Chronicle) -> Self {
        Self {
            dice: Dice::new(seed),
            now: 0,
            chronicle,
            agenda: BTreeMap::new(),
            entries: 0,
        }
    }

    /// Writes down that something happens now, if anybody wants to know.
    pub(super) fn note(&mut self, what: Moment) {
        if self.chronicle.is_wanted() {
            self.chronicle.add(self.now, what);
        }
    }

    /// Writes down that something sets out: its number.
    pub(super) fn note_sent(
        &mut self,
        from: HostId,
        to: HostId,
        text: impl FnOnce() -> String,
    ) -> u64 {
        self.chronicle.sent(self.now, (from, to), text)
    }

    pub(super) fn note_came(&mut self, number: u64) {
        self.chronicle.came(self.now, number);
    }

    pub(super) fn note_lost(&mut self, number: u64) {
        self.chronicle.lost(self.now, number);
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
