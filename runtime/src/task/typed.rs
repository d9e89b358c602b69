//! Tasks as they are made: with a name, the locals that they inherit, and a stack where it is reserved at once.

use std::{borrow::Cow, io, panic::Location, time::Instant};

use crate::{
    coroutine::{Origin, TaskRef, Unstarted, next_id},
    local,
    stack::{SizeClass, Stack},
    waiter::Locals,
};

/// A task, which begins with the locals that it inherits; its closure may borrow.
///
/// # Safety
/// The contract is that of [`TaskRef::new`].
#[track_caller]
#[inline]
pub(crate) unsafe fn make<F, T>(
    name: Option<Cow<'static, str>>,
    class: SizeClass,
    deadline: Option<Instant>,
    body: F,
) -> (Unstarted, TaskRef)
where
    F: FnOnce() -> T,
{
    // SAFETY: the caller's promise.
    unsafe { Unstarted::new(body, origin(name, class), None, deadline, local::bequest()) }
}

/// Makes a coroutine like [`make`], with its stack reserved now, by `reserve`. Its locals are handed in, since to clone
/// them may panic, and a stack would be lost.
///
/// # Safety
/// The contract is that of [`TaskRef::new`].
#[track_caller]
pub(crate) unsafe fn make_reserved<F, T>(
    name: Option<Cow<'static, str>>,
    class: SizeClass,
    deadline: Option<Instant>,
    body: F,
    locals: Locals,
    reserve: impl FnOnce() -> io::Result<Stack>,
) -> io::Result<(Unstarted, TaskRef)>
where
    F: FnOnce() -> T,
{
    let stack = Some(reserve()?);
    // SAFETY: the caller's promise.
    Ok(unsafe { Unstarted::new(body, origin(name, class), stack, deadline, locals) })
}

#[track_caller]
#[inline]
pub(crate) fn origin(name: Option<Cow<'static, str>>, class: SizeClass) -> Origin {
    Origin {
        id: next_id(),
        name,
        spawned_at: Location::caller(),
        class,
    }
}
