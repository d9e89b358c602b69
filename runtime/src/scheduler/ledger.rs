//! Panics laid aside: what makes `thread::panicking()` tell of the coroutine that asks.
//!
//! The standard library counts panics per thread: a guard asks the count whether to poison its lock, a
//! destructor whether it may panic. A coroutine that waits in a destructor while it unwinds would leave its count
//! to its neighbours. So the door lays the count aside with the coroutine that suspends, and takes it up again when
//! that one is resumed. Whenever a coroutine runs, the thread's count is its own, or zero.
//!
//! # How it works
//!
//! The count cannot be set, but it goes up where an unwinding begins and down where one is caught, on the thread
//! on which that happens. A *ledger* is a stack on which unwindings are under way, each begun in a destructor that
//! the one before runs. Resuming it, on whichever thread, catches the innermost, or begins another:
//!
//! ```text
//!   a thread that ends at once:   raise, raise, raise …   the ledger is full, and the thread's count is gone
//!   suspending while unwinding:   settle until the thread's count is zero
//!   being resumed:                raise as often
//! ```
//!
//! So the first coroutine that waits while it unwinds costs a thread that lives for some hundred microseconds, and
//! each such wait two microseconds. Ledgers are kept for the life of the process: what is under way on one can
//! neither be dropped nor be caught without a count to take it from. The process's own total is then never zero
//! again, by which the standard library answers faster: from there on the question costs six instructions more.
//!
//! Should that thread be refused, the count stays with the worker's thread until those who left it there have all
//! been resumed. Their neighbours are then taken for unwinding, as the standard library sees it.

use std::{
    hint::black_box,
    io,
    mem::{ManuallyDrop, take},
    num::NonZeroUsize,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    sync::{Mutex, PoisonError},
    thread,
};

use corosensei::{Coroutine, CoroutineResult, Yielder, stack::Stack};

use crate::sys::memory::Mapping;

/// The panics of a coroutine while it is suspended; to be taken up when it is resumed.
#[must_use = "a coroutine takes its panics up again"]
pub(super) enum Aside {
    /// So many, on ledgers.
    Laid(usize),
    /// For want of a ledger they stay with the thread.
    Left(Option<io::Error>),
}

/// One worker's ledgers.
pub(super) struct Ledgers {
    kept: Vec<Ledger>,
    /// Coroutines that were suspended and left the thread's count where it was.
    left: usize,
}

/// Ledgers of workers that have ended.
static SPARE: Mutex<Vec<Ledger>> = Mutex::new(Vec::new());

impl Ledgers {
    pub(super) const fn new() -> Self {
        Self {
            kept: Vec::new(),
            left: 0,
        }
    }

    /// Takes the calling thread's count down to zero.
    #[cold]
    pub(super) fn lay_aside(&mut self) -> Aside {
        if self.left > 0 {
            // The count may be another's, who will miss it.
            self.left += 1;
            return Aside::Left(None);
        }
        let mut laid = 0;
        while thread::panicking() {
            match self.one_with(|ledger| ledger.raised > 0) {
                Ok(ledger) => ledger.settle(),
                Err(error) => {
                    self.take_up(Aside::Laid(laid));
                    self.left += 1;
                    return Aside::Left(Some(error));
                }
            }
            laid += 1;
        }
        Aside::Laid(laid)
    }

    /// Puts a coroutine's count back, before it runs.
    #[cold]
    pub(super) fn take_up(&mut self, aside: Aside) {
        let Aside::Laid(laid) = aside else {
            self.left -= 1;
            return;
        };
        for _ in 0..laid {
            let roomy = |ledger: &&mut Ledger| ledger.raised < ledger.room;
            let ledger = self.kept.iter_mut().find(roomy);
            ledger.expect("what was laid aside here left room").raise();
        }
    }

    fn one_with(&mut self, fits: impl Fn(&Ledger) -> bool) -> io::Result<&mut Ledger> {
        let at = match self.kept.iter().position(&fits) {
            Some(at) => at,
            None => {
                let spare = {
                    let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
                    let at = spare.iter().position(&fits);
                    at.map(|at| spare.swap_remove(at))
                };
                let more = match spare {
                    Some(ledger) => ledger,
                    None => Ledger::full(FIRST << self.kept.len().min(DOUBLINGS))?,
                };
                self.kept.push(more);
                self.kept.len() - 1
            }
        };
        Ok(&mut self.kept[at])
    }
}

impl Drop for Ledgers {
    fn drop(&mut self) {
        let mut spare = SPARE.lock().unwrap_or_else(PoisonError::into_inner);
        spare.append(&mut take(&mut self.kept));
    }
}

