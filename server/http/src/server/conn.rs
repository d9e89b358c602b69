//! One connection: the loop that reads requests, calls handlers and writes answers. Read this first.
//!
//! ```text
//!          ┌────────────────────────── nothing left to answer ◄───────────────┐
//!          ▼                                                                  │
//!   idle, no buffer ──readable──► borrow buffers ──► parse ──► handle ──► append answer
//!     │    ▲    │                     ▲                │ incomplete           │ more requests
//!     │    │    │ idle for 2 s        └── read ◄── flush answers              │ in the buffer:
//!     │    │    ▼                                      │ malformed            └► parse
//!     │    │  on standby, no coroutine                 ▼
//!     │    └──── readable      close ◄── lingering ◄── flush ◄── append error
//!     │ idle timeout, drain      ▲
//!     └──────────────────────────┘
//! ```
//!
//! A connection that is idle for long is given up by its coroutine, and so costs no stack; a new one serves
//! it once there is something to read. That one may be on another worker, so while some workers have more to
//! do than others, connections wait like that between any two requests.
//!
//! Requests that arrive together are answered by one write, unless a handler keeps the others waiting: see
//! [`out`](crate::out).

use std::{
    any::Any,
    io::{self, Read},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    thread,
    time::{Duration, Instant},
};

use http::StatusCode;
use maniple::{
    log_limit::LogLimit,
    log_within,
    net::{Shutdown, TcpStream},
    panics,
    task::is_imbalanced,
    time::coarse_now,
};

use crate::{
    body::BodyLimits,
    date,
    drain::Registry,
    http1::{
        Reject,
        head::{self, Limits},
        response::{self, Ending, LAST_CHUNK},
    },
    line::Line,
    out::{Out, Patience, is_own_timeout},
    request::{Begun, Request},
    respond::{BodyKind, IntoResponse, Response},
    router::{Found, Router},
    scratch::Scratch,
};

/// Lines in ten seconds of what peers can bring about, each kind for itself.
const MOST_LINES: u32 = 20;

/// What all connections of a server share.
#[derive(Debug)]
pub(crate) struct Service {
    pub(crate) router: Router,
    pub(crate) limits: Limits,
    pub(crate) timeouts: Timeouts,
    pub(crate) body_limits: BodyLimits,
    pub(crate) registry: Registry,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Timeouts {
    pub(crate) header: Duration,
    pub(crate) idle: Duration,
}

/// How long a coroutine waits for the next request before the connection goes on standby, where it needs none.
const SOON: Duration = Duration::from_secs(2);

/// Answers are collected up to this before they are sent, when requests come faster than that.
const MAX_OUTPUT: usize = 64 * 1024;

/// Bodies up to this are copied behind their head, to leave in the same write.
const COPIED_BODY: usize = 16 * 1024;

/// Read at a time of a body that a handler's reader gives.
const STREAM_READ: usize = 16 * 1024;

/// After an error answer, so long is what the peer still sends read away, that the answer may reach it.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flow {
    Keep,
    Close,
    /// Close once the peer had a chance to read the answer.
    Linger,
    /// As `Linger`, but not in an orderly way.
    Reset,
    /// Nothing comes: wait on without a coroutine.
    StandBy,
}

/// How far a response got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Sent {
    Whole,
    /// Whole; the end of the connection says so.
    ThenClose,
    /// Its body broke off, which its framing shows.
    Cut,
    /// Its body broke off, and an orderly end of the connection would look like the body's.
    CutUnseen,
}

/// A wait for the next request without a coroutine.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Standby {
    since: Instant,
    pub(crate) until: Instant,
}

