//! One value to many: the latest one, and each message to every receiver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Instant,
};

use maniple::{
    cancel::{CancelToken, shield},
    spawn,
    sync::{
        Mutex,
        broadcast::{self, Lag, SendTimeoutError, TryRecvError, TrySendError},
        watch::{self, RecvError, RecvTimeoutError, SendError},
    },
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

#[test]
fn a_watcher_sees_the_latest_value_and_each_only_once_as_a_change() {
    let (send, mut watch) = watch::channel(0);
    assert!(!watch.has_changed(), "the first value counts as seen");
    (1..=3).for_each(|n| send.send(n).unwrap());
    assert!(watch.has_changed() && *watch.borrow() == 3 && watch.has_changed());
    assert_eq!((watch.changed(), watch.has_changed()), (Ok(()), false));
    send.send_modify(|n| *n += 1);
    assert_eq!(*watch.borrow_and_update(), 4);
    assert!(!watch.has_changed());
    assert!(!send.send_if_modified(|_| false) && !watch.has_changed());
    let (late, mut same) = (send.subscribe(), watch.clone());
    assert_eq!((send.send_replace(5), send.receiver_count()), (4, 3));
    assert!(late.has_changed() && same.changed().is_ok());
    assert_eq!(*send.borrow(), 5);
}

#[test]
fn the_last_value_is_seen_before_the_senders_end_is_told() {
    let (send, mut watch) = watch::channel(0);
    let second = send.clone();
    drop(send);
    assert!(!watch.is_disconnected());
    second.send(1).unwrap();
    drop(second);
    assert!(watch.is_disconnected());
    assert_eq!(watch.changed(), Ok(()));
    assert_eq!(watch.changed(), Err(RecvError::Disconnected));
    assert_eq!(
        watch.changed_timeout(LONG),
        Err(RecvTimeoutError::Disconnected)
    );
    assert_eq!(*watch.borrow(), 1);
}

#[test]
fn a_value_for_nobody_comes_back_and_is_not_set() {
    let (send, watch) = watch::channel(1);
    drop(watch);
    assert_eq!(send.send(2), Err(SendError(2)));
    assert_eq!(*send.borrow(), 1);
    send.send_modify(|n| *n = 3);
    assert_eq!(*send.subscribe().borrow(), 3);
}

#[test]
fn a_watcher_can_wait_for_a_value_that_suits_it() {
    on(1, || {
        let (send, mut watch) = watch::channel(0);
        let waiter = spawn(move || {
            assert_eq!(*watch.wait_for(|n| *n == 0).unwrap(), 0, "the present one");
            let found = watch.wait_for(|n| *n >= 3).map(|n| *n);
            (found, watch.wait_for(|n| *n > 3).map(|n| *n))
        });
        for n in 1..=3 {
            (0..5).for_each(|_| yield_now());
            send.send(n).unwrap();
        }
        (0..5).for_each(|_| yield_now());
        drop(send);
        assert_eq!(
            waiter.join().unwrap(),
            (Ok(3), Err(RecvError::Disconnected))
        );
    });
}

#[test]
fn watchers_on_workers_and_threads_all_reach_the_last_value_in_order() {
    const LAST: u64 = 2_000;
    let (send, watch) = watch::channel(0_u64);
    let follow = |mut watch: watch::Receiver<u64>| {
        let (mut before, mut seen) = (0, 0);
        while watch.changed().is_ok() {
            let now = *watch.borrow_and_update();
            assert!(now > before, "{now} after {before}");
            (before, seen) = (now, seen + 1);
        }
        assert!(seen > 0);
        before
    };
    let thread = {
        let watch = watch.clone();
        plain_thread(move || follow(watch))
    };
    on(2, || {
        let mut followers: Vec<_> = (0..4)
            .map(|_| {
                let watch = watch.clone();
                spawn(move || follow(watch))
            })
            .collect();
        followers.extend(spawn_on_workers(move |_| follow(watch.clone())));
        let senders: Vec<_> = (0..2)
            .map(|_| {
                let send = send.clone();
                spawn(move || {
                    for round in 0..LAST / 2 {
                        send.send_modify(|n| *n += 1);
                        if round % 16 == 0 {
                            yield_now();
                        }
                    }
                })
            })
            .collect();
        drop(send);
        senders
            .into_iter()
            .for_each(|sender| sender.join().unwrap());
        followers
            .into_iter()
            .for_each(|one| assert_eq!(one.join().unwrap(), LAST));
    });
    assert_eq!(thread.join().unwrap(), LAST);
}

#[test]
fn waiting_for_a_change_keeps_its_time_limits_and_is_never_early() {
    let limits = || {
        let (_send, mut watch) = watch::channel(());
        let begun = Instant::now();
        assert_eq!(watch.changed_timeout(SHORT), Err(RecvTimeoutError::Timeout));
        assert!(begun.elapsed() >= SHORT);
        let at = Instant::now() + SHORT;
        assert_eq!(watch.changed_deadline(at), Err(RecvTimeoutError::Timeout));
        assert!(Instant::now() >= at);
        let at = Instant::now() + SHORT;
        assert_eq!(
            timeout(SHORT, || watch.changed()),
            Ok(Err(RecvError::Elapsed))
        );
        assert!(Instant::now() >= at);
    };
    limits();
    on(1, limits);
}

#[test]
fn cancelling_a_watcher_at_any_moment_loses_no_change_and_leaves_nothing_behind() {
    on(2, || {
        let (send, mut steady) = watch::channel(0);
        for round in 1..=400_u32 {
            let mut watch = send.subscribe();
            let token = CancelToken::new();
            let theirs = token.clone();
            let watcher = spawn(move || {
                let first = theirs.run(|| watch.changed()).unwrap();
                // What was not told before the cancellation is told after it.
                (
                    first,
                    first.is_ok() || watch.changed().is_ok(),
                    *watch.borrow(),
                )
            });
            (0..round % 5).for_each(|_| yield_now());
            if round % 2 == 0 {
                token.cancel();
                send.send(round).unwrap();
            } else {
                send.send(round).unwrap();
                token.cancel();
            }
            let (first, told, value) = watcher.join().unwrap();
            assert!(told && value == round);
            assert!(matches!(first, Ok(()) | Err(RecvError::Cancelled)));
            assert_eq!((steady.changed(), *steady.borrow()), (Ok(()), round));
        }
        assert_eq!(send.receiver_count(), 1);
    });
}

#[test]
fn a_shield_keeps_a_cancellation_from_a_watcher() {
    on(1, || {
        let (send, mut watch) = watch::channel(0);
        let watcher = spawn(move || shield(|| watch.changed()));
        yield_now();
        watcher.cancel();
        (0..5).for_each(|_| yield_now());
        assert!(!watcher.is_finished());
        send.send(1).unwrap();
        assert_eq!(watcher.join().unwrap(), Ok(()));
    });
}

/// Counts the living.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(living: &Arc<AtomicUsize>) -> Self {
        living.fetch_add(1, SeqCst);
        Self(living.clone())
    }
}

