//! A wait group: one waits until all who hold a handle are done.

use std::{
    fmt,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
};

use crate::{
    sys::spin::SpinLock,
    wait::{self, Cuttable, Reason, WaitList, WaitNode, Waited},
};

/// Waits until every clone of it has been dropped.
///
/// For work whose handles are not kept; children of a [`group`](crate::group()) need none.
///
/// # Examples
/// ```
/// use maniple::sync::WaitGroup;
/// maniple::run(|| {
///     let group = WaitGroup::new();
///     for _ in 0..3 {
///         let group = group.clone();
///         maniple::spawn(move || {
///             maniple::yield_now();
///             drop(group);
///         });
///     }
///     group.wait();
/// });
/// ```
pub struct WaitGroup {
    shared: Arc<Shared>,
}

struct Shared {
    handles: AtomicUsize,
    waiters: SpinLock<WaitList>,
}

impl WaitGroup {
    /// A group with this one handle.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                handles: AtomicUsize::new(1),
                waiters: SpinLock::new(WaitList::new()),
            }),
        }
    }

    /// Drops this handle and waits until all others have been dropped, or wait as well.
    ///
    /// A cancellation point: in a cancelled scope, or once its deadline passes, the caller unwinds to the
    /// scope's edge; its handle is dropped all the same.
    pub fn wait(self) {
        let shared = self.shared.clone();
        drop(self);
        if let Err(interrupt) = wait::check() {
            return wait::unwind(Reason::WaitGroup, interrupt);
        }
        let node = WaitNode::new();
        loop {
            let waited = wait::wait(
                Reason::WaitGroup,
                None,
                Cuttable::Yes,
                |strand| {
                    let waiters = shared.waiters.lock();
                    // Looked at under the lock, which whoever counts down to 0 takes afterwards.
                    let waits = shared.handles.load(Ordering::Acquire) > 0;
                    if waits {
                        // SAFETY: under the list's lock; taken out below unless notified.
                        unsafe { waiters.arm(&node, strand, Cuttable::Yes) };
                    }
                    waits
                },
                || {
                    // SAFETY: under the list's lock, in this list or none.
                    unsafe { shared.waiters.lock().remove(&node) };
                },
            );
            match waited {
                Waited::AtOnce => return wait::spend(),
                Waited::Cut(interrupt) => return wait::unwind(Reason::WaitGroup, interrupt),
                Waited::Notified | Waited::TimedOut => return,
                Waited::Again => {}
            }
        }
    }
}

impl Clone for WaitGroup {
    fn clone(&self) -> Self {
        self.shared.handles.fetch_add(1, Ordering::Relaxed);
        Self {
            shared: self.shared.clone(),
        }
    }
}

impl Drop for WaitGroup {
    fn drop(&mut self) {
        // AcqRel: what was done before each drop is seen by whoever waited.
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            // SAFETY: under the list's lock.
            let all = unsafe { self.shared.waiters.lock().notify_all() };
            all.ready();
        }
    }
}

impl Default for WaitGroup {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for WaitGroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("WaitGroup")
            .field("handles", &self.shared.handles.load(Ordering::Relaxed))
            .finish()
    }
}
