//! may's rows.

mod locks;
mod meetings;
mod messages;

use ::may::{
    coroutine::{JoinHandle, sleep, yield_now},
    go,
};

use super::{
    Measured, SLEEP, TIMEOUT,
    row::{BATCH, COUNTS, Row},
    time,
};

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
                join(tasks);
            }
        }),
        Row::Group3 => meetings::groups(),
        Row::PingPong => messages::ping_pong(None),
        Row::ChannelUnbounded => messages::unbounded_stream(),
        Row::Select2 => messages::select_of_two(),
        Row::SocketPair => messages::socket_pair(),
        Row::Unix64k => messages::unix_chunks(),
        Row::Mutex => locks::mutex(),
        Row::MutexContended => locks::mutex_contended(),
        Row::RwlockRead => locks::rwlock_read(),
        Row::RwlockWrite => locks::rwlock_write(),
        Row::Semaphore => locks::semaphore(),
        Row::SemaphoreContended => locks::semaphore_contended(),
        Row::Barrier2 => meetings::barrier(),
        Row::Notify => meetings::turns(),
        Row::Timer => messages::ping_pong(Some(TIMEOUT)),
        Row::Rendezvous | Row::ChannelMpmc | Row::Oneshot | Row::Broadcast4 | Row::Watch => {
            unreachable!("may lacks {row:?}")
        }
        Row::Sleepers => time(COUNTS.sleepers, || {
            let tasks: Vec<_> = (0..COUNTS.sleepers).map(|_| go!(|| sleep(SLEEP))).collect();
            join(tasks);
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

fn join(tasks: impl IntoIterator<Item = JoinHandle<()>>) {
    tasks
        .into_iter()
        .for_each(|task| task.join().expect("joined"));
}

fn yielders(count: u64) -> Measured {
    let each = COUNTS.yields / count;
    time(COUNTS.yields, || {
        let tasks: Vec<_> = (0..count)
            .map(|_| go!(move || (0..each).for_each(|_| yield_now())))
            .collect();
        join(tasks);
    })
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
