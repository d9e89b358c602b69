//! Mutex, condition variable and channels, across coroutines on one worker or two and plain threads.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    group, spawn,
    sync::{
        Condvar, MappedMutexGuard, Mutex, MutexGuard, ReentrantMutex, ReentrantMutexGuard,
        channel::{
            self, RecvError, RecvTimeoutError, SendError, SendTimeoutError, TryRecvError,
            TrySendError, bounded, unbounded,
        },
    },
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::{LONG, SHORT, anywhere, no_world, on, plain_thread};

/// Yields until `condition` holds: waits for an event rather than for a time.
fn until(condition: impl Fn() -> bool) {
    let begun = Instant::now();
    while !condition() {
        assert!(begun.elapsed() < LONG, "the event never came");
        yield_now();
    }
}

#[test]
fn at_most_one_waiter_is_inside_a_mutex() {
    let shared = Arc::new((Mutex::new(0_u64), AtomicUsize::new(0)));
    let add = |shared: &(Mutex<u64>, AtomicUsize), suspend: bool| {
        for round in 0..2_000 {
            let mut total = shared.0.lock();
            assert_eq!(shared.1.fetch_add(1, SeqCst), 0, "two are inside");
            if suspend && round % 16 == 0 {
                yield_now();
            }
            *total += 1;
            assert_eq!(shared.1.fetch_sub(1, SeqCst), 1);
        }
    };
    let threads: Vec<_> = (0..2)
        .map(|_| {
            let shared = shared.clone();
            plain_thread(move || add(&shared, false))
        })
        .collect();
    let theirs = shared.clone();
    on(2, move || {
        let first = theirs.clone();
        let mut adders = spawn_on_workers(move |_| add(&first, true));
        adders.extend((0..4).map(|_| {
            let theirs = theirs.clone();
            spawn(move || add(&theirs, true))
        }));
        adders.into_iter().for_each(|adder| adder.join().unwrap());
    });
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_eq!(*shared.0.lock(), 8 * 2_000);
}

#[test]
fn a_plain_thread_that_barges_does_not_starve_a_coroutine() {
    let shared = Arc::new((Mutex::new(()), AtomicBool::new(false)));
    let theirs = shared.clone();
    let barging = plain_thread(move || {
        let begun = Instant::now();
        while !theirs.1.load(SeqCst) {
            assert!(begun.elapsed() < LONG, "the waiter starves");
            let _guard = theirs.0.lock();
        }
    });
    on(1, || {
        for _ in 0..1_000 {
            drop(shared.0.lock());
        }
        shared.1.store(true, SeqCst);
    });
    barging.join().unwrap();
}

#[test]
fn a_holder_that_comes_back_at_once_does_not_starve_a_waiter() {
    on(1, || {
        let shared = Arc::new((Mutex::new(()), AtomicBool::new(false)));
        let theirs = shared.clone();
        let greedy = spawn(move || {
            while !theirs.1.load(SeqCst) {
                let _guard = theirs.0.lock();
                yield_now();
            }
        });
        yield_now();
        drop(shared.0.lock());
        shared.1.store(true, SeqCst);
        greedy.join().unwrap();
    });
}

#[test]
fn two_holders_that_come_back_at_once_do_not_starve_a_waiter() {
    on(1, || {
        let shared = Arc::new((Mutex::new(()), AtomicBool::new(false)));
        let greedy: Vec<_> = (0..2)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    let begun = Instant::now();
                    while !shared.1.load(SeqCst) {
                        assert!(begun.elapsed() < LONG, "the waiter starves");
                        let _guard = shared.0.lock();
                        (0..2).for_each(|_| yield_now());
                    }
                })
            })
            .collect();
        for round in 0..100 {
            (0..round % 7).for_each(|_| yield_now());
            drop(shared.0.lock());
        }
        shared.1.store(true, SeqCst);
        greedy.into_iter().for_each(|one| one.join().unwrap());
    });
}

