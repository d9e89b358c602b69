//! What the caller and the thread share about one job: how far it is, and what it inherits.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind, resume_unwind},
    time::Instant,
};

use crate::{
    cancel::{CancelToken, Cancelled, Cause, Interrupt},
    scheduler::on_waiter,
    stay,
    sys::fenced,
    wait::{self, Interruptible, Node, QUEUE, Reason, Waited, Waiters, ready},
    waiter::Waiter,
};

pub(super) struct Ticket<T> {
    /// And the caller, once it waits.
    state: Waiters<State<T>>,
    /// Cancelled if the caller was.
    token: CancelToken,
    deadline: Option<Instant>,
}

/// What becomes of a job that has begun when its caller's wait is cut.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Begun {
    /// The caller goes on without it.
    IsLeft,
    /// The caller waits for it all the same.
    IsAwaited,
}

/// A wait for a job was cut.
#[derive(Debug)]
pub(super) struct Cut {
    pub(super) error: io::Error,
    /// The job had begun, and was left to itself.
    pub(super) was_running: bool,
}

enum State<T> {
    Queued,
    Running,
    /// It runs, and nobody waits for it any more.
    Left,
    /// It has run, and its result is about to be there.
    Ending,
    Done(Result<T, Box<dyn Any + Send>>),
    /// Taken, or withdrawn before it began.
    Gone,
}

impl<T> Ticket<T> {
    /// For a job of the calling waiter.
    pub(super) fn new() -> Self {
        Self {
            state: Waiters::new(State::Queued),
            token: CancelToken::new(),
            deadline: on_waiter(Waiter::deadline),
        }
    }

    /// Thread: runs the job, unless it was withdrawn, and wakes who waits for it; before, calls `free`.
    pub(super) fn work(&self, job: impl FnOnce() -> T, free: &mut dyn FnMut(bool)) {
        {
            let mut state = self.state.lock();
            match *state {
                State::Queued => *state = State::Running,
                _ => return,
            }
        }
        let result = catch_unwind(AssertUnwindSafe(|| self.inheriting(job)))
            .and_then(|ended| ended.map_err(|cancelled| Box::new(cancelled) as Box<_>));
        let was_left = {
            let mut state = self.state.lock();
            let was_left = matches!(*state, State::Left);
            if !was_left {
                *state = State::Ending;
            }
            was_left
        };
        if was_left {
            // What came too late ends here, a file is closed: only then is the thread free, whatever that takes.
            fenced::drop_value(result, "what an offloaded job brought too late");
            free(true);
            return;
        }
        free(false);
        let claimed = {
            let mut state = self.state.lock();
            *state = State::Done(result);
            state.notify_one(QUEUE)
        };
        if let Some(claimed) = claimed {
            ready(claimed);
        }
    }

    /// `Err` if the job's own wait was cut by the caller's cancellation: then nobody waits for the result.
    fn inheriting(&self, job: impl FnOnce() -> T) -> Result<T, Cancelled> {
        self.token.run(|| {
            // The caller's, and no other.
            stay::under_deadline(|_| self.deadline, job)
        })
    }

    /// Caller: waits for the result.
    pub(super) fn wait(&self, begun: Begun) -> Result<T, Cut> {
        let mut interruptible = Interruptible::Yes;
        loop {
            let state = self.state.lock();
            if matches!(*state, State::Done(_)) {
                drop(state);
                return Ok(self.take());
            }
            let mut node = Node::new(());
            let waited = state.wait(
                QUEUE,
                &mut node,
                Reason::Offload,
                None,
                interruptible,
                |_, _| {},
            );
            match waited {
                Waited::AtOnce | Waited::Notified => return Ok(self.take()),
                Waited::Interrupted(interrupt) => match self.leave(interrupt, begun) {
                    Some(was_running) => {
                        return Err(Cut {
                            error: interrupt.into(),
                            was_running,
                        });
                    }
                    None => interruptible = Interruptible::No,
                },
                Waited::TimedOut | Waited::Again => {}
            }
        }
    }

    /// Withdraws the job, or leaves it to itself, and says whether it runs; `None` if its result is to be had or
    /// awaited.
    fn leave(&self, interrupt: Interrupt, begun: Begun) -> Option<bool> {
        let mut state = self.state.lock();
        match *state {
            State::Queued => {
                *state = State::Gone;
                return Some(false);
            }
            State::Running if begun == Begun::IsLeft => *state = State::Left,
            _ => return None,
        }
        drop(state);
        // A passed deadline the job sees for itself.
        if interrupt == Interrupt::Cancelled {
            let cause = wait::cause().unwrap_or(Cause::Token);
            self.token.cancel_as(cause);
        }
        Some(true)
    }

    fn take(&self) -> T {
        let state = std::mem::replace(&mut *self.state.lock(), State::Gone);
        match state {
            State::Done(Ok(value)) => value,
            State::Done(Err(payload)) => resume_unwind(payload),
            _ => unreachable!("notified only when done"),
        }
    }
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{alloc::Track, cell::UnsafeCell, sync::Arc, thread::spawn};

    use super::*;
    use crate::scheduler::current_waiter;

    type Value = Track<UnsafeCell<u32>>;

    fn seven() -> Value {
        let value = Track::new(UnsafeCell::new(0));
        // SAFETY: nobody else has seen it.
        value.get_ref().with_mut(|value| unsafe { *value = 7 });
        value
    }

    fn read(value: &Value) -> u32 {
        // SAFETY: it was given away.
        value.get_ref().with(|value| unsafe { *value })
    }

    #[test]
    fn loom_the_caller_gets_the_result_whenever_the_job_ends() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(3);
        model.check(|| {
            let ticket = Arc::new(Ticket::new());
            let theirs = ticket.clone();
            let thread = spawn(move || theirs.work(seven, &mut |_| {}));
            assert_eq!(read(&ticket.wait(Begun::IsLeft).unwrap()), 7);
            thread.join().unwrap();
        });
    }

    /// The caller's cancellation meets the job before, in or after its run: its result comes, or is dropped.
    #[test]
    fn loom_a_caller_that_is_cancelled_withdraws_the_job_or_leaves_it() {
        let mut model = loom::model::Builder::new();
        model.preemption_bound = Some(2);
        model.check(|| {
            let ticket = Arc::new(Ticket::new());
            let theirs = ticket.clone();
            let thread = spawn(move || theirs.work(seven, &mut |_| {}));
            let owner = current_waiter().as_ptr() as usize;
            let canceller = spawn(move || {
                // SAFETY: the model's own thread waits for this one to end.
                let owner = unsafe { &*(owner as *const Waiter) };
                owner
                    .own_scope()
                    .cancel(Cause::Handle, &mut |claimed| ready(claimed));
            });
            if let Ok(value) = ticket.wait(Begun::IsLeft) {
                assert_eq!(read(&value), 7);
            }
            canceller.join().unwrap();
            thread.join().unwrap();
        });
    }
}
