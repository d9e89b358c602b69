//! Who of those that can run has the next turn in a world: drawn, by priorities, or every order in its turn.
//!
//! Priorities are those of PCT (Burckhardt, Kothari, Musuvathi, Nagarakatte: A randomized scheduler with probabilistic
//! guarantees of finding bugs, 2010): the one that has the highest runs for as long as it can, and at a few drawn
//! points it falls behind all others. A fault that takes so many changes of the one that runs is met with a
//! probability that does not fall with the number of coroutines to the power of the turns, as it does where each turn
//! is drawn.
//!
//! Every order in its turn is a walk through the tree of decisions, depth first: a [`Path`] is what was decided up to
//! here, and the next begins where a decision has something left. Preemptions are bounded (Musuvathi, Qadeer: Iterative
//! context bounding, 2007): to have another coroutine run while the last one could go on costs one, all else is free.

use std::{cmp::Reverse, collections::BTreeMap};

use super::dice::Dice;

/// Which order a world has.
pub(crate) enum Order {
    /// Each turn is drawn.
    Drawn(Dice),
    /// In the order in which they became able to run, each for as long as a turn is in service.
    InTurn(Queue),
    Priorities(Priorities),
    /// As this path says, and by the first of the choices beyond its end.
    Along(Path),
}

/// Those who can run.
pub(crate) struct Candidates<'a> {
    pub(crate) count: usize,
    /// Who that is, by number, and whether it had its turn and gave way of its own accord.
    pub(crate) at: &'a dyn Fn(usize) -> (u64, bool),
}

/// What is decided for a turn.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Decision {
    /// Which of the candidates.
    pub(crate) next: usize,
    /// After how many operations it gives way that need not wait.
    pub(crate) budget: u32,
    /// Whether the kernel is asked after it, while others can run.
    pub(crate) polls: bool,
}

/// Operations that may succeed without a suspension, in a turn, are drawn up to so many.
const MOST_BUDGET: u64 = 32;

/// While something can run, the kernel is asked, and timers that are due are fired, once in so many turns.
const POLL_EVERY: u64 = 8;

/// As in service.
const BUDGET_IN_TURN: u32 = 128;

/// What tells the dice for orders from those for what happens, so that one changes without the other.
const SALT: u64 = 0x6F72_6465_7273_0001;

impl Order {
    pub(crate) fn drawn(seed: u64) -> Self {
        Self::Drawn(Dice::new(seed ^ SALT))
    }

    pub(crate) fn by_priorities(seed: u64, changes: u32) -> Self {
        Self::Priorities(Priorities::new(Dice::new(seed ^ SALT), changes))
    }

    /// Whether turns are drawn, and with them ties and what a kernel may do.
    pub(super) fn draws(&self) -> bool {
        matches!(self, Self::Drawn(_) | Self::Priorities(_))
    }

    /// Whether timers are fired before an event that is due at the same time.
    pub(super) fn puts_timers_first(&mut self, dice: &mut Dice) -> bool {
        match self {
            Self::Drawn(_) | Self::Priorities(_) => dice.below(2) == 1,
            Self::InTurn(_) => false,
            Self::Along(path) => path.choose(2) == 1,
        }
    }

    /// Who is next; `gave_way` if who ran last was made to give way, and could go on.
    pub(super) fn decide(&mut self, candidates: &Candidates<'_>, gave_way: bool) -> Decision {
        match self {
            Self::Drawn(dice) => Decision {
                next: dice.below(candidates.count as u64) as usize,
                budget: dice.below(MOST_BUDGET) as u32,
                polls: dice.below(POLL_EVERY) == 0,
            },
            Self::InTurn(queue) => Decision {
                next: queue.next(candidates),
                budget: BUDGET_IN_TURN,
                polls: true,
            },
            Self::Priorities(priorities) => Decision {
                next: priorities.next(candidates, gave_way),
                budget: 0,
                polls: priorities.dice.below(POLL_EVERY) == 0,
            },
            Self::Along(path) => Decision {
                next: path.next(candidates, gave_way),
                budget: 0,
                polls: true,
            },
        }
    }
}

/// Since when they can run.
#[derive(Default)]
pub(crate) struct Queue {
    since: BTreeMap<u64, u64>,
    came: u64,
}

impl Queue {
    fn next(&mut self, candidates: &Candidates<'_>) -> usize {
        // Those who gave way did so after they had made the others able to run.
        for gave_way in [false, true] {
            for (id, yielded) in (0..candidates.count).map(candidates.at) {
                if yielded == gave_way {
                    let came = &mut self.came;
                    self.since.entry(id).or_insert_with(|| {
                        *came += 1;
                        *came
                    });
                }
            }
        }
        let since = |nth: &usize| self.since.get(&(candidates.at)(*nth).0);
        let next = (0..candidates.count).min_by_key(since);
        let next = next.expect("somebody can run");
        self.since.remove(&(candidates.at)(next).0);
        next
    }
}

