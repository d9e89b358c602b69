//! The first successes: [`race`] wants one, [`quorum`] so many.

use std::ops::ControlFlow;

use crate::group::{
    decided,
    join::cut_short,
    joiner::{Ended, Joiner, Member, join_with},
};

/// Runs the calls concurrently and returns the first success; the others are cancelled.
///
/// It returns once the losers have ended, so they may borrow, as in any [`group`](crate::group()).
///
/// Elsewhere: Java's `StructuredTaskScope` with `anySuccessfulOrThrow`, JavaScript's `Promise.any`.
/// Eio's `Fiber.any`, Kotlin's `select` and Go's take the first that ends, success or not; Trio spells it
/// as a nursery that the winner cancels.
///
/// # Errors
/// All the errors, in the order of the calls, if none succeeds; none at all if there are no calls.
///
/// # Panics
/// With a call's panic, also if another has won meanwhile. Cancellation and deadlines reach the calls;
/// where that keeps the last from returning anything, this unwinds to the scope's edge.
///
/// # Examples
/// ```
/// use std::time::Duration;
/// let mirrors = [("far", 60_000), ("near", 1)];
/// let fastest = maniple::group::race(mirrors.map(|(name, millis)| move || {
///     maniple::sleep(Duration::from_millis(millis));
///     Ok::<_, ()>(name)
/// }));
/// assert_eq!(fastest, Ok("near"));
/// ```
pub fn race<I, F, T, E>(calls: I) -> Result<T, Vec<E>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    let calls: Vec<F> = calls.into_iter().collect();
    let mut errors: Vec<Option<E>> = calls.iter().map(|_| None).collect();
    // The first success takes the place of a group's first error: it is what ends the group.
    let undecided = decided(|g| {
        for (call, error) in calls.into_iter().zip(&mut errors) {
            drop(g.try_spawn(move || match call() {
                Ok(value) => Err(value),
                Err(failed) => {
                    *error = Some(failed);
                    Ok(())
                }
            }));
        }
        Ok(())
    });
    match undecided {
        Err(value) => Ok(value),
        Ok(()) => {
            let all: Option<Vec<E>> = errors.into_iter().collect();
            Err(all.unwrap_or_else(|| cut_short()))
        }
    }
}

/// What calls returned, each with the index of its call.
pub type Indexed<T> = Vec<(usize, T)>;

/// Runs the calls concurrently until `needed` of them have succeeded, and cancels the others.
///
/// Returns the successes in the order in which they came, each with the index of its call. Gives up,
/// and cancels the others, as soon as too few calls are left. A quorum of none calls nobody; one of
/// more than there are calls cannot be reached, and calls nobody either.
///
/// Elsewhere: no counterpart in Go's `errgroup`, Kotlin, Eio or Trio, where one counts and cancels by
/// hand; in Java a `StructuredTaskScope.Joiner` of one's own. Databases call it a quorum read.
///
/// # Errors
/// The errors in the order in which they came, each with the index of its call, once the quorum cannot
/// be reached any more.
///
/// # Panics
/// Panics as [`race`] does.
///
/// # Examples
/// ```
/// let replicas = [Ok("v7"), Err("down"), Ok("v7")];
/// let agreed = maniple::group::quorum(2, replicas.map(|replica| move || replica)).unwrap();
/// assert!(agreed.iter().all(|&(index, value)| index != 1 && value == "v7"));
/// let failed = maniple::group::quorum(3, replicas.map(|replica| move || replica));
/// assert_eq!(failed, Err(vec![(1, "down")]));
/// ```
pub fn quorum<I, F, T, E>(needed: usize, calls: I) -> Result<Indexed<T>, Indexed<E>>
where
    I: IntoIterator<Item = F>,
    F: FnOnce() -> Result<T, E> + Send,
    T: Send,
    E: Send,
{
    let calls: Vec<F> = calls.into_iter().collect();
    if needed == 0 {
        return Ok(Vec::new());
    }
    let Some(spare) = calls.len().checked_sub(needed) else {
        return Err(Vec::new());
    };
    let counting = Counting {
        needed,
        spare,
        successes: Vec::with_capacity(needed),
        errors: Vec::new(),
    };
    join_with(counting, calls)
}

struct Counting<T, E> {
    needed: usize,
    spare: usize,
    successes: Indexed<T>,
    errors: Indexed<E>,
}

impl<T, E> Joiner<Result<T, E>> for Counting<T, E> {
    type Output = Result<Indexed<T>, Indexed<E>>;

    fn completed(&mut self, member: Member<Result<T, E>>) -> ControlFlow<()> {
        match member.value {
            Ok(value) => self.successes.push((member.index, value)),
            Err(error) => self.errors.push((member.index, error)),
        }
        match self.successes.len() == self.needed || self.errors.len() > self.spare {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn finish(self, _: Ended) -> Option<Self::Output> {
        if self.successes.len() == self.needed {
            Some(Ok(self.successes))
        } else if self.errors.len() > self.spare {
            Some(Err(self.errors))
        } else {
            None
        }
    }
}
