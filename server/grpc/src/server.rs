//! The server's side: methods become routes, and run within their callers' deadlines.

use std::{
    io::{self, Read, Write},
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use http::{HeaderMap, Method, header::CONTENT_TYPE};
use maniple::cancel::{CancelToken, Cancelled};
use maniple_server::{
    Body, BodyWriter, Flush, Request, Response, Router, StatusCode, transport::Peer,
};
use prost::Message;

use crate::{
    message::{self, ACCEPT_ENCODING, ACCEPTED, Coding, ENCODING, GRPC, GZIP},
    metadata::Metadata,
    status::{Code, OK, STATUS, Status},
    timeout,
};

/// A service: its methods, as routes of a [`Router`]. Generated code makes it.
///
/// # Examples
/// ```
/// use maniple_grpc::{Call, Service, Status};
/// use maniple_server::Router;
///
/// let greeter = Service::new("hello.Greeter").unary("Greet", |_: &mut Call, name: String| {
///     Ok::<_, Status>(format!("hello, {name}"))
/// });
/// let router: Router = greeter.into_router();
/// # let _ = router;
/// ```
#[derive(Debug)]
#[must_use = "a service serves nothing until it is a router"]
pub struct Service {
    name: &'static str,
    router: Router,
    settings: Settings,
}

/// What holds for the methods that are added from then on.
#[derive(Clone, Copy, Debug)]
struct Settings {
    max_message: usize,
    compress: bool,
}

impl Service {
    /// One without methods, by the full name that it has in its `.proto`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            router: Router::new(),
            settings: Settings {
                max_message: 4 * 1024 * 1024,
                compress: false,
            },
        }
    }

    /// Bytes of a message that comes, for methods that are added after this. Default: 4 MiB. Beyond it `RESOURCE_EXHAUSTED`.
    pub fn max_message_bytes(mut self, bytes: usize) -> Self {
        self.settings.max_message = bytes;
        self
    }

    /// Whether methods that are added after this compress what they answer, by gzip, to callers that take it. Default: no.
    pub fn compress(mut self, compress: bool) -> Self {
        self.settings.compress = compress;
        self
    }

    /// Adds a method of one message each way.
    pub fn unary<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, Q) -> Result<A, Status> + Send + Sync + 'static,
    {
        self.client_streaming(method, move |call, requests: &mut Requests<'_, Q>| {
            let one = requests.next().transpose()?;
            let one = one.ok_or_else(|| Status::new(Code::Internal, "no message"))?;
            call.was_compressed = requests.was_compressed();
            // A second would be another's question.
            match requests.next().transpose()? {
                None => f(call, one),
                Some(_) => Err(Status::new(Code::Internal, "more than one message")),
            }
        })
    }

    /// Adds a method to which many messages come, and which answers one.
    pub fn client_streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, &mut Requests<'_, Q>) -> Result<A, Status> + Send + Sync + 'static,
    {
        let settings = self.settings;
        self.add(method, move |request: &mut Request| {
            let mut call = match Call::of(request, settings) {
                Ok(call) => call,
                Err(refusal) => return refusal,
            };
            let (coding, until) = (call.coming, call.deadline);
            let mut body = request.body();
            let answer = within(until, || {
                let mut requests = Requests::new(&mut body, coding, settings.max_message);
                let answer = f(&mut call, &mut requests)?;
                message::write(&answer, call.going)
            });
            match answer {
                Ok(bytes) => call.answer_with(bytes),
                Err(status) => call.answer_without(&status),
            }
        })
    }

    /// Adds a method that answers one message with many.
    pub fn server_streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, Q, &mut Replies<'_, '_, A>) -> Result<(), Status> + Send + Sync + 'static,
    {
        self.streaming(
            method,
            move |call, requests: &mut Requests<'_, Q>, replies| {
                let one = requests.next().transpose()?;
                let one = one.ok_or_else(|| Status::new(Code::Internal, "no message"))?;
                call.was_compressed = requests.was_compressed();
                f(call, one, replies)
            },
        )
    }

    /// Adds a method to which many messages come while it answers many.
    pub fn streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, &mut Requests<'_, Q>, &mut Replies<'_, '_, A>) -> Result<(), Status>
            + Send
            + Sync
            + 'static,
    {
        let settings = self.settings;
        let f = Arc::new(f);
        self.add(method, move |request: &mut Request| {
            let mut call = match Call::of(request, settings) {
                Ok(call) => call,
                Err(refusal) => return refusal,
            };
            let f = f.clone();
            let head = call.head().with_late_head();
            let body = Body::duplex(move |mut input, out| {
                // One for each message is what a stream is for.
                out.set_flush(Flush::Each);
                let mut replies = Replies {
                    out,
                    coding: call.going,
                    takes_gzip: call.takes_gzip,
                    is_told: call.going == Coding::Gzip,
                    headers: Metadata::new(),
                    has_head_left: false,
                    bytes: Vec::new(),
                    _messages: PhantomData,
                };
                let (coding, until) = (call.coming, call.deadline);
                let done = within(until, || {
                    let mut requests = Requests::new(&mut input, coding, settings.max_message);
                    f(&mut call, &mut requests, &mut replies)
                });
                if let Some(head) = replies.out.headers_mut() {
                    call.headers.write(head);
                }
                replies.fill_head();
                let mut fields = HeaderMap::with_capacity(4);
                match done {
                    Ok(()) => {
                        call.trailers.write(&mut fields);
                        fields.insert(&STATUS, OK.clone());
                    }
                    Err(status) => {
                        // Nothing has been said yet: all that there is to say goes at once.
                        if let Some(head) = replies.out.headers_mut() {
                            status.write(head);
                            return Ok(());
                        }
                        status.write(&mut fields);
                    }
                }
                write_trailers(replies.out, fields)
            });
            head.with_body(body)
        })
    }

    /// As a router, to be [merged](Router::merge) with those of other services.
    ///
    /// Middleware around it is what interceptors are elsewhere.
    pub fn into_router(self) -> Router {
        // Streams have no end; messages have their own limit.
        self.router.max_body_bytes(u64::MAX)
    }

    fn add(
        mut self,
        method: &str,
        handler: impl Fn(&mut Request) -> Response + Send + Sync + 'static,
    ) -> Self {
        let path = format!("/{}/{method}", self.name);
        self.router = self.router.route(Method::POST, &path, handler);
        self
    }
}

