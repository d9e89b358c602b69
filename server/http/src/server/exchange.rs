//! A connection's receiving side while it is served: what has come, the request in hand, and its body.
//!
//! It owns the way to the transport and, while the connection is busy, the buffers. [`Request`](crate::Request) is
//! the handler's view of it, [`conn`](super::conn) the loop around it, [`answer`](super::answer) the other direction.

use std::{
    io,
    ops::Range,
    sync::Arc,
    thread::{self, ThreadId},
    time::{Duration, Instant},
};

use http::{HeaderMap, StatusCode};
use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    net::Shutdown,
    time::coarse_now,
};

use super::{buffers::Scratch, out, overrun::report, state::Connection};
use crate::{
    body::{Apart, BodyError, BodyLimits, BodyState, MAX_DISCARD, Pace},
    http1::{
        Reject,
        chunk::{self, Step},
        head::{Framing, Head, ascii},
        response::{CONTINUE, write_interim},
    },
    transport::{Peer, Transport},
};

/// A connection and what has been received on it.
pub(crate) struct Exchange {
    connection: Arc<Connection>,
    peer: Peer,
    body_limits: BodyLimits,
    /// There while the connection is busy.
    scratch: Option<Box<Scratch>>,
    /// Whether after the last read there may or may not be more: it took as much as it could.
    brimful: bool,
    /// Whether that is so after any read.
    always_brimful: bool,
    /// The thread whose coroutine serves the connection.
    home: ThreadId,
    /// How the request comes, where the protocol keeps it apart from others on the connection.
    apart: Option<Box<dyn Apart>>,
}

/// When the client sends the body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    AtOnce,
    /// Once it is sent `100 Continue`.
    WhenAsked,
    /// Not at all, if it is not allowed to be as long as it is said to be.
    TooLong,
}

impl Exchange {
    pub(crate) fn new(connection: Arc<Connection>, peer: Peer, body_limits: BodyLimits) -> Self {
        let always_brimful = !connection.transport.is_emptied_by_short_reads();
        Self {
            connection,
            peer,
            body_limits,
            scratch: None,
            brimful: always_brimful,
            always_brimful,
            home: thread::current().id(),
            apart: None,
        }
    }

    /// One for a request that comes by itself, whose parsed head is lent, and whether there is a body to it.
    #[cfg(feature = "http2")]
    pub(crate) fn apart(
        mut self,
        scratch: Box<Scratch>,
        apart: Box<dyn Apart>,
        has_body: bool,
    ) -> Self {
        self.scratch = Some(scratch);
        self.apart = Some(apart);
        let head = &mut self.scratch_mut().head;
        head.framing = match (has_body, head.framing) {
            (false, _) => Framing::None,
            // Its end shows by itself.
            (true, Framing::None) => Framing::Chunked,
            (true, told) => told,
        };
        self
    }

    /// Whether it came by itself, in a stream of HTTP/2.
    pub(crate) fn is_apart(&self) -> bool {
        self.apart.is_some()
    }

    fn started(&self, framing: Framing, limits: &BodyLimits) -> BodyState {
        match (framing, &self.apart) {
            (Framing::Length(length), Some(_)) => BodyState::Apart(Some(length)),
            (Framing::Chunked, Some(_)) => BodyState::Apart(None),
            _ => BodyState::started(framing, limits),
        }
    }

    /// Cancelled when the server begins to drain.
    pub(crate) fn drain_token(&self) -> CancelToken {
        self.connection.drain_token()
    }

    /// Makes the parsed head the request in hand.
    #[inline]
    pub(crate) fn begin(&mut self) -> Begun {
        self.begin_within(self.body_limits.length)
    }

