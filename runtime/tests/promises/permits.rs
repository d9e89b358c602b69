//! The semaphore: how many get in, in which order, and what is left when some give up.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, shield},
    spawn,
    sync::{AcquireError, Semaphore, TryAcquireError, channel},
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

#[test]
fn permits_are_taken_and_come_back_when_dropped() {
    let semaphore = Semaphore::new(3);
    let two = semaphore.acquire_many(2).unwrap();
    assert_eq!((two.num_permits(), semaphore.available()), (2, 1));
    let refused = semaphore.try_acquire_many(2).unwrap_err();
    assert_eq!(refused, TryAcquireError::NoPermits);
    let one = semaphore.try_acquire().unwrap();
    assert!(semaphore.try_acquire().is_err());
    assert_eq!(semaphore.acquire_many(0).unwrap().num_permits(), 0);
    drop(two);
    assert_eq!(semaphore.available(), 2);
    drop(one);
    assert_eq!(semaphore.available(), 3);
}

#[test]
fn a_forgotten_permit_is_gone_and_permits_can_be_added() {
    let semaphore = Arc::new(Semaphore::new(2));
    semaphore.acquire().unwrap().forget();
    let owned = semaphore.clone().acquire_owned().unwrap();
    assert_eq!((owned.num_permits(), semaphore.available()), (1, 0));
    owned.forget();
    assert_eq!(
        Arc::strong_count(&semaphore),
        1,
        "its hold on the semaphore ends"
    );
    semaphore.add_permits(5);
    let owned = semaphore.clone().acquire_many_owned(4).unwrap();
    assert!(semaphore.clone().try_acquire_many_owned(2).is_err());
    assert!(semaphore.clone().try_acquire_owned().is_ok());
    drop(owned);
    assert_eq!(semaphore.available(), 5);
}

#[test]
fn at_most_so_many_waiters_are_inside() {
    let shared = Arc::new((Semaphore::new(3), AtomicUsize::new(0)));
    let visit = |shared: &(Semaphore, AtomicUsize), suspend: bool| {
        for round in 0..1_000 {
            let wanted = 1 + round % 3;
            let _permits = shared.0.acquire_many(wanted).unwrap();
            assert!(shared.1.fetch_add(wanted, SeqCst) + wanted <= 3);
            if suspend && round % 16 == 0 {
                yield_now();
            }
            shared.1.fetch_sub(wanted, SeqCst);
        }
    };
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let shared = shared.clone();
            plain_thread(move || visit(&shared, false))
        })
        .collect();
    for workers in [1, 2] {
        let theirs = shared.clone();
        on(workers, move || {
            let first = theirs.clone();
            let mut visitors = spawn_on_workers(move |_| visit(&first, true));
            visitors.extend((0..4).map(|_| {
                let theirs = theirs.clone();
                spawn(move || visit(&theirs, true))
            }));
            let ended = visitors.into_iter().map(|visitor| visitor.join());
            ended.for_each(|result| result.unwrap());
        });
    }
    let ended = threads.into_iter().map(|thread| thread.join());
    ended.for_each(|result| result.unwrap());
    assert_eq!(shared.0.available(), 3);
}

#[test]
fn a_large_request_is_not_starved_by_small_ones() {
    on(1, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let held = semaphore.acquire().unwrap();
        let visitors: Vec<_> = [2, 1, 1]
            .into_iter()
            .map(|wanted| {
                let (semaphore, order) = (semaphore.clone(), order.clone());
                let visitor = spawn(move || {
                    let _permits = semaphore.acquire_many(wanted).unwrap();
                    order.lock().unwrap().push(wanted);
                    yield_now();
                });
                yield_now();
                visitor
            })
            .collect();
        assert_eq!(semaphore.available(), 1);
        assert!(
            semaphore.try_acquire().is_err(),
            "nobody overtakes the queue"
        );
        assert!(order.lock().unwrap().is_empty(), "not even from within");
        drop(held);
        let ended = visitors.into_iter().map(|visitor| visitor.join());
        ended.for_each(|result| result.unwrap());
        assert_eq!(*order.lock().unwrap(), [2, 1, 1]);
        assert_eq!(semaphore.available(), 2);
    });
}

