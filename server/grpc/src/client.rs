//! The client's side: calls over a [`Channel`], within the caller's deadline.

use std::{
    fmt, io,
    io::Read,
    marker::PhantomData,
    ops::Deref,
    task::{Context, Poll, Waker},
};

use bytes::{Buf, Bytes};
use h2::{Reason, RecvStream, SendStream, client::ResponseFuture};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{self, PathAndQuery},
};
use maniple::future::Poller;
use prost::Message;

use crate::{
    channel::{Channel, Counted},
    message::{self, ACCEPT_ENCODING, ACCEPTED, Coding, ENCODING, GRPC, GZIP},
    metadata::Metadata,
    status::{Code, Status},
    timeout,
};

/// An answer, with the fields that came with it.
#[derive(Clone, Debug)]
pub struct Reply<A> {
    message: A,
    was_compressed: bool,
    headers: Metadata,
    trailers: Metadata,
}

impl<A> Reply<A> {
    /// The message alone.
    pub fn into_inner(self) -> A {
        self.message
    }

    /// Whether it came compressed.
    pub fn was_compressed(&self) -> bool {
        self.was_compressed
    }

    /// The fields that came before it.
    pub fn headers(&self) -> &Metadata {
        &self.headers
    }

    /// The fields that came behind it.
    pub fn trailers(&self) -> &Metadata {
        &self.trailers
    }
}

impl<A> Deref for Reply<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.message
    }
}

/// What generated clients call by: a channel, and fields for each call.
///
/// The deadline of a call is that of the scope that it is made in ([`maniple::timeout`]), and the server is told. A call
/// whose scope is cancelled, or whose halves are dropped, is given up, and the server is told of that too.
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
    metadata: Metadata,
    compress: bool,
}

impl Caller {
    /// One without fields.
    pub fn new(channel: Channel) -> Self {
        Self {
            compress: channel.compresses(),
            channel,
            metadata: Metadata::new(),
        }
    }

    /// The same with other fields.
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// The same, whose messages are compressed by gzip or are not, in place of what [`Channel::compress`] says.
    pub fn with_compression(self, compress: bool) -> Self {
        Self { compress, ..self }
    }

    /// A call of one message each way. A server that says that it has not looked at it is asked once more.
    ///
    /// # Errors
    /// What the server says; `DEADLINE_EXCEEDED` and `CANCELLED` by the caller's scope; `UNAVAILABLE` without a server.
    pub fn unary<Q, A>(&self, path: &'static str, message: &Q) -> Result<Reply<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let bytes = Bytes::from(message::write(message, self.coding())?);
        let mut has_tried = false;
        loop {
            let (mut sending, receiving) = self.begin::<Q, A>(path)?;
            let sent = sending.send_bytes(bytes.clone(), true);
            let mut receiving: Replies<A> = receiving;
            // An answer may have come before all was sent, and says more than that it could not be.
            let one = receiving.one();
            match one {
                Err(_) if receiving.is_unseen && !std::mem::replace(&mut has_tried, true) => {
                    self.channel.forget();
                }
                Err(status) => {
                    return Err(match (status.code(), sent) {
                        (Code::Internal | Code::Unknown, Err(of_sending)) => of_sending,
                        _ => status,
                    });
                }
                reply => return reply,
            }
        }
    }

    /// A call to which many messages go, and which is answered one.
    ///
    /// # Errors
    /// If there is no connection, or as things are in the caller's scope.
    pub fn client_streaming<Q, A>(&self, path: &'static str) -> Result<Answered<Q, A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let (sending, receiving) = self.begin(path)?;
        Ok(Answered { sending, receiving })
    }

