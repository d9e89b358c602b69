//! tokio's rows: the current-thread runtime for one worker, the multi-thread one for more.

mod locks;
mod meetings;
mod messages;

use ::tokio::{
    runtime::{Builder, Runtime},
    spawn,
    task::{JoinHandle, yield_now},
    time::sleep,
};
use anyhow::Result;

use super::{
    Clock, Measured, SLEEP, TIMEOUT,
    row::{BATCH, COUNTS, Row},
};

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
                join(tasks).await;
            }
            clock.per(COUNTS.spawns)
        }
        Row::Group3 => meetings::groups().await,
        Row::PingPong => messages::ping_pong(None).await,
        Row::ChannelUnbounded => messages::unbounded_stream().await,
        Row::Select2 => messages::select_of_two().await,
        Row::Oneshot => messages::oneshots().await,
        Row::Broadcast4 => messages::broadcasts().await,
        Row::Watch => messages::watches().await,
        Row::SocketPair => messages::socket_pair().await,
        Row::Unix64k => messages::unix_chunks().await,
        Row::Mutex => locks::mutex().await,
        Row::MutexContended => locks::mutex_contended().await,
        Row::RwlockRead => locks::rwlock_read().await,
        Row::RwlockWrite => locks::rwlock_write().await,
        Row::Semaphore => locks::semaphore().await,
        Row::SemaphoreContended => locks::semaphore_contended().await,
        Row::Barrier2 => meetings::barrier().await,
        Row::Notify => meetings::notify().await,
        Row::Timer => messages::ping_pong(Some(TIMEOUT)).await,
        Row::Rendezvous | Row::ChannelMpmc => unreachable!("tokio lacks {row:?}"),
        Row::Sleepers => {
            let clock = Clock::start();
            let tasks: Vec<_> = (0..COUNTS.sleepers).map(|_| spawn(sleep(SLEEP))).collect();
            join(tasks).await;
            clock.per(COUNTS.sleepers)
        }
    }
}

async fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    for task in tasks {
        task.await.expect("joined");
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
    join(tasks).await;
    clock.per(COUNTS.yields)
}
