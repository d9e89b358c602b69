//! The read-write lock model-checked: who is inside beside whom, and that nobody is left outside.

use loom::{cell::UnsafeCell, sync::Arc, thread::JoinHandle};

use super::*;
use lock_api::{RawRwLock as _, RawRwLockTimed as _, RawRwLockUpgrade as _};

/// loom's cell finds a writer beside anybody else, and accesses that nothing orders.
struct Shared {
    raw: RawRwLock,
    total: UnsafeCell<u32>,
}

impl Shared {
    fn read(&self) -> u32 {
        let guard = self.raw.lock_shared();
        let seen = self.look();
        // SAFETY: the lock is held by the guard's access; so below.
        unsafe { self.raw.unlock_shared(guard) };
        seen
    }

    fn write(&self) {
        let guard = self.raw.lock_exclusive();
        self.add();
        // SAFETY: as in `read`.
        unsafe { self.raw.unlock_exclusive(guard) };
    }

    /// Reads, and then writes without another writer in between.
    fn upgrade(&self) {
        let guard = self.raw.lock_upgradable();
        let seen = self.look();
        // SAFETY: as in `read`.
        let guard = unsafe { self.raw.upgrade(guard) };
        assert_eq!(self.look(), seen, "nobody wrote in between");
        self.add();
        // SAFETY: as in `read`.
        unsafe { self.raw.unlock_exclusive(guard) };
    }

    /// Writes if that is possible at once; otherwise queues and gives up. Returns how often it wrote.
    fn try_write_in_vain(&self) -> u32 {
        let Some(guard) = self.raw.try_lock_exclusive_until(now()) else {
            return 0;
        };
        self.add();
        // SAFETY: as in `read`.
        unsafe { self.raw.unlock_exclusive(guard) };
        1
    }

    fn look(&self) -> u32 {
        // SAFETY: the caller holds the lock.
        self.total.with(|total| unsafe { *total })
    }

    fn add(&self) {
        // SAFETY: the caller holds the lock exclusively.
        self.total.with_mut(|total| unsafe { *total += 1 });
    }
}

fn start<T: 'static>(shared: &Arc<Shared>, act: fn(&Shared) -> T) -> JoinHandle<T> {
    let shared = shared.clone();
    loom::thread::spawn(move || act(&shared))
}

/// `act` returns what the total is to be. Bounded to two preemptions of each execution.
fn model(act: fn(&Arc<Shared>) -> u32) {
    let mut model = loom::model::Builder::new();
    model.preemption_bound = Some(2);
    model.check(move || {
        let shared = Arc::new(Shared {
            raw: RawRwLock::for_a_model(),
            total: UnsafeCell::new(0),
        });
        let written = act(&shared);
        assert_eq!(shared.read(), written);
        assert_eq!(shared.raw.state.load(Ordering::Relaxed), 0);
        let queue = shared.raw.waiters.lock();
        assert!(queue.nobody_waits());
        assert_eq!((queue.waiting_readers, queue.waiting_exclusive), (0, 0));
    });
}

#[test]
fn loom_writers_exclude_each_other_and_a_reader_who_all_get_in() {
    model(|shared| {
        let (writer, reader) = (start(shared, Shared::write), start(shared, Shared::read));
        shared.write();
        writer.join().unwrap();
        assert!((0..=2).contains(&reader.join().unwrap()));
        2
    });
}

/// The last of the readers lets the writer in, and it lets in those who came after it.
#[test]
fn loom_a_writer_is_let_in_between_readers() {
    model(|shared| {
        let (writer, reader) = (start(shared, Shared::write), start(shared, Shared::read));
        let (before, after) = (shared.read(), shared.read());
        assert!(before <= after, "what was written stays written");
        writer.join().unwrap();
        reader.join().unwrap();
        1
    });
}

/// Both read upgradably and upgrade, beside a plain reader for whom the upgrader waits.
#[test]
fn loom_an_upgrade_lets_no_writer_in_between() {
    model(|shared| {
        let (reader, upgrader) = (start(shared, Shared::read), start(shared, Shared::upgrade));
        shared.upgrade();
        reader.join().unwrap();
        upgrader.join().unwrap();
        2
    });
}

#[test]
fn loom_an_upgrade_goes_before_a_writer_that_waits() {
    model(|shared| {
        let (writer, reader) = (start(shared, Shared::write), start(shared, Shared::read));
        shared.upgrade();
        writer.join().unwrap();
        reader.join().unwrap();
        2
    });
}

/// A reader waits because a writer does, who then gives up.
#[test]
fn loom_a_writer_that_gives_up_keeps_no_reader_out() {
    model(|shared| {
        let hasty = start(shared, Shared::try_write_in_vain);
        let late = start(shared, Shared::read);
        shared.read();
        late.join().unwrap();
        hasty.join().unwrap()
    });
}
