//! Barrier, wait group and notification: who waits for whom, and what is left when some give up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle,
    cancel::{CancelToken, shield},
    spawn,
    sync::{Barrier, Notify, WaitGroup, channel},
    timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

fn join<T>(handles: Vec<JoinHandle<T>>) -> Vec<T> {
    let results = handles.into_iter().map(|handle| handle.join());
    results.map(|result| result.unwrap()).collect()
}

/// Cancels, at one yield more each round, a body that waits.
fn cancelled_after(yields: usize, body: impl FnOnce() + Send + 'static) -> bool {
    let waiter = spawn(body);
    (0..yields).for_each(|_| yield_now());
    waiter.cancel();
    waiter.join().is_err_and(|error| error.is_cancelled())
}

#[test]
fn nobody_passes_a_barrier_before_all_have_come_and_each_round_has_one_leader() {
    const ROUNDS: usize = 300;
    let shared = Arc::new((Barrier::new(5), AtomicUsize::new(0)));
    let meet = |shared: &(Barrier, AtomicUsize)| {
        let mut led = 0;
        for round in 1..=ROUNDS {
            shared.1.fetch_add(1, SeqCst);
            led += usize::from(shared.0.wait().is_leader());
            assert!(shared.1.load(SeqCst) >= 5 * round, "somebody was left out");
        }
        led
    };
    for workers in [1, 2] {
        shared.1.store(0, SeqCst);
        let theirs = shared.clone();
        let thread = plain_thread(move || meet(&theirs));
        let led = on(workers, || {
            let visitor = |_| {
                let shared = shared.clone();
                spawn(move || meet(&shared))
            };
            join((0..4).map(visitor).collect())
                .into_iter()
                .sum::<usize>()
        });
        assert_eq!(led + thread.join().unwrap(), ROUNDS);
    }
}

#[test]
fn a_barrier_for_one_or_none_is_open() {
    assert!(Barrier::new(0).wait().is_leader());
    let barrier = Barrier::new(1);
    assert!(barrier.wait().is_leader() && barrier.wait().is_leader());
}

#[test]
fn one_that_leaves_a_barrier_counts_as_if_it_had_not_come() {
    on(1, || {
        let barrier = Arc::new(Barrier::new(2));
        let begun = Instant::now();
        assert!(timeout(SHORT, || barrier.wait()).is_err());
        assert!(begun.elapsed() >= SHORT);
        let token = CancelToken::new();
        token.cancel();
        assert!(token.run(|| barrier.wait()).is_err());
        let theirs = barrier.clone();
        let second = spawn(move || theirs.wait().is_leader());
        (0..10).for_each(|_| yield_now());
        assert!(!second.is_finished(), "it would have met nobody");
        assert!(barrier.wait().is_leader());
        assert!(!second.join().unwrap());
    });
}

#[test]
fn cancelling_at_any_moment_leaves_a_barrier_with_whole_rounds() {
    for workers in [1, 2] {
        on(workers, || {
            let barrier = Arc::new(Barrier::new(3));
            for round in 0..300 {
                let visitor = |_| {
                    let barrier = barrier.clone();
                    spawn(move || barrier.wait().is_leader())
                };
                let visitors: Vec<_> = (0..3).map(visitor).collect();
                (0..round % 6).for_each(|_| yield_now());
                visitors[round % 3].cancel();
                // Either all three met, or the cancelled one is missing and two wait for another.
                let mut visitors = visitors;
                let cancelled = visitors.remove(round % 3).join();
                let mut leaders = match cancelled {
                    Ok(led) => usize::from(led),
                    Err(_) => usize::from(barrier.wait().is_leader()),
                };
                leaders += join(visitors).into_iter().filter(|led| *led).count();
                assert_eq!(leaders, 1, "round {round}");
            }
            let left = format!("{barrier:?}");
            assert!(left.contains("arrived: 0"), "{left}");
        });
    }
}

#[test]
fn a_wait_group_ends_when_the_last_handle_is_dropped() {
    for workers in [1, 2] {
        on(workers, || {
            for members in 0..50 {
                let (group, done) = (WaitGroup::new(), Arc::new(AtomicUsize::new(0)));
                for member in 0..members {
                    let (group, done) = (group.clone(), done.clone());
                    let work = move || {
                        done.fetch_add(1, SeqCst);
                        drop(group);
                    };
                    match member % 8 {
                        0 => drop(plain_thread(work)),
                        _ => drop(spawn(work)),
                    }
                }
                group.wait();
                assert_eq!(done.load(SeqCst), members);
            }
        });
    }
}

