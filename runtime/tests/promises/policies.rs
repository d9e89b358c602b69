//! Policies over groups: who is waited for, who is cancelled, and whose result counts.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
};

use maniple::{
    cancel::{self, Interrupt},
    group::{self, FailedAttempt, Part, Restart},
    sync::channel,
    time::Elapsed,
};

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
                let left = maniple::group(|g| -> Result<bool, ()> {
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
        let failed: Result<(), &str> = maniple::group(|g| {
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

#[test]
fn race_returns_the_first_success_and_cancels_the_others() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<&str, &str>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("fails early")),
            Box::new(|| {
                yields(3);
                Ok("the winner")
            }),
            Box::new(|| never(&inside)),
        ];
        assert_eq!(group::race(calls), Ok("the winner"));
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(cancel::check(), Ok(()));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn race_returns_all_errors_in_the_order_of_the_calls() {
    on(2, || {
        let failed = group::race([3, 2, 1].map(|turns| {
            move || {
                yields(turns);
                Err::<(), _>(turns)
            }
        }));
        assert_eq!(failed, Err(vec![3, 2, 1]));
        assert_eq!(
            group::race([(); 0].map(|()| || Ok::<(), ()>(()))),
            Err(vec![])
        );
    });
}

#[test]
fn race_is_cut_where_nobody_can_win_any_more_and_resumes_panics() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls = || -> [Call<'_, Result<u8, u8>>; 2] {
            [Box::new(|| never(&inside)), Box::new(|| Err(1))]
        };
        let cut = maniple::timeout(SHORT, || group::race(calls()));
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
        let token = cancel::CancelToken::new();
        token.cancel();
        assert!(token.run(|| group::race(calls())).is_err());
        let falls: [fn() -> Result<(), ()>; 2] = [|| Err(()), || panic!("a runner's")];
        assert_eq!(caught(|| group::race(falls)), "a runner's");
    });
}

#[test]
fn a_race_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let call = |turns| {
            move || {
                let _inside = Inside::enter(inside);
                yields(turns);
                if turns == 4 { Err(()) } else { Ok(turns) }
            }
        };
        assert_eq!(group::race([call(4), call(8)]), Ok(8));
    });
}

#[test]
fn a_quorum_is_the_first_successes_with_their_indices() {
    for workers in [1, 2] {
        on(workers, || {
            let (inside, (permit, permitted)) = (AtomicUsize::new(0), channel::bounded(1));
            let calls: [Call<'_, Result<&str, &str>>; 5] = [
                Box::new(|| never(&inside)),
                Box::new(|| {
                    permitted.recv().unwrap();
                    Ok("second")
                }),
                Box::new(|| Err("does not count")),
                Box::new(|| {
                    permit.send(()).unwrap();
                    Ok("first")
                }),
                Box::new(|| never(&inside)),
            ];
            let won = group::quorum(2, calls).unwrap();
            if workers == 1 {
                assert_eq!(won, [(3, "first"), (1, "second")]);
            }
            assert_eq!((won.len(), inside.load(Ordering::SeqCst)), (2, 0));
        });
    }
}

#[test]
fn a_quorum_gives_up_once_it_cannot_be_reached() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<u8, &str>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("one")),
            Box::new(|| Ok(1)),
            Box::new(|| Err("two")),
        ];
        let mut lost = group::quorum(3, calls).unwrap_err();
        lost.sort_unstable();
        assert_eq!(lost, [(1, "one"), (3, "two")]);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        let call = || -> Result<(), ()> { panic!("nobody is called") };
        assert_eq!(group::quorum(0, [call; 2]), Ok(vec![]));
        assert_eq!(group::quorum(3, [call; 2]), Err(vec![]));
        let cut = maniple::timeout(SHORT, || {
            group::quorum(1, [|| Ok::<u8, ()>(never(&inside))])
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}

#[test]
fn a_quorum_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let call = |turns| {
            move || {
                let _inside = Inside::enter(inside);
                yields(turns);
                Ok::<_, ()>(turns)
            }
        };
        let won = group::quorum(2, [call(2), call(9), call(5)]).unwrap();
        assert_eq!(won.len(), 2);
    });
}