/// A call as its method sees it.
#[derive(Debug)]
pub struct Call {
    metadata: Metadata,
    /// What is sent before the answer, and behind it.
    headers: Metadata,
    trailers: Metadata,
    deadline: Option<Instant>,
    peer: Peer,
    drain: CancelToken,
    coming: Coding,
    /// How the answer is compressed, and whether the caller takes one that is.
    going: Coding,
    takes_gzip: bool,
    was_compressed: bool,
}

impl Call {
    /// The fields that the caller sent.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// Fields to be sent before the answer. A method that answers many messages sends its own by [`Replies::headers_mut`]; what
    /// is here is sent if it answers none.
    pub fn headers_mut(&mut self) -> &mut Metadata {
        &mut self.headers
    }

    /// Fields to be sent behind the answer. A [`Status`] has its own.
    pub fn trailers_mut(&mut self) -> &mut Metadata {
        &mut self.trailers
    }

    /// How long the caller still waits, if it said so. The method's waits are cut then.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(maniple::time::now()))
    }

    /// Whether the only message of the caller came compressed. Of one of many says that [`Requests::was_compressed`].
    pub fn was_compressed(&self) -> bool {
        self.was_compressed
    }

    /// Has the one message of the answer be compressed or not, in place of what [`Service::compress`] says. To a caller that
    /// does not take it, it is not. Of many messages says that [`Replies::compress`].
    pub fn compress(&mut self, compress: bool) {
        self.going = Coding::gzip_if(compress && self.takes_gzip);
    }

    /// Whether the server has begun to drain.
    pub fn is_draining(&self) -> bool {
        self.drain.is_cancelled()
    }

    /// Runs a function whose waits are cut when the server begins to drain: for a method that answers for as long as
    /// the caller listens. Without, a drain waits for it, to the end of the server's `drain_grace`.
    ///
    /// # Errors
    /// If the drain cut it.
    pub fn until_draining<T>(&self, f: impl FnOnce() -> T) -> Result<T, Cancelled> {
        self.drain.run(f)
    }

    /// Who calls.
    pub fn peer(&self) -> &Peer {
        &self.peer
    }
}

