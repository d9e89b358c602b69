//! Policies over groups: who is waited for, who is cancelled, and whose result counts.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use maniple::{cancel, group, sync::channel, time::Elapsed};

use super::{LONG, SHORT, on};

/// One of the calls given to a policy.
type Call<'a, T> = Box<dyn FnOnce() -> T + Send + 'a>;

/// Counts those that are inside.
struct Inside<'a>(&'a AtomicUsize);

impl<'a> Inside<'a> {
    fn enter(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Inside(count)
    }
}

impl Drop for Inside<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Never returns but by being cut.
fn never<T>(inside: &AtomicUsize) -> T {
    let _inside = Inside::enter(inside);
    maniple::sleep(LONG);
    panic!("nobody cut it");
}

fn yields(times: usize) {
    for _ in 0..times {
        maniple::yield_now();
    }
}

fn caught<T>(body: impl FnOnce() -> T) -> &'static str {
    let payload = catch_unwind(AssertUnwindSafe(body)).err().expect("a panic");
    payload.downcast_ref::<&str>().expect("a message")
}

/// Runs `policy`, with a count of who is inside of its calls, on a coroutine that is cancelled after ever more
/// turns, and then on two workers; holds that nobody is inside once it has returned or unwound.
fn cancelled_at_any_moment(policy: impl Fn(&AtomicUsize) + Sync) {
    for workers in [1, 2] {
        on(workers, || {
            let inside = AtomicUsize::new(0);
            let points = (0..60).take_while(|&after| {
                let left = group(|g| -> Result<bool, ()> {
                    let leader = g.spawn(|| policy(&inside));
                    yields(after);
                    let in_time = !leader.is_finished();
                    leader.cancel();
                    let _cut_or_done = leader.join();
                    assert_eq!(inside.load(Ordering::SeqCst), 0, "cancelled after {after}");
                    Ok(in_time)
                });
                left.unwrap() || workers > 1
            });
            assert!(points.count() > 3);
        });
    }
}

#[test]
fn an_error_of_the_leader_comes_before_those_that_its_cancellation_causes() {
    on(1, || {
        let failed: Result<(), &str> = group(|g| {
            drop(g.try_spawn(|| {
                let (_keep, nothing) = channel::bounded::<()>(0);
                nothing.recv().map_err(|_| "caused by the cancellation")
            }));
            maniple::yield_now();
            Err("the cause")
        });
        assert_eq!(failed, Err("the cause"));
    });
}

#[test]
fn try_join_returns_all_values_in_order() {
    for workers in [1, 2] {
        on(workers, || {
            let words = ["three", "small", "words"];
            let lengths = group::try_join(words.iter().enumerate().map(|(at, word)| {
                move || {
                    yields(3 - at);
                    Ok::<_, ()>(word.len() + at)
                }
            }));
            assert_eq!(lengths, Ok(vec![5, 6, 7]));
            let none = group::try_join(Vec::<fn() -> Result<(), ()>>::new());
            assert_eq!(none, Ok(vec![]));
        });
    }
}

#[test]
fn try_join_cancels_the_others_at_the_first_error_and_waits_for_their_end() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<(), &str>>; 3] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("the first")),
            Box::new(|| never(&inside)),
        ];
        assert_eq!(group::try_join(calls), Err("the first"));
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(cancel::check(), Ok(()));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn try_join_resumes_a_panic_and_is_cut_by_a_deadline() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let message = caught(|| {
            let calls: [Call<'_, Result<(), ()>>; 2] =
                [Box::new(|| never(&inside)), Box::new(|| panic!("a call's"))];
            group::try_join(calls)
        });
        assert_eq!(message, "a call's");
        let endless = || Ok::<u8, ()>(never(&inside));
        let cut = maniple::timeout(SHORT, || group::try_join([endless, endless]));
        assert_eq!(cut, Err(Elapsed));
        // What the calls say of the deadline is kept.
        let (_keep, nothing) = channel::bounded::<()>(0);
        let cut = maniple::timeout(SHORT, || group::try_join([|| nothing.recv()]));
        assert!(cut.unwrap().is_err());
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_try_join_macro_takes_different_values_of_one_error() {
    on(2, || {
        let (mut left, reached) = (vec![1], Cell::new(false));
        let both = maniple::try_join!(Ok::<_, &str>("value"), {
            left.push(2);
            Ok(left.len())
        });
        assert_eq!(both, Ok(("value", 2)));
        assert_eq!(maniple::try_join!(Err::<(), _>(1)), Err(1));
        let inside = AtomicUsize::new(0);
        let of_child = maniple::try_join!(
            {
                never::<u8>(&inside);
                reached.set(true);
                Ok(())
            },
            Err::<(), _>("the child's"),
        );
        assert_eq!((of_child, reached.get()), (Err("the child's"), false));
        let of_leader = maniple::try_join!(
            Err::<(), _>("the leader's"),
            Ok(never::<u8>(&inside)),
            Ok(never::<u8>(&inside))
        );
        assert_eq!(of_leader, Err("the leader's"));
        let cut = maniple::timeout(SHORT, || {
            maniple::try_join!(Ok::<_, ()>(1), Ok(never::<u8>(&inside)))
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}

#[test]
fn try_join_leaves_nothing_behind_when_cancelled_at_any_moment() {
    cancelled_at_any_moment(|inside| {
        let call = || {
            let _inside = Inside::enter(inside);
            yields(5);
            Ok::<(), ()>(())
        };
        assert!(group::try_join([call; 3]).is_ok());
    });
}
