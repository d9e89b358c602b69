//! A task's closure, until it runs, then its result: what the rest of the task does not know the type of.

use std::{
    cell::{Cell, UnsafeCell},
    mem::{ManuallyDrop, MaybeUninit},
    panic::{AssertUnwindSafe, catch_unwind},
    ptr::NonNull,
    time::Instant,
};

use super::{
    super::{
        origin::{Failure, Origin, Unseen},
        unstarted::Unstarted,
    },
    Own, TaskRef,
    header::{Header, OwnStage, VTable},
};
use crate::{
    error::{Interrupt, Unwind},
    stack::Stack,
    sys::{
        fenced,
        recycle::{self, Block, lines_for},
    },
    waiter::{Locals, Waiter},
};

/// This file, by which its frames are known in a backtrace.
pub(in super::super) const FILE: &str = file!();

/// One heap object: the header, which does not know the types, and behind it what does.
#[repr(C)]
struct Task<F, T> {
    header: Header,
    stage: Stage<F, T>,
}

/// Makes a task, on the heap, where it stays; returns it and the handle's reference.
///
/// # Safety
/// Whatever `F` and `T` borrow outlives the task's completion, and `T` is taken or dropped by its handle, or detached,
/// before that ends. The task runs on this thread, or both are `Send`.
pub(crate) unsafe fn make<F, T>(
    body: F,
    origin: Origin,
    stack: Option<Stack>,
    deadline: Option<Instant>,
    locals: Locals,
) -> (Unstarted, TaskRef)
where
    F: FnOnce() -> T,
{
    let task = room::<F, T>();
    let vtable = const {
        &VTable {
            run: run::<F, T>,
            fail: fail::<F, T>,
            take: take::<F, T>,
            drop_result: drop_result::<F, T>,
            free: free::<F, T>,
        }
    };
    let header = Header::new(vtable, origin, stack, deadline, locals);
    // SAFETY: fresh memory of the right layout, where the task stays for good; not shared yet. The parts are
    // written one by one, which spares the stack a copy of the closure. A header begins with two references.
    let (own, handle) = unsafe {
        let made = task.as_ptr();
        (&raw mut (*made).header).write(header);
        (&raw mut (*made).stage.slot).cast::<F>().write(body);
        (&raw mut (*made).stage.holds).write(Cell::new(Holds::Closure));
        Waiter::settle_in(task.cast());
        Own::with_handle(task.cast())
    };
    (Unstarted::new(own), handle)
}

/// Makes a task like [`make`], of what any thread may run, at any time.
pub(crate) fn make_free<F, T>(body: F, origin: Origin) -> (Unstarted, TaskRef)
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    // SAFETY: nothing is borrowed.
    unsafe { make(body, origin, None, None, Locals::new()) }
}

/// Room for a task, of which nothing is written.
#[inline(always)]
fn room<F, T>() -> NonNull<Task<F, T>> {
    match const { lines_for::<Task<F, T>>() } {
        Some(lines) => NonNull::from(Box::leak(recycle::take(lines))).cast(),
        None => NonNull::from(Box::leak(Box::<Task<F, T>>::new_uninit())).cast(),
    }
}

/// A closure, then its result. Either may be large beside a stack, so both are moved here and away directly, and not
/// with an enum around them, whose every move would be one more copy on the stack.
struct Stage<F, T> {
    holds: Cell<Holds>,
    slot: UnsafeCell<Contents<F, T>>,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Holds {
    Closure,
    /// It runs, or what was there was taken.
    Nothing,
    Value,
    Failure,
}

#[repr(C)]
union Contents<F, T> {
    closure: ManuallyDrop<F>,
    value: ManuallyDrop<T>,
    failure: ManuallyDrop<Failure>,
}

impl<F, T> Stage<F, T> {
    /// Where it holds what it holds: each field of the union has its address.
    #[inline(always)]
    fn slot<V>(&self) -> *mut V {
        self.slot.get().cast()
    }

    /// Keeps why there is no result, behind what it held, which is dropped.
    #[cold]
    fn fail(&self, failure: Failure) {
        self.clear();
        // SAFETY: there is room, and nothing is there.
        unsafe { self.slot::<Failure>().write(failure) };
        self.holds.set(Holds::Failure);
    }

