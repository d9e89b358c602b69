//! Tries: a loop that asks without waiting does not keep its worker from those who would change the answer.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    cancel::{self, CancelToken, Interrupt},
    group, select, spawn,
    sync::{
        Mutex, ReadRecursive, RwLock, Semaphore,
        broadcast::{self, Lag},
        channel::{Select, bounded, unbounded},
        oneshot, watch,
    },
    task,
};

use super::on;

/// Asks again and again, on the only worker, until a neighbour has had its turn; `asks` may not wait.
fn comes_true(
    what: &str,
    neighbour: impl FnOnce() + Send + 'static,
    mut asks: impl FnMut() -> bool,
) {
    let neighbour = spawn(neighbour);
    let true_in_the_end = (0..10_000_000).any(|_| asks());
    assert!(true_in_the_end, "{what} kept the worker");
    neighbour.join().unwrap();
}

#[test]
fn a_receive_that_is_tried_again_and_again_gives_way() {
    on(1, || {
        let (send, receive) = bounded(1);
        comes_true(
            "try_recv",
            move || send.send(7).unwrap(),
            || receive.try_recv().is_ok(),
        );
        let (send, mut receive) = oneshot::channel();
        comes_true(
            "oneshot",
            move || send.send(7).unwrap(),
            || receive.try_recv().is_ok(),
        );
        let (send, mut receive) = broadcast::channel(2, Lag::Block);
        comes_true(
            "broadcast",
            move || assert!(send.send(7).is_ok()),
            || receive.try_recv().is_ok(),
        );
        let (send, receive) = watch::channel(1);
        comes_true(
            "has_changed",
            move || send.send(2).unwrap(),
            || receive.has_changed(),
        );
    });
}

#[test]
fn a_send_that_is_tried_again_and_again_gives_way() {
    on(1, || {
        let (send, receive) = bounded(0);
        comes_true(
            "try_send",
            move || assert_eq!(receive.recv(), Ok(7)),
            || send.try_send(7).is_ok(),
        );
    });
}

#[test]
fn receives_that_succeed_without_end_give_way() {
    on(1, || {
        let (send, receive) = unbounded();
        for n in 0..100_000 {
            send.send(n).unwrap();
        }
        let seen = Arc::new(AtomicBool::new(false));
        let theirs = seen.clone();
        let neighbour = spawn(move || theirs.store(true, SeqCst));
        let taken = receive
            .try_iter()
            .take_while(|_| !seen.load(SeqCst))
            .count();
        assert!(taken < 99_999, "the neighbour had no turn");
        neighbour.join().unwrap();
    });
}

#[test]
fn a_lock_that_is_tried_again_and_again_gives_way() {
    on(1, || {
        for what in [
            "try_lock",
            "try_read",
            "try_read_recursive",
            "try_write",
            "try_upgradable_read",
            "try_acquire",
        ] {
            let held = Arc::new((Mutex::new(()), RwLock::new(()), Semaphore::new(1)));
            let (theirs, (told, taken)) = (held.clone(), bounded(0));
            let holder = spawn(move || {
                let _mutex = theirs.0.lock();
                let _rwlock = theirs.1.write();
                let _permit = theirs.2.acquire().unwrap();
                told.send(()).unwrap();
                task::park();
            });
            taken.recv().unwrap();
            let neighbour = move || {
                holder.cancel();
                assert!(holder.join().is_err());
            };
            comes_true(what, neighbour, || match what {
                "try_lock" => held.0.try_lock().is_some(),
                "try_read" => held.1.try_read().is_some(),
                "try_read_recursive" => held.1.try_read_recursive().is_some(),
                "try_write" => held.1.try_write().is_some(),
                "try_upgradable_read" => held.1.try_upgradable_read().is_some(),
                _ => held.2.try_acquire().is_ok(),
            });
        }
    });
}

#[test]
fn a_select_that_waits_for_no_time_gives_way() {
    on(1, || {
        for form in [
            "select_timeout",
            "ready_timeout",
            "try_select",
            "try_ready",
            "default",
            "default of no time",
        ] {
            let (send, receive) = bounded(1);
            comes_true(
                form,
                move || send.send(7).unwrap(),
                || {
                    let mut list = Select::new();
                    list.recv(&receive);
                    match form {
                        "select_timeout" => list.select_timeout(Duration::ZERO).is_ok(),
                        "ready_timeout" => list.ready_timeout(Duration::ZERO).is_ok(),
                        "try_select" => list.try_select().is_ok(),
                        "try_ready" => list.try_ready().is_ok(),
                        "default" => select! {
                            recv(receive) -> _ => true,
                            default => false,
                        },
                        _ => select! {
                            recv(receive) -> _ => true,
                            default(Duration::ZERO) => false,
                        },
                    }
                },
            );
        }
    });
}

#[test]
fn who_asks_for_an_end_again_and_again_gives_way() {
    on(1, || {
        let other = spawn(|| ());
        comes_true("is_finished", || (), || other.is_finished());
        let _: Result<(), ()> = group(|g| {
            let child = g.spawn(|| ());
            comes_true("a child's is_finished", || (), || child.is_finished());
            Ok(())
        });
    });
}

#[test]
fn who_asks_for_a_cancellation_again_and_again_gives_way() {
    on(1, || {
        let token = CancelToken::new();
        let theirs = token.clone();
        let _ = token.run(|| {
            comes_true(
                "check",
                move || theirs.cancel(),
                || cancel::check() == Err(Interrupt::Cancelled),
            );
        });
        let token = CancelToken::new();
        let theirs = token.clone();
        comes_true(
            "is_cancelled",
            move || theirs.cancel(),
            || token.is_cancelled(),
        );
        let token = CancelToken::new();
        let theirs = token.clone();
        let _ =
            token.run(|| comes_true("the scope's", move || theirs.cancel(), cancel::is_cancelled));
    });
}