impl Clone for Counted {
    fn clone(&self) -> Self {
        Self::new(&self.0)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

#[test]
fn replaced_values_are_dropped_outside_the_lock() {
    let living = Arc::new(AtomicUsize::new(0));
    let (send, watch) = watch::channel(Counted::new(&living));
    (0..3).for_each(|_| _ = send.send(Counted::new(&living)).is_ok());
    assert_eq!(living.load(SeqCst), 1);
    drop(watch);
    assert!(send.send(Counted::new(&living)).is_err());
    drop(send);
    assert_eq!(living.load(SeqCst), 0);
    // One whose destructor looks at what replaced it.
    struct Looks(Option<Arc<watch::Sender<Option<Looks>>>>);
    impl Drop for Looks {
        fn drop(&mut self) {
            assert!(self.0.take().is_none_or(|send| send.borrow().is_none()));
        }
    }
    let (send, watch) = watch::channel(None);
    let send = Arc::new(send);
    send.send(Some(Looks(Some(send.clone())))).ok().unwrap();
    assert!(watch.has_changed());
    send.send(None).ok().unwrap();
}

#[test]
fn every_receiver_gets_every_message_in_one_order() {
    const EACH: usize = 400;
    for capacity in [1, 3, 64] {
        let (send, receive) = broadcast::channel(capacity, Lag::Block);
        let collect = |mut receive: broadcast::Receiver<(usize, usize)>| {
            let mut got = Vec::new();
            loop {
                match receive.recv() {
                    Ok(message) => got.push(message),
                    Err(broadcast::RecvError::Disconnected) => return got,
                    Err(error) => panic!("{error}"),
                }
            }
        };
        let give = |send: broadcast::Sender<_>, name| {
            (0..EACH).for_each(|n| send.send((name, n)).unwrap());
        };
        let (sender, receiver) = (send.clone(), send.subscribe());
        let giving = plain_thread(move || give(sender, 0));
        let taking = plain_thread(move || collect(receiver));
        let mut all = on(2, || {
            let mut receivers: Vec<_> = (0..3)
                .map(|_| send.subscribe())
                .map(|receiver| spawn(move || collect(receiver)))
                .collect();
            let rest = Arc::new(Mutex::new(vec![send.subscribe(), receive]));
            receivers.extend(spawn_on_workers(move |_| {
                let mine = rest.lock().pop().unwrap();
                collect(mine)
            }));
            let senders = [1, 2].map(|name| {
                let send = send.clone();
                spawn(move || give(send, name))
            });
            drop(send);
            senders
                .into_iter()
                .for_each(|sender| sender.join().unwrap());
            receivers
                .into_iter()
                .map(|receiver| receiver.join().unwrap())
                .collect::<Vec<_>>()
        });
        giving.join().unwrap();
        let whole = taking.join().unwrap();
        assert_eq!(whole.len(), 3 * EACH);
        for name in 0..3 {
            let of_one = whole.iter().filter(|(from, _)| *from == name);
            assert!(of_one.map(|(_, n)| *n).eq(0..EACH), "capacity {capacity}");
        }
        assert_eq!(all.len(), 5);
        // The thread may have sent some before the others subscribed.
        all.retain(|got| !whole.ends_with(got));
        assert!(all.is_empty(), "capacity {capacity}");
    }
}

#[test]
fn a_full_channel_that_blocks_waits_for_its_slowest_receiver() {
    on(1, || {
        let (send, mut fast) = broadcast::channel(2, Lag::Block);
        let mut slow = send.subscribe();
        assert_eq!((send.capacity(), send.receiver_count()), (2, 2));
        (0..2).for_each(|n| send.try_send(n).unwrap());
        assert_eq!(send.try_send(2), Err(TrySendError::Full(2)));
        assert_eq!((fast.recv(), fast.recv()), (Ok(0), Ok(1)));
        assert_eq!((fast.len(), slow.len()), (0, 2));
        let waiting = [2, 3].map(|n| {
            let send = send.clone();
            spawn(move || send.send(n).unwrap())
        });
        (0..5).for_each(|_| yield_now());
        assert_eq!(fast.try_recv(), Err(TryRecvError::Empty));
        assert_eq!(slow.try_recv(), Ok(0));
        assert_eq!(fast.recv(), Ok(2), "a place freed is a place taken");
        assert!(send.try_send(9).is_err(), "another waits");
        drop(slow);
        assert_eq!(fast.recv(), Ok(3));
        waiting.into_iter().for_each(|one| one.join().unwrap());
        assert!(fast.is_empty() && send.try_send(4).is_ok());
    });
}

#[test]
fn a_laggard_is_told_what_it_missed_or_is_disconnected() {
    let (send, mut slow) = broadcast::channel(2, Lag::DropOldest);
    let mut fast = send.subscribe();
    for n in 0..5 {
        send.send(n).unwrap();
        assert_eq!(fast.recv(), Ok(n));
    }
    assert_eq!(
        (slow.len(), slow.recv()),
        (2, Err(broadcast::RecvError::Lagged(3)))
    );
    assert_eq!((slow.try_recv(), slow.try_recv()), (Ok(3), Ok(4)));
    assert_eq!(slow.try_recv(), Err(TryRecvError::Empty));

    let (send, mut slow) = broadcast::channel(2, Lag::Disconnect);
    let mut fast = send.subscribe();
    for n in 0..3 {
        send.send(n).unwrap();
        assert_eq!(fast.recv(), Ok(n));
    }
    assert_eq!((send.receiver_count(), slow.len()), (1, 0));
    (0..2).for_each(|_| assert_eq!(slow.recv(), Err(broadcast::RecvError::Expelled)));
    let mut again = slow.resubscribe();
    drop(slow);
    send.send(3).unwrap();
    assert_eq!((again.recv(), fast.recv()), (Ok(3), Ok(3)));
    drop((again, fast));
    let _slow = send.subscribe();
    (0..2).for_each(|n| send.send(n).unwrap());
    assert_eq!(
        send.try_send(2),
        Err(TrySendError::Disconnected(2)),
        "it was the last"
    );
}

#[test]
fn a_broadcast_is_drained_before_its_end_is_told_and_begins_with_the_subscription() {
    let (send, mut receive) = broadcast::channel(4, Lag::Block);
    send.send(1).unwrap();
    let mut late = send.subscribe();
    send.send(2).unwrap();
    drop(send);
    assert_eq!((receive.recv(), receive.recv()), (Ok(1), Ok(2)));
    assert_eq!(
        (late.recv(), late.try_recv()),
        (Ok(2), Err(TryRecvError::Disconnected))
    );
    let gone = Err(broadcast::RecvTimeoutError::Disconnected);
    assert_eq!(receive.recv_timeout(LONG), gone);
}

#[test]
fn the_last_receiver_gone_gives_waiting_senders_their_messages_back() {
    on(2, || {
        let (send, receive) = broadcast::channel(1, Lag::Block);
        send.send(0).unwrap();
        let waiting: Vec<_> = (1..4)
            .map(|n| {
                let send = send.clone();
                spawn(move || send.send(n))
            })
            .collect();
        (0..5).for_each(|_| yield_now());
        drop(receive);
        for (n, one) in (1..4).zip(waiting) {
            let back = one.join().unwrap().map_err(|error| error.into_inner());
            assert_eq!(back, Err(n));
        }
        let mut receive = send.subscribe();
        send.send(5).unwrap();
        assert_eq!(receive.recv(), Ok(5), "the channel itself goes on");
    });
}

#[test]
fn a_broadcasts_time_limits_are_kept_and_never_early() {
    let limits = || {
        let (send, mut receive) = broadcast::channel(1, Lag::Block);
        let begun = Instant::now();
        let nothing = Err(broadcast::RecvTimeoutError::Timeout);
        assert_eq!(receive.recv_timeout(SHORT), nothing);
        assert!(begun.elapsed() >= SHORT);
        let at = Instant::now() + SHORT;
        assert_eq!(receive.recv_deadline(at), nothing);
        assert!(Instant::now() >= at);
        send.send(1).unwrap();
        let begun = Instant::now();
        assert_eq!(
            send.send_timeout(2, SHORT),
            Err(SendTimeoutError::Timeout(2))
        );
        assert!(begun.elapsed() >= SHORT);
        let at = Instant::now() + SHORT;
        assert_eq!(send.send_deadline(3, at), Err(SendTimeoutError::Timeout(3)));
        let cut = timeout(SHORT, || send.send(4));
        assert_eq!(cut, Ok(Err(broadcast::SendError::Elapsed(4))));
        assert!(Instant::now() >= at);
        assert_eq!(receive.recv_timeout(LONG), Ok(1));
        let cut = timeout(SHORT, || receive.recv());
        assert_eq!(cut, Ok(Err(broadcast::RecvError::Elapsed)));
    };
    limits();
    on(1, limits);
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_broadcast_message() {
    on(2, || {
        let (send, mut steady) = broadcast::channel(1, Lag::Block);
        let (mut kept, mut taken) = (Vec::new(), Vec::new());
        for round in 0..400_u32 {
            let sender = send.clone();
            let mut receive = send.subscribe();
            let token = CancelToken::new();
            let (first, second) = (token.clone(), token.clone());
            let sending = spawn(move || first.run(|| sender.send(round)).unwrap());
            let receiving = spawn(move || {
                let got = second.run(|| receive.recv()).unwrap();
                (got, receive)
            });
            (0..round % 5).for_each(|_| yield_now());
            token.cancel();
            let sent = sending.join().unwrap().map_err(|error| error.into_inner());
            let (got, mut receive) = receiving.join().unwrap();
            let late = receive.try_recv();
            match sent {
                Ok(()) => {
                    let both = (got == Ok(round)) as u32 + (late == Ok(round)) as u32;
                    assert_eq!(both, 1, "round {round}: {got:?}, {late:?}");
                    taken.push(steady.try_recv().unwrap());
                }
                Err(message) => {
                    assert!(got.is_err() && late.is_err());
                    kept.push(message);
                }
            }
            assert_eq!(steady.try_recv(), Err(TryRecvError::Empty));
        }
        kept.extend(taken);
        kept.sort_unstable();
        assert!(kept.into_iter().eq(0..400));
        assert_eq!((send.receiver_count(), send.try_send(0)), (1, Ok(())));
    });
}

#[test]
fn a_waiting_sender_that_gives_up_blocks_none_behind_it() {
    on(1, || {
        let (send, mut receive) = broadcast::channel(1, Lag::Block);
        send.send(0).unwrap();
        let (impatient, patient) = (send.clone(), send.clone());
        let cut = spawn(move || impatient.send(1).is_err());
        yield_now();
        let stays = spawn(move || patient.send(2));
        yield_now();
        cut.cancel();
        assert!(cut.join().unwrap());
        assert_eq!((receive.recv(), receive.recv()), (Ok(0), Ok(2)));
        assert_eq!(stays.join().unwrap(), Ok(()));
    });
}

#[test]
fn messages_are_dropped_once_all_have_read_them_or_are_gone() {
    for lag in [Lag::Block, Lag::DropOldest, Lag::Disconnect] {
        let living = Arc::new(AtomicUsize::new(0));
        let (send, mut first) = broadcast::channel(3, lag);
        let mut second = send.subscribe();
        (0..3).for_each(|_| _ = send.send(Counted::new(&living)).is_ok());
        assert_eq!(living.load(SeqCst), 3);
        drop(first.recv().ok());
        assert_eq!(living.load(SeqCst), 3, "the other has not read it");
        drop(second.recv().ok());
        assert_eq!(living.load(SeqCst), 2);
        drop(first);
        assert_eq!(living.load(SeqCst), 2);
        drop(second);
        assert_eq!(living.load(SeqCst), 0, "nobody will read them");
        let _third = send.subscribe();
        (0..5).for_each(|_| _ = send.try_send(Counted::new(&living)).is_ok());
        drop((send, _third));
        assert_eq!(living.load(SeqCst), 0);
    }
}
