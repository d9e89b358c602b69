//! A connection to a server, with its buffers, and one exchange over it.
//!
//! A request is sent and its response received by the same coroutine, in turns: while it waits for more of the response
//! it sends what is left of the request. So a server may answer before it has read everything (RFC 9112, 9.5),
//! and one that echoes as it reads finds a reader. A body that is made while it is sent has a coroutine of its own for that:
//! see [`upload`](super::upload).

use std::{
    io,
    sync::Arc,
    thread::ThreadId,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{HeaderMap, Method, StatusCode, header::TRAILER};
use maniple::{
    cancel::{check, is_cancelled_error},
    net::Shutdown,
    time::{coarse_now, deadline, now},
};

use super::{
    call::Call,
    error::ClientError,
    head::Outgoing,
    inbox::{FIRST, Inbox, SPARES, Spares, spare},
    manner::Manner,
    phase::Phase,
    place::Place,
    sending::Sending,
    upload::{Courier, Progress, Sender, State},
};
use crate::{
    http1::{
        conversation::{Awaiting, MAX_HEAD},
        reply::{Reply, Search},
    },
    response::Body,
    transport::Transport,
};

/// A connection, what is still to be sent on it, and what has been received on it but not used.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: Arc<str>,
    stream: Arc<Transport>,
    pub(crate) input: Inbox,
    sending: Sending,
    /// Of a body that others send.
    upload: Option<Upload>,
    /// When it was put into the pool, and by whom: where its readiness is watched already.
    pub(crate) kept: Option<(Instant, ThreadId)>,
    made: Instant,
    manner: Arc<Manner>,
    /// When the request in hand began, and when it had left, where somebody asks.
    clock: Clock,
    /// The request in hand, to the set of servers that this one was picked from.
    pub(super) call: Option<Box<Call>>,
    /// Where connections are counted. Behind the stream, since it is closed first.
    pub(crate) place: Option<Place>,
}

/// Times of the request in hand, where phases are bounded.
#[derive(Clone, Copy, Debug, Default)]
struct Clock {
    began: Option<Instant>,
    left: Option<Instant>,
}

/// A body that is sent by others than who reads the answer.
#[derive(Debug)]
struct Upload {
    stream: Arc<Transport>,
    progress: Arc<Progress>,
    _courier: Option<Courier>,
}

/// A final answer, or word that the body is wanted.
#[derive(Debug)]
enum Heard {
    Final(Reply),
    GoOn,
}

/// What is heard of answers before the final one.
pub(crate) type OnInterim<'a> = &'a mut dyn FnMut(StatusCode, HeaderMap);

/// The search for the head of the final answer.
#[derive(Debug, Default)]
struct Hearing {
    search: Search,
    awaiting: Awaiting,
    heard: bool,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    /// Not a byte came back, and no wait was cut short: the server may have closed before it saw the
    /// request.
    pub(crate) unheard: bool,
    /// Not even the head has left.
    pub(crate) unsent: bool,
}

impl Failed {
    /// Before there was a connection.
    pub(super) fn before(error: ClientError) -> Self {
        Self {
            error,
            unheard: true,
            unsent: true,
        }
    }
}

/// In place of a time that never comes.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

impl Connection {
    pub(crate) fn new(
        host: &str,
        stream: Transport,
        manner: Arc<Manner>,
        place: Option<Place>,
    ) -> Self {
        Self {
            host: host.into(),
            stream: Arc::new(stream),
            input: Inbox::default(),
            sending: Sending::default(),
            upload: None,
            kept: None,
            made: coarse_now(),
            manner,
            clock: Clock::default(),
            call: None,
            place,
        }
    }

    /// The request in hand has failed, and with it the call of who was picked for it.
    pub(super) fn end_call(&mut self, failed: Failed) -> Failed {
        self.fail_call(&failed.error);
        failed
    }

    pub(super) fn fail_call(&mut self, error: &ClientError) {
        if let Some(call) = self.call.take() {
            call.failed(error);
        }
    }

    /// Sends a request and reads the head of its final response. That may come before all has been sent: the rest is
    /// sent while more is received. A body that is made meanwhile is taken out of `body` once the server may have it.
    pub(crate) fn exchange(
        &mut self,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        self.wake();
        if request.streamed.is_none() && request.expect.is_none() {
            self.sending.load(request, &self.manner);
            return self.hear(request.method, on_interim);
        }
        let mut hearing = Hearing::default();
        if let Some(early) = self.begin_in(request, &mut hearing, on_interim)? {
            return Ok(early);
        }
        match (request.streamed, body.take()) {
            (Some(_), Some(body)) => {
                let sender = self.sender(request);
                let progress = sender.progress();
                let courier = Courier::send(sender, body.kind);
                let courier = courier.map_err(|error| self.failed(error, true))?;
                self.upload = Some(Upload {
                    stream: self.stream.clone(),
                    progress,
                    _courier: Some(courier),
                });
            }
            _ => self.sending.load_body(request),
        }
        self.hear_in(request.method, &mut hearing, on_interim)
    }