    /// The same with a body that may be so long.
    #[inline(always)]
    pub(crate) fn begin_within(&mut self, length: u64) -> Begun {
        let scratch = self.scratch.as_deref_mut().expect(IN_HAND);
        scratch.input.used = scratch.input.start + scratch.head.length;
        scratch.body = match scratch.head.framing {
            Framing::None => BodyState::Done,
            Framing::Length(told) if told > length => {
                // Until somebody allows it.
                scratch.body = BodyState::Broken;
                return Begun::TooLong;
            }
            framing if scratch.head.expects_continue => {
                scratch.trailers.clear();
                scratch.body = BodyState::Expected(framing);
                return Begun::WhenAsked;
            }
            framing => {
                scratch.trailers.clear();
                let limits = BodyLimits {
                    length,
                    ..self.body_limits
                };
                match self.apart {
                    None => BodyState::started(framing, &limits),
                    Some(_) => {
                        let started = self.started(framing, &limits);
                        self.scratch_mut().body = started;
                        return Begun::AtOnce;
                    }
                }
            }
        };
        Begun::AtOnce
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
    pub(crate) fn connection(&self) -> &Arc<Connection> {
        &self.connection
    }

    /// The path of the request in hand, as it was sent.
    #[inline]
    pub(crate) fn path(&self) -> &str {
        let input = &self.scratch().input;
        ascii(self.head().path_in(&input.bytes[input.start..]))
    }

    pub(crate) fn peer(&self) -> &Peer {
        &self.peer
    }

    /// From now on it is busy.
    #[inline]
    pub(crate) fn lend(&mut self, scratch: Box<Scratch>) {
        self.scratch = Some(scratch);
    }

    /// It is busy no more.
    #[inline]
    pub(crate) fn take_back(&mut self) -> Option<Box<Scratch>> {
        self.scratch.take()
    }

    pub(crate) fn is_busy(&self) -> bool {
        self.scratch.is_some()
    }

    /// Reads more of a head, and what comes with it; 0 at the end.
    #[inline]
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        self.fill_by(|scratch| scratch.input.room(HEAD_READ), Transport::read)
    }

    /// Reads like [`fill`](Self::fill), but does not wait: kind `WouldBlock` if nothing is there.
    pub(crate) fn fill_with_what_is_there(&mut self) -> io::Result<usize> {
        self.fill_by(|scratch| scratch.input.room(HEAD_READ), Transport::try_read)
    }

