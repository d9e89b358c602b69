//! HTTP/2 (RFC 9113): one connection, many requests, each with a coroutine of its own. Read this behind [`conn`](super::conn).
//!
//! ```text
//!   the connection's coroutine                          a coroutine for requests
//!
//!   polls h2::server::Connection, which                 parses the head, calls the handler
//!   reads and writes by `wire` ──── a request ────────► reads the body ◄── window ──┐
//!        ▲  waits: for the socket, for its waker        writes the answer ── room ──┤
//!        └───────────── woken: something is to be sent ─────────────────────────────┘
//! ```
//!
//! Frames, HPACK and flow control are the crate `h2`'s, which is polled and never waits. Who waits is a coroutine, by
//! [`Poller`]. What came of a reset is seen as the frame passes ([`watch`]), and cancels its handler.
//!
//! A coroutine answers one request after the other. Only if its handler waits, so that the connection has its turn while there
//! are requests left, is there another one: those that are answered at once share one warm stack.

#[cfg(any(fuzzing, test))]
pub(crate) mod fuzzing;
mod head;
mod incoming;
mod outgoing;
mod settings;
mod stream;
mod watch;
mod wire;

use std::{
    io,
    rc::Rc,
    sync::{Arc, atomic::Ordering},
    task::{Context, Poll},
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream,
    server::{Connection as Protocol, SendResponse},
};
use maniple::{
    cancel::{self, CancelToken, Cause, is_cancelled_error},
    future::Poller,
    panics,
    time::coarse_now,
};

use super::{
    ending::linger,
    lookout::Disconnects,
    overrun::{report_flood, report_slow_reader},
    service::Service,
    state::Connection,
};
use crate::{http2::frames::PREFACE, transport::Peer};
pub use settings::Http2;
use stream::{Shared, Stream};
use watch::{TOO_MANY_PINGS, Watch};
use wire::{Polled, Wire};

/// What has come of HTTP/2 where a request was to come.
pub(crate) struct Opening {
    ahead: Vec<u8>,
}

impl Opening {
    /// If this is how a client begins that speaks it, and it is spoken.
    pub(crate) fn of(settings: &Http2, received: &[u8]) -> Option<Self> {
        let shorter = received.len().min(PREFACE.len());
        let is_one =
            settings.is_spoken && shorter >= TELLING && received[..shorter] == PREFACE[..shorter];
        is_one.then(|| Self {
            ahead: received.to_vec(),
        })
    }
}

/// Bytes of the preface that no request of HTTP/1 begins with.
const TELLING: usize = b"PRI * HTTP/2".len();

/// Serves a connection until either side ends it.
pub(super) fn serve(
    service: &Arc<Service>,
    connection: &Arc<Connection>,
    peer: Peer,
    opening: Opening,
) {
    connection.share();
    let poller = Poller::new();
    let settings = &service.http2;
    let now = coarse_now();
    let watch = Watch::new(settings.max_control_frames, settings.max_resets, now);
    let watch = watch.with_pings_apart(settings.ping_interval);
    let wire = Rc::new(Wire::new(connection.clone(), opening.ahead, watch));
    let shared = Shared::new(
        service.clone(),
        connection.clone(),
        peer,
        poller.waker().clone(),
    );
    let mut many = Many {
        shared: Arc::new(shared),
        wire,
        poller,
        requests: 0,
        last_stream: 0,
        old_at: now.checked_add(service.life.age),
        active: now,
        ending: None,
        grace: None,
    };
    let ended = many.run();
    many.end(ended);
}

/// How a connection came to its end.
enum Ended {
    /// In order, or by its peer.
    Over,
    /// The peer is to read why.
    Told,
    /// The coroutine is to end.
    Cut,
}

enum Event {
    Request(Box<http::Request<RecvStream>>, SendResponse<Bytes>),
    /// Something has happened to a stream.
    News,
    /// It is time for something.
    Due,
    Closed,
    Failed(h2::Error),
}

/// A connection with many requests.
struct Many {
    shared: Arc<Shared>,
    wire: Rc<Wire>,
    poller: Poller,
    /// How many have come.
    requests: u64,
    last_stream: u32,
    old_at: Option<Instant>,
    /// When there last was a request.
    active: Instant,
    /// When the connection must have come to the end that it was told.
    ending: Option<Instant>,
    /// When what is still under way is cut, since the connection is too old.
    grace: Option<Instant>,
}

type Polling = Protocol<Polled, Bytes>;

impl Many {
    fn run(&mut self) -> Ended {
        let mut protocol = match self.shake_hands() {
            Ok(protocol) => protocol,
            Err(ended) => return ended,
        };
        let drain = self.shared.connection.drain_token();
        let until_drain = drain.run(|| self.serve_until(&drain, &mut protocol));
        match until_drain {
            Ok(Some(ended)) => return ended,
            _ if cancel::is_cancelled() => return Ended::Cut,
            // The drain has begun.
            Ok(None) | Err(_) => self.say_goodbye(&mut protocol),
        }
        let ended = self.serve_until(&CancelToken::new(), &mut protocol);
        ended.unwrap_or(Ended::Cut)
    }