    /// Sends the head of a request whose body the caller sends, by the [`Sender`] that comes back.
    pub(crate) fn begin(&mut self, request: &Outgoing<'_>) -> Result<Sender, Failed> {
        self.wake();
        self.begin_in(request, &mut Hearing::default(), &mut |_, _| {})?;
        let sender = self.sender(request);
        self.upload = Some(Upload {
            stream: self.stream.clone(),
            progress: sender.progress(),
            _courier: None,
        });
        Ok(sender)
    }

    /// Reads the head of the final response to a request whose body is being sent. Once that is over, the head has between
    /// one and two times `timeout` to come.
    pub(crate) fn hear_in_time(
        &mut self,
        method: &Method,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let is_going = |upload: &Option<Upload>| {
            let upload = upload.as_ref();
            upload.is_some_and(|upload| upload.progress.is_going())
        };
        let mut hearing = Hearing::default();
        let mut was_going = true;
        loop {
            let now = coarse_now();
            let until = now.checked_add(timeout).unwrap_or(now + LONG);
            match self.hear_until(method, &mut hearing, Some(until), &mut |_, _| {}) {
                Ok(Heard::Final(reply)) => return Ok(reply),
                // An interim answer, or the time.
                Ok(Heard::GoOn) if was_going || coarse_now() < until => {}
                Ok(Heard::GoOn) => {
                    return Err(ClientError::timeout(&self.host, self.phase()));
                }
                Err(failed) => return Err(failed.error),
            }
            was_going = is_going(&self.upload);
        }
    }

    /// Reads the head of the final response to what has been sent, or is being sent.
    pub(crate) fn hear(
        &mut self,
        method: &Method,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        self.hear_in(method, &mut Hearing::default(), on_interim)
    }

