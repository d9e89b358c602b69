//! Groups: children borrow, end before their leader goes on, and share its fate.

use std::{
    cell::Cell,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    time::Duration,
};

use maniple::{JoinError, Runtime, cancel, sync::channel};

use super::{LONG, on, passes_as_child};

/// Counts its drops.
struct Tally<'a>(&'a AtomicUsize);

impl Drop for Tally<'_> {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
    }
}

/// Waits until it is cancelled, and counts that.
fn wait_for_cancel(ended: &AtomicUsize) {
    let _tally = Tally(ended);
    maniple::sleep(LONG);
    panic!("nobody cancelled it");
}

fn message(payload: &(dyn std::any::Any + Send)) -> &str {
    payload.downcast_ref::<&str>().expect("a message")
}

#[test]
fn children_borrow_from_the_leaders_stack() {
    on(2, || {
        let words = [
            String::from("three"),
            String::from("small"),
            String::from("words"),
        ];
        let mut lengths = [0; 3];
        let joined: Result<usize, JoinError> = maniple::group(|g| {
            for (word, length) in words.iter().zip(&mut lengths) {
                g.spawn(move || {
                    maniple::yield_now();
                    *length = word.len();
                });
            }
            g.spawn(|| words.len()).join()
        });
        assert_eq!((joined.unwrap(), lengths), (3, [5, 5, 5]));
    });
}

#[test]
fn children_that_nobody_joins_are_waited_for() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let done: Result<(), ()> = maniple::group(|g| {
            for _ in 0..100 {
                g.spawn(|| {
                    for _ in 0..10 {
                        maniple::yield_now();
                    }
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            Ok(())
        });
        assert_eq!((done, ended.load(Ordering::SeqCst)), (Ok(()), 100));
    });
}

#[test]
fn an_error_of_the_leader_cancels_the_children_and_is_returned() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let (begin, begun) = channel::unbounded();
        let failed: Result<(), &str> = maniple::group(|g| {
            for _ in 0..10 {
                let begin = begin.clone();
                let ended = &ended;
                g.spawn(move || {
                    begin.send(()).unwrap();
                    wait_for_cancel(ended);
                });
            }
            for _ in 0..10 {
                begun.recv().unwrap();
            }
            assert!(!g.is_cancelled());
            Err("enough")
        });
        assert_eq!((failed, ended.load(Ordering::SeqCst)), (Err("enough"), 10));
        assert!(!cancel::is_cancelled());
    });
}

#[test]
fn a_panic_of_the_leader_cancels_the_children_and_goes_on() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let (begin, begun) = channel::bounded(0);
        let caught = catch_unwind(AssertUnwindSafe(|| {
            maniple::group(|g| -> Result<(), ()> {
                g.spawn(|| {
                    begin.send(()).unwrap();
                    wait_for_cancel(&ended);
                });
                begun.recv().unwrap();
                panic!("the leader's own");
            })
        }));
        assert_eq!(message(&*caught.unwrap_err()), "the leader's own");
        assert_eq!(ended.load(Ordering::SeqCst), 1);
    });
}

#[test]
fn a_childs_panic_cancels_its_siblings_and_a_leader_that_waits_elsewhere() {
    for workers in [1, 2] {
        on(workers, || {
            let ended = AtomicUsize::new(0);
            let (keep, nothing) = channel::unbounded::<()>();
            let received = Cell::new(false);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                maniple::group(|g| -> Result<(), ()> {
                    let (begin, begun) = channel::bounded(0);
                    let ended = &ended;
                    g.spawn(move || {
                        begin.send(()).unwrap();
                        wait_for_cancel(ended);
                    });
                    g.spawn(move || {
                        begun.recv().unwrap();
                        panic!("the child's");
                    });
                    // Nothing is ever sent: only the cancellation ends this.
                    received.set(nothing.recv().is_ok());
                    assert!(cancel::is_cancelled() && g.is_cancelled());
                    Ok(())
                })
            }));
            assert_eq!(message(&*caught.unwrap_err()), "the child's");
            assert_eq!((ended.load(Ordering::SeqCst), received.get()), (1, false));
            assert!(
                !cancel::is_cancelled(),
                "the group's end is the cancellation's"
            );
            drop(keep);
        });
    }
}

