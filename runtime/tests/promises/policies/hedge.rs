//! A second attempt where the first is slow.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::{cancel, group, sync::channel, time::Elapsed};

use super::{Inside, cancelled_at_any_moment, caught, never, yields};
use crate::{LONG, SHORT, in_world, on};

#[test]
fn a_hedge_makes_no_second_attempt_while_the_first_is_quick() {
    let try_it = || {
        let attempts = AtomicUsize::new(0);
        let quick = group::hedge(LONG, |index| {
            attempts.fetch_add(1, Ordering::SeqCst);
            Ok::<_, ()>(index)
        });
        assert_eq!((quick, attempts.load(Ordering::SeqCst)), (Ok(0), 1));
        let endless = std::time::Duration::MAX;
        assert_eq!(group::hedge(endless, Ok::<_, ()>), Ok(0));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn a_hedge_attempts_again_after_the_delay_and_cancels_the_loser() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let began = std::time::Instant::now();
        let won = group::hedge(SHORT, |index| match index {
            0 => never(&inside),
            _ => Ok::<_, ()>((index, began.elapsed() >= SHORT)),
        });
        assert_eq!((won, inside.load(Ordering::SeqCst)), (Ok((1, true)), 0));
        assert_eq!(cancel::check(), Ok(()));
        // The second is under way when the first wins.
        let (begin, begun) = channel::bounded(1);
        let won = group::hedge(std::time::Duration::ZERO, |index| {
            if index == 1 {
                begin.send(()).unwrap();
                never(&inside)
            }
            begun.recv().unwrap();
            Ok::<_, ()>(index)
        });
        assert_eq!((won, inside.load(Ordering::SeqCst)), (Ok(0), 0));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn a_hedge_attempts_again_at_once_after_a_failure_and_returns_the_second_error() {
    on(2, || {
        let won = group::hedge(LONG, |index| if index == 0 { Err(()) } else { Ok(index) });
        assert_eq!(won, Ok(1));
        let lost = group::hedge(LONG, Err::<(), _>);
        assert_eq!(lost, Err(1));
        let (both, failed) = channel::bounded(1);
        let lost = group::hedge(std::time::Duration::ZERO, |index| {
            if index == 0 {
                failed.recv().unwrap();
            } else {
                both.send(()).unwrap();
            }
            Err::<(), _>(index)
        });
        assert_eq!(lost, Err(1));
        let inside = AtomicUsize::new(0);
        let endless = |_| Ok::<u8, ()>(never(&inside));
        let cut = maniple::timeout(4 * SHORT, || group::hedge(SHORT, endless));
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
        let message = caught(|| {
            group::hedge(SHORT, |index| match index {
                0 => Ok::<u8, ()>(never(&inside)),
                _ => panic!("the second's"),
            })
        });
        assert_eq!(message, "the second's");
    });
}

#[test]
fn a_hedge_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let won = group::hedge(std::time::Duration::ZERO, |index| {
            let _inside = Inside::enter(inside);
            yields(4 + index);
            Ok::<_, ()>(())
        });
        assert_eq!(won, Ok(()));
    });
}

#[test]
fn a_caller_that_is_cut_makes_no_second_attempt() {
    on(1, || {
        let attempts = AtomicUsize::new(0);
        let (_sender, receiver) = channel::bounded::<()>(1);
        let cut = maniple::timeout(SHORT, || {
            group::hedge(LONG, |_| {
                attempts.fetch_add(1, Ordering::SeqCst);
                receiver.recv().map_err(|_| "cut short")
            })
        });
        assert_eq!(cut, Ok(Err("cut short")));
        assert_eq!(attempts.into_inner(), 1);
    });
}

#[test]
fn a_hedger_learns_its_delay_and_leaves_quick_failures_out() {
    on(1, || {
        let hedger = group::Hedger::new(LONG).percentile(50);
        for _ in 0..100 {
            assert_eq!(hedger.run(|_| Err::<(), _>(())), Err(()));
        }
        assert_eq!(hedger.delay(), LONG);
        for _ in 0..16 {
            assert_eq!(hedger.run(Ok::<_, ()>), Ok(0));
        }
        let learnt = hedger.delay();
        assert!(learnt < LONG / 2, "{learnt:?}");
        let inside = AtomicUsize::new(0);
        for _ in 0..64 {
            let won = hedger.run(|index| match index {
                0 => never(&inside),
                _ => Ok::<_, ()>(index),
            });
            assert_eq!(won, Ok(1));
        }
        assert!(hedger.delay() > learnt, "slow ones count though they lost");
    });
}

#[test]
fn a_hedger_with_a_bound_makes_a_share_of_second_attempts() {
    in_world(|| {
        let hedger = group::Hedger::new(SHORT / 10).at_most(20, LONG);
        let seconds = AtomicUsize::new(0);
        // All are slow: without a bound each would be made twice.
        for _ in 0..50 {
            let answer = hedger.run(|index| {
                seconds.fetch_add(index, Ordering::SeqCst);
                match index {
                    0 => maniple::sleep(SHORT / 5),
                    _ => yields(1),
                }
                Ok::<_, ()>(index)
            });
            assert!(answer.is_ok());
        }
        let stats = hedger.stats();
        assert_eq!(stats.calls, 50);
        assert_eq!(stats.hedges, seconds.into_inner() as u64);
        assert!(stats.hedges <= 10 && stats.won <= stats.hedges, "{stats:?}");
    });
}

#[test]
fn a_second_attempt_that_may_not_be_made_leaves_the_call_with_its_first_error() {
    on(1, || {
        let hedger = group::Hedger::new(LONG).at_most(0, LONG);
        let fail = |index| Err::<(), usize>(index);
        assert_eq!(hedger.run(fail), Err(1), "one in any case");
        assert_eq!(hedger.run(fail), Err(0));
        assert_eq!((hedger.stats().hedges, hedger.stats().refused), (1, 1));
    });
}
