//! may's mutex, read-write lock and semaphore.

use std::{hint::black_box, sync::Arc};

use may::{
    coroutine::yield_now,
    go,
    sync::{Mutex, RwLock, Semphore},
};

use super::{
    super::{Measured, row::COUNTS, time},
    join,
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
        let tasks = [(); 2].map(|()| {
            let mutex = mutex.clone();
            go!(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    let mut count = mutex.lock().expect("not poisoned");
                    yield_now();
                    *count += 1;
                }
            })
        });
        join(tasks);
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

pub(super) fn semaphore() -> Measured {
    let semaphore = Semphore::new(1);
    time(COUNTS.grants, || {
        for _ in 0..COUNTS.grants {
            black_box(&semaphore).wait();
            black_box(&semaphore).post();
        }
    })
}

pub(super) fn semaphore_contended() -> Measured {
    let semaphore = Arc::new(Semphore::new(1));
    time(COUNTS.contended_locks, || {
        let tasks = [(); 2].map(|()| {
            let semaphore = semaphore.clone();
            go!(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    semaphore.wait();
                    yield_now();
                    semaphore.post();
                }
            })
        });
        join(tasks);
    })
}
