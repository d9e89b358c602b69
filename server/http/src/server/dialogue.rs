//! The dialogue with a client: the request in hand is answered, and what follows is found out.
//!
//! [`conn`](super::conn) is the loop that reads the requests; here a handler is called, or a request refused, the answer
//! is put on its way ([`answer`](super::answer)), and the connection goes on, or ends in one way or the other.

use std::{
    any::Any,
    io,
    mem::{self, ManuallyDrop},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use http::{Method, StatusCode, header::UPGRADE};
use maniple::{panics, sim};

use super::{
    answer::{Asked, Way},
    exchange::{Begun, Exchange},
    faults::{dispose, no_tunnel, not_final, report_panic},
    http2::Opening,
    out::Out,
    overrun::report,
    service::Service,
    stream,
    upgrade::Takeover,
};
use crate::{
    body::{BodyError, BodyState},
    http1::{
        Reject,
        conversation::{Next, Sent, after_answer},
        head,
        response::Extra,
    },
    middleware::Refused,
    problem::Problem,
    request::Request,
    response::{Body, BodyKind, IntoResponse, Response},
    router::Router,
};

/// A connection that is served, as a handler's request and answer see it.
pub(super) struct Dialogue<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) request: Request,
    /// Whether it was looked, in a drain, for requests that had arrived.
    last_call: bool,
    /// Whether the connection ends with the last request that has arrived.
    pub(super) is_last: bool,
    /// There once the connection is to be handed over.
    handover: Option<Handover>,
    /// What came of HTTP/2, once that is to be spoken.
    opening: Option<Opening>,
}

/// What becomes of a connection that is handed over.
pub(crate) struct Handover {
    pub(super) takeover: Takeover,
    pub(super) protocol: String,
    /// What the client has sent behind its request.
    pub(super) ahead: Vec<u8>,
}

/// Whether the connection goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Flow {
    Keep,
    Close,
    /// Close once the peer had a chance to read the answer.
    Linger,
    /// As `Linger`, but not in an orderly way.
    Reset,
    /// Nothing comes: wait on without a coroutine.
    StandBy,
    /// It is somebody else's from now on.
    HandOver,
    /// HTTP/2 is spoken from now on.
    Http2,
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(service: &'a Arc<Service>, exchange: Exchange) -> Self {
        Self {
            service,
            request: Request { exchange },
            last_call: false,
            is_last: false,
            handover: None,
            opening: None,
        }
    }
}

