//! The memory of coroutine stacks: how many there are, where they lie and how they are guarded.

use crate::{
    scheduler::{Scheduler, snapshot},
    stack::census::StackStats,
};

pub use crate::stack::GuardKind;

/// The stacks of each runtime of the process, the oldest runtime first.
///
/// May be called from anywhere and asks no worker, so it answers at once, also while coroutines hold
/// theirs. The figures are read one after the other: those of a busy runtime may not quite add up.
///
/// ```
/// use maniple::{Runtime, inspect, runtime::StackGuard};
/// let runtime = Runtime::builder()
///     .thread_name("guarded")
///     .stack_guard(StackGuard::Mprotect)
///     .build()?;
/// runtime.run(|| {
///     let all = inspect::stacks();
///     let own = all.iter().find(|stacks| stacks.runtime() == "guarded").unwrap();
///     assert_eq!(own.guard(), inspect::GuardKind::Mprotect);
///     println!("{} stacks in {} MiB of addresses", own.live(), own.mapped_bytes() >> 20);
/// });
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn stacks() -> Vec<Stacks> {
    let schedulers = snapshot::schedulers();
    schedulers.iter().map(|one| Stacks::of(one)).collect()
}

/// The stacks of one runtime, as [`stacks`] saw them.
#[derive(Clone, Debug)]
pub struct Stacks {
    runtime: String,
    guard: GuardKind,
    default_size: usize,
    stats: StackStats,
}

impl Stacks {
    fn of(scheduler: &Scheduler) -> Self {
        Self {
            runtime: scheduler.config.thread_name.clone(),
            guard: scheduler.slabs.guard(),
            default_size: scheduler.default_class.size(),
            stats: scheduler.slabs.stats(),
        }
    }

    /// Which runtime's: the prefix of its workers' names, as
    /// [`thread_name`](crate::runtime::Builder::thread_name) gave it.
    pub fn runtime(&self) -> &str {
        &self.runtime
    }

    /// How they are guarded in fact.
    pub fn guard(&self) -> GuardKind {
        self.guard
    }

    /// Bytes of address space, guard page included, of a stack whose coroutine asked for no size.
    pub fn default_size(&self) -> usize {
        self.default_size
    }

    /// Stacks in use: those of coroutines, and up to 64 of each size that each worker keeps at hand.
    pub fn live(&self) -> usize {
        self.stats.live
    }

    /// The most that [`live`](Self::live) has been.
    pub fn high_water(&self) -> usize {
        self.stats.high_water
    }

    /// Free stacks that keep the memory they touched, to be used next.
    pub fn warm(&self) -> usize {
        self.stats.warm
    }

    /// Free stacks whose memory was given back to the kernel; their addresses are used again.
    pub fn cold(&self) -> usize {
        self.stats.cold
    }

    /// Coroutines that could not begin for want of a stack, so far: at
    /// [`max_coroutines`](crate::runtime::Builder::max_coroutines), or at a limit of the system's.
    ///
    /// Not counted are those that a [`task::Builder`](crate::task::Builder) refused to spawn.
    pub fn refused(&self) -> u64 {
        self.stats.refused
    }

    /// How often the stack of a waiting coroutine has given back memory that it did not need: see
    /// [`idle_trim`](crate::runtime::Builder::idle_trim).
    pub fn trimmed(&self) -> u64 {
        self.stats.trimmed
    }

    /// Bytes that were given back so, in all.
    pub fn trimmed_bytes(&self) -> u64 {
        self.stats.trimmed_bytes
    }

    /// The large mappings that stacks are cut from.
    pub fn regions(&self) -> usize {
        self.stats.regions
    }

    /// Address space of those mappings in bytes, stacks that were never used included. Memory is
    /// committed page by page, so this says nothing of it.
    pub fn mapped_bytes(&self) -> usize {
        self.stats.mapped
    }
}
