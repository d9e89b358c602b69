//! A request as its handler sees it: a view of the received bytes, and a body that is read on demand.

use std::{
    borrow::Cow,
    fmt,
    io::{self, Read},
    net::SocketAddr,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, Uri, Version};
use maniple::{
    net::{Shutdown, TcpStream},
    time::coarse_now,
};
use percent_encoding::percent_decode_str;
use serde::de::DeserializeOwned;

use crate::{
    body::{BodyError, BodyLimits, BodyState, MAX_DISCARD, Pace},
    http1::{
        Reject,
        chunk::{self, Step},
        head::{Framing, Head, ascii, header_map},
        response::CONTINUE,
    },
    line::Line,
    out,
    scratch::Scratch,
};

/// A request in the hands of its handler.
///
/// Method, path and header fields are looked up in the received bytes; a [`HeaderMap`] or [`Uri`] is
/// made only when asked for. The body is read from the connection as the handler reads it.
pub struct Request {
    line: Arc<Line>,
    peer: SocketAddr,
    body_limits: BodyLimits,
    pub(crate) scratch: Option<Box<Scratch>>,
    /// Whether the last read took as much as it could, so that there may or may not be more.
    pub(crate) brimful: bool,
}

/// When the client sends the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    AtOnce,
    /// Once it is sent `100 Continue`.
    WhenAsked,
}

impl Request {
    pub(crate) fn new(line: Arc<Line>, peer: SocketAddr, body_limits: BodyLimits) -> Self {
        Self {
            line,
            peer,
            body_limits,
            scratch: None,
            brimful: false,
        }
    }

    /// Makes the parsed head the request in hand.
    #[inline]
    pub(crate) fn begin(&mut self) -> Result<Begun, Reject> {
        let max_body = self.body_limits.length;
        let scratch = self.scratch_mut();
        scratch.forget_request();
        scratch.input.used = scratch.input.start + scratch.head.length;
        scratch.body = match scratch.head.framing {
            Framing::None => BodyState::Done,
            Framing::Length(length) if length > max_body => {
                return Err(Reject::new(
                    StatusCode::PAYLOAD_TOO_LARGE,
                    "request body too large",
                ));
            }
            framing if scratch.head.expects_continue => {
                scratch.body = BodyState::Expected(framing);
                return Ok(Begun::WhenAsked);
            }
            framing => BodyState::started(framing, max_body),
        };
        Ok(Begun::AtOnce)
    }

    #[inline]
    pub(crate) fn scratch(&self) -> &Scratch {
        self.scratch.as_deref().expect(IN_HAND)
    }

    #[inline]
    pub(crate) fn scratch_mut(&mut self) -> &mut Scratch {
        self.scratch.as_deref_mut().expect(IN_HAND)
    }

    #[inline]
    pub(crate) fn head(&self) -> &Head {
        &self.scratch().head
    }

    #[inline]
    pub(crate) fn line(&self) -> &Arc<Line> {
        &self.line
    }

    #[inline]
    pub(crate) fn line_and_scratch(&mut self) -> (&Line, &mut Scratch) {
        (&self.line, self.scratch.as_deref_mut().expect(IN_HAND))
    }

    #[inline]
    pub(crate) fn stream(&self) -> &TcpStream {
        &self.line.stream
    }

    fn text(&self, range: std::ops::Range<usize>) -> &str {
        let input = &self.scratch().input;
        ascii(&input.bytes[input.start..][range])
    }

    /// The method.
    pub fn method(&self) -> &Method {
        &self.head().method
    }

    /// The path as it was sent, without percent-decoding and query.
    #[inline]
    pub fn path(&self) -> &str {
        let input = &self.scratch().input;
        ascii(self.head().path_in(&input.bytes[input.start..]))
    }

    /// The query as it was sent, without the `?`; `None` if there is none.
    pub fn query(&self) -> Option<&str> {
        self.head().query.clone().map(|query| self.text(query))
    }

