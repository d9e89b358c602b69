//! The two halves of a request that is under way: what is sent, and what comes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    task::{Context, Poll, Waker},
    time::Instant,
};

use bytes::Bytes;
use h2::{
    Reason, RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Response};
use maniple::future::Poller;

use super::{error::LinkError, load::Counted};
use crate::http1::conversation::Awaiting;

/// The half of a request by which its body goes. Dropping both halves before the end gives the request up: the server is sent
/// `RST_STREAM`, and the connection goes on.
pub struct SendHalf {
    stream: SendStream<Bytes>,
    poller: Option<Poller>,
}

impl SendHalf {
    pub(super) fn new(stream: SendStream<Bytes>) -> Self {
        Self {
            stream,
            poller: None,
        }
    }

    /// Sends a part of the body, or the last; waits while the server has no room for it.
    ///
    /// # Errors
    /// If the wait was cut short, and what of the part was sent is not known; or if the server wants no more, of which the answer
    /// says more.
    pub fn send(&mut self, mut part: Bytes, is_last: bool) -> Result<(), LinkError> {
        if part.is_empty() && is_last {
            return self.finish();
        }
        while !part.is_empty() {
            let Some(room) = self.room(part.len())? else {
                return Err(LinkError::Closed);
            };
            let now = part.split_to(room.min(part.len()));
            self.stream.send_data(now, is_last && part.is_empty())?;
        }
        Ok(())
    }

    /// Room for some of what is to be sent, and `None` if the server wants no more.
    fn room(&mut self, wanted: usize) -> Result<Option<usize>, LinkError> {
        let poller = self.poller.take().unwrap_or_default();
        let room = poller.wait(None, |context| self.poll_room(context, wanted));
        self.poller = Some(poller);
        room.map_err(LinkError::Cut)?
    }

    /// The same, without waiting.
    pub(crate) fn poll_room(
        &mut self,
        context: &mut Context<'_>,
        wanted: usize,
    ) -> Poll<Result<Option<usize>, LinkError>> {
        self.stream.reserve_capacity(wanted);
        match self.stream.capacity() {
            0 => {
                let room = self.stream.poll_capacity(context);
                room.map(|room| Ok(room.transpose()?))
            }
            room => Poll::Ready(Ok(Some(room))),
        }
    }

    /// Sends what there is room for, or what may be kept until there is.
    pub(crate) fn put(&mut self, part: Bytes, is_last: bool) -> Result<(), LinkError> {
        Ok(self.stream.send_data(part, is_last)?)
    }

    /// Ends the body with these fields behind it.
    pub(crate) fn put_trailers(&mut self, fields: HeaderMap) -> Result<(), LinkError> {
        Ok(self.stream.send_trailers(fields)?)
    }

    /// Ends the request, if it has not ended.
    pub(crate) fn reset(&mut self, reason: Reason) {
        self.stream.send_reset(reason);
    }

    /// Says that nothing follows.
    ///
    /// # Errors
    /// If the request has ended.
    pub fn finish(&mut self) -> Result<(), LinkError> {
        Ok(self.stream.send_data(Bytes::new(), true)?)
    }
}

impl fmt::Debug for SendHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SendHalf").finish_non_exhaustive()
    }
}

/// What was heard of a request that is under way.
pub(crate) enum Heard<B = ()> {
    /// A head before that of the answer.
    Interim(Response<()>),
    Head(Response<B>),
    /// All that was to be sent has left.
    SentAll,
}

/// The half of a request by which its answer comes.
pub struct ReceiveHalf {
    response: Option<ResponseFuture>,
    stream: Option<RecvStream>,
    poller: Poller,
    /// How much came last. The window is opened by that once it is used up.
    came: usize,
    awaiting: Awaiting,
    /// Keeps the connection, and knows whether the request had its turn.
    send: SendRequest<Bytes>,
    _counted: Counted,
}

impl ReceiveHalf {
    pub(super) fn new(
        response: ResponseFuture,
        send: SendRequest<Bytes>,
        counted: Counted,
    ) -> Self {
        Self {
            response: Some(response),
            stream: None,
            poller: Poller::new(),
            came: 0,
            awaiting: Awaiting::default(),
            send,
            _counted: counted,
        }
    }

    /// What has who waits for the answer look again.
    pub(crate) fn waker(&self) -> Waker {
        self.poller.waker().clone()
    }

    /// Waits until the server lets the request begin.
    pub(crate) fn turn(&mut self, until: Option<Instant>) -> Result<(), LinkError> {
        let Self { poller, send, .. } = self;
        let begun = poller.wait(until, |context| send.poll_ready(context));
        Ok(begun.map_err(LinkError::Cut)??)
    }

