//! One request: its handler is called in a coroutine of its own, and what it answers is sent.

use std::{
    any::Any,
    cell::RefCell,
    collections::{BTreeMap, VecDeque},
    io::{Read, Write},
    mem,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
    task::Waker,
};

use bytes::Bytes;
use h2::{Reason, RecvStream, server::SendResponse};
use http::{Method, StatusCode, header::UPGRADE};
use maniple::{
    JoinHandle,
    cancel::{self, Cause},
    net::Shutdown,
    panics, sim, task,
};

use super::{
    super::{
        buffers::Scratch,
        exchange::{Begun, Exchange},
        faults::{dispose, no_tunnel, not_final, report_panic, report_takeover_panic},
        out::is_own_timeout,
        overrun::{report, report_slow_reader},
        service::Service,
        state::Connection,
        upgrade::Upgraded,
    },
    head,
    incoming::{Incoming, Respond, lock},
    outgoing::{Desks, Made, Outgoing},
};
use crate::{
    body::{BodyError, BodyState},
    http1::Reject,
    middleware::Refused,
    problem::Problem,
    request::Request,
    response::{Body, BodyKind, Response},
    transport::{Peer, Transport, memory},
};

/// What the streams of a connection share with it.
pub(super) struct Shared {
    pub(super) service: Arc<Service>,
    pub(super) connection: Arc<Connection>,
    pub(super) peer: Peer,
    requests: Mutex<Requests>,
    /// What answers have left with the connection.
    pub(super) desks: Arc<Desks>,
    /// That of the connection's coroutine.
    waker: Waker,
    /// Whether an answer asked for the end of the connection.
    pub(super) is_to_end: AtomicBool,
}

/// Requests that have come and were not answered.
#[derive(Default)]
struct Requests {
    /// Those that no coroutine has taken.
    waiting: VecDeque<Stream>,
    /// Those that one has, and which.
    running: BTreeMap<u32, Arc<Server>>,
    /// Whether some have ended, as long as the connection's coroutine has not heard of it.
    has_ended: bool,
}

/// A coroutine that answers requests, one after the other.
#[derive(Debug, Default)]
pub(super) struct Server(OnceLock<JoinHandle<()>>);

impl Shared {
    pub(super) fn new(
        service: Arc<Service>,
        connection: Arc<Connection>,
        peer: Peer,
        waker: Waker,
    ) -> Self {
        Self {
            service,
            connection,
            peer,
            requests: Mutex::default(),
            desks: Arc::new(Desks::new(waker.clone())),
            waker,
            is_to_end: AtomicBool::new(false),
        }
    }

    /// Never held over a wait.
    fn requests(&self) -> MutexGuard<'_, Requests> {
        self.requests.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn take_has_ended(&self) -> bool {
        mem::take(&mut self.requests().has_ended)
    }

    /// Whether the connection's coroutine has something to do for its streams.
    pub(super) fn has_news(&self) -> bool {
        let requests = self.requests();
        requests.has_ended || !requests.waiting.is_empty()
    }

    /// How many requests have come and were not answered.
    pub(super) fn unanswered(&self) -> usize {
        let requests = self.requests();
        requests.waiting.len() + requests.running.len()
    }

    /// Whether there are some that no coroutine has taken.
    pub(super) fn has_waiting(&self) -> bool {
        !self.requests().waiting.is_empty()
    }

    pub(super) fn push(&self, stream: Stream) {
        self.requests().waiting.push_back(stream);
    }

    /// Refuses what no coroutine has taken.
    pub(super) fn refuse_waiting(&self) {
        let refused = mem::take(&mut self.requests().waiting);
        drop(refused);
    }

    /// Takes a request for that coroutine; none if it has been cancelled, on account of the one before, or there are none.
    fn take(&self, server: &Arc<Server>) -> Option<Stream> {
        // Before the lock, for it may give way. Nobody cancels a coroutine that has no request.
        if cancel::is_cancelled() {
            return None;
        }
        let mut requests = self.requests();
        let stream = requests.waiting.pop_front()?;
        requests.running.insert(stream.id, server.clone());
        Some(stream)
    }

