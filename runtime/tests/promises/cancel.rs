//! Cancellation and deadlines: where they cut, what they leave intact, and who catches them.

use std::{
    cell::Cell,
    io::{ErrorKind, Read},
    panic::catch_unwind,
    sync::{
        Arc, Once,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    Runtime,
    cancel::{self, CancelToken, Cancelled, Cause, Interrupt, is_cancelled_error, shield},
    net::{TcpListener, TcpStream},
    sync::{Condvar, Mutex, channel},
    time::Elapsed,
};

use super::{LONG, SHORT, in_world, on, plain_thread};

/// Runs `f` when dropped.
struct Finally<F: FnMut()>(F);

impl<F: FnMut()> Drop for Finally<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// How often the panic hook was called for a coroutine of that name.
fn hook_calls(name: &str) -> usize {
    static CALLS: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    static INSTALL: Once = Once::new();
    INSTALL.call_once(|| {
        let former = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |info| {
            if let Some(name) = maniple::current().as_ref().and_then(|me| me.name()) {
                CALLS.lock().unwrap().push(name.into_owned());
            }
            former(info);
        }));
    });
    let calls = CALLS.lock().unwrap();
    calls.iter().filter(|call| *call == name).count()
}

#[test]
fn a_cancelled_sleep_runs_destructors_and_does_not_call_the_panic_hook() {
    hook_calls("sleeper");
    in_world(|| {
        let order = Arc::new(std::sync::Mutex::new(Vec::new()));
        let theirs = order.clone();
        let body = move || {
            let _outer = Finally(|| theirs.lock().unwrap().push("outer"));
            let _inner = Finally(|| theirs.lock().unwrap().push("inner"));
            theirs.lock().unwrap().push("asleep");
            maniple::sleep(LONG);
            theirs.lock().unwrap().push("never");
        };
        let sleeper = maniple::task::Builder::new()
            .name("sleeper")
            .spawn(body)
            .unwrap();
        while order.lock().unwrap().is_empty() {
            maniple::yield_now();
        }
        sleeper.cancel();
        assert!(sleeper.join().unwrap_err().is_cancelled());
        assert_eq!(*order.lock().unwrap(), ["asleep", "inner", "outer"]);
        assert_eq!(hook_calls("sleeper"), 0);
    });
}

#[test]
fn a_timeout_cuts_what_cannot_return_an_error_and_says_elapsed() {
    on(1, || {
        let pair = (Mutex::new(()), Condvar::new());
        assert_eq!(
            maniple::timeout(SHORT, || maniple::sleep(LONG)),
            Err(Elapsed)
        );
        assert_eq!(maniple::timeout(SHORT, maniple::park), Err(Elapsed));
        assert_eq!(
            maniple::timeout(SHORT, || loop {
                maniple::yield_now();
            }),
            Err::<(), _>(Elapsed)
        );
        assert_eq!(
            maniple::timeout(SHORT, || pair.1.wait(&mut pair.0.lock())),
            Err(Elapsed)
        );
        assert!(pair.0.try_lock().is_some());
        assert_eq!(maniple::timeout(LONG, || 1), Ok(1));
        assert_eq!(maniple::timeout(Duration::MAX, || 2), Ok(2));
    });
}

#[test]
fn a_value_is_kept_although_the_deadline_passed_meanwhile() {
    on(1, || {
        let kept = maniple::timeout(SHORT, || {
            let (_sender, receiver) = channel::bounded::<()>(1);
            assert!(receiver.recv().is_err());
            assert_eq!(cancel::check(), Err(Interrupt::Elapsed));
            "kept"
        });
        assert_eq!(kept, Ok("kept"));
        let token = CancelToken::new();
        let kept = token.run(|| {
            token.cancel();
            assert_eq!(cancel::check(), Err(Interrupt::Cancelled));
            "kept"
        });
        assert_eq!(kept, Ok("kept"));
    });
}

#[test]
fn of_nested_timeouts_the_one_that_passed_catches() {
    in_world(|| {
        let inner = maniple::timeout(LONG, || maniple::timeout(SHORT, || maniple::sleep(LONG)));
        assert_eq!(inner, Ok(Err(Elapsed)));
        let outer = maniple::timeout(SHORT, || maniple::timeout(LONG, || maniple::sleep(LONG)));
        assert_eq!(outer, Err(Elapsed));
        let after = maniple::timeout(LONG, || {
            let cut = maniple::timeout(SHORT, || maniple::sleep(LONG));
            maniple::sleep(SHORT);
            cut
        });
        assert_eq!(after, Ok(Err(Elapsed)));
    });
}