    /// Reads into the room that there is; how much came.
    #[inline]
    fn fill_by(
        &mut self,
        room: impl FnOnce(&mut Scratch) -> &mut [u8],
        read: impl FnOnce(&Transport, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let scratch = self.scratch.as_deref_mut().expect(IN_HAND);
        let room = room(scratch);
        let wanted = room.len();
        let count = read(&self.connection.transport, room)?;
        scratch.input.filled += count;
        self.brimful = self.always_brimful | (count == wanted);
        Ok(count)
    }

    /// Where the whole body lies in the input, if it is there and has been read nowhere yet: from then on it is read.
    #[inline]
    pub(crate) fn take_body_at_hand(&mut self) -> Option<Range<usize>> {
        let scratch = self.scratch_mut();
        let BodyState::Length(length) = scratch.body else {
            return None;
        };
        if scratch.decoder.is_some() {
            return None;
        }
        let length = usize::try_from(length).ok()?;
        let from = scratch.input.used;
        if scratch.head.framing != Framing::Length(length as u64)
            || scratch.input.unused().len() < length
        {
            return None;
        }
        scratch.input.used += length;
        scratch.body = BodyState::Done;
        Some(from..from + length)
    }

    /// How long the body in hand may be as it travels.
    pub(crate) fn most_of_body(&self) -> u64 {
        self.scratch().body_limit(self.body_limits.length)
    }

    /// How long the body in hand may be unless its route says otherwise.
    pub(crate) fn usual_body_limit(&self) -> u64 {
        self.body_limits.length
    }

    /// Has the body in hand, of which nothing has been read, be as long as that, and no longer.
    #[cold]
    pub(crate) fn allow_body(&mut self, limit: u64) -> Result<(), BodyError> {
        let limits = BodyLimits {
            length: limit,
            ..self.body_limits
        };
        let scratch = self.scratch_mut();
        scratch.allow_body(limit);
        if matches!(scratch.body, BodyState::Chunked(_)) {
            scratch.body = BodyState::started(Framing::Chunked, &limits);
        }
        self.limit_body(limit)
    }

    /// Has what is left of the body in hand be no longer.
    #[cold]
    pub(crate) fn limit_body(&mut self, limit: u64) -> Result<(), BodyError> {
        let usual = self.body_limits.length;
        let scratch = self.scratch_mut();
        scratch.set_body_limit(limit, usual);
        match &mut scratch.body {
            BodyState::Length(length)
            | BodyState::Apart(Some(length))
            | BodyState::Expected(Framing::Length(length))
                if *length > limit =>
            {
                let error = BodyError::TooLarge { limit };
                report(&self.peer, error.status(), &error.to_string());
                return Err(error);
            }
            BodyState::Chunked(decoder) => decoder.allow_at_most(limit),
            _ => {}
        }
        Ok(())
    }

    /// From now on the body in hand is what this makes of it.
    #[cfg(any(feature = "gzip", feature = "brotli", feature = "zstd"))]
    #[cold]
    pub(crate) fn decode_with(&mut self, decoder: Box<dyn crate::body::Decode>) {
        self.scratch_mut().set_decoder(decoder);
    }

    /// From now on the body is read as it travels: for who passes it on.
    pub(crate) fn do_not_decode(&mut self) {
        self.scratch_mut().decoder = None;
    }

    /// Reads some of the body; 0 at its end.
    pub(crate) fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        match self.scratch().decoder {
            None => self.read_raw(buffer),
            Some(_) => self.read_decoded(buffer),
        }
    }

    #[cold]
    fn read_decoded(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let kept = &mut self.scratch_mut().decoder;
        let Some(mut decoder) = kept.as_mut().and_then(|kept| kept.0.take()) else {
            return Err(BodyError::Disconnected);
        };
        let read = decoder.read(&mut |buffer| self.read_raw(buffer), buffer);
        if let Err(error) = &read {
            self.broke(error);
        }
        if let Some(kept) = &mut self.scratch_mut().decoder {
            kept.0 = Some(decoder);
        }
        read
    }

    /// Reads some of the body as it travels; 0 at its end.
    fn read_raw(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let read = self.read_step(buffer);
        if let Err(error) = &read {
            self.broke(error);
        }
        read
    }

    #[cold]
    fn broke(&mut self, error: &BodyError) {
        // A wait that was cut has taken nothing.
        if !matches!(error, BodyError::Io(error) if is_cancelled_error(error)) {
            self.scratch_mut().body = BodyState::Broken;
        }
        report(&self.peer, error.status(), &error.to_string());
    }