#[test]
fn a_time_limit_on_a_mutex_is_never_early_and_the_scopes_do_not_cut_it() {
    let limits = |mutex: &Mutex<()>| {
        let _guard = mutex.lock();
        let begun = Instant::now();
        let inner = timeout(Duration::ZERO, || {
            assert!(mutex.try_lock_for(SHORT).is_none());
            assert!(begun.elapsed() >= SHORT);
            assert!(mutex.try_lock_until(Instant::now() + SHORT).is_none());
            assert!(begun.elapsed() >= 2 * SHORT);
        });
        assert_eq!(inner, Ok(()));
    };
    let mutex = Mutex::new(());
    limits(&mutex);
    on(1, || limits(&mutex));
    assert!(mutex.try_lock_for(LONG).is_some());
}

#[test]
fn a_waiter_that_gives_up_leaves_the_mutex_to_the_others() {
    let shared = Arc::new((Mutex::new(0_u64), AtomicUsize::new(0)));
    let add = |shared: &(Mutex<u64>, AtomicUsize)| {
        for round in 0..1_000 {
            let limit = (round % 3 > 0).then(|| Duration::from_micros(round % 30));
            let guard = match limit {
                Some(limit) => shared.0.try_lock_for(limit),
                None => Some(shared.0.lock()),
            };
            let Some(mut total) = guard else {
                continue;
            };
            if round % 16 == 0 {
                yield_now();
            }
            *total += 1;
            shared.1.fetch_add(1, SeqCst);
        }
    };
    let theirs = shared.clone();
    let thread = plain_thread(move || add(&theirs));
    on(2, || {
        let theirs = shared.clone();
        let mut adders = spawn_on_workers(move |_| add(&theirs));
        adders.extend((0..4).map(|_| {
            let theirs = shared.clone();
            spawn(move || add(&theirs))
        }));
        adders.into_iter().for_each(|adder| adder.join().unwrap());
    });
    thread.join().unwrap();
    let total = *shared.0.try_lock().expect("nobody is left inside");
    assert_eq!(total, shared.1.load(SeqCst) as u64);
}

#[test]
fn a_mapped_guard_keeps_the_mutex_for_a_part_of_the_value() {
    let mutex = Mutex::new((1, "one"));
    let mut number: MappedMutexGuard<'_, u32> = MutexGuard::map(mutex.lock(), |pair| &mut pair.0);
    *number += 1;
    assert!(mutex.try_lock().is_none());
    drop(number);
    assert_eq!(mutex.into_inner(), (2, "one"));
}

