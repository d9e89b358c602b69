//! Waits for calls that know nothing of coroutines: what `maniple-hook` is built on. Not for others, and no part of
//! what versions promise.
//!
//! Nothing here unwinds or logs: a caller may be in the middle of C, or of an allocator. What need not wait does not
//! allocate, and a wait does for the first use of a descriptor's number alone; `look_up` does each time.

use std::{
    hint::black_box,
    io,
    os::fd::{AsRawFd, BorrowedFd},
    ptr::NonNull,
    time::Instant,
};

use crate::{
    coroutine::{is_running, on_running},
    driver::sim,
    error::Interrupt,
    offload,
    scheduler::{self, Worker, current_waiter},
    wait::{self, Interruptible, Reason, Waited},
};

/// Whether the caller is a coroutine. The one question that every hooked call asks.
#[inline(always)]
pub fn is_coroutine() -> bool {
    is_running()
}

/// Whether the coroutine may wait where it is: on its own stack, where a handler of signals is not that has one of its
/// own; and for the kernel, not in a simulated world.
pub fn may_wait() -> bool {
    let here = 0_u8;
    let here = black_box(&raw const here).addr();
    let on_own_stack =
        on_running(|task| task.is_some_and(|task| task.stack_range().contains(&here)));
    on_own_stack && !(sim::is_any() && sim::current().is_some())
}

/// How a wait ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Ended {
    /// Something may have come: look again.
    Ready,
    /// This has come for the one descriptor that was waited for, as poll(2) would say.
    Came(u32),
    /// The call's own time is over.
    TimedOut,
    /// By a cancellation, or the deadline of a scope.
    Cut(Interrupt),
    /// The kernel cannot watch one of the descriptors, for that reason (errno).
    Refused(i32),
}

/// Whether the call may begin: in a scope that is cancelled or past its deadline it may not.
///
/// # Errors
/// [`Interrupt`] if it may not.
#[inline]
pub fn check() -> Result<(), Interrupt> {
    wait::check()
}

/// Counts a call that had no need to wait, and gives way to others when there were many.
#[inline]
pub fn spend() {
    wait::spend();
}

/// The clock that waits go by.
#[inline]
pub fn now() -> Instant {
    scheduler::now()
}

/// Suspends the coroutine until one of the descriptors has one of the events beside it (poll(2)), or maybe for nothing.
/// Without descriptors, it waits for `until` alone.
pub fn wait_for<'fd>(
    fds: impl Iterator<Item = (BorrowedFd<'fd>, u32)> + Clone,
    until: Option<Instant>,
) -> Ended {
    let Some(worker) = Worker::of_coroutine() else {
        return Ended::Ready;
    };
    let reason = match fds.clone().next() {
        Some((fd, events)) if events & READ == 0 && events & WRITE != 0 => {
            Reason::Writable(fd.as_raw_fd())
        }
        Some((fd, events)) if events & READ != 0 && events & WRITE != 0 => {
            Reason::Either(fd.as_raw_fd())
        }
        Some((fd, _)) => Reason::Readable(fd.as_raw_fd()),
        None => Reason::Sleep,
    };
    let waiter = current_waiter();
    let forget = || {
        worker.with_driver(|driver| {
            fds.clone()
                .for_each(|(fd, _)| driver.forget_lent(fd, waiter));
        });
    };
    let mut refused = None;
    let arm = |waiter: &_| {
        let own = NonNull::from(waiter);
        let watched = worker.with_driver(|driver| {
            fds.clone()
                .try_for_each(|(fd, events)| driver.watch_lent(fd, events, own))
        });
        if let Err(errno) = watched {
            refused = Some(errno.raw_os_error());
            return false;
        }
        waiter.claim.arm(true);
        true
    };
    match wait::wait(reason, until, Interruptible::Yes, arm, forget) {
        Waited::AtOnce => {
            forget();
            refused.map_or(Ended::Ready, Ended::Refused)
        }
        Waited::Notified => {
            let mut of = fds.clone();
            if let (Some((fd, _)), None) = (of.next(), of.next()) {
                // Handed back, it is nowhere else.
                return match worker.with_driver(|driver| driver.came_lent(fd)) {
                    0 => Ended::Ready,
                    came => Ended::Came(came),
                };
            }
            // One place has handed it back; it must not stay in the others.
            forget();
            Ended::Ready
        }
        Waited::Again => Ended::Ready,
        Waited::TimedOut => Ended::TimedOut,
        Waited::Interrupted(interrupt) => Ended::Cut(interrupt),
    }
}

const READ: u32 = libc::POLLIN as u32;
const WRITE: u32 = libc::POLLOUT as u32;

/// Suspends the coroutine until then, whatever is cancelled meanwhile.
pub fn sleep_until(at: Instant) {
    let sleep = || {
        wait::wait(
            Reason::Sleep,
            Some(at),
            Interruptible::No,
            |waiter| {
                waiter.claim.arm(true);
                true
            },
            || {},
        )
    };
    while sleep() == Waited::Again {}
}

/// Looks a name up on the threads that are there for it.
///
/// # Errors
/// If the queue is full, no thread could be started, or the wait was cut short.
pub fn look_up<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    offload::look_up(job)
}

/// Makes a call on a file on the threads for files, and returns once it has ended, whatever is cancelled meanwhile:
/// what it was lent, its caller has again.
///
/// # Errors
/// If it was not made: it may not begin, the queue is full, or no thread could be started.
pub fn call_on_file<T, F>(call: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    offload::file_whole(call)
}

/// Makes a call like [`call_on_file`], whose wait may be cut: the call is left behind then, and what it brings is
/// dropped.
///
/// # Errors
/// Those of that, and if the wait was cut.
pub fn call_on_file_leaving<T, F>(call: F) -> io::Result<T>
where
    F: FnOnce() -> T + Send + 'static,
    T: Send + 'static,
{
    offload::file_leaving(call, &mut false)
}
