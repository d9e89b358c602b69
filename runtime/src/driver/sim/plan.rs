//! What is to happen in a world when, and the dice that decide it.

use std::collections::BTreeMap;

use super::{
    chronicle::{Chronicle, Moment},
    dice::Dice,
    host::HostId,
};

/// What is called when something has come to its end.
pub(crate) type Call = Box<dyn FnOnce() + Send>;

/// An event that may be due at the same nanosecond as another.
pub(crate) trait Happens {
    /// Events of one lane that are due at the same time keep the order in which they were entered. `None` is a lane of
    /// the event's own.
    fn lane(&self) -> Option<u64>;
}

/// What happens when, and by which dice.
pub(crate) struct Plan<E> {
    pub(super) dice: Dice,
    pub(super) now: u64,
    pub(super) chronicle: Chronicle,
    /// By time, then by what is drawn for a lane, then as entered.
    agenda: BTreeMap<(u64, u64, u64), E>,
    entries: u64,
    /// Seeds the order of lanes at one time; without it, events of one time happen as they were entered.
    ties: Option<u64>,
}

/// Keeps the dice for ties apart from the others.
const SALT: u64 = 0x7469_6573_0000_0001;

impl<E> Plan<E> {
    /// With `draws_ties`, the order of lanes at one time is drawn.
    pub(super) fn new(seed: u64, draws_ties: bool, chronicle: Chronicle) -> Self {
        Self {
            dice: Dice::new(seed),
            now: 0,
            chronicle,
            agenda: BTreeMap::new(),
            entries: 0,
            ties: draws_ties.then_some(seed ^ SALT),
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

    pub(super) fn take_due(&mut self) -> Option<E> {
        let entry = self.agenda.first_entry()?;
        (entry.key().0 <= self.now).then(|| entry.remove())
    }

    pub(super) fn next_at(&self) -> Option<u64> {
        self.agenda.first_key_value().map(|(&(at, ..), _)| at)
    }
}

impl<E: Happens> Plan<E> {
    /// Has `event` happen `nanos` from now.
    pub(super) fn after(&mut self, nanos: u64, event: E) {
        self.at(self.now.saturating_add(nanos), event);
    }

    pub(super) fn at(&mut self, nanos: u64, event: E) {
        self.entries += 1;
        let tie = self.ties.map_or(0, |salt| {
            let lane = event.lane().unwrap_or(!self.entries);
            // From lane and time alone, so that events of one lane draw the same, and keep their order.
            Dice::new(salt ^ Dice::new(nanos).number() ^ lane).number()
        });
        self.agenda.insert((nanos, tie, self.entries), event);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::{super::chronicle::Wanted, *};

    /// The lane, 0 for none, and a number.
    #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
    struct Numbered(u64, u64);

    impl Happens for Numbered {
        fn lane(&self) -> Option<u64> {
            Some(self.0).filter(|&lane| lane != 0)
        }
    }

    const ENTERED: [Numbered; 4] = [
        Numbered(1, 1),
        Numbered(0, 0),
        Numbered(1, 2),
        Numbered(2, 1),
    ];

    fn order(seed: u64, draws_ties: bool) -> Vec<Numbered> {
        let mut plan = Plan::new(seed, draws_ties, Chronicle::new(Wanted::default()));
        ENTERED.iter().for_each(|&event| plan.at(7, event));
        plan.now = 7;
        std::iter::from_fn(|| plan.take_due()).collect()
    }

    #[test]
    fn events_of_one_time_come_in_every_order_that_keeps_each_lane() {
        let orders: BTreeSet<_> = (0..1000).map(|seed| order(seed, true)).collect();
        // Three lanes, in each of their orders.
        assert_eq!(orders.len(), 6, "{orders:?}");
        for order in orders {
            let at = |event| order.iter().position(|each| *each == event);
            assert!(at(Numbered(1, 1)) < at(Numbered(1, 2)), "{order:?}");
        }
    }

    #[test]
    fn events_of_one_time_come_as_entered_where_ties_are_not_drawn() {
        assert_eq!(order(7, false), ENTERED);
    }
}
