//! How a call ended: codes and words.

use std::{error::Error, fmt, io};

use bytes::Bytes;
use maniple::cancel::is_cancelled_error;

use crate::metadata::Metadata;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// What a call came to, by the numbers that gRPC gives them.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum Code {
            $($(#[$doc])* $name = $number,)*
        }

        impl Code {
            /// That of a number; [`Code::Unknown`] where there is none.
            pub fn from_number(number: u32) -> Self {
                match number {
                    $($number => Code::$name,)*
                    _ => Code::Unknown,
                }
            }

            /// Its name, as others write it.
            pub fn name(self) -> &'static str {
                match self {
                    $(Code::$name => $word,)*
                }
            }
        }
    };
}

codes! {
    /// All is well.
    Ok = 0, "OK";
    /// The call was given up.
    Cancelled = 1, "CANCELLED";
    /// Nobody knows better.
    Unknown = 2, "UNKNOWN";
    /// What was asked makes no sense.
    InvalidArgument = 3, "INVALID_ARGUMENT";
    /// It took too long.
    DeadlineExceeded = 4, "DEADLINE_EXCEEDED";
    /// There is no such thing.
    NotFound = 5, "NOT_FOUND";
    /// There is one already.
    AlreadyExists = 6, "ALREADY_EXISTS";
    /// The caller may not.
    PermissionDenied = 7, "PERMISSION_DENIED";
    /// Something is used up, or too large.
    ResourceExhausted = 8, "RESOURCE_EXHAUSTED";
    /// Not as things are.
    FailedPrecondition = 9, "FAILED_PRECONDITION";
    /// Somebody else was there at the same time.
    Aborted = 10, "ABORTED";
    /// Behind the end.
    OutOfRange = 11, "OUT_OF_RANGE";
    /// There is no such method.
    Unimplemented = 12, "UNIMPLEMENTED";
    /// Something is broken.
    Internal = 13, "INTERNAL";
    /// Nobody is there; another try may find somebody.
    Unavailable = 14, "UNAVAILABLE";
    /// Something is lost for good.
    DataLoss = 15, "DATA_LOSS";
    /// Who asks is not known.
    Unauthenticated = 16, "UNAUTHENTICATED";
}

/// Why a call has no success.
#[derive(Clone, Debug)]
pub struct Status(Box<Parts>);

/// Behind one pointer, since every call may return it.
#[derive(Clone, Debug)]
struct Parts {
    code: Code,
    message: String,
    details: Bytes,
    metadata: Metadata,
    may_have_run: bool,
}

impl Status {
    /// One with some words for who reads it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            message: message.into(),
            details: Bytes::new(),
            metadata: Metadata::new(),
            may_have_run: false,
        }))
    }

    /// The same with details: bytes that the two ends agree on.
    pub fn with_details(mut self, details: impl Into<Bytes>) -> Self {
        self.0.details = details.into();
        self
    }

    /// The same with fields that travel with it.
    pub fn with_metadata(mut self, metadata: Metadata) -> Self {
        self.0.metadata = metadata;
        self
    }

    /// What it came to.
    pub fn code(&self) -> Code {
        self.0.code
    }

    /// The words.
    pub fn message(&self) -> &str {
        &self.0.message
    }

    /// The details.
    pub fn details(&self) -> &Bytes {
        &self.0.details
    }

    /// The fields that came with it.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// Whether the server may have carried the call out, in whole or in part, without its answer having come: the
    /// connection was lost, or the caller waited no longer. `false` for what a server has answered, and for calls that no
    /// server has looked at, which may be made again whatever they do.
    pub fn may_have_been_executed(&self) -> bool {
        self.0.may_have_run
    }

    pub(crate) fn unsure(mut self) -> Self {
        self.0.may_have_run = true;
        self
    }

    /// What an error of a wait means for a call.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        if is_cancelled_error(error) {
            return Self::new(Code::Cancelled, "the call was cancelled");
        }
        match error.kind() {
            io::ErrorKind::ConnectionAborted => Self::new(Code::Cancelled, "the call was given up"),
            io::ErrorKind::TimedOut => Self::new(Code::DeadlineExceeded, "the deadline has passed"),
            _ => Self::new(Code::Unavailable, error.to_string()),
        }
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.0.code.name())?;
        match self.0.message.is_empty() {
            true => Ok(()),
            false => write!(f, ": {}", self.0.message),
        }
    }
}

impl Error for Status {}