#[test]
fn all_who_wait_for_a_group_are_woken_and_threads_may_wait() {
    on(1, || {
        let group = WaitGroup::new();
        let other = group.clone();
        let thread = plain_thread(move || other.wait());
        let waiter = |_| {
            let other = group.clone();
            spawn(move || other.wait())
        };
        let waiters: Vec<_> = (0..3).map(waiter).collect();
        (0..10).for_each(|_| yield_now());
        assert!(waiters.iter().all(|waiter| !waiter.is_finished()));
        drop(group);
        join(waiters);
        thread.join().unwrap();
    });
}

#[test]
fn a_wait_for_a_group_that_is_cut_has_left_it() {
    on(2, || {
        let (group, held) = (WaitGroup::new(), WaitGroup::new());
        let begun = Instant::now();
        let late = held.clone();
        assert!(timeout(SHORT, || late.wait()).is_err());
        assert!(begun.elapsed() >= SHORT);
        for yields in 0..100 {
            let (member, held) = (group.clone(), held.clone());
            cancelled_after(yields % 5, move || {
                let _held = held;
                member.wait();
            });
        }
        group.wait();
        held.wait();
    });
}

#[test]
fn a_notification_for_one_is_kept_once_and_one_for_all_is_not() {
    let notify = Notify::new();
    notify.notify_waiters();
    assert!(!notify.notified_timeout(Duration::ZERO));
    notify.notify_one();
    notify.notify_one();
    notify.notified();
    let begun = Instant::now();
    assert!(!notify.notified_timeout(SHORT), "two are kept as one");
    assert!(begun.elapsed() >= SHORT);
    on(1, || {
        let begun = Instant::now();
        assert!(!notify.notified_timeout(SHORT));
        assert!(timeout(SHORT, || notify.notified()).is_err());
        assert!(begun.elapsed() >= 2 * SHORT);
        notify.notify_one();
        assert!(notify.notified_timeout(Duration::ZERO));
    });
}

#[test]
fn notifications_wake_the_longest_waiter_or_all() {
    on(1, || {
        let notify = Arc::new(Notify::new());
        let (woken, order) = channel::unbounded();
        let waiter = |name| {
            let (notify, woken) = (notify.clone(), woken.clone());
            spawn(move || {
                notify.notified();
                woken.send(name).unwrap();
            })
        };
        let waiters: Vec<_> = (0..4).map(waiter).collect();
        (0..10).for_each(|_| yield_now());
        notify.notify_one();
        (0..10).for_each(|_| yield_now());
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [0]);
        notify.notify_waiters();
        join(waiters);
        assert_eq!(order.try_iter().collect::<Vec<_>>(), [1, 2, 3]);
        assert!(
            !notify.notified_timeout(Duration::ZERO),
            "and nothing is kept"
        );
    });
}

#[test]
fn one_who_looks_waits_and_looks_again_misses_nothing() {
    for workers in [1, 2] {
        let shared = Arc::new((Notify::new(), AtomicUsize::new(0)));
        let tell = |shared: &(Notify, AtomicUsize)| {
            for _ in 0..1_000 {
                shared.1.fetch_add(1, SeqCst);
                shared.0.notify_one();
            }
        };
        let theirs = shared.clone();
        let thread = plain_thread(move || tell(&theirs));
        on(workers, || {
            let theirs = shared.clone();
            let teller = spawn(move || tell(&theirs));
            while shared.1.load(SeqCst) < 2_000 {
                shared.0.notified();
            }
            teller.join().unwrap();
        });
        thread.join().unwrap();
    }
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_notification() {
    for workers in [1, 2] {
        on(workers, || {
            let notify = Arc::new(Notify::new());
            for round in 0..400 {
                let took = Arc::new(AtomicBool::new(false));
                let (theirs, taken) = (notify.clone(), took.clone());
                let teller = notify.clone();
                let telling = spawn(move || teller.notify_one());
                cancelled_after(round % 4, move || {
                    theirs.notified();
                    taken.store(true, SeqCst);
                });
                telling.join().unwrap();
                let kept = notify.notified_timeout(Duration::ZERO);
                assert!(kept ^ took.load(SeqCst), "round {round}: kept {kept}");
            }
        });
    }
}

#[test]
fn a_shielded_meeting_is_not_cut() {
    on(2, || {
        let shared = Arc::new((Notify::new(), Barrier::new(2)));
        let (arrive, arrived) = channel::bounded(1);
        let theirs = shared.clone();
        let shielded = spawn(move || {
            shield(|| {
                arrive.send(()).unwrap();
                theirs.0.notified();
                theirs.1.wait().is_leader()
            })
        });
        arrived.recv_timeout(LONG).unwrap();
        shielded.cancel();
        yield_now();
        shared.0.notify_one();
        yield_now();
        assert!(shared.1.wait().is_leader() ^ shielded.join().unwrap());
    });
}