    fn take_failure(&self) -> Option<Failure> {
        if self.holds.get() != Holds::Failure {
            return None;
        }
        self.holds.set(Holds::Nothing);
        // SAFETY: it was there, and is not any more.
        Some(unsafe { self.slot::<Failure>().read() })
    }

    /// Drops what it holds.
    fn clear(&self) {
        // SAFETY: the mark says what is there; it is dropped once, since the mark goes first.
        unsafe {
            match self.holds.replace(Holds::Nothing) {
                Holds::Closure => self.slot::<F>().drop_in_place(),
                Holds::Nothing => {}
                Holds::Value => self.slot::<T>().drop_in_place(),
                Holds::Failure => self.slot::<Failure>().drop_in_place(),
            }
        }
    }
}

impl<F, T> Drop for Stage<F, T> {
    fn drop(&mut self) {
        self.clear();
    }
}

/// The stage of a task that was made with these types.
#[inline(always)]
fn of<F, T>(own: &OwnStage) -> &Stage<F, T> {
    // SAFETY: there for as long as this, for that is what an `OwnStage` says. The functions below are reached by the
    // header's table alone, which `make` has paired with its types.
    &unsafe { own.pointer().cast::<Task<F, T>>().as_ref() }.stage
}

fn run<F: FnOnce() -> T, T>(own: OwnStage) {
    let stage = of::<F, T>(&own);
    let is_cancelled = own.header().waiter.own_scope().is_cancelled();
    let ended = catch_unwind(AssertUnwindSafe(|| {
        stage.holds.set(Holds::Nothing);
        // SAFETY: until now it held the closure, which is moved away once; there is room for the value.
        unsafe {
            let body = stage.slot::<F>().read();
            if is_cancelled {
                fenced::drop_value(
                    body,
                    "the closure of a coroutine that was cancelled before it ran",
                );
                return stage.fail(Failure::Interrupted(Interrupt::Cancelled));
            }
            stage.slot::<T>().write(body());
        }
        stage.holds.set(Holds::Value);
    }));
    if let Err(payload) = ended {
        stage.fail(match payload.downcast_ref::<Unwind>() {
            Some(Unwind::Cancelled) => Failure::Interrupted(Interrupt::Cancelled),
            Some(Unwind::Elapsed(_)) => Failure::Interrupted(Interrupt::Elapsed),
            None => Failure::Panicked(payload),
        });
    }
}

fn fail<F, T>(own: OwnStage, failure: Failure) {
    let stage = of::<F, T>(&own);
    fenced::call_or_tell(
        || "dropping the closure of a coroutine that never ran".to_owned(),
        || stage.clear(),
    );
    stage.fail(failure);
}

fn take<F, T>(own: OwnStage, into: *mut ()) -> Option<Failure> {
    let stage = of::<F, T>(&own);
    if stage.holds.get() == Holds::Value {
        stage.holds.set(Holds::Nothing);
        // SAFETY: it was there, and is not any more; by the promise at `TaskRef::take_into` there is room for it.
        unsafe { into.cast::<T>().copy_from_nonoverlapping(stage.slot(), 1) };
        return None;
    }
    let failure = stage.take_failure();
    failure.or(Some(Failure::Interrupted(Interrupt::Cancelled)))
}

fn drop_result<F, T>(own: OwnStage) -> Unseen {
    let stage = of::<F, T>(&own);
    match stage.take_failure() {
        Some(Failure::NoStack(error)) => return Some(error),
        Some(Failure::Interrupted(_)) => {}
        Some(Failure::Panicked(payload)) => {
            fenced::drop_value(payload, "the payload of a panic that nobody joined");
        }
        None if std::mem::needs_drop::<T>() => {
            let origin = &own.header().origin;
            fenced::call_or_tell(
                || format!("dropping the result of {origin}, which nobody joined,"),
                || stage.clear(),
            );
        }
        None => {}
    }
    None
}

fn free<F, T>(own: OwnStage) {
    let task = own.pointer().cast::<Task<F, T>>();
    // SAFETY: made in `make`, in what `room` leaked; nobody refers to it any more.
    unsafe {
        task.drop_in_place();
        match const { lines_for::<Task<F, T>>() } {
            Some(lines) => {
                let block = NonNull::slice_from_raw_parts(task.cast(), lines);
                recycle::give(Block::from_raw(block.as_ptr()));
            }
            None => drop(Box::<MaybeUninit<Task<F, T>>>::from_raw(
                task.cast().as_ptr(),
            )),
        }
    }
}