/// From a request, and into an answer.
impl Call {
    fn of(request: &mut Request, settings: Settings) -> Result<Self, Response> {
        let content = request.header("content-type").unwrap_or_default();
        if !message::is_grpc(content) {
            return Err(Response::new(StatusCode::UNSUPPORTED_MEDIA_TYPE));
        }
        let coming = Coding::of_name(request.header("grpc-encoding").unwrap_or(b"identity"));
        let timeout = request.header("grpc-timeout").map(timeout::parse);
        let accepted = request.header("grpc-accept-encoding").unwrap_or_default();
        let takes_gzip = Coding::Gzip.is_in(accepted);
        let mut call = Self::plain(request);
        let refuse = |code, text: &str| Err(call.answer_without(&Status::new(code, text)));
        let Some(coming) = coming else {
            return refuse(Code::Unimplemented, "this grpc-encoding is not known here");
        };
        let deadline = match timeout {
            None => None,
            Some(Some(time)) => maniple::time::now().checked_add(time),
            Some(None) => return refuse(Code::Internal, "this grpc-timeout is none"),
        };
        call.coming = coming;
        call.takes_gzip = takes_gzip;
        call.compress(settings.compress);
        call.deadline = deadline;
        // Who streams speaks when there is something to say.
        request.let_body_pause();
        Ok(call)
    }

    fn plain(request: &mut Request) -> Self {
        Self {
            metadata: Metadata::of(request.take_headers()),
            headers: Metadata::new(),
            trailers: Metadata::new(),
            deadline: None,
            peer: *request.peer(),
            drain: request.drain_token(),
            coming: Coding::Identity,
            going: Coding::Identity,
            takes_gzip: false,
            was_compressed: false,
        }
    }

    fn head(&self) -> Response {
        let mut response = Response::new(StatusCode::OK);
        let headers = response.headers_mut();
        headers.reserve(4);
        self.headers.write(headers);
        headers.insert(CONTENT_TYPE, GRPC.clone());
        headers.insert(&ACCEPT_ENCODING, ACCEPTED.clone());
        if self.going == Coding::Gzip {
            headers.insert(&ENCODING, GZIP.clone());
        }
        response
    }

    fn answer_with(self, bytes: Vec<u8>) -> Response {
        let head = self.head();
        let mut fields = HeaderMap::with_capacity(2);
        self.trailers.write(&mut fields);
        fields.insert(&STATUS, OK.clone());
        head.with_body(bytes).with_trailers(fields)
    }

    /// Fields alone, without a body.
    fn answer_without(&self, status: &Status) -> Response {
        let mut response = self.head();
        status.write(response.headers_mut());
        response
    }
}

fn write_trailers(out: &mut BodyWriter<'_>, fields: HeaderMap) -> io::Result<()> {
    let mut last = None;
    for (name, value) in fields {
        last = name.or(last);
        if let Some(name) = &last {
            out.trailer(name.clone(), value)?;
        }
    }
    Ok(())
}

/// Runs a method until the caller's deadline.
fn within<T>(until: Option<Instant>, f: impl FnOnce() -> Result<T, Status>) -> Result<T, Status> {
    let Some(until) = until else {
        return f();
    };
    let late = || Status::new(Code::DeadlineExceeded, "the caller's deadline has passed");
    match maniple::deadline(until, f) {
        Ok(Err(status)) if until <= maniple::time::now() => {
            // Whatever it makes of waits that were cut.
            match status.code() {
                Code::Cancelled | Code::Internal => Err(late()),
                _ => Err(status),
            }
        }
        Ok(done) => done,
        Err(_) => Err(late()),
    }
}

