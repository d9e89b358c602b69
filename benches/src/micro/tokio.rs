//! tokio's rows: the current-thread runtime for one worker, the multi-thread one for more.

use std::{hint::black_box, time::Duration};

use ::tokio::{
    runtime::{Builder, Runtime},
    spawn,
    sync::{Mutex, mpsc::channel},
    task::yield_now,
    time::{sleep, timeout as with_timeout},
};
use anyhow::Result;

use super::{BATCH, COUNTS, MANY_YIELDERS, Row, own_cpu_time};

pub(super) fn run(row: Row, workers: usize) -> Result<f64> {
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

async fn measure(row: Row) -> f64 {
    match row {
        Row::Yield2 => yielders(2).await,
        Row::Yield10000 => yielders(MANY_YIELDERS).await,
        Row::SpawnJoin => {
            let clock = Clock::start(COUNTS.spawns);
            for _ in 0..COUNTS.spawns {
                spawn(async {}).await.expect("joined");
            }
            clock.wall()
        }
        Row::SpawnJoin1000 => {
            let clock = Clock::start(COUNTS.spawns);
            for _ in 0..COUNTS.spawns / BATCH {
                let tasks: Vec<_> = (0..BATCH).map(|_| spawn(async {})).collect();
                for task in tasks {
                    task.await.expect("joined");
                }
            }
            clock.wall()
        }
        Row::PingPong => ping_pong(None).await,
        Row::Timer => ping_pong(Some(Duration::from_secs(10))).await,
        Row::Mutex => {
            let mutex = Mutex::new(0u64);
            let clock = Clock::start(COUNTS.locks);
            for _ in 0..COUNTS.locks {
                *black_box(&mutex).lock().await += 1;
            }
            clock.wall()
        }
        Row::Sleepers => {
            let clock = Clock::start(COUNTS.sleepers);
            let tasks: Vec<_> = (0..COUNTS.sleepers)
                .map(|_| spawn(sleep(Duration::from_millis(100))))
                .collect();
            for task in tasks {
                task.await.expect("joined");
            }
            clock.cpu()
        }
    }
}

async fn yielders(count: u64) -> f64 {
    let each = COUNTS.yields / count;
    let clock = Clock::start(COUNTS.yields);
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
    clock.wall()
}

async fn ping_pong(timeout: Option<Duration>) -> f64 {
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
        let clock = Clock::start(COUNTS.messages);
        for message in 0..COUNTS.messages / 2 {
            ping.send(message).await.expect("the echo listens");
            let answer = match timeout {
                None => ponged.recv().await,
                Some(timeout) => with_timeout(timeout, ponged.recv()).await.ok().flatten(),
            };
            assert_eq!(black_box(answer), Some(message));
        }
        clock.wall()
    });
    let nanos = player.await.expect("joined");
    echo.await.expect("joined");
    nanos
}

/// `time` and `cpu` of the parent module, for code that cannot be a closure.
struct Clock {
    operations: u64,
    wall: std::time::Instant,
    cpu: Duration,
}

impl Clock {
    fn start(operations: u64) -> Self {
        Self {
            operations,
            wall: std::time::Instant::now(),
            cpu: own_cpu_time(),
        }
    }

    fn wall(&self) -> f64 {
        self.wall.elapsed().as_nanos() as f64 / self.operations as f64
    }

    fn cpu(&self) -> f64 {
        let used = own_cpu_time() - self.cpu;
        used.as_nanos() as f64 / self.operations as f64
    }
}