    /// Forgets a request that was reset, if no coroutine has taken it; else cancels its handler.
    pub(super) fn reset(&self, id: u32) {
        let mut requests = self.requests();
        let at = requests.waiting.iter().position(|stream| stream.id == id);
        let forgotten = at.and_then(|at| requests.waiting.remove(at));
        drop(requests);
        match forgotten {
            Some(forgotten) => drop(forgotten),
            None => self.cancel(Some(id), Some(Cause::Disconnected)),
        }
    }

    /// Cancels the handler of a request, or of all.
    pub(super) fn cancel(&self, id: Option<u32>, cause: Option<Cause>) {
        // Under the lock, so that none of them goes on to another request meanwhile.
        let requests = self.requests();
        let wanted = match id {
            Some(id) => requests.running.range(id..=id),
            None => requests.running.range(..),
        };
        for handle in wanted.filter_map(|(_, server)| server.0.get()) {
            match cause {
                Some(cause) => handle.cancel_because(cause),
                None => handle.cancel(),
            }
        }
    }

    /// What a coroutine does that answers requests, until there are none.
    fn serve_all(&self, server: &Arc<Server>) {
        for turn in 1_u32.. {
            let Some(stream) = self.take(server) else {
                return;
            };
            stream.serve();
            if turn % AT_A_TIME == 0 || sim::buggify!() {
                cancel::shield(maniple::yield_now);
            }
        }
    }

    /// Has another coroutine answer what no other has taken; what there is no stack for is refused.
    pub(super) fn serve_waiting(self: &Arc<Self>) {
        let server = Arc::<Server>::default();
        let named = match self.peer {
            Peer::Tcp(peer) => task::Builder::new().connection_from(peer),
            Peer::Unix => task::Builder::new().name("streams from unix"),
            Peer::Memory => task::Builder::new().name("streams from memory"),
        };
        let (shared, own) = (self.clone(), server.clone());
        match named.spawn(move || shared.serve_all(&own)) {
            // Nobody but who called this cancels by it.
            Ok(handle) => _ = server.0.set(handle),
            Err(_) => self.refuse_waiting(),
        }
    }

    fn end(&self, id: u32) {
        let mut requests = self.requests();
        requests.running.remove(&id);
        requests.has_ended = true;
        drop(requests);
        self.waker.wake_by_ref();
    }
}

/// Requests that a coroutine answers before others have their turn.
const AT_A_TIME: u32 = 32;

/// A request that has come.
pub(super) struct Stream {
    shared: Arc<Shared>,
    id: u32,
    /// Boxed, since it is large and moves about.
    request: Option<Box<http::Request<RecvStream>>>,
    respond: Respond,
    /// Whether its coroutine has begun.
    has_begun: bool,
}

impl Drop for Stream {
    fn drop(&mut self) {
        if !self.has_begun {
            // There was no stack for it. Nothing has been done, so that the client may ask again (RFC 9113, 8.7).
            lock(&self.respond).send_reset(Reason::REFUSED_STREAM);
        }
        self.request = None;
        self.shared.end(self.id);
    }
}

impl Stream {
    pub(super) fn new(
        shared: Arc<Shared>,
        request: Box<http::Request<RecvStream>>,
        respond: SendResponse<Bytes>,
    ) -> Self {
        Self {
            shared,
            id: respond.stream_id().as_u32(),
            request: Some(request),
            respond: Arc::new(Mutex::new(respond)),
            has_begun: false,
        }
    }

    pub(super) fn id(&self) -> u32 {
        self.id
    }

    /// Answers it.
    pub(super) fn serve(mut self) {
        self.has_begun = true;
        let Some(request) = self.request.take() else {
            return;
        };
        let (parts, body) = (*request).into_parts();
        let of_head = parts.method == Method::HEAD;
        let is_tunnel = parts.method == Method::CONNECT;
        let mut scratch = take_scratch();
        let written = scratch.hold(|out| head::write_request(&parts, out));
        let parsed = written.and_then(|()| scratch.parse(&self.shared.service.limits));
        let reject = match parsed {
            Ok(true) => None,
            Ok(false) => Some(Reject::bad("the head has no end")),
            Err(reject) => Some(reject),
        };
        if let Some(reject) = reject {
            let received = &scratch.input.bytes[..scratch.input.filled];
            let response = self.refuse(reject, received);
            put_back(scratch);
            return self.answer(response, of_head, None);
        }
        scratch.set_headers(head::map_of(parts));
        // The body of a tunnel is its own.
        let has_body = !is_tunnel && !body.is_end_stream();
        let (incoming, tunnel) = match is_tunnel {
            true => (None, Some(body)),
            false => (Some(body), None),
        };
        self.call(scratch, incoming, has_body, of_head, tunnel);
    }

