//! Numbers of a pool of connections, and the pools of the process that have a name.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use maniple::time;

use crate::enlisted::Enlisted;

/// Numbers of a [`Connections`](super::Connections), as of one moment and, the later ones, since its beginning.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Stats {
    /// Connections that there are, lent or free.
    pub open: usize,
    /// Those that are free.
    pub idle: usize,
    /// Who waits for one, be it that it is being made: if it stays above 0, there are too few, or to connect takes long.
    pub waiting: usize,
    /// Connections that were lent.
    pub lent: u64,
    /// How long all who asked for one have waited, together, until they had it or gave up. Who waits now is not in it.
    pub waited: Duration,
    /// Connections that were made.
    pub connects: u64,
    /// Connections that could not be made.
    pub connect_failures: u64,
    /// Connections that were dropped: too old, broken, or cut.
    pub discarded: u64,
    /// Who got none in time.
    pub late: u64,
}

/// The pools of the process that have a [name](super::Builder::name), in the order in which they were built. Several may have
/// one name.
pub fn all() -> Vec<(String, Stats)> {
    let all = NAMED.all().into_iter();
    all.map(|counts| (counts.name.clone(), counts.stats()))
        .collect()
}

/// Those that have a name.
static NAMED: Enlisted<Counts> = Enlisted::new("pools of connections", tell);

fn tell() -> String {
    let line = |(name, stats): (String, Stats)| {
        let Stats {
            open,
            idle,
            waiting,
            lent,
            late,
            discarded,
            ..
        } = stats;
        let name = name.escape_debug();
        format!(
            "  {name}: {open} open, {idle} of them free; {waiting} wait; {lent} lent, {discarded} dropped, {late} got none in time\n"
        )
    };
    all().into_iter().map(line).collect()
}

#[derive(Debug, Default)]
pub(super) struct Counts {
    name: String,
    pub(super) open: AtomicUsize,
    pub(super) idle: AtomicUsize,
    pub(super) waiting: AtomicUsize,
    pub(super) lent: AtomicU64,
    /// In nanoseconds.
    pub(super) waited: AtomicU64,
    pub(super) connects: AtomicU64,
    pub(super) failures: AtomicU64,
    pub(super) discarded: AtomicU64,
    pub(super) late: AtomicU64,
}

impl Counts {
    pub(super) fn new(name: Option<String>) -> Arc<Self> {
        let is_named = name.is_some();
        let counts = Arc::new(Self {
            name: name.unwrap_or_default(),
            ..Self::default()
        });
        if is_named {
            NAMED.add(&counts);
        }
        counts
    }

    pub(super) fn stats(&self) -> Stats {
        Stats {
            open: self.open.load(Relaxed),
            idle: self.idle.load(Relaxed),
            waiting: self.waiting.load(Relaxed),
            lent: self.lent.load(Relaxed),
            waited: Duration::from_nanos(self.waited.load(Relaxed)),
            connects: self.connects.load(Relaxed),
            connect_failures: self.failures.load(Relaxed),
            discarded: self.discarded.load(Relaxed),
            late: self.late.load(Relaxed),
        }
    }
}

/// Counts who waits, and how long, until dropped.
pub(super) struct Waits<'a> {
    counts: &'a Counts,
    since: Instant,
}

impl<'a> Waits<'a> {
    pub(super) fn begin(counts: &'a Counts) -> Self {
        counts.waiting.fetch_add(1, Relaxed);
        Self {
            counts,
            since: time::now(),
        }
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.counts.waiting.fetch_sub(1, Relaxed);
        let waited = time::now().saturating_duration_since(self.since).as_nanos();
        self.counts
            .waited
            .fetch_add(u64::try_from(waited).unwrap_or(u64::MAX), Relaxed);
    }
}
