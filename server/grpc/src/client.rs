//! The client's side: calls over a [`Channel`], within the caller's deadline.

use std::{fmt, io, io::Read, marker::PhantomData, ops::Deref};

use bytes::{Buf, Bytes};
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, Request, Uri,
    header::{CONTENT_TYPE, TE, USER_AGENT},
    uri::{self, PathAndQuery},
};
use maniple_parts::endpoints::Want;
use maniple_server::http2::{LinkError, Reason, ReceiveHalf, SendHalf};
use prost::Message;

use crate::{
    channel::{Channel, Unlinked},
    message::{self, ACCEPT_ENCODING, ACCEPTED, Coding, ENCODING, GRPC, GZIP},
    metadata::Metadata,
    servers::Attempt,
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
    /// Whether calls may be carried out twice.
    repeats: bool,
}

impl Caller {
    /// One without fields.
    pub fn new(channel: Channel) -> Self {
        Self {
            compress: channel.compresses(),
            channel,
            metadata: Metadata::new(),
            repeats: false,
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

    /// The same, whose calls of one message each way may be carried out twice: over a channel to [several servers](Channel::over) they
    /// are made again if they come to `UNAVAILABLE`, as when the connection is lost. Default: only what no server has looked at is.
    pub fn with_repeats(self, repeats: bool) -> Self {
        Self { repeats, ..self }
    }

    /// A call of one message each way. A server that says that it has not looked at it is asked once more, or others are: see
    /// [`Channel::over`].
    ///
    /// # Errors
    /// What the server says; `DEADLINE_EXCEEDED` and `CANCELLED` by the caller's scope; `UNAVAILABLE` without a server.
    pub fn unary<Q, A>(&self, path: &'static str, message: &Q) -> Result<Reply<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let bytes = Bytes::from(message::write(message, self.coding())?);
        let want = Want::new();
        let attempt = || self.attempt::<Q, A>(path, &bytes, &want);
        let answered = match self.channel.servers() {
            Some(servers) => {
                let may_repeat = |failed: &Failed| {
                    let repeats = self.repeats && failed.status.code() == Code::Unavailable;
                    failed.is_unseen || (repeats && failed.is_of_the_server)
                };
                servers.retry.run(may_repeat, |_| attempt())
            }
            None => match attempt() {
                Err(failed) if failed.is_refused => {
                    self.channel.forget();
                    attempt()
                }
                answered => answered,
            },
        };
        answered.map_err(|failed| failed.status)
    }

    fn attempt<Q, A>(
        &self,
        path: &'static str,
        bytes: &Bytes,
        want: &Want,
    ) -> Result<Reply<A>, Failed>
    where
        Q: Message,
        A: Message + Default,
    {
        let (mut sending, mut receiving) = self.begin_once::<Q, A>(path, want)?;
        let sent = sending.send_bytes(bytes.clone(), true);
        // An answer may have come before all was sent, and says more than that it could not be.
        receiving.one().map_err(|status| Failed {
            is_unseen: receiving.is_unseen,
            is_refused: receiving.is_unseen,
            is_of_the_server: true,
            status: match (status.code(), sent) {
                (Code::Internal | Code::Unknown, Err(of_sending)) => of_sending,
                _ => status,
            },
        })
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
        let want = Want::new();
        let begin = || self.begin_once(path, &want);
        let begun = match self.channel.servers() {
            Some(servers) => servers
                .retry
                .run(|failed: &Failed| failed.is_unseen, |_| begin()),
            None => begin(),
        };
        begun.map_err(|failed: Failed| failed.status)
    }

    /// Over a connection to one server, which is made anew if that has gone since it was asked for.
    fn begin_once<Q, A>(
        &self,
        path: &'static str,
        want: &Want,
    ) -> Result<(Sending<Q>, Replies<A>), Failed> {
        let (mut link, call) = self.channel.link(want)?;
        let begun = match link.request(self.head(path)?, false) {
            Err(_) if call.is_none() => {
                self.channel.forget();
                (link, _) = self.channel.link(want)?;
                link.request(self.head(path)?, false)
            }
            begun => begun,
        };
        let (half, answer) = begun.map_err(|error| Failed {
            status: of_link(&error),
            is_unseen: !link.is_open(),
            is_refused: false,
            is_of_the_server: true,
        })?;
        let sending = Sending {
            half,
            coding: self.coding(),
            is_told: self.compress,
            _messages: PhantomData,
        };
        let receiving = Replies {
            call,
            has_head: false,
            body: Incoming {
                half: answer,
                piece: Bytes::new(),
                failed: None,
            },
            coding: Coding::Identity,
            limit: self.channel.limit(),
            headers: Metadata::new(),
            trailers: Metadata::new(),
            is_over: false,
            was_compressed: false,
            is_unseen: false,
            is_going: false,
            _messages: PhantomData,
        };
        Ok((sending, receiving))
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

/// What an attempt at a call has come to.
struct Failed {
    status: Status,
    /// Whether no server has looked at the call.
    is_unseen: bool,
    /// Whether one has said so.
    is_refused: bool,
    /// Whether another server may do better.
    is_of_the_server: bool,
}

impl From<Status> for Failed {
    fn from(status: Status) -> Self {
        Self {
            status,
            is_unseen: false,
            is_refused: false,
            is_of_the_server: false,
        }
    }
}

impl From<Unlinked> for Failed {
    fn from(unlinked: Unlinked) -> Self {
        Self {
            is_unseen: unlinked.is_of_the_server,
            ..unlinked.status.into()
        }
    }
}

static TIMEOUT: HeaderName = HeaderName::from_static("grpc-timeout");
static TRAILERS: HeaderValue = HeaderValue::from_static("trailers");
static OWN_NAME: HeaderValue =
    HeaderValue::from_static(concat!("maniple-grpc/", env!("CARGO_PKG_VERSION")));

/// The half of a call by which messages go. Dropping it without [`finish`](Sending::finish) gives the call up.
pub struct Sending<Q> {
    half: SendHalf,
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
        self.half.finish().map_err(|error| of_link(&error))
    }
}

impl<Q> Sending<Q> {
    fn send_bytes(&mut self, bytes: Bytes, last: bool) -> Result<(), Status> {
        let sent = self.half.send(bytes, last);
        sent.map_err(|error| of_link(&error))
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
    /// The call, to the set that its server was picked from.
    call: Option<Attempt>,
    has_head: bool,
    body: Incoming,
    coding: Coding,
    limit: usize,
    headers: Metadata,
    trailers: Metadata,
    is_over: bool,
    was_compressed: bool,
    /// Whether the server has said that it did not look at the call.
    is_unseen: bool,
    /// Whether that was since the connection goes.
    is_going: bool,
    _messages: PhantomData<fn() -> A>,
}

impl<A: Message + Default> Replies<A> {
    /// The fields that came before the answers; waits for them.
    ///
    /// # Errors
    /// What the server says, if that is all that it says.
    pub fn headers(&mut self) -> Result<&Metadata, Status> {
        let told = self.await_head();
        if let Err(status) = told {
            self.failed(&status);
            return Err(status);
        }
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
        if self.has_head {
            return Ok(());
        }
        let head = match self.body.half.head() {
            Ok(head) => head.into_parts().0,
            Err(error) => {
                self.is_unseen = error.is_unseen();
                self.is_going = self.is_unseen && error.is_go_away();
                // One that was cut short may still come.
                self.has_head = !matches!(error, LinkError::Cut(_));
                return Err(of_link(&error));
            }
        };
        self.has_head = true;
        let content = head.headers.get(CONTENT_TYPE).map(HeaderValue::as_bytes);
        let is_of_grpc = content.is_some_and(message::is_grpc);
        if !is_of_grpc || head.status != http::StatusCode::OK {
            return Err(match Status::read(&head.headers) {
                Some(Err(status)) => status,
                _ => Status::of_http(head.status),
            });
        }
        if self.body.half.is_over() {
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
        if let Some(call) = &mut self.call {
            call.answered();
        }
        Ok(())
    }

    /// Tells the set of servers of it.
    fn failed(&mut self, status: &Status) {
        // A stream that is read until its deadline speaks against nobody, nor does a connection whose time is over.
        let is_late = status.code() == Code::DeadlineExceeded && self.has_head;
        if let Some(call) = &mut self.call
            && !is_late
            && !self.is_going
        {
            call.failed(status);
        }
    }

    fn read(&mut self) -> Result<Option<A>, Status> {
        let read = self.read_on();
        match &read {
            Ok(Some(_)) => {}
            Ok(None) => {
                if let Some(call) = &mut self.call {
                    call.end();
                }
            }
            Err(status) => self.failed(status),
        }
        read
    }

    fn read_on(&mut self) -> Result<Option<A>, Status> {
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
    half: ReceiveHalf,
    piece: Bytes,
    /// Why it broke off, where that is known better than an error of I/O says.
    failed: Option<Status>,
}

impl Incoming {
    fn trailers(&mut self) -> Result<HeaderMap, Status> {
        self.half.trailers().map_err(|error| of_link(&error))
    }

    fn next_piece(&mut self) -> io::Result<bool> {
        match self.half.part() {
            Ok(None) => Ok(false),
            Ok(Some(piece)) => {
                self.piece = piece;
                Ok(true)
            }
            Err(LinkError::Cut(cut)) => Err(cut),
            Err(error) => {
                self.failed = Some(of_link(&error));
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

/// What an error of HTTP/2 means for a call (`PROTOCOL-HTTP2.md` of gRPC).
fn of_link(error: &LinkError) -> Status {
    match error {
        LinkError::Cut(cut) => return Status::of_io(cut),
        LinkError::Closed => return Status::new(Code::Unavailable, "the call has ended"),
        LinkError::Interim => return Status::new(Code::Internal, error.to_string()),
        _ => {}
    }
    if let Some(broken) = error.broken() {
        return Status::new(Code::Unavailable, broken.to_string());
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
