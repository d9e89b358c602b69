//! maniple's rows.

use std::{hint::black_box, time::Duration};

use anyhow::Result;
use maniple::{
    sleep, spawn,
    sync::{Mutex, channel::bounded},
    yield_now,
};

use super::{BATCH, COUNTS, MANY_YIELDERS, Row, cpu, time};

pub(super) fn run(row: Row, workers: usize) -> Result<f64> {
    let runtime = maniple::Runtime::builder().workers(workers).build()?;
    Ok(runtime.run(|| match row {
        Row::Yield2 => yielders(2),
        Row::Yield10000 => yielders(MANY_YIELDERS),
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
        Row::Timer => ping_pong(Some(Duration::from_secs(10))),
        Row::Mutex => {
            let mutex = Mutex::new(0u64);
            time(COUNTS.locks, || {
                for _ in 0..COUNTS.locks {
                    *black_box(&mutex).lock() += 1;
                }
            })
        }
        Row::Sleepers => cpu(COUNTS.sleepers, || {
            let tasks: Vec<_> = (0..COUNTS.sleepers)
                .map(|_| spawn(|| sleep(Duration::from_millis(100))))
                .collect();
            tasks
                .into_iter()
                .for_each(|task| task.join().expect("joined"));
        }),
    }))
}

fn yielders(count: u64) -> f64 {
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

fn ping_pong(timeout: Option<Duration>) -> f64 {
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
    let nanos = player.join().expect("joined");
    echo.join().expect("joined");
    nanos
}
