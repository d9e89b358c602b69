//! Calls that are cut short on purpose in a world, and after how many rounds of its worker.
//!
//! A round is a turn, or a look at what is next where nothing can run.

use std::panic::Location;

use super::{dice::Dice, host::HostId, order::Order, plan::Call};

/// When a call is cut short, if it has not returned by then.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Due {
    /// After so many rounds.
    After(u64),
    /// Before any of the rounds, or never: a decision, where all are to be met.
    Chosen,
}

/// The calls under way that may be cut short, the oldest first.
pub(super) struct Cuts {
    dice: Dice,
    open: Vec<Open>,
    opened: u64,
}

struct Open {
    number: u64,
    due: Due,
    cut: Cut,
}

/// A call that is cut short now.
pub(super) struct Cut {
    pub(super) at: &'static Location<'static>,
    /// Whose it was when it began.
    pub(super) host: HostId,
    pub(super) call: Call,
}

/// What tells these dice from the others.
const SALT: u64 = 0x6375_7473_0000_0003;

/// So many calls of one are never cut short.
const NEVER: f64 = 0.125;

/// The others after up to so many rounds, as a power of two: each power is as likely.
const MOST_ROUNDS_LOG2: u64 = 10;

impl Cuts {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            dice: Dice::new(seed ^ SALT),
            open: Vec::new(),
            opened: 0,
        }
    }

    /// When a call is cut short that begins now; `None` if never.
    pub(super) fn draw(&mut self, order: &Order) -> Option<Due> {
        if let Order::Along(_) = order {
            return Some(Due::Chosen);
        }
        if self.dice.chance(NEVER) {
            return None;
        }
        let least = 1 << self.dice.below(MOST_ROUNDS_LOG2);
        Some(Due::After(self.dice.within(&(least - 1..2 * least - 1))))
    }

    /// From now on rounds count; its number, for [`close`](Self::close).
    pub(super) fn open(&mut self, due: Due, cut: Cut) -> u64 {
        self.opened += 1;
        let number = self.opened;
        self.open.push(Open { number, due, cut });
        number
    }

    /// It has returned.
    pub(super) fn close(&mut self, number: u64) {
        self.open.retain(|open| open.number != number);
    }

    pub(super) fn are_open(&self) -> bool {
        !self.open.is_empty()
    }

    /// Those that are cut short before the round which begins.
    pub(super) fn before_round(&mut self, order: &mut Order) -> Vec<Cut> {
        let is_due = |open: &mut Open| match (&mut open.due, &mut *order) {
            (Due::After(0), _) => true,
            (Due::After(left), _) => {
                *left -= 1;
                false
            }
            (Due::Chosen, Order::Along(path)) => path.choose(2) == 1,
            (Due::Chosen, _) => false,
        };
        let due = self.open.extract_if(.., is_due);
        due.map(|open| open.cut).collect()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn short_times_and_long_ones_are_drawn_alike_and_none_at_times() {
        let (mut cuts, order) = (Cuts::new(7), Order::drawn(7));
        let drawn = Vec::from_iter((0..10_000).map(|_| cuts.draw(&order)));
        let within = |least, most| {
            let fits = |due: &&Option<Due>| matches!(due, Some(Due::After(n)) if (least..most).contains(n));
            drawn.iter().filter(fits).count()
        };
        let never = drawn.iter().filter(|due| due.is_none()).count();
        assert!((1100..1400).contains(&never), "{never}");
        // One of ten powers each, of seven in eight.
        for (least, most) in [(0, 1), (1, 3), (7, 15), (511, 1023)] {
            let count = within(least, most);
            assert!((780..970).contains(&count), "{count} of {least}..{most}");
        }
        assert_eq!(within(0, 1023) + never, 10_000);
    }
}