    fn begin_in(
        &mut self,
        request: &Outgoing<'_>,
        hearing: &mut Hearing,
        on_interim: OnInterim<'_>,
    ) -> Result<Option<Reply>, Failed> {
        self.sending.load_head(request, &self.manner);
        let until = self.send_until();
        while !self.sending.is_over() {
            let written = within(until, || self.stream.write(self.sending.unsent()));
            match written {
                Ok(count) => self.sending.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let unsent = self.sending.sent == 0;
                    let failed = self.failed(error, false);
                    self.sending.let_go();
                    return Err(Failed { unsent, ..failed });
                }
            }
        }
        let flushed = within(until, || self.stream.flush());
        flushed.map_err(|error| self.failed(error, false))?;
        let Some(patience) = request.expect else {
            return Ok(None);
        };
        // Until it is found out that the server wants it, nothing of the body has been sent.
        self.sending.withheld = true;
        let now = coarse_now();
        let until = now.checked_add(patience).unwrap_or(now + LONG);
        match self.hear_until(request.method, hearing, Some(until), on_interim)? {
            Heard::Final(reply) => Ok(Some(reply)),
            Heard::GoOn => {
                self.sending.withheld = false;
                Ok(None)
            }
        }
    }

    fn sender(&self, request: &Outgoing<'_>) -> Sender {
        let mut announced = HeaderMap::new();
        for names in request.headers.get_all(TRAILER) {
            announced.append(TRAILER, names.clone());
        }
        Sender::new(self.stream.clone(), request.streamed.flatten(), announced)
    }

    fn hear_in(
        &mut self,
        method: &Method,
        hearing: &mut Hearing,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        loop {
            if let Heard::Final(reply) = self.hear_until(method, hearing, None, on_interim)? {
                return Ok(reply);
            }
        }
    }

    /// Reads heads up to the final response's. With a time, also up to that, and to `100 Continue`.
    fn hear_until(
        &mut self,
        method: &Method,
        hearing: &mut Hearing,
        until: Option<Instant>,
        on_interim: OnInterim<'_>,
    ) -> Result<Heard, Failed> {
        loop {
            let unread = self.input.unread();
            let found = hearing.search.find(unread);
            let found = found.map_err(|text| self.malformed(text))?;
            let Some(length) = found.filter(|&length| length <= MAX_HEAD) else {
                if unread.len() > MAX_HEAD {
                    return Err(self.malformed("head too large"));
                }
                if let Some(until) = until
                    && !self.has_come_until(until)?
                {
                    return Ok(Heard::GoOn);
                }
                match self.fill_in_time() {
                    Ok(0) => {
                        let text = "connection closed before the response";
                        let gone = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                        return Err(self.failed(gone, hearing.heard));
                    }
                    Ok(_) => hearing.heard = true,
                    Err(error) => return Err(self.failed(error, hearing.heard)),
                }
                continue;
            };
            let parsed = Reply::parse(&unread[..length], method);
            let reply = parsed.map_err(|reason| self.malformed(&reason))?;
            self.input.consume(length);
            let is_final = hearing.awaiting.is_final(reply.status, length);
            if is_final.map_err(|text| self.malformed(text))? {
                if let Some(call) = &mut self.call {
                    call.answered(reply.status);
                }
                return Ok(Heard::Final(reply));
            }
            hearing.search = Search::default();
            let is_continue = reply.status == StatusCode::CONTINUE;
            on_interim(reply.status, reply.headers);
            if is_continue && until.is_some() {
                return Ok(Heard::GoOn);
            }
        }
    }

    /// Whether something has come of the server before that time.
    fn has_come_until(&self, until: Instant) -> Result<bool, Failed> {
        match self.stream.wait_readable_until(until) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && coarse_now() >= until => {
                Ok(false)
            }
            Err(error) => Err(self.failed(error, false)),
        }
    }

    /// The connection, and what has been received on it beyond the head, for another protocol; `None` if something is
    /// still sent on it.
    pub(crate) fn into_parts(self) -> Option<(Transport, Vec<u8>)> {
        let Self { stream, input, .. } = self;
        let ahead = input.unread().to_vec();
        Some((Arc::into_inner(stream)?, ahead))
    }

    /// Whether the request has been sent whole, once what there is room for now has been.
    pub(crate) fn has_sent_all(&mut self) -> bool {
        if let Some(upload) = &self.upload {
            if upload.progress.state_behind_the_answer() != State::Whole {
                return false;
            }
            self.upload = None;
        }
        while let Ok(true) = self.sending.advance(&self.stream) {}
        self.sending.is_over() && self.sending.refused.is_none() && !self.sending.withheld
    }

    pub(crate) fn is_older_than(&self, life: Duration) -> bool {
        coarse_now().saturating_duration_since(self.made) >= life
    }

    /// The same, as far as is known without asking the kernel.
    pub(crate) fn is_quiet_as_known(&self) -> bool {
        !self.stream.may_be_readable() || self.is_quiet()
    }

    /// Gives back what only a request needs.
    pub(crate) fn rest(&mut self) {
        if self.input.bytes.capacity() > 0 {
            spare(Spares {
                input: std::mem::take(&mut self.input.bytes),
                start: std::mem::take(&mut self.sending.start),
            });
            (self.sending.sent, self.input.start, self.input.end) = (0, 0, 0);
        }
    }

    /// An idle connection has nothing to say: bytes or an end mean that it is of no use.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.stream.try_read(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// A request is about to be made.
    fn wake(&mut self) {
        if self.input.bytes.capacity() == 0 {
            if let Some(spares) = SPARES.with_borrow_mut(Vec::pop) {
                (self.input.bytes, self.sending.start) = (spares.input, spares.start);
                (self.sending.sent, self.sending.rest) = (0, Bytes::new());
                self.sending.start.clear();
            } else {
                self.input.bytes = vec![0; FIRST];
            }
        }
        if self.manner.bounds_phases() {
            self.clock = Clock {
                began: Some(now()),
                left: None,
            };
        }
    }

    /// What the request in hand is at, before its answer's head has come.
    fn phase(&self) -> Phase {
        let is_going = |upload: &Upload| upload.progress.is_going();
        let is_sent = self.sending.is_over() && !self.sending.withheld && self.stream.unsent() == 0;
        match is_sent && !self.upload.as_ref().is_some_and(is_going) {
            true => Phase::Answer,
            false => Phase::Send,
        }
    }

    fn send_until(&self) -> Option<Instant> {
        self.clock.began?.checked_add(self.manner.send?)
    }

    /// Receives more, in the time that the phase has; 0 at the end.
    fn fill_in_time(&mut self) -> io::Result<usize> {
        if self.clock.began.is_none() {
            return self.fill();
        }
        let send_until = self.send_until();
        if self.is_sending() {
            let (stream, sending) = (&self.stream, &mut self.sending);
            let room = self.input.room();
            let read = within(send_until, || read_while_sending(stream, sending, room))?;
            if let Some(count) = read {
                self.input.end += count;
                self.input.grow_if_full();
                return Ok(count);
            }
        }
        if self.sending.withheld {
            return within(send_until, || self.fill());
        }
        let answer = self.manner.answer;
        loop {
            let going = self.upload.as_ref().filter(|up| up.progress.is_going());
            let is_going = going.is_some();
            let since = match (is_going, self.clock.left) {
                (true, _) => None,
                (false, Some(left)) => Some(left),
                (false, None) => {
                    let ended = self.upload.as_ref().and_then(|up| up.progress.ended());
                    let left = ended.unwrap_or_else(now);
                    self.clock.left = Some(left);
                    Some(left)
                }
            };
            let until = match since {
                Some(since) => answer.and_then(|answer| since.checked_add(answer)),
                // It may have left by the time that the answer has at least.
                None => {
                    let at_least = answer.and_then(|answer| now().checked_add(answer));
                    [send_until, at_least].into_iter().flatten().min()
                }
            };
            match within(until, || self.fill()) {
                Err(error)
                    if is_going
                        && error.kind() == io::ErrorKind::TimedOut
                        && until.is_some_and(|until| now() >= until)
                        && check().is_ok()
                        && (self.phase() == Phase::Answer
                            || send_until.is_none_or(|until| now() < until)) => {}
                filled => return filled,
            }
        }
    }

    fn is_sending(&self) -> bool {
        !self.sending.is_over() || self.stream.unsent() > 0
    }

    /// Receives more; 0 at the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let upload = self.upload.as_ref();
        let count = read(&self.stream, &mut self.sending, upload, self.input.room())?;
        self.input.end += count;
        self.input.grow_if_full();
        Ok(count)
    }

    /// What was received already, else from the connection; 0 at the end.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = self.input.unread();
        if unread.is_empty() {
            let upload = self.upload.as_ref();
            return read(&self.stream, &mut self.sending, upload, buffer);
        }
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        self.input.consume(count);
        Ok(count)
    }

    fn failed(&self, error: io::Error, heard: bool) -> Failed {
        let error = ClientError::io(&self.host, self.phase(), error);
        Failed {
            unheard: !heard && matches!(error, ClientError::Io { .. }),
            unsent: false,
            error,
        }
    }

    fn malformed(&self, reason: &str) -> Failed {
        Failed {
            unheard: false,
            unsent: false,
            error: ClientError::protocol(&self.host, reason),
        }
    }
}