#[test]
fn those_behind_a_large_request_that_gives_up_get_in_at_once() {
    on(1, || {
        let semaphore = Arc::new(Semaphore::new(2));
        let _held = semaphore.acquire().unwrap();
        let (large, small) = (semaphore.clone(), semaphore.clone());
        let large = spawn(move || large.acquire_many(2).map(drop));
        yield_now();
        let small = spawn(move || small.acquire().map(drop));
        yield_now();
        assert!(!small.is_finished());
        large.cancel();
        assert_eq!(large.join().unwrap(), Err(AcquireError::Cancelled));
        assert_eq!(small.join().unwrap(), Ok(()));
    });
}

#[test]
fn closing_ends_all_waiting_and_leaves_held_permits_valid() {
    on(2, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let held = semaphore.acquire().unwrap();
        let (arrive, arrived) = channel::unbounded();
        let waiters: Vec<_> = (1..4)
            .map(|wanted| {
                let (semaphore, arrive) = (semaphore.clone(), arrive.clone());
                spawn(move || {
                    arrive.send(()).unwrap();
                    semaphore.acquire_many(wanted).map(drop)
                })
            })
            .collect();
        (0..3).for_each(|_| arrived.recv().unwrap());
        semaphore.close();
        for waiter in waiters {
            assert_eq!(waiter.join().unwrap(), Err(AcquireError::Closed));
        }
        assert!(semaphore.is_closed());
        drop(held);
        assert_eq!(semaphore.available(), 1);
        assert_eq!(semaphore.acquire().unwrap_err(), AcquireError::Closed);
        assert_eq!(
            semaphore.try_acquire().unwrap_err(),
            TryAcquireError::Closed
        );
    });
}

#[test]
fn time_limits_of_the_call_and_of_the_scope_are_kept_and_never_early() {
    let wait_out = || {
        let semaphore = Semaphore::new(1);
        let begun = Instant::now();
        assert!(semaphore.acquire_timeout(Duration::ZERO).is_ok());
        let _held = semaphore.acquire_timeout(Duration::MAX).unwrap();
        let late = semaphore.acquire_timeout(SHORT).unwrap_err();
        assert_eq!(late, AcquireError::Elapsed);
        assert!(begun.elapsed() >= SHORT);
        let begun = Instant::now();
        let late = timeout(SHORT, || semaphore.acquire().unwrap_err());
        assert_eq!(late, Ok(AcquireError::Elapsed));
        assert!(begun.elapsed() >= SHORT);
    };
    wait_out();
    on(1, wait_out);
}

#[test]
fn a_cancelled_scope_gets_no_permit_and_a_shielded_wait_is_not_cut() {
    on(2, || {
        let semaphore = Arc::new(Semaphore::new(1));
        let token = CancelToken::new();
        token.cancel();
        let cut = token.run(|| semaphore.acquire().map(drop));
        assert_eq!(cut, Ok(Err(AcquireError::Cancelled)));

        let held = semaphore.acquire().unwrap();
        let (arrive, arrived) = channel::bounded(1);
        let theirs = semaphore.clone();
        let shielded = spawn(move || {
            shield(|| {
                arrive.send(()).unwrap();
                theirs.acquire().map(drop)
            })
        });
        arrived.recv().unwrap();
        yield_now();
        shielded.cancel();
        yield_now();
        drop(held);
        assert_eq!(shielded.join().unwrap(), Ok(()));
    });
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_permit() {
    for workers in [1, 2] {
        on(workers, || {
            let semaphore = Arc::new(Semaphore::new(3));
            for round in 0..400_usize {
                let visitors: Vec<_> = (0..4)
                    .map(|visitor| {
                        let semaphore = semaphore.clone();
                        spawn(move || {
                            let _first = semaphore.acquire_many(1 + visitor % 2)?;
                            yield_now();
                            let _second = semaphore.acquire_timeout(Duration::from_micros(50));
                            yield_now();
                            Ok::<(), AcquireError>(())
                        })
                    })
                    .collect();
                (0..round % 8).for_each(|_| yield_now());
                visitors
                    .iter()
                    .step_by(2)
                    .for_each(|visitor| visitor.cancel());
                for (name, visitor) in visitors.into_iter().enumerate() {
                    let ended = visitor.join();
                    assert!(name % 2 == 0 || matches!(ended, Ok(Ok(()))), "{ended:?}");
                }
                assert_eq!(semaphore.available(), 3, "round {round}");
            }
            let all = semaphore.acquire_timeout(LONG).map(drop);
            assert_eq!(all, Ok(()), "nobody is left in the queue");
        });
    }
}

#[test]
#[should_panic(expected = "MAX_PERMITS")]
fn more_permits_than_can_be_counted_are_refused() {
    Semaphore::new(1).add_permits(Semaphore::MAX_PERMITS);
}
