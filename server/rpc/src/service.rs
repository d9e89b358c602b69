//! Services: their methods, and a call as its method sees it.

use std::{
    collections::HashMap,
    fmt,
    marker::PhantomData,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::Bytes;
use maniple::future::Poller;
use prost::Message;

use crate::{
    address::Address,
    answering::Answering,
    frame::Parts,
    metadata::Metadata,
    slot::encode,
    status::{Code, Status},
};

/// A service: its methods by their names. Generated code makes it.
///
/// # Examples
/// ```
/// use maniple_rpc::{Call, Service, Status};
///
/// let greeter = Service::new("hello.Greeter").unary("Greet", |_: &mut Call, name: String| {
///     Ok::<_, Status>(format!("hello, {name}"))
/// });
/// # let _ = greeter;
/// ```
#[must_use = "a service serves nothing until a server has it"]
pub struct Service {
    name: &'static str,
    methods: Vec<(String, Method)>,
}

/// What carries a call out, in its coroutine.
pub(crate) struct Method {
    pub(crate) run: Box<dyn Fn(Underway) + Send + Sync>,
    /// Whether messages come behind the request.
    pub(crate) takes_stream: bool,
    /// Whether its call has streams at all.
    pub(crate) has_streams: bool,
}

/// All methods of a server, by path.
pub(crate) type Methods = HashMap<Box<[u8]>, Arc<Method>>;

/// A call that has come.
pub(crate) struct Underway {
    pub(crate) call: Call,
    pub(crate) message: Bytes,
    pub(crate) answering: Answering,
}

impl Service {
    /// One without methods, by the full name that it has in its `.proto`.
    pub fn new(name: &'static str) -> Self {
        Self {
            name,
            methods: Vec::new(),
        }
    }

    /// Adds a method of one message each way.
    pub fn unary<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, Q) -> Result<A, Status> + Send + Sync + 'static,
    {
        self.add(method, (false, false), move |mut underway| {
            let call = &mut underway.call;
            let message = std::mem::take(&mut underway.message);
            let answer = within(call.deadline, || f(call, decode(message)?));
            underway.end(answer.as_ref());
        })
    }

    /// Adds a method to which many messages come, and which answers one.
    pub fn client_streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, &mut Requests<'_, Q>) -> Result<A, Status> + Send + Sync + 'static,
    {
        self.add(method, (true, true), move |mut underway| {
            let (call, answering) = (&mut underway.call, &underway.answering);
            let answer = within(call.deadline, || f(call, &mut Requests::new(answering)));
            underway.end(answer.as_ref());
        })
    }

    /// Adds a method that answers one message with many.
    pub fn server_streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, Q, &mut Replies<'_, A>) -> Result<(), Status> + Send + Sync + 'static,
    {
        self.add(method, (false, true), move |mut underway| {
            let (call, answering) = (&mut underway.call, &underway.answering);
            let message = std::mem::take(&mut underway.message);
            let done = within(call.deadline, || {
                f(call, decode(message)?, &mut Replies::new(answering))
            });
            underway.end(done.as_ref());
        })
    }

    /// Adds a method to which many messages come while it answers many.
    pub fn streaming<Q, A, F>(self, method: &str, f: F) -> Self
    where
        Q: Message + Default + 'static,
        A: Message + 'static,
        F: Fn(&mut Call, &mut Requests<'_, Q>, &mut Replies<'_, A>) -> Result<(), Status>
            + Send
            + Sync
            + 'static,
    {
        self.add(method, (true, true), move |mut underway| {
            let (call, answering) = (&mut underway.call, &underway.answering);
            let done = within(call.deadline, || {
                let (mut requests, mut replies) =
                    (Requests::new(answering), Replies::new(answering));
                f(call, &mut requests, &mut replies)
            });
            underway.end(done.as_ref());
        })
    }

    fn add(
        mut self,
        method: &str,
        (takes_stream, has_streams): (bool, bool),
        run: impl Fn(Underway) + Send + Sync + 'static,
    ) -> Self {
        let method = format!("/{}/{method}", self.name);
        let run = Box::new(run);
        self.methods.push((
            method,
            Method {
                run,
                takes_stream,
                has_streams,
            },
        ));
        self
    }

    pub(crate) fn add_to(self, methods: &mut Methods) {
        for (path, method) in self.methods {
            methods.insert(path.into_bytes().into(), Arc::new(method));
        }
    }
}

impl fmt::Debug for Service {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let methods = self.methods.iter().map(|(path, _)| path);
        f.debug_list().entries(methods).finish()
    }
}

fn decode<M: Message + Default>(bytes: Bytes) -> Result<M, Status> {
    M::decode(bytes).map_err(|error| Status::new(Code::Internal, error.to_string()))
}

