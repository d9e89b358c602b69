//! A waiter: a coroutine, or a plain thread that calls the same functions.
//!
//! It carries what every wait needs: the [`Claim`] that wakers race for, the innermost cancel
//! [`Scope`] and the deadline in force. The context is read and changed by its owner alone; the claim
//! and the scopes are shared.

mod claim;
mod cut;
#[cfg(feature = "fault-injection")]
pub(crate) mod fault;
mod locals;
mod parking;
mod scope;

use std::{
    cell::{Cell, OnceCell},
    fmt,
    os::fd::RawFd,
    ptr::NonNull,
    time::Instant,
};

use crate::{
    error::Cause,
    loom::{Thread, current_thread, thread_local},
};

pub(crate) use claim::{Claim, Outcome};
pub(crate) use cut::Cut;
pub(crate) use locals::{Heir, Local, Locals};
pub(crate) use parking::Parking;
pub(crate) use scope::{Scope, Target};

pub(crate) struct Waiter {
    pub(crate) claim: Claim,
    kind: Kind,
    own: Scope,
    current: Cell<NonNull<Scope>>,
    deadline: Cell<Option<Instant>>,
    /// How many stays in scopes and under deadlines it has begun and not ended.
    stays: Cell<u32>,
    /// When a wait of its own was cut short last, among the cuts of the process.
    cut: Cell<Cut>,
}

enum Kind {
    /// The waiter is the first field of a coroutine's header.
    Coroutine,
    Thread(Thread),
}

impl Waiter {
    /// A waiter that will be a coroutine's; [`Waiter::settle_in`] completes it in its final place.
    pub(crate) fn for_coroutine(deadline: Option<Instant>) -> Self {
        Self::new(Kind::Coroutine, deadline)
    }

    /// The calling thread's own: until the thread's last destructors have run.
    #[cold]
    pub(crate) fn of_thread() -> NonNull<Waiter> {
        // Without a destructor, so that it is there for those of other thread-locals.
        thread_local! {
            static WAITER: Cell<Option<NonNull<Waiter>>> = const { Cell::new(None) };
        }
        thread_local! {
            static OWNER: OnceCell<Owner> = const { OnceCell::new() };
        }
        /// Frees the waiter at the thread's end. One that is asked for after that is kept for good.
        struct Owner(NonNull<Waiter>);
        impl Drop for Owner {
            fn drop(&mut self) {
                let _there = WAITER.try_with(|waiter| waiter.set(None));
                // SAFETY: leaked below, and not freed yet.
                if unsafe { self.0.as_ref() }.has_stays() {
                    // Somebody keeps a stack on which a scope was entered and not left, and may cancel that one.
                    return;
                }
                // SAFETY: leaked below, freed here alone. The thread waits for nothing now, so it is in no list, and
                // its scope is in force nowhere.
                drop(unsafe { Box::from_raw(self.0.as_ptr()) });
            }
        }
        WAITER.with(|own| {
            if let Some(waiter) = own.get() {
                return waiter;
            }
            let made = Self::new(Kind::Thread(current_thread()), None);
            let waiter = NonNull::from(Box::leak(Box::new(made)));
            // SAFETY: just made; boxed, so it stays in place; nobody else has seen it.
            unsafe { Self::settle_in(waiter) };
            own.set(Some(waiter));
            let _owned = OWNER.try_with(|owner| _ = owner.set(Owner(waiter)));
            waiter
        })
    }

    fn new(kind: Kind, deadline: Option<Instant>) -> Self {
        Self {
            claim: Claim::new(),
            kind,
            own: Scope::new(Target::Nothing),
            current: Cell::new(NonNull::dangling()),
            deadline: Cell::new(deadline),
            stays: Cell::new(0),
            cut: Cell::new(Cut::NONE),
        }
    }

