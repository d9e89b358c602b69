//! maniple's mutex, read-write lock and semaphore.

use std::{hint::black_box, sync::Arc};

use maniple::{
    spawn,
    sync::{Mutex, RwLock, Semaphore},
    yield_now,
};

use super::{
    super::{Measured, row::COUNTS, time},
    join,
};

pub(super) fn mutex() -> Measured {
    let mutex = Mutex::new(0u64);
    time(COUNTS.locks, || {
        for _ in 0..COUNTS.locks {
            *black_box(&mutex).lock() += 1;
        }
    })
}

pub(super) fn mutex_contended() -> Measured {
    let mutex = Arc::new(Mutex::new(0u64));
    time(COUNTS.contended_locks, || {
        let tasks = [(); 2].map(|()| {
            let mutex = mutex.clone();
            spawn(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    let mut count = mutex.lock();
                    yield_now();
                    *count += 1;
                }
            })
        });
        join(tasks);
        assert_eq!(*mutex.lock(), COUNTS.contended_locks);
    })
}

pub(super) fn rwlock_read() -> Measured {
    let lock = RwLock::new(0u64);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            black_box(*black_box(&lock).read());
        }
    })
}

pub(super) fn rwlock_write() -> Measured {
    let lock = RwLock::new(0u64);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            *black_box(&lock).write() += 1;
        }
    })
}

pub(super) fn semaphore() -> Measured {
    let semaphore = Semaphore::new(1);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            drop(black_box(&semaphore).acquire().expect("open"));
        }
    })
}

pub(super) fn semaphore_contended() -> Measured {
    let semaphore = Arc::new(Semaphore::new(1));
    time(COUNTS.contended_locks, || {
        let tasks = [(); 2].map(|()| {
            let semaphore = semaphore.clone();
            spawn(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    let _permit = semaphore.acquire().expect("open");
                    yield_now();
                }
            })
        });
        join(tasks);
    })
}