impl Underway {
    fn end<A: Message>(mut self, answer: Result<&A, &Status>) {
        match answer {
            Ok(answer) => {
                let call = &self.call;
                let metadata = call.answer_metadata.as_bytes();
                let attachment = &call.answer_attachment;
                self.answering
                    .answer(0, metadata, attachment, |out| encode(answer, out));
            }
            Err(status) => self.answering.fail(status),
        }
    }
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

/// Who calls.
#[derive(Debug)]
pub(crate) struct Peer {
    pub(crate) address: Address,
    pub(crate) name: String,
}

/// A call as its method sees it.
#[derive(Debug)]
pub struct Call {
    pub(crate) metadata: Metadata,
    pub(crate) attachment: Bytes,
    pub(crate) deadline: Option<Instant>,
    pub(crate) peer: Arc<Peer>,
    pub(crate) is_idempotent: bool,
    pub(crate) answer_metadata: Metadata,
    pub(crate) answer_attachment: Bytes,
}

impl Call {
    /// The fields that the caller sent.
    pub fn metadata(&self) -> &Metadata {
        &self.metadata
    }

    /// The bytes beside the message; they are those that were read, not a copy.
    pub fn attachment(&self) -> &Bytes {
        &self.attachment
    }

    /// Fields to be sent with the answer. A [`Status`] has its own.
    pub fn answer_metadata_mut(&mut self) -> &mut Metadata {
        &mut self.answer_metadata
    }

    /// Bytes to be sent beside the answer; large ones are not copied.
    pub fn attach_to_answer(&mut self, bytes: impl Into<Bytes>) {
        self.answer_attachment = bytes.into();
    }

    /// How long the caller still waits, if it said so. The method's waits are cut then.
    pub fn remaining(&self) -> Option<Duration> {
        let deadline = self.deadline?;
        Some(deadline.saturating_duration_since(maniple::time::now()))
    }

    /// Whether the caller may make the call again if it hears nothing of it.
    pub fn is_idempotent(&self) -> bool {
        self.is_idempotent
    }

    /// Who calls.
    pub fn peer(&self) -> &Address {
        &self.peer.address
    }

    /// What the caller's end calls itself.
    pub fn peer_name(&self) -> &str {
        &self.peer.name
    }
}

/// Messages that come, one after the other.
pub struct Requests<'a, M> {
    answering: &'a Answering,
    attachment: Bytes,
    is_over: bool,
    _messages: PhantomData<fn() -> M>,
}

impl<'a, M> Requests<'a, M> {
    fn new(answering: &'a Answering) -> Self {
        Self {
            answering,
            attachment: Bytes::new(),
            is_over: false,
            _messages: PhantomData,
        }
    }

    /// The bytes beside the message that came last.
    pub fn attachment(&self) -> &Bytes {
        &self.attachment
    }
}

/// Waits for the next message. After an error there is none.
impl<M: Message + Default> Iterator for Requests<'_, M> {
    type Item = Result<M, Status>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.is_over {
            return None;
        }
        let next = match self.answering.next() {
            Ok(next) => next,
            Err(error) => {
                self.is_over = true;
                return Some(Err(Status::of_io(&error)));
            }
        };
        let Some(Parts {
            message,
            attachment,
            ..
        }) = next
        else {
            self.is_over = true;
            return None;
        };
        self.attachment = attachment;
        let message = decode(message);
        self.is_over = message.is_err();
        Some(message)
    }
}

impl<M> fmt::Debug for Requests<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Requests").finish_non_exhaustive()
    }
}

/// Where a method's messages go.
pub struct Replies<'a, M> {
    answering: &'a Answering,
    poller: Poller,
    _messages: PhantomData<fn(M)>,
}

impl<'a, M> Replies<'a, M> {
    fn new(answering: &'a Answering) -> Self {
        Self {
            answering,
            poller: Poller::new(),
            _messages: PhantomData,
        }
    }
}

impl<M: Message> Replies<'_, M> {
    /// Sends a message; waits while the caller has no room for it.
    ///
    /// # Errors
    /// `CANCELLED` if the caller is gone, `DEADLINE_EXCEEDED` if it is too late, `RESOURCE_EXHAUSTED` if it is larger than
    /// the caller takes.
    pub fn send(&mut self, message: &M) -> Result<(), Status> {
        self.send_with(message, Bytes::new())
    }

    /// Sends a message with bytes beside it.
    ///
    /// # Errors
    /// Those of [`send`](Replies::send).
    pub fn send_with(&mut self, message: &M, attachment: impl Into<Bytes>) -> Result<(), Status> {
        self.answering
            .send(&self.poller, message, &attachment.into())
    }
}

impl<M> fmt::Debug for Replies<'_, M> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Replies").finish_non_exhaustive()
    }
}
