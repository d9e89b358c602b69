//! maniple's rows.

mod locks;
mod meetings;
mod messages;

use anyhow::Result;
use maniple::{JoinHandle, sleep, spawn, yield_now};

use super::{
    Measured, SLEEP, TIMEOUT,
    row::{BATCH, COUNTS, Row},
    time,
};

pub(super) fn run(row: Row, runtime: maniple::runtime::Builder) -> Result<Measured> {
    let runtime = runtime.build()?;
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
                join(tasks);
            }
        }),
        Row::Group3 => meetings::groups(),
        Row::PingPong => messages::ping_pong(1, None),
        Row::Rendezvous => messages::ping_pong(0, None),
        Row::ChannelUnbounded => messages::unbounded_stream(),
        Row::ChannelMpmc => messages::crowd(),
        Row::Select2 => messages::select_of_two(),
        Row::Oneshot => messages::oneshots(),
        Row::Broadcast4 => messages::broadcasts(),
        Row::Watch => messages::watches(),
        Row::SocketPair => messages::socket_pair(),
        Row::Unix64k => messages::unix_chunks(),
        Row::Mutex => locks::mutex(),
        Row::MutexContended => locks::mutex_contended(),
        Row::RwlockRead => locks::rwlock_read(),
        Row::RwlockWrite => locks::rwlock_write(),
        Row::Semaphore => locks::semaphore(),
        Row::SemaphoreContended => locks::semaphore_contended(),
        Row::Barrier2 => meetings::barrier(),
        Row::Notify => meetings::notify(),
        Row::Timer => messages::ping_pong(1, Some(TIMEOUT)),
        Row::Sleepers => time(COUNTS.sleepers, || {
            let tasks: Vec<_> = (0..COUNTS.sleepers)
                .map(|_| spawn(|| sleep(SLEEP)))
                .collect();
            join(tasks);
        }),
    }))
}

fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    tasks
        .into_iter()
        .for_each(|task| task.join().expect("joined"));
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let tasks: Vec<_> = (0..count)
            .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
            .collect();
        join(tasks);
    })
}
