//! The running coroutine: who it is, and a handle to unpark it.

use std::{borrow::Cow, fmt, panic::Location};

use crate::{
    coroutine::{Name, TaskRef},
    scheduler::current_task,
    wait::ready,
};

/// Identifies a coroutine; unique in the process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Id(u64);

impl Id {
    pub(crate) fn from_raw(id: u64) -> Self {
        Self(id)
    }
}

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// The running coroutine, or `None` on a plain thread.
///
/// # Examples
/// ```
/// assert!(maniple::current().is_none());
/// maniple::run(|| println!("I am coroutine {}", maniple::current().unwrap().id()));
/// ```
pub fn current() -> Option<Current> {
    current_task().map(|task| Current { task })
}

/// A handle to a coroutine, obtained inside it; may be sent anywhere to unpark it.
#[derive(Clone)]
pub struct Current {
    task: TaskRef,
}

impl Current {
    /// Its id.
    pub fn id(&self) -> Id {
        Id(self.task.header().origin.id)
    }

    /// Its name, if it was given one.
    pub fn name(&self) -> Option<Cow<'_, str>> {
        self.task.header().origin.name.as_ref().map(Name::text)
    }

    /// Where it was spawned.
    pub fn spawned_at(&self) -> &'static Location<'static> {
        self.task.header().origin.spawned_at
    }

    /// Lets its next or present [`park`](super::park()) return; several calls before that count as one.
    pub fn unpark(&self) {
        if let Some(claimed) = self.task.header().parking.unpark() {
            ready(claimed);
        }
    }
}

impl fmt::Debug for Current {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Current")
            .field("id", &self.id().0)
            .field("name", &self.name())
            .finish()
    }
}