    /// A call that is answered many messages.
    ///
    /// # Errors
    /// If there is no connection, or as things are in the caller's scope; what the server says comes with the answers.
    pub fn server_streaming<Q, A>(
        &self,
        path: &'static str,
        message: &Q,
    ) -> Result<Replies<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let bytes = Bytes::from(message::write(message, self.coding())?);
        let (mut sending, receiving) = self.begin::<Q, A>(path)?;
        match sending.send_bytes(bytes, true) {
            Err(status) if matches!(status.code(), Code::DeadlineExceeded) => Err(status),
            // What the server says of it comes with the answers.
            _ => Ok(receiving),
        }
    }

    /// A call by which messages go both ways, each half for a coroutine of its own.
    ///
    /// # Errors
    /// If there is no connection, or as things are in the caller's scope.
    pub fn streaming<Q, A>(&self, path: &'static str) -> Result<(Sending<Q>, Replies<A>), Status>
    where
        Q: Message,
        A: Message + Default,
    {
        self.begin(path)
    }

    fn coding(&self) -> Coding {
        Coding::gzip_if(self.compress)
    }

    fn begin<Q, A>(&self, path: &'static str) -> Result<(Sending<Q>, Replies<A>), Status> {
        let poller = Poller::new();
        let mut has_tried = false;
        loop {
            let mut send = self.channel.ready(&poller)?;
            match send.send_request(self.head(path)?, false) {
                Ok((response, stream)) => {
                    let sending = Sending {
                        stream,
                        poller: None,
                        coding: self.coding(),
                        is_told: self.compress,
                        _messages: PhantomData,
                    };
                    let receiving = Replies {
                        response: Some(response),
                        body: Incoming {
                            stream: None,
                            piece: Bytes::new(),
                            came: 0,
                            poller,
                            failed: None,
                        },
                        coding: Coding::Identity,
                        limit: self.channel.limit(),
                        headers: Metadata::new(),
                        trailers: Metadata::new(),
                        is_over: false,
                        was_compressed: false,
                        _counted: self.channel.count(),
                        is_unseen: false,
                        _messages: PhantomData,
                    };
                    return Ok((sending, receiving));
                }
                // It has gone since it was asked for.
                Err(error) if has_tried => return Err(of_protocol(&error)),
                Err(_) => {
                    has_tried = true;
                    self.channel.forget();
                }
            }
        }
    }

    fn head(&self, path: &'static str) -> Result<Request<()>, Status> {
        let mut parts = uri::Parts::default();
        (parts.scheme, parts.authority) = self.channel.place()?;
        parts.path_and_query = Some(PathAndQuery::from_static(path));
        let uri = Uri::from_parts(parts);
        let uri = uri.map_err(|error| Status::new(Code::InvalidArgument, error.to_string()))?;
        let mut request = Request::new(());
        *request.method_mut() = Method::POST;
        *request.uri_mut() = uri;
        let headers = request.headers_mut();
        headers.reserve(8);
        self.metadata.write(headers);
        headers.insert(TE, TRAILERS.clone());
        headers.insert(CONTENT_TYPE, GRPC.clone());
        headers.insert(USER_AGENT, OWN_NAME.clone());
        headers.insert(&ACCEPT_ENCODING, ACCEPTED.clone());
        if self.compress {
            headers.insert(&ENCODING, GZIP.clone());
        }
        if let Some(left) = maniple::time::remaining() {
            let text = timeout::format(left);
            if let Ok(value) = HeaderValue::from_str(&text) {
                headers.insert(&TIMEOUT, value);
            }
        }
        Ok(request)
    }
}

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static OWN_NAME: HeaderValue =
    HeaderValue::from_static(concat!("maniple-grpc/", env!("CARGO_PKG_VERSION")));

/// The half of a call by which messages go. Dropping it without [`finish`](Sending::finish) gives the call up.
pub struct Sending<Q> {
    stream: SendStream<Bytes>,
    poller: Option<Poller>,
    coding: Coding,
    /// Whether the server was told that messages may come compressed.
    is_told: bool,
    _messages: PhantomData<fn(Q)>,
}

impl<Q: Message> Sending<Q> {
    /// Sends a message; waits while the server has no room for it.
    ///
    /// # Errors
    /// If the call has ended, of which [`Replies`] says more; `DEADLINE_EXCEEDED` and `CANCELLED` by the caller's scope.
    pub fn send(&mut self, message: &Q) -> Result<(), Status> {
        let bytes = message::write(message, self.coding)?;
        self.send_bytes(bytes.into(), false)
    }

    /// Has the messages that are sent from now on be compressed or not. Only those of a call that was begun with compression
    /// can be.
    pub fn compress(&mut self, compress: bool) {
        self.coding = Coding::gzip_if(compress && self.is_told);
    }

    /// Says that no more come.
    ///
    /// # Errors
    /// If the call has ended.
    pub fn finish(mut self) -> Result<(), Status> {
        self.end()
    }

    fn end(&mut self) -> Result<(), Status> {
        let ended = self.stream.send_data(Bytes::new(), true);
        ended.map_err(|error| of_protocol(&error))
    }
}

