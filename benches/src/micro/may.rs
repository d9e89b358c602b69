//! may's rows. Its channels have no bound, so ping-pong uses those.

use std::{hint::black_box, sync::Arc, time::Duration};

use ::may::{
    coroutine::{sleep, yield_now},
    go,
    sync::{Mutex, mpsc::channel},
};

use super::{BATCH, COUNTS, Measured, Row, SLEEP, TIMEOUT, time};

pub(super) fn run(row: Row, workers: usize) -> Measured {
    ::may::config()
        .set_workers(workers)
        .set_pool_capacity(10_000);
    let main = go!(move || match row {
        Row::Yield2 => yielders(2),
        Row::Yield10000 => yielders(COUNTS.yielders),
        Row::SpawnJoin => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns {
                go!(|| ()).join().expect("joined");
            }
        }),
        Row::SpawnJoin1000 => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns / BATCH {
                let tasks: Vec<_> = (0..BATCH).map(|_| go!(|| ())).collect();
                tasks
                    .into_iter()
                    .for_each(|task| task.join().expect("joined"));
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
            let tasks: Vec<_> = (0..COUNTS.sleepers).map(|_| go!(|| sleep(SLEEP))).collect();
            tasks
                .into_iter()
                .for_each(|task| task.join().expect("joined"));
        }),
    });
    main.join().expect("joined")
}

/// Why so many coroutines cannot live at a time, if so: each stack and its guard page are a mapping each, and a
/// failed allocation hangs the program.
pub(super) fn too_few_mappings(coroutines: u64) -> Option<String> {
    let limit = std::fs::read_to_string("/proc/sys/vm/max_map_count").ok()?;
    too_few(coroutines, limit.trim().parse().ok()?)
}

fn too_few(coroutines: u64, limit: u64) -> Option<String> {
    let needed = coroutines * 2 + 1_000;
    (needed > limit)
        .then(|| format!("its stacks need about {needed} mappings and vm.max_map_count is {limit}"))
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let tasks: Vec<_> = (0..count)
            .map(|_| go!(move || (0..each).for_each(|_| yield_now())))
            .collect();
        tasks
            .into_iter()
            .for_each(|task| task.join().expect("joined"));
    })
}

fn contended() -> Measured {
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
        tasks
            .into_iter()
            .for_each(|task| task.join().expect("joined"));
        let count = *mutex.lock().expect("not poisoned");
        assert_eq!(count, COUNTS.contended_locks);
    })
}

fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = channel();
    let (pong, ponged) = channel();
    let echo = go!(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    let player = go!(move || {
        time(COUNTS.messages, || {
            for message in 0..COUNTS.messages / 2 {
                ping.send(message).expect("the echo listens");
                let answer = match timeout {
                    None => ponged.recv().ok(),
                    Some(timeout) => ponged.recv_timeout(timeout).ok(),
                };
                assert_eq!(black_box(answer), Some(message));
            }
        })
    });
    let measured = player.join().expect("joined");
    echo.join().expect("joined");
    measured
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mappings_that_do_not_suffice_are_named() {
        let reason = too_few(100_000, 65_530).unwrap();
        assert!(reason.contains("201000"), "{reason}");
        assert!(reason.contains("65530"), "{reason}");
        assert_eq!(too_few(100_000, 1_000_000), None);
    }
}
