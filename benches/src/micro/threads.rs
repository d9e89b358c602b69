//! The same with std's threads, fewer times: what the engines save.

mod locks;
mod meetings;
mod messages;

use std::thread::{Builder, JoinHandle, sleep, yield_now};

use super::{
    Measured, SLEEP, TIMEOUT,
    row::{BATCH, Row, THREAD_COUNTS as COUNTS},
    time,
};

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
                join(threads);
            }
        }),
        Row::Group3 => meetings::groups(),
        Row::PingPong => messages::ping_pong(1, None),
        Row::Rendezvous => messages::ping_pong(0, None),
        Row::ChannelUnbounded => messages::unbounded_stream(),
        Row::SocketPair => messages::socket_pair(),
        Row::Unix64k => messages::unix_chunks(),
        Row::Mutex => locks::mutex(),
        Row::MutexContended => locks::mutex_contended(),
        Row::RwlockRead => locks::rwlock_read(),
        Row::RwlockWrite => locks::rwlock_write(),
        Row::Barrier2 => meetings::barrier(),
        Row::Notify => meetings::turns(),
        Row::Timer => messages::ping_pong(1, Some(TIMEOUT)),
        Row::ChannelMpmc
        | Row::Select2
        | Row::Oneshot
        | Row::Broadcast4
        | Row::Watch
        | Row::Semaphore
        | Row::SemaphoreContended => {
            unreachable!("threads lack {row:?}")
        }
        Row::Sleepers => time(COUNTS.sleepers, || {
            let threads: Vec<_> = (0..COUNTS.sleepers).map(|_| spawn(pause)).collect();
            join(threads);
        }),
    }
}

#[allow(clippy::disallowed_methods, reason = "it is what this row measures")]
fn pause() {
    sleep(SLEEP);
}

/// For engines that are libraries of threads, too.
pub(super) fn spawn<T: Send + 'static>(body: impl FnOnce() -> T + Send + 'static) -> JoinHandle<T> {
    builder().spawn(body).expect("a thread can be started")
}

fn builder() -> Builder {
    Builder::new().stack_size(64 * 1024)
}

pub(super) fn join(threads: impl IntoIterator<Item = JoinHandle<()>>) {
    threads
        .into_iter()
        .for_each(|thread| thread.join().expect("joined"));
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let threads: Vec<_> = (0..count)
            .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
            .collect();
        join(threads);
    })
}
