//! The context switch: how a coroutine comes on its stack and off it.
//!
//! With the scheduler's ledger the only importer of corosensei.

use std::{
    arch::asm,
    cell::Cell,
    hint::unreachable_unchecked,
    num::NonZeroUsize,
    ptr::{self, NonNull},
};

use corosensei::{Coroutine, CoroutineResult, Yielder};

use crate::{stack::Stack, sys::trace::Trace};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// What runs a coroutine: its stack, and how far it has come.
///
/// Its owner's alone: the holder of what has not begun, then the thread where it has.
pub(super) struct Engine {
    state: Cell<State>,
    /// On the coroutine's own stack, once it has begun.
    yielder: Cell<*const Yielder<Visit, ()>>,
}

/// With a tag of its own, which is looked at each turn and cheaper to tell than a niche.
#[repr(u8)]
enum State {
    /// Not started; the stack is there if it was reserved at spawn.
    Unstarted(Option<Stack>),
    Started(Coroutine<Visit, (), (), Bound>),
    /// Its stack has been taken away.
    Ended,
}

/// Why a coroutine is resumed: to go on, or to say where it is and be suspended again.
type Visit = Option<NonNull<Trace>>;

impl Engine {
    pub(super) const fn new(reserved: Option<Stack>) -> Self {
        Self {
            state: Cell::new(State::Unstarted(reserved)),
            yielder: Cell::new(ptr::null()),
        }
    }

    /// Gives it the stack that it will run on.
    pub(super) fn reserve(&self, stack: Stack) {
        self.state.set(State::Unstarted(Some(stack)));
    }

    /// Whether no stack was reserved.
    #[inline]
    pub(super) fn needs_stack(&self) -> bool {
        // SAFETY: the owner's, who changes nothing meanwhile.
        matches!(unsafe { &*self.state.as_ptr() }, State::Unstarted(None))
    }

    /// Takes the stack that was reserved, if one was.
    #[inline]
    pub(super) fn take_reserved(&self) -> Option<Stack> {
        // SAFETY: the owner's, who changes nothing meanwhile.
        match unsafe { &mut *self.state.as_ptr() } {
            State::Unstarted(reserved) => reserved.take(),
            State::Started(_) | State::Ended => None,
        }
    }

    /// Makes the coroutine that will run `body`, on this thread alone.
    ///
    /// # Safety
    /// It was not started before and its reserved stack was taken. The engine stays where it is until it has ended.
    /// `body` does not unwind.
    #[inline(always)]
    pub(super) unsafe fn start(&self, stack: Stack, body: impl FnOnce() + 'static) {
        let own = NonNull::from(self);
        // SAFETY: whatever is borrowed outlives the coroutine, by the caller's promise; it is resumed here alone.
        let coroutine = unsafe {
            Coroutine::with_stack_unchecked(Bound(stack), move |yielder: &Yielder<Visit, ()>, _| {
                own.as_ref().yielder.set(yielder);
                body();
            })
        };
        // SAFETY: the owner's, who has nobody look at it meanwhile; nothing is there to be dropped.
        unsafe { self.state.as_ptr().write(State::Started(coroutine)) };
    }

    /// Runs the coroutine until it suspends or ends: then true.
    ///
    /// # Safety
    /// It was started on this thread, has not ended, and is not running.
    #[inline(always)]
    pub(super) unsafe fn resume(&self) -> bool {
        // SAFETY: this thread's, and the running coroutine itself does not touch it. It was started and has not ended,
        // by the caller's promise.
        let coroutine = unsafe {
            match &mut *self.state.as_ptr() {
                State::Started(coroutine) => coroutine,
                State::Unstarted(_) | State::Ended => unreachable_unchecked(),
            }
        };
        matches!(coroutine.resume(None), CoroutineResult::Return(()))
    }

    /// Takes the stack of a coroutine that has ended.
    ///
    /// # Panics
    /// If it has not.
    #[inline]
    pub(super) fn take_stack(&self) -> Option<Stack> {
        match self.state.replace(State::Ended) {
            State::Started(coroutine) => Some(coroutine.into_stack().0),
            State::Unstarted(_) | State::Ended => None,
        }
    }

    /// Leaves the coroutine's stack until it is resumed.
    ///
    /// # Safety
    /// It is the coroutine running on this thread.
    #[inline(always)]
    pub(super) unsafe fn suspend(&self) {
        // SAFETY: the yielder was set when the body began and lives on the coroutine's stack. A visitor waits
        // with the trace until this suspends again.
        unsafe {
            while let Some(mut trace) = (*self.yielder.get()).suspend(()) {
                walk(trace.as_mut());
            }
        }
    }

    /// Has a suspended coroutine write down its own frames.
    ///
    /// # Safety
    /// As for `resume`. It was suspended with room enough for that on its stack.
    pub(super) unsafe fn trace(&self, trace: &mut Trace) {
        // SAFETY: this thread's. A suspended coroutine that is visited touches nothing but the trace, and suspends
        // again.
        if let State::Started(coroutine) = unsafe { &mut *self.state.as_ptr() } {
            coroutine.resume(Some(NonNull::from(trace)));
        }
    }
}

/// A stack of ours in the terms of the context switch.
struct Bound(Stack);

// SAFETY: a `Stack` is exclusively owned, has a guard page at its low end, unless somebody vouched
// that no stack overflows, and nearly the smallest size class of usable memory above it.
unsafe impl corosensei::stack::Stack for Bound {
    #[inline]
    fn base(&self) -> NonZeroUsize {
        self.0.base()
    }

    #[inline]
    fn limit(&self) -> NonZeroUsize {
        self.0.limit()
    }
}

/// Adds the frames of the caller's stack, as far as there is room; zero marks the end of the outermost stack.
///
/// Takes no lock: naming frames, which holds the one of the library for seconds, must not hold up a worker.
#[inline(never)]
fn walk(trace: &mut Trace) {
    let add = |frame: &backtrace::Frame| {
        let address = frame.ip().addr();
        address != 0 && trace.add(address)
    };
    // SAFETY: the library's lock is for platforms whose walking is not safe on several threads at once. On Linux it is
    // the unwinder's, which keeps its state on the stack and reads what the loader shares without locks.
    unsafe { backtrace::trace_unsynchronized(add) };
}

/// The stack pointer of the function that this is inlined into, which moves it no more until it returns.
#[inline(always)]
pub(super) fn stack_pointer() -> usize {
    let pointer: usize;
    // SAFETY: reads a register and touches nothing.
    unsafe {
        #[cfg(target_arch = "x86_64")]
        asm!("mov {}, rsp", out(reg) pointer, options(nomem, nostack, preserves_flags));
        #[cfg(target_arch = "aarch64")]
        asm!("mov {}, sp", out(reg) pointer, options(nomem, nostack, preserves_flags));
    }
    pointer
}

#[inline]
pub(super) fn prefetch(address: *const u8) {
    #[cfg(target_arch = "x86_64")]
    // SAFETY: a prefetch does not fault, whatever the address.
    unsafe {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        _mm_prefetch::<_MM_HINT_T0>(address.cast());
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = address;
}