impl<Q> Sending<Q> {
    fn send_bytes(&mut self, mut bytes: Bytes, last: bool) -> Result<(), Status> {
        while !bytes.is_empty() {
            self.stream.reserve_capacity(bytes.len());
            let room = match self.stream.capacity() {
                0 => {
                    let stream = &mut self.stream;
                    let poller = self.poller.get_or_insert_default();
                    let room = poller.wait(None, |context| stream.poll_capacity(context));
                    match room.map_err(|error| Status::of_io(&error))? {
                        Some(room) => room.map_err(|error| of_protocol(&error))?,
                        None => return Err(Status::new(Code::Unavailable, "the call has ended")),
                    }
                }
                room => room,
            };
            let part = bytes.split_to(room.min(bytes.len()));
            let sent = self.stream.send_data(part, last && bytes.is_empty());
            sent.map_err(|error| of_protocol(&error))?;
        }
        Ok(())
    }
}

impl<Q> fmt::Debug for Sending<Q> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Sending").finish_non_exhaustive()
    }
}

/// A call to which many messages go, and which is answered one.
#[derive(Debug)]
pub struct Answered<Q, A> {
    sending: Sending<Q>,
    receiving: Replies<A>,
}

impl<Q: Message, A: Message + Default> Answered<Q, A> {
    /// Sends a message, as [`Sending::send`].
    ///
    /// # Errors
    /// Those of [`Sending::send`]; then [`finish`](Answered::finish) says why.
    pub fn send(&mut self, message: &Q) -> Result<(), Status> {
        self.sending.send(message)
    }

    /// Has the messages that follow be compressed or not, as [`Sending::compress`].
    pub fn compress(&mut self, compress: bool) {
        self.sending.compress(compress);
    }

    /// Says that no more come, and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Caller::unary`].
    pub fn finish(mut self) -> Result<Reply<A>, Status> {
        // One that has ended already has an answer.
        let _ = self.sending.end();
        self.receiving.one()
    }
}

/// Messages that are answered, one after the other. Dropping it gives the call up.
pub struct Replies<A> {
    response: Option<ResponseFuture>,
    body: Incoming,
    coding: Coding,
    limit: usize,
    headers: Metadata,
    trailers: Metadata,
    is_over: bool,
    was_compressed: bool,
    _counted: Counted,
    /// Whether the server has said that it did not look at the call.
    is_unseen: bool,
    _messages: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Replies<A> {
    /// The fields that came before the answers; waits for them.
    ///
    /// # Errors
    /// What the server says, if that is all that it says.
    pub fn headers(&mut self) -> Result<&Metadata, Status> {
        self.await_head()?;
        Ok(&self.headers)
    }

    /// The fields that came behind the answers, once there are no more.
    pub fn trailers(&self) -> &Metadata {
        &self.trailers
    }

    /// Whether the last message came compressed.
    pub fn was_compressed(&self) -> bool {
        self.was_compressed
    }

    fn await_head(&mut self) -> Result<(), Status> {
        let Some(mut response) = self.response.take() else {
            return Ok(());
        };
        let poller = &self.body.poller;
        let answered = poller.wait(None, |context| {
            std::future::Future::poll(std::pin::Pin::new(&mut response), context)
        });
        let answered = answered.map_err(|error| Status::of_io(&error))?;
        let (head, body) = match answered {
            Ok(answer) => answer.into_parts(),
            Err(error) => {
                self.is_unseen = is_unseen(&error);
                return Err(of_protocol(&error));
            }
        };
        let content = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_of_grpc = content.is_some_and(message::is_grpc);
        if !is_of_grpc || head.status != http::StatusCode::OK {
            return Err(match Status::read(&head.headers) {
                Some(Err(status)) => status,
                _ => Status::of_http(head.status),
            });
        }
        if body.is_end_stream() {
            // All that it says is in the head.
            self.is_over = true;
            let said = Status::read(&head.headers);
            self.trailers = Metadata::of(head.headers);
            return match said {
                Some(said) => said,
                None => Err(Status::new(Code::Unknown, "no grpc-status")),
            };
        }
        let coding = head.headers.get(&ENCODING).map(HeaderValue::as_bytes);
        let Some(coding) = Coding::of_name(coding.unwrap_or(b"identity")) else {
            return Err(Status::new(
                Code::Internal,
                "an answer in a coding that was not offered",
            ));
        };
        self.coding = coding;
        self.headers = Metadata::of(head.headers);
        self.body.stream = Some(body);
        Ok(())
    }

    fn read(&mut self) -> Result<Option<A>, Status> {
        self.await_head()?;
        if self.is_over {
            return Ok(None);
        }
        // Most often all of it has come.
        let at_hand = message::take(&mut self.body.piece, self.coding, self.limit);
        let read = match at_hand {
            Some(message) => message.map(Some),
            None => message::read(&mut self.body, self.coding, self.limit),
        };
        match read {
            Ok(Some((message, was_compressed))) => {
                self.was_compressed = was_compressed;
                Ok(Some(message))
            }
            Ok(None) => {
                let fields = self.body.trailers()?;
                let said = Status::read(&fields);
                self.trailers = Metadata::of(fields);
                match said {
                    Some(said) => said.map(|()| None),
                    None => Err(Status::new(Code::Unknown, "no grpc-status")),
                }
            }
            Err(status) => Err(self.body.failed.take().unwrap_or(status)),
        }
    }

    /// The only message, and the end behind it.
    fn one(&mut self) -> Result<Reply<A>, Status> {
        let one = self.read()?;
        let Some(message) = one else {
            // OK, and nothing that is.
            return Err(Status::new(Code::Internal, "no message"));
        };
        match self.read()? {
            None => Ok(Reply {
                message,
                was_compressed: self.was_compressed,
                headers: std::mem::take(&mut self.headers),
                trailers: std::mem::take(&mut self.trailers),
            }),
            Some(_) => Err(Status::new(Code::Internal, "more than one message")),
        }
    }
}

/// Waits for the next message. The last is an error, if the call came to one; after that there is none.
impl<A: Message + Default> Iterator for Replies<A> {
    type Item = Result<A, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let read = self.read().transpose();
        self.is_over |= !matches!(read, Some(Ok(_)));
        read
    }
}

