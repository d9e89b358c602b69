//! Cancellation, deadlines and shields.

use std::{
    panic::catch_unwind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, shield},
    sleep, spawn,
    sync::{Condvar, Mutex, channel},
    timeout, yield_now,
};

use super::on;

const LONG: Duration = Duration::from_secs(600);
const SHORT: Duration = Duration::from_millis(10);

#[test]
fn a_cut_sleep_runs_destructors_and_no_panic_hook() {
    struct Noted<'a>(&'a AtomicBool);
    impl Drop for Noted<'_> {
        fn drop(&mut self) {
            self.0.store(true, Ordering::SeqCst);
        }
    }
    on(1, || {
        let dropped = AtomicBool::new(false);
        let cut = timeout(SHORT, || {
            let _noted = Noted(&dropped);
            sleep(LONG);
        });
        assert!(cut.is_err() && dropped.load(Ordering::SeqCst));
    });
}

#[test]
fn a_value_is_kept_and_errors_say_elapsed() {
    on(1, || {
        let (_keep, never) = channel::unbounded::<()>();
        let kept = timeout(SHORT, || never.recv());
        assert_eq!(kept, Ok(Err(channel::RecvError::Elapsed)));
    });
}

#[test]
fn each_deadline_is_caught_by_the_scope_that_set_it() {
    on(1, || {
        let inner = timeout(LONG, || timeout(SHORT, || sleep(LONG)));
        assert!(matches!(inner, Ok(Err(_))));
        let outer = timeout(SHORT, || timeout(LONG, || sleep(LONG)));
        assert!(outer.is_err());
    });
}

#[test]
fn a_token_cuts_waits_from_another_thread() {
    on(2, || {
        let token = CancelToken::new();
        let theirs = token.clone();
        std::thread::spawn(move || theirs.cancel());
        assert!(token.run(|| sleep(LONG)).is_err());
        assert!(token.run(|| sleep(LONG)).is_err(), "for good");
    });
}

#[test]
fn a_shield_defers_and_deadlines_inside_it_work() {
    on(1, || {
        let token = CancelToken::new();
        token.cancel();
        let after = AtomicBool::new(false);
        let cut = token.run(|| {
            shield(|| {
                sleep(SHORT);
                assert!(timeout(SHORT, || sleep(LONG)).is_err());
            });
            after.store(true, Ordering::SeqCst);
            sleep(LONG);
        });
        assert!(cut.is_err() && after.load(Ordering::SeqCst));
    });
}

#[test]
fn a_shield_survives_a_cancel_that_comes_during_it() {
    on(2, || {
        let (began, wait) = channel::bounded(1);
        let shielded = spawn(move || {
            shield(|| {
                began.send(()).unwrap();
                sleep(Duration::from_millis(30));
                "finished"
            })
        });
        wait.recv().unwrap();
        shielded.cancel();
        assert_eq!(shielded.join().unwrap(), "finished");
    });
}

#[test]
fn catching_the_unwinding_does_not_swallow_a_cancel() {
    on(1, || {
        let token = CancelToken::new();
        token.cancel();
        let cut = token.run(|| {
            for _ in 0..3 {
                assert!(catch_unwind(|| sleep(LONG)).is_err());
            }
            sleep(LONG);
        });
        assert!(cut.is_err());
    });
}

#[test]
fn taking_a_lock_is_no_cancellation_point_and_destructors_may_wait() {
    struct Locks<'a>(&'a Mutex<u32>);
    impl Drop for Locks<'_> {
        fn drop(&mut self) {
            *self.0.lock() += 1;
            // In a destructor during unwinding a wait ends early instead of throwing again.
            sleep(LONG);
        }
    }
    on(1, || {
        let count = Mutex::new(0);
        let token = CancelToken::new();
        token.cancel();
        let cut = token.run(|| {
            let _locks = Locks(&count);
            *count.lock() += 1;
            sleep(LONG);
        });
        assert!(cut.is_err());
        assert_eq!(*count.lock(), 2);
    });
}

#[test]
fn a_cancelled_condvar_wait_leaves_the_mutex_usable() {
    on(2, || {
        let pair = Arc::new((Mutex::new(()), Condvar::new()));
        let theirs = pair.clone();
        let waiter = spawn(move || {
            let mut guard = theirs.0.lock();
            theirs.1.wait(&mut guard);
        });
        yield_now();
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is_cancelled());
        drop(pair.0.lock());
    });
}

#[test]
fn what_has_not_begun_never_will() {
    on(1, || {
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = ran.clone();
        let victim = spawn(move || theirs.store(true, Ordering::SeqCst));
        victim.cancel();
        assert!(victim.join().unwrap_err().is_cancelled());
        assert!(!ran.load(Ordering::SeqCst));
    });
}

/// A worker passes messages on under a lock; it is cancelled after k of its turns, for all k.
#[test]
fn a_cancel_at_any_suspension_loses_no_message_and_no_lock() {
    on(1, || {
        for k in 0..40 {
            let (send, receive) = channel::bounded(1);
            let (passed, out) = channel::unbounded();
            let lock = Arc::new(Mutex::new(0));
            let held = lock.clone();
            let worker = spawn({
                let receive = receive.clone();
                move || {
                    while let Ok(message) = receive.recv() {
                        shield(|| {
                            let mut count = held.lock();
                            yield_now();
                            *count += 1;
                            passed.send(message).unwrap();
                        });
                    }
                }
            });
            let sent = AtomicUsize::new(0);
            let feeder = maniple::group(|g| {
                g.spawn(|| {
                    while send.send(sent.load(Ordering::SeqCst)).is_ok() {
                        sent.fetch_add(1, Ordering::SeqCst);
                    }
                });
                for _ in 0..k {
                    yield_now();
                }
                worker.cancel();
                let _ = worker.join();
                let _ = receive.try_recv();
                Err::<(), _>("stop the feeder")
            });
            assert!(feeder.is_err());
            let got: Vec<usize> = out.try_iter().collect();
            assert_eq!(got, (0..got.len()).collect::<Vec<_>>());
            assert_eq!(*lock.lock(), got.len());
        }
    });
}

#[test]
fn sleeps_are_never_early_and_wake_in_order() {
    on(1, || {
        let order = std::rc::Rc::new(std::cell::RefCell::new(Vec::new()));
        let sleepers: Vec<_> = [30u64, 10, 20]
            .map(|millis| {
                let order = order.clone();
                maniple::spawn_local(move || {
                    let began = Instant::now();
                    sleep(Duration::from_millis(millis));
                    assert!(began.elapsed() >= Duration::from_millis(millis));
                    order.borrow_mut().push(millis);
                })
            })
            .into();
        sleepers
            .into_iter()
            .for_each(|sleeper| sleeper.join().unwrap());
        assert_eq!(order.take(), [10, 20, 30]);
        assert!(timeout(SHORT, || sleep(Duration::MAX)).is_err());
    });
}

#[test]
fn a_hundred_thousand_sleepers_wake() {
    on(2, || {
        let sleepers: Vec<_> = (0..100_000).map(|_| spawn(|| sleep(SHORT))).collect();
        sleepers
            .into_iter()
            .for_each(|sleeper| sleeper.join().unwrap());
    });
}
