//! Reader-writer locks: who goes together, who goes first, and that nobody starves.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicIsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle, spawn,
    sync::{
        Mutex, ReadRecursive, RwLock, RwLockReadGuard, RwLockUpgradableReadGuard as Upgradable,
        RwLockWriteGuard,
    },
    task::spawn_on_workers,
    yield_now,
};

use super::{LONG, SHORT, in_turn_in_world, on, plain_thread};

/// Counts who is inside: readers as one each, a writer as minus one.
struct Watched {
    lock: RwLock<u64>,
    inside: AtomicIsize,
}

impl Watched {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            lock: RwLock::new(0),
            inside: AtomicIsize::new(0),
        })
    }

    fn reading(&self, suspend: bool) {
        assert!(self.inside.fetch_add(1, SeqCst) >= 0, "beside a writer");
        if suspend {
            yield_now();
        }
        assert!(self.inside.fetch_sub(1, SeqCst) > 0);
    }

    fn writing(&self, value: &mut u64, suspend: bool) {
        assert_eq!(self.inside.swap(-1, SeqCst), 0, "a writer is not alone");
        if suspend {
            yield_now();
        }
        *value += 1;
        assert_eq!(self.inside.swap(0, SeqCst), -1);
    }

    /// One of every way in and out; returns how often it wrote.
    fn visit(&self, round: usize, suspend: bool) -> u64 {
        let limit = Duration::from_micros(round as u64 % 40);
        let mut writes = 0;
        let mut write = |value: &mut u64| {
            self.writing(value, suspend);
            writes += 1;
        };
        match round % 10 {
            0 => write(&mut self.lock.write()),
            1 => {
                let mut guard = self.lock.write();
                write(&mut guard);
                let _reader = RwLockWriteGuard::downgrade(guard);
                self.reading(suspend);
            }
            2 => {
                let guard = self.lock.upgradable_read();
                self.reading(suspend);
                write(&mut Upgradable::upgrade(guard));
            }
            3 => {
                let guard = self.lock.upgradable_read();
                match Upgradable::try_upgrade_for(guard, limit) {
                    Ok(mut guard) => {
                        write(&mut guard);
                        let guard = RwLockWriteGuard::downgrade_to_upgradable(guard);
                        self.reading(suspend);
                        drop(guard);
                    }
                    Err(guard) => {
                        let _reader = Upgradable::downgrade(guard);
                        self.reading(suspend);
                    }
                }
            }
            4 => {
                _ = self
                    .lock
                    .try_write_for(limit)
                    .map(|mut guard| write(&mut guard))
            }
            5 => {
                _ = self
                    .lock
                    .try_read_for(limit)
                    .map(|_guard| self.reading(suspend))
            }
            6 => {
                _ = self
                    .lock
                    .try_upgradable_read_for(limit)
                    .map(|_guard| self.reading(suspend))
            }
            7 => {
                let _outer = self.lock.read();
                let _inner = self.lock.read_recursive();
                self.reading(suspend);
            }
            8 => {
                _ = self
                    .lock
                    .try_read_recursive_for(limit)
                    .map(|_guard| self.reading(suspend))
            }
            _ => {
                let _guard = self.lock.read();
                self.reading(suspend);
            }
        }
        writes
    }
}

#[test]
fn readers_go_together_and_a_writer_alone_however_they_come_and_leave() {
    let shared = Watched::new();
    let visits = |shared: &Watched, from: usize, suspend: bool| -> u64 {
        (0..400)
            .map(|round| shared.visit(from + round * 5, suspend && round % 3 == 0))
            .sum()
    };
    let threads: Vec<_> = (0..2)
        .map(|from| {
            let shared = shared.clone();
            plain_thread(move || visits(&shared, from, false))
        })
        .collect();
    let theirs = shared.clone();
    let mut writes: u64 = on(2, move || {
        let first = theirs.clone();
        let mut visitors = spawn_on_workers(move |_| visits(&first, 3, true));
        visitors.extend((0..6).map(|from| {
            let theirs = theirs.clone();
            spawn(move || visits(&theirs, from, true))
        }));
        visitors
            .into_iter()
            .map(|visitor| visitor.join().unwrap())
            .sum()
    });
    writes += threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .sum::<u64>();
    let mut value = shared.lock.try_write().expect("nobody is left inside");
    assert_eq!(std::mem::take(&mut *value), writes);
    drop(value);
    assert!(shared.lock.try_upgradable_read().is_some());
}

