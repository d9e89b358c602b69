//! One value to many: the latest one, and each message to every receiver.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::Instant,
};

use maniple::{
    cancel::{CancelToken, shield},
    spawn,
    sync::watch::{self, RecvError, RecvTimeoutError, SendError},
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::{LONG, SHORT, on};

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
        thread::spawn(move || follow(watch))
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
