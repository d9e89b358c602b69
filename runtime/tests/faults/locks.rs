//! Locks and what is set once: free again, and whole.

use std::{
    cell::Cell,
    collections::VecDeque,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
    time::Duration,
};

use maniple::{
    cancel::{cancel_at, shield},
    sync::{Condvar, Mutex, Once, OnceLock, ReentrantMutex, RwLock, RwLockUpgradableReadGuard},
    yield_now,
};

use super::at_every_suspension;

#[test]
fn a_lock_is_free_again_and_what_it_guards_is_whole() {
    let points = at_every_suspension(|after| {
        let (state, condvar) = (Mutex::new((0, 0)), Condvar::new());
        let (_, struck) = cancel_at(after, || {
            maniple::group(|g| {
                g.spawn(|| {
                    for _ in 0..4 {
                        let mut state = state.lock();
                        state.0 += 1;
                        shield(|| maniple::sleep(Duration::from_micros(1)));
                        state.1 += 1;
                        condvar.notify_all();
                    }
                });
                let mut state = state.lock();
                while state.1 < 4 {
                    condvar.wait(&mut state);
                }
                Ok::<_, ()>(())
            })
        });
        let state = state.try_lock().expect("unlocked");
        assert_eq!(state.0, state.1);
        struck
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn what_a_condvar_tells_one_who_is_cut_is_not_lost() {
    const ITEMS: usize = 6;
    let points = at_every_suspension(|after| {
        let (queue, filled) = (Mutex::new(VecDeque::new()), Condvar::new());
        let taken = AtomicUsize::new(0);
        let take = || {
            let mut queue = queue.lock();
            while queue.is_empty() {
                filled.wait(&mut queue);
            }
            taken.fetch_add(usize::from(queue.pop_front().is_some()), Relaxed);
        };
        let struck = maniple::group(|g| {
            g.spawn(|| {
                for item in 0..ITEMS {
                    queue.lock().push_back(item);
                    filled.notify_one();
                    // One at a time, so that no later one makes good for it.
                    while !queue.lock().is_empty() {
                        yield_now();
                    }
                }
            });
            // It waits its turn, so that the victim has some too.
            let rival = g.spawn(|| {
                loop {
                    take();
                }
            });
            let (_, struck) = cancel_at(after, || (0..2).for_each(|_| take()));
            // A notification that is lost leaves the rival asleep beside a queue that is not empty.
            while taken.load(Relaxed) < ITEMS {
                yield_now();
            }
            rival.cancel();
            let _cancelled: Result<(), _> = rival.join();
            Ok::<_, ()>(struck)
        });
        assert!(queue.try_lock().expect("unlocked").is_empty());
        assert_eq!(taken.load(Relaxed), ITEMS);
        struck.unwrap()
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn a_rwlock_is_free_again_and_its_writers_are_alone() {
    let points = at_every_suspension(|after| {
        let lock = RwLock::new((0, 0));
        let read = || {
            let halves = lock.read();
            assert_eq!(halves.0, halves.1);
            yield_now();
            assert_eq!(halves.0, halves.1);
        };
        let write = || {
            let mut halves = lock.write();
            halves.0 += 1;
            shield(yield_now);
            halves.1 += 1;
            yield_now();
        };
        let upgrade = || {
            let halves = lock.upgradable_read();
            yield_now();
            let mut halves = RwLockUpgradableReadGuard::upgrade(halves);
            halves.0 += 1;
            shield(yield_now);
            halves.1 += 1;
        };
        let struck = maniple::group(|g| {
            g.spawn(|| (0..3).for_each(|_| write()));
            g.spawn(|| (0..3).for_each(|_| upgrade()));
            g.spawn(|| (0..3).for_each(|_| read()));
            let (_, struck) = cancel_at(after, || {
                for _ in 0..2 {
                    read();
                    write();
                    upgrade();
                }
            });
            Ok::<_, ()>(struck)
        });
        let halves = *lock.try_write().expect("unlocked");
        assert_eq!(halves.0, halves.1);
        assert!(halves.0 >= 6);
        struck.unwrap()
    });
    assert!(points >= 10, "{points}");
}

#[test]
fn a_reentrant_mutex_is_left_as_often_as_it_was_entered() {
    let points = at_every_suspension(|after| {
        let lock = ReentrantMutex::new(Cell::new((0, 0)));
        let deeper = || {
            let outer = lock.lock();
            outer.set((outer.get().0 + 1, outer.get().1));
            shield(yield_now);
            let inner = lock.lock();
            inner.set((inner.get().0, inner.get().1 + 1));
            yield_now();
        };
        let struck = maniple::group(|g| {
            g.spawn(|| (0..3).for_each(|_| deeper()));
            let (_, struck) = cancel_at(after, || (0..3).for_each(|_| deeper()));
            Ok::<_, ()>(struck)
        });
        assert!(!lock.is_locked());
        let halves = lock.lock().get();
        assert_eq!(halves.0, halves.1);
        struck.unwrap()
    });
    assert!(points >= 6, "{points}");
}

#[test]
fn an_initialisation_that_is_cut_is_anothers_to_do_and_one_is_done() {
    for victim_begins in [true, false] {
        let points = at_every_suspension(|after| {
            let (lock, once) = (OnceLock::new(), Once::new());
            let (values, calls) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let ask = || {
                let value = *lock.get_or_init(|| {
                    yield_now();
                    values.fetch_add(1, Relaxed) + 7
                });
                once.call_once(|| {
                    maniple::sleep(Duration::from_micros(1));
                    calls.fetch_add(1, Relaxed);
                });
                value
            };
            let struck = maniple::group(|g| {
                let rivals = [g.spawn(ask), g.spawn(ask)];
                if !victim_begins {
                    yield_now();
                }
                let (cut, struck) = cancel_at(after, ask);
                assert!(cut.is_err() || cut == Ok(7));
                for rival in rivals {
                    assert_eq!(rival.join().unwrap(), 7);
                }
                Ok::<_, ()>(struck)
            });
            assert_eq!((values.into_inner(), calls.into_inner()), (1, 1));
            assert!(lock.get() == Some(&7) && once.is_completed());
            struck.unwrap()
        });
        assert!(points >= 3, "{points}");
    }
}