#[test]
fn cut_io_says_by_its_error_what_cut_it() {
    on(1, || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let mut stream = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let _peer = listener.accept().unwrap();
        let mut buffer = [0];

        let late = maniple::timeout(SHORT, || stream.read(&mut buffer));
        let error = late.unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(!is_cancelled_error(&error));
        let late = maniple::timeout(SHORT, || listener.accept().map(drop));
        assert_eq!(late.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);

        let token = CancelToken::new();
        token.cancel();
        let error = token.run(|| stream.read(&mut buffer)).unwrap().unwrap_err();
        assert!(is_cancelled_error(&error), "{error:?}");
        let error = token
            .run(|| listener.accept().map(drop))
            .unwrap()
            .unwrap_err();
        assert!(is_cancelled_error(&error), "{error:?}");
    });
}

#[test]
fn a_token_cuts_waits_on_every_thread() {
    let token = CancelToken::new();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (begin, begun) = channel::unbounded();
    let waiters: Vec<_> = (0..20)
        .map(|_| {
            let (token, begin) = (token.clone(), begin.clone());
            runtime.spawn(move || {
                token.run(|| {
                    begin.send(()).unwrap();
                    maniple::sleep(LONG);
                })
            })
        })
        .collect();
    let (theirs, begin) = (token.clone(), begin.clone());
    let plain = plain_thread(move || {
        theirs.run(|| {
            begin.send(()).unwrap();
            maniple::sleep(LONG);
        })
    });
    for _ in 0..21 {
        begun.recv().unwrap();
    }
    assert!(!token.is_cancelled());
    token.cancel();
    for waiter in waiters {
        assert_eq!(waiter.join().unwrap(), Err(Cancelled));
    }
    assert_eq!(plain.join().unwrap(), Err(Cancelled));
    assert_eq!(token.run(|| maniple::sleep(LONG)), Err(Cancelled));
}

#[test]
fn a_token_reaches_the_groups_made_under_it_and_the_outer_one_the_inner() {
    on(2, || {
        let (outer, inner) = (CancelToken::new(), CancelToken::new());
        outer.cancel();
        let cut = outer.run(|| {
            inner.run(|| {
                maniple::group(|g| -> Result<(), ()> {
                    g.spawn(|| maniple::sleep(LONG));
                    Ok(())
                })
            })
        });
        assert_eq!(cut, Ok(Ok(Ok(()))));
        let cut = outer.run(|| inner.run(|| maniple::sleep(LONG)));
        assert_eq!(cut, Err(Cancelled));
        assert_eq!(inner.run(|| 1), Ok(1));
    });
}

#[test]
fn a_shield_defers_and_delivers_afterwards() {
    in_world(|| {
        let token = CancelToken::new();
        let (shielded, after) = (Cell::new(false), Cell::new(false));
        let cut = token.run(|| {
            shield(|| {
                token.cancel();
                assert!(!cancel::is_cancelled());
                maniple::sleep(SHORT);
                shielded.set(true);
            });
            assert!(cancel::is_cancelled());
            maniple::sleep(LONG);
            after.set(true);
        });
        assert_eq!(
            (cut, shielded.get(), after.get()),
            (Err(Cancelled), true, false)
        );
        let cut = maniple::timeout(Duration::ZERO, || {
            shield(|| maniple::sleep(SHORT));
            maniple::sleep(LONG);
        });
        assert_eq!(cut, Err(Elapsed));
    });
}

#[test]
fn a_wait_that_is_shielded_is_not_cut_by_what_comes_during_it() {
    in_world(|| {
        let (begin, begun) = channel::bounded(1);
        let shielded = maniple::spawn(move || {
            shield(|| {
                begin.send(()).unwrap();
                maniple::sleep(4 * SHORT);
                "finished"
            })
        });
        begun.recv().unwrap();
        shielded.cancel();
        assert_eq!(shielded.join().unwrap(), "finished");
    });
}

#[test]
fn timeouts_and_tokens_work_inside_a_shield() {
    in_world(|| {
        let outer = CancelToken::new();
        outer.cancel();
        let seen = outer.run(|| {
            shield(|| {
                let late = maniple::timeout(SHORT, || maniple::sleep(LONG));
                let inner = CancelToken::new();
                inner.cancel();
                (late, inner.run(|| maniple::sleep(LONG)))
            })
        });
        assert_eq!(seen, Ok((Err(Elapsed), Err(Cancelled))));
    });
}