    /// The decoded value of the first query parameter of that name, form-encoded (`+` is a space).
    ///
    /// As the URL Standard has it, a `%` without two digits stays as it is, and what is not UTF-8 becomes U+FFFD:
    /// [`Request::query`] has what was sent.
    pub fn query_param(&self, name: &str) -> Option<Cow<'_, str>> {
        self.query()?.split('&').find_map(|pair| {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            (decode_form(key) == name).then(|| decode_form(value))
        })
    }

    /// The decoded value of a path parameter, by its name in the route.
    ///
    /// What is not UTF-8 becomes U+FFFD: [`Request::path`] has what was sent.
    pub fn param(&self, name: &str) -> Option<&str> {
        let input = &self.scratch().input;
        self.scratch().params.get(name, &input.bytes[input.start..])
    }

    /// The HTTP version, 1.0 or 1.1.
    pub fn version(&self) -> Version {
        if self.head().http_11 {
            Version::HTTP_11
        } else {
            Version::HTTP_10
        }
    }

    /// The client's address.
    pub fn peer_addr(&self) -> SocketAddr {
        self.peer
    }

    /// The first value of a header field, by its name in any case.
    pub fn header(&self, name: &str) -> Option<&[u8]> {
        let scratch = self.scratch();
        let head = &scratch.input.bytes[scratch.input.start..];
        let field = scratch
            .fields
            .iter()
            .find(|field| head[field.name.clone()].eq_ignore_ascii_case(name.as_bytes()))?;
        Some(&head[field.value.clone()])
    }

    /// As [`Request::header`], if the value is UTF-8. So `None` does not tell that there is no such field.
    pub fn header_str(&self, name: &str) -> Option<&str> {
        std::str::from_utf8(self.header(name)?).ok()
    }

    /// All header fields, made into a map at the first call.
    pub fn headers(&self) -> &HeaderMap {
        self.scratch().headers.get_or_init(|| {
            let scratch = self.scratch();
            let head = &scratch.input.bytes[scratch.input.start..];
            header_map(head, &scratch.fields)
        })
    }

    /// The request target, made into a [`Uri`] at the first call.
    ///
    /// Its path and query are those of [`Request::path`] and [`Request::query`]: what is no URI was
    /// answered with 400.
    pub fn uri(&self) -> &Uri {
        self.scratch().uri.get_or_init(|| {
            let input = &self.scratch().input;
            self.head().uri_in(&input.bytes[input.start..])
        })
    }

    /// The body, to be read as it comes.
    ///
    /// A client that expects `100 Continue` is sent that at the first read. Errors carry a [`BodyError`].
    pub fn body(&mut self) -> BodyReader<'_> {
        BodyReader { request: self }
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is too large, malformed, late or incomplete.
    pub fn read_body(&mut self) -> Result<Bytes, BodyError> {
        let mut bytes = Vec::new();
        if let BodyState::Length(length) | BodyState::Expected(Framing::Length(length)) =
            self.scratch().body
        {
            // What a client claims is not yet reason to set memory aside.
            bytes.reserve(usize::try_from(length).unwrap_or(0).min(64 * 1024));
        }
        let mut buffer = [0; 4096];
        loop {
            match self.read_some(&mut buffer)? {
                0 => return Ok(bytes.into()),
                count => bytes.extend_from_slice(&buffer[..count]),
            }
        }
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// As [`Request::read_body`], or if it is not such JSON.
    pub fn json<T: DeserializeOwned>(&mut self) -> Result<T, BodyError> {
        let body = self.read_body()?;
        serde_json::from_slice(&body).map_err(BodyError::Json)
    }

    /// Reads some of the body; 0 at its end.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.read_step(buffer);
        if read.is_err() {
            self.scratch_mut().body = BodyState::Broken;
        }
        read
    }

    fn read_step(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        loop {
            match &mut self.scratch_mut().body {
                BodyState::Done => return Ok(0),
                BodyState::Broken => return Err(BodyError::Disconnected),
                BodyState::Expected(framing) => {
                    let started = BodyState::started(*framing, self.body_limits.length);
                    self.scratch_mut().body = started;
                    self.ask_for_body()?;
                }
                BodyState::Length(left) => {
                    let left = *left;
                    let wanted = buffer
                        .len()
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    let count = self.receive(&mut buffer[..wanted])?;
                    self.scratch_mut().body = match left.saturating_sub(count as u64) {
                        0 => BodyState::Done,
                        left => BodyState::Length(left),
                    };
                    return Ok(count);
                }
                BodyState::Chunked(_) => {
                    if let Some(count) = self.read_chunked(buffer)? {
                        return Ok(count);
                    }
                }
            }
        }
    }

    /// One step through a chunked body; `None` if only framing was read.
    fn read_chunked(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, BodyError> {
        let limit = self.body_limits.length;
        let scratch = self.scratch.as_deref_mut().expect(IN_HAND);
        let BodyState::Chunked(decoder) = &mut scratch.body else {
            return Ok(Some(0));
        };
        let input = &mut scratch.input;
        let step = decoder
            .step(input.unused())
            .map_err(|reject| match reject {
                chunk::TOO_LARGE => BodyError::TooLarge { limit },
                Reject { reason, .. } => BodyError::Malformed { reason },
            })?;
        match step {
            Step::Done(used) => {
                input.used += used;
                scratch.body = BodyState::Done;
                return Ok(Some(0));
            }
            Step::Data(left) => {
                let unused = input.unused();
                if !unused.is_empty() {
                    let count = unused
                        .len()
                        .min(buffer.len())
                        .min(usize::try_from(left).unwrap_or(usize::MAX));
                    buffer[..count].copy_from_slice(&unused[..count]);
                    input.used += count;
                    decoder.took(count as u64);
                    return Ok(Some(count));
                }
            }
            Step::Framing(used) => {
                input.used += used;
                if input.used < input.filled {
                    return Ok(None);
                }
            }
        }
        self.fill_behind_head()?;
        Ok(None)
    }

    /// Bytes of the body that came with the head, or else from the connection.
    fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        let input = &mut self.scratch_mut().input;
        let unused = input.unused();
        if !unused.is_empty() {
            let count = unused.len().min(buffer.len());
            buffer[..count].copy_from_slice(&unused[..count]);
            input.used += count;
            return Ok(count);
        }
        self.await_body()?;
        let count = self.stream().read(buffer).map_err(BodyError::from_read)?;
        self.came(count, buffer.len())?;
        Ok(count)
    }

    fn fill_behind_head(&mut self) -> Result<(), BodyError> {
        self.await_body()?;
        let line = self.line.clone();
        let room = self.scratch_mut().room_behind_head(BODY_READ);
        let wanted = room.len();
        let count = (&line.stream).read(room).map_err(BodyError::from_read)?;
        self.scratch_mut().input.filled += count;
        self.came(count, wanted)
    }

    fn came(&mut self, count: usize, wanted: usize) -> Result<(), BodyError> {
        self.brimful = count == wanted;
        let received = &mut self.scratch_mut().pace.received;
        *received = received.saturating_add(count as u64);
        match count {
            0 => Err(BodyError::Disconnected),
            _ => Ok(()),
        }
    }

    /// Sends `100 Continue`; whatever was collected before has been sent.
    #[cold]
    fn ask_for_body(&self) -> Result<(), BodyError> {
        let sent = out::send(&self.line, CONTINUE, self.body_limits.stall);
        sent.map_err(|(error, sent)| {
            if sent > 0 {
                // Cut in the middle: nothing can follow. Errors say that the peer is gone already.
                let _ = self.stream().reset_on_close();
                let _ = self.stream().shutdown(Shutdown::Write);
            }
            BodyError::Io(error)
        })
    }

    /// Waits for more of the body. Answers that the client may be waiting for before it sends any leave meanwhile.
    fn await_body(&mut self) -> Result<(), BodyError> {
        let before = coarse_now();
        let patience = self.scratch().pace.patience(self.body_limits.stall);
        let waited = self.await_readable(before + patience);
        self.scratch_mut().pace.awaited += coarse_now().saturating_duration_since(before);
        waited.map_err(BodyError::from_read)
    }

    /// Waits until there is something to read, the end included.
    #[inline]
    pub(crate) fn await_readable(&self, until: Instant) -> io::Result<()> {
        if self.brimful {
            return self.probe(until);
        }
        match self.stream().wait_readable_until(until) {
            // It may have come while this worker was busy.
            Err(error) if error.kind() == io::ErrorKind::TimedOut => self.probe(until),
            waited => waited,
        }
    }

    /// Asks the socket itself. After a read that came out even it passes for readable until a call finds
    /// nothing, and a read that did would wait without end, and with its buffers.
    #[cold]
    fn probe(&self, until: Instant) -> io::Result<()> {
        let left = until.saturating_duration_since(coarse_now());
        let stream = self.stream();
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let peeked = stream.peek(&mut [0]);
        stream.set_read_timeout(None)?;
        peeked.map(|_| ())
    }

    /// Adds what has come to the input, behind the head in hand, without waiting; how much it was.
    #[cold]
    pub(crate) fn try_fill(&mut self) -> usize {
        let line = self.line.clone();
        let room = self.scratch_mut().room_behind_head(BODY_READ);
        let wanted = room.len();
        // An error is met again by the next read or write that matters.
        let count = line.stream.try_read(room).unwrap_or(0);
        self.scratch_mut().input.filled += count;
        self.brimful |= count == wanted;
        count
    }

    #[inline]
    pub(crate) fn body_is_done(&self) -> bool {
        matches!(self.scratch().body, BodyState::Done)
    }

    /// Reads the rest of the body away, if there is little of it and it comes soon.
    pub(crate) fn discard_body(&mut self) -> bool {
        if !self.scratch().body.can_end() {
            return false;
        }
        self.scratch_mut().pace = Pace::of_discarding();
        let mut discarded = 0;
        let mut buffer = [0; 1024];
        while discarded <= MAX_DISCARD {
            match self.read_some(&mut buffer) {
                Ok(0) => return true,
                Ok(count) => discarded += count as u64,
                Err(_) => return false,
            }
        }
        false
    }
}

const IN_HAND: &str = "a request has its buffers while it is in hand";

/// Read at a time of a chunked body.
const BODY_READ: usize = 4 * 1024;

fn decode_form(text: &str) -> Cow<'_, str> {
    if !text.contains(['+', '%']) {
        return Cow::Borrowed(text);
    }
    let spaced = text.replace('+', " ");
    Cow::Owned(percent_decode_str(&spaced).decode_utf8_lossy().into_owned())
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Request");
        if self.scratch.is_some() {
            debug
                .field("method", self.method())
                .field("path", &self.path());
        }
        debug.field("peer", &self.peer).finish_non_exhaustive()
    }
}

/// Reads a request's body; made by [`Request::body`].
#[derive(Debug)]
pub struct BodyReader<'a> {
    request: &'a mut Request,
}

impl Read for BodyReader<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.request.read_some(buffer)?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_encoding_is_decoded() {
        assert_eq!(decode_form("plain"), "plain");
        assert_eq!(decode_form("a+b%20c%2B"), "a b c+");
        assert_eq!(decode_form("%ff"), "\u{fffd}");
    }
}