impl Dialogue<'_> {
    #[inline]
    pub(super) fn exchange(&self) -> &Exchange {
        &self.request.exchange
    }

    #[inline]
    pub(super) fn exchange_mut(&mut self) -> &mut Exchange {
        &mut self.request.exchange
    }

    /// The way out, given the buffer that is lent.
    #[inline]
    pub(super) fn way<'a>(&'a self, out: &'a Rc<Out>) -> Way<'a> {
        Way {
            out,
            connection: self.exchange().connection(),
            stall: self.service.body_limits.stall,
        }
    }

    /// Calls the handler and appends its answer.
    #[inline]
    pub(super) fn answer(&mut self, out: &Rc<Out>) -> io::Result<Flow> {
        self.answer_by(out, Router::answer)
    }

    /// What the body is asked for with goes straight to the client, behind all else.
    #[cold]
    pub(super) fn before_asking(&mut self, out: &Rc<Out>) -> io::Result<()> {
        out.busy.mute_next();
        self.way(out).flush()
    }

    /// Begins a request whose body is longer than bodies usually may be, if its route allows it; else it is refused before
    /// anything of that is read.
    #[cold]
    #[inline(never)]
    pub(super) fn begin_long(&mut self, out: &Rc<Out>) -> io::Result<Option<Flow>> {
        let usual = self.exchange().usual_body_limit();
        let own = self.service.router.max_body_bytes_of(&self.request);
        let limit = own.unwrap_or(usual);
        match self.exchange_mut().begin_within(limit) {
            Begun::AtOnce => return Ok(None),
            Begun::WhenAsked => return self.before_asking(out).map(|()| None),
            Begun::TooLong => {}
        }
        let error = BodyError::TooLarge { limit };
        report(self.exchange().peer(), error.status(), &error.to_string());
        let too_long =
            |router: &Router, request: &mut Request| router.answer_too_long(request, limit);
        self.answer_by(out, too_long).map(Some)
    }

    #[inline(always)]
    fn answer_by(
        &mut self,
        out: &Rc<Out>,
        call: impl FnOnce(&Router, &mut Request) -> Response,
    ) -> io::Result<Flow> {
        let (router, request) = (&self.service.router, &mut self.request);
        out.busy.begin(request.exchange.head().http_11);
        let called = catch_unwind(AssertUnwindSafe(|| call(router, request)));
        // Most have nothing to drop, and looking for it would take a while.
        let called = ManuallyDrop::new(called);
        out.busy.end();
        if let Ok(response) = &*called
            && !response.is_foreign()
            && !response.status.is_informational()
        {
            let flow = self.finish(response, Extra::NONE, true, out);
            if response.body.is_owned() {
                drop(ManuallyDrop::into_inner(called));
            }
            return flow;
        }
        match ManuallyDrop::into_inner(called) {
            Ok(response) if response.is_plain() && !response.status.is_informational() => {
                self.finish_with_fields(&response, true, out)
            }
            Ok(response) => self.finish_any(response, true, out),
            // A panic, or that it was cancelled.
            Err(panic) => self.answer_panic(panic, out),
        }
    }

    /// Appends an answer that is at hand, with whatever fields.
    #[inline(never)]
    fn finish_with_fields(
        &mut self,
        response: &Response,
        keep: bool,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        self.finish(response, response.extra(), keep, out)
    }

    /// Appends an answer that need not be one, lets it leave, and then drops what it was made of, which may wait.
    #[cold]
    #[inline(never)]
    fn finish_any(
        &mut self,
        mut response: Response,
        keep: bool,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        sim::dawdle();
        if response.is_takeover() && keep {
            return self.hand_over(response, out);
        }
        if response.is_takeover() || response.status.is_informational() {
            let instead = not_final(response.status);
            dispose(mem::replace(&mut response, instead));
        }
        let flow = match response.body.is_streamed() {
            true => self.finish_streamed(&mut response, keep, out),
            false => self.finish_with_fields(&response, keep, out),
        };
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

    /// Sends the last head that HTTP has on this connection, if the client has asked for what follows it.
    #[cold]
    fn hand_over(&mut self, mut response: Response, out: &Rc<Out>) -> io::Result<Flow> {
        let BodyKind::Takeover(takeover) = mem::replace(&mut response.body, Body::empty()).kind
        else {
            return self.finish_any(response, true, out);
        };
        let protocol = response.map().and_then(|headers| headers.get(UPGRADE));
        let protocol = protocol
            .map_or(&b""[..], |protocol| protocol.as_bytes())
            .to_vec();
        let exchange = self.exchange_mut();
        let instead = match response.status {
            StatusCode::SWITCHING_PROTOCOLS if exchange.asks_to_switch_to(&protocol) => None,
            StatusCode::SWITCHING_PROTOCOLS => Some(upgrade_required(&response)),
            _ if exchange.head().method == Method::CONNECT => None,
            _ => Some(no_tunnel()),
        };
        let instead = instead.or_else(|| match exchange.discard_even_if_expected() {
            true => None,
            false => Some(
                Problem::new(StatusCode::PAYLOAD_TOO_LARGE, "request body too large")
                    .into_response(),
            ),
        });
        if let Some(instead) = instead {
            // Its destructor is the handler's.
            panics::catch(move || drop(takeover));
            dispose(response);
            return self.finish_any(instead, true, out);
        }
        if self.service.registry.is_draining() {
            self.service
                .registry
                .answered
                .fetch_add(1, Ordering::Relaxed);
        }
        self.way(out).send_last_head(&response)?;
        self.handover = Some(Handover {
            takeover,
            protocol: String::from_utf8_lossy(&protocol).into_owned(),
            ahead: self.exchange().scratch().input.unused().to_vec(),
        });
        dispose(response);
        Ok(Flow::HandOver)
    }

    /// The way on of a connection whose flow is [`Flow::HandOver`].
    #[cold]
    pub(super) fn take_handover(&mut self) -> Option<Handover> {
        self.handover.take()
    }

    /// What a handler's panic leads to: 500, and the end of the connection. What the handler shares with those
    /// behind it may be half changed, and its request half read; the client repeats what has no answer.
    #[cold]
    fn answer_panic(&mut self, panic: Box<dyn Any + Send>, out: &Rc<Out>) -> io::Result<Flow> {
        let flow = if maniple::cancel::is_cancelled() {
            Ok(Flow::Close)
        } else {
            report_panic(self.exchange(), &*panic);
            let error = StatusCode::INTERNAL_SERVER_ERROR;
            let problem = Problem::new(error, "internal server error");
            let response = self.service.router.tell(problem, Some(&self.request));
            self.finish_any(response, false, out)
        };
        // Last, since its destructor may wait.
        panics::discard(panic);
        flow
    }

    /// Appends an answer whose body is there, and sees how the connection goes on.
    #[inline(always)]
    fn finish(
        &mut self,
        response: &Response,
        extra: Extra<'_>,
        keep: bool,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        let can_end = self.exchange().scratch().body.can_end();
        let keep = self.keeps(response, extra, keep && can_end);
        let sent = self.way(out).send(response, extra, keep, self.asked())?;
        self.go_on(sent, keep, out)
    }

    /// Ends an answer whose body is made while it is sent, maybe of the request's.
    #[cold]
    fn finish_streamed(
        &mut self,
        response: &mut Response,
        keep: bool,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        let may_read = response.body.may_read();
        if may_read {
            self.exchange_mut().ask_if_expected();
        }
        let can_end = may_read || self.exchange().scratch().body.can_end();
        let keep = self.keeps(response, response.extra(), keep && can_end);
        let sent = self.send_any(response, keep, self.asked(), out)?;
        self.go_on(sent, keep, out)
    }

    /// Sends an answer, of whatever its body is made.
    #[cold]
    fn send_any(
        &mut self,
        response: &mut Response,
        keep: bool,
        asked: Asked,
        out: &Rc<Out>,
    ) -> io::Result<Sent> {
        if !response.body.is_streamed() {
            return self.way(out).send(response, response.extra(), keep, asked);
        }
        let connection = self.exchange().connection().clone();
        let way = Way {
            out,
            connection: &connection,
            stall: self.service.body_limits.stall,
        };
        let (ending, has_body) = way.append_head(response, keep, asked);
        if !has_body {
            return Ok(Sent::all(ending));
        }
        let (headers, body) = response.map_and_body();
        stream::send(way, body, headers, ending, &mut self.request.body())
    }

    fn asked(&self) -> Asked {
        let head = self.exchange().head();
        Asked {
            of_head: head.of_head,
            http_11: head.http_11,
        }
    }

    /// Whether the connection is kept behind the answer, if nothing else speaks against it.
    #[inline(always)]
    fn keeps(&mut self, response: &Response, extra: Extra<'_>, mut keep: bool) -> bool {
        keep = keep && self.exchange().head().keep_alive;
        if self.is_last {
            keep = keep && !self.exchange().scratch().input.unused().is_empty();
        }
        if keep && extra.map.is_some() {
            keep = !response.asks_to_close();
        }
        if self.service.registry.is_draining() {
            self.service
                .registry
                .answered
                .fetch_add(1, Ordering::Relaxed);
            keep = keep && self.more_has_arrived();
        }
        // Any answer may be the last, for all that its client knows.
        keep && !sim::buggify!()
    }

    /// How the connection goes on behind an answer that got so far.
    #[inline(always)]
    fn go_on(&mut self, sent: Sent, keep: bool, out: &Rc<Out>) -> io::Result<Flow> {
        if sent != Sent::Whole || !keep {
            self.way(out).flush()?;
        }
        match after_answer(sent, keep, || self.nothing_more_came()) {
            Next::Request => {}
            // The client's own end is bytes: left unread, they would have the kernel take the answer away.
            Next::Close if self.exchange().connection().transport.ends_by_bytes() => {
                return Ok(Flow::Linger);
            }
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

    /// What came of HTTP/2, of a connection whose flow is [`Flow::Http2`].
    #[cold]
    pub(super) fn take_opening(&mut self) -> Option<Opening> {
        self.opening.take()
    }

    /// Goes on as another protocol if the connection opens with that, in place of a first request; else [refuses](Self::refuse).
    #[cold]
    pub(super) fn switch_or_refuse(
        &mut self,
        reject: Reject,
        is_first: bool,
        out: &Rc<Out>,
    ) -> io::Result<Flow> {
        let input = &self.exchange().scratch().input;
        self.opening = match is_first && input.start == 0 {
            true => Opening::of(&self.service.http2, &input.bytes[..input.filled]),
            false => None,
        };
        match self.opening {
            Some(_) => Ok(Flow::Http2),
            None => self.refuse(reject, out),
        }
    }

    /// Answers what cannot be understood, and ends the connection.
    #[cold]
    pub(super) fn refuse(&mut self, reject: Reject, out: &Rc<Out>) -> io::Result<Flow> {
        report(self.exchange().peer(), reject.status, reject.reason);
        let problem = Problem::new(reject.status, reject.reason);
        let mut response = self.service.router.tell(problem, None);
        let input = &self.exchange().scratch().input;
        let received = &input.bytes[input.start..input.filled];
        let peer = self.exchange().peer();
        let refused = Refused::new(peer, reject.status, reject.reason, received);
        self.service.router.hear_of(&refused);
        // There may be no head in hand: only this matters to an answer.
        let asked = Asked {
            of_head: head::is_of_head(&input.bytes[input.start..input.filled]),
            http_11: true,
        };
        if response.is_takeover() {
            let instead = not_final(response.status);
            dispose(mem::replace(&mut response, instead));
        }
        // Nothing is left to be read for an answer's sake.
        self.exchange_mut().scratch_mut().body = BodyState::Broken;
        let sent = self.send_any(&mut response, false, asked, out);
        dispose(response);
        sent?;
        self.way(out).flush()?;
        Ok(Flow::Linger)
    }
}

/// To a client that has not asked for the protocol which it would have to speak (RFC 9110, 15.5.22).
#[cold]
fn upgrade_required(response: &Response) -> Response {
    let status = StatusCode::UPGRADE_REQUIRED;
    let mut instead = (status, "upgrade required\n").into_response();
    let protocols = response
        .map()
        .into_iter()
        .flat_map(|headers| headers.get_all(UPGRADE));
    for protocol in protocols {
        instead.headers_mut().append(UPGRADE, protocol.clone());
    }
    instead
}