    /// Ties the waiter's own scope to it.
    ///
    /// # Safety
    /// `this` is valid, not yet shared, and stays where it is for the rest of its life.
    pub(crate) unsafe fn settle_in(this: NonNull<Waiter>) {
        // SAFETY: the caller has the only pointer.
        unsafe {
            let waiter = this.as_ptr();
            (*waiter).own.set_target(Target::Waiter(this));
            let own = NonNull::from(&(*waiter).own);
            (*waiter).current.set(own);
        }
    }

    #[inline]
    pub(crate) fn is_thread(&self) -> bool {
        matches!(self.kind, Kind::Thread(_))
    }

    /// The scope that stands for the waiter as a whole.
    #[inline]
    pub(crate) fn own_scope(&self) -> &Scope {
        &self.own
    }

    /// Owner: the innermost scope it is in.
    #[inline]
    pub(crate) fn current_scope(&self) -> NonNull<Scope> {
        self.current.get()
    }

    /// Owner: whether it is in no scope but its own, which for a plain thread nobody can cancel.
    pub(crate) fn is_in_own_scope(&self) -> bool {
        std::ptr::eq(self.current.get().as_ptr(), &self.own)
    }

    /// Owner: begins a stay that is to end before those around it; returns its number, from 1.
    #[inline]
    pub(crate) fn begin_stay(&self) -> u32 {
        let stay = self.stays.get() + 1;
        self.stays.set(stay);
        stay
    }

    /// Owner: ends the stay of that number; false if it is not the innermost.
    #[inline]
    pub(crate) fn end_stay(&self, stay: u32) -> bool {
        self.stays.replace(stay - 1) == stay
    }

    /// Owner: whether it is where it began, in its own scope.
    #[inline]
    pub(crate) fn has_stays(&self) -> bool {
        self.stays.get() != 0
    }

    /// Owner: enters or leaves a scope; returns the one it was in.
    ///
    /// # Safety
    /// `scope` stays valid until the waiter has been put back into the scope returned here.
    #[inline]
    pub(crate) unsafe fn replace_scope(&self, scope: NonNull<Scope>) -> NonNull<Scope> {
        self.current.replace(scope)
    }

    /// Owner: whether the innermost scope has been cancelled.
    #[inline]
    pub(crate) fn is_cancelled(&self) -> bool {
        self.innermost().is_cancelled()
    }

    /// Owner: why the innermost scope has been cancelled, if it has.
    pub(crate) fn cause(&self) -> Option<Cause> {
        self.innermost().cause()
    }

    /// Owner: the innermost scope, until it is left.
    #[inline]
    fn innermost(&self) -> &Scope {
        // SAFETY: `replace_scope` keeps the current scope valid.
        unsafe { self.current.get().as_ref() }
    }

    /// Owner: the deadline in force.
    #[inline]
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.deadline.get()
    }

    /// Owner: a wait was cut short, or not begun, since its scope was cancelled or past its deadline.
    #[cold]
    pub(crate) fn note_cut(&self) {
        self.cut.set(Cut::next());
    }

    /// Owner: whether one was after all that `since` counts.
    #[inline]
    pub(crate) fn was_cut_after(&self, since: Cut) -> bool {
        self.cut.get().is_after(since)
    }

    #[inline]
    pub(crate) fn replace_deadline(&self, deadline: Option<Instant>) -> Option<Instant> {
        self.deadline.replace(deadline)
    }

    /// Waker: tries to end the waiter's wait with `outcome`.
    ///
    /// # Safety
    /// `this` is alive: its node is linked in a list that the caller has locked, or its timer is
    /// armed on this thread, or the caller holds a reference to it.
    #[inline]
    pub(crate) unsafe fn claim(this: NonNull<Waiter>, outcome: Outcome) -> Option<Claimed> {
        // SAFETY: alive by the caller's promise.
        let waiter = unsafe { this.as_ref() };
        waiter
            .claim
            .win(outcome, waiter.is_thread())
            .then_some(Claimed(this))
    }
}

/// The one that waits for something to change, kept behind the lock of that.
///
/// It is taken out of there, and dropped, under that lock before its wait returns, unless it was claimed: that is what
/// the `forget` of each wait is for.
pub(crate) struct Armed(NonNull<Waiter>);

