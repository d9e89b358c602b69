//! The end of a coroutine: its result goes to its handle, its locals and what nobody wants are dropped, its joiner is
//! woken, and it leaves its group.

use std::{io, task::Waker};

use super::task::{Header, Over, OwnStage};
use crate::{sys::fenced, waiter::Claimed};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// Runs the task's closure, up to the end of the user's code: on the coroutine's stack, or as a part of the caller.
#[inline]
pub(super) fn run(stage: &OwnStage) {
    stage.run();
    finish(stage, |_| {});
    if stage.header().waiter.has_stays() {
        ended_inside(stage.header());
    }
}

/// Hands the result to the handle, or drops it if that has been given up; drops the locals; wakes another
/// executor's task that awaits the end. All of that is the user's code, and the last of it: it runs on the
/// coroutine's stack, where it may wait, since the worker's own loop may not.
#[inline]
pub(super) fn finish(stage: &OwnStage, told: fn(io::Error)) {
    let header = stage.header();
    let over = header.locals.is_unused();
    let settled = header.completion.settle(over);
    if settled.detached || settled.awaited || !over {
        finish_for_others(stage, settled.detached, told);
    }
}

/// The second half of `finish`. `detached` was so when the result was settled: who detaches from then on drops it.
#[cold]
fn finish_for_others(stage: &OwnStage, detached: bool, told: fn(io::Error)) {
    let task = stage.header();
    let wake = || task.completion.waker_if_over().map(wake_fenced);
    wake();
    // The handle has given it up.
    if detached && let Some(error) = stage.drop_result() {
        told(error);
    }
    // What was made here must not be dropped elsewhere.
    task.locals.clear();
    task.completion.set_over();
    if wake().is_some() {
        task.locals.clear();
    }
}

/// Wakes another executor's task, which is anybody's code.
fn wake_fenced(waker: Waker) {
    fenced::call_or_tell(
        || "waking a coroutine's awaiter".to_owned(),
        || waker.wake(),
    );
}

/// Other code that switches stacks keeps one on which a scope of this coroutine was entered and not left. That
/// scope is in lists, and points to what goes now.
#[cold]
fn ended_inside(header: &Header) -> ! {
    fenced::abort(&format!(
        "{} ended while a stack that it had resumed was inside a timeout, shield, token's run or group",
        header.origin
    ));
}

/// Publishes the end of a task: wakes who joins it, leaves its group, drops the runtime's reference.
#[inline]
pub(super) fn complete(task: Over, mut ready: impl FnMut(Claimed)) {
    if let Some(joiner) = task.header().completion.finish() {
        ready(joiner);
    }
    // The last touch of what the task borrowed.
    task.leave_group(ready);
}

#[cfg(all(test, loom))]
mod loom_models {
    use std::task::{Wake, Waker};

    use loom::{alloc::Track, cell, sync::Arc, thread::spawn};

    use super::*;
    use crate::{
        coroutine::{TaskRef, make_free},
        loom::{AtomicU32, Ordering},
        scheduler::ready,
        stack::SizeClass,
        task::{join_task, origin},
        wait::Interruptible,
    };

    /// What the coroutine returns: loom finds it lost, dropped twice, or read before it was written.
    type Value = Track<cell::UnsafeCell<u32>>;

    /// A task whose body a thread of its own runs and completes, as its worker would, and its handle.
    fn run_beside() -> (loom::thread::JoinHandle<()>, TaskRef) {
        let body = || {
            let value = Track::new(cell::UnsafeCell::new(0));
            // SAFETY: nobody else has seen it.
            value.get_ref().with_mut(|value| unsafe { *value = 7 });
            value
        };
        let class = SizeClass::for_size(64 << 10).unwrap();
        let (task, handle) = make_free(body, origin(None, class));
        let worker = spawn(move || {
            task.run_here(ready);
        });
        (worker, handle)
    }

    fn take(handle: &TaskRef) -> u32 {
        // SAFETY: made with this type; complete; taken once.
        let value = unsafe { handle.take::<Value>() }.ok().expect("it has one");
        // SAFETY: it was given away.
        value.get_ref().with(|value| unsafe { *value })
    }

    #[test]
    fn loom_a_join_gets_the_value_whenever_the_coroutine_ends() {
        loom::model(|| {
            let (worker, handle) = run_beside();
            join_task(&handle, Interruptible::No).unwrap();
            assert_eq!(take(&handle), 7);
            drop(handle);
            worker.join().unwrap();
        });
    }

    /// Track reports a value that is leaked; loom an access to one that is gone.
    #[test]
    fn loom_a_value_whose_handle_is_dropped_is_dropped_once() {
        loom::model(|| {
            let (worker, handle) = run_beside();
            assert!(handle.detach().is_none());
            drop(handle);
            worker.join().unwrap();
        });
    }

    /// Others hold references, as `Current` does: the last one to be let go frees the task.
    #[test]
    fn loom_the_last_reference_frees_the_task_be_it_the_workers_or_anothers() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let (worker, handle) = run_beside();
            let other = handle.clone();
            let observer = spawn(move || drop(other));
            assert!(handle.detach().is_none());
            drop(handle);
            observer.join().unwrap();
            worker.join().unwrap();
        });
    }

    #[test]
    fn loom_an_awaiter_of_another_executor_is_woken_or_finds_the_end() {
        struct Flag(Arc<AtomicU32>);
        impl Wake for Flag {
            fn wake(self: std::sync::Arc<Self>) {
                self.0.fetch_add(1, Ordering::AcqRel);
            }
        }
        loom::model(|| {
            let (worker, handle) = run_beside();
            let woken = Arc::new(AtomicU32::new(0));
            let waker = Waker::from(std::sync::Arc::new(Flag(woken.clone())));
            if !handle.is_done_or_wakes(&waker) {
                worker.join().unwrap();
                assert_eq!(woken.load(Ordering::Acquire), 1);
                assert!(handle.is_done_or_wakes(&waker));
                assert_eq!(take(&handle), 7);
            } else {
                assert_eq!(take(&handle), 7);
                worker.join().unwrap();
            }
            drop(handle);
        });
    }
}
