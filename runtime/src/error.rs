//! How waits are cut short: the causes, as errors and as the private payload that unwinds.

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