#[test]
fn a_try_never_waits_and_says_who_goes_together() {
    let lock = RwLock::new(1);
    {
        let (_first, _second) = (lock.read(), lock.try_read().unwrap());
        assert!(lock.try_write().is_none() && lock.is_locked() && !lock.is_locked_exclusive());
        let third = lock.try_upgradable_read().unwrap();
        assert!(lock.try_upgradable_read().is_none() && lock.try_read().is_some());
        assert!(Upgradable::try_upgrade(third).is_err(), "others read");
    }
    {
        let _writer = lock.write();
        assert!(lock.try_read().is_none() && lock.try_write().is_none());
        assert!(lock.try_upgradable_read().is_none() && lock.is_locked_exclusive());
    }
    let mut alone = Upgradable::try_upgrade(lock.upgradable_read())
        .ok()
        .unwrap();
    *alone += 1;
    drop(alone);
    assert_eq!((lock.is_locked(), lock.into_inner()), (false, 2));
}

/// Coroutines on one worker whose entries into a lock are noted in their order.
struct Order {
    lock: Arc<RwLock<()>>,
    entered: Arc<Mutex<Vec<&'static str>>>,
    all: Vec<JoinHandle<()>>,
}

impl Order {
    fn new() -> Self {
        Self {
            lock: Arc::new(RwLock::new(())),
            entered: Arc::default(),
            all: Vec::new(),
        }
    }

    /// Starts one and lets it run into its wait, if it has to wait.
    fn comes(
        &mut self,
        name: &'static str,
        enter: impl FnOnce(&RwLock<()>, &dyn Fn()) + Send + 'static,
    ) {
        let (lock, entered) = (self.lock.clone(), self.entered.clone());
        let coroutine = spawn(move || enter(&lock, &|| entered.lock().push(name)));
        self.all.push(coroutine);
        (0..5).for_each(|_| yield_now());
    }

    fn reads(&mut self, name: &'static str) {
        self.comes(name, |lock, note| {
            let _guard = lock.read();
            note();
            yield_now();
        });
    }

    fn writes(&mut self, name: &'static str) {
        self.comes(name, |lock, note| {
            let _guard = lock.write();
            note();
            yield_now();
        });
    }

    fn so_far(&self) -> Vec<&'static str> {
        self.entered.lock().clone()
    }

    fn end(self) -> Vec<&'static str> {
        self.all.into_iter().for_each(|one| one.join().unwrap());
        assert!(self.lock.try_write().is_some(), "somebody is left inside");
        Arc::into_inner(self.entered).unwrap().into_inner()
    }
}

#[test]
fn a_waiting_writer_goes_before_readers_that_come_later() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let first = lock.read();
        order.reads("together");
        order.writes("writer");
        order.reads("later");
        assert!(lock.try_read().is_none(), "a try does not overtake either");
        assert_eq!(order.so_far(), ["together"]);
        drop(first);
        assert_eq!(order.end(), ["together", "writer", "later"]);
    });
}

