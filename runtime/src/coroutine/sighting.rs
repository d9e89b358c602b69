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