#[test]
fn a_mutex_is_not_poisoned_and_a_try_never_waits() {
    on(1, || {
        let mutex = Arc::new(Mutex::new(1));
        let theirs = mutex.clone();
        let falling = spawn(move || {
            let _guard = theirs.lock();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(falling.join().is_err_and(|error| error.is_panic()));
        let guard = mutex.try_lock().expect("free again");
        assert!(mutex.try_lock().is_none());
        drop(guard);
        assert_eq!(Arc::into_inner(mutex).unwrap().into_inner(), 1);
    });
}

#[test]
fn a_reentrant_mutex_is_its_coroutines_and_not_its_threads() {
    on(1, || {
        let mutex = Arc::new(ReentrantMutex::new(Cell::new(0)));
        let (first, second) = (mutex.lock(), mutex.try_lock().expect("its own"));
        let theirs = mutex.clone();
        let other = spawn(move || {
            assert!(theirs.try_lock().is_none() && !theirs.is_owned_by_current_thread());
            let guard = theirs.lock();
            guard.set(guard.get() + 1);
            guard.get()
        });
        first.set(1);
        (0..10).for_each(|_| yield_now());
        drop(first);
        (0..10).for_each(|_| yield_now());
        assert!(!other.is_finished(), "locked once more");
        drop(second);
        assert_eq!(other.join().unwrap(), 2);
        let theirs = mutex.clone();
        let _guard = mutex.lock();
        let thread = plain_thread(move || theirs.try_lock().is_none());
        assert!(thread.join().unwrap());
    });
    let mutex = ReentrantMutex::new(());
    let (_first, second) = (mutex.lock(), mutex.lock());
    let shared = &mutex;
    no_world();
    std::thread::scope(|scope| {
        let other = scope.spawn(move || shared.try_lock_for(SHORT).is_none());
        assert!(other.join().unwrap());
    });
    assert!(ReentrantMutexGuard::try_map(second, |unit| Some(unit)).is_ok());
}

#[test]
fn a_reentrant_guard_that_outlives_its_coroutine_lets_no_later_one_in() {
    on(2, || {
        let mutex: &'static _ = Box::leak(Box::new(ReentrantMutex::new(Cell::new(0))));
        let kept = Rc::new(RefCell::new(None));
        let theirs = kept.clone();
        let locker = maniple::spawn_local(move || *theirs.borrow_mut() = Some(mutex.lock()));
        locker.join().unwrap();
        // Each may get the memory of one that has ended.
        for _ in 0..50 {
            let later = spawn_on_workers(move |_| mutex.try_lock().is_none());
            later
                .into_iter()
                .for_each(|one| assert!(one.join().unwrap()));
        }
        drop(kept.take());
        assert!(mutex.try_lock().is_some());
    });
}

#[test]
fn at_most_one_is_inside_a_reentrant_mutex() {
    let mutex = ReentrantMutex::new(Cell::new(0));
    let add = || {
        for round in 0..500 {
            let first = mutex.lock();
            let before = first.get();
            if round % 8 == 0 {
                yield_now();
            }
            mutex.lock().set(before + 1);
        }
    };
    no_world();
    std::thread::scope(|scope| {
        scope.spawn(add);
        on(2, || {
            let result: Result<(), maniple::JoinError> = group(|g| {
                (0..4).for_each(|_| _ = g.spawn(add));
                Ok(())
            });
            result.unwrap();
        });
    });
    assert_eq!(mutex.into_inner().get(), 5 * 500);
}

#[test]
fn one_notification_wakes_one_waiter_and_all_wakes_all() {
    on(2, || {
        // Waiting, woken.
        let shared = Arc::new((Mutex::new((0, 0)), Condvar::new()));
        let waiters: Vec<_> = (0..5)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    let mut counts = shared.0.lock();
                    counts.0 += 1;
                    shared.1.wait(&mut counts);
                    counts.1 += 1;
                })
            })
            .collect();
        until(|| shared.0.lock().0 == 5);
        shared.1.notify_one();
        until(|| shared.0.lock().1 == 1);
        (0..100).for_each(|_| yield_now());
        assert_eq!(shared.0.lock().1, 1, "one notification is for one");
        shared.1.notify_all();
        waiters
            .into_iter()
            .for_each(|waiter| waiter.join().unwrap());
        assert_eq!(shared.0.lock().1, 5);
    });
}

#[test]
fn a_notification_without_waiters_is_not_kept() {
    on(1, || {
        let (mutex, condvar) = (Mutex::new(()), Condvar::new());
        condvar.notify_one();
        condvar.notify_all();
        let begun = Instant::now();
        assert!(condvar.wait_timeout(&mut mutex.lock(), SHORT).timed_out());
        assert!(begun.elapsed() >= SHORT, "never early");
        assert!(mutex.try_lock().is_some());
    });
}

#[test]
fn a_notification_is_not_lost_to_a_waiter_that_gave_up() {
    on(2, || {
        for _ in 0..300 {
            let shared = Arc::new((Mutex::new(false), Condvar::new()));
            let theirs = shared.clone();
            let waiter = spawn(move || {
                let mut ready = theirs.0.lock();
                while !*ready {
                    theirs.1.wait_timeout(&mut ready, Duration::from_micros(20));
                }
            });
            let theirs = shared.clone();
            let patient = spawn(move || {
                let mut ready = theirs.0.lock();
                theirs.1.wait_while(&mut ready, |ready| !*ready);
            });
            *shared.0.lock() = true;
            shared.1.notify_all();
            waiter.join().unwrap();
            patient.join().unwrap();
        }
    });
}

