//! The driver: what a worker waits with when no coroutine is ready.
//!
//! One per worker, used by its thread alone. It knows no coroutines: a waiter is an opaque
//! [`Token`] pointer that is handed back when its descriptor becomes ready. Today there is one kind,
//! [`epoll`]; the worker sees only what is re-exported here.

mod epoll;
mod read_predictor;
mod shared;

use std::ptr::NonNull;

pub(crate) use epoll::{Driver, Polled, Registrar, Slot};
pub(crate) use shared::Standby;

use crate::waiter::Waiter;

/// Who is told that a descriptor is ready.
pub(crate) type Token = NonNull<Waiter>;
