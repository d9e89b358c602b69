//! Many calls at once, folded into one value: [`Parallel`].

use std::{ops::ControlFlow, time::Duration};

use crate::{
    error::Interrupt,
    group::joiner::{Ended, Joiner, Member, join_indexed},
};

/// Makes many calls at once and folds what they return into one value, as it comes; and keeps what became of each.
///
/// brpc has the same as `ParallelChannel`. A call may be such a group in its turn.
///
/// # Examples
/// ```
/// use maniple::group::{Ending, Fate, Parallel};
/// use std::ops::ControlFlow;
///
/// let shards = [Some(Ok(3)), Some(Err("down")), None, Some(Ok(4))];
/// let calls = shards.map(|answer| answer.map(|answer| move || answer)); // the third is not asked
/// let sum = |sum: &mut u32, _index, hits: u32| {
///     *sum += hits;
///     ControlFlow::Continue(())
/// };
/// let found = Parallel::new().run(calls, 0, sum);
/// assert_eq!((found.value, found.end), (7, Ending::All));
/// assert!(matches!(found.members[1], Fate::Failed { error: "down", .. }));
/// assert_eq!(found.members[2], Fate::Skipped);
///
/// // With one failure it is not worth going on.
/// let found = Parallel::new().give_up_at(1).run(calls, 0, sum);
/// assert_eq!(found.end, Ending::GivenUp);
/// ```
#[derive(Clone, Copy, Debug, Default)]
#[must_use = "it does nothing until it runs calls"]
pub struct Parallel {
    failures: Option<usize>,
    successes: Option<usize>,
}

/// What a [`Parallel`] has come to.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Gathered<A, E> {
    /// What was folded from those that succeeded.
    pub value: A,
    /// What became of each call, in their order.
    pub members: Vec<Fate<E>>,
    /// Why it has ended.
    pub end: Ending,
}

/// What became of a call.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate<E> {
    /// It was none, by its maker's choice.
    Skipped,
    /// It succeeded, and was folded.
    Done {
        /// How long it took.
        took: Duration,
    },
    /// It failed.
    Failed {
        /// What it returned.
        error: E,
        /// How long it took.
        took: Duration,
    },
    /// It was cut short, or came after the end was decided.
    Cut {
        /// How long it had until then.
        took: Duration,
    },
    /// The end was decided before it was made.
    NotMade,
}

/// Why it has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ending {
    /// All calls have returned.
    All,
    /// As many as were wanted have succeeded.
    Enough,
    /// The fold said so.
    Folded,
    /// Too many have failed.
    GivenUp,
    /// A deadline or a cancellation from outside came before.
    Cut(Interrupt),
}

impl Parallel {
    /// Waits for all calls, whatever they come to.
    pub fn new() -> Self {
        Self::default()
    }

    /// Cancels the others once so many have failed. Default: never.
    ///
    /// # Panics
    /// If it is 0.
    pub fn give_up_at(mut self, failures: usize) -> Self {
        assert!(failures > 0, "given up before the first call");
        self.failures = Some(failures);
        self
    }

    /// Cancels the others once so many have succeeded. Default: never.
    ///
    /// # Panics
    /// If it is 0.
    pub fn enough_at(mut self, successes: usize) -> Self {
        assert!(successes > 0, "enough before the first call");
        self.successes = Some(successes);
        self
    }

    /// Runs the calls concurrently. `None` is a member that is not called.
    ///
    /// `fold` gets the value so far, the index of the call and what it returned: in the order in which they return,
    /// one after the other. With `Break` it ends the group, and the other calls are cancelled. A deadline or a
    /// cancellation does the same: what is folded by then is returned.
    ///
    /// # Panics
    /// With the panic of a call or of `fold`; the other calls are cancelled.
    pub fn run<I, F, T, E, A>(
        self,
        calls: I,
        first: A,
        fold: impl FnMut(&mut A, usize, T) -> ControlFlow<()> + Send,
    ) -> Gathered<A, E>
    where
        I: IntoIterator<Item = Option<F>>,
        F: FnOnce() -> Result<T, E> + Send,
        T: Send,
        E: Send,
        A: Send,
    {
        let calls: Vec<Option<F>> = calls.into_iter().collect();
        let fates = calls.iter().map(|call| match call {
            Some(_) => Fate::NotMade,
            None => Fate::Skipped,
        });
        let folding = Folding {
            gathered: Gathered {
                value: first,
                members: fates.collect(),
                end: Ending::All,
            },
            fold,
            left: self,
        };
        let made = calls.into_iter().enumerate();
        join_indexed(
            folding,
            made.filter_map(|(index, call)| Some((index, call?))),
        )
    }
}

/// Of the limits, what is left.
struct Folding<A, E, F> {
    gathered: Gathered<A, E>,
    fold: F,
    left: Parallel,
}

/// Whether that was the last one of a limit.
fn is_last(left: &mut Option<usize>) -> bool {
    match left {
        None => false,
        Some(left) => {
            *left -= 1;
            *left == 0
        }
    }
}

impl<T, E, A, F> Joiner<Result<T, E>> for Folding<A, E, F>
where
    F: FnMut(&mut A, usize, T) -> ControlFlow<()>,
{
    type Output = Gathered<A, E>;

    fn completed(&mut self, member: Member<Result<T, E>>) -> ControlFlow<()> {
        let (index, took) = (member.index, member.took);
        let ends = match member.value {
            Ok(value) => {
                self.gathered.members[index] = Fate::Done { took };
                let flow = (self.fold)(&mut self.gathered.value, index, value);
                let is_enough = is_last(&mut self.left.successes);
                match flow {
                    ControlFlow::Break(()) => Some(Ending::Folded),
                    ControlFlow::Continue(()) => is_enough.then_some(Ending::Enough),
                }
            }
            Err(error) => {
                self.gathered.members[index] = Fate::Failed { error, took };
                is_last(&mut self.left.failures).then_some(Ending::GivenUp)
            }
        };
        match ends {
            None => ControlFlow::Continue(()),
            Some(ending) => {
                self.gathered.end = ending;
                ControlFlow::Break(())
            }
        }
    }

    fn cut(&mut self, index: usize, took: Duration) {
        self.gathered.members[index] = Fate::Cut { took };
    }

    fn finish(mut self, end: Ended) -> Option<Gathered<A, E>> {
        if let Ended::Cut(interrupt) = end {
            self.gathered.end = Ending::Cut(interrupt);
        }
        Some(self.gathered)
    }
}
