//! The client's side: calls over a [`Channel`], within the caller's deadline.

use std::{fmt, marker::PhantomData, ops::Deref, sync::Arc};

use bytes::Bytes;
use maniple::future::Poller;
use prost::Message;

use crate::{
    channel::Channel,
    connection::{NotBegun, Open},
    frame::{END, IDEMPOTENT, Kind, Parts, Request, Response, STREAM, TooLarge},
    metadata::Metadata,
    slot::{Outcome, encode},
    status::{Code, Status},
};

/// An answer, with what came with it.
#[derive(Clone, Debug)]
pub struct Reply<A> {
    message: A,
    metadata: Metadata,
    attachment: Bytes,
}

impl<A> Reply<A> {
    /// The message alone.
    pub fn into_inner(self) -> A {
        self.message
    }

    /// The fields that came with it.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes beside it; they are those that were read, not a copy.
    pub fn attachment(&self) -> &Bytes {
        &self.attachment
    }
}

impl<A> Deref for Reply<A> {
    type Target = A;

    fn deref(&self) -> &A {
        &self.message
    }
}

/// What generated clients call by: a channel, and what goes with each call.
///
/// The deadline of a call is that of the scope that it is made in ([`maniple::timeout`]), and the server is told. A call
/// whose scope is cancelled, or whose halves are dropped, is given up, and the server is told of that too.
///
/// A call whose connection is lost is made again, over the next, if the server has not looked at it or if it
/// [may be repeated](Caller::idempotent). Else it ends with an error that says that it
/// [may have been executed](Status::may_have_been_executed).
#[derive(Clone, Debug)]
pub struct Caller {
    channel: Channel,
    metadata: Metadata,
    attachment: Bytes,
    is_idempotent: bool,
}

impl Caller {
    /// One whose calls have nothing beside their messages.
    pub fn new(channel: Channel) -> Self {
        Self {
            channel,
            metadata: Metadata::new(),
            attachment: Bytes::new(),
            is_idempotent: false,
        }
    }

    /// The same with other fields.
    pub fn with_metadata(self, metadata: Metadata) -> Self {
        Self { metadata, ..self }
    }

    /// The same with bytes beside the message of each call; large ones are not copied.
    pub fn with_attachment(self, attachment: impl Into<Bytes>) -> Self {
        let attachment = attachment.into();
        Self { attachment, ..self }
    }

    /// The same, whose calls may be carried out more than once, or may not. Methods whose `.proto` gives them an
    /// `idempotency_level` may.
    pub fn idempotent(self, is_idempotent: bool) -> Self {
        Self {
            is_idempotent,
            ..self
        }
    }

    /// A call of one message each way.
    ///
    /// # Errors
    /// What the server says; `DEADLINE_EXCEEDED` and `CANCELLED` by the caller's scope; `UNAVAILABLE` without a server, or if
    /// the connection was lost: see [`Status::may_have_been_executed`].
    pub fn unary<Q, A>(&self, path: &'static str, message: &Q) -> Result<Reply<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        self.unary_of(path, self.is_idempotent, message)
    }

