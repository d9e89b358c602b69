//! may's rows. Its channels have no bound, so ping-pong uses those.

use std::{hint::black_box, time::Duration};

use ::may::{
    coroutine::{sleep, yield_now},
    go,
    sync::{Mutex, mpsc::channel},
};

use super::{BATCH, COUNTS, MANY_YIELDERS, Row, cpu, time};

pub(super) fn run(row: Row, workers: usize) -> f64 {
    ::may::config()
        .set_workers(workers)
        .set_pool_capacity(10_000);
    let main = go!(move || match row {
        Row::Yield2 => yielders(2),
        Row::Yield10000 => yielders(MANY_YIELDERS),
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
        Row::Timer => ping_pong(Some(Duration::from_secs(10))),
        Row::Mutex => {
            let mutex = Mutex::new(0u64);
            time(COUNTS.locks, || {
                for _ in 0..COUNTS.locks {
                    *black_box(&mutex).lock().expect("not poisoned") += 1;
                }
            })
        }
        Row::Sleepers => cpu(COUNTS.sleepers, || {
            let tasks: Vec<_> = (0..COUNTS.sleepers)
                .map(|_| go!(|| sleep(Duration::from_millis(100))))
                .collect();
            tasks
                .into_iter()
                .for_each(|task| task.join().expect("joined"));
        }),
    });
    main.join().expect("joined")
}

fn yielders(count: u64) -> f64 {
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

fn ping_pong(timeout: Option<Duration>) -> f64 {
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
    let nanos = player.join().expect("joined");
    echo.join().expect("joined");
    nanos
}