    /// A frame of its own, and boxes, so that little is left on the stack of who waits for hours.
    #[inline(never)]
    fn shake_hands(&mut self) -> Result<Box<Polling>, Ended> {
        let settings = &self.shared.service.http2;
        let mut builder = h2::server::Builder::new();
        builder
            .max_concurrent_streams(settings.max_streams)
            .initial_window_size(settings.stream_window)
            .initial_connection_window_size(settings.connection_window)
            .max_header_list_size(to_u32(self.shared.service.limits.head_bytes))
            .max_send_buffer_size(settings.max_unsent)
            .enable_connect_protocol();
        let mut handshake = Box::pin(builder.handshake(Polled(self.wire.clone())));
        let until = coarse_now() + self.shared.service.timeouts.header;
        let interest = || self.wire.interest();
        let shaken = self.poller.wait_beside(Some(until), interest, |context| {
            handshake.as_mut().poll(context)
        });
        match shaken {
            Ok(Ok(protocol)) => Ok(Box::new(protocol)),
            Ok(Err(_)) => Err(Ended::Told),
            Err(_) => Err(Ended::Cut),
        }
    }

    /// Serves until the end; `None` if the token was cancelled before.
    fn serve_until(&mut self, drain: &CancelToken, protocol: &mut Polling) -> Option<Ended> {
        loop {
            let event = match self.next(protocol) {
                Ok(event) => event,
                Err(_) if drain.is_cancelled() => return None,
                Err(_) => return Some(Ended::Cut),
            };
            // Nothing more has come for now.
            let is_quiet = matches!(event, Event::News);
            let ended = match event {
                Event::Request(request, respond) => {
                    self.begin(request, respond);
                    None
                }
                Event::News => None,
                Event::Due => self.meet_deadlines(protocol),
                Event::Closed => Some(Ended::Over),
                Event::Failed(error) => {
                    let peer = &self.shared.peer;
                    panics::catch(|| log::debug!("connection from {peer}: {error}"));
                    Some(match self.wire.is_over() {
                        true => Ended::Over,
                        false => Ended::Told,
                    })
                }
            };
            if ended.is_some() {
                return ended;
            }
            self.hear_of_streams();
            if is_quiet && self.shared.has_waiting() {
                self.shared.serve_waiting();
                // What is answered without waiting needs no coroutine more.
                cancel::shield(maniple::yield_now);
            }
            let excess = self.wire.watch.borrow().excess();
            if let Some(excess) = excess {
                report_flood(&self.shared.peer, excess);
                if excess == TOO_MANY_PINGS {
                    let code = Reason::ENHANCE_YOUR_CALM.into();
                    self.wire.say_why(self.last_stream, code, excess);
                }
                return Some(self.end_abruptly(protocol, Reason::ENHANCE_YOUR_CALM));
            }
            if self.ending.is_none() && self.is_last() {
                self.say_goodbye(protocol);
            }
        }
    }

    /// Waits for what comes next.
    fn next(&self, protocol: &mut Polling) -> io::Result<Event> {
        let has_room = self.shared.unanswered() < self.shared.service.http2.max_streams as usize;
        let until = self.due();
        let interest = || self.wire.interest();
        let waited = self.poller.wait_beside(until, interest, |context| {
            self.shared.desks.send();
            let polled = match has_room {
                true => poll_request(protocol, context),
                false => protocol.poll_closed(context).map(|closed| match closed {
                    Ok(()) => Event::Closed,
                    Err(error) => Event::Failed(error),
                }),
            };
            let watch = self.wire.watch.borrow();
            match polled {
                // What was reset at once is not worth a handler.
                Poll::Ready(event) => Poll::Ready(event),
                Poll::Pending if watch.has_reset() || watch.excess().is_some() => {
                    Poll::Ready(Event::News)
                }
                Poll::Pending if self.shared.has_news() => Poll::Ready(Event::News),
                Poll::Pending => {
                    drop(watch);
                    match self.due() < until {
                        true => Poll::Ready(Event::News),
                        false => Poll::Pending,
                    }
                }
            }
        });
        match waited {
            Err(error) if error.kind() == io::ErrorKind::TimedOut && cancel::check().is_ok() => {
                Ok(Event::Due)
            }
            waited => waited,
        }
    }

    /// When something must have happened.
    fn due(&self) -> Option<Instant> {
        let Service {
            timeouts,
            body_limits,
            ..
        } = &*self.shared.service;
        let idle_until = self.active + timeouts.idle;
        let is_idle = self.shared.unanswered() == 0;
        let deadlines = [
            is_idle.then_some(idle_until),
            self.wire.watch.borrow().unfinished_until(timeouts.header),
            self.wire.taken_until(body_limits.stall),
            self.old_at.filter(|_| self.ending.is_none()),
            self.ending.filter(|_| is_idle),
            self.grace,
        ];
        deadlines.into_iter().flatten().min()
    }

