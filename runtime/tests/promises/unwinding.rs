//! Coroutines that wait in destructors while they unwind: to themselves they panic, to nobody else.

use std::{
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
    },
    thread,
    time::Duration,
};

use maniple::{
    Runtime,
    cancel::{CancelToken, shield, shield_for},
    group,
    sync::{Barrier, Notify, WaitGroup, channel},
    task::panicking,
    time::Elapsed,
};

use super::{LONG, SHORT, in_world, on, passes_as_child};

/// Runs a closure when dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

fn fall() -> ! {
    resume_unwind(Box::new("on purpose"))
}

/// Runs `body` while a coroutine of the same worker waits in a destructor and unwinds.
fn beside_one_that_unwinds_in_world(body: impl Fn() + Send + Sync + 'static) {
    in_world(move || {
        let (tell, told) = channel::bounded(0);
        let (go_on, gone_on) = channel::bounded::<()>(0);
        let falling = maniple::spawn(move || {
            let _waits = Finally(|| {
                assert!(thread::panicking() && panicking());
                tell.send(()).unwrap();
                assert!(gone_on.recv().is_err());
                assert!(thread::panicking() && panicking(), "after its wait");
            });
            fall();
        });
        told.recv().unwrap();
        body();
        drop(go_on);
        assert!(falling.join().unwrap_err().is_panic());
        assert!(!thread::panicking() && !panicking());
    });
}

#[test]
fn a_neighbour_of_one_that_unwinds_does_not_panic() {
    beside_one_that_unwinds_in_world(|| {
        assert!(!thread::panicking() && !panicking());
        let child = maniple::spawn(|| (thread::panicking(), panicking()));
        assert_eq!(child.join().unwrap(), (false, false));
    });
}

#[test]
fn a_neighbours_waits_are_cut_as_ever() {
    beside_one_that_unwinds_in_world(|| {
        let sleep = || maniple::sleep(LONG);
        assert_eq!(maniple::timeout(SHORT, sleep), Err(Elapsed));
        assert_eq!(maniple::timeout(SHORT, maniple::park), Err(Elapsed));
        let (notify, barrier, group) = (Notify::new(), Barrier::new(2), WaitGroup::new());
        let _member = group.clone();
        assert_eq!(maniple::timeout(SHORT, || notify.notified()), Err(Elapsed));
        assert!(maniple::timeout(SHORT, || barrier.wait()).is_err());
        assert_eq!(maniple::timeout(SHORT, || group.wait()), Err(Elapsed));
        let in_rounds = || loop {
            maniple::sleep(Duration::from_millis(1));
        };
        assert_eq!(maniple::timeout(SHORT, in_rounds), Err::<(), _>(Elapsed));
    });
}

#[test]
fn a_neighbours_join_is_cut_as_ever() {
    beside_one_that_unwinds_in_world(|| {
        let token = CancelToken::new();
        let cut = token.run(|| {
            token.cancel();
            maniple::join!(maniple::sleep(LONG), maniple::sleep(LONG))
        });
        assert!(cut.is_err());
    });
}

#[test]
fn a_neighbours_guards_poison_nothing() {
    beside_one_that_unwinds_in_world(|| {
        let lock = Mutex::new(0);
        *lock.lock().unwrap() += 1;
        assert!(!lock.is_poisoned());
        // Held over a wait, and a panic of its own still poisons.
        let guard = lock.lock().unwrap();
        maniple::sleep(SHORT);
        drop(guard);
        assert!(!lock.is_poisoned());
        let fallen = catch_unwind(AssertUnwindSafe(|| {
            let _guard = lock.lock().unwrap();
            fall();
        }));
        assert!(fallen.is_err() && lock.is_poisoned());
    });
}

#[test]
fn a_lock_held_by_one_that_waits_while_it_unwinds_is_poisoned() {
    in_world(|| {
        let lock = Arc::new(Mutex::new(()));
        let theirs = lock.clone();
        let falling = maniple::spawn(move || {
            let _guard = theirs.lock().unwrap();
            let _waits = Finally(|| shield(|| maniple::sleep(SHORT)));
            fall();
        });
        assert!(falling.join().is_err());
        assert!(lock.is_poisoned());
    });
}

