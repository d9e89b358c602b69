//! A response as the client's caller sees it.

#![deny(clippy::arithmetic_side_effects)]

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, StatusCode, Version, header::CONTENT_LENGTH};
use maniple::time::now;
use serde::de::DeserializeOwned;

use super::{
    error::ClientError,
    phase::Phase,
    shared::{Decoding, Shared},
    source::Source,
};
use crate::{
    body::{BodyError, Decode},
    http1::{
        chunk::{self, Step},
        reply::{Ending, Reply},
        response::append_any_trailer,
    },
};

/// An answer: status and header fields, and a body that is read as it comes.
///
/// The connection is used again once the body has come to its end. Dropped before that, or after an
/// error, it is closed; over HTTP/2 the request is given up, and the connection goes on.
///
/// A server may answer before it has received the whole request. The rest of it is sent while the response's body is
/// read, and no more once that has ended or the response is dropped: then the connection is closed.
pub struct ClientResponse {
    status: StatusCode,
    headers: HeaderMap,
    ending: Ending,
    keep_alive: bool,
    /// The lines behind a body in chunks.
    trailers: Vec<u8>,
    /// Until the body has come to its end.
    source: Option<Source>,
    version: Version,
    host: Arc<str>,
    /// Where redirects have led to.
    pub(super) url: Option<Box<str>>,
    /// What reads a body that travels in a coding.
    decoder: Option<Box<dyn Decode>>,
    /// By when the body is to have come.
    until: Option<Instant>,
    shared: Arc<Shared>,
}

/// Room for a part of a body whose length is not known, and more than what is set aside for one that
/// is only claimed.
const PART: usize = 4 * 1024;
const MAX_CLAIMED: u64 = 256 * 1024;