    fn call(
        &mut self,
        scratch: Box<Scratch>,
        body: Option<RecvStream>,
        has_body: bool,
        of_head: bool,
        tunnel: Option<RecvStream>,
    ) {
        let Shared {
            service,
            connection,
            peer,
            ..
        } = &*self.shared;
        let service = service.clone();
        let exchange = Exchange::new(connection.clone(), *peer, service.body_limits);
        let apart = Box::new(Incoming::new(body, self.respond.clone()));
        let exchange = exchange.apart(scratch, apart, has_body);
        let mut request = Request { exchange };
        let too_long = begin(&service, &mut request);
        let called = catch_unwind(AssertUnwindSafe(|| match too_long {
            None => service.router.answer(&mut request),
            Some(limit) => service.router.answer_too_long(&mut request, limit),
        }));
        match called {
            Ok(response) => self.answer_to(response, of_head, &mut request, tunnel),
            Err(panic) => self.answer_panic(panic, of_head, &mut request),
        }
        if let Some(scratch) = request.exchange.take_back() {
            put_back(scratch);
        }
    }

    fn answer_to(
        &mut self,
        mut response: Response,
        of_head: bool,
        request: &mut Request,
        tunnel: Option<RecvStream>,
    ) {
        if response.is_takeover() {
            match self.hand_over(response, request, tunnel) {
                None => return,
                Some(instead) => response = instead,
            }
        } else if response.status.is_informational() {
            let instead = not_final(response.status);
            dispose(mem::replace(&mut response, instead));
        }
        if response.body.may_read() {
            request.exchange.ask_if_expected();
        }
        self.answer(response, of_head, Some(request));
    }

    fn answer_panic(&mut self, panic: Box<dyn Any + Send>, of_head: bool, request: &mut Request) {
        if cancel::is_cancelled() {
            lock(&self.respond).send_reset(Reason::CANCEL);
        } else {
            report_panic(&request.exchange, &*panic);
            let error = StatusCode::INTERNAL_SERVER_ERROR;
            let problem = Problem::new(error, "internal server error");
            let response = self.shared.service.router.tell(problem, Some(request));
            self.answer(response, of_head, Some(request));
        }
        // Last, since its destructor may wait.
        panics::discard(panic);
    }

    fn refuse(&self, reject: Reject, received: &[u8]) -> Response {
        let Shared { service, peer, .. } = &*self.shared;
        report(peer, reject.status, reject.reason);
        let problem = Problem::new(reject.status, reject.reason);
        let response = service.router.tell(problem, None);
        let refused = Refused::new(peer, reject.status, reject.reason, received);
        service.router.hear_of(&refused);
        match response.is_takeover() || response.status.is_informational() {
            true => {
                let instead = not_final(response.status);
                dispose(response);
                instead
            }
            false => response,
        }
    }