/// Panics on a worker's first ledger; on later ones twice as many each, up to eight times.
const FIRST: usize = 64;
const DOUBLINGS: usize = 3;

/// Address space of a ledger. An unwinding takes less than 400 bytes of it while it is under way.
const STACK_SIZE: usize = 512 * 1024;

/// What stays free of that, for the unwinder itself.
const RESERVE: usize = 64 * 1024;

/// A stack with unwindings under way.
struct Ledger {
    /// Never dropped: that would unwind what unwinds.
    stack: ManuallyDrop<Coroutine<Entry, usize, (), OwnStack>>,
    limit: usize,
    raised: usize,
    room: usize,
}

// SAFETY: what is suspended on a ledger's stack are the frames of `serve`, `hold` and `Raised`, of corosensei,
// and of the standard library's `catch_unwind`. They hold a reference to that stack alone, and nothing of a
// thread: no lock, no address of a thread-local (see `hold`). The exceptions lie on the heap.
unsafe impl Send for Ledger {}

/// What a ledger is to do next.
#[derive(Clone, Copy)]
enum Entry {
    Raise,
    Settle,
}

impl Ledger {
    /// A ledger with up to `room` panics on it, which are none of this thread's.
    fn full(room: usize) -> io::Result<Ledger> {
        // Their count goes with the thread.
        let filling = thread::Builder::new()
            .name("maniple-ledger".into())
            .stack_size(64 * 1024)
            .spawn(move || {
                let mut ledger = Ledger::new(room)?;
                while ledger.raised < ledger.room {
                    ledger.raise();
                }
                Ok(ledger)
            })?;
        let filled = filling.join();
        filled.unwrap_or_else(|_| Err(io::Error::other("a ledger could not be filled")))
    }

    fn new(room: usize) -> io::Result<Ledger> {
        let stack = OwnStack::new()?;
        Ok(Ledger {
            limit: stack.limit().get(),
            stack: ManuallyDrop::new(Coroutine::with_stack(stack, serve)),
            raised: 0,
            room,
        })
    }

    /// Raises the calling thread's count by one.
    fn raise(&mut self) {
        let lowest = self.turn(Entry::Raise);
        self.raised += 1;
        if lowest - self.limit < RESERVE {
            self.room = self.raised;
        }
    }

    /// Lowers the calling thread's count, which is not zero, by one.
    fn settle(&mut self) {
        self.raised -= 1;
        self.turn(Entry::Settle);
    }

    /// Returns an address in its innermost frame.
    fn turn(&mut self, entry: Entry) -> usize {
        match self.stack.resume(entry) {
            CoroutineResult::Yield(lowest) => lowest,
            CoroutineResult::Return(()) => unreachable!("a ledger has no end"),
        }
    }
}

/// The ledger's own code. Between two entries it is suspended here, or in the innermost destructor.
fn serve(yielder: &Yielder<Entry, usize>, first: Entry) {
    let mut entry = first;
    loop {
        if let Entry::Raise = entry {
            hold(yielder);
        }
        entry = yielder.suspend(usize::MAX);
    }
}

/// Begins an unwinding and is suspended in it; returns once it has been caught.
///
/// The count goes up in `begin` and down in `catch_unwind`, maybe on another thread. Both compute their
/// thread-local's address anew, since they are calls of their own in a function without a loop.
#[inline(never)]
fn hold(yielder: &Yielder<Entry, usize>) {
    let caught = catch_unwind(AssertUnwindSafe(|| {
        let _raised = Raised(yielder);
        begin();
    }));
    drop(black_box(caught));
}

/// Without a message: no hook is called.
#[inline(never)]
fn begin() {
    resume_unwind(black_box(Box::new(())));
}

/// Whose destructor runs for as long as the unwinding is under way.
struct Raised<'a>(&'a Yielder<Entry, usize>);

impl Drop for Raised<'_> {
    fn drop(&mut self) {
        let mark = 0_u8;
        while let Entry::Raise = self.0.suspend((&raw const mark).addr()) {
            hold(self.0);
        }
    }
}

/// Memory of its own, as a ledger outlives every runtime.
struct OwnStack(Mapping);

impl OwnStack {
    fn new() -> io::Result<Self> {
        Mapping::reserve_guarded(STACK_SIZE).map(Self)
    }
}

// SAFETY: the mapping is this value's alone, and never unmapped. Its lowest page is a guard.
unsafe impl Stack for OwnStack {
    fn base(&self) -> NonZeroUsize {
        self.limit().saturating_add(self.0.length())
    }

    fn limit(&self) -> NonZeroUsize {
        self.0.start()
    }
}
