//! Meetings and permits: who is cut while it waits hands on what was meant for it.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering::Relaxed};

use maniple::{
    cancel::cancel_at,
    sync::{AcquireError, Barrier, Mutex, Notify, Semaphore, WaitGroup, channel},
    yield_now,
};

use super::{Finally, LONG, at_every_suspension};

#[test]
fn no_permit_is_lost_and_those_behind_are_served() {
    let points = at_every_suspension(|after| {
        let semaphore = Semaphore::new(2);
        let taken = AtomicUsize::new(0);
        let take = |permits| -> Result<(), AcquireError> {
            let _permit = semaphore.acquire_many(permits)?;
            assert!(taken.fetch_add(permits, Relaxed) + permits <= 2);
            let _gives_back = Finally(|| {
                taken.fetch_sub(permits, Relaxed);
            });
            yield_now();
            Ok(())
        };
        let (cut, struck) = maniple::group(|g| {
            for permits in [1, 2, 1] {
                g.spawn(move || (0..3).try_for_each(|_| take(permits)).unwrap());
            }
            Ok::<_, ()>(cancel_at(after, || {
                [1, 2, 1, 2].into_iter().try_for_each(take)
            }))
        })
        .unwrap();
        assert!(struck || cut == Ok(Ok(())));
        assert!(!matches!(cut, Ok(Err(error)) if error != AcquireError::Cancelled));
        assert_eq!(semaphore.available(), 2);
        assert!(semaphore.try_acquire_many(2).is_ok());
        struck
    });
    assert!(points >= 10, "{points}");
}

#[test]
fn a_small_request_behind_one_that_was_cut_is_served_at_once() {
    let points = at_every_suspension(|after| {
        let semaphore = Semaphore::new(2);
        let held = Mutex::new(Some(semaphore.acquire().unwrap()));
        let over = AtomicBool::new(false);
        let struck = maniple::group(|g| {
            let small = g.spawn(|| drop(semaphore.acquire().unwrap()));
            g.spawn(|| {
                (0..3).for_each(|_| yield_now());
                if !over.load(Relaxed) {
                    held.lock().take();
                }
            });
            let (_, struck) = cancel_at(after, || semaphore.acquire_many(2).map(drop));
            over.store(true, Relaxed);
            // The one permit that is not held suffices, now that nobody waits for two.
            small.join().unwrap();
            held.lock().take();
            Ok::<_, ()>(struck)
        });
        assert_eq!(semaphore.available(), 2);
        struck.unwrap()
    });
    assert!(points >= 4, "{points}");
}

#[test]
fn who_leaves_a_barrier_is_not_counted_and_a_round_is_whole() {
    const ROUNDS: usize = 3;
    let points = at_every_suspension(|after| {
        let (barrier, leaders) = (Barrier::new(3), AtomicUsize::new(0));
        let wait = || {
            let leads = barrier.wait().is_leader();
            leaders.fetch_add(usize::from(leads), Relaxed);
        };
        // The rounds to which the victim has come.
        let come = AtomicUsize::new(0);
        let struck = maniple::group(|g| {
            for _ in 0..2 {
                g.spawn(|| {
                    for round in 0..ROUNDS {
                        // So that the victim can be gone before they come.
                        (0..3).for_each(|_| yield_now());
                        wait();
                        assert!(come.load(Relaxed) > round, "a round with two");
                    }
                });
            }
            let mut rounds = 0;
            let mut meet = || {
                while rounds < ROUNDS {
                    come.store(rounds + 1, Relaxed);
                    wait();
                    rounds += 1;
                }
                rounds
            };
            let (met, struck) = cancel_at(after, &mut meet);
            assert!(struck || met == Ok(ROUNDS));
            if met.is_err() {
                come.fetch_sub(1, Relaxed);
            }
            // Who was cut is missed by the others, until somebody stands in.
            (0..8).for_each(|_| yield_now());
            meet();
            Ok::<_, ()>(struck)
        });
        assert_eq!(leaders.into_inner(), ROUNDS);
        struck.unwrap()
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn who_leaves_a_wait_group_leaves_the_others_waiting_for_all() {
    let points = at_every_suspension(|after| {
        let (group, done) = (WaitGroup::new(), &AtomicUsize::new(0));
        let (cut, struck) = maniple::group(|g| {
            for turns in 1..4 {
                let group = group.clone();
                g.spawn(move || {
                    (0..turns).for_each(|_| yield_now());
                    done.fetch_add(1, Relaxed);
                    drop(group);
                });
            }
            let theirs = group.clone();
            let rival = g.spawn(move || {
                theirs.wait();
                done.load(Relaxed)
            });
            let cut = cancel_at(after, || {
                group.wait();
                done.load(Relaxed)
            });
            assert_eq!(rival.join().unwrap(), 3);
            Ok::<_, ()>(cut)
        })
        .unwrap();
        assert!(cut == Ok(3) || struck);
        assert!(cut.is_err() || cut == Ok(3));
        struck
    });
    assert!(points >= 5, "{points}");
}

#[test]
fn a_notification_is_used_once_also_one_that_was_kept() {
    let points = at_every_suspension(|after| {
        let (notify, over) = (Notify::new(), AtomicBool::new(false));
        let (used, given) = (AtomicUsize::new(0), AtomicUsize::new(0));
        let (acknowledge, acknowledged) = channel::unbounded();
        let take = || {
            notify.notified();
            used.fetch_add(1, Relaxed);
            acknowledge.try_send(()).unwrap();
        };
        let struck = maniple::group(|g| {
            // One at a time, so that each finds a waiter or is kept alone.
            let notifier = g.spawn(|| {
                while !over.load(Relaxed) || given.load(Relaxed) < 6 {
                    given.fetch_add(1, Relaxed);
                    notify.notify_one();
                    acknowledged.recv().unwrap();
                }
            });
            let rival = g.spawn(|| {
                loop {
                    take();
                    yield_now();
                }
            });
            let (_, struck) = cancel_at(after, || (0..3).for_each(|_| take()));
            over.store(true, Relaxed);
            notifier.join().unwrap();
            rival.cancel();
            let _cancelled: Result<(), _> = rival.join();
            Ok::<_, ()>(struck)
        });
        assert_eq!(used.load(Relaxed), given.load(Relaxed));
        assert!(acknowledged.is_empty());
        assert!(!notify.notified_timeout(std::time::Duration::ZERO));
        notify.notify_one();
        assert!(notify.notified_timeout(LONG));
        struck.unwrap()
    });
    assert!(points >= 6, "{points}");
}