    /// Sends an answer.
    fn answer(&mut self, mut response: Response, of_head: bool, request: Option<&mut Request>) {
        let service = self.shared.service.clone();
        if service.registry.is_draining() {
            service.registry.answered.fetch_add(1, Ordering::Relaxed);
        }
        if response.map().is_some() && response.asks_to_close() {
            self.shared.is_to_end.store(true, Ordering::Relaxed);
        }
        let length = match &response.body.kind {
            BodyKind::Reader { length, .. } | BodyKind::Writer { length, .. } => *length,
            // What has fields behind it ends with them.
            _ if response.has_trailers() => None,
            _ => response.body.bytes().map(|bytes| bytes.len() as u64),
        };
        let (head, _, has_body) = head::of_response(&mut response, length, of_head);
        let is_streamed = response.body.is_streamed();
        let bytes = match has_body && !is_streamed {
            true => take_bytes(&mut response),
            false => Bytes::new(),
        };
        let trailers = match has_body && !is_streamed {
            true => response.take_trailers(),
            false => None,
        };
        let (stall, slowest) = (service.body_limits.stall, service.slowest_answer);
        let is_kept = has_body && is_streamed && response.has_late_head();
        let way = match is_kept {
            true => Some(Outgoing::late(self.respond.clone(), head, stall, slowest)),
            false => {
                let is_made = has_body && is_streamed;
                let is_last = bytes.is_empty() && trailers.is_none() && !is_made;
                let sent = lock(&self.respond).send_response(head, is_last);
                let sent = sent.ok().filter(|_| !is_last);
                sent.map(|stream| Outgoing::new(stream, stall, slowest))
            }
        };
        if let Some(out) = way {
            let mut out = match is_streamed {
                true => out.with_desks(self.shared.desks.clone()),
                false => out,
            };
            let made = match is_streamed {
                false => out.finish(bytes, trailers).map(|()| Made::Whole),
                true => {
                    let body = mem::replace(&mut response.body, Body::empty()).kind;
                    match request {
                        Some(request) => out.send_made(body, &mut request.body()),
                        None => out.send_made(body, &mut std::io::empty()),
                    }
                }
            };
            match made {
                Ok(Made::Whole) => {}
                Ok(Made::Cut) => out.reset(Reason::INTERNAL_ERROR),
                Err(error) => {
                    if is_own_timeout(&error) {
                        report_slow_reader(&self.shared.peer);
                    }
                    out.reset(Reason::CANCEL);
                }
            }
        }
        dispose(response);
    }

    /// Gives the stream to who takes it over; what to answer instead, if there is nobody who asked for that.
    fn hand_over(
        &mut self,
        mut response: Response,
        request: &mut Request,
        tunnel: Option<RecvStream>,
    ) -> Option<Response> {
        let body = mem::replace(&mut response.body, Body::empty()).kind;
        let BodyKind::Takeover(takeover) = body else {
            return Some(response);
        };
        let protocol = response.map().and_then(|headers| headers.get(UPGRADE));
        let protocol = protocol.map_or(&b""[..], |protocol| protocol.as_bytes());
        let protocol = String::from_utf8_lossy(protocol).into_owned();
        let is_asked = match response.status {
            StatusCode::SWITCHING_PROTOCOLS => {
                tunnel.is_some() && request.exchange.asks_to_switch_to(protocol.as_bytes())
            }
            _ => *request.method() == Method::CONNECT,
        };
        let Some(tunnel) = tunnel.filter(|_| is_asked) else {
            panics::catch(AssertUnwindSafe(move || drop(takeover)));
            let instead = match response.status {
                StatusCode::SWITCHING_PROTOCOLS => {
                    let status = StatusCode::UPGRADE_REQUIRED;
                    Response::text("upgrade required\n").with_status(status)
                }
                _ => no_tunnel(),
            };
            dispose(response);
            return Some(instead);
        };
        if self.shared.service.registry.is_draining() {
            let answered = &self.shared.service.registry.answered;
            answered.fetch_add(1, Ordering::Relaxed);
        }
        response.status = StatusCode::OK;
        response.headers_mut().remove("sec-websocket-accept");
        let (mut head, ..) = head::of_response(&mut response, None, false);
        head.headers_mut().remove("content-length");
        dispose(response);
        let sent = lock(&self.respond).send_response(head, false);
        if let Ok(stream) = sent {
            let body_limits = self.shared.service.body_limits;
            let slowest = self.shared.service.slowest_answer;
            let out = Outgoing::new(stream, body_limits.stall, slowest);
            let incoming = Incoming::new(Some(tunnel), self.respond.clone());
            let drain = self.shared.connection.drain_token();
            run_tunnel(takeover, incoming, out, self.shared.peer, &protocol, drain);
        }
        None
    }
}

