//! What there is of a kind in the process, for pages and metrics.

use std::sync::{Arc, Mutex, PoisonError, Weak};

use maniple::inspect;

/// All of a kind, for as long as somebody has them.
pub(crate) struct Enlisted<T> {
    all: Mutex<Vec<Weak<T>>>,
    heading: &'static str,
    tell: fn() -> String,
}

impl<T> Enlisted<T> {
    /// The dump of [`inspect`] has what `tell` says of them.
    pub(crate) const fn new(heading: &'static str, tell: fn() -> String) -> Self {
        Self {
            all: Mutex::new(Vec::new()),
            heading,
            tell,
        }
    }

    pub(crate) fn add(&self, one: &Arc<T>) {
        inspect::add_section(self.heading, self.tell);
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // As often as their number has doubled, so that it costs nothing for each.
        if all.len() == all.capacity() {
            all.retain(|one| one.strong_count() > 0);
            let now = all.len();
            all.reserve_exact((2 * now).max(8) - now);
        }
        all.push(Arc::downgrade(one));
    }

    /// In the order in which they came.
    pub(crate) fn all(&self) -> Vec<Arc<T>> {
        let all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        // What is dropped here, as the last who has it, is dropped behind the lock.
        let there = all.iter().filter_map(Weak::upgrade).collect();
        drop(all);
        there
    }
}
