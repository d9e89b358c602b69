//! The dialogue with a client: the request in hand is answered, and what follows is found out.
//!
//! [`conn`](super::conn) is the loop that reads the requests; here a handler is called, or a request refused, the answer
//! is put on its way ([`answer`](super::answer)), and the connection goes on, or ends in one way or the other.

use std::{
    any::Any,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{Arc, atomic::Ordering},
};

use maniple::panics;

use super::{
    answer::{Asked, Way},
    exchange::Exchange,
    faults::{dispose, internal_error, not_final, report_panic},
    out::Out,
    service::Service,
};
use crate::{
    http1::{
        Reject,
        conversation::{Next, Sent, after_answer},
        head,
    },
    request::Request,
    response::{IntoResponse, Response},
};

/// A connection that is served, as a handler's request and answer see it.
pub(super) struct Dialogue<'a> {
    pub(super) service: &'a Arc<Service>,
    pub(super) request: Request,
    /// Whether it was looked, in a drain, for requests that had arrived.
    last_call: bool,
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
}

impl<'a> Dialogue<'a> {
    pub(super) fn new(service: &'a Arc<Service>, exchange: Exchange) -> Self {
        Self {
            service,
            request: Request { exchange },
            last_call: false,
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
    pub(super) fn refuse(&mut self, reject: Reject, out: &Rc<Out>) -> io::Result<Flow> {
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