    /// Whether the server has let the request begin.
    pub(crate) fn has_begun(&mut self) -> bool {
        let begun = self
            .send
            .poll_ready(&mut Context::from_waker(Waker::noop()));
        begun.is_ready()
    }

    /// Waits for a head, that of an interim answer or the final one, and sends what is left of the body meanwhile.
    pub(crate) fn hear(
        &mut self,
        until: Option<Instant>,
        mut sending: Option<(&mut SendHalf, &mut Bytes)>,
    ) -> Result<Heard, LinkError> {
        let Some(response) = &mut self.response else {
            return Err(LinkError::Closed);
        };
        let heard = self.poller.wait(
            until,
            |context| -> Poll<Result<Heard<RecvStream>, h2::Error>> {
                if let Poll::Ready(Some(interim)) = response.poll_informational(context) {
                    return Poll::Ready(interim.map(Heard::Interim));
                }
                if let Poll::Ready(answer) = Pin::new(&mut *response).poll(context) {
                    return Poll::Ready(answer.map(Heard::Head));
                }
                let Some((half, rest)) = &mut sending else {
                    return Poll::Pending;
                };
                while !rest.is_empty() {
                    match half.poll_room(context, rest.len()) {
                        Poll::Pending => return Poll::Pending,
                        Poll::Ready(Ok(Some(room))) => {
                            let part = rest.split_to(room.min(rest.len()));
                            // What has ended is told with the answer.
                            let _ = half.put(part, rest.is_empty());
                        }
                        Poll::Ready(_) => rest.clear(),
                    }
                }
                sending = None;
                Poll::Ready(Ok(Heard::SentAll))
            },
        );
        let heard = heard.map_err(LinkError::Cut)?;
        Ok(match heard? {
            Heard::Interim(head) => {
                let length = size_of(head.headers());
                let bounded = self.awaiting.is_final(head.status(), length);
                bounded.map_err(|_| LinkError::Interim)?;
                Heard::Interim(head)
            }
            Heard::SentAll => Heard::SentAll,
            Heard::Head(answer) => {
                let (head, body) = answer.into_parts();
                (self.response, self.stream) = (None, Some(body));
                Heard::Head(Response::from_parts(head, ()))
            }
        })
    }

    /// Waits for the head of the answer, and passes over those before it.
    ///
    /// # Errors
    /// If there is none, or [too many](LinkError::Interim) come before it, or the wait was cut short, which may be gone on with.
    ///
    /// # Panics
    /// If the head has come before.
    pub fn head(&mut self) -> Result<Response<()>, LinkError> {
        assert!(self.response.is_some(), "the head comes once");
        loop {
            if let Heard::Head(head) = self.hear(None, None)? {
                return Ok(head);
            }
        }
    }

    /// Whether all has come and been taken, trailers included.
    pub fn is_over(&self) -> bool {
        self.stream.as_ref().is_some_and(RecvStream::is_end_stream)
    }

    /// Waits for the next part of the body, behind the [head](Self::head); `None` at its end. With that the part before counts as used
    /// up, and the server may send as much again.
    ///
    /// # Errors
    /// If the body breaks off, or the wait was cut short, which may be gone on with.
    pub fn part(&mut self) -> Result<Option<Bytes>, LinkError> {
        let Some(stream) = &mut self.stream else {
            return Ok(None);
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
            Poll::Pending => self.poller.wait(None, poll).map_err(LinkError::Cut)?,
        };
        let part = came.transpose()?;
        self.came = part.as_ref().map_or(0, Bytes::len);
        Ok(part)
    }

    /// Waits for the fields behind the body, once it has come to its end; none where there are none.
    ///
    /// # Errors
    /// If they break off, or the wait was cut short, which may be gone on with.
    pub fn trailers(&mut self) -> Result<HeaderMap, LinkError> {
        let Some(stream) = &mut self.stream else {
            return Ok(HeaderMap::new());
        };
        let came = self
            .poller
            .wait(None, |context| stream.poll_trailers(context));
        let came = came.map_err(LinkError::Cut)??;
        Ok(came.unwrap_or_default())
    }
}

/// What a head takes, as RFC 9113 (6.5.2) counts it.
fn size_of(headers: &HeaderMap) -> usize {
    let fields = headers.iter();
    fields
        .map(|(name, value)| name.as_str().len() + value.len() + 32)
        .sum()
}

impl fmt::Debug for ReceiveHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveHalf").finish_non_exhaustive()
    }
}