/// Unwinds in a destructor, catches that, and again, so deep; and waits wherever it is.
fn nest(levels: usize) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _nested = Finally(|| {
            for _ in 0..2 {
                assert!(thread::panicking());
                maniple::sleep(Duration::from_micros(100));
                assert!(thread::panicking());
            }
            if levels > 1 {
                nest(levels - 1);
                assert!(thread::panicking(), "one is caught, the others are not");
                maniple::sleep(Duration::from_micros(100));
                assert!(thread::panicking());
            }
        });
        fall();
    }));
    assert!(caught.is_err());
}

#[test]
fn panics_within_destructors_are_counted_over_waits() {
    for workers in [1, 2] {
        on(workers, || {
            maniple::group(|g| {
                for levels in 1..8 {
                    g.spawn(move || {
                        nest(levels);
                        assert!(!thread::panicking());
                    });
                    g.spawn(|| {
                        for _ in 0..20 {
                            assert!(!thread::panicking());
                            maniple::yield_now();
                        }
                    });
                }
                Ok::<_, ()>(())
            })
            .unwrap();
        });
    }
}

#[test]
fn ten_thousand_unwind_at_once() {
    for workers in [1, 2] {
        on(workers, || {
            let (waiting, right) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let all = Notify::new();
            let fallen = maniple::group(|g| {
                for _ in 0..10_000 {
                    drop(g.supervise(|| {
                        let _waits = Finally(|| {
                            waiting.fetch_add(1, Ordering::Relaxed);
                            all.notified();
                            right.fetch_add(usize::from(thread::panicking()), Ordering::Relaxed);
                        });
                        fall();
                    }));
                }
                while waiting.load(Ordering::Relaxed) < 10_000 {
                    assert!(!thread::panicking());
                    maniple::sleep(Duration::from_millis(1));
                }
                assert_eq!(
                    maniple::timeout(SHORT, || maniple::sleep(LONG)),
                    Err(Elapsed)
                );
                // One falls beside them all.
                assert!(catch_unwind(|| fall()).is_err());
                assert!(!thread::panicking());
                all.notify_waiters();
                Ok::<_, ()>(())
            });
            assert_eq!(fallen, Ok(()));
            assert_eq!(right.load(Ordering::Relaxed), 10_000);
        });
    }
}

#[test]
fn a_shutdown_meets_coroutines_that_unwind() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let cleaned = Arc::new(AtomicUsize::new(0));
    let theirs = cleaned.clone();
    let (tell, told) = channel::bounded(100);
    runtime.spawn(move || {
        for _ in 0..100 {
            let (cleaned, tell) = (theirs.clone(), tell.clone());
            maniple::spawn(move || {
                let _waits = Finally(move || {
                    assert!(thread::panicking());
                    tell.send(()).unwrap();
                    assert!(shield_for(LONG, || maniple::sleep(SHORT / 2)).is_ok());
                    assert!(thread::panicking());
                    cleaned.fetch_add(1, Ordering::Relaxed);
                });
                fall();
            });
        }
    });
    for _ in 0..100 {
        told.recv().unwrap();
    }
    assert!(runtime.shutdown().is_clean());
    assert_eq!(cleaned.load(Ordering::Relaxed), 100);
}

#[test]
fn a_panic_hook_may_wait() {
    passes_as_child("unwinding::a_hook_that_waits");
}

/// Of the kind of test that a process of its own runs: its hook is every thread's.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_hook_that_waits() {
    std::panic::set_hook(Box::new(|_| {
        maniple::yield_now();
        maniple::sleep(SHORT);
    }));
    let ended = on(1, || {
        let panicking: Vec<_> = (0..10)
            .map(|number| {
                maniple::spawn(move || {
                    assert!(number < 0, "number {number}");
                })
            })
            .collect();
        assert!(!thread::panicking());
        assert_eq!(
            maniple::timeout(SHORT, || maniple::sleep(LONG)),
            Err(Elapsed)
        );
        panicking
            .into_iter()
            .filter_map(|handle| handle.join().err())
            .filter(maniple::JoinError::is_panic)
            .count()
    });
    assert_eq!(ended, 10);
    drop(std::panic::take_hook());
}