    /// Does what it is time for.
    fn meet_deadlines(&mut self, protocol: &mut Polling) -> Option<Ended> {
        let now = coarse_now();
        let passed = |until: Option<Instant>| until.is_some_and(|until| until <= now);
        let Service {
            timeouts,
            body_limits,
            ..
        } = &*self.shared.service;
        if passed(self.wire.taken_until(body_limits.stall)) {
            report_slow_reader(&self.shared.peer);
            self.shared.connection.transport.reset_on_close();
            return Some(Ended::Cut);
        }
        let is_idle = self.shared.unanswered() == 0;
        let unfinished = self.wire.watch.borrow().unfinished_until(timeouts.header);
        if passed(unfinished) {
            let status = http::StatusCode::REQUEST_TIMEOUT;
            super::overrun::report(
                &self.shared.peer,
                status,
                "request head did not come in time",
            );
            return Some(self.end_abruptly(protocol, Reason::ENHANCE_YOUR_CALM));
        }
        if passed(self.grace) || (is_idle && passed(self.ending)) {
            return Some(Ended::Told);
        }
        let is_idle = is_idle && passed(Some(self.active + timeouts.idle));
        if self.ending.is_none() && (is_idle || passed(self.old_at)) {
            self.say_goodbye(protocol);
            let grace = self.shared.service.http2.age_grace;
            self.grace = grace
                .filter(|_| !is_idle)
                .and_then(|grace| now.checked_add(grace));
        } else if is_idle {
            return Some(Ended::Told);
        }
        None
    }

    /// Whether nothing more is to be asked on this connection.
    fn is_last(&self) -> bool {
        let life = &self.shared.service.life;
        self.requests >= life.requests || self.shared.is_to_end.load(Ordering::Relaxed)
    }

    /// Says that no new requests are taken, and then, once that has arrived, which were the last (RFC 9113, 6.8).
    fn say_goodbye(&mut self, protocol: &mut Polling) {
        protocol.graceful_shutdown();
        self.active = coarse_now();
        self.ending = Some(self.active + self.shared.service.timeouts.header);
    }

    /// Says why and ends at once.
    fn end_abruptly(&self, protocol: &mut Polling, reason: Reason) -> Ended {
        protocol.abrupt_shutdown(reason);
        let until = coarse_now() + self.shared.service.body_limits.stall;
        let interest = || self.wire.interest();
        let told = self.poller.wait_beside(Some(until), interest, |context| {
            protocol.poll_closed(context)
        });
        match told {
            Ok(_) => Ended::Told,
            Err(_) => Ended::Cut,
        }
    }

    /// Leaves a request to the coroutines that answer them.
    fn begin(&mut self, request: Box<http::Request<RecvStream>>, respond: SendResponse<Bytes>) {
        self.requests += 1;
        self.active = coarse_now();
        let stream = Stream::new(self.shared.clone(), request, respond);
        self.last_stream = self.last_stream.max(stream.id());
        self.shared.push(stream);
    }

    /// Notes that streams have ended, and cancels those that were reset.
    fn hear_of_streams(&mut self) {
        if self.shared.take_has_ended() {
            self.active = coarse_now();
        }
        if !self.wire.watch.borrow().has_reset() {
            return;
        }
        let reset = self.wire.watch.borrow_mut().take_reset();
        if self.shared.service.disconnects == Disconnects::Ignored {
            return;
        }
        for id in reset {
            self.shared.reset(id);
        }
    }

    /// The connection is over: its handlers end, and what has been said is read.
    fn end(&mut self, ended: Ended) {
        let is_ignored = self.shared.service.disconnects == Disconnects::Ignored;
        self.hear_of_streams();
        self.shared.refuse_waiting();
        match ended {
            Ended::Cut if cancel::is_cancelled() => self.shared.cancel(None, None),
            _ if is_ignored => {}
            _ => self.shared.cancel(None, Some(Cause::Disconnected)),
        }
        if matches!(ended, Ended::Told) {
            linger(
                &self.shared.connection,
                self.shared.service.body_limits.stall,
            );
        }
        cancel::shield(|| {
            while self.shared.unanswered() > 0 {
                let ended = self
                    .poller
                    .wait(None, |_| match self.shared.take_has_ended() {
                        true => Poll::Ready(()),
                        false => Poll::Pending,
                    });
                if ended.is_err_and(|error| !is_cancelled_error(&error)) {
                    break;
                }
            }
        });
    }
}

/// What waits holds what is shared, and that holds what waits.
impl Drop for Many {
    fn drop(&mut self) {
        self.shared.refuse_waiting();
    }
}

fn poll_request(protocol: &mut Polling, context: &mut Context<'_>) -> Poll<Event> {
    protocol
        .poll_accept(context)
        .map(|accepted| match accepted {
            None => Event::Closed,
            Some(Ok((request, respond))) => Event::Request(Box::new(request), respond),
            Some(Err(error)) => Event::Failed(error),
        })
}

fn to_u32(bytes: usize) -> u32 {
    u32::try_from(bytes).unwrap_or(u32::MAX)
}