#[test]
fn catching_the_unwinding_does_not_swallow_the_cancellation() {
    in_world(|| {
        let caught = Arc::new(AtomicUsize::new(0));
        let theirs = caught.clone();
        let (begin, begun) = channel::bounded(1);
        let stubborn = maniple::spawn(move || {
            begin.send(()).unwrap();
            for _ in 0..3 {
                if catch_unwind(|| maniple::sleep(LONG)).is_err() {
                    theirs.fetch_add(1, Ordering::Relaxed);
                }
            }
            maniple::sleep(LONG);
        });
        begun.recv().unwrap();
        stubborn.cancel();
        assert!(stubborn.join().unwrap_err().is_cancelled());
        assert_eq!(caught.load(Ordering::Relaxed), 3);
    });
}

#[test]
fn taking_a_lock_is_no_cancellation_point() {
    on(2, || {
        let lock = Arc::new(Mutex::new(0));
        let held = lock.lock();
        let (begin, begun) = channel::bounded(1);
        let theirs = lock.clone();
        let waiter = maniple::spawn(move || {
            begin.send(()).unwrap();
            *theirs.lock() += 1;
            *theirs.lock() += 1;
            cancel::is_cancelled()
        });
        begun.recv().unwrap();
        waiter.cancel();
        assert!(!waiter.is_finished());
        drop(held);
        assert!(waiter.join().unwrap());
        assert_eq!(*lock.lock(), 2);
    });
}

#[test]
fn a_cancelled_wait_on_a_condvar_leaves_the_mutex_usable() {
    on(2, || {
        let shared = Arc::new((Mutex::new(false), Condvar::new()));
        let theirs = shared.clone();
        let waiter = maniple::spawn(move || {
            let mut waits = theirs.0.lock();
            *waits = true;
            theirs.1.wait_while(&mut waits, |waits| *waits);
        });
        while !*shared.0.lock() {
            maniple::yield_now();
        }
        waiter.cancel();
        assert!(waiter.join().unwrap_err().is_cancelled());
        assert!(shared.0.try_lock().is_some());
    });
}

#[test]
fn a_destructor_may_wait_while_a_cancellation_unwinds() {
    in_world(|| {
        let lock = Arc::new(Mutex::new(0));
        let theirs = lock.clone();
        let (begin, begun) = channel::bounded(1);
        let (tell, told) = channel::bounded(1);
        let victim = maniple::spawn(move || {
            let _cleans_up = Finally(|| {
                // Neither may unwind out of a destructor that runs while unwinding.
                maniple::sleep(LONG);
                maniple::yield_now();
                *theirs.lock() += 1;
                shield(|| {
                    maniple::sleep(SHORT);
                    tell.send("cleaned up").unwrap();
                });
            });
            begin.send(()).unwrap();
            maniple::sleep(LONG);
        });
        begun.recv().unwrap();
        victim.cancel();
        assert_eq!(told.recv_timeout(LONG / 2), Ok("cleaned up"));
        assert!(victim.join().unwrap_err().is_cancelled());
        assert_eq!(*lock.lock(), 1);
    });
}

#[test]
fn what_is_cancelled_before_it_begins_never_runs() {
    on(1, || {
        let ran = Arc::new(AtomicBool::new(false));
        let theirs = ran.clone();
        let unstarted = maniple::spawn(move || theirs.store(true, Ordering::Relaxed));
        unstarted.cancel();
        assert!(unstarted.join().unwrap_err().is_cancelled());
        assert!(!ran.load(Ordering::Relaxed));
        assert_eq!(Arc::strong_count(&ran), 1, "the body is dropped");
    });
}