impl ClientResponse {
    pub(super) fn new(reply: Reply, source: Source, shared: Arc<Shared>) -> Self {
        let mut response = Self {
            status: reply.status,
            headers: reply.headers,
            ending: reply.ending,
            keep_alive: reply.keep_alive,
            trailers: Vec::new(),
            host: source.host().clone(),
            version: match source {
                Source::Http1(_) => Version::HTTP_11,
                Source::Http2(_) => Version::HTTP_2,
            },
            source: Some(source),
            url: None,
            decoder: None,
            until: shared
                .limits
                .body
                .and_then(|limit| now().checked_add(limit)),
            shared,
        };
        response.finish_if_done();
        response
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What it came over: `HTTP_2`, or `HTTP_11`, also for servers that say 1.0.
    pub fn version(&self) -> Version {
        self.version
    }

    /// The same, or an error if it is 4xx or 5xx. The connection is then closed, unless the body has come already.
    ///
    /// # Errors
    /// [`ClientError::Status`].
    pub fn error_for_status(self) -> Result<Self, ClientError> {
        if !self.status.is_client_error() && !self.status.is_server_error() {
            return Ok(self);
        }
        Err(ClientError::Status {
            host: self.host.to_string(),
            status: self.status,
        })
    }

    /// All header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of a header field, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The URL that answered, if redirects led to another than was asked.
    pub fn redirected_to(&self) -> Option<&str> {
        self.url.as_deref()
    }

    /// The fields behind a body that came in chunks or over HTTP/2, once it has been read to its end; empty before, and for other
    /// bodies.
    ///
    /// Fields that say how the message is to be read, such as `Content-Length`, are left out (RFC 9110, 6.5.1).
    pub fn trailers(&self) -> HeaderMap {
        match self.ending {
            Ending::Done => chunk::trailers(&self.trailers),
            _ => HeaderMap::new(),
        }
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is larger than the client allows, malformed or incomplete, or the wait was cut short.
    pub fn bytes(self) -> Result<Bytes, ClientError> {
        Ok(self.read_to_vec()?.into())
    }

    /// The whole body, in a vector.
    ///
    /// # Errors
    /// If it is larger than the client allows, malformed or incomplete, or the wait was cut short.
    pub fn read_to_vec(mut self) -> Result<Vec<u8>, ClientError> {
        let limit = self.shared.max_body_bytes;
        let too_large = || format!("body is larger than {limit} bytes");
        if matches!(self.ending, Ending::Done) {
            return Ok(Vec::new());
        }
        let mut body = match self.claimed() {
            Some(length) if length > limit => return Err(self.malformed(too_large())),
            Some(length) => vec![0; to_size(length.min(MAX_CLAIMED))],
            None => vec![0; PART],
        };
        let mut filled = 0;
        loop {
            if filled == body.len() {
                // One byte more than fits, to see the end of a body that fits exactly.
                body.push(0);
                body.resize(body.capacity().max(filled.saturating_add(PART)), 0);
            }
            match self.read_some(&mut body[filled..])? {
                0 => break,
                count => filled = filled.saturating_add(count),
            }
            if filled as u64 > limit {
                return Err(self.malformed(too_large()));
            }
            if matches!(self.ending, Ending::Done) && self.decoder.is_none() {
                break;
            }
        }
        body.truncate(filled);
        Ok(body)
    }

    /// How long the body is to be, if that was told, and what comes out is what travels.
    fn claimed(&self) -> Option<u64> {
        if self.decoder.is_some() {
            return None;
        }
        match self.ending {
            Ending::Length(length) => Some(length),
            // Over a link the field tells, and the protocol holds the body to it.
            Ending::Close => self
                .headers
                .get(CONTENT_LENGTH)?
                .to_str()
                .ok()?
                .parse()
                .ok(),
            Ending::Chunked(_) | Ending::Done => None,
        }
    }

    /// The whole body, as text; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// If it is larger than the client allows, malformed or incomplete, or the wait was cut short.
    pub fn text(self) -> Result<String, ClientError> {
        let body = self.read_to_vec()?;
        Ok(String::from_utf8(body)
            .unwrap_or_else(|wrong| String::from_utf8_lossy(wrong.as_bytes()).into_owned()))
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// If it is not such JSON, larger than the client allows, malformed or incomplete, or the wait was cut short.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let host = self.host.clone();
        let body = self.read_to_vec()?;
        serde_json::from_slice(&body)
            .map_err(|error| ClientError::protocol(&host, format!("invalid JSON: {error}")))
    }

    /// Has the body read out of the coding in which it travels.
    pub(super) fn decode(&mut self, decoding: &Decoding) {
        if !matches!(self.ending, Ending::Done) {
            self.decoder = (decoding.decoder)(&mut self.headers);
        }
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let Some(mut decoder) = self.decoder.take() else {
            return self.read_raw(buffer);
        };
        let mut failed = None;
        let mut raw = |buffer: &mut [u8]| {
            self.read_raw(buffer).map_err(|error| {
                failed = Some(error);
                BodyError::Io(io::ErrorKind::Other.into())
            })
        };
        let read = decoder.read(&mut raw, buffer);
        let count = read.map_err(|error| {
            failed.unwrap_or_else(|| {
                // Where the next response would begin is not looked for.
                self.source = None;
                self.ending = Ending::Close;
                match error {
                    BodyError::Malformed { reason } => self.malformed(reason),
                    error => self.malformed(error.to_string()),
                }
            })
        })?;
        self.decoder = Some(decoder);
        Ok(count)
    }

    fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.read_step(buffer);
        if let Err(error) = &read {
            // Where the next response would begin is unknown.
            if let Some(mut source) = self.source.take() {
                source.fail_call(error);
            }
            self.ending = Ending::Close;
        } else {
            self.finish_if_done();
        }
        read
    }

    /// The body is to have come by then, if not sooner.
    pub(super) fn set_deadline(&mut self, until: Option<Instant>) {
        self.until = [self.until, until].into_iter().flatten().min();
    }

    fn read_step(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        let Some(until) = self.until else {
            return self.step(buffer);
        };
        if matches!(self.ending, Ending::Done) {
            return Ok(0);
        }
        let host = self.host.clone();
        let late = || ClientError::timeout(&host, Phase::Body);
        if now() >= until {
            return Err(late());
        }
        maniple::deadline(until, || self.step(buffer)).unwrap_or_else(|_| Err(late()))
    }

    fn step(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        if matches!(self.ending, Ending::Done) {
            return Ok(0);
        }
        let Some(source) = self.source.as_mut() else {
            return Err(self.malformed("its body broke off before"));
        };
        match &mut self.ending {
            Ending::Done => Ok(0),
            Ending::Length(left) => {
                let wanted = buffer.len().min(to_size(*left));
                let count = source.receive(&mut buffer[..wanted])?;
                if count == 0 {
                    return Err(self.incomplete());
                }
                *left = left.saturating_sub(count as u64);
                if *left == 0 {
                    self.ending = Ending::Done;
                }
                Ok(count)
            }
            Ending::Close => {
                let count = source.receive(buffer)?;
                if count == 0 {
                    if let Source::Http2(asked) = source {
                        for (name, value) in &asked.trailers()? {
                            // What cannot be a trailer is left out.
                            let _ = append_any_trailer(&mut self.trailers, name, value);
                        }
                    }
                    self.ending = Ending::Done;
                }
                Ok(count)
            }
            Ending::Chunked(_) => self.read_chunked(buffer),
        }
    }

    fn read_chunked(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        loop {
            let (Ending::Chunked(decoder), Some(Source::Http1(connection))) =
                (&mut self.ending, self.source.as_mut())
            else {
                return Ok(0);
            };
            let unread = connection.input.unread();
            let step = decoder
                .step_keeping(unread, &mut self.trailers)
                .map_err(|reject| ClientError::protocol(&connection.host, reject.reason))?;
            let used = match step {
                Step::Done(used) => {
                    connection.input.consume(used);
                    self.ending = Ending::Done;
                    return Ok(0);
                }
                Step::Data(left) if !unread.is_empty() => {
                    let wanted = buffer.len().min(to_size(left));
                    let count = connection.receive(&mut buffer[..wanted]);
                    let count = count
                        .map_err(|error| ClientError::io(&connection.host, Phase::Body, error))?;
                    decoder.took(count as u64);
                    return Ok(count);
                }
                Step::Data(_) => 0,
                Step::Framing(used) => used,
            };
            connection.input.consume(used);
            if connection.input.unread().is_empty() {
                let filled = connection.fill();
                if filled.map_err(|error| ClientError::io(&connection.host, Phase::Body, error))?
                    == 0
                {
                    return Err(self.incomplete());
                }
            }
        }
    }

    /// Reads a short body away that nobody wants, for the connection's sake, and waits no longer than a new one would take.
    pub(super) fn skim(&mut self) {
        const PATIENCE: Duration = Duration::from_millis(50);
        let mut skimmed = [0; 1024];
        let reads = || (0..8).all(|_| matches!(self.read_some(&mut skimmed), Ok(1..)));
        // Cut short, the connection is closed.
        let _cut = maniple::timeout(PATIENCE, reads);
    }

    /// Gives the connection back once nothing of the body is left.
    fn finish_if_done(&mut self) {
        if matches!(self.ending, Ending::Done)
            && let Some(Source::Http1(mut connection)) = self.source.take()
            && self.keep_alive
            && connection.input.unread().is_empty()
            && connection.has_sent_all()
        {
            self.shared.pool.put(connection);
        }
    }

    fn incomplete(&self) -> ClientError {
        self.malformed("connection closed within the body")
    }

    fn malformed(&self, reason: impl Into<String>) -> ClientError {
        ClientError::protocol(&self.host, reason)
    }
}

fn to_size(count: u64) -> usize {
    usize::try_from(count).unwrap_or(usize::MAX)
}

impl Drop for ClientResponse {
    /// A body that has come whole need not have been looked at for its connection to be of use.
    fn drop(&mut self) {
        if let (Ending::Length(left), Some(Source::Http1(connection))) =
            (&self.ending, &mut self.source)
        {
            let left = to_size(*left);
            if connection.input.unread().len() == left {
                connection.input.consume(left);
                self.ending = Ending::Done;
            }
        }
        self.finish_if_done();
    }
}

impl Read for ClientResponse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(buffer)?)
    }
}

impl fmt::Debug for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}