/// The highest of those that can run has its turn.
pub(crate) struct Priorities {
    dice: Dice,
    of: BTreeMap<u64, i64>,
    /// Turns after which the one whose turn it would be falls behind, latest first, and how far.
    changes: Vec<(u64, i64)>,
    /// Below everybody's.
    lowest: i64,
    turns: u64,
    /// Who had the last turn, and how many in a row.
    row: (u64, u32),
}

/// A scenario is taken to have so many turns, as a power of two; which, is drawn.
const MOST_TURNS_LOG2: u64 = 14;
const FEWEST_TURNS_LOG2: u64 = 3;

/// After so many turns in a row a coroutine falls behind: it waits for something that others are to do, and does not
/// say so.
const MOST_IN_A_ROW: u32 = 1000;

impl Priorities {
    fn new(mut dice: Dice, changes: u32) -> Self {
        // How long a scenario is, is not known before; and what ran before has no say, so that a seed says all.
        let turns = 1 << dice.within(&(FEWEST_TURNS_LOG2..MOST_TURNS_LOG2 + 1));
        let at = |nth: u32| (dice.below(turns), -1 - i64::from(nth));
        let mut changes: Vec<_> = (0..changes).map(at).collect();
        changes.sort_by_key(|&(turn, _)| Reverse(turn));
        Self {
            dice,
            of: BTreeMap::new(),
            lowest: -1 - changes.len() as i64,
            changes,
            turns: 0,
            row: (0, 0),
        }
    }

    fn next(&mut self, candidates: &Candidates<'_>, gave_way: bool) -> usize {
        for nth in 0..candidates.count {
            let (id, yielded) = (candidates.at)(nth);
            let dice = &mut self.dice;
            let priority = (self.of.entry(id)).or_insert_with(|| (dice.number() >> 1) as i64);
            if yielded && !gave_way && id == self.row.0 {
                self.lowest -= 1;
                *priority = self.lowest;
            }
        }
        loop {
            let (nth, id) = self.highest(candidates);
            let falls = match self.changes.last() {
                Some(&(turn, to)) if turn <= self.turns => {
                    self.changes.pop();
                    Some(to)
                }
                _ if self.row == (id, MOST_IN_A_ROW) => {
                    self.lowest -= 1;
                    self.row.1 = 0;
                    Some(self.lowest)
                }
                _ => None,
            };
            match falls {
                Some(to) => _ = self.of.insert(id, to),
                None => {
                    self.turns += 1;
                    let before = if self.row.0 == id { self.row.1 } else { 0 };
                    self.row = (id, before + 1);
                    return nth;
                }
            }
        }
    }

    fn highest(&self, candidates: &Candidates<'_>) -> (usize, u64) {
        let all = (0..candidates.count).map(|nth| (nth, (candidates.at)(nth).0));
        // Ties go to the first; there are none but by chance.
        let highest = all.max_by_key(|&(nth, id)| (self.of.get(&id), Reverse(nth)));
        highest.expect("somebody can run")
    }
}

/// What was decided, and what there was to decide: a way through the tree of all orders.
#[derive(Clone, Debug, Default)]
pub(crate) struct Path {
    taken: Vec<Choice>,
    at: usize,
    preemptions_left: u32,
    preemptions: u32,
    last: Option<u64>,
    /// There were other choices than the path was made for.
    has_strayed: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Choice {
    taken: u32,
    of: u32,
}

impl Path {
    /// The first of all with at most so many preemptions.
    pub(crate) fn first(preemptions: u32) -> Self {
        Self {
            preemptions,
            preemptions_left: preemptions,
            ..Self::default()
        }
    }

    /// The path of these choices, as [`choices`](Self::choices) has told them.
    pub(crate) fn of(choices: &[u32], preemptions: u32) -> Self {
        let taken = choices.iter().map(|&taken| Choice { taken, of: 0 });
        Self {
            taken: taken.collect(),
            ..Self::first(preemptions)
        }
    }

    /// The one after this, which has been gone to its end; `None` if it was the last.
    pub(crate) fn next_path(mut self) -> Option<Self> {
        while let Some(last) = self.taken.last_mut() {
            last.taken += 1;
            if last.taken < last.of {
                return Some(Self {
                    taken: self.taken,
                    ..Self::first(self.preemptions)
                });
            }
            self.taken.pop();
        }
        None
    }

    pub(crate) fn choices(&self) -> Vec<u32> {
        self.taken.iter().map(|choice| choice.taken).collect()
    }

    /// Whether the scenario had other choices than it had before on the same path.
    pub(crate) fn has_strayed(&self) -> bool {
        self.has_strayed
    }

    /// One of so many.
    pub(super) fn choose(&mut self, of: usize) -> usize {
        if of < 2 {
            return 0;
        }
        let of = u32::try_from(of).unwrap_or(u32::MAX);
        let taken = match self.taken.get_mut(self.at) {
            Some(choice) => {
                self.has_strayed |= choice.taken >= of || (choice.of != 0 && choice.of != of);
                choice.of = of;
                choice.taken.min(of - 1)
            }
            None => {
                self.taken.push(Choice { taken: 0, of });
                0
            }
        };
        self.at += 1;
        taken as usize
    }