/// Serves a connection until either side ends it, or it has to wait for the next request where no coroutine
/// should: then says how. What serves it on once there is something to read hands that in as `waited`.
pub(crate) fn serve(
    service: &Arc<Service>,
    line: Arc<Line>,
    peer: SocketAddr,
    waited: Option<Standby>,
) -> Option<Standby> {
    // A first request is due as soon as a header is; later ones when the client has more to ask.
    let wait = waited.unwrap_or_else(|| {
        let _ = line.stream.set_nodelay(true);
        let _ = line
            .stream
            .set_write_timeout(Some(Patience::period(service.body_limits.stall)));
        Standby::from_now(service.timeouts.header)
    });
    // A client that asks now and then does not need a coroutine in between.
    let is_rare = coarse_now().saturating_duration_since(wait.since) > SOON;
    let mut conn = Conn {
        service,
        rested: line.has_rested(),
        request: Request::new(line, peer, service.body_limits),
        out: None,
        wait,
        last_call: false,
    };
    let mut flow = match waited {
        None => conn.turn(),
        Some(_) => conn.turn_after_standby(),
    };
    loop {
        match flow {
            Ok(Flow::Keep) => {
                conn.wait = Standby::from_now(service.timeouts.idle);
                if (is_rare || is_imbalanced()) && conn.may_stand_by() {
                    return Some(conn.wait);
                }
                flow = conn.turn();
            }
            Ok(Flow::StandBy) => return Some(conn.wait),
            Ok(Flow::Close) => return None,
            Ok(Flow::Linger) => {
                linger(conn.request.line(), service.body_limits.stall);
                return None;
            }
            Ok(Flow::Reset) => {
                reset(conn.request.line(), service.body_limits.stall);
                return None;
            }
            Err(error) => {
                panics::catch(|| log::debug!("connection from {peer}: {error}"));
                return None;
            }
        }
    }
}

impl Standby {
    fn from_now(patience: Duration) -> Self {
        let since = coarse_now();
        Self {
            since,
            until: since + patience,
        }
    }
}

struct Conn<'a> {
    service: &'a Arc<Service>,
    request: Request,
    /// There while it is busy.
    out: Option<Rc<Out>>,
    /// When the next request must have begun.
    wait: Standby,
    /// Whether a first request has been waited for.
    rested: bool,
    /// Whether it was looked, in a drain, for requests that had arrived.
    last_call: bool,
}

impl Drop for Conn<'_> {
    fn drop(&mut self) {
        // It unwinds: the courier is not to send for it any more.
        if let Some(out) = &self.out {
            out.clear();
        }
    }
}