#[test]
fn a_condvar_is_for_one_mutex_at_a_time_and_then_for_another() {
    on(1, || {
        let condvar = Arc::new(Condvar::new());
        let (first, second) = (Arc::new(Mutex::new(())), Mutex::new(()));
        let (theirs, mutex) = (condvar.clone(), first.clone());
        let waits = maniple::spawn(move || theirs.wait(&mut mutex.lock()));
        maniple::yield_now();
        let thrown = catch_unwind(AssertUnwindSafe(|| {
            condvar.wait_timeout(&mut second.lock(), SHORT);
        }));
        let message = *thrown.unwrap_err().downcast::<&str>().unwrap();
        assert!(message.contains("two mutexes"), "{message}");
        assert!(second.try_lock().is_some());
        assert!(condvar.wait_timeout(&mut first.lock(), SHORT).timed_out());
        condvar.notify_one();
        waits.join().unwrap();
        assert!(condvar.wait_timeout(&mut second.lock(), SHORT).timed_out());
    });
}

#[test]
fn a_condvar_joins_threads_and_coroutines() {
    let shared = Arc::new((Mutex::new(0), Condvar::new()));
    let theirs = shared.clone();
    let thread = plain_thread(move || {
        for turn in 0..500 {
            let mut count = theirs.0.lock();
            theirs
                .1
                .wait_while(&mut count, |count| *count != 2 * turn + 1);
            *count += 1;
            theirs.1.notify_all();
        }
    });
    on(1, || {
        for turn in 0..500 {
            let mut count = shared.0.lock();
            shared.1.wait_while(&mut count, |count| *count != 2 * turn);
            *count += 1;
            shared.1.notify_all();
        }
    });
    thread.join().unwrap();
    assert_eq!(*shared.0.lock(), 1_000);
}

#[test]
fn messages_come_in_order_up_to_the_capacity() {
    let (send, receive) = bounded(3);
    assert_eq!((send.capacity(), receive.capacity()), (Some(3), Some(3)));
    (0..3).for_each(|n| send.try_send(n).unwrap());
    assert_eq!(send.try_send(3), Err(TrySendError::Full(3)));
    assert_eq!(
        (send.len(), receive.len(), receive.is_empty()),
        (3, 3, false)
    );
    assert_eq!(receive.recv(), Ok(0));
    send.try_send(4).unwrap();
    assert_eq!(receive.try_iter().collect::<Vec<_>>(), [1, 2, 4]);
    assert_eq!(receive.try_recv(), Err(TryRecvError::Empty));
    let (send, receive) = unbounded();
    assert_eq!(send.capacity(), None);
    (0..10_000).for_each(|n| send.try_send(n).unwrap());
    drop(send);
    assert!(receive.into_iter().eq(0..10_000));
}

#[test]
fn each_receiver_gets_a_senders_messages_in_the_order_of_their_sending() {
    for capacity in [Some(0), Some(1), Some(64), None] {
        on(2, || {
            let (send, receive) = capacity.map_or_else(unbounded, bounded);
            let receivers = spawn_on_workers(move |_| receive.iter().collect::<Vec<_>>());
            let senders: Vec<_> = (0..4)
                .map(|name| {
                    let send = send.clone();
                    spawn(move || (0..500).for_each(|n| send.send((name, n)).unwrap()))
                })
                .collect();
            drop(send);
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
            for receiver in receivers {
                let got = receiver.join().unwrap();
                for name in 0..4 {
                    let of_one = got.iter().filter(|(from, _)| *from == name);
                    assert!(of_one.is_sorted(), "capacity {capacity:?}");
                }
            }
        });
    }
}

#[test]
fn a_channel_drains_before_it_reports_disconnection() {
    let (send, receive) = bounded(2);
    (1..=2).for_each(|n| send.send(n).unwrap());
    drop(send);
    assert_eq!((receive.recv(), receive.try_recv()), (Ok(1), Ok(2)));
    assert_eq!(receive.recv(), Err(RecvError::Disconnected));
    assert_eq!(receive.try_recv(), Err(TryRecvError::Disconnected));
}

