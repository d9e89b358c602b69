//! A task's header: all of it that does not know the closure's type, and by what the rest is reached from there.

use std::{
    cell::Cell,
    ops::Range,
    ptr::{self, NonNull},
    time::{Duration, Instant},
};

use super::super::{
    alarm::Alarm,
    completion::Completion,
    origin::{Failure, Origin, Unseen},
    sighting::{Bounds, Mark, Sighting, Sweep},
    switch::Engine,
};
use crate::{
    idle::Parker,
    loom::{AtomicPtr, AtomicU32, Ordering, fence},
    stack::{Stack, depth::Watermark},
    sys::{
        fenced,
        list::{Chained, Linked, Links},
    },
    waiter::{Locals, Parking, Reason, Scope, Waiter},
};

#[repr(C)]
pub(crate) struct Header {
    /// First, so that a waiter's address is its header's.
    pub(crate) waiter: Waiter,
    // What each turn touches lies together.
    pub(in super::super) engine: Engine,
    pub(in super::super) mark: Mark,
    /// Where it is sent once it is woken elsewhere: its home worker's.
    pub(in super::super) home: Cell<*const Parker<Won>>,
    /// What it waits for, while it waits.
    pub(crate) reason: Cell<Reason>,
    pub(crate) alarm: Alarm,
    next: AtomicPtr<Header>,
    live: Links<Header>,
    /// The group that it is linked into, if any.
    pub(super) parent: Cell<Option<NonNull<Scope>>>,
    pub(super) references: References,
    /// Whether it got no stack, and runs only to drop what it owns. Set before it runs.
    pub(in super::super) is_refused: Cell<bool>,
    /// Owner: whether its timer is about, armed or on its way.
    pub(in super::super) has_timer: Cell<bool>,
    pub(super) vtable: &'static VTable,
    pub(in super::super) completion: Completion,
    pub(crate) parking: Parking,
    /// Empty, or inherited, until it runs; then its own alone.
    pub(crate) locals: Locals,
    /// Where its stack lies, once it has one: one that got no stack of the size it asked for may end on another.
    pub(in super::super) bounds: Bounds,
    pub(crate) origin: Origin,
    /// How it spent its time, as far as that is kept.
    pub(crate) record: Record,
}

/// Kept by the home worker while tracking is on.
#[derive(Default)]
pub(crate) struct Record {
    /// When it was last suspended.
    pub(crate) since: Cell<Option<Instant>>,
    pub(crate) ran: Cell<Duration>,
    pub(crate) turns: Cell<u64>,
    /// How deep its stack is used, while that is measured; a word otherwise.
    pub(crate) watermark: Cell<Option<Box<Watermark>>>,
}

impl Header {
    #[inline(always)]
    pub(super) fn new(
        vtable: &'static VTable,
        origin: Origin,
        stack: Option<Stack>,
        deadline: Option<Instant>,
        locals: Locals,
    ) -> Self {
        Self {
            waiter: Waiter::for_coroutine(deadline),
            engine: Engine::new(stack),
            mark: Mark::new(),
            home: Cell::new(ptr::null()),
            reason: Cell::new(Reason::Start),
            alarm: Alarm::new(),
            next: AtomicPtr::new(ptr::null_mut()),
            live: Links::new(),
            parent: Cell::new(None),
            references: References(AtomicU32::new(2)),
            is_refused: Cell::new(false),
            has_timer: Cell::new(false),
            vtable,
            completion: Completion::new(),
            parking: Parking::new(),
            locals,
            bounds: Bounds::none(),
            origin,
            record: Record::default(),
        }
    }

    /// Whether it has run, and was then suspended.
    pub(crate) fn was_suspended(&self) -> bool {
        self.mark.was_suspended()
    }

    /// Bytes of its suspended frames; 0 if it was suspended on a stack that is not ours to know: a library may have
    /// its callers run on another.
    pub(crate) fn depth(&self) -> usize {
        let (stack, at) = (self.stack_range(), self.mark.suspended_at());
        match stack.contains(&at) {
            true => stack.end - at,
            false => 0,
        }
    }

    /// Nothing of the suspended coroutine lies below this address.
    pub(crate) fn end_of_frames(&self) -> usize {
        self.mark.end_of_frames()
    }

    /// Tells addresses, where [`Still::sight`](crate::coroutine::Still::sight) tells pages.
    pub(in super::super) fn sighted(&self, sweep: Sweep) -> Sighting<Range<usize>> {
        self.mark.sight(sweep, &self.stack_range())
    }

    /// The stack's addresses, its guard page included.
    pub(crate) fn stack_range(&self) -> Range<usize> {
        self.bounds.range()
    }

    /// Owner: whether it got no stack, and runs only to drop what it owns.
    #[inline]
    pub(crate) fn is_refused(&self) -> bool {
        self.is_refused.get()
    }
}

impl Linked for Header {
    #[inline]
    fn links(&self) -> &Links<Self> {
        &self.live
    }
}

impl Chained for Header {
    #[inline]
    fn next(&self) -> &AtomicPtr<Self> {
        &self.next
    }
}

/// How many references to a task are counted: the runtime's, until it is complete, and one for each handle.
pub(super) struct References(AtomicU32);

impl References {
    /// Counts one more. As with `Arc`, references can be forgotten without end in safe code; long before the
    /// count could come round to zero the process ends.
    #[inline]
    pub(super) fn add(&self) {
        if self.0.fetch_add(1, Ordering::Relaxed) > Self::MOST {
            fenced::abort("two thousand million references to one coroutine");
        }
    }

    /// Whether that was the last.
    #[inline]
    pub(super) fn remove(&self) -> bool {
        // Release what this holder did; the last one acquires what all others did.
        let was_last = self.0.fetch_sub(1, Ordering::Release) == 1;
        if was_last {
            fence(Ordering::Acquire);
        }
        was_last
    }

    /// Leaves room for as many threads as there can be that find it exceeded at the same time.
    const MOST: u32 = i32::MAX as u32;
}

/// What is done with a task without knowing its types. Reached through the task's own header alone, so each is given
/// tasks of its own types.
pub(super) struct VTable {
    pub(super) run: fn(OwnStage),
    pub(super) fail: fn(OwnStage, Failure),
    pub(super) take: fn(OwnStage, *mut ()) -> Option<Failure>,
    pub(super) drop_result: fn(OwnStage) -> Unseen,
    pub(super) free: fn(OwnStage),
}

/// The right to a task's closure or result: its holder's until it has begun, the coroutine's until the result is
/// settled, the handle's from there on. Nobody else touches them meanwhile. Made in this folder alone.
pub(in super::super) struct OwnStage(pub(super) NonNull<Header>);

/// A coroutine whose wait was won, on whatever thread: it waits until it is resumed. Made in this folder alone.
pub(crate) struct Won(pub(super) NonNull<Header>);

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::{scheduler::current_task, stack::child};

    #[test]
    fn references_without_end_abort_and_do_not_come_round() {
        let test = "references_without_end_abort_and_do_not_come_round";
        let said = child::run(module_path!(), test, || {
            crate::run(|| {
                let task = current_task().unwrap();
                // As after so many `mem::forget(current.clone())`, which take some seconds.
                let count = &task.header().references.0;
                count.store(References::MOST, Ordering::Relaxed);
                let _last = task.clone();
                let _too_many = task.clone();
            });
        })
        .by_signal(libc::SIGABRT);
        assert!(said.contains("references to one coroutine"), "{said}");
    }
}
