//! Why nobody got a connection.

use std::{error::Error, fmt};

use maniple::sync::AcquireError;

/// Why [`Connections::get`](super::Connections::get) has no connection.
#[derive(Debug)]
#[non_exhaustive]
pub enum GetError {
    /// None became free in time: by the pool's patience, or the deadline of the scope.
    Elapsed,
    /// The scope was cancelled.
    Cancelled,
    /// A new one could not be made.
    Connect(Box<dyn Error + Send + Sync>),
}

impl fmt::Display for GetError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            GetError::Elapsed => f.write_str("no connection in time"),
            GetError::Cancelled => f.write_str("the wait for a connection was cancelled"),
            GetError::Connect(error) => write!(f, "connect: {error}"),
        }
    }
}

impl Error for GetError {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        match self {
            GetError::Connect(error) => Some(&**error),
            _ => None,
        }
    }
}

impl From<AcquireError> for GetError {
    fn from(error: AcquireError) -> Self {
        match error {
            AcquireError::Elapsed => GetError::Elapsed,
            AcquireError::Closed | AcquireError::Cancelled => GetError::Cancelled,
        }
    }
}

impl From<maniple::cancel::Interrupt> for GetError {
    fn from(interrupt: maniple::cancel::Interrupt) -> Self {
        match interrupt {
            maniple::cancel::Interrupt::Elapsed => GetError::Elapsed,
            maniple::cancel::Interrupt::Cancelled => GetError::Cancelled,
        }
    }
}