#[test]
fn a_message_whose_sending_is_cut_comes_back_with_the_reason() {
    on(1, || {
        let (send, receive) = bounded(1);
        send.send(1).unwrap();
        let waiting = |message| {
            let send = send.clone();
            let sender = spawn(move || send.send(message));
            yield_now();
            sender
        };
        let cut = waiting(2);
        cut.cancel();
        assert_eq!(cut.join().unwrap(), Err(SendError::Cancelled(2)));
        let left_alone = waiting(3);
        drop(receive);
        assert_eq!(left_alone.join().unwrap(), Err(SendError::Disconnected(3)));
        assert_eq!(send.send(4), Err(SendError::Disconnected(4)));
    });
}

#[test]
fn a_send_on_a_channel_without_room_for_any_ends_only_when_the_message_is_taken() {
    on(1, || {
        let (send, receive) = bounded(0);
        let ended = Arc::new(AtomicBool::new(false));
        let theirs = ended.clone();
        let sender = spawn(move || {
            send.send(1).unwrap();
            theirs.store(true, SeqCst);
        });
        (0..10).for_each(|_| yield_now());
        assert!(!ended.load(SeqCst), "nobody took it");
        assert_eq!((receive.len(), receive.capacity()), (0, Some(0)));
        assert_eq!(
            receive.try_recv(),
            Ok(1),
            "a waiting sender is enough for a try"
        );
        sender.join().unwrap();
    });
}

#[test]
fn a_try_to_send_meets_a_waiting_receiver() {
    on(1, || {
        let (send, receive) = bounded(0);
        assert_eq!(send.try_send(1), Err(TrySendError::Full(1)));
        let receiver = spawn(move || receive.recv());
        yield_now();
        send.try_send(2).unwrap();
        assert_eq!(receiver.join().unwrap(), Ok(2));
        assert_eq!(send.try_send(3), Err(TrySendError::Disconnected(3)));
    });
}

#[test]
fn a_rendezvous_between_threads_without_a_runtime_pairs_every_message() {
    let (send, receive) = bounded(0);
    let thread = plain_thread(move || (0..2_000).for_each(|n| send.send(n).unwrap()));
    assert!(receive.iter().eq(0..2_000));
    thread.join().unwrap();
}

#[test]
fn the_last_sender_gone_wakes_all_receivers_and_the_last_receiver_all_senders() {
    on(2, || {
        let (send, receive) = bounded::<u8>(1);
        let receivers: Vec<_> = (0..4)
            .map(|_| {
                let receive = receive.clone();
                spawn(move || receive.recv())
            })
            .collect();
        let second = send.clone();
        drop(send);
        yield_now();
        assert!(
            receivers.iter().all(|receiver| !receiver.is_finished()),
            "a clone still sends"
        );
        drop(second);
        for receiver in receivers {
            assert_eq!(receiver.join().unwrap(), Err(RecvError::Disconnected));
        }
        let (send, receive) = bounded(0);
        let senders: Vec<_> = (0..4)
            .map(|n| {
                let send = send.clone();
                spawn(move || send.send(n).unwrap_err().into_inner() == n)
            })
            .collect();
        yield_now();
        drop(receive);
        assert!(senders.into_iter().all(|sender| sender.join().unwrap()));
    });
}

#[test]
fn messages_that_nobody_receives_are_dropped_once() {
    let token = Arc::new(());
    let (send, receive) = bounded(8);
    (0..5).for_each(|_| send.send(token.clone()).unwrap());
    drop(receive);
    assert_eq!(
        Arc::strong_count(&token),
        1,
        "nobody can receive them any more"
    );
    let returned = send.send(token.clone()).unwrap_err();
    assert_eq!(Arc::strong_count(&token), 2);
    drop(returned.into_inner());
    drop(send);
    assert_eq!(Arc::strong_count(&token), 1);
}