#[test]
fn at_a_deadline_what_is_done_is_returned_in_order_and_the_rest_is_cut() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let (_keep, nothing) = channel::bounded::<()>(0);
        let calls: [Call<'_, Result<u8, bool>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Ok(1)),
            Box::new(|| {
                yields(3);
                Err(false)
            }),
            Box::new(|| nothing.recv().map(|()| 4).map_err(|_| true)),
        ];
        let began = std::time::Instant::now();
        let parts = group::partial_timeout(SHORT, calls);
        assert!(began.elapsed() >= SHORT, "never early");
        assert_eq!(
            parts,
            [
                Part::Cut(Interrupt::Elapsed),
                Part::Done(Ok(1)),
                Part::Done(Err(false)),
                Part::Done(Err(true))
            ]
        );
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(
            (cancel::check(), maniple::time::remaining()),
            (Ok(()), None)
        );
        let all = group::partial_timeout(std::time::Duration::MAX, [|| 1, || 2]);
        assert_eq!(all, [Part::Done(1), Part::Done(2)]);
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn partial_results_are_kept_whatever_cuts_the_rest_but_a_panic() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls = || -> [Call<'_, u8>; 2] { [Box::new(|| 1), Box::new(|| never(&inside))] };
        // An outer deadline is earlier.
        let parts = maniple::timeout(SHORT, || group::partial_timeout(LONG, calls()));
        let cut = Part::Cut(Interrupt::Elapsed);
        assert_eq!(parts, Ok(vec![Part::Done(1), cut]));
        let (begin, begun) = channel::bounded(0);
        let token = cancel::CancelToken::new();
        let (parts, ()) = maniple::join!(
            token.run(|| {
                let calls: [Call<'_, u8>; 2] = [
                    Box::new(|| 1),
                    Box::new(|| {
                        begin.send(()).unwrap();
                        never(&inside)
                    }),
                ];
                group::partial_deadline(std::time::Instant::now() + LONG, calls)
            }),
            {
                begun.recv().unwrap();
                token.cancel();
            }
        );
        assert_eq!(parts.unwrap()[1], Part::Cut(Interrupt::Cancelled));
        let falls: [Call<'_, u8>; 2] = [Box::new(|| never(&inside)), Box::new(|| panic!("apart"))];
        assert_eq!(caught(|| group::partial_timeout(LONG, falls)), "apart");
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn map_keeps_the_order_of_the_items_and_the_bound() {
    for workers in [1, 2] {
        on(workers, || {
            for limit in [1, 3, 100] {
                let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let doubled = group::map(limit, 0..20, |item| {
                    let _inside = Inside::enter(&inside);
                    most.fetch_max(inside.load(Ordering::SeqCst), Ordering::SeqCst);
                    yields((item * 7) % 5);
                    2 * item
                });
                assert!(doubled.into_iter().eq((0..20).map(|item| 2 * item)));
                assert!(most.load(Ordering::SeqCst) <= limit);
                assert!(workers > 1 || limit == 1 || most.load(Ordering::SeqCst) > 1);
            }
            assert!(group::map(1, [(); 0], |()| ()).is_empty());
        });
    }
    let lengths = group::map(2, ["on", "a", "plain thread"], str::len);
    assert_eq!(lengths, [2, 1, 12]);
}

#[test]
fn map_takes_the_next_item_only_once_a_call_has_ended() {
    on(1, || {
        let (taken, ended) = (Cell::new(0), AtomicUsize::new(0));
        let items = (0..10).inspect(|_| {
            taken.set(taken.get() + 1);
            assert!(taken.get() <= ended.load(Ordering::SeqCst) + 2);
        });
        group::map(2, items, |_| {
            yields(2);
            ended.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(taken.get(), 10);
    });
}

#[test]
fn map_as_completed_hands_over_each_result_when_it_is_there() {
    on(2, || {
        let turn = AtomicUsize::new(3);
        let mut order = Vec::new();
        group::map_as_completed(
            4,
            0..4,
            |item| {
                while turn.load(Ordering::SeqCst) > item {
                    maniple::yield_now();
                }
                item * 10
            },
            |index, value| {
                order.push((index, value));
                turn.store(index.saturating_sub(1), Ordering::SeqCst);
            },
        );
        assert_eq!(order, [(3, 30), (2, 20), (1, 10), (0, 0)]);
    });
}

#[test]
fn try_map_stops_at_the_first_error() {
    for workers in [1, 2] {
        on(workers, || {
            let (inside, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let failed = group::try_map(2, 0..1000, |item| {
                begun.fetch_add(1, Ordering::SeqCst);
                match item {
                    0 => never(&inside),
                    7 => Err("the seventh"),
                    _ => Ok(item),
                }
            });
            assert_eq!(failed, Err("the seventh"));
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            assert!(begun.load(Ordering::SeqCst) < 20);
            assert_eq!(cancel::check(), Ok(()));
            let all: Result<Vec<_>, ()> = group::try_map(3, [1, 2], Ok);
            assert_eq!(all, Ok(vec![1, 2]));
        });
    }
}

#[test]
fn a_panic_of_a_call_the_iterator_or_the_receiver_ends_a_map() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let of_call = |item| {
            if item == 2 {
                panic!("a call's");
            }
            never::<()>(&inside);
        };
        assert_eq!(caught(|| group::map(3, 0..9, of_call)), "a call's");
        let items = (0..9).inspect(|&item| assert!(item < 2, "the iterator's"));
        let of_iterator = caught(|| group::map(9, items, |_| never::<()>(&inside)));
        assert_eq!(of_iterator, "the iterator's");
        let call = |item| {
            if item > 0 {
                never(&inside)
            }
        };
        let receive = |_, ()| panic!("the receiver's");
        let of_receiver = caught(|| group::map_as_completed(2, 0..9, call, receive));
        assert_eq!(of_receiver, "the receiver's");
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_map_is_cut_by_a_deadline_unless_its_calls_return_all_the_same() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let cut = maniple::timeout(SHORT, || group::map(2, 0..9, |_| never::<u8>(&inside)));
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
        let (_keep, nothing) = channel::bounded::<()>(0);
        let wait = |_| nothing.recv().is_err();
        // Where a busy machine begins one of them too late, there is another try.
        let kept = loop {
            let begun = AtomicUsize::new(0);
            let wait = |item| {
                begun.fetch_add(1, Ordering::SeqCst);
                wait(item)
            };
            let kept = maniple::timeout(SHORT, || group::map(2, 0..2, wait));
            if begun.load(Ordering::SeqCst) == 2 {
                break kept;
            }
        };
        assert_eq!(kept, Ok(vec![true, true]));
        let cut = maniple::timeout(SHORT, || group::map(2, 0..3, wait));
        assert_eq!(cut, Err(Elapsed), "the third is not begun");
        let said = maniple::timeout(SHORT, || group::try_map(2, 0.., |_| nothing.recv()));
        assert!(said.unwrap().is_err());
    });
}

#[test]
fn a_map_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let mapped = group::map(2, 0..5, |item| {
            let _inside = Inside::enter(inside);
            yields(2);
            item
        });
        assert_eq!(mapped, [0, 1, 2, 3, 4]);
    });
}

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
fn what_supervised_calls_end_with_is_data_and_touches_no_sibling() {
    let try_it = || {
        let calls: [Call<'_, Result<u8, &str>>; 4] = [
            Box::new(|| panic!("this one")),
            Box::new(|| Err("an error")),
            Box::new(|| std::panic::panic_any(42_u32)),
            Box::new(|| {
                yields(9);
                Ok(1)
            }),
        ];
        let mut ended = group::supervised(calls).into_iter();
        let panic = ended.next().unwrap().unwrap_err().into_panic();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "this one");
        assert_eq!(ended.next().unwrap().unwrap(), Err("an error"));
        let panic = ended.next().unwrap().unwrap_err().into_panic();
        assert_eq!(*panic.downcast::<u32>().unwrap(), 42);
        assert_eq!(ended.next().unwrap().unwrap(), Ok(1));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn supervised_calls_are_cut_with_their_leader_and_say_so() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, u8>; 2] = [Box::new(|| never(&inside)), Box::new(|| 1)];
        let ended = maniple::timeout(SHORT, || group::supervised(calls)).unwrap();
        assert!(ended[0].as_ref().unwrap_err().is_elapsed());
        assert_eq!(*ended[1].as_ref().unwrap(), 1);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
    cancelled_at_any_moment(|inside| {
        let call = || {
            let _inside = Inside::enter(inside);
            yields(3);
        };
        for end in group::supervised([call; 2]) {
            assert!(end.is_ok() || end.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_supervised_childs_panic_is_not_its_groups() {
    on(2, || {
        let sum: Result<u32, maniple::JoinError> = maniple::group(|g| {
            let falls = g.supervise(|| -> u32 { panic!("alone") });
            drop(g.supervise(|| panic!("and nobody asks")));
            let steady = g.spawn(|| {
                yields(9);
                40
            });
            let error = falls.join().unwrap_err();
            assert!(error.is_panic() && !g.is_cancelled());
            Ok(steady.join()? + 2)
        });
        assert_eq!(sum.unwrap(), 42);
        let cancelled = AtomicUsize::new(0);
        let failed: Result<(), &str> = maniple::group(|g| {
            drop(g.supervise(|| never::<()>(&cancelled)));
            Err("but its leader's end is its own")
        });
        assert!(failed.is_err() && cancelled.load(Ordering::SeqCst) == 0);
    });
}

#[test]
fn a_restart_tries_again_after_errors_and_panics_and_gives_up_at_its_limit() {
    let quick = Restart {
        max: 3,
        backoff: SHORT / 5..=SHORT,
        ..Restart::default()
    };
    on(1, || {
        let began = std::time::Instant::now();
        let served = quick.run(|attempt| match attempt {
            0 => Err("an error"),
            1 => panic!("a panic"),
            _ => Ok(attempt),
        });
        assert_eq!(served.unwrap(), 2);
        assert!(began.elapsed() >= 3 * SHORT / 5, "pauses of one and two");
        let mut attempts = 0;
        let gave_up = quick.run(|attempt| {
            attempts += 1;
            Err::<(), _>(attempt)
        });
        let gave_up = gave_up.unwrap_err();
        assert_eq!((attempts, gave_up.failures), (4, 4));
        assert_eq!(gave_up.to_string(), "gave up after 4 failures, the last: 3");
        assert!(matches!(gave_up.last, FailedAttempt::Error(3)));
        let none = Restart {
            max: 0,
            ..quick.clone()
        };
        let gave_up = none.run(|_| -> Result<(), ()> { panic!("at once") });
        let FailedAttempt::Panic(panic) = gave_up.unwrap_err().last else {
            panic!("it was a panic");
        };
        assert_eq!(*panic.into_panic().downcast::<&str>().unwrap(), "at once");
    });
}

#[test]
fn a_restart_forgets_failures_and_begins_nothing_when_it_is_cut() {
    let forgetful = Restart {
        max: 1,
        within: SHORT / 5,
        backoff: SHORT / 5..=SHORT / 5,
    };
    on(1, || {
        let rare = forgetful.run(|attempt| if attempt < 4 { Err(()) } else { Ok(attempt) });
        assert_eq!(rare.unwrap(), 4);
        let patient = Restart {
            backoff: LONG..=LONG,
            ..Restart::default()
        };
        let cut = maniple::timeout(SHORT, || patient.run(|_| Err::<(), _>(())).is_ok());
        assert_eq!(cut, Err(Elapsed));
        let (_keep, nothing) = channel::bounded::<()>(0);
        let cut = maniple::timeout(SHORT, || patient.run(|_| nothing.recv()));
        assert_eq!(cut.unwrap().unwrap_err().failures, 1);
        let inside = AtomicUsize::new(0);
        let cut = maniple::timeout(SHORT, || {
            patient.run(|_| Ok::<u8, ()>(never(&inside))).is_ok()
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}

#[test]
fn children_spawn_into_their_group_and_all_are_waited_for() {
    fn spread<'scope>(
        g: &'scope group::Group<'scope, '_, ()>,
        left: usize,
        seen: &'scope AtomicUsize,
    ) {
        seen.fetch_add(1, Ordering::SeqCst);
        yields(left);
        for _ in 0..left {
            drop(g.spawn(move || spread(g, left - 1, seen)));
        }
    }
    for workers in [1, 2] {
        on(workers, || {
            let seen = AtomicUsize::new(0);
            let done = maniple::group(|g| {
                drop(g.spawn(|| spread(g, 4, &seen)));
                Ok(())
            });
            assert_eq!((done, seen.load(Ordering::SeqCst)), (Ok(()), 65));
            let inside = AtomicUsize::new(0);
            let failed: Result<(), _> = maniple::group(|g| {
                drop(g.spawn(|| {
                    drop(g.spawn(|| never::<()>(&inside)));
                    drop(g.try_spawn(|| Err::<(), _>("a grandchild's")));
                    never::<()>(&inside);
                }));
                Ok(())
            });
            assert_eq!(failed, Err("a grandchild's"));
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        });
    }
    cancelled_at_any_moment(|inside| {
        let seen = AtomicUsize::new(0);
        let done = maniple::group(|g| {
            let _inside = Inside::enter(inside);
            spread(g, 3, &seen);
            Ok(())
        });
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn a_group_prefixes_the_names_of_its_children() {
    on(1, || {
        let done: Result<(), ()> = maniple::group(|g| {
            assert_eq!(g.spawn(|| ()).name(), None);
            g.name_children("page");
            g.name_children("too late");
            assert_eq!(g.spawn(|| ()).name().as_deref(), Some("page"));
            assert_eq!(g.supervise(|| ()).name().as_deref(), Some("page"));
            assert_eq!(g.try_spawn(|| Ok(())).name().as_deref(), Some("page"));
            assert_eq!(
                g.spawn_named("ads", || ()).name().as_deref(),
                Some("page/ads")
            );
            let large = g.builder().name("large").stack_size(1 << 20);
            assert_eq!(
                large.spawn(|| ()).unwrap().name().as_deref(),
                Some("page/large")
            );
            Ok(())
        });
        assert_eq!(done, Ok(()));
    });
}