#[test]
fn a_panic_of_a_hook_that_waited_leaves_nothing_to_those_who_come_after() {
    passes_as_child("unwinding::a_hook_that_waits_and_panics");
}

/// As above.
#[test]
#[ignore = "run by another test, in a process of its own"]
fn a_hook_that_waits_and_panics() {
    std::panic::set_hook(Box::new(|_| {
        maniple::sleep(SHORT);
        resume_unwind(Box::new("from the hook"));
    }));
    on(1, || {
        let falling = maniple::spawn(|| panic!("replaced by the hook's"));
        assert!(falling.join().unwrap_err().is_panic());
        let after = maniple::spawn(thread::panicking);
        assert!(!after.join().unwrap() && !thread::panicking());
    });
}

/// Calls every policy as a destructor does: each must come to its values.
fn decide() {
    let slow = |value: u32| {
        maniple::sleep(SHORT);
        value
    };
    let both = maniple::join!(slow(1), slow(2));
    assert_eq!(both, (1, 2));
    let both = maniple::try_join!(Ok::<_, ()>(slow(1)), Ok(slow(2)));
    assert_eq!(both, Ok((1, 2)));
    let all = group::try_join([1, 2].map(|n| move || Ok::<_, ()>(slow(n))));
    assert_eq!(all, Ok(vec![1, 2]));
    let failed = group::try_join([1, 2].map(|n| move || Err::<(), _>(slow(n))));
    assert!(failed.is_err());
    assert_eq!(group::map(2, [1, 2, 3], slow), [1, 2, 3]);
    let all = group::try_map(2, [1, 2, 3], |n| Ok::<_, ()>(slow(n)));
    assert_eq!(all, Ok(vec![1, 2, 3]));
    let first = group::race([1, 2].map(|n| move || Ok::<_, ()>(slow(n))));
    assert!(first.is_ok());
    let none = group::race([1, 2].map(|n| move || Err::<(), _>(slow(n))));
    assert_eq!(none, Err(vec![1, 2]));
    let two = group::quorum(2, [1, 2, 3].map(|n| move || Ok::<_, ()>(slow(n))));
    assert_eq!(two.map(|two| two.len()), Ok(2));
    let hedged = group::hedge(SHORT / 5, |n| Ok::<_, ()>((slow(1), n)));
    assert!(hedged.is_ok());
}

/// What tells how its calls went may tell that they were cut.
fn report() {
    let parts = group::partial_timeout(LONG, [|| maniple::sleep(SHORT)]);
    assert_eq!(parts.len(), 1);
    let ended = group::supervised([|| maniple::sleep(SHORT)]);
    assert_eq!(ended.len(), 1);
    let restarted = group::Restart::default().run(|_| Err::<(), _>("fails"));
    assert!(restarted.is_err());
}

#[test]
fn policies_in_the_destructor_of_a_cancelled_coroutine_come_to_an_end() {
    on(2, || {
        let done = AtomicUsize::new(0);
        let token = CancelToken::new();
        let cut = token.run(|| {
            let _decides = Finally(|| {
                decide();
                report();
                done.fetch_add(1, Ordering::Relaxed);
            });
            token.cancel();
            maniple::park();
        });
        assert!(cut.is_err());
        let late = maniple::timeout(SHORT, || {
            let _decides = Finally(|| {
                decide();
                report();
                done.fetch_add(1, Ordering::Relaxed);
            });
            maniple::park();
        });
        assert_eq!((late, done.into_inner()), (Err(Elapsed), 2));
    });
}

