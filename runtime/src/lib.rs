//! A stackful-coroutine server runtime: write the handler as if it had a thread to itself, run a
//! million of them.
//!
//! Every blocking call here suspends the coroutine that makes it, or blocks the plain thread that
//! makes it: there is no `async`, and functions have no colour. Coroutines are run by a few worker
//! threads over epoll, each on a stack of its own with a guard page, and never change threads once
//! they have begun.
//!
//! ```
//! use std::time::Duration;
//!
//! fn fetch(name: &str) -> String {
//!     maniple::sleep(Duration::from_millis(10));
//!     format!("{name}'s page")
//! }
//!
//! let (a, b) = maniple::run(|| maniple::join!(fetch("Ann"), fetch("Bob")));
//! assert_eq!((a.as_str(), b.as_str()), ("Ann's page", "Bob's page"));
//! ```
//!
//! # Where to look
//!
//! - [`spawn`], [`JoinHandle`]: coroutines of their own; with a name or a stack size by [`task::Builder`].
//! - [`run`], [`Runtime`]: to start; with settings by [`Runtime::builder`].
//! - [`group`](group()) and [`join!`]: children that borrow from their leader and end before it;
//!   [`group::race`], [`group::map`] and others beside them: the usual ways to wait for several calls.
//! - [`timeout`], [`deadline`], [`cancel`]: bounds and cancellation, inherited by groups.
//! - [`coroutine_local!`]: a value for each coroutine.
//! - [`block_on`], and awaiting a [`JoinHandle`]: the border to `async` code.
//! - [`net`], [`io`], [`sync`], [`time`]: what blocks. [`offload`](offload()): for what cannot suspend;
//!   [`fs`] uses it.
//!
//! # What cancellation does
//!
//! In a cancelled scope, or past its deadline, each wait is cut short. One that can return an error
//! returns it; one that cannot unwinds to the scope's edge, running destructors. See [`cancel`].

#![deny(missing_docs)]
// Allowed behind the fence, at the modules below; ARCHITECTURE.md has the rooms and the reason for each.
#![cfg_attr(not(loom), deny(unsafe_code))]
#![cfg_attr(loom, allow(dead_code, unused_imports))]

#[cfg(not(all(
    target_os = "linux",
    any(target_arch = "x86_64", target_arch = "aarch64")
)))]
compile_error!("maniple runs on Linux on x86-64 and aarch64 only");

mod config;
#[allow(unsafe_code)]
mod coroutine;
mod driver;
mod error;
#[cfg(feature = "fault-injection")]
mod faults;
mod idle;
mod inbox;
mod loom;
#[allow(unsafe_code)]
mod scheduler;
#[allow(unsafe_code)]
mod stack;
#[allow(unsafe_code)]
mod stay;
#[allow(unsafe_code)]
mod waiter;
#[allow(unsafe_code)]
mod sys {
    pub(crate) mod event;
    mod exchange;
    pub(crate) mod fenced;
    pub(crate) mod handler;
    pub(crate) mod later;
    pub(crate) mod list;
    pub(crate) mod memory;
    pub(crate) mod overflow;
    mod own_memory;
    #[cfg(feature = "fault-injection")]
    pub(crate) mod planted;
    pub(crate) mod recycle;
    pub(crate) mod socket;
    pub(crate) mod spin;
    pub(crate) mod thread_trace;
    pub(crate) mod trace;
    mod unwind;
}
#[allow(unsafe_code)]
mod wait;
mod wheel;

pub mod cancel;
pub mod drain;
pub mod fs;
pub mod future;
pub mod group;
#[doc(hidden)]
pub mod hook;
pub mod inspect;
pub mod io;
pub mod local;
pub mod log_limit;
pub mod net;
pub mod offload;
pub mod panics;
pub mod process;
pub mod runtime;
pub mod signal;
pub mod sim;
pub mod sync;
pub mod task;
pub mod time;

pub use future::block_on;
pub use group::group;
pub use offload::offload;
pub use runtime::{Runtime, run};
pub use task::{
    Current, Id, JoinError, JoinHandle, current, park, park_timeout, spawn, spawn_local, yield_now,
};
pub use time::{deadline, sleep, sleep_until, timeout};
