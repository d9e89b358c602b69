//! The same with std's threads, fewer times: what the engines save.

use std::{
    hint::black_box,
    sync::{Arc, Mutex, mpsc::sync_channel},
    thread::{Builder, JoinHandle, sleep, yield_now},
    time::Duration,
};

use super::{BATCH, Measured, Row, SLEEP, THREAD_COUNTS as COUNTS, TIMEOUT, time};

pub(super) fn run(row: Row) -> Measured {
    match row {
        Row::Yield2 => yielders(2),
        Row::Yield10000 => yielders(COUNTS.yielders),
        Row::SpawnJoin => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns {
                spawn(|| ()).join().expect("joined");
            }
        }),
        Row::SpawnJoin1000 => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns / BATCH {
                let threads: Vec<_> = (0..BATCH).map(|_| spawn(|| ())).collect();
                threads
                    .into_iter()
                    .for_each(|thread| thread.join().expect("joined"));
            }
        }),
        Row::PingPong => ping_pong(None),
        Row::Mutex => {
            let mutex = Mutex::new(0u64);
            time(COUNTS.locks, || {
                for _ in 0..COUNTS.locks {
                    *black_box(&mutex).lock().expect("not poisoned") += 1;
                }
            })
        }
        Row::MutexContended => contended(),
        Row::Timer => ping_pong(Some(TIMEOUT)),
        Row::Sleepers => time(COUNTS.sleepers, || {
            let threads: Vec<_> = (0..COUNTS.sleepers).map(|_| spawn(pause)).collect();
            threads
                .into_iter()
                .for_each(|thread| thread.join().expect("joined"));
        }),
    }
}

#[allow(clippy::disallowed_methods, reason = "it is what this row measures")]
fn pause() {
    sleep(SLEEP);
}

fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    Builder::new()
        .stack_size(64 * 1024)
        .spawn(body)
        .expect("a thread can be started")
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let threads: Vec<_> = (0..count)
            .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
            .collect();
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("joined"));
    })
}

fn contended() -> Measured {
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
        threads
            .into_iter()
            .for_each(|thread| thread.join().expect("joined"));
        let count = *mutex.lock().expect("not poisoned");
        assert_eq!(count, COUNTS.contended_locks);
    })
}

fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = sync_channel(1);
    let (pong, ponged) = sync_channel(1);
    let echo = spawn(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    let measured = time(COUNTS.messages, || {
        for message in 0..COUNTS.messages / 2 {
            ping.send(message).expect("the echo listens");
            let answer = match timeout {
                None => ponged.recv().ok(),
                Some(timeout) => ponged.recv_timeout(timeout).ok(),
            };
            assert_eq!(black_box(answer), Some(message));
        }
    });
    drop(ping);
    echo.join().expect("joined");
    measured
}
