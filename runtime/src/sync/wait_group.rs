//! A wait group: one waits until all who hold a handle are done.

use std::{fmt, sync::Arc};

use crate::{
    loom::{AtomicUsize, Ordering},
    wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters},
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
    waiters: Waiters,
}

impl WaitGroup {
    /// A group with this one handle.
    pub fn new() -> Self {
        Self {
            shared: Arc::new(Shared {
                handles: AtomicUsize::new(1),
                waiters: Waiters::new(()),
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
        loop {
            let waiters = shared.waiters.lock();
            // Looked at under the lock, which the one that counts down to 0 takes afterwards.
            if shared.handles.load(Ordering::Acquire) == 0 {
                drop(waiters);
                return wait::spend();
            }
            let mut node = Node::new(());
            let waited = waiters.wait(
                QUEUE,
                &mut node,
                Reason::WaitGroup,
                None,
                Interruptible::Yes,
                |_, _| {},
            );
            match waited {
                Waited::Interrupted(interrupt) => {
                    return wait::unwind(Reason::WaitGroup, interrupt);
                }
                Waited::Notified | Waited::TimedOut => return,
                Waited::AtOnce | Waited::Again => {}
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
        // AcqRel: what was done before each drop is seen by the waiter.
        if self.shared.handles.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.shared.waiters.wake_all(QUEUE);
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

#[cfg(all(test, loom))]
mod loom_models {
    use super::*;
    use crate::cancel::CancelToken;
    use loom::{cell::UnsafeCell, thread::spawn};

    fn model(preemptions: usize, body: impl Fn() + Send + Sync + 'static) {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(preemptions);
        model.check(body);
    }

    /// What two have done. loom's cells find accesses that nothing orders.
    struct Work([UnsafeCell<bool>; 2]);

    // SAFETY: loom holds the accesses to the cells against each other.
    unsafe impl Sync for Work {}

    impl Work {
        fn new() -> loom::sync::Arc<Self> {
            loom::sync::Arc::new(Self([(); 2].map(|()| UnsafeCell::new(false))))
        }

        fn finish(&self, part: usize) {
            // SAFETY: others read it only when the handle of who does this is gone.
            self.0[part].with_mut(|done| unsafe { *done = true });
        }

        fn is_done(&self) -> bool {
            // SAFETY: nobody writes when all handles are gone.
            let is_done = |done: &UnsafeCell<bool>| done.with(|done| unsafe { *done });
            self.0.iter().all(is_done)
        }
    }

    fn assert_settled(shared: &Shared) {
        assert_eq!(shared.handles.load(Ordering::Relaxed), 0);
        assert!(shared.waiters.lock().is_empty(QUEUE));
    }

    /// Two are at work when a third waits, or done before: it goes on, and sees what both have done.
    #[test]
    fn loom_wait_group_what_was_done_with_each_handle_is_seen() {
        model(3, || {
            let (group, work) = (WaitGroup::new(), Work::new());
            let shared = group.shared.clone();
            let others = [0, 1].map(|part| {
                let (handle, work) = (group.clone(), work.clone());
                spawn(move || {
                    work.finish(part);
                    drop(handle);
                })
            });
            group.wait();
            assert!(work.is_done());
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_settled(&shared);
        });
    }

    /// Those who wait have dropped their handles: two who wait for each other and for a third all go on.
    #[test]
    fn loom_wait_group_all_who_wait_go_on() {
        model(2, || {
            let (group, work) = (WaitGroup::new(), Work::new());
            let shared = group.shared.clone();
            let others = [0, 1].map(|part| {
                let (handle, work) = (group.clone(), work.clone());
                spawn(move || {
                    work.finish(part);
                    handle.wait();
                    assert!(work.is_done());
                })
            });
            drop(group);
            others.into_iter().for_each(|other| other.join().unwrap());
            assert_settled(&shared);
        });
    }

    /// One of two who wait is cancelled before or after the last handle goes: the other goes on, and nobody is
    /// left in the list.
    #[test]
    fn loom_wait_group_one_who_is_cancelled_holds_up_nobody() {
        let check = |act: fn(WaitGroup, &CancelToken)| {
            model(2, move || {
                let (group, token) = (WaitGroup::new(), CancelToken::new());
                let shared = group.shared.clone();
                let (handle, under) = (group.clone(), token.clone());
                let hasty = spawn(move || under.run(|| handle.wait()).is_ok());
                let handle = group.clone();
                let patient = spawn(move || handle.wait());
                act(group, &token);
                hasty.join().unwrap();
                patient.join().unwrap();
                assert_settled(&shared);
            });
        };
        check(|group, token| {
            token.cancel();
            drop(group);
        });
        check(|group, token| {
            drop(group);
            token.cancel();
        });
    }
}