/// One run of everything at once, cancelled once the observer has yielded `after` times. True if the
/// cancellation came in time.
fn scenario(after: usize) -> bool {
    struct Message(Arc<AtomicUsize>);
    impl Drop for Message {
        fn drop(&mut self) {
            self.0.fetch_sub(1, Ordering::Relaxed);
        }
    }
    let alive = Arc::new(AtomicUsize::new(0));
    let entered = Arc::new(Mutex::new((0_u32, 0_u32)));
    let (messages, lock) = (alive.clone(), entered.clone());
    let leader = maniple::spawn(move || {
        maniple::group(|g| -> Result<(), ()> {
            let (sender, receiver) = channel::bounded(1);
            for _ in 0..2 {
                let (sender, messages) = (sender.clone(), &messages);
                g.spawn(move || {
                    for _ in 0..3 {
                        messages.fetch_add(1, Ordering::Relaxed);
                        let message = Message(messages.clone());
                        if sender.send(message).is_err() {
                            break;
                        }
                        maniple::yield_now();
                    }
                });
            }
            drop(sender);
            for _ in 0..2 {
                let (receiver, lock) = (receiver.clone(), &lock);
                g.spawn(move || {
                    while let Ok(message) = receiver.recv() {
                        lock.lock().0 += 1;
                        let _leaves = Finally(|| lock.lock().1 += 1);
                        maniple::yield_now();
                        drop(message);
                    }
                });
            }
            Ok(())
        })
    });
    for _ in 0..after {
        maniple::yield_now();
    }
    let in_time = !leader.is_finished();
    leader.cancel();
    assert!(matches!(leader.join(), Ok(Ok(()))) || in_time);
    assert_eq!(
        alive.load(Ordering::Relaxed),
        0,
        "no message is left, cancelled at {after}"
    );
    assert_eq!(
        Arc::strong_count(&entered),
        1,
        "everybody is gone, cancelled at {after}"
    );
    let lock = entered.try_lock().expect("the lock is free");
    assert_eq!(lock.0, lock.1, "who entered has left, cancelled at {after}");
    if !in_time {
        assert_eq!(lock.0, 6, "nothing is lost without a cancellation");
    }
    in_time
}

#[test]
fn a_cancellation_at_any_point_leaves_nothing_behind() {
    on(1, || {
        let points = (0..1000).take_while(|&after| scenario(after)).count();
        assert!((5..1000).contains(&points), "{points} points");
    });
    on(2, || {
        for after in 0..200 {
            scenario(after);
        }
    });
}

#[test]
fn a_join_error_says_what_cancelled() {
    on(1, || {
        let parked = maniple::spawn(maniple::park);
        maniple::yield_now();
        parked.cancel();
        assert_eq!(parked.join().unwrap_err().cause(), Some(Cause::Handle));

        let token = CancelToken::new();
        let theirs = token.clone();
        let cut = token.run(|| {
            maniple::group(|g| {
                let child = g.spawn(maniple::park);
                maniple::yield_now();
                theirs.cancel();
                let cause = child.join().unwrap_err().cause();
                Ok::<_, ()>((cause, maniple::cancel::cause()))
            })
        });
        assert_eq!(cut, Ok(Ok((Some(Cause::Token), Some(Cause::Token)))));

        let failed = maniple::group(|g| {
            let sibling = g.spawn(maniple::park);
            let _ = g.try_spawn(|| Err::<(), _>("failed"));
            let cause = sibling.join().unwrap_err().cause();
            assert_eq!(cause, Some(Cause::Sibling));
            Ok(())
        });
        assert_eq!(failed, Err("failed"));
    });
}

#[test]
fn a_token_is_waited_for_among_channels() {
    on(2, || {
        for _ in 0..100 {
            let (_sender, receiver) = channel::bounded::<()>(1);
            let token = CancelToken::new();
            let told = token.cancelled();
            let theirs = token.clone();
            let canceller = maniple::spawn(move || theirs.cancel());
            let heard = maniple::select! {
                recv(receiver) -> _ => false,
                recv(told) -> message => message.is_err(),
            };
            assert!(heard);
            canceller.join().unwrap();
            assert!(
                token.cancelled().recv().is_err(),
                "also of a token that was cancelled before"
            );
        }
    });
}

#[test]
fn a_destructor_may_join_while_a_cancellation_unwinds() {
    struct Joins<'a>(&'a std::cell::Cell<u32>);
    impl Drop for Joins<'_> {
        fn drop(&mut self) {
            let (one, two) = maniple::join!(1, {
                maniple::sleep(SHORT);
                2
            });
            self.0.set(one + two);
        }
    }
    in_world(|| {
        let joined = std::cell::Cell::new(0);
        let token = CancelToken::new();
        let cut = token.run(|| {
            let _joins = Joins(&joined);
            token.cancel();
            maniple::park();
        });
        assert_eq!((cut, joined.get()), (Err(Cancelled), 3));
    });
}

#[test]
fn who_tries_again_whatever_the_error_lets_others_have_their_turn() {
    on(1, || {
        let (_sender, receiver) = channel::bounded::<()>(1);
        let token = CancelToken::new();
        token.cancel();
        let other = maniple::spawn_local(|| ());
        let tried = token.run(|| while !other.is_finished() && receiver.recv().is_err() {});
        assert_eq!(tried, Ok(()));
    });
}