#[test]
fn a_childs_panic_is_resumed_even_if_the_child_was_joined() {
    on(2, || {
        let caught = catch_unwind(|| {
            maniple::group(|g| -> Result<&str, ()> {
                let joined = g.spawn(|| std::panic::panic_any(42_u32)).join();
                assert!(joined.is_err());
                Ok("not returned")
            })
        });
        assert_eq!(*caught.unwrap_err().downcast::<u32>().unwrap(), 42);
    });
}

#[test]
fn the_first_error_of_a_child_wins_and_cancels_the_siblings() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let (begin, begun) = channel::unbounded();
        let failed: Result<(), &str> = maniple::group(|g| {
            g.spawn(|| {
                begin.send(()).unwrap();
                wait_for_cancel(&ended);
            });
            g.try_spawn(|| {
                begin.send(()).unwrap();
                let (_keep, never) = channel::bounded::<()>(0);
                assert!(never.recv().is_err(), "cut short when the other fails");
                assert!(cancel::is_cancelled());
                Err::<(), _>("the second")
            });
            for _ in 0..2 {
                begun.recv().unwrap();
            }
            let first = g.try_spawn(|| Err::<(), _>("the first"));
            let error = first.join().unwrap_err();
            assert!(!error.is_panic());
            Err("the leader's")
        });
        assert_eq!(
            (failed, ended.load(Ordering::SeqCst)),
            (Err("the first"), 1)
        );
    });
}

#[test]
fn children_that_succeed_leave_the_leaders_value() {
    let sum = on(2, || {
        maniple::group(|g| {
            let parts: Vec<_> = (0..10)
                .map(|i| g.try_spawn(move || Ok::<_, JoinError>(i)))
                .collect();
            parts
                .into_iter()
                .map(maniple::group::Child::join)
                .sum::<Result<u32, _>>()
        })
    });
    assert_eq!(sum.unwrap(), 45);
}

#[test]
fn a_deadline_is_inherited_two_groups_deep() {
    on(2, || {
        let unwound = AtomicUsize::new(0);
        let cut = maniple::timeout(Duration::from_millis(20), || {
            maniple::group(|outer| -> Result<(), ()> {
                outer.spawn(|| {
                    maniple::group(|inner| -> Result<(), ()> {
                        inner.spawn(|| {
                            assert!(
                                maniple::time::remaining().unwrap() <= Duration::from_millis(20)
                            );
                            wait_for_cancel(&unwound);
                        });
                        wait_for_cancel(&unwound);
                        Ok(())
                    })
                });
                wait_for_cancel(&unwound);
                Ok(())
            })
        });
        assert!(cut.is_err());
        assert!(unwound.load(Ordering::SeqCst) >= 1);
        assert_eq!(maniple::time::remaining(), None);
    });
}