    fn next(&mut self, candidates: &Candidates<'_>, gave_way: bool) -> usize {
        let all = 0..candidates.count;
        let last =
            (self.last).and_then(|last| all.clone().find(|&nth| (candidates.at)(nth).0 == last));
        let next = match last {
            // It could go on: that comes first.
            Some(last) if gave_way => {
                let drawn = match self.preemptions_left {
                    0 => 0,
                    _ => self.choose(candidates.count),
                };
                self.preemptions_left -= u32::from(drawn > 0);
                match drawn {
                    0 => last,
                    drawn if drawn <= last => drawn - 1,
                    drawn => drawn,
                }
            }
            // It waits for what others do, and says so: a loop around that ends only if they do.
            Some(last) if (candidates.at)(last).1 && candidates.count > 1 => {
                let drawn = self.choose(candidates.count - 1);
                drawn + usize::from(drawn >= last)
            }
            _ => self.choose(candidates.count),
        };
        self.last = Some((candidates.at)(next).0);
        next
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// Coroutines of so many steps each, which are made to give way after each; the order of their numbers.
    fn run(order: &mut Order, steps: &[usize]) -> Vec<u64> {
        let mut left: Vec<(u64, usize)> = (0..).zip(steps.iter().copied()).collect();
        let (mut ran, mut gave_way) = (Vec::new(), false);
        while !left.is_empty() {
            let at = |nth: usize| (left[nth].0, false);
            let candidates = Candidates {
                count: left.len(),
                at: &at,
            };
            let next = order.decide(&candidates, gave_way).next;
            ran.push(left[next].0);
            left[next].1 -= 1;
            gave_way = left[next].1 > 0;
            left.retain(|each| each.1 > 0);
        }
        ran
    }

    fn all(preemptions: u32, steps: &[usize]) -> BTreeSet<Vec<u64>> {
        let mut seen = BTreeSet::new();
        let mut path = Some(Path::first(preemptions));
        while let Some(here) = path {
            let mut order = Order::Along(here);
            assert!(seen.insert(run(&mut order, steps)), "each comes once");
            let Order::Along(here) = order else {
                unreachable!()
            };
            assert!(!here.has_strayed());
            path = here.next_path();
        }
        seen
    }

    #[test]
    fn each_order_comes_once() {
        assert_eq!(all(u32::MAX, &[3, 3]).len(), 20);
        assert_eq!(all(u32::MAX, &[2, 2, 2]).len(), 90);
        assert_eq!(all(u32::MAX, &[1, 1, 1, 1]).len(), 24);
    }

    #[test]
    fn without_preemptions_each_goes_on_until_it_waits() {
        assert_eq!(all(0, &[3, 3]).len(), 2);
        assert_eq!(all(0, &[2, 2, 2]).len(), 6);
        // Beside these two: one goes on before the first's last step, or before its last but one, from either.
        assert_eq!(all(1, &[3, 3]).len(), 2 + 2 * 2);
        assert!(all(1, &[3, 3]).is_subset(&all(2, &[3, 3])));
    }

    #[test]
    fn a_path_is_told_by_its_choices() {
        let mut order = Order::Along(Path::of(&[1, 2, 0, 1], u32::MAX));
        let ran = run(&mut order, &[2, 2, 2]);
        let Order::Along(path) = order else {
            unreachable!()
        };
        let again = run(
            &mut Order::Along(Path::of(&path.choices(), u32::MAX)),
            &[2, 2, 2],
        );
        assert_eq!(ran, again);
    }

    #[test]
    fn a_scenario_that_is_not_the_same_twice_strays() {
        let mut order = Order::Along(Path::first(u32::MAX));
        run(&mut order, &[2, 2, 2]);
        let Order::Along(path) = order else {
            unreachable!()
        };
        let mut order = Order::Along(path.next_path().unwrap());
        run(&mut order, &[3, 3]);
        assert!(matches!(order, Order::Along(path) if path.has_strayed()));
    }

    #[test]
    fn by_priorities_whoever_runs_goes_on_but_for_the_changes() {
        let switches = |ran: &[u64]| ran.windows(2).filter(|two| two[0] != two[1]).count();
        let mut most = 0;
        for seed in 0..1000 {
            for changes in 0..4 {
                let ran = run(&mut Order::by_priorities(seed, changes), &[4, 4, 4]);
                assert!(switches(&ran) <= 2 + changes as usize, "{ran:?}");
                most = most.max(switches(&ran));
            }
        }
        assert_eq!(most, 5);
    }

    #[test]
    fn by_priorities_who_gives_way_by_itself_falls_behind() {
        for seed in 0..100 {
            let mut order = Order::by_priorities(seed, 0);
            let at = |nth: usize| (nth as u64, true);
            let candidates = Candidates { count: 2, at: &at };
            let turns: Vec<_> = (0..6)
                .map(|_| order.decide(&candidates, false).next)
                .collect();
            assert!(turns.windows(2).all(|two| two[0] != two[1]), "{turns:?}");
        }
    }
}
