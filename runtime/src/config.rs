//! Limits and defaults of a runtime, checked once when it is built.

use std::{io, num::NonZeroUsize, time::Duration};

use crate::stack::{Guarding, StackGuard, StackLimits};

/// What [`Builder`](crate::runtime::Builder) collects.
#[derive(Clone, Debug)]
pub(crate) struct Config {
    pub(crate) workers: usize,
    pub(crate) pin_workers: bool,
    /// Bytes of address space per stack, guard included.
    pub(crate) stack_size: usize,
    pub(crate) stack_guard: Guarding,
    /// Free stacks of each size that keep their memory, if not as many as suit the size.
    pub(crate) warm_stacks: Option<usize>,
    /// How long a coroutine waits before memory that it does not need meanwhile is given back.
    pub(crate) idle_trim: Option<Duration>,
    /// Whether stacks are painted while their depth is measured.
    pub(crate) paint_stacks: bool,
    pub(crate) max_coroutines: usize,
    pub(crate) shutdown_grace: Duration,
    pub(crate) thread_name: String,
}

/// Address space of a stack unless the spawner asks for another size.
pub(crate) const DEFAULT_STACK_SIZE: usize = 256 * 1024;

/// More live coroutines than this need more address space than most machines have memory.
pub(crate) const DEFAULT_MAX_COROUTINES: usize = 8 * 1024 * 1024;

pub(crate) const DEFAULT_SHUTDOWN_GRACE: Duration = Duration::from_secs(5);

/// Long enough that what is given back and needed again costs nothing to speak of.
pub(crate) const DEFAULT_IDLE_TRIM: Duration = Duration::from_secs(10);

/// The resolution of the clock that trimming goes by.
const SHORTEST_IDLE_TRIM: Duration = Duration::from_millis(1);
const LONGEST_IDLE_TRIM: Duration = Duration::from_secs(365 * 24 * 3600);

const MAX_WORKERS: usize = 1024;

impl Default for Config {
    fn default() -> Self {
        Self {
            workers: std::thread::available_parallelism().map_or(1, NonZeroUsize::get),
            pin_workers: false,
            stack_size: DEFAULT_STACK_SIZE,
            stack_guard: Guarding::By(StackGuard::Auto),
            warm_stacks: None,
            idle_trim: Some(DEFAULT_IDLE_TRIM),
            paint_stacks: false,
            max_coroutines: DEFAULT_MAX_COROUTINES,
            shutdown_grace: DEFAULT_SHUTDOWN_GRACE,
            thread_name: "maniple".to_owned(),
        }
    }
}

impl Config {
    pub(crate) fn check(&self) -> io::Result<()> {
        let invalid = |message: String| Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        if self.workers == 0 || self.workers > MAX_WORKERS {
            return invalid(format!(
                "workers is {}, must be from 1 to {MAX_WORKERS}",
                self.workers
            ));
        }
        if self
            .idle_trim
            .is_some_and(|after| !(SHORTEST_IDLE_TRIM..=LONGEST_IDLE_TRIM).contains(&after))
        {
            return invalid(format!(
                "idle_trim is {:?}, must be from 1 ms to 365 days, or None to trim nothing",
                self.idle_trim.unwrap_or_default()
            ));
        }
        if self.max_coroutines == 0 {
            return invalid("max_coroutines is 0, must be at least 1".to_owned());
        }
        if self.thread_name.contains('\0') {
            return invalid("thread_name must not contain NUL".to_owned());
        }
        Ok(())
    }

    pub(crate) fn stack_limits(&self) -> StackLimits {
        StackLimits {
            default_size: self.stack_size,
            max_stacks: self.max_coroutines,
            guard: self.stack_guard,
            warm: self.warm_stacks,
        }
    }
}
