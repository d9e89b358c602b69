//! Leader groups: no path leaves before the last child has ended.

use std::{
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use maniple::{JoinError, group, join, sleep, sync::channel, timeout, yield_now};

use super::on;

const LONG: Duration = Duration::from_secs(600);

#[test]
fn children_borrow_and_are_waited_for_unjoined() {
    let ended = AtomicUsize::new(0);
    on(2, || {
        let words = ["a", "bb", "ccc"];
        let total: Result<usize, JoinError> = group(|g| {
            for _ in 0..50 {
                g.spawn(|| {
                    yield_now();
                    ended.fetch_add(1, Ordering::SeqCst);
                });
            }
            let lengths: Vec<_> = words.iter().map(|word| g.spawn(|| word.len())).collect();
            lengths.into_iter().map(|length| length.join()).sum()
        });
        assert_eq!(total.unwrap(), 6);
    });
    assert_eq!(ended.load(Ordering::SeqCst), 50);
}

#[test]
fn the_leaders_error_cancels_its_children() {
    on(2, || {
        let outcome: Result<(), &str> = group(|g| {
            g.spawn(|| sleep(LONG));
            Err("enough")
        });
        assert_eq!(outcome, Err("enough"));
    });
}

#[test]
fn a_childs_panic_reaches_siblings_and_a_leader_that_waits_elsewhere() {
    on(2, || {
        let (_keep, never) = channel::unbounded::<()>();
        let panicked = catch_unwind(AssertUnwindSafe(|| {
            let _: Result<(), JoinError> = group(|g| {
                g.spawn(|| sleep(LONG));
                g.spawn(|| panic!("child fell"));
                assert_eq!(never.recv(), Err(channel::RecvError::Cancelled));
                Ok(())
            });
        }));
        let payload = panicked.unwrap_err();
        assert_eq!(payload.downcast_ref::<&str>(), Some(&"child fell"));
    });
}

#[test]
fn the_first_failed_child_decides() {
    on(2, || {
        let outcome: Result<(), io::Error> = group(|g| {
            let slow = g.try_spawn(|| {
                sleep(LONG);
                Ok(())
            });
            g.try_spawn(|| Err::<(), _>(io::Error::other("first")));
            slow.join()?;
            Ok(())
        });
        assert_eq!(outcome.unwrap_err().to_string(), "first");
    });
}

#[test]
fn deadlines_reach_two_groups_down() {
    on(2, || {
        let cut = timeout(Duration::from_millis(20), || {
            let _: Result<(), JoinError> = group(|outer| {
                outer.spawn(|| {
                    let _: Result<(), JoinError> = group(|inner| {
                        inner.spawn(|| sleep(LONG));
                        Ok(())
                    });
                });
                Ok(())
            });
            sleep(LONG);
        });
        assert!(cut.is_err());
    });
}

#[test]
fn cancelling_a_leader_cancels_two_groups_down() {
    on(2, || {
        let (began, wait) = channel::bounded(1);
        let leader = maniple::spawn(move || {
            let _: Result<(), JoinError> = group(|outer| {
                outer.spawn(|| {
                    let _: Result<(), JoinError> = group(|inner| {
                        inner.spawn(|| {
                            began.send(()).unwrap();
                            sleep(LONG);
                        });
                        Ok(())
                    });
                });
                Ok(())
            });
        });
        wait.recv().unwrap();
        leader.cancel();
        let _ = leader.join();
    });
}

#[test]
fn one_child_can_be_cancelled_alone() {
    on(2, || {
        let outcome: Result<i32, JoinError> = group(|g| {
            let victim = g.spawn(|| sleep(LONG));
            let other = g.spawn(|| 5);
            victim.cancel();
            assert!(victim.join().unwrap_err().is_cancelled());
            other.join()
        });
        assert_eq!(outcome.unwrap(), 5);
    });
}

#[test]
fn join_borrows_mutably_and_resumes_panics() {
    on(2, || {
        let (mut left, mut right) = (vec![1], vec![2]);
        let ((), ()) = join!(left.push(3), right.push(4));
        assert_eq!((left, right), (vec![1, 3], vec![2, 4]));
        let fell = catch_unwind(|| join!(sleep(LONG), panic!("joined child fell")));
        assert!(fell.is_err());
    });
}

#[test]
fn plain_threads_lead_groups_too() {
    let (a, b) = join!(2 + 2, std::thread::current().id());
    assert_eq!(a, 4);
    assert_ne!(b, std::thread::current().id(), "children run on workers");
}

#[test]
fn a_group_without_stacks_says_so_rather_than_hang() {
    let runtime = maniple::Runtime::builder()
        .workers(1)
        .max_coroutines(2)
        .build()
        .unwrap();
    let fell = catch_unwind(AssertUnwindSafe(|| {
        runtime.run(|| {
            let _: Result<(), JoinError> = group(|g| {
                g.spawn(|| sleep(LONG));
                g.spawn(|| sleep(LONG));
                Ok(())
            });
        });
    }));
    let payload = fell.unwrap_err();
    let message = payload.downcast_ref::<&str>().unwrap();
    assert!(message.contains("max_coroutines"), "{message}");
}
