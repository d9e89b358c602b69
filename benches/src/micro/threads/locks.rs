//! Mutex and read-write lock of the standard library.

use std::{
    hint::black_box,
    sync::{Arc, Mutex, RwLock},
    thread::yield_now,
};

use super::{
    super::{Measured, row::THREAD_COUNTS as COUNTS, time},
    join, spawn,
};

pub(super) fn mutex() -> Measured {
    let mutex = Mutex::new(0u64);
    time(COUNTS.locks, || {
        for _ in 0..COUNTS.locks {
            *black_box(&mutex).lock().expect("not poisoned") += 1;
        }
    })
}

pub(super) fn mutex_contended() -> Measured {
    let mutex = Arc::new(Mutex::new(0u64));
    time(COUNTS.contended_locks, || {
        let threads = [(); 2].map(|()| {
            let mutex = mutex.clone();
            spawn(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    let mut count = mutex.lock().expect("not poisoned");
                    yield_now();
                    *count += 1;
                }
            })
        });
        join(threads);
        assert_eq!(*mutex.lock().expect("not poisoned"), COUNTS.contended_locks);
    })
}

pub(super) fn rwlock_read() -> Measured {
    let lock = RwLock::new(0u64);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            black_box(*black_box(&lock).read().expect("not poisoned"));
        }
    })
}

pub(super) fn rwlock_write() -> Measured {
    let lock = RwLock::new(0u64);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            *black_box(&lock).write().expect("not poisoned") += 1;
        }
    })
}
