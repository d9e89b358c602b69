//! The door: how a waiter leaves its stack, and comes back.
//!
//! Every suspension in the runtime is [`suspend`] or [`yield_turn`]. A coroutine leaves for its worker's loop; a plain
//! thread, which has no other to go on, is blocked.

use std::{fmt, time::Instant};

use super::{Worker, now};
use crate::{
    coroutine::{Act, Alarm, Running, act, is_running},
    driver::sim,
    loom::{park, yield_now},
    sys::fenced,
    waiter::{Outcome, Reason, Waiter},
};

#[cfg(feature = "fault-injection")]
use crate::sys::planted::{Planted, is_planted};

/// This file, by which its frames are known in a backtrace.
pub(crate) const FILE: &str = file!();

/// Leaves the caller's stack, whose claim it has armed, until a waker claims it or `deadline` passes; says which.
///
/// Always inlined, like the waits over it: the switch leaves by a return and comes back by a call, so the
/// processor's own stack of return addresses is off by what lies between the switch and the caller, and each
/// return there is mispredicted, at some five nanoseconds.
#[inline(always)]
pub(crate) fn suspend(waiter: &Waiter, reason: Reason, deadline: Option<Instant>) -> Outcome {
    #[cfg(feature = "fault-injection")]
    crate::waiter::fault::at_the_door();
    act(Suspend {
        waiter,
        reason,
        deadline,
    })
}

struct Suspend<'a> {
    waiter: &'a Waiter,
    reason: Reason,
    deadline: Option<Instant>,
}

impl Act for Suspend<'_> {
    type Result = Outcome;

    #[inline(always)]
    fn act(self, running: Option<Running<'_>>) -> Outcome {
        let Self {
            waiter,
            reason,
            deadline,
        } = self;
        let Some(task) = running else {
            return suspend_thread(waiter, reason, deadline);
        };
        task.reason.set(reason);
        if let Some(deadline) = deadline {
            own_worker().set_alarm(task, deadline);
        }
        // With the panics that unwind the stack, if any.
        match unwinds() {
            false => task.leave(),
            true => own_worker().without_panics(|| task.leave()),
        }
        task.alarm.due.set(Alarm::NEVER);
        let outcome = waiter.claim.outcome();
        waiter.claim.settle();
        outcome.expect("the one that claimed a coroutine's wait has it resumed")
    }
}

/// Whether panics unwind the caller's stack, which leave with it.
#[inline(always)]
fn unwinds() -> bool {
    let unwinds = std::thread::panicking();
    #[cfg(feature = "fault-injection")]
    let unwinds = unwinds && !is_planted(Planted::PanicsStayWithTheThread);
    unwinds
}

fn own_worker() -> &'static Worker {
    Worker::current().expect("a coroutine runs on a worker")
}

#[cold]
fn suspend_thread(waiter: &Waiter, reason: Reason, deadline: Option<Instant>) -> Outcome {
    may_block_thread(&reason);
    loop {
        if let Some(outcome) = waiter.claim.outcome() {
            waiter.claim.settle();
            return outcome;
        }
        if waiter.claim.is_being_claimed() {
            yield_now();
            continue;
        }
        match deadline {
            None => park(),
            Some(deadline) => {
                let left = deadline.saturating_duration_since(now());
                if left.is_zero() {
                    if waiter.claim.disarm() {
                        return Outcome::TimedOut;
                    }
                } else {
                    std::thread::park_timeout(left);
                }
            }
        }
    }
}

/// Held against before the caller's thread is blocked: a worker's own, between two coroutines, must not be.
///
/// The little code of a user's that runs there, a logger or another library's waker, would stop all
/// coroutines of the worker, among them most likely the one that it waits for. So the process is ended,
/// and says why.
pub(crate) fn may_block_thread(what: &dyn fmt::Display) {
    if Worker::current().is_some() && !is_running() {
        nothing_waits_here(what);
    }
}

