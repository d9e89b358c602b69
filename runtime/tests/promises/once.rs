//! What happens once: who runs the initialiser, and who takes over when it does not end well.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{
    cancel::CancelToken,
    sleep, spawn,
    sync::{LazyLock, Notify, Once, OnceLock, channel},
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

#[test]
fn of_all_who_come_one_initialises_and_all_see_what_it_did() {
    for workers in [1, 2] {
        for _ in 0..50 {
            let shared = Arc::new((OnceLock::new(), AtomicUsize::new(0)));
            let ask = |shared: &(OnceLock<usize>, AtomicUsize)| {
                let value = shared.0.get_or_init(|| {
                    yield_now();
                    shared.1.fetch_add(1, SeqCst);
                    yield_now();
                    7
                });
                assert_eq!((*value, shared.1.load(SeqCst)), (7, 1));
            };
            let theirs = shared.clone();
            let thread = plain_thread(move || ask(&theirs));
            let theirs = shared.clone();
            on(workers, move || {
                let first = theirs.clone();
                let mut visitors = spawn_on_workers(move |_| ask(&first));
                visitors.extend((0..4).map(|_| {
                    let theirs = theirs.clone();
                    spawn(move || ask(&theirs))
                }));
                let ended = visitors.into_iter().map(|visitor| visitor.join());
                ended.for_each(|result| result.unwrap());
            });
            thread.join().unwrap();
        }
    }
}

#[test]
fn an_initialiser_may_wait_and_the_worker_goes_on_meanwhile() {
    on(1, || {
        let shared = Arc::new((LazyLock::new(|| GO.notified()), AtomicUsize::new(0)));
        static GO: Notify = Notify::new();
        let users: Vec<_> = (0..3)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    LazyLock::force(&shared.0);
                    shared.1.fetch_add(1, SeqCst);
                })
            })
            .collect();
        (0..10).for_each(|_| yield_now());
        assert_eq!(shared.1.load(SeqCst), 0);
        GO.notify_one();
        let ended = users.into_iter().map(|user| user.join());
        ended.for_each(|result| result.unwrap());
        assert_eq!(shared.1.load(SeqCst), 3);
    });
}

#[test]
fn after_an_initialiser_that_panicked_or_failed_the_next_has_its_turn() {
    let lock = OnceLock::new();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        lock.get_or_init(|| resume_unwind(Box::new("on purpose")));
    }));
    assert!(caught.is_err() && lock.get().is_none());
    assert_eq!(lock.get_or_try_init(|| Err("refused")), Err("refused"));
    assert_eq!(lock.get_or_try_init(|| Ok::<_, ()>(1)), Ok(&1));
    assert_eq!(lock.get_or_init(|| 2), &1);

    let calls = AtomicUsize::new(0);
    let lazy = LazyLock::new(|| match calls.fetch_add(1, SeqCst) {
        0 => resume_unwind(Box::new("on purpose")),
        n => n,
    });
    assert!(catch_unwind(AssertUnwindSafe(|| *lazy)).is_err());
    assert_eq!((*lazy, *lazy), (1, 1));
}

#[test]
fn those_who_waited_for_an_initialiser_that_panics_take_over() {
    for workers in [1, 2] {
        on(workers, || {
            let shared = Arc::new((Once::new(), AtomicUsize::new(0)));
            let users: Vec<_> = (0..6)
                .map(|_| {
                    let shared = shared.clone();
                    spawn(move || {
                        shared.0.call_once(|| {
                            yield_now();
                            if shared.1.fetch_add(1, SeqCst) < 3 {
                                resume_unwind(Box::new("on purpose"));
                            }
                        });
                        assert!(shared.0.is_completed());
                    })
                })
                .collect();
            let ended: Vec<_> = users.into_iter().map(|user| user.join()).collect();
            let fallen = ended.iter().filter(|result| result.is_err()).count();
            assert_eq!((fallen, shared.1.load(SeqCst)), (3, 4));
        });
    }
}

