//! How a call ended: codes, their words and their details.

use std::{error::Error, fmt, io};

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use maniple::cancel::is_cancelled_error;
use maniple_server::BodyError;
use percent_encoding::{AsciiSet, CONTROLS, percent_decode, percent_encode};

use crate::{base64, metadata::Metadata};

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $number:literal, $word:literal;)*) => {
        /// What a call came to, by gRPC's numbers.
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
    details: Vec<u8>,
    metadata: Metadata,
}

impl Status {
    /// One with some words for who reads it.
    pub fn new(code: Code, message: impl Into<String>) -> Self {
        Self(Box::new(Parts {
            code,
            message: message.into(),
            details: Vec::new(),
            metadata: Metadata::new(),
        }))
    }

    /// The same with details: an encoded `google.rpc.Status`, as is usual.
    pub fn with_details(mut self, details: impl Into<Vec<u8>>) -> Self {
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

    /// The details, encoded.
    pub fn details(&self) -> &[u8] {
        &self.0.details
    }

    /// The fields that came with it.
    pub fn metadata(&self) -> &Metadata {
        &self.0.metadata
    }

    /// What an error of I/O means for a call.
    pub(crate) fn of_io(error: &io::Error) -> Self {
        if is_cancelled_error(error) {
            return Self::new(Code::Cancelled, "the call was cancelled");
        }
        let body = error.get_ref().and_then(|inner| inner.downcast_ref());
        let code = match body {
            Some(BodyError::Disconnected) => Code::Cancelled,
            Some(BodyError::TooLarge { .. }) => Code::ResourceExhausted,
            _ => match error.kind() {
                io::ErrorKind::TimedOut => Code::DeadlineExceeded,
                io::ErrorKind::ConnectionReset | io::ErrorKind::BrokenPipe => Code::Cancelled,
                io::ErrorKind::ConnectionRefused
                | io::ErrorKind::ConnectionAborted
                | io::ErrorKind::NotConnected => Code::Unavailable,
                _ => Code::Internal,
            },
        };
        Self::new(code, error.to_string())
    }

    /// Of an answer that is none of gRPC's (`http-grpc-status-mapping.md` there).
    pub(crate) fn of_http(status: StatusCode) -> Self {
        let code = match status.as_u16() {
            400 => Code::Internal,
            401 => Code::Unauthenticated,
            403 => Code::PermissionDenied,
            404 => Code::Unimplemented,
            429 | 502..=504 => Code::Unavailable,
            _ => Code::Unknown,
        };
        Self::new(code, format!("HTTP status {}", status.as_u16()))
    }

    /// Writes it as fields.
    pub(crate) fn write(&self, fields: &mut HeaderMap) {
        self.0.metadata.write(fields);
        fields.insert(&STATUS, HeaderValue::from(self.0.code as u16));
        if !self.0.message.is_empty() {
            let text = percent_encode(self.0.message.as_bytes(), ESCAPED).to_string();
            if let Ok(value) = HeaderValue::from_str(&text) {
                fields.insert(&MESSAGE, value);
            }
        }
        if !self.0.details.is_empty() {
            let text = base64::encode(&self.0.details);
            if let Ok(value) = HeaderValue::from_str(&text) {
                fields.insert(&DETAILS, value);
            }
        }
    }

    /// What fields behind an answer say; none if they say nothing.
    pub(crate) fn read(fields: &HeaderMap) -> Option<Result<(), Self>> {
        let status = fields.get(&STATUS)?;
        if status == "0" {
            return Some(Ok(()));
        }
        let number = status.to_str().ok().and_then(|text| text.parse().ok());
        let code = number.map_or(Code::Unknown, Code::from_number);
        if code == Code::Ok {
            return Some(Ok(()));
        }
        let message = fields
            .get(&MESSAGE)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        let details = fields
            .get(&DETAILS)
            .map(HeaderValue::as_bytes)
            .unwrap_or_default();
        Some(Err(Self(Box::new(Parts {
            code,
            message: percent_decode(message).decode_utf8_lossy().into_owned(),
            details: base64::decode(details).unwrap_or_default(),
            metadata: Metadata::of(fields.clone()),
        }))))
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

/// How a call ended, behind its answer or in place of one.
pub(crate) static STATUS: HeaderName = HeaderName::from_static("grpc-status");
/// That all is well.
pub(crate) static OK: HeaderValue = HeaderValue::from_static("0");
static MESSAGE: HeaderName = HeaderName::from_static("grpc-message");
static DETAILS: HeaderName = HeaderName::from_static("grpc-status-details-bin");

/// What is not a printable character of ASCII, and the escape itself.
const ESCAPED: &AsciiSet = &CONTROLS.add(b'%');

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_comes_through_fields_as_it_went_in() {
        let message = "\t\ntest with whitespace\r\nand Unicode BMP ☺ and non-BMP 😈 100%\t\n";
        for details in [&b""[..], b"\x00\xff", b"abc"] {
            let status = Status::new(Code::NotFound, message).with_details(details);
            let mut fields = HeaderMap::new();
            status.write(&mut fields);
            let read = Status::read(&fields).unwrap().unwrap_err();
            assert_eq!((read.code(), read.message()), (Code::NotFound, message));
            assert_eq!(read.details(), details);
        }
    }

    #[test]
    fn numbers_that_nobody_knows_are_unknown() {
        for (text, code) in [
            ("5", Code::NotFound),
            ("17", Code::Unknown),
            ("x", Code::Unknown),
        ] {
            let mut fields = HeaderMap::new();
            fields.insert(&STATUS, HeaderValue::from_static(text));
            assert_eq!(Status::read(&fields).unwrap().unwrap_err().code(), code);
        }
        assert!(Status::read(&HeaderMap::new()).is_none());
    }
}
