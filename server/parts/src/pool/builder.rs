//! Settings of a pool, and what they may be.

use std::{io, sync::Arc};

use super::{
    Owner, Pool,
    settings::{Settings, WhenFull},
    workers::Workers,
};

impl Pool {
    /// Settings for a pool of that name, which stands in its errors and in its workers' names.
    pub fn builder(name: impl Into<String>) -> Builder {
        Builder {
            settings: Settings {
                name: name.into(),
                workers: 8,
                queue: 64,
                when_full: WhenFull::Wait,
            },
        }
    }
}

/// Settings of a pool; made by [`Pool::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    settings: Settings,
}

/// Workers of a pool at most.
pub const MAX_WORKERS: usize = 64 * 1024;

/// Jobs in a pool's queue at most.
pub const MAX_QUEUE: usize = 1024 * 1024;

impl Builder {
    /// Jobs that run at a time, each in a coroutine that is there from the beginning. Default: 8; from 1 to
    /// [`MAX_WORKERS`].
    pub fn workers(mut self, workers: usize) -> Self {
        self.settings.workers = workers;
        self
    }

    /// Jobs that wait while all workers are busy; two more may be on their way to a worker. Default: 64; from
    /// 1 to [`MAX_QUEUE`].
    pub fn queue(mut self, jobs: usize) -> Self {
        self.settings.queue = jobs;
        self
    }

    /// What a submission does while the queue is full. Default: [`WhenFull::Wait`].
    pub fn when_full(mut self, policy: WhenFull) -> Self {
        self.settings.when_full = policy;
        self
    }

    /// Starts the dispatcher and the workers, as coroutines of the caller's runtime; on a plain thread, of the
    /// default one. They are named `NAME-dispatcher` and `NAME-1` and so on.
    ///
    /// # Errors
    /// If a setting is out of range (`InvalidInput`), or a coroutine could not be started; the message names
    /// the pool.
    pub fn build(self) -> io::Result<Pool> {
        let wrong = if self.settings.workers == 0 || self.settings.workers > MAX_WORKERS {
            Some(("workers", self.settings.workers, MAX_WORKERS))
        } else if self.settings.queue == 0 || self.settings.queue > MAX_QUEUE {
            Some(("queue", self.settings.queue, MAX_QUEUE))
        } else {
            None
        };
        if let Some((setting, value, most)) = wrong {
            let text = format!(
                "pool `{}`: {setting} is {value}, must be from 1 to {most}",
                self.settings.name
            );
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let workers = Workers::start(self.settings)?;
        Ok(Pool {
            owner: Arc::new(Owner { workers }),
        })
    }
}
