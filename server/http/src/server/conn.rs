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
//! [`out`](super::out).

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use http::StatusCode;
use maniple::{panics, task::is_imbalanced, time::coarse_now};

use super::{
    answer::{Asked, Way},
    buffers::Scratch,
    drain::Registry,
    ending::{linger, reset},
    exchange::{Begun, Exchange},
    faults::{dispose, internal_error, not_final, report_panic},
    out::{Out, Patience},
    state::Connection,
};
use crate::{
    body::BodyLimits,
    http1::{
        Reject,
        conversation::{Next, Sent, after_answer},
        head::{self, Limits},
    },
    request::Request,
    response::{IntoResponse, Response},
    router::Router,
    transport::Peer,
};

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
    connection: Arc<Connection>,
    peer: Peer,
    waited: Option<Standby>,
) -> Option<Standby> {
    // A first request is due as soon as a header is; later ones when the client has more to ask.
    let wait = waited.unwrap_or_else(|| {
        connection.transport.set_nodelay();
        let _ = connection
            .transport
            .set_write_timeout(Some(Patience::period(service.body_limits.stall)));
        Standby::from_now(service.timeouts.header)
    });
    // A client that asks now and then does not need a coroutine in between.
    let is_rare = coarse_now().saturating_duration_since(wait.since) > SOON;
    let mut conn = Conn {
        service,
        rested: connection.has_rested(),
        stands_by: connection.transport.has_descriptor(),
        request: Request {
            exchange: Exchange::new(connection, peer, service.body_limits),
        },
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
                linger(conn.exchange().connection(), service.body_limits.stall);
                return None;
            }
            Ok(Flow::Reset) => {
                reset(conn.exchange().connection(), service.body_limits.stall);
                return None;
            }
            Err(error) => {
                let peer = conn.exchange().peer();
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
    /// Whether it can be waited for without a coroutine.
    stands_by: bool,
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
    #[inline]
    fn exchange(&self) -> &Exchange {
        &self.request.exchange
    }

    #[inline]
    fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.request.exchange
    }

    /// The way out, given the buffer that is lent.
    #[inline]
    fn way<'a>(&'a self, out: &'a Rc<Out>) -> Way<'a> {
        Way {
            out,
            connection: self.exchange().connection(),
            stall: self.service.body_limits.stall,
        }
    }

    /// Whether the connection can wait for its next request on standby, now that it has answered all.
    #[cold]
    fn may_stand_by(&self) -> bool {
        self.exchange().connection().rest();
        self.stands_by && !self.service.registry.is_draining()
    }

    /// Waits for requests and answers all that have come.
    #[inline]
    fn turn(&mut self) -> io::Result<Flow> {
        let connection = self.exchange().connection();
        if self.rested {
            connection.rest();
            if self.service.registry.is_draining() {
                // What arrived before is still answered; there is nothing more to wait for.
                self.service.registry.end_idle(connection);
            }
        }
        let soon = match self.stands_by {
            true => self.wait.until.min(self.wait.since + SOON),
            false => self.wait.until,
        };
        if let Err(error) = self.exchange().await_readable(soon) {
            return match error.kind() {
                io::ErrorKind::TimedOut if self.wait.until <= soon => Ok(Flow::Close),
                io::ErrorKind::TimedOut => Ok(Flow::StandBy),
                _ => Err(error),
            };
        }
        self.read_and_answer(Exchange::fill)
    }

    /// As [`turn`](Self::turn), when there should be something to read, or it is too late for it.
    fn turn_after_standby(&mut self) -> io::Result<Flow> {
        match self.read_and_answer(Exchange::fill_with_what_is_there) {
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
        read: impl FnOnce(&mut Exchange) -> io::Result<usize>,
    ) -> io::Result<Flow> {
        let (scratch, out) = Scratch::take();
        self.exchange_mut().lend(scratch);
        self.out = Some(out);
        let flow = match read(self.exchange_mut()) {
            Ok(0) => Ok(Flow::Close),
            Ok(_) => {
                self.exchange().connection().work();
                self.rested = true;
                self.answer_all()
            }
            Err(error) => Err(error),
        };
        if let (Some(scratch), Some(out)) = (self.exchange_mut().take_back(), self.out.take()) {
            scratch.put_back(out);
        }
        flow
    }

    #[inline]
    fn answer_all(&mut self) -> io::Result<Flow> {
        let mut deadline = None;
        // At hand for all of them.
        let out = self.out.clone().expect("a busy connection has a buffer");
        let out = &out;
        loop {
            let scratch = self.request.exchange.scratch_mut();
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
                    match self.exchange_mut().begin() {
                        Ok(Begun::AtOnce) => {}
                        // What it is asked with goes straight to the client, behind all else.
                        Ok(Begun::WhenAsked) => self.way(out).flush()?,
                        Err(reject) => return self.refuse(reject, out),
                    }
                    match self.answer(out)? {
                        Flow::Keep => {}
                        flow => return Ok(flow),
                    }
                    let scratch = self.exchange_mut().scratch_mut();
                    scratch.input.next_message();
                    if scratch.input.unused().is_empty() {
                        self.way(out).flush()?;
                        return Ok(Flow::Keep);
                    }
                    self.way(out).keep_back()?;
                }
                Ok(false) => {
                    let until = *deadline
                        .get_or_insert_with(|| coarse_now() + self.service.timeouts.header);
                    if let Some(flow) = self.complete_head(until, out)? {
                        return Ok(flow);
                    }
                }
                Err(reject) => return self.refuse(reject, out),
            }
        }
    }

    /// Reads until the head may be complete; the flow if it will not be.
    #[cold]
    fn complete_head(&mut self, until: Instant, out: &Rc<Out>) -> io::Result<Option<Flow>> {
        self.way(out).flush()?;
        loop {
            // Only the end of a head makes it worth parsing again, or a head cut into single bytes
            // would be parsed once for each.
            let searched = {
                let input = &self.exchange().scratch().input;
                input.filled - input.start
            };
            if let Err(error) = self.exchange().await_readable(until) {
                if error.kind() != io::ErrorKind::TimedOut {
                    return Err(error);
                }
                let late = Reject::new(StatusCode::REQUEST_TIMEOUT, "header did not come in time");
                return self.refuse(late, out).map(Some);
            }
            if self.exchange_mut().fill()? == 0 {
                if self.exchange().connection().is_ending() {
                    // The drain shut a connection that had been idle: the client repeats this elsewhere.
                    return Ok(Some(Flow::Close));
                }
                let cut = Reject::bad("connection closed within the header");
                return self.refuse(cut, out).map(Some);
            }
            let input = &self.exchange().scratch().input;
            let head = &input.bytes[input.start..input.filled];
            if head::may_be_complete(head, searched, &self.service.limits) {
                return Ok(None);
            }
        }
    }

    /// Calls the handler and appends its answer.
    #[inline]
    fn answer(&mut self, out: &Rc<Out>) -> io::Result<Flow> {
        let (router, request) = (&self.service.router, &mut self.request);
        let called = catch_unwind(AssertUnwindSafe(|| router.answer(request)));
        let mut response = match called {
            Ok(response) => response,
            // A panic, or that it was cancelled.
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
            match self.exchange().scratch().input.unused() {
                [] => self.way(out).flush()?,
                _ => self.way(out).keep_back()?,
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
            report_panic(self.exchange(), &*panic);
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
            keep && self.exchange().head().keep_alive && self.exchange().scratch().body.can_end();
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
        let head = self.exchange().head();
        let asked = Asked {
            of_head: head.of_head,
            http_11: head.http_11,
        };
        let sent = self.way(out).send(response, keep, asked)?;
        if sent != Sent::Whole || !keep {
            self.way(out).flush()?;
        }
        match after_answer(sent, keep, || self.nothing_more_came()) {
            Next::Request => {}
            Next::Close => return Ok(Flow::Close),
            Next::Linger => return Ok(Flow::Linger),
            Next::Reset => return Ok(Flow::Reset),
        }
        if !self.exchange().body_is_done() {
            self.way(out).flush()?;
            if !self.exchange_mut().discard_body() {
                return Ok(Flow::Linger);
            }
        }
        Ok(Flow::Keep)
    }

    /// In a drain: whether requests that arrived before are still to be answered. What arrives while they
    /// are is looked for once, since a client could go on for ever.
    #[cold]
    fn more_has_arrived(&mut self) -> bool {
        if !self.exchange().body_is_done() {
            return false;
        }
        if !self.exchange().scratch().input.unused().is_empty() {
            return true;
        }
        !std::mem::replace(&mut self.last_call, true) && self.exchange_mut().try_fill() > 0
    }

    /// Whether closing will not reset the connection, and so take the answer away from the peer, because
    /// of bytes that were not read.
    #[cold]
    fn nothing_more_came(&mut self) -> bool {
        self.exchange().body_is_done()
            && self.exchange().scratch().input.unused().is_empty()
            && self.exchange_mut().try_fill() == 0
    }

    /// Answers what cannot be understood, and ends the connection.
    #[cold]
    fn refuse(&mut self, reject: Reject, out: &Rc<Out>) -> io::Result<Flow> {
        let mut response = (reject.status, format!("{}\n", reject.reason)).into_response();
        let input = &self.exchange().scratch().input;
        // There may be no head in hand: only this matters to an answer.
        let asked = Asked {
            of_head: head::is_of_head(&input.bytes[input.start..input.filled]),
            http_11: true,
        };
        self.way(out).send(&mut response, false, asked)?;
        self.way(out).flush()?;
        Ok(Flow::Linger)
    }
}
