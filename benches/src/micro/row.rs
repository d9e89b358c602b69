//! The operations, how often each is done, and which engine takes no part in which.

use clap::ValueEnum;
use serde::Serialize;

/// An operation; what each of its figures is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Row {
    /// Two tasks that yield to each other; per yield.
    #[value(name = "yield-2")]
    #[serde(rename = "yield-2")]
    Yield2,
    /// 10,000 tasks that yield; per yield.
    #[value(name = "yield-10000")]
    #[serde(rename = "yield-10000")]
    Yield10000,
    /// Spawn an empty task and join it; per task.
    SpawnJoin,
    /// Spawn 1,000 empty tasks, then join them; per task.
    #[value(name = "spawn-join-1000")]
    #[serde(rename = "spawn-join-1000")]
    SpawnJoin1000,
    /// Three children of a group, joined within it; per group.
    #[value(name = "group-3")]
    #[serde(rename = "group-3")]
    Group3,
    /// A message to another task over a channel of capacity 1 and one back; per message.
    PingPong,
    /// As ping-pong, over channels of capacity 0; per message.
    Rendezvous,
    /// A stream from one task to another over a channel without bound; per message.
    ChannelUnbounded,
    /// A stream from four tasks to four others over one channel of capacity 64; per message.
    ChannelMpmc,
    /// A stream that alternates between two channels of capacity 1, received through select; per message.
    #[value(name = "select-2")]
    #[serde(rename = "select-2")]
    Select2,
    /// A channel for one message, made, sent to and received from by one task; per channel.
    Oneshot,
    /// Bursts from one task to each of four others over a broadcast channel; per message sent.
    #[value(name = "broadcast-4")]
    #[serde(rename = "broadcast-4")]
    Broadcast4,
    /// Two tasks that change a watched value in turn, each when it sees the other's; per change.
    Watch,
    /// Eight bytes to another task over a pair of Unix sockets and eight back; per message.
    SocketPair,
    /// 64 KiB at a time to another task over a pair of Unix sockets; per 64 KiB.
    #[value(name = "unix-64k")]
    #[serde(rename = "unix-64k")]
    Unix64k,
    /// Lock and unlock a mutex that nobody else wants; per pair.
    Mutex,
    /// Two tasks that lock the same mutex, each holding it across one yield; per lock.
    MutexContended,
    /// Read under a read-write lock that nobody else wants; per read.
    RwlockRead,
    /// Write under a read-write lock that nobody else wants; per write.
    RwlockWrite,
    /// Acquire and release a permit that nobody else wants; per pair.
    Semaphore,
    /// Two tasks that want the same permit, each holding it across one yield; per permit.
    SemaphoreContended,
    /// Two tasks that meet at a barrier; per meeting.
    #[value(name = "barrier-2")]
    #[serde(rename = "barrier-2")]
    Barrier2,
    /// Two tasks that notify each other, or unpark each other, in turn; per notification.
    Notify,
    /// As ping-pong, but each answer is awaited under a timeout of 10 s; per message, so that half a timer is
    /// in it.
    Timer,
    /// 100,000 tasks that sleep 100 ms each; CPU time and wall time of all.
    Sleepers,
}

/// How often each row's operation is done.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Counts {
    pub(super) yields: u64,
    pub(super) yielders: u64,
    pub(super) spawns: u64,
    pub(super) groups: u64,
    pub(super) messages: u64,
    /// In one direction only.
    pub(super) streamed: u64,
    /// To all listeners.
    pub(super) broadcasts: u64,
    pub(super) socket_messages: u64,
    pub(super) chunks: u64,
    pub(super) locks: u64,
    /// Of read-write locks and semaphores.
    pub(super) grants: u64,
    pub(super) contended_locks: u64,
    /// At a barrier.
    pub(super) meetings: u64,
    pub(super) sleepers: u64,
}

pub(super) const COUNTS: Counts = Counts {
    // Enough for the cost of starting 10,000 tasks not to show.
    yields: 10_000_000,
    yielders: 10_000,
    spawns: 300_000,
    groups: 50_000,
    messages: 1_000_000,
    streamed: 1_000_000,
    broadcasts: 200_000,
    socket_messages: 100_000,
    chunks: 10_000,
    locks: 10_000_000,
    grants: 3_000_000,
    contended_locks: 1_000_000,
    meetings: 500_000,
    sleepers: 100_000,
};

/// Threads are slow enough that less will do.
pub(super) const THREAD_COUNTS: Counts = Counts {
    yields: 200_000,
    yielders: 1_000,
    spawns: 5_000,
    groups: 2_000,
    messages: 50_000,
    streamed: 200_000,
    broadcasts: 0,
    socket_messages: 50_000,
    chunks: 10_000,
    locks: 10_000_000,
    grants: 3_000_000,
    contended_locks: 50_000,
    meetings: 20_000,
    sleepers: 0,
};

/// Tasks that are spawned before the first is joined.
pub(super) const BATCH: u64 = 1_000;
/// Producers of `channel-mpmc`, and as many consumers.
pub(super) const CROWD: u64 = 4;
/// Receivers of `broadcast-4`.
pub(super) const LISTENERS: u64 = 4;
/// Messages that are broadcast before the listeners are waited for: none may miss any.
pub(super) const BURST: u64 = 1_000;
/// Bytes at a time of `unix-64k`.
pub(super) const CHUNK: usize = 64 * 1024;
/// The capacity of the crowd's channel.
pub(super) const BOUND: usize = 64;