    /// Such a call of a method that may be repeated.
    ///
    /// # Errors
    /// Those of [`unary`](Caller::unary).
    pub fn unary_idempotent<Q, A>(
        &self,
        path: &'static str,
        message: &Q,
    ) -> Result<Reply<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        self.unary_of(path, true, message)
    }

    fn unary_of<Q, A>(
        &self,
        path: &'static str,
        is_idempotent: bool,
        message: &Q,
    ) -> Result<Reply<A>, Status>
    where
        Q: Message,
        A: Message + Default,
    {
        let mut repeats = self.channel.repeats();
        let flags = if is_idempotent { IDEMPOTENT } else { 0 };
        loop {
            let open = self.begin(path, flags, false, |out| encode(message, out))?;
            let outcome = match open.outcome() {
                Ok(outcome) => outcome,
                // Dropped, it tells the server.
                Err(error) => return Err(Status::of_io(&error).unsure()),
            };
            match outcome {
                Outcome::Answered(response) => return reply(response),
                Outcome::Lost {
                    may_have_run: false,
                } => {}
                Outcome::Lost { may_have_run: true } if is_idempotent && repeats > 0 => {
                    repeats -= 1;
                }
                Outcome::Lost { may_have_run: true } => return Err(lost()),
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
        let (sending, receiving) = self.streaming(path)?;
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
        let flags = if self.is_idempotent { IDEMPOTENT } else { 0 };
        let open = self.begin(path, flags, true, |out| encode(message, out))?;
        Ok(Replies::new(Arc::new(open)))
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
        let open = Arc::new(self.begin(path, STREAM, true, |_| ())?);
        let sending = Sending {
            open: open.clone(),
            poller: Poller::new(),
            is_ended: false,
            _messages: PhantomData,
        };
        Ok((sending, Replies::new(open)))
    }

    /// Begins a call on the connection that there is, or the next.
    fn begin(
        &self,
        path: &'static str,
        flags: u8,
        has_streams: bool,
        message: impl Fn(&mut Vec<u8>),
    ) -> Result<Open, Status> {
        loop {
            let connection = self.channel.usable()?;
            let timeout = match maniple::time::remaining() {
                None => 0,
                // Not shorter than it is.
                Some(left) => left
                    .as_nanos()
                    .div_ceil(1000)
                    .clamp(1, u64::MAX.into())
                    .try_into()
                    .unwrap_or(u64::MAX),
            };
            let metadata = self.metadata.as_bytes();
            let begun = connection.begin(flags, has_streams, &self.attachment, |out| {
                Request::write(out, timeout, path, metadata, &message)
            });
            match begun {
                Ok(open) => return Ok(open),
                Err(NotBegun::Leaving) => {}
                Err(NotBegun::TooLarge) => return Err(TooLarge.into()),
                Err(NotBegun::Cut(error)) => return Err(Status::of_io(&error)),
            }
        }
    }
}

#[cold]
fn lost() -> Status {
    let text = "the connection was lost: the call may have been executed";
    Status::new(Code::Unavailable, text).unsure()
}

/// What a response says.
fn said(response: Response) -> Result<Parts, Status> {
    let Response { code, parts } = response;
    if code == 0 {
        return Ok(parts);
    }
    let text = String::from_utf8_lossy(&parts.message);
    let metadata = Metadata::read(parts.metadata).unwrap_or_default();
    let status = Status::new(Code::from_number(code.into()), text);
    Err(status
        .with_details(parts.attachment)
        .with_metadata(metadata))
}

fn reply<A: Message + Default>(response: Response) -> Result<Reply<A>, Status> {
    let Parts {
        metadata,
        message,
        attachment,
    } = said(response)?;
    Ok(Reply {
        message: decode(message)?,
        metadata: Metadata::read(metadata).unwrap_or_default(),
        attachment,
    })
}

fn decode<A: Message + Default>(message: Bytes) -> Result<A, Status> {
    A::decode(message).map_err(|error| Status::new(Code::Internal, error.to_string()))
}

/// The half of a call by which messages go. Dropping it without [`finish`](Sending::finish) gives the call up.
pub struct Sending<Q> {
    open: Arc<Open>,
    poller: Poller,
    is_ended: bool,
    _messages: PhantomData<fn(Q)>,
}

impl<Q: Message> Sending<Q> {
    /// Sends a message; waits while the server has no room for it.
    ///
    /// # Errors
    /// If the call has ended, of which [`Replies`] says more; `DEADLINE_EXCEEDED` and `CANCELLED` by the caller's scope.
    pub fn send(&mut self, message: &Q) -> Result<(), Status> {
        self.send_with(message, Bytes::new())
    }

    /// Sends a message with bytes beside it.
    ///
    /// # Errors
    /// Those of [`send`](Sending::send).
    pub fn send_with(&mut self, message: &Q, attachment: impl Into<Bytes>) -> Result<(), Status> {
        let Open {
            connection,
            slot,
            id,
        } = &*self.open;
        slot.send(
            &connection.link,
            *id,
            &self.poller,
            message,
            &attachment.into(),
        )
    }

    /// Says that no more come.
    pub fn finish(mut self) {
        self.end();
    }
}

impl<Q> Sending<Q> {
    fn end(&mut self) {
        if !std::mem::replace(&mut self.is_ended, true) {
            let link = &self.open.connection.link;
            // It has no body, and fits.
            let _ = link.send(
                (Kind::Message, END, self.open.id),
                &Bytes::new(),
                |_| Ok(()),
            );
        }
    }
}

impl<Q> Drop for Sending<Q> {
    fn drop(&mut self) {
        if !self.is_ended {
            self.open.cancel();
        }
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

    /// Sends a message with bytes beside it, as [`Sending::send_with`].
    ///
    /// # Errors
    /// Those of [`Sending::send_with`].
    pub fn send_with(&mut self, message: &Q, attachment: impl Into<Bytes>) -> Result<(), Status> {
        self.sending.send_with(message, attachment)
    }

    /// Says that no more come, and waits for the answer.
    ///
    /// # Errors
    /// Those of [`Caller::unary`]. A call with streams is never made again by itself.
    pub fn finish(mut self) -> Result<Reply<A>, Status> {
        self.sending.end();
        self.receiving.only()
    }
}

/// Messages that are answered, one after the other. Dropping it gives the call up.
pub struct Replies<A> {
    open: Arc<Open>,
    metadata: Metadata,
    attachment: Bytes,
    is_over: bool,
    _messages: PhantomData<fn() -> A>,
}

impl<A> Replies<A> {
    fn new(open: Arc<Open>) -> Self {
        Self {
            open,
            metadata: Metadata::new(),
            attachment: Bytes::new(),
            is_over: false,
            _messages: PhantomData,
        }
    }

    /// The bytes beside the message that came last.
    pub fn attachment(&self) -> &Bytes {
        &self.attachment
    }

    /// The fields that came behind the answers, once there are no more.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    fn end(&mut self) -> Result<Response, Status> {
        self.is_over = true;
        match self.open.outcome() {
            Ok(Outcome::Answered(response)) => Ok(response),
            Ok(Outcome::Lost { may_have_run: true }) => Err(lost()),
            Ok(Outcome::Lost {
                may_have_run: false,
            }) => {
                let text = "the server has not looked at the call";
                Err(Status::new(Code::Unavailable, text))
            }
            Err(error) => Err(Status::of_io(&error).unsure()),
        }
    }
}

impl<A: Message + Default> Replies<A> {
    fn only(&mut self) -> Result<Reply<A>, Status> {
        reply(self.end()?)
    }
}

/// Waits for the next message. The last is an error, if the call came to one; after that there is none.
impl<A: Message + Default> Iterator for Replies<A> {
    type Item = Result<A, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let Open {
            connection,
            slot,
            id,
        } = &*self.open;
        match slot.next(&connection.link, *id) {
            Ok(Some(parts)) => {
                self.attachment = parts.attachment;
                let message = decode(parts.message);
                self.is_over = message.is_err();
                Some(message)
            }
            Ok(None) => match self.end().and_then(said) {
                Ok(parts) => {
                    self.metadata = Metadata::read(parts.metadata).unwrap_or_default();
                    None
                }
                Err(status) => Some(Err(status)),
            },
            Err(error) => {
                self.is_over = true;
                Some(Err(Status::of_io(&error).unsure()))
            }
        }
    }
}

impl<A> Drop for Replies<A> {
    fn drop(&mut self) {
        if !self.is_over {
            self.open.cancel();
        }
    }
}

impl<A> fmt::Debug for Replies<A> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}