#[test]
fn a_recursive_read_passes_all_who_wait_for_readers_to_leave() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let first = lock.read();
        order.comes("upgraded", |lock, note| {
            let guard = lock.upgradable_read();
            let _guard = Upgradable::upgrade(guard);
            note();
        });
        order.writes("writer");
        order.reads("reader");
        order.comes("recursive", |lock, note| {
            let _guard = lock.read_recursive();
            note();
        });
        assert_eq!(order.so_far(), ["recursive"]);
        assert!(lock.try_read().is_none() && lock.try_read_recursive().is_some());
        let inner = lock
            .try_read_recursive_for(Duration::ZERO)
            .expect("first reads");
        drop(first);
        (0..5).for_each(|_| yield_now());
        assert_eq!(order.so_far(), ["recursive"], "it counts as a reader");
        drop(inner);
        assert_eq!(order.end(), ["recursive", "upgraded", "reader", "writer"]);
    });
}

#[test]
fn a_recursive_read_waits_for_the_writer_that_has_the_lock() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let writer = lock.write();
        order.writes("writer");
        order.comes("recursive", |lock, note| {
            let _guard = lock.read_recursive();
            note();
        });
        assert!(lock.try_read_recursive().is_none());
        let begun = Instant::now();
        assert!(lock.try_read_recursive_for(SHORT).is_none());
        assert!(lock.try_read_recursive_until(begun).is_none());
        assert!(begun.elapsed() >= SHORT && order.so_far().is_empty());
        drop(writer);
        assert_eq!(order.end(), ["recursive", "writer"]);
    });
}

#[test]
fn a_leaving_writer_lets_all_waiting_readers_in_before_the_next_writer() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let first = lock.write();
        order.reads("r1");
        order.writes("w1");
        order.reads("r2");
        order.writes("w2");
        order.reads("r3");
        assert!(order.so_far().is_empty());
        drop(first);
        assert_eq!(order.end(), ["r1", "r2", "r3", "w1", "w2"]);
    });
}

#[test]
fn an_upgrade_waits_for_the_readers_and_goes_before_waiting_writers() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let first = lock.read();
        order.comes("upgraded", |lock, note| {
            let guard = lock.upgradable_read();
            yield_now();
            let _guard = Upgradable::upgrade(guard);
            note();
        });
        order.writes("writer");
        order.reads("reader");
        assert!(order.so_far().is_empty());
        drop(first);
        assert_eq!(order.end(), ["upgraded", "reader", "writer"]);
    });
}

#[test]
fn downgrading_lets_waiting_readers_in_and_no_writer() {
    on(1, || {
        let mut order = Order::new();
        let lock = order.lock.clone();
        let first = lock.write();
        order.writes("writer");
        order.reads("reader");
        order.comes("upgradable", |lock, note| {
            let _guard = lock.upgradable_read();
            note();
        });
        let first = RwLockWriteGuard::downgrade(first);
        (0..20).for_each(|_| yield_now());
        assert_eq!(
            order.so_far(),
            ["reader"],
            "the writer came before the upgradable one"
        );
        drop(first);
        assert_eq!(order.end(), ["reader", "writer", "upgradable"]);
    });
}

#[test]
fn one_that_gives_up_lets_those_in_that_waited_because_of_it() {
    in_turn_in_world(|| {
        let lock = Arc::new(RwLock::new(()));
        let first = lock.read();
        let begun = maniple::time::now();
        let theirs = lock.clone();
        let writer = spawn(move || theirs.try_write_for(SHORT).is_none());
        yield_now();
        let theirs = lock.clone();
        let reader = spawn(move || drop(theirs.read()));
        yield_now();
        assert!(!reader.is_finished(), "behind the writer");
        reader.join().unwrap();
        assert!(maniple::time::now() - begun >= SHORT && writer.join().unwrap());
        let upgradable = lock.upgradable_read();
        let upgradable = Upgradable::try_upgrade_for(upgradable, SHORT)
            .err()
            .unwrap();
        assert!(lock.try_read().is_some(), "the upgrade has given up");
        drop((first, upgradable));
        assert!(lock.try_write().is_some());
    });
}

