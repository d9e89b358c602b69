//! tokio's rows: the current-thread runtime for one worker, the multi-thread one for more.

use std::{hint::black_box, sync::Arc, time::Duration};

use ::tokio::{
    runtime::{Builder, Runtime},
    spawn,
    sync::{Mutex, mpsc::channel},
    task::yield_now,
    time::{sleep, timeout as with_timeout},
};
use anyhow::Result;

use super::{BATCH, COUNTS, Clock, Measured, Row, SLEEP, TIMEOUT};

pub(super) fn run(row: Row, workers: usize) -> Result<Measured> {
    let runtime = build(workers)?;
    Ok(runtime.block_on(async move { spawn(measure(row)).await })?)
}

fn build(workers: usize) -> std::io::Result<Runtime> {
    match workers {
        1 => Builder::new_current_thread().enable_all().build(),
        _ => Builder::new_multi_thread()
            .worker_threads(workers)
            .enable_all()
            .build(),
    }
}

async fn measure(row: Row) -> Measured {
    match row {
        Row::Yield2 => yielders(2).await,
        Row::Yield10000 => yielders(COUNTS.yielders).await,
        Row::SpawnJoin => {
            let clock = Clock::start();
            for _ in 0..COUNTS.spawns {
                spawn(async {}).await.expect("joined");
            }
            clock.per(COUNTS.spawns)
        }
        Row::SpawnJoin1000 => {
            let clock = Clock::start();
            for _ in 0..COUNTS.spawns / BATCH {
                let tasks: Vec<_> = (0..BATCH).map(|_| spawn(async {})).collect();
                for task in tasks {
                    task.await.expect("joined");
                }
            }
            clock.per(COUNTS.spawns)
        }
        Row::PingPong => ping_pong(None).await,
        Row::Mutex => {
            let mutex = Mutex::new(0u64);
            let clock = Clock::start();
            for _ in 0..COUNTS.locks {
                *black_box(&mutex).lock().await += 1;
            }
            clock.per(COUNTS.locks)
        }
        Row::MutexContended => contended().await,
        Row::Timer => ping_pong(Some(TIMEOUT)).await,
        Row::Sleepers => {
            let clock = Clock::start();
            let tasks: Vec<_> = (0..COUNTS.sleepers).map(|_| spawn(sleep(SLEEP))).collect();
            for task in tasks {
                task.await.expect("joined");
            }
            clock.per(COUNTS.sleepers)
        }
    }
}

async fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    let clock = Clock::start();
    let tasks: Vec<_> = (0..count)
        .map(|_| {
            spawn(async move {
                for _ in 0..each {
                    yield_now().await;
                }
            })
        })
        .collect();
    for task in tasks {
        task.await.expect("joined");
    }
    clock.per(COUNTS.yields)
}

async fn contended() -> Measured {
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
    for task in tasks {
        task.await.expect("joined");
    }
    assert_eq!(*mutex.lock().await, COUNTS.contended_locks);
    clock.per(COUNTS.contended_locks)
}

async fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, mut pinged) = channel(1);
    let (pong, mut ponged) = channel(1);
    let echo = spawn(async move {
        while let Some(message) = pinged.recv().await {
            if pong.send(message).await.is_err() {
                return;
            }
        }
    });
    let player = spawn(async move {
        let clock = Clock::start();
        for message in 0..COUNTS.messages / 2 {
            ping.send(message).await.expect("the echo listens");
            let answer = match timeout {
                None => ponged.recv().await,
                Some(timeout) => with_timeout(timeout, ponged.recv()).await.ok().flatten(),
            };
            assert_eq!(black_box(answer), Some(message));
        }
        clock.per(COUNTS.messages)
    });
    let measured = player.await.expect("joined");
    echo.await.expect("joined");
    measured
}
