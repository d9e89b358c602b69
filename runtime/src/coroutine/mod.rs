//! One coroutine: what it is made of, how it is resumed and suspended, and how it ends.
//!
//! A spawned closure is one heap object: a [`Header`] that does not know the closure's type, then the closure, which
//! is replaced by its result. A stack is bound only when it first runs and is given back when it ends.
//!
//! Inside it is a *task*, to users a *coroutine*; its first part is the [`Waiter`](crate::waiter::Waiter) that
//! everything which blocks knows it by.
//!
//! # Who may touch what
//!
//! The types tell, in the order of a task's life:
//!
//! | type | whose it is |
//! |---|---|
//! | [`Unstarted`] | its holder's alone, who may take it to any worker |
//! | those of `begun` | this thread's, where it has begun: its engine, mark, alarm, links and waiter's context |
//! | [`TaskRef`] | anybody's: the waiter's claim and scopes, `completion` and the count of references |
//!
//! `next` belongs to the thread that has claimed the wait. The count of references is one for the runtime, until the
//! task is complete, and one for each handle.

mod alarm;
mod begun;
mod completion;
mod ending;
mod gate;
mod home;

mod origin;
mod remote;
mod sighting;
mod switch;
mod task;
mod timed;
mod unstarted;

pub(crate) use alarm::Alarm;
pub(crate) use begun::{
    Act, Ready, Running, Still, TOP, Timed, WaiterAct, act, current_waiter, is_running, on_running,
    on_waiter,
};
pub(crate) use gate::{Gate, Looks, looks};
pub(crate) use home::{Home, Host, send_home};
pub(crate) use origin::{Failure, Name, Origin, Yields, next_id};
pub(crate) use remote::Remote;
pub(crate) use sighting::{Sighting, Sweep};
pub(crate) use task::{
    Header, Record, TaskRef, Won,
    stage::{make, make_free},
};
pub(crate) use timed::{Fired, arm_again, fire, set_alarm};
pub(crate) use unstarted::{Refused, Unstarted};

/// The files by which a coroutine's way in and out is known in a backtrace.
pub(crate) const FILES: [&str; 6] = [
    switch::FILE,
    task::stage::FILE,
    begun::FILE,
    home::FILE,
    unstarted::FILE,
    ending::FILE,
];