#[test]
fn readers_that_overlap_for_ever_do_not_starve_a_writer_nor_writers_a_reader() {
    for workers in [1, 2] {
        on(workers, || {
            let shared = Arc::new((RwLock::new(()), AtomicBool::new(false)));
            let greedy = |writing: bool| {
                let shared = shared.clone();
                spawn(move || {
                    while !shared.1.load(SeqCst) {
                        if writing {
                            let _guard = shared.0.write();
                            yield_now();
                        } else {
                            let _guard = shared.0.read();
                            yield_now();
                        }
                    }
                })
            };
            for writing in [false, true] {
                let crowd: Vec<_> = (0..3).map(|_| greedy(writing)).collect();
                for _ in 0..50 {
                    yield_now();
                    if writing {
                        drop(shared.0.read());
                    } else {
                        drop(shared.0.write());
                    }
                    drop(shared.0.upgradable_read());
                }
                shared.1.store(true, SeqCst);
                crowd.into_iter().for_each(|one| one.join().unwrap());
                shared.1.store(false, SeqCst);
            }
        });
    }
}

#[test]
fn a_time_limit_on_a_lock_is_never_early_and_the_scopes_do_not_cut_it() {
    let limits = |lock: &RwLock<()>| {
        let _writer = lock.write();
        let begun = Instant::now();
        let inner = maniple::timeout(Duration::ZERO, || {
            assert!(lock.try_read_for(SHORT).is_none());
            assert!(begun.elapsed() >= SHORT);
            assert!(lock.try_write_until(Instant::now() + SHORT).is_none());
            assert!(begun.elapsed() >= 2 * SHORT);
            assert!(lock.try_upgradable_read_for(SHORT).is_none());
            assert!(begun.elapsed() >= 3 * SHORT);
        });
        assert_eq!(inner, Ok(()));
    };
    let lock = RwLock::new(());
    limits(&lock);
    assert!(lock.try_write_for(LONG).is_some());
    on(1, || limits(&lock));
    assert!(lock.try_write().is_some());
}

#[test]
fn a_cancelled_coroutine_still_gets_the_lock_that_it_waits_for() {
    on(2, || {
        for round in 0..100 {
            let lock = Arc::new(RwLock::new(0));
            let guard = lock.write();
            let takers: Vec<_> = (0..3)
                .map(|kind| {
                    let lock = lock.clone();
                    spawn(move || match kind {
                        0 => _ = *lock.read(),
                        1 => *lock.write() += 1,
                        _ => *Upgradable::upgrade(lock.upgradable_read()) += 1,
                    })
                })
                .collect();
            (0..round % 6).for_each(|_| yield_now());
            takers.iter().for_each(JoinHandle::cancel);
            drop(guard);
            // One that is cancelled before its first turn never begins.
            let ended: Vec<_> = takers
                .into_iter()
                .map(|taker| taker.join().is_ok())
                .collect();
            let wrote = ended[1..].iter().filter(|&&ended| ended).count();
            assert_eq!(*lock.try_write().expect("nobody is left inside"), wrote);
        }
    });
}

#[test]
fn a_writers_panic_opens_the_lock_and_does_not_poison_it() {
    on(1, || {
        let lock = Arc::new(RwLock::new(1));
        let theirs = lock.clone();
        let falling = spawn(move || {
            let _guard = theirs.write();
            std::panic::resume_unwind(Box::new("on purpose"));
        });
        assert!(falling.join().is_err_and(|error| error.is_panic()));
        assert_eq!(*lock.read(), 1);
    });
}

#[test]
fn a_mapped_guard_keeps_the_lock_for_a_part_of_the_value() {
    let lock = RwLock::new((1, "one"));
    let name = RwLockReadGuard::map(lock.read(), |pair| &pair.1);
    assert!(*name == "one" && lock.try_write().is_none());
    drop(name);
    let mut number = RwLockWriteGuard::map(lock.write(), |pair| &mut pair.0);
    *number = 2;
    assert!(lock.try_read().is_none());
    drop(number);
    assert_eq!(lock.into_inner(), (2, "one"));
}