#[test]
fn time_limits_are_kept_and_never_early() {
    on(1, || {
        let (send, receive) = bounded(1);
        let begun = Instant::now();
        assert_eq!(receive.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(begun.elapsed() >= SHORT);
        send.send(1).unwrap();
        let at = Instant::now() + SHORT;
        assert_eq!(send.send_deadline(2, at), Err(SendTimeoutError::Timeout(2)));
        assert!(Instant::now() >= at);
        // What is there is had even when time is up.
        assert_eq!(receive.recv_deadline(Instant::now()), Ok(1));
        assert_eq!(send.send_timeout(3, Duration::ZERO), Ok(()));
        assert_eq!(receive.recv_timeout(Duration::ZERO), Ok(3));
        // A limit beyond the end of time is none.
        send.send_timeout(4, Duration::MAX).unwrap();
        assert_eq!(receive.recv_timeout(Duration::MAX), Ok(4));
        assert_eq!(
            timeout(SHORT, || receive.recv()).unwrap(),
            Err(RecvError::Elapsed)
        );
        send.send(5).unwrap();
        assert_eq!(
            timeout(SHORT, || send.send(6)).unwrap(),
            Err(SendError::Elapsed(6))
        );
        assert_eq!(
            receive.try_iter().collect::<Vec<_>>(),
            [5],
            "a refused message is nowhere"
        );
    });
}

#[test]
fn a_thread_has_the_same_time_limits() {
    let (send, receive) = bounded(0);
    assert_eq!(receive.recv_timeout(SHORT), Err(RecvTimeoutError::Timeout));
    assert_eq!(
        send.send_timeout(1, SHORT),
        Err(SendTimeoutError::Timeout(1))
    );
    drop(send);
    assert_eq!(
        receive.recv_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    );
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_message() {
    for capacity in [0, 1, 4] {
        on(2, || {
            let (send, receive) = bounded(capacity);
            let (mut kept, mut taken) = (Vec::new(), Vec::new());
            for round in 0..400_u32 {
                let (sender, receiver) = (send.clone(), receive.clone());
                let sending = spawn(move || sender.send(round).map_err(SendError::into_inner));
                let receiving = spawn(move || receiver.recv().ok());
                (0..round % 4).for_each(|_| yield_now());
                sending.cancel();
                receiving.cancel();
                // One that was cancelled before it began has sent nothing.
                match sending.join() {
                    Ok(Ok(())) => {}
                    Ok(Err(message)) => kept.push(message),
                    Err(error) => {
                        assert!(error.is_cancelled());
                        kept.push(round);
                    }
                }
                taken.extend(receiving.join().ok().flatten());
                taken.extend(receive.try_iter());
            }
            kept.extend(taken);
            kept.sort_unstable();
            assert!(kept.into_iter().eq(0..400), "capacity {capacity}");
        });
    }
}

#[test]
fn every_message_reaches_one_of_many_receivers_once() {
    const EACH: usize = 2_000;
    for capacity in [Some(0), Some(1), Some(16), None] {
        let (send, receive) = capacity.map_or_else(unbounded, bounded);
        let seen: Arc<Vec<AtomicUsize>> =
            Arc::new((0..6 * EACH).map(|_| AtomicUsize::new(0)).collect());
        let take = {
            let seen = seen.clone();
            move |receive: channel::Receiver<usize>| {
                receive
                    .iter()
                    .for_each(|n| _ = seen[n].fetch_add(1, SeqCst))
            }
        };
        let give = |send: &channel::Sender<usize>, from: usize| {
            (0..EACH).for_each(|n| send.send(from * EACH + n).unwrap())
        };
        let (thread_send, thread_take, thread_receive) =
            (send.clone(), take.clone(), receive.clone());
        let threads = [
            plain_thread(move || give(&thread_send, 5)),
            plain_thread(move || thread_take(thread_receive)),
        ];
        on(2, || {
            let result: Result<(), maniple::JoinError> = group(|g| {
                for _ in 0..3 {
                    let (take, receive) = (take.clone(), receive.clone());
                    g.spawn(move || take(receive));
                }
                let own = send.clone();
                let mut senders = spawn_on_workers(move |worker| give(&own, worker));
                senders.extend((2..5).map(|from| {
                    let send = send.clone();
                    spawn(move || give(&send, from))
                }));
                drop(send);
                senders
                    .into_iter()
                    .for_each(|sender| sender.join().unwrap());
                Ok(())
            });
            result.unwrap();
        });
        threads
            .into_iter()
            .for_each(|thread| thread.join().unwrap());
        assert!(
            seen.iter().all(|count| count.load(SeqCst) == 1),
            "{capacity:?}"
        );
    }
}

#[test]
fn a_channels_iterators_end_with_the_senders() {
    on(1, || {
        let (send, receive) = bounded(2);
        let sender = spawn(move || (0..5).for_each(|n| send.send(n).unwrap()));
        let mut got = Vec::new();
        for n in &receive {
            got.push(n);
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert_eq!(receive.iter().next(), None, "and stay at their end");
        assert_eq!(receive.into_iter().next(), None);
        sender.join().unwrap();
    });
}

#[test]
fn a_sender_whose_message_panics_when_dropped_leaves_the_channel_usable() {
    struct Bomb(bool);
    impl Drop for Bomb {
        fn drop(&mut self) {
            if self.0 {
                std::panic::resume_unwind(Box::new("on purpose"));
            }
        }
    }
    let (send, receive) = bounded(4);
    assert!(send.send(Bomb(true)).is_ok());
    assert!(catch_unwind(AssertUnwindSafe(|| drop(receive.recv()))).is_err());
    assert!(send.send(Bomb(false)).is_ok());
    assert!(!receive.recv().unwrap().0);
}

#[test]
fn a_condvar_tells_how_many_it_woke() {
    on(1, || {
        let shared = Arc::new((Mutex::new(0), Condvar::new()));
        assert!(!shared.1.notify_one());
        assert_eq!(shared.1.notify_all(), 0);
        let waiters: Vec<_> = (0..3)
            .map(|_| {
                let shared = shared.clone();
                spawn(move || {
                    let mut waiting = shared.0.lock();
                    *waiting += 1;
                    shared.1.wait(&mut waiting);
                })
            })
            .collect();
        while *shared.0.lock() < 3 {
            yield_now();
        }
        assert!(shared.1.notify_one());
        assert_eq!(shared.1.notify_all(), 2);
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}

#[test]
fn a_condvar_waits_for_a_condition_up_to_a_time() {
    anywhere(|| {
        let (mutex, condvar) = (Mutex::new(1), Condvar::new());
        let mut guard = mutex.lock();
        let begun = Instant::now();
        assert!(
            condvar
                .wait_while_for(&mut guard, |n| *n == 1, SHORT)
                .timed_out()
        );
        assert!(
            condvar
                .wait_until(&mut guard, Instant::now() + SHORT)
                .timed_out()
        );
        assert!(begun.elapsed() >= 2 * SHORT, "never early");
        assert!(
            !condvar
                .wait_while_until(&mut guard, |n| *n == 2, Instant::now())
                .timed_out()
        );
        drop(guard);
        let (slept, _) = maniple::join!(
            {
                let mut guard = mutex.lock();
                condvar
                    .wait_while_for(&mut guard, |n| *n == 1, LONG)
                    .timed_out()
            },
            {
                *mutex.lock() = 2;
                condvar.notify_all();
            }
        );
        assert!(!slept);
    });
}

#[test]
fn a_mutex_that_is_unlocked_fairly_goes_to_who_waits() {
    on(1, || {
        let turns = Arc::new(Mutex::new(Vec::new()));
        let mut own = turns.lock();
        let theirs = turns.clone();
        let waiter = spawn(move || theirs.lock().push("theirs"));
        while !waiter.is_finished() && own.is_empty() {
            MutexGuard::bump(&mut own);
        }
        own.push("own");
        assert_eq!(*own, ["theirs", "own"]);
        MutexGuard::unlock_fair(own);
        waiter.join().unwrap();
        let shared = maniple::sync::RwLock::new(1);
        maniple::sync::RwLockReadGuard::unlock_fair(shared.read());
        maniple::sync::RwLockWriteGuard::unlock_fair(shared.write());
        assert!(shared.try_write().is_some());
    });
}