#[cold]
fn nothing_waits_here(what: &dyn fmt::Display) -> ! {
    let thread = std::thread::current();
    let worker = thread.name().unwrap_or("maniple");
    let text = format!(
        "{what} was waited for on the worker {worker} itself, outside of its coroutines, which could never go on; \
         have whatever runs there (a logger, a waker) pass its work to a coroutine or a thread"
    );
    if let Some(world) = sim::current() {
        // A failure of the seed, which says how to see it again.
        world.stop(text);
    }
    fenced::abort(&text);
}

/// Suspends a plain thread whose wait `Thread::unpark` may end, too, and the system for no reason: then `None`.
#[cold]
pub(crate) fn suspend_parked_thread(waiter: &Waiter, deadline: Option<Instant>) -> Option<Outcome> {
    may_block_thread(&Reason::Park);
    if waiter.claim.outcome().is_none() && !waiter.claim.is_being_claimed() {
        match deadline {
            None => park(),
            Some(at) => std::thread::park_timeout(at.saturating_duration_since(now())),
        }
    }
    if waiter.claim.disarm() {
        let is_over = deadline.is_some_and(|at| at <= now());
        return is_over.then_some(Outcome::TimedOut);
    }
    // Claimed, so this does not wait.
    Some(suspend_thread(waiter, Reason::Park, None))
}

/// The other side of the door: to the back of the ready queue. Plain threads yield to the system. False on a
/// worker's own thread, which cannot.
#[inline(always)]
pub(crate) fn yield_turn() -> bool {
    act(Yield)
}

struct Yield;

impl Act for Yield {
    type Result = bool;

    #[inline(always)]
    fn act(self, running: Option<Running<'_>>) -> bool {
        let Some(task) = running else {
            let is_plain = Worker::current().is_none();
            if is_plain {
                yield_now();
            }
            return is_plain;
        };
        let worker = own_worker();
        #[cfg(feature = "fault-injection")]
        crate::waiter::fault::at_the_door();
        debug_assert!(task.waiter.claim.is_idle(), "it would be woken in between");
        task.reason.set(Reason::Yield);
        match unwinds() {
            false => task.give_way(|next| worker.push_ready(next)),
            true => worker.without_panics(|| task.give_way(|next| worker.push_ready(next))),
        }
        true
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{net::UdpSocket, os::fd::AsFd, time::Duration};

    use crate::{config::Config, scheduler::Scheduler, stack::child};

    fn on_a_workers_own_thread(wait: fn()) {
        let config = Config {
            workers: 1,
            ..Config::default()
        };
        let scheduler = Scheduler::start(config).unwrap();
        scheduler.run_on_worker(0, Box::new(move |_| wait()));
        std::thread::park_timeout(Duration::from_secs(60));
    }

    macro_rules! waits_that_end_the_process {
        ($($test:ident: $wait:expr, $reason:literal;)*) => { $(
            #[test]
            fn $test() {
                let wait = || on_a_workers_own_thread(|| _ = $wait);
                let ended = child::run(module_path!(), stringify!($test), wait);
                let line = ended.by_signal(libc::SIGABRT);
                let start = concat!($reason, " was waited for on the worker maniple-0 itself");
                assert!(line.contains(start) && line.contains("pass its work to"), "{line}");
            }
        )* };
    }

    waits_that_end_the_process! {
        to_sleep_on_a_workers_own_thread_ends_the_process:
            crate::sleep(Duration::from_secs(60)), "maniple: sleep";
        to_park_on_a_workers_own_thread_ends_the_process:
            crate::park(), "maniple: park";
        to_yield_on_a_workers_own_thread_ends_the_process:
            crate::yield_now(), "maniple: its next turn";
        to_offload_on_a_workers_own_thread_ends_the_process:
            crate::offload(|| ()), "maniple: offloaded work";
        to_lead_on_a_workers_own_thread_ends_the_process:
            crate::group(|g| { g.spawn(|| ()); Ok::<_, ()>(()) }), "the children of its group to end";
        to_wait_for_a_descriptor_on_a_workers_own_thread_ends_the_process:
            crate::net::wait_readable(UdpSocket::bind("127.0.0.1:0").unwrap().as_fd()),
            "to be readable";
    }
}
