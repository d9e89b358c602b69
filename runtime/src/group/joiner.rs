//! Policies of one's own: who is called, when it is enough, and what is made of it.

use std::{
    ops::ControlFlow,
    time::{Duration, Instant},
};

use crate::{
    error::Interrupt,
    group::{cause, decided, join::cut_short},
    scheduler::now,
    sync::Mutex,
};

/// What a group of calls is to come to: asked before each call, and told of each that has returned. See [`join_with`].
///
/// Elsewhere: Java's `StructuredTaskScope.Joiner`, with `onFork`, `onComplete`, `onTimeout` and `result`.
///
/// It is asked and told by one call at a time, on whichever worker that is. A panic of any of its methods is the
/// group's: the calls are cancelled and it goes on in the caller.
///
/// # Examples
/// The first answer that is good enough, and until then the best one:
/// ```
/// use maniple::group::{Ended, Joiner, Member, join_with};
/// use std::{ops::ControlFlow, time::Duration};
///
/// struct GoodEnough(u32, Option<u32>);
///
/// impl Joiner<u32> for GoodEnough {
///     type Output = Option<u32>;
///
///     fn completed(&mut self, member: Member<u32>) -> ControlFlow<()> {
///         self.1 = self.1.max(Some(member.value));
///         match member.value >= self.0 {
///             true => ControlFlow::Break(()),
///             false => ControlFlow::Continue(()),
///         }
///     }
///
///     /// After a timeout, too: what there is by then.
///     fn finish(self, _: Ended) -> Option<Option<u32>> {
///         Some(self.1)
///     }
/// }
///
/// let answers = [(0, 3), (1, 8), (60_000, 9)].map(|(millis, quality)| move || {
///     maniple::sleep(Duration::from_millis(millis));
///     quality
/// });
/// assert_eq!(join_with(GoodEnough(7, None), answers), Some(8));
/// let soon = Duration::from_millis(20);
/// let best = maniple::timeout(soon, || join_with(GoodEnough(9, None), answers));
/// assert_eq!(best, Ok(Some(8)));
/// ```
pub trait Joiner<T> {
    /// What the group comes to.
    type Output;

    /// Whether the call of that index is to be made. Default: yes.
    fn forks(&mut self, index: usize) -> bool {
        _ = index;
        true
    }

    /// A call has returned. `Break` cancels the others: it is decided, and this is not called again.
    fn completed(&mut self, member: Member<T>) -> ControlFlow<()>;

    /// A call was cut short, or returned after it was decided. Called for each of them once all have ended. Default:
    /// nothing.
    fn cut(&mut self, index: usize, took: Duration) {
        _ = (index, took);
    }

    /// All have ended. After a deadline this is where a partial result comes from. `None` if there is nothing to
    /// return: [`join_with`] then unwinds to the edge of the scope that was cut. That is no answer where nothing was
    /// cut.
    fn finish(self, end: Ended) -> Option<Self::Output>;
}

/// A call that has returned.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Member<T> {
    /// Of the call, from 0.
    pub index: usize,
    /// How long it took from the moment that it was spawned.
    pub took: Duration,
    /// What it returned.
    pub value: T,
}

/// How a group of calls has ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// All calls have returned, and none decided it.
    All,
    /// One decided it.
    Decided,
    /// A deadline or a cancellation from outside came before.
    Cut(Interrupt),
}

/// Runs the calls concurrently and makes of them what `joiner` says.
///
/// It returns once all calls have ended, so they may borrow, as in any [`group`](crate::group()). Most of what one
/// wants of several calls is [there already](mod@crate::group); this is for the rest.
///
/// # Panics
/// With the panic of a call or of the joiner; the other calls are cancelled. If the joiner has nothing to return where
/// nothing was cut. Cancellation and deadlines reach the calls; where the joiner then has nothing to return, this
/// unwinds to the scope's edge.
pub fn join_with<J, I, F, T>(joiner: J, calls: I) -> J::Output
where
    J: Joiner<T> + Send,
    I: IntoIterator<Item = F>,
    F: FnOnce() -> T + Send,
    T: Send,
{
    join_indexed(joiner, calls.into_iter().enumerate())
}

/// The same for calls whose indexes are not those of their places.
pub(super) fn join_indexed<J, F, T>(
    joiner: J,
    calls: impl IntoIterator<Item = (usize, F)>,
) -> J::Output
where
    J: Joiner<T> + Send,
    F: FnOnce() -> T + Send,
    T: Send,
{
    let calls: Vec<(usize, F)> = calls.into_iter().collect();
    let state = Mutex::new(State {
        joiner,
        is_decided: false,
    });
    let cuts = Mutex::new(Vec::with_capacity(calls.len()));
    let (state_of, cuts_of) = (&state, &cuts);
    let _ended: Result<(), Decided> = decided(|g| {
        for (index, call) in calls {
            let mut state = state_of.lock();
            if state.is_decided {
                break;
            }
            let forks = state.joiner.forks(index);
            drop(state);
            if !forks {
                continue;
            }
            let report = Report {
                cuts: cuts_of,
                index,
                began: now(),
                has_counted: false,
            };
            drop(g.try_spawn(move || report.tell(call(), state_of)));
        }
        Ok(())
    });
    let State {
        mut joiner,
        is_decided,
    } = state.into_inner();
    let cuts = cuts.into_inner();
    let end = match (is_decided, cuts.is_empty()) {
        (true, _) => Ended::Decided,
        (false, true) => Ended::All,
        (false, false) => Ended::Cut(cause()),
    };
    for (index, took) in cuts {
        joiner.cut(index, took);
    }
    let output = joiner.finish(end);
    output.unwrap_or_else(|| match end {
        Ended::Cut(_) => cut_short(),
        Ended::All | Ended::Decided => {
            panic!("a joiner that returns nothing, where nothing was cut")
        }
    })
}

struct State<J> {
    joiner: J,
    is_decided: bool,
}

/// It ends the group early.
struct Decided;

/// Notes a call that was cut short, whichever way, even if it never began.
struct Report<'a> {
    cuts: &'a Mutex<Vec<(usize, Duration)>>,
    index: usize,
    began: Instant,
    has_counted: bool,
}

impl Report<'_> {
    fn took(&self) -> Duration {
        now().saturating_duration_since(self.began)
    }

    fn tell<J: Joiner<T>, T>(mut self, value: T, state: &Mutex<State<J>>) -> Result<(), Decided> {
        let took = self.took();
        let mut state = state.lock();
        if state.is_decided {
            return Ok(());
        }
        self.has_counted = true;
        let member = Member {
            index: self.index,
            took,
            value,
        };
        match state.joiner.completed(member) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                state.is_decided = true;
                Err(Decided)
            }
        }
    }
}

impl Drop for Report<'_> {
    fn drop(&mut self) {
        if !self.has_counted {
            self.cuts.lock().push((self.index, self.took()));
        }
    }
}