impl Drop for Upload {
    /// Whatever its maker does meanwhile, the server sees the end.
    fn drop(&mut self) {
        if self.progress.is_going() {
            // An error says that the connection is gone already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Under that deadline, if there is one.
fn within<T>(until: Option<Instant>, wait: impl FnOnce() -> io::Result<T>) -> io::Result<T> {
    match until {
        None => wait(),
        Some(until) => {
            deadline(until, wait).unwrap_or_else(|_| Err(io::ErrorKind::TimedOut.into()))
        }
    }
}

/// Reads what comes, and sends what is left while nothing does; 0 at the end.
fn read(
    stream: &Transport,
    sending: &mut Sending,
    upload: Option<&Upload>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    if let Some(count) = read_while_sending(stream, sending, buffer)? {
        return Ok(count);
    }
    let read = stream.read(buffer);
    let Some(upload) = upload else {
        return told(read, sending.refused == Some(RESET), buffer);
    };
    let is_the_callers =
        |error: &io::Error| is_cancelled_error(error) || error.kind() == io::ErrorKind::TimedOut;
    let has_ended = match &read {
        Ok(count) => *count == 0 && !buffer.is_empty(),
        Err(error) => !is_the_callers(error),
    };
    // Its sender may have ended it.
    match has_ended.then(|| upload.progress.reason()).flatten() {
        Some(reason) => Err(reason),
        None => told(read, upload.progress.state() == State::Reset, buffer),
    }
}

/// Sends what is left; ends sooner if something comes meanwhile.
fn read_while_sending(
    stream: &Transport,
    sending: &mut Sending,
    buffer: &mut [u8],
) -> io::Result<Option<usize>> {
    while !sending.is_over() || stream.unsent() > 0 {
        // Neither try looks at the scope, and both may always succeed.
        check()?;
        let has_moved = sending.advance(stream)?;
        if sending.is_over() && stream.unsent() == 0 {
            break;
        }
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !has_moved {
                    stream.wait_either()?;
                }
            }
            read => return read.map(Some),
        }
    }
    Ok(None)
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

/// A reset is reported once. Told to the sender, it looks to the reader like a clean end.
fn told(read: io::Result<usize>, is_reset: bool, buffer: &[u8]) -> io::Result<usize> {
    match read {
        Ok(0) if is_reset && !buffer.is_empty() => Err(RESET.into()),
        read => read,
    }
}