    fn read_step(&mut self, buffer: &mut [u8]) -> Result<usize, BodyError> {
        loop {
            match &mut self.scratch_mut().body {
                BodyState::Done => return Ok(0),
                BodyState::Broken => return Err(BodyError::Disconnected),
                BodyState::Expected(framing) => {
                    let framing = *framing;
                    let limits = BodyLimits {
                        length: self.most_of_body(),
                        ..self.body_limits
                    };
                    self.scratch_mut().body = self.started(framing, &limits);
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
                BodyState::Apart(left) => {
                    let left = *left;
                    return self.read_apart(left, buffer);
                }
            }
        }
    }

    /// Reads of a body that comes by itself, of which so much is left if that was told.
    #[cold]
    fn read_apart(&mut self, left: Option<u64>, buffer: &mut [u8]) -> Result<usize, BodyError> {
        let limit = self.most_of_body();
        let patience = self.scratch().pace.patience(&self.body_limits);
        let before = coarse_now();
        let Some(apart) = &mut self.apart else {
            return Err(BodyError::Disconnected);
        };
        let read = apart.read(buffer, patience);
        let pace = &mut self.scratch_mut().pace;
        pace.awaited += coarse_now().saturating_duration_since(before);
        let count = read?;
        pace.received = pace.received.saturating_add(count as u64);
        let received = pace.received;
        self.scratch_mut().body = match count {
            0 => BodyState::Done,
            _ => BodyState::Apart(left.map(|left| left.saturating_sub(count as u64))),
        };
        match received > limit {
            true => Err(BodyError::TooLarge { limit }),
            false => Ok(count),
        }
    }

    /// One step through a chunked body; `None` if only framing was read.
    fn read_chunked(&mut self, buffer: &mut [u8]) -> Result<Option<usize>, BodyError> {
        let overhead = self.body_limits.overhead;
        let limit = self.most_of_body();
        let scratch = self.scratch.as_deref_mut().expect(IN_HAND);
        let BodyState::Chunked(decoder) = &mut scratch.body else {
            return Ok(Some(0));
        };
        let input = &mut scratch.input;
        let step = decoder
            .step_keeping(input.unused(), &mut scratch.trailers)
            .map_err(|reject| match reject {
                chunk::TOO_LARGE => BodyError::TooLarge { limit },
                chunk::TOO_MUCH_OVERHEAD => BodyError::OverheadTooLarge { limit: overhead },
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
        let read = self.connection.transport.read(buffer);
        let count = read.map_err(BodyError::from_read)?;
        self.brimful = self.always_brimful | (count == buffer.len());
        self.came(count)?;
        Ok(count)
    }

    fn fill_behind_head(&mut self) -> Result<(), BodyError> {
        self.await_body()?;
        let filled = self.fill_by(
            |scratch| scratch.room_behind_head(BODY_READ),
            Transport::read,
        );
        self.came(filled.map_err(BodyError::from_read)?)
    }

    fn came(&mut self, count: usize) -> Result<(), BodyError> {
        let received = &mut self.scratch_mut().pace.received;
        *received = received.saturating_add(count as u64);
        match count {
            0 => Err(BodyError::Disconnected),
            _ => Ok(()),
        }
    }

    /// Sends `100 Continue`, if interim answers are sent.
    #[cold]
    fn ask_for_body(&self) -> Result<(), BodyError> {
        if let Some(apart) = self.apart.as_ref().filter(|_| self.body_limits.interim) {
            let asked = apart.inform(StatusCode::CONTINUE, &HeaderMap::new());
            return asked.map_err(BodyError::Io);
        }
        match self.body_limits.interim {
            true => self.send_aside(CONTINUE).map_err(BodyError::Io),
            // Clients that wait for it do not wait for long (RFC 9110, 10.1.1).
            false => Ok(()),
        }
    }

    /// Sends an interim answer; whatever was collected before has been sent.
    #[cold]
    fn send_aside(&self, interim: &[u8]) -> io::Result<()> {
        let sent = out::send(&self.connection, interim, self.body_limits.stall);
        sent.map_err(|(error, sent)| {
            if sent > 0 {
                // Cut in the middle: nothing can follow. Errors say that the peer is gone already.
                self.connection.transport.reset_on_close();
                let _ = self.connection.transport.shutdown(Shutdown::Write);
            }
            error
        })
    }

    /// Waits for more of the body. Answers that the client may be waiting for before it sends any leave meanwhile.
    fn await_body(&mut self) -> Result<(), BodyError> {
        let before = coarse_now();
        let patience = self.scratch().pace.patience(&self.body_limits);
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
        match self.connection.transport.wait_readable_until(until) {
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
        let stream = &self.connection.transport;
        stream.set_read_timeout(Some(left.max(Duration::from_millis(1))))?;
        let peeked = stream.peek(&mut [0]);
        stream.set_read_timeout(None)?;
        peeked.map(|_| ())
    }

    /// Adds what has come to the input, behind the head in hand, without waiting; how much it was.
    #[cold]
    pub(crate) fn try_fill(&mut self) -> usize {
        let was_brimful = self.brimful;
        // An error is met again by the next read or write that matters.
        let filled = self.fill_by(
            |scratch| scratch.room_behind_head(BODY_READ),
            Transport::try_read,
        );
        let count = filled.unwrap_or(0);
        self.brimful |= was_brimful;
        count
    }

    #[inline]
    pub(crate) fn body_is_done(&self) -> bool {
        matches!(self.scratch().body, BodyState::Done)
    }

    /// Discards the body like [`discard_body`](Self::discard_body), and asks for it if the client waits for that (RFC
    /// 9110, 7.8).
    #[cold]
    pub(crate) fn discard_even_if_expected(&mut self) -> bool {
        self.ask_if_expected();
        self.discard_body()
    }

    /// Asks for the body, if the client waits for that. One that cannot be asked for is broken.
    #[cold]
    pub(crate) fn ask_if_expected(&mut self) {
        if let BodyState::Expected(framing) = self.scratch().body {
            self.scratch_mut().body = match self.ask_for_body() {
                Ok(()) => {
                    let limits = BodyLimits {
                        length: self.most_of_body(),
                        ..self.body_limits
                    };
                    self.started(framing, &limits)
                }
                Err(_) => BodyState::Broken,
            };
        }
    }

    /// Sends an interim answer; whether it was sent, behind all answers before it.
    #[cold]
    pub(crate) fn inform(&mut self, status: StatusCode, headers: &HeaderMap) -> io::Result<bool> {
        if !self.head().http_11 || !self.body_limits.interim {
            return Ok(false);
        }
        if self.scratch().input.start > 0 {
            // Answers to what came before it may be kept back, on the connection's worker.
            if thread::current().id() != self.home {
                return Ok(false);
            }
            out::flush_kept_back(&self.connection, self.body_limits.stall)?;
        }
        if status == StatusCode::CONTINUE && matches!(self.scratch().body, BodyState::Expected(_)) {
            self.ask_if_expected();
            return Ok(true);
        }
        if let Some(apart) = &self.apart {
            return apart.inform(status, headers).map(|()| true);
        }
        let mut interim = Vec::new();
        write_interim(&mut interim, status, headers);
        self.send_aside(&interim).map(|()| true)
    }

    /// The fields behind a chunked body, once that has been read.
    #[cold]
    pub(crate) fn trailers(&self) -> Option<HeaderMap> {
        if let Some(apart) = self.apart.as_ref().filter(|_| self.body_is_done()) {
            return Some(apart.trailers()).filter(|trailers| !trailers.is_empty());
        }
        let scratch = self.scratch();
        let is_read = scratch.head.framing == Framing::Chunked && self.body_is_done();
        is_read.then(|| chunk::trailers(&scratch.trailers))
    }

    /// Whether the client has asked for the protocol by that name (RFC 9110, 7.8).
    #[cold]
    pub(crate) fn asks_to_switch_to(&self, protocol: &[u8]) -> bool {
        self.head().http_11
            && self.lists(b"connection", b"upgrade")
            && self.lists(b"upgrade", protocol)
    }

    /// Whether a field that is a list has the value among its own, in any case.
    fn lists(&self, name: &[u8], value: &[u8]) -> bool {
        let scratch = self.scratch();
        let head = &scratch.input.bytes[scratch.input.start..];
        scratch
            .fields
            .iter()
            .filter(|field| head[field.name.clone()].eq_ignore_ascii_case(name))
            .flat_map(|field| head[field.value.clone()].split(|&byte| byte == b','))
            .any(|item| item.trim_ascii().eq_ignore_ascii_case(value))
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
            match self.read_raw(&mut buffer) {
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

/// Room for a read of a head.
const HEAD_READ: usize = 1024;