impl Conn<'_> {
    /// Whether the connection can wait for its next request on standby, now that it has answered all.
    #[cold]
    fn may_stand_by(&self) -> bool {
        self.request.line().rest();
        !self.service.registry.is_draining()
    }

    /// Waits for requests and answers all that have come.
    #[inline]
    fn turn(&mut self) -> io::Result<Flow> {
        let line = self.request.line();
        if self.rested {
            line.rest();
            if self.service.registry.is_draining() {
                // What arrived before is still answered; there is nothing more to wait for.
                self.service.registry.end_idle(line);
            }
        }
        let soon = self.wait.until.min(self.wait.since + SOON);
        if let Err(error) = self.request.await_readable(soon) {
            return match error.kind() {
                io::ErrorKind::TimedOut if self.wait.until <= soon => Ok(Flow::Close),
                io::ErrorKind::TimedOut => Ok(Flow::StandBy),
                _ => Err(error),
            };
        }
        self.read_and_answer(Self::read_more)
    }

    /// As [`turn`](Self::turn), when there should be something to read, or it is too late for it.
    fn turn_after_standby(&mut self) -> io::Result<Flow> {
        match self.read_and_answer(Self::try_read_more) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.wait.until <= coarse_now() {
                    true => Ok(Flow::Close),
                    false => self.turn(),
                }
            }
            flow => flow,
        }
    }

    #[inline]
    fn read_and_answer(
        &mut self,
        read: impl FnOnce(&mut Self) -> io::Result<usize>,
    ) -> io::Result<Flow> {
        let (scratch, out) = Scratch::take();
        self.request.scratch = Some(scratch);
        self.out = Some(out);
        let flow = match read(self) {
            Ok(0) => Ok(Flow::Close),
            Ok(_) => {
                self.request.line().work();
                self.rested = true;
                self.answer_all()
            }
            Err(error) => Err(error),
        };
        if let (Some(scratch), Some(out)) = (self.request.scratch.take(), self.out.take()) {
            scratch.put_back(out);
        }
        flow
    }

    #[inline]
    fn out(&self) -> &Rc<Out> {
        self.out.as_ref().expect("a busy connection has a buffer")
    }

    /// Sends what has been collected.
    #[inline]
    fn flush(&self) -> io::Result<()> {
        let stall = self.service.body_limits.stall;
        self.out().flush(self.request.line(), stall)
    }

    /// Lets what has been collected leave while users' code runs, if that waits.
    #[inline]
    fn keep_back(&self, out: &Rc<Out>) -> io::Result<()> {
        if out.is_kept_back() || out.keep_back(self.request.line()) {
            return Ok(());
        }
        self.flush()
    }

    #[inline]
    fn answer_all(&mut self) -> io::Result<Flow> {
        let mut deadline = None;
        // At hand for all of them.
        let out = &self.out().clone();
        loop {
            let scratch = self.request.scratch_mut();
            let (start, filled) = (scratch.input.start, scratch.input.filled);
            let parsed = head::parse(
                &scratch.input.bytes[start..filled],
                &self.service.limits,
                &mut scratch.fields,
                &mut scratch.head,
            );
            match parsed {
                Ok(true) => {
                    deadline = None;
                    match self.request.begin() {
                        Ok(Begun::AtOnce) => {}
                        // What it is asked with goes straight to the client, behind all else.
                        Ok(Begun::WhenAsked) => self.flush()?,
                        Err(reject) => return self.refuse(reject),
                    }
                    match self.answer(out)? {
                        Flow::Keep => {}
                        flow => return Ok(flow),
                    }
                    let scratch = self.request.scratch_mut();
                    scratch.input.next_message();
                    if scratch.input.unused().is_empty() {
                        self.flush()?;
                        return Ok(Flow::Keep);
                    }
                    self.keep_back(out)?;
                }
                Ok(false) => {
                    let until = *deadline
                        .get_or_insert_with(|| coarse_now() + self.service.timeouts.header);
                    if let Some(flow) = self.complete_head(until)? {
                        return Ok(flow);
                    }
                }
                Err(reject) => return self.refuse(reject),
            }
        }
    }

    /// Reads until the head may be complete; the flow if it will not be.
    #[cold]
    fn complete_head(&mut self, until: Instant) -> io::Result<Option<Flow>> {
        self.flush()?;
        loop {
            // Only the end of a head makes it worth parsing again, or a head cut into single bytes
            // would be parsed once for each.
            let searched = {
                let input = &self.request.scratch().input;
                input.filled - input.start
            };
            if let Err(error) = self.request.await_readable(until) {
                if error.kind() != io::ErrorKind::TimedOut {
                    return Err(error);
                }
                let late = Reject::new(StatusCode::REQUEST_TIMEOUT, "header did not come in time");
                return self.refuse(late).map(Some);
            }
            if self.read_more()? == 0 {
                if self.request.line().is_ending() {
                    // The drain shut a connection that had been idle: the client repeats this elsewhere.
                    return Ok(Some(Flow::Close));
                }
                return self
                    .refuse(Reject::bad("connection closed within the header"))
                    .map(Some);
            }
            let input = &self.request.scratch().input;
            let head = &input.bytes[input.start..input.filled];
            if head::may_be_complete(head, searched, &self.service.limits) {
                return Ok(None);
            }
        }
    }

    #[inline]
    fn read_more(&mut self) -> io::Result<usize> {
        self.read_by(|mut stream, room| stream.read(room))
    }

    /// As [`read_more`](Self::read_more), without waiting.
    fn try_read_more(&mut self) -> io::Result<usize> {
        self.read_by(TcpStream::try_read)
    }

    #[inline]
    fn read_by(
        &mut self,
        read: impl FnOnce(&TcpStream, &mut [u8]) -> io::Result<usize>,
    ) -> io::Result<usize> {
        let (line, scratch) = self.request.line_and_scratch();
        let room = scratch.input.room(HEAD_READ);
        let wanted = room.len();
        let count = read(&line.stream, room)?;
        scratch.input.filled += count;
        self.request.brimful = count == wanted;
        Ok(count)
    }

    /// Calls the handler and appends its answer.
    #[inline]
    fn answer(&mut self, out: &Rc<Out>) -> io::Result<Flow> {
        let mut response = match self.dispatch() {
            Ok(response) => response,
            Err(panic) => return self.answer_panic(panic, out),
        };
        if response.status.is_informational() {
            let instead = not_final(response.status);
            dispose(std::mem::replace(&mut response, instead));
        }
        let flow = self.finish(&mut response, true, out);
        if response.is_foreign() {
            return self.dispose_behind(response, flow, out);
        }
        flow
    }

    /// Lets the answer leave, and then drops what it was made of, which may wait.
    #[cold]
    fn dispose_behind(
        &self,
        response: Response,
        flow: io::Result<Flow>,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        let flow = flow.and_then(|flow| {
            match self.request.scratch().input.unused() {
                [] => self.flush()?,
                _ => self.keep_back(out)?,
            }
            Ok(flow)
        });
        dispose(response);
        flow
    }

    /// What a handler's panic leads to: 500, and the end of the connection. What the handler shares with those
    /// behind it may be half changed, and its request half read; the client repeats what has no answer.
    #[cold]
    fn answer_panic(&mut self, panic: Box<dyn Any + Send>, out: &Rc<Out>) -> io::Result<Flow> {
        let flow = if maniple::cancel::is_cancelled() {
            Ok(Flow::Close)
        } else {
            report(&self.request, &*panic);
            self.finish(&mut internal_error(), false, out)
        };
        // Last, since its destructor may wait.
        panics::discard(panic);
        flow
    }

    /// Appends the handler's answer, and sees how the connection goes on.
    #[inline(always)]
    fn finish(&mut self, response: &mut Response, keep: bool, out: &Rc<Out>) -> io::Result<Flow> {
        let mut keep =
            keep && self.request.head().keep_alive && self.request.scratch().body.can_end();
        if keep && response.headers.is_some() {
            keep = !response.asks_to_close();
        }
        if self.service.registry.is_draining() {
            self.service
                .registry
                .answered
                .fetch_add(1, Ordering::Relaxed);
            keep = keep && self.more_has_arrived();
        }
        let sent = self.send(response, keep, out)?;
        if sent != Sent::Whole || !keep {
            self.flush()?;
            return Ok(match sent {
                Sent::CutUnseen => Flow::Reset,
                Sent::Whole | Sent::ThenClose if self.nothing_more_came() => Flow::Close,
                _ => Flow::Linger,
            });
        }
        if !self.request.body_is_done() {
            self.flush()?;
            if !self.request.discard_body() {
                return Ok(Flow::Linger);
            }
        }
        Ok(Flow::Keep)
    }

    /// In a drain: whether requests that arrived before are still to be answered. What arrives while they
    /// are is looked for once, since a client could go on for ever.
    #[cold]
    fn more_has_arrived(&mut self) -> bool {
        if !self.request.body_is_done() {
            return false;
        }
        if !self.request.scratch().input.unused().is_empty() {
            return true;
        }
        !std::mem::replace(&mut self.last_call, true) && self.request.try_fill() > 0
    }

    /// Whether closing will not reset the connection, and so take the answer away from the peer, because
    /// of bytes that were not read.
    #[cold]
    fn nothing_more_came(&mut self) -> bool {
        self.request.body_is_done()
            && self.request.scratch().input.unused().is_empty()
            && self.request.try_fill() == 0
    }

    /// The handler's response, or what unwound out of it: a panic, or that it was cancelled.
    #[inline]
    fn dispatch(&mut self) -> thread::Result<Response> {
        let service: &Arc<Service> = self.service;
        let request = &mut self.request;
        let found = {
            let Scratch {
                input,
                head,
                params,
                ..
            } = request.scratch_mut();
            let path = head.path_in(&input.bytes[input.start..]);
            let base = path.as_ptr().addr();
            service.router.find(&head.method, path, |name, value| {
                let at = head.path.start + (value.as_ptr().addr() - base);
                params.push(name, value, at);
            })
        };
        match found {
            Found::Answer(response) => Ok(*response),
            Found::Handler(handler) => catch_unwind(AssertUnwindSafe(|| handler.call(request))),
        }
    }

    /// Appends a response.
    #[inline(always)]
    fn send(&mut self, response: &mut Response, keep: bool, out: &Rc<Out>) -> io::Result<Sent> {
        let head = self.request.head();
        let http_11 = head.http_11;
        let connection = match (keep, http_11) {
            (false, _) => Some("close"),
            (true, false) => Some("keep-alive"),
            (true, true) => None,
        };
        let content = response::Content {
            status: response.status,
            headers: response.headers.as_deref(),
            length: match &response.body.kind {
                BodyKind::Reader { length, .. } => *length,
                _ => response.body.bytes().map(|bytes| bytes.len() as u64),
            },
            of_head: head.of_head,
            http_11,
        };
        let (ending, has_body) = content.ending();
        let connection = match ending {
            Ending::Close => Some("close"),
            _ => connection,
        };
        let mut output = out.bytes();
        response::write_head(
            &mut output,
            &response::Head {
                status: response.status,
                content_type: response.content_type,
                headers: response.headers.as_deref(),
                ending,
                connection,
            },
        );
        date::end_head(&mut output);
        if !has_body {
            return Ok(match ending {
                Ending::Close => Sent::ThenClose,
                _ => Sent::Whole,
            });
        }
        match response.body.bytes() {
            Some(bytes) if bytes.len() <= COPIED_BODY => {
                output.extend_from_slice(bytes);
                if output.len() > MAX_OUTPUT {
                    drop(output);
                    self.flush()?;
                }
                Ok(Sent::Whole)
            }
            Some(bytes) => {
                drop(output);
                let stall = self.service.body_limits.stall;
                out.flush_with(bytes, self.request.line(), stall)?;
                Ok(Sent::Whole)
            }
            None => {
                drop(output);
                self.stream_body(&mut response.body.kind, ending, out)
            }
        }
    }

    /// Sends a body as its reader gives it.
    #[cold]
    fn stream_body(
        &mut self,
        body: &mut BodyKind,
        ending: Ending,
        out: &Rc<Out>,
    ) -> io::Result<Sent> {
        let BodyKind::Reader { reader, length } = body else {
            return Ok(Sent::Whole);
        };
        let broken_off = match ending {
            Ending::Close => Sent::CutUnseen,
            _ => Sent::Cut,
        };
        let mut buffer = vec![0; STREAM_READ];
        let mut sent = 0;
        loop {
            self.keep_back(out)?;
            let read = catch_unwind(AssertUnwindSafe(|| reader.read(&mut buffer)));
            let count = match read {
                Ok(Ok(0)) => break,
                Ok(Ok(count)) => count,
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => continue,
                Ok(Err(error)) => {
                    report_broken_body(error);
                    return Ok(broken_off);
                }
                Err(panic) => {
                    panics::discard(panic);
                    return Ok(broken_off);
                }
            };
            sent += count as u64;
            {
                let mut output = self.out().bytes();
                match ending {
                    Ending::Chunked => response::write_chunk(&mut output, &buffer[..count]),
                    _ => output.extend_from_slice(&buffer[..count]),
                }
            }
            self.flush()?;
        }
        match ending {
            Ending::Chunked => {
                self.out().bytes().extend_from_slice(LAST_CHUNK);
                Ok(Sent::Whole)
            }
            Ending::Close => Ok(Sent::ThenClose),
            _ if *length == Some(sent) => Ok(Sent::Whole),
            _ => Ok(Sent::Cut),
        }
    }

    /// Answers what cannot be understood, and ends the connection.
    #[cold]
    fn refuse(&mut self, reject: Reject) -> io::Result<Flow> {
        let mut response = (reject.status, format!("{}\n", reject.reason)).into_response();
        let Scratch { input, head, .. } = self.request.scratch_mut();
        // There may be no head in hand: only these matter to an answer.
        head.of_head = head::is_of_head(&input.bytes[input.start..input.filled]);
        head.http_11 = true;
        let out = &self.out().clone();
        self.send(&mut response, false, out)?;
        self.flush()?;
        Ok(Flow::Linger)
    }
}