// SAFETY: the waiter behind the pointer is touched by the holder of the lock alone, while it waits.
unsafe impl Send for Armed {}

impl Armed {
    /// Arms `waiter`, which [`claim`](Self::claim) wakes from here on.
    #[inline]
    pub(crate) fn new(waiter: &Waiter, cancellable: bool) -> Self {
        waiter.claim.arm(cancellable);
        Self(NonNull::from(waiter))
    }

    /// Ends its wait, if nobody else has.
    #[inline]
    pub(crate) fn claim(self) -> Option<Claimed> {
        // SAFETY: it is in its wait, since this is taken away before that returns.
        unsafe { Waiter::claim(self.0, Outcome::Notified) }
    }
}

/// What a waiter waits for: the door asks for it, and dumps show it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reason {
    /// Its first turn.
    Start,
    Yield,
    Sleep,
    Park,
    Readable(RawFd),
    Writable(RawFd),
    Either(RawFd),
    Join(u64),
    Group,
    Lock,
    Condvar,
    Semaphore,
    Barrier,
    WaitGroup,
    Notify,
    Once,
    Watch,
    ChannelSend,
    ChannelRecv,
    Select,
    Offload,
    Future,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Reason::Start => f.write_str("its first turn"),
            Reason::Yield => f.write_str("its next turn"),
            Reason::Sleep => f.write_str("sleep"),
            Reason::Park => f.write_str("park"),
            Reason::Readable(fd) => write!(f, "descriptor {fd} to be readable"),
            Reason::Writable(fd) => write!(f, "descriptor {fd} to be writable"),
            Reason::Either(fd) => write!(f, "descriptor {fd} to be readable or writable"),
            Reason::Join(id) => write!(f, "coroutine {id} to end"),
            Reason::Group => f.write_str("the children of its group to end"),
            Reason::Lock => f.write_str("lock"),
            Reason::Condvar => f.write_str("condition variable"),
            Reason::Semaphore => f.write_str("semaphore"),
            Reason::Barrier => f.write_str("the others at a barrier"),
            Reason::WaitGroup => f.write_str("a wait group's members to be done"),
            Reason::Notify => f.write_str("notification"),
            Reason::Once => f.write_str("another's initialisation"),
            Reason::Watch => f.write_str("a watched value to change"),
            Reason::ChannelSend => f.write_str("channel send"),
            Reason::ChannelRecv => f.write_str("channel receive"),
            Reason::Select => f.write_str("select"),
            Reason::Offload => f.write_str("offloaded work"),
            Reason::Future => f.write_str("a future"),
        }
    }
}

/// A waiter whose wait has been won by the holder of this value, who owes it a `ready` call.
///
/// It cannot return from its wait before that, so the pointer stays valid.
#[must_use = "a claimed waiter sleeps for ever unless it is made ready"]
pub(crate) struct Claimed(NonNull<Waiter>);

// SAFETY: holding the claim is the exclusive right to wake the waiter, from any thread.
unsafe impl Send for Claimed {}

impl Claimed {
    /// The claim again, for a winner that has kept the waiter alone.
    ///
    /// # Safety
    /// The caller won the waiter's wait, and this stands in the place of the value it got then.
    #[inline]
    pub(crate) unsafe fn of(waiter: NonNull<Waiter>) -> Self {
        Self(waiter)
    }

    /// The coroutine to be queued, or `None` after waking a plain thread.
    #[inline]
    pub(crate) fn into_coroutine(self) -> Option<NonNull<Waiter>> {
        // SAFETY: a claimed waiter stays in its wait until made ready.
        match unsafe { &self.0.as_ref().kind } {
            Kind::Coroutine => Some(self.0),
            Kind::Thread(thread) => {
                // Once published the thread may return and end, so its handle is taken first.
                let thread = thread.clone();
                // SAFETY: not yet published, so the thread is still in its wait.
                unsafe { self.0.as_ref() }.claim.publish();
                thread.unpark();
                None
            }
        }
    }
}
