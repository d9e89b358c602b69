//! Sightings: where a coroutine was suspended, and which of its stack's pages it does not need meanwhile.
//!
//! A suspension notes its stack pointer, in a word whose lowest bits are free: a sweep over those that wait notes
//! there that it has seen this one. The next suspension overwrites it. So that a coroutine did not run between two
//! sweeps is known without any work of its own: the *second chance* of page replacement.

use std::{cell::Cell, ops::Range, ptr};

use super::switch::{prefetch, stack_pointer};
use crate::{stack::Stack, sys::memory::page_size};

/// Where a coroutine's stack pointer was when it was last suspended, and which sweep has found it there. Zero before.
pub(super) struct Mark(Cell<usize>);

impl Mark {
    pub(super) const fn new() -> Self {
        Self(Cell::new(0))
    }

    /// Notes the stack pointer of the function that this is inlined into, which is about to suspend.
    #[inline(always)]
    pub(super) fn note(&self) {
        self.0.set(stack_pointer());
    }

    /// Has the next sweeps look at its pages again: something was written there, though it did not run.
    pub(super) fn forget_sightings(&self) {
        self.0.set(self.suspended_at());
    }

    pub(super) fn was_suspended(&self) -> bool {
        self.0.get() != 0
    }

    /// The stack pointer that it was suspended with.
    #[inline]
    pub(super) fn suspended_at(&self) -> usize {
        self.0.get() & !SIGHTINGS
    }

    /// Nothing of the suspended coroutine lies below this address.
    pub(super) fn end_of_frames(&self) -> usize {
        self.suspended_at() - SWITCH_BYTES
    }

    /// What a sweep finds here, and leaves for the next to find. `stack` is the coroutine's.
    pub(super) fn sight(&self, sweep: Sweep, stack: &Range<usize>) -> Sighting<Range<usize>> {
        let note = |seen| self.0.set(self.suspended_at() | seen);
        match self.0.get() & SIGHTINGS {
            DONE => Sighting::Done,
            seen if seen != 0 && seen != sweep as usize => {
                note(DONE);
                Sighting::Again(self.below_frames(stack))
            }
            _ => {
                note(sweep as usize);
                Sighting::First
            }
        }
    }

    /// The whole pages between the guard and the suspended frames: nothing lives there until it is resumed.
    /// None if it was suspended on another stack.
    fn below_frames(&self, stack: &Range<usize>) -> Range<usize> {
        let from = stack.start + page_size();
        if !stack.contains(&self.suspended_at()) {
            return from..from;
        }
        let to = self.end_of_frames() & !(page_size() - 1);
        from..to.max(from)
    }

    /// Asks the processor for the lines of the stack that resuming it will touch first.
    #[inline]
    pub(super) fn prefetch(&self) {
        let lowest = ptr::without_provenance::<u8>(self.suspended_at());
        for line in 0..STACK_LINES_AHEAD {
            prefetch(lowest.wrapping_add(line * 64));
        }
    }
}

/// Where a coroutine's stack lies: from its guard to where it begins. Empty before it has one.
pub(super) struct Bounds {
    limit: Cell<usize>,
    base: Cell<usize>,
}

impl Bounds {
    pub(super) const fn none() -> Self {
        Self {
            limit: Cell::new(0),
            base: Cell::new(0),
        }
    }

    #[inline]
    pub(super) fn set(&self, stack: &Stack) {
        self.limit.set(stack.limit().get());
        self.base.set(stack.base().get());
    }

    pub(super) fn range(&self) -> Range<usize> {
        self.limit.get()..self.base.get()
    }
}

/// One of two sweeps that follow each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub(crate) enum Sweep {
    Odd = 1,
    Even = 2,
}

impl Sweep {
    pub(crate) fn next(self) -> Sweep {
        match self {
            Sweep::Odd => Sweep::Even,
            Sweep::Even => Sweep::Odd,
        }
    }
}

/// What a sweep found of a suspended coroutine.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Sighting<Pages> {
    /// It has run since the sweep before, or this sweep has seen it already.
    First,
    /// It has been suspended since the sweep before. These pages hold nothing of it, and will be told of this once.
    Again(Pages),
    /// It has been suspended since its pages were told of.
    Done,
}

