//! Groups and their policies: when one is cut, all its calls have ended, and what it returns is whole.

use std::{
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use maniple::{
    cancel::cancel_at,
    group::{Part, hedge, map, map_as_completed, partial_timeout, quorum, race, try_join, try_map},
    sync::channel,
    yield_now,
};

use super::{LONG, at_every_suspension};

/// Calls under way, which is none once a policy has returned or unwound.
struct Calls(AtomicUsize);

impl Calls {
    /// A call that takes so many turns, and suspends in two ways at each.
    fn call(&self, turns: usize) -> usize {
        self.0.fetch_add(1, Relaxed);
        let _ends = Ends(&self.0);
        for _ in 0..turns {
            yield_now();
            maniple::park_timeout(Duration::from_micros(1));
        }
        turns
    }

    fn succeed(&self, turns: usize) -> Result<usize, usize> {
        Ok(self.call(turns))
    }

    fn fail(&self, turns: usize) -> Result<usize, usize> {
        Err(self.call(turns))
    }
}

struct Ends<'a>(&'a AtomicUsize);

impl Drop for Ends<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Relaxed);
    }
}

/// Cuts `policy`, which says whether its result is right, everywhere; and asks it once more afterwards.
fn ends_whole(policy: impl Fn(&Calls) -> bool + Sync) {
    let points = at_every_suspension(|after| {
        let calls = Calls(AtomicUsize::new(0));
        let (right, struck) = cancel_at(after, || policy(&calls));
        assert_eq!(calls.0.load(Relaxed), 0, "cut at {after}");
        assert!(struck || right.is_ok());
        assert_ne!(right, Ok(false), "cut at {after}");
        assert!(policy(&calls));
        struck
    });
    assert!(points >= 4, "{points}");
}

#[test]
fn a_cut_race_has_a_winner_or_none() {
    ends_whole(|calls| {
        let calls = [1, 2, 3].map(|turns| {
            move || match turns {
                1 => calls.fail(turns),
                _ => calls.succeed(turns),
            }
        });
        // Several may be done at the cut; the one that failed is none of them.
        matches!(race(calls), Ok(2 | 3))
    });
}

#[test]
fn a_cut_quorum_is_complete_or_none() {
    ends_whole(|calls| {
        let calls = [3, 1, 2].map(|turns| move || calls.succeed(turns));
        let agreed = quorum(2, calls).unwrap();
        agreed.len() >= 2
            && agreed
                .iter()
                .all(|&(index, turns)| turns == [3, 1, 2][index])
    });
}

#[test]
fn a_cut_map_has_all_results_or_none() {
    ends_whole(|calls| map(2, [2, 1, 3], |turns| calls.call(turns)) == [2, 1, 3]);
    ends_whole(|calls| try_map(2, [2, 1], |turns| calls.succeed(turns)) == Ok(vec![2, 1]));
    ends_whole(|calls| {
        let error = try_map(2, [2, 1, 4], |turns| match turns {
            1 => calls.fail(turns),
            _ => calls.succeed(turns),
        });
        error == Err(1)
    });
}

#[test]
fn results_that_were_handed_over_before_a_cut_came_once_each() {
    let points = at_every_suspension(|after| {
        let calls = Calls(AtomicUsize::new(0));
        let mut came = [0; 4];
        let (whole, struck) = cancel_at(after, || {
            map_as_completed(
                2,
                0..4,
                |turns| calls.call(turns),
                |index, turns| {
                    assert_eq!(index, turns);
                    came[index] += 1;
                    yield_now();
                },
            );
        });
        assert_eq!(calls.0.load(Relaxed), 0);
        assert!(came.iter().all(|&times| times <= 1), "{came:?}");
        assert!(whole.is_err() || came == [1; 4], "cut at {after}: {came:?}");
        struck
    });
    assert!(points >= 4, "{points}");
}

#[test]
fn a_cut_hedge_has_an_attempt_that_succeeded_or_none() {
    ends_whole(|calls| {
        let attempt = |index| calls.succeed(3 - index);
        matches!(hedge(Duration::ZERO, attempt), Ok(2 | 3))
    });
    ends_whole(|calls| {
        let attempt = |index| match index {
            0 => calls.fail(2),
            _ => calls.succeed(1),
        };
        hedge(LONG, attempt) == Ok(1)
    });
}

#[test]
fn a_cut_partial_has_what_was_done() {
    ends_whole(|calls| {
        let outcomes = partial_timeout(LONG, [1, 2, 3].map(|turns| move || calls.call(turns)));
        let right = |(at, outcome)| match outcome {
            Part::Done(turns) => turns == at + 1,
            Part::Cut(_) => maniple::cancel::is_cancelled(),
        };
        outcomes.into_iter().enumerate().all(right)
    });
}

#[test]
fn a_cut_join_has_all_values_or_none() {
    ends_whole(|calls| {
        try_join([1, 3, 2].map(|turns| move || calls.succeed(turns))) == Ok(vec![1, 3, 2])
    });
    ends_whole(|calls| {
        let both = maniple::try_join!(calls.succeed(4), calls.fail(1), calls.succeed(5));
        both == Err(1)
    });
    ends_whole(|calls| maniple::join!(calls.call(1), calls.call(3), calls.call(2)) == (1, 3, 2));
}

#[test]
fn a_cut_group_with_children_of_children_leaves_nobody() {
    ends_whole(|calls| {
        let sum = maniple::group(|g| {
            let (sender, receiver) = channel::bounded(0);
            for turns in 1..3 {
                let sender = sender.clone();
                g.try_spawn(move || {
                    maniple::group(|g| {
                        let child = g.spawn(|| calls.call(turns));
                        Ok(child.join().map_err(drop)? + calls.call(1))
                    })
                    .and_then(|sum| sender.send(sum).map_err(drop))
                });
            }
            drop(sender);
            Ok::<_, ()>(receiver.iter().sum::<usize>())
        });
        // A cut is told as an error of a child, or by a sum that lacks what it would have sent.
        sum == Ok(5) || maniple::cancel::is_cancelled()
    });
}