/// Messages that come, one after the other.
pub struct Requests<'a, M> {
    body: &'a mut (dyn Read + Send),
    coding: Coding,
    limit: usize,
    is_over: bool,
    was_compressed: bool,
    _messages: PhantomData<fn() -> M>,
}

impl<'a, M> Requests<'a, M> {
    fn new(body: &'a mut (dyn Read + Send), coding: Coding, limit: usize) -> Self {
        Self {
            body,
            coding,
            limit,
            is_over: false,
            was_compressed: false,
            _messages: PhantomData,
        }
    }

    /// Whether the last message came compressed.
    pub fn was_compressed(&self) -> bool {
        self.was_compressed
    }
}

/// Waits for the next message. After an error there is none.
impl<M: Message + Default> Iterator for Requests<'_, M> {
    type Item = Result<M, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = message::read(self.body, self.coding, self.limit).transpose();
        self.is_over = !matches!(read, Some(Ok(_)));
        let (message, was_compressed) = match read? {
            Ok(read) => read,
            Err(status) => return Some(Err(status)),
        };
        self.was_compressed = was_compressed;
        Some(Ok(message))
    }
}

impl<M> std::fmt::Debug for Requests<'_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// Where a method's messages go.
pub struct Replies<'a, 'w, M> {
    out: &'a mut BodyWriter<'w>,
    coding: Coding,
    takes_gzip: bool,
    /// Whether the caller was told that messages may come compressed.
    is_told: bool,
    headers: Metadata,
    has_head_left: bool,
    /// A message as it travels.
    bytes: Vec<u8>,
    _messages: PhantomData<fn(M)>,
}

impl<M: Message> Replies<'_, '_, M> {
    /// Sends a message; waits while the caller has no room for it.
    ///
    /// # Errors
    /// `CANCELLED` if the caller is gone, `DEADLINE_EXCEEDED` if it is too late or takes nothing.
    pub fn send(&mut self, message: &M) -> Result<(), Status> {
        self.fill_head();
        message::write_to(&mut self.bytes, message, self.coding)?;
        let sent = self.out.write_all(&self.bytes);
        if self.bytes.capacity() > KEPT {
            self.bytes = Vec::new();
        }
        sent.map_err(|error| Status::of_io(&error))
    }

    /// Fields to be sent before the messages. They leave with the first, or by [`send_headers`](Replies::send_headers); those
    /// that are added afterwards are not sent.
    pub fn headers_mut(&mut self) -> &mut Metadata {
        &mut self.headers
    }

    /// Sends the fields that come before the messages, to a caller that waits for them.
    ///
    /// # Errors
    /// Those of [`Replies::send`].
    pub fn send_headers(&mut self) -> Result<(), Status> {
        self.fill_head();
        self.out.flush().map_err(|error| Status::of_io(&error))
    }

    /// Has the messages that are sent from now on be compressed or not, in place of what [`Service::compress`] says.
    ///
    /// The caller must take that, and be told of it before the first message: so only who compresses from the beginning,
    /// or whose service does, can do so later. Otherwise they are not compressed.
    pub fn compress(&mut self, compress: bool) {
        if compress
            && self.takes_gzip
            && !self.has_head_left
            && let Some(head) = self.out.headers_mut()
        {
            head.insert(&ENCODING, GZIP.clone());
            self.is_told = true;
        }
        self.coding = Coding::gzip_if(compress && self.is_told);
    }
}

/// Bytes of a buffer that a stream keeps from one message to the next.
const KEPT: usize = 16 * 1024;

impl<M> Replies<'_, '_, M> {
    fn fill_head(&mut self) {
        if std::mem::replace(&mut self.has_head_left, true) {
            return;
        }
        if let Some(head) = self.out.headers_mut() {
            self.headers.write(head);
        }
    }
}

impl<M> std::fmt::Debug for Replies<'_, '_, M> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}
