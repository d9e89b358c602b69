//! The body of a request: how far it has been read, how fast it comes, and what can be wrong with it.

#![deny(clippy::arithmetic_side_effects)]

use std::{io, time::Duration};

use http::{HeaderMap, StatusCode};
use maniple::{cancel::is_cancelled_error, time::Elapsed};

use crate::{
    http1::{chunk::Decoder, head::Framing},
    problem::Problem,
    response::{IntoResponse, Response},
};

/// What a body may take.
#[derive(Clone, Copy, Debug)]
pub(crate) struct BodyLimits {
    /// In bytes.
    pub(crate) length: u64,
    /// How long it may stall.
    pub(crate) stall: Duration,
    /// Whether answers may come before the final one.
    pub(crate) interim: bool,
    /// Bytes a second that it must come with in the long run, beyond one stall: or clients that send a byte now and then
    /// could hold any number of handlers.
    pub(crate) slowest: u64,
    /// Bytes of chunks' extensions and of trailers.
    pub(crate) overhead: usize,
}

/// How far the body has been read.
#[derive(Debug)]
pub(crate) enum BodyState {
    /// The client waits for `100 Continue` before it sends any of it.
    Expected(Framing),
    Length(u64),
    Chunked(Decoder),
    /// It comes by itself; of so many bytes as are left, if its length was told.
    Apart(Option<u64>),
    Done,
    /// Where the next request begins is unknown.
    Broken,
}

/// Why a body could not be read; as a response, the status that fits.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BodyError {
    /// It is longer than the server allows (413).
    #[error("request body is larger than {limit} bytes")]
    TooLarge {
        /// The server's limit in bytes.
        limit: u64,
    },
    /// Its chunks' extensions and its trailers are longer than the server allows (431).
    #[error("extensions and trailers of the request body are longer than {limit} bytes")]
    OverheadTooLarge {
        /// The server's limit in bytes.
        limit: usize,
    },
    /// Its framing is invalid (400).
    #[error("malformed request body: {reason}")]
    Malformed {
        /// What is wrong with it.
        reason: &'static str,
    },
    /// It stopped coming (408).
    #[error("request body did not come in time")]
    Timeout,
    /// The client closed before its end.
    #[error("connection closed within the request body")]
    Disconnected,
    /// It is not the JSON that was expected (400).
    #[error("request body is not valid JSON: {0}")]
    Json(serde_json::Error),
    /// The connection failed, or the handler was cancelled.
    #[error("reading the request body: {0}")]
    Io(io::Error),
}

impl BodyError {
    /// What a failed read of the connection means for the body.
    pub(crate) fn from_read(error: io::Error) -> Self {
        if is_cancelled_error(&error) {
            return BodyError::Io(error);
        }
        match error.kind() {
            io::ErrorKind::TimedOut
                if error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()) =>
            {
                BodyError::Timeout
            }
            io::ErrorKind::ConnectionReset => BodyError::Disconnected,
            _ => BodyError::Io(error),
        }
    }

    /// As its client is told.
    pub(crate) fn into_problem(self) -> Problem {
        Problem::new(self.status(), self.to_string())
    }

    /// The status to answer with.
    pub fn status(&self) -> StatusCode {
        match self {
            BodyError::TooLarge { .. } => StatusCode::PAYLOAD_TOO_LARGE,
            BodyError::OverheadTooLarge { .. } => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            BodyError::Timeout => StatusCode::REQUEST_TIMEOUT,
            _ => StatusCode::BAD_REQUEST,
        }
    }
}

impl IntoResponse for BodyError {
    fn into_response(self) -> Response {
        self.into_problem().into_response()
    }
}

impl From<BodyError> for io::Error {
    fn from(error: BodyError) -> Self {
        match error {
            BodyError::Io(error) => error,
            BodyError::Timeout => io::Error::new(io::ErrorKind::TimedOut, error),
            BodyError::Disconnected => io::Error::new(io::ErrorKind::UnexpectedEof, error),
            error => io::Error::new(io::ErrorKind::InvalidData, error),
        }
    }
}

impl BodyState {
    /// Whether the end of the body is known and may be near: else what follows cannot be told from it.
    #[inline]
    pub(crate) fn can_end(&self) -> bool {
        match self {
            BodyState::Done | BodyState::Chunked(_) => true,
            BodyState::Length(left) => *left <= MAX_DISCARD,
            // It would come only if it were asked for.
            BodyState::Expected(_) | BodyState::Broken => false,
            // Nothing follows it.
            BodyState::Apart(_) => false,
        }
    }

    /// As it begins, within the limits.
    pub(crate) fn started(framing: Framing, limits: &BodyLimits) -> Self {
        match framing {
            Framing::None => BodyState::Done,
            Framing::Length(length) => BodyState::Length(length),
            Framing::Chunked => BodyState::Chunked(Decoder::new(limits.length, limits.overhead)),
        }
    }
}

/// What reads a body that travels in a coding.
pub(crate) trait Decode: Send {
    /// Reads some of what is in the body, into a buffer that is not empty; 0 at its end. `raw` reads of what travels.
    fn read(
        &mut self,
        raw: &mut dyn FnMut(&mut [u8]) -> Result<usize, BodyError>,
        buffer: &mut [u8],
    ) -> Result<usize, BodyError>;
}

/// A request that does not share its connection's bytes with others, since the protocol keeps them apart.
pub(crate) trait Apart: Send {
    /// Reads some of the body, into a buffer that is not empty; 0 at its end. How long it may wait is `patience`.
    fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, BodyError>;

    /// Sends an answer before the final one.
    fn inform(&self, status: StatusCode, headers: &HeaderMap) -> io::Result<()>;

    /// The fields behind the body, once that has been read.
    fn trailers(&self) -> HeaderMap;
}

/// How fast a body comes.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// Bytes that were waited for, and for how long in all.
    pub(crate) received: u64,
    pub(crate) awaited: Duration,
    /// Nobody wants it any more.
    hurry: bool,
    /// It may take as long as it likes.
    pub(crate) pauses: bool,
}

impl Pace {
    /// For what is only read away.
    pub(crate) fn of_discarding() -> Self {
        Self {
            hurry: true,
            ..Self::default()
        }
    }

    /// How long to wait for more: as long as a stall may be, but bytes that trickle buy little time.
    pub(crate) fn patience(&self, limits: &BodyLimits) -> Duration {
        let stall = limits.stall;
        if self.pauses && !self.hurry {
            return FOREVER;
        }
        if self.hurry {
            return stall.min(DISCARD_TIME).saturating_sub(self.awaited);
        }
        let Some(seconds) = self.received.checked_div(limits.slowest) else {
            return stall;
        };
        let earned = Duration::from_secs(seconds);
        stall.min(stall.saturating_add(earned).saturating_sub(self.awaited))
    }
}

/// In place of a time that never comes.
const FOREVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);

/// Of a body that its handler has not read, so much is read away, within so much time.
pub(crate) const MAX_DISCARD: u64 = 256 * 1024;
const DISCARD_TIME: Duration = Duration::from_secs(1);