impl<Pages> Sighting<Pages> {
    pub(super) fn map<P>(self, pages: impl FnOnce(Pages) -> P) -> Sighting<P> {
        match self {
            Sighting::First => Sighting::First,
            Sighting::Again(told) => Sighting::Again(pages(told)),
            Sighting::Done => Sighting::Done,
        }
    }
}

/// The bits of a mark that are not the stack pointer's, which is a multiple of 8 at the least; a third value
/// beside those of [`Sweep`].
const SIGHTINGS: usize = 3;
const DONE: usize = 3;

/// More than lies below the frame that notes its stack pointer, once the switch is done: the frame of corosensei's
/// `suspend`, where it is not inlined, and the registers that are saved.
pub(super) const SWITCH_BYTES: usize = 1024;

/// What a suspended operation's innermost frames take.
const STACK_LINES_AHEAD: usize = 6;

#[cfg(all(test, not(loom)))]
mod tests {
    use std::rc::Rc;

    use super::{
        super::begun::{Ready, on_running},
        super::task::Header,
        *,
    };
    use crate::{Runtime, scheduler::Worker, spawn_local, yield_now};

    type Next = Rc<Cell<Option<Ready>>>;

    /// Runs `body` with a coroutine that is suspended at its bare switch, and goes on in each turn.
    fn with_suspended(body: impl FnOnce(&Next) + Send) {
        let builder = Runtime::builder().workers(1).idle_trim(None);
        builder.build().unwrap().run(|| {
            let (next, ended) = (Next::default(), Rc::new(Cell::new(false)));
            let (place, end) = (next.clone(), ended.clone());
            let suspended = spawn_local(move || {
                while !end.get() {
                    on_running(|own| own.unwrap().give_way(|turn| place.set(Some(turn))));
                }
            });
            yield_now();
            body(&next);
            ended.set(true);
            turn(&next);
            suspended.join().unwrap();
        });
    }

    /// Lets it run to its next switch.
    fn turn(next: &Next) {
        let next = next.take().expect("it is suspended");
        Worker::current().unwrap().push_ready(next);
        yield_now();
    }

    fn look<R>(next: &Next, look: impl FnOnce(&Header) -> R) -> R {
        let suspended = next.take().expect("it is suspended");
        let seen = look(&suspended);
        next.set(Some(suspended));
        seen
    }

    #[test]
    fn a_switch_touches_nothing_further_below_than_is_taken_for_it() {
        with_suspended(|next| {
            let (stack, depth) = look(next, |task| (task.stack_range(), task.depth()));
            let end = stack.end - depth - SWITCH_BYTES;
            let dead = stack.start + page_size()..end;
            let bytes = |at| ptr::with_exposed_provenance_mut::<u8>(at);
            // SAFETY: the coroutine is suspended, and this is below its frames and above its guard.
            unsafe { bytes(dead.start).write_bytes(0xa5, dead.len()) };
            for _ in 0..3 {
                turn(next);
            }
            if cfg!(feature = "sanitizer") {
                // Told of the switch, it runs there itself, and has returned when the switch is done.
                return;
            }
            // SAFETY: as above.
            let touched = dead.rev().find(|at| unsafe { *bytes(*at) } != 0xa5);
            assert_eq!(touched.map(|at| end - at), None, "bytes below");
        });
    }

    #[test]
    fn a_coroutine_is_sighted_twice_before_its_pages_are_told_of_and_then_once() {
        with_suspended(|next| {
            let depth = look(next, Header::depth);
            let sight = |sweep| look(next, |task| task.sighted(sweep));
            for _ in 0..2 {
                assert_eq!(sight(Sweep::Odd), Sighting::First);
                assert_eq!(sight(Sweep::Odd), Sighting::First);
                turn(next);
                assert_eq!(sight(Sweep::Even), Sighting::First);
                let Sighting::Again(dead) = sight(Sweep::Odd) else {
                    panic!("it did not run in between");
                };
                let stack = look(next, Header::stack_range);
                assert_eq!(dead.start, stack.start + page_size());
                assert!(dead.end.is_multiple_of(page_size()));
                assert!(dead.end < stack.end - depth);
                assert!(dead.end + page_size() + SWITCH_BYTES > stack.end - depth);
                assert_eq!(sight(Sweep::Even), Sighting::Done);
                assert_eq!(sight(Sweep::Odd), Sighting::Done);
                assert_eq!(look(next, Header::depth), depth);
                turn(next);
            }
        });
    }
}