#[test]
fn cancellation_is_inherited_two_groups_deep() {
    on(2, || {
        let unwound = Arc::new(AtomicUsize::new(0));
        let theirs = unwound.clone();
        let (begin, begun) = channel::unbounded();
        let leader = maniple::spawn(move || {
            maniple::group(|outer| -> Result<(), ()> {
                outer.spawn(|| {
                    maniple::group(|inner| -> Result<(), ()> {
                        inner.spawn(|| {
                            begin.send(()).unwrap();
                            wait_for_cancel(&theirs);
                        });
                        begin.send(()).unwrap();
                        wait_for_cancel(&theirs);
                        Ok(())
                    })
                });
                begin.send(()).unwrap();
                wait_for_cancel(&theirs);
                Ok(())
            })
        });
        for _ in 0..3 {
            begun.recv().unwrap();
        }
        leader.cancel();
        assert!(leader.join().unwrap_err().is_cancelled());
        assert_eq!(unwound.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn one_child_can_be_cancelled_alone() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let done: Result<u32, JoinError> = maniple::group(|g| {
            let (go, wait) = channel::bounded::<()>(0);
            let sibling = g.spawn(move || {
                wait.recv().unwrap();
                7
            });
            let victim = g.spawn(|| wait_for_cancel(&ended));
            victim.cancel();
            assert!(victim.join().unwrap_err().is_cancelled());
            assert!(!g.is_cancelled());
            go.send(()).unwrap();
            sibling.join()
        });
        assert_eq!(done.unwrap(), 7);
        assert!(ended.load(Ordering::SeqCst) <= 1);
    });
}

#[test]
fn cancelling_the_group_ends_the_children_and_the_leaders_waits() {
    on(2, || {
        let ended = AtomicUsize::new(0);
        let seen: Result<bool, ()> = maniple::group(|g| {
            g.spawn(|| wait_for_cancel(&ended));
            g.cancel();
            Ok(cancel::check().is_err())
        });
        assert_eq!(seen, Ok(true));
        assert_eq!(cancel::check(), Ok(()));
    });
}

#[test]
fn join_yields_the_values_in_order_and_lends_mutably() {
    on(2, || {
        let (mut left, mut right) = (vec![1], vec![2]);
        let (a, (), c) = maniple::join!(left.len(), right.push(3), {
            maniple::yield_now();
            "c"
        });
        left.push(4);
        assert_eq!((a, c, left, right), (1, "c", vec![1, 4], vec![2, 3]));
        let all = maniple::join!(1, 2, 3, 4, 5, 6, 7);
        assert_eq!(all, (1, 2, 3, 4, 5, 6, 7));
    });
}

#[test]
fn a_panic_in_one_branch_of_join_cancels_the_others() {
    on(2, || {
        for child in [false, true] {
            let ended = AtomicUsize::new(0);
            let caught = catch_unwind(AssertUnwindSafe(|| {
                let fall = || -> () { panic!("in a branch") };
                if child {
                    maniple::join!(wait_for_cancel(&ended), fall());
                } else {
                    maniple::join!(fall(), wait_for_cancel(&ended));
                }
            }));
            assert_eq!(message(&*caught.unwrap_err()), "in a branch");
        }
    });
}

#[test]
fn a_deadline_cuts_a_join_and_is_caught_by_its_timeout() {
    on(2, || {
        let cut = maniple::timeout(Duration::from_millis(5), || {
            maniple::join!(maniple::sleep(LONG), maniple::sleep(LONG))
        });
        assert!(cut.is_err());
    });
}

#[test]
fn a_plain_thread_leads_a_group() {
    let text = String::from("on this thread's stack");
    let length: Result<usize, JoinError> = maniple::group(|g| g.spawn(|| text.len()).join());
    assert_eq!(length.unwrap(), text.len());
    let ((), place) = maniple::join!((), std::thread::current().id());
    assert_ne!(place, std::thread::current().id(), "a worker runs it");

    let caught = catch_unwind(AssertUnwindSafe(|| {
        maniple::group(|g| -> Result<(), ()> {
            g.spawn(|| panic!("across"));
            Ok(())
        })
    }));
    assert_eq!(message(&*caught.unwrap_err()), "across");
}

#[test]
fn a_group_that_runs_out_of_stacks_panics_rather_than_hangs() {
    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(3)
        .build()
        .unwrap();
    let caught = catch_unwind(AssertUnwindSafe(|| {
        runtime.run(|| {
            maniple::group(|g| -> Result<(), JoinError> {
                let held: Vec<_> = (0..5).map(|_| g.spawn(|| maniple::sleep(LONG))).collect();
                for child in held {
                    child.join()?;
                }
                Ok(())
            })
        })
    }));
    let payload = caught.unwrap_err();
    assert!(
        message(&*payload).contains("no stack") && message(&*payload).contains("max_coroutines"),
        "{}",
        message(&*payload)
    );
    let refused = runtime.run(|| {
        maniple::group(|g| -> Result<_, ()> {
            let held: Vec<_> = (0..2)
                .map(|_| g.builder().spawn(|| maniple::sleep(LONG)))
                .collect();
            let refused = g.builder().name("one too many").spawn(|| ()).map(drop);
            g.cancel();
            Ok((held.iter().all(Result::is_ok), refused))
        })
        .unwrap()
    });
    assert!(refused.0);
    assert_eq!(
        refused.1.unwrap_err().kind(),
        std::io::ErrorKind::QuotaExceeded
    );
}

#[test]
fn at_shutdown_children_end_before_their_leaders() {
    struct Says(&'static str, mpsc::Sender<&'static str>);
    impl Drop for Says {
        fn drop(&mut self) {
            // Longer than a leader would need, if it did not wait.
            maniple::cancel::shield(|| maniple::sleep(Duration::from_millis(2)));
            self.1.send(self.0).unwrap();
        }
    }
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (say, said) = mpsc::channel();
    let (begin, begun) = channel::unbounded();
    runtime.spawn(move || {
        let _says = Says("leader", say.clone());
        let (inner, say) = (begin.clone(), &say);
        maniple::group(|g| -> Result<(), ()> {
            g.spawn(move || {
                let _says = Says("child", say.clone());
                let (innermost, say) = (inner.clone(), say);
                maniple::group(|g| -> Result<(), ()> {
                    g.spawn(move || {
                        let _says = Says("grandchild", say.clone());
                        innermost.send(()).unwrap();
                        maniple::sleep(LONG);
                    });
                    maniple::sleep(LONG);
                    Ok(())
                })
            });
            begin.send(()).unwrap();
            maniple::sleep(LONG);
            Ok(())
        })
    });
    for _ in 0..2 {
        begun.recv().unwrap();
    }
    assert!(runtime.shutdown().is_clean());
    assert_eq!(
        said.iter().collect::<Vec<_>>(),
        ["grandchild", "child", "leader"]
    );
}

#[test]
fn a_panic_of_an_unjoined_results_destructor_is_told_to_the_log_and_is_not_the_groups() {
    passes_as_child("groups::unjoined_results_child");
}

#[test]
#[ignore = "sets the process's logger, run by the test before it"]
fn unjoined_results_child() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    struct Kept;
    impl log::Log for Kept {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            LINES.lock().unwrap().push(record.args().to_string());
        }
        fn flush(&self) {}
    }
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("on purpose");
        }
    }
    log::set_logger(&Kept).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    on(1, || {
        let done: Result<(), JoinError> = maniple::group(|g| {
            drop(g.spawn_named("before its end", || Bomb));
            let ended = g.spawn_named("after its end", || Bomb);
            while !ended.is_finished() {
                maniple::yield_now();
            }
            drop(ended);
            g.spawn(|| ()).join()
        });
        done.unwrap();
    });
    let lines = LINES.lock().unwrap();
    assert_eq!(lines.len(), 2, "{lines:?}");
    for (line, name) in lines.iter().zip(["before its end", "after its end"]) {
        assert!(
            line.starts_with("dropping the result of coroutine "),
            "{line}"
        );
        assert!(line.contains(&format!("{name:?}, spawned at ")), "{line}");
        assert!(line.ends_with(", which nobody joined, panicked"), "{line}");
    }
}

/// Leads a group of one child, which does the same, so many times; the last tells and is parked.
fn lead_on(levels: usize, tell: &channel::Sender<()>) {
    if levels == 0 {
        tell.send(()).unwrap();
        maniple::park();
    }
    let led: Result<(), ()> = maniple::group(|g| {
        g.spawn(|| lead_on(levels - 1, tell));
        Ok(())
    });
    led.unwrap();
}

#[test]
fn groups_in_groups_may_be_cancelled_however_deep_they_are() {
    on(2, || {
        let (tell, told) = channel::bounded(1);
        let deep = maniple::spawn(move || lead_on(10_000, &tell));
        told.recv().unwrap();
        // From a stack like those of the others.
        maniple::spawn(move || {
            deep.cancel();
            // The last of them is cut, and thus has no error for its leader.
            deep.join().unwrap();
        })
        .join()
        .unwrap();
    });
}