#[test]
fn a_cancellation_that_comes_during_a_policy_in_a_destructor_waits() {
    in_world(|| {
        let token = CancelToken::new();
        let (mut begun, mut done) = (false, false);
        let fallen = catch_unwind(AssertUnwindSafe(|| {
            token.run(|| {
                let _decides = Finally(|| {
                    let ((), ()) = maniple::join!(
                        {
                            maniple::yield_now();
                            token.cancel();
                            begun = true;
                        },
                        maniple::sleep(SHORT)
                    );
                    decide();
                    done = true;
                });
                fall();
            })
        }));
        assert!(fallen.is_err() && begun && done);
    });
}

#[test]
fn policies_in_destructors_do_without_stacks() {
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(1)
        .build()
        .unwrap();
    let done = runtime.run(|| {
        let mut done = false;
        let token = CancelToken::new();
        let cut = token.run(|| {
            let _decides = Finally(|| {
                decide();
                report();
                done = true;
            });
            token.cancel();
            maniple::park();
        });
        cut.is_err() && done
    });
    assert!(done && runtime.shutdown().is_clean());
}

#[test]
fn policies_in_destructors_outlast_a_shutdown() {
    for workers in [1, 2] {
        let runtime = Runtime::builder().workers(workers).build().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let (tell, told) = channel::bounded(10);
        for _ in 0..10 {
            let (done, tell) = (done.clone(), tell.clone());
            drop(runtime.spawn(move || {
                let _decides = Finally(|| {
                    for _ in 0..3 {
                        decide();
                    }
                    done.fetch_add(1, Ordering::Relaxed);
                });
                let (_kept, ()) = maniple::join!(Finally(decide), {
                    tell.send(()).unwrap();
                    maniple::sleep(LONG);
                });
            }));
        }
        for _ in 0..10 {
            told.recv().unwrap();
        }
        assert!(runtime.shutdown().is_clean());
        assert_eq!(done.load(Ordering::Relaxed), 10);
    }
}

#[test]
fn a_shutdown_does_not_pass_a_shield_by() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (tell, told) = channel::bounded(1);
    let whole = runtime.spawn(move || {
        shield(|| {
            maniple::join!(
                {
                    tell.send(()).unwrap();
                    maniple::sleep(4 * SHORT);
                    1
                },
                {
                    maniple::sleep(4 * SHORT);
                    2
                }
            )
        })
    });
    told.recv().unwrap();
    assert!(runtime.shutdown().is_clean());
    assert_eq!(whole.join().unwrap(), (1, 2));
}

#[test]
fn a_logger_that_waits_is_told_of_a_missing_thread_by_a_coroutine_of_its_own() {
    passes_as_child("unwinding::waiting_logger_child");
}

#[test]
#[ignore = "sets the process's logger and limits its memory, run by the test before it"]
fn waiting_logger_child() {
    static LINES: Mutex<Vec<String>> = Mutex::new(Vec::new());
    /// Waits, and is suspended, before it keeps a line.
    struct Waits;
    impl log::Log for Waits {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            maniple::sleep(SHORT);
            LINES.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    log::set_logger(&Waits).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    on(1, || {
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let limit = rustix::process::Rlimit {
            current: Some(pages * rustix::param::page_size() as u64 + (300 << 10)),
            maximum: None,
        };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
        let (send, received) = channel::bounded(0);
        let falling = maniple::spawn_local(move || {
            let _waits = Finally(|| {
                (0..3).for_each(|_| maniple::yield_now());
                assert_eq!(received.recv(), Ok(7));
            });
            fall();
        });
        maniple::sleep(4 * SHORT);
        send.send(7).unwrap();
        let payload = falling.join().unwrap_err().into_panic();
        assert!(payload.is::<&str>());
        while LINES.lock().unwrap().is_empty() {
            maniple::sleep(SHORT);
        }
    });
    let lines = LINES.lock().unwrap();
    let told = |line: &String| line.contains("could not be started");
    assert_eq!(
        lines.iter().filter(|line| told(line)).count(),
        1,
        "{lines:?}"
    );
}
