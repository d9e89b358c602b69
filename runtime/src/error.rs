//! How waits are cut short: the causes, as errors and as the private payload that unwinds.
//!
//! A deadline that has passed has three names, each where its readers look for it. [`Elapsed`] is the deadline of the
//! scope: `timeout` returns it, and errors of waits have a case of that name. `Timeout` is the limit of one call, as
//! crossbeam says it: `recv_timeout` and the like, which report the scope's deadline by it too. `TimedOut` is the kind
//! of [`io::Error`] that std has for it, by which all I/O reports both.

use std::{fmt, io, time::Instant};

/// The scope that the caller ran in was cancelled.
///
/// I/O reports it as an [`io::Error`] of kind [`Other`](io::ErrorKind::Other) that carries this
/// value; [`cancel::is_cancelled_error`](crate::cancel::is_cancelled_error) recognises it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Cancelled;

impl fmt::Display for Cancelled {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("cancelled")
    }
}

impl std::error::Error for Cancelled {}

/// The deadline of the enclosing [`timeout`](crate::timeout) or [`deadline`](crate::deadline), or
/// the timeout of the operation itself, passed first.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Elapsed;

impl fmt::Display for Elapsed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("deadline has passed")
    }
}

impl std::error::Error for Elapsed {}

/// Who, or what, cancelled a scope. The first cause stays, and is handed down to all scopes inside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
#[repr(u8)]
pub enum Cause {
    /// [`JoinHandle::cancel`](crate::JoinHandle::cancel) or [`Child::cancel`](crate::group::Child::cancel).
    Handle = 1,
    /// A [`CancelToken`](crate::cancel::CancelToken).
    Token,
    /// [`Group::cancel`](crate::group::Group::cancel).
    Group,
    /// The group's leader left its body with an error or a panic.
    Leader,
    /// Another child of the group failed or panicked.
    Sibling,
    /// A child of the group could not begin: no stack.
    NoStack,
    /// The end of the runtime.
    Shutdown,
    /// The one who asked for the work has gone.
    Disconnected,
}

impl Cause {
    pub(crate) const ALL: [Self; 8] = [
        Self::Handle,
        Self::Token,
        Self::Group,
        Self::Leader,
        Self::Sibling,
        Self::NoStack,
        Self::Shutdown,
        Self::Disconnected,
    ];
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Handle => "through its handle",
            Cause::Token => "by a token",
            Cause::Group => "with its group",
            Cause::Leader => "since its leader gave up",
            Cause::Sibling => "since a sibling failed",
            Cause::NoStack => "since a sibling got no stack",
            Cause::Shutdown => "by the shutdown of the runtime",
            Cause::Disconnected => "since the client that asked has gone",
        })
    }
}

/// Why a wait was cut short.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Interrupt {
    /// The scope was cancelled.
    Cancelled,
    /// The deadline passed.
    Elapsed,
}

impl fmt::Display for Interrupt {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Interrupt::Cancelled => Cancelled.fmt(f),
            Interrupt::Elapsed => Elapsed.fmt(f),
        }
    }
}

impl std::error::Error for Interrupt {}

impl From<Interrupt> for io::Error {
    #[cold]
    fn from(interrupt: Interrupt) -> Self {
        match interrupt {
            Interrupt::Cancelled => Cancelled.into(),
            Interrupt::Elapsed => Elapsed.into(),
        }
    }
}

impl From<Cancelled> for io::Error {
    #[cold]
    fn from(cancelled: Cancelled) -> Self {
        io::Error::other(cancelled)
    }
}

impl From<Elapsed> for io::Error {
    #[cold]
    fn from(elapsed: Elapsed) -> Self {
        io::Error::new(io::ErrorKind::TimedOut, elapsed)
    }
}

/// What unwinds a coroutine out of a wait that cannot return an error; never shown to the panic hook.
pub(crate) enum Unwind {
    Cancelled,
    /// The deadline that had passed, so that the scope which set it can recognise it.
    Elapsed(Instant),
}