/// Says in the log what a handler's panic said.
#[cold]
fn report(request: &Request, panic: &(dyn Any + Send)) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    let message = panics::message(panic)
        .unwrap_or("(no message)")
        .escape_debug();
    let (method, path) = (request.method(), request.path());
    log_within!(
        RATE,
        error,
        "handler of {method} {path} panicked: {message}"
    );
}

#[cold]
fn report_broken_body(error: io::Error) {
    static RATE: LogLimit = LogLimit::new(MOST_LINES);
    log_within!(RATE, error, "response body broke off: {error}");
    // Its destructor is the reader's, as its message is.
    panics::catch(move || drop(error));
}

/// Drops a response whose body is of the handler's own making, and so its destructor.
#[cold]
fn dispose(response: Response) {
    panics::catch(move || drop(response));
}

#[cold]
fn internal_error() -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, "internal server error\n").into_response()
}

/// A handler's answer is the final one, so the client would wait for ever behind a 1xx.
#[cold]
fn not_final(status: StatusCode) -> Response {
    static RATE: LogLimit = LogLimit::new(1);
    log_within!(
        RATE,
        error,
        "a handler answered with {status}, which is not a final status"
    );
    internal_error()
}

/// Room for a read of a head.
const HEAD_READ: usize = 1024;

/// Says that nothing more will come and reads what the peer still sends: closing with unread bytes
/// would reset the connection and may take the answer away from the peer (RFC 9112, 9.6). One that takes
/// the answer slowly has its time for that.
#[cold]
fn linger(line: &Line, stall: Duration) {
    let mut stream = &line.stream;
    if stream.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut patience = Patience::with(line, stall);
    let until = coarse_now() + LINGER;
    let _ = stream.set_read_timeout(Some(Patience::period(stall).min(LINGER)));
    let mut buffer = vec![0; 8 * 1024];
    let mut discarded = 0;
    while discarded < MAX_LINGER_BYTES {
        match stream.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => discarded += count,
            Err(error) if is_own_timeout(&error) => {}
            Err(_) => return,
        }
        if coarse_now() >= until && (patience.is_over(line) || patience.is_done()) {
            return;
        }
    }
}

/// Sees to it that closing resets the connection, once the peer has taken what was sent, or takes nothing.
#[cold]
fn reset(line: &Line, stall: Duration) {
    // An error says that it is gone already.
    let _ = line.stream.reset_on_close();
    let mut patience = Patience::with(line, stall);
    while !patience.is_done() && !patience.is_over(line) {
        maniple::sleep(Patience::period(stall).min(LOOK));
    }
}

/// How soon to look again whether the peer has taken all.
const LOOK: Duration = Duration::from_millis(10);
