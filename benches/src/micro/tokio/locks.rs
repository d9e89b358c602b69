//! tokio's mutex, read-write lock and semaphore.

use std::{hint::black_box, sync::Arc};

use tokio::{
    spawn,
    sync::{Mutex, RwLock, Semaphore},
    task::yield_now,
};

use super::{
    super::{Clock, Measured, row::COUNTS},
    join,
};

pub(super) async fn mutex() -> Measured {
    let mutex = Mutex::new(0u64);
    let clock = Clock::start();
    for _ in 0..COUNTS.locks {
        *black_box(&mutex).lock().await += 1;
    }
    clock.per(COUNTS.locks)
}

pub(super) async fn mutex_contended() -> Measured {
    let mutex = Arc::new(Mutex::new(0u64));
    let clock = Clock::start();
    let tasks = [(); 2].map(|()| {
        let mutex = mutex.clone();
        spawn(async move {
            for _ in 0..COUNTS.contended_locks / 2 {
                let mut count = mutex.lock().await;
                yield_now().await;
                *count += 1;
            }
        })
    });
    join(tasks).await;
    assert_eq!(*mutex.lock().await, COUNTS.contended_locks);
    clock.per(COUNTS.contended_locks)
}

pub(super) async fn rwlock_read() -> Measured {
    let lock = RwLock::new(0u64);
    let clock = Clock::start();
    for _ in 0..COUNTS.grants {
        black_box(*black_box(&lock).read().await);
    }
    clock.per(COUNTS.grants)
}

pub(super) async fn rwlock_write() -> Measured {
    let lock = RwLock::new(0u64);
    let clock = Clock::start();
    for _ in 0..COUNTS.grants {
        *black_box(&lock).write().await += 1;
    }
    clock.per(COUNTS.grants)
}

pub(super) async fn semaphore() -> Measured {
    let semaphore = Semaphore::new(1);
    let clock = Clock::start();
    for _ in 0..COUNTS.grants {
        drop(black_box(&semaphore).acquire().await.expect("open"));
    }
    clock.per(COUNTS.grants)
}

pub(super) async fn semaphore_contended() -> Measured {
    let semaphore = Arc::new(Semaphore::new(1));
    let clock = Clock::start();
    let tasks = [(); 2].map(|()| {
        let semaphore = semaphore.clone();
        spawn(async move {
            for _ in 0..COUNTS.contended_locks / 2 {
                let _permit = semaphore.acquire().await.expect("open");
                yield_now().await;
            }
        })
    });
    join(tasks).await;
    clock.per(COUNTS.contended_locks)
}
