//! maniple's rows.

use std::{hint::black_box, sync::Arc, time::Duration};

use anyhow::Result;
use maniple::{
    sleep, spawn,
    sync::{Mutex, channel::bounded},
    yield_now,
};

use super::{BATCH, COUNTS, Measured, Row, SLEEP, TIMEOUT, time};

pub(super) fn run(row: Row, workers: usize) -> Result<Measured> {
    let runtime = maniple::Runtime::builder().workers(workers).build()?;
    Ok(runtime.run(|| match row {
        Row::Yield2 => yielders(2),
        Row::Yield10000 => yielders(COUNTS.yielders),
        Row::SpawnJoin => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns {
                spawn(|| ()).join().expect("joined");
            }
        }),
        Row::SpawnJoin1000 => time(COUNTS.spawns, || {
            for _ in 0..COUNTS.spawns / BATCH {
                let tasks: Vec<_> = (0..BATCH).map(|_| spawn(|| ())).collect();
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
                    *black_box(&mutex).lock() += 1;
                }
            })
        }
        Row::MutexContended => contended(),
        Row::Timer => ping_pong(Some(TIMEOUT)),
        Row::Sleepers => time(COUNTS.sleepers, || {
            let tasks: Vec<_> = (0..COUNTS.sleepers)
                .map(|_| spawn(|| sleep(SLEEP)))
                .collect();
            tasks
                .into_iter()
                .for_each(|task| task.join().expect("joined"));
        }),
    }))
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let tasks: Vec<_> = (0..count)
            .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
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
            spawn(move || {
                for _ in 0..COUNTS.contended_locks / 2 {
                    let mut count = mutex.lock();
                    yield_now();
                    *count += 1;
                }
            })
        });
        tasks
            .into_iter()
            .for_each(|task| task.join().expect("joined"));
        assert_eq!(*mutex.lock(), COUNTS.contended_locks);
    })
}

fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = bounded(1);
    let (pong, ponged) = bounded(1);
    let echo = spawn(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    let player = spawn(move || {
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