/// Begins the body; the limit, if it is told to be longer than that.
fn begin(service: &Service, request: &mut Request) -> Option<u64> {
    if request.exchange.begin() != Begun::TooLong {
        return None;
    }
    let own = service.router.max_body_bytes_of(request);
    let limit = own.unwrap_or_else(|| request.exchange.usual_body_limit());
    if request.exchange.begin_within(limit) != Begun::TooLong {
        return None;
    }
    let error = BodyError::TooLarge { limit };
    report(request.peer(), error.status(), &error.to_string());
    request.exchange.scratch_mut().body = BodyState::Broken;
    Some(limit)
}

fn take_bytes(response: &mut Response) -> Bytes {
    match mem::replace(&mut response.body, Body::empty()).kind {
        BodyKind::Static(bytes) => Bytes::from_static(bytes),
        BodyKind::Owned(bytes) => bytes.into(),
        BodyKind::Shared(bytes) => bytes,
        BodyKind::Problem(problem) => problem.line().to_owned().into(),
        BodyKind::Reader { .. } | BodyKind::Writer { .. } | BodyKind::Takeover(_) => Bytes::new(),
    }
}

/// Has a stream's bytes be those of another protocol: what has taken it over runs here, two coroutines move its bytes.
fn run_tunnel(
    takeover: super::super::upgrade::Takeover,
    mut incoming: Incoming,
    mut out: Outgoing,
    peer: Peer,
    protocol: &str,
    drain: cancel::CancelToken,
) {
    let (ours, theirs) = memory::pair();
    let theirs = Arc::new(theirs);
    let upgraded = Upgraded::within(Transport::Memory(ours), peer, protocol, Vec::new(), drain);
    let (from, to) = (theirs.clone(), theirs);
    let up = maniple::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            match crate::body::Apart::read(&mut incoming, &mut buffer, FOREVER) {
                Ok(0) => {
                    let _ = to.shutdown(Shutdown::Write);
                    break;
                }
                Ok(count) => {
                    if (&*to).write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
                Err(_) => {
                    to.reset_on_close();
                    let _ = to.shutdown(Shutdown::Both);
                    break;
                }
            }
        }
    });
    let down = maniple::spawn(move || {
        let mut buffer = vec![0; PIECE];
        loop {
            let sent = match (&*from).read(&mut buffer) {
                Ok(0) => break out.send(Bytes::new(), true),
                Ok(count) => out.send(Bytes::copy_from_slice(&buffer[..count]), false),
                Err(error) => Err(error),
            };
            if sent.is_err() {
                out.reset(Reason::CANCEL);
                let _ = from.shutdown(Shutdown::Both);
                break sent;
            }
        }
    });
    let called = catch_unwind(AssertUnwindSafe(|| takeover(upgraded)));
    if let Err(panic) = called {
        if !cancel::is_cancelled() {
            report_takeover_panic(&peer, &*panic);
        }
        panics::discard(panic);
    }
    cancel::shield(|| {
        // What was written leaves, at the pace of answers; what still comes is for nobody.
        drop(down.join());
        up.cancel();
        drop(up.join());
    });
}

/// Bytes that are moved at a time.
const PIECE: usize = 16 * 1024;

/// A tunnel may be silent for as long as it likes.
const FOREVER: std::time::Duration = std::time::Duration::from_secs(100 * 365 * 24 * 3600);

thread_local! {
    #[allow(clippy::vec_box, reason = "requests have them boxed")]
    static POOL: RefCell<Vec<Box<Scratch>>> = const { RefCell::new(Vec::new()) };
}

/// Sets that a worker keeps, and bytes of a head beyond which one is not kept.
const KEPT: usize = 256;
const KEPT_BYTES: usize = 16 * 1024;

fn take_scratch() -> Box<Scratch> {
    let kept = POOL.with_borrow_mut(Vec::pop);
    kept.unwrap_or_else(Scratch::make_empty)
}

fn put_back(mut scratch: Box<Scratch>) {
    scratch.forget_request();
    scratch.set_headers(None);
    if scratch.input.bytes.capacity() <= KEPT_BYTES {
        POOL.with_borrow_mut(|pool| {
            if pool.len() < KEPT {
                pool.push(scratch);
            }
        });
    }
}