#[test]
fn a_value_is_set_once_and_waited_for() {
    let lock = Arc::new(OnceLock::new());
    let theirs = lock.clone();
    let thread = plain_thread(move || *theirs.wait());
    on(1, || {
        let theirs = lock.clone();
        let waiter = spawn(move || *theirs.wait());
        yield_now();
        assert_eq!(lock.get(), None);
        assert_eq!(lock.set(1), Ok(()));
        assert_eq!(lock.set(2), Err(2));
        assert_eq!(waiter.join().unwrap(), 1);
    });
    assert_eq!(thread.join().unwrap(), 1);
    let mut lock = Arc::into_inner(lock).unwrap();
    *lock.get_mut().unwrap() += 1;
    assert_eq!(lock.take(), Some(2));
    assert_eq!(lock.get(), None, "taken");
    assert_eq!(lock.take(), None);
    assert_eq!(OnceLock::from(3).into_inner(), Some(3));
}

#[test]
fn a_value_is_dropped_once() {
    let token = Arc::new(());
    let lock = OnceLock::from(token.clone());
    assert!(lock.set(token.clone()).is_err());
    assert_eq!(Arc::strong_count(&token), 2);
    drop(lock);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn waiting_for_an_initialiser_ends_with_the_scope_but_what_is_there_is_had() {
    on(1, || {
        let lock = Arc::new(OnceLock::new());
        let (theirs, (go, gone)) = (lock.clone(), channel::bounded(1));
        let slow = spawn(move || {
            theirs.get_or_init(|| gone.recv().unwrap());
        });
        yield_now();
        let begun = Instant::now();
        assert!(timeout(SHORT, || *lock.get_or_init(|| 2)).is_err());
        assert!(timeout(SHORT, || *lock.wait()).is_err());
        assert!(begun.elapsed() >= 2 * SHORT);
        let token = CancelToken::new();
        token.cancel();
        assert!(token.run(|| *lock.wait()).is_err());
        go.send(1).unwrap();
        slow.join().unwrap();
        assert_eq!(token.run(|| *lock.get_or_init(|| 2)), Ok(1));
    });
}

#[test]
fn a_destructor_that_runs_while_a_cancellation_unwinds_has_its_value() {
    struct Uses(Arc<OnceLock<u32>>, Arc<AtomicBool>);
    impl Drop for Uses {
        fn drop(&mut self) {
            self.1.store(*self.0.get_or_init(|| 2) == 1, SeqCst);
        }
    }
    on(1, || {
        let (lock, right) = (Arc::new(OnceLock::new()), Arc::new(AtomicBool::new(false)));
        let (theirs, (go, gone)) = (lock.clone(), channel::bounded(1));
        let slow = spawn(move || {
            theirs.get_or_init(|| gone.recv().unwrap());
        });
        yield_now();
        let uses = Uses(lock.clone(), right.clone());
        let victim = spawn(move || {
            let _uses = uses;
            sleep(LONG);
        });
        yield_now();
        victim.cancel();
        (0..10).for_each(|_| yield_now());
        assert!(!victim.is_finished(), "its destructor waits");
        go.send(1).unwrap();
        slow.join().unwrap();
        assert!(victim.join().unwrap_err().is_cancelled());
        assert!(right.load(SeqCst));
    });
}

#[test]
fn cancelling_at_any_moment_leaves_a_value_or_room_for_one() {
    for workers in [1, 2] {
        on(workers, || {
            for round in 0..300_usize {
                let lock = Arc::new(OnceLock::new());
                let visitors: Vec<_> = (0..3)
                    .map(|visitor| {
                        let lock = lock.clone();
                        spawn(move || {
                            *lock.get_or_init(|| {
                                (0..3).for_each(|_| yield_now());
                                visitor
                            })
                        })
                    })
                    .collect();
                (0..round % 9).for_each(|_| yield_now());
                visitors[0].cancel();
                visitors[1].cancel();
                let values: Vec<_> = visitors.into_iter().map(|visitor| visitor.join()).collect();
                let value = *values[2].as_ref().unwrap();
                let seen = values.iter().flatten();
                assert!(seen.copied().all(|seen| seen == value), "round {round}");
                assert_eq!(lock.get(), Some(&value));
            }
        });
    }
}