impl<A> fmt::Debug for Replies<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}

/// A body as it comes.
struct Incoming {
    stream: Option<RecvStream>,
    piece: Bytes,
    /// How long it was when it came. The window is opened by that once it is used up.
    came: usize,
    poller: Poller,
    /// Why it broke off, where that is known better than an error of I/O says.
    failed: Option<Status>,
}

impl Incoming {
    fn trailers(&mut self) -> Result<HeaderMap, Status> {
        let Some(stream) = &mut self.stream else {
            return Ok(HeaderMap::new());
        };
        let came = self
            .poller
            .wait(None, |context| stream.poll_trailers(context));
        let came = came.map_err(|error| Status::of_io(&error))?;
        let came = came.map_err(|error| of_protocol(&error))?;
        Ok(came.unwrap_or_default())
    }

    fn next_piece(&mut self) -> io::Result<bool> {
        let Some(stream) = &mut self.stream else {
            return Ok(false);
        };
        let used = std::mem::take(&mut self.came);
        if used > 0 {
            // A stream that is gone has no window.
            let _ = stream.flow_control().release_capacity(used);
        }
        let mut poll = |context: &mut Context<'_>| stream.poll_data(context);
        // Most often it is there.
        let came = match poll(&mut Context::from_waker(Waker::noop())) {
            Poll::Ready(came) => came,
            Poll::Pending => self.poller.wait(None, poll)?,
        };
        match came {
            None => Ok(false),
            Some(Ok(piece)) => {
                self.came = piece.len();
                self.piece = piece;
                Ok(true)
            }
            Some(Err(error)) => {
                self.failed = Some(of_protocol(&error));
                Err(io::Error::other(error))
            }
        }
    }
}

impl Read for Incoming {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        while self.piece.is_empty() {
            if buffer.is_empty() || !self.next_piece()? {
                return Ok(0);
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }
}

/// Whether an error says that the server has not looked at the request (RFC 9113, 8.7).
fn is_unseen(error: &h2::Error) -> bool {
    let is_refused = error.reason() == Some(Reason::REFUSED_STREAM);
    error.is_remote() && (is_refused || error.is_go_away())
}

/// What an error of HTTP/2 means for a call (`PROTOCOL-HTTP2.md` of gRPC).
fn of_protocol(error: &h2::Error) -> Status {
    if let Some(error) = error.get_io() {
        return Status::new(Code::Unavailable, error.to_string());
    }
    let code = match error.reason() {
        Some(Reason::REFUSED_STREAM) => Code::Unavailable,
        Some(Reason::CANCEL) => Code::Cancelled,
        Some(Reason::ENHANCE_YOUR_CALM) => Code::ResourceExhausted,
        Some(Reason::INADEQUATE_SECURITY) => Code::PermissionDenied,
        _ if error.is_go_away() => Code::Unavailable,
        Some(_) => Code::Internal,
        None => Code::Unavailable,
    };
    Status::new(code, error.to_string())
}
