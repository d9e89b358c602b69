//! The two halves of a request that is under way: what is sent, and what comes.

use std::{
    fmt,
    future::Future,
    pin::Pin,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    task::{Context, Poll, Waker},
};

use bytes::Bytes;
use h2::{
    RecvStream, SendStream,
    client::{ResponseFuture, SendRequest},
};
use http::{HeaderMap, Response};
use maniple::future::Poller;

use super::error::LinkError;

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
        self.stream.reserve_capacity(wanted);
        match self.stream.capacity() {
            0 => {
                let stream = &mut self.stream;
                let poller = self.poller.get_or_insert_default();
                let room = poller.wait(None, |context| stream.poll_capacity(context));
                Ok(room.map_err(LinkError::Cut)?.transpose()?)
            }
            room => Ok(Some(room)),
        }
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

/// The half of a request by which its answer comes.
pub struct ReceiveHalf {
    response: Option<ResponseFuture>,
    stream: Option<RecvStream>,
    poller: Poller,
    /// How much came last. The window is opened by that once it is used up.
    came: usize,
    /// Keeps the connection, and knows whether the request had its turn.
    _send: SendRequest<Bytes>,
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
            _send: send,
            _counted: counted,
        }
    }

    /// Waits for the head of the answer.
    ///
    /// # Errors
    /// If there is none, or the wait was cut short, which may be gone on with.
    ///
    /// # Panics
    /// If the head has come before.
    pub fn head(&mut self) -> Result<Response<()>, LinkError> {
        let mut response = self.response.take().expect("the head comes once");
        let answered = self
            .poller
            .wait(None, |context| Pin::new(&mut response).poll(context));
        match answered {
            Err(cut) => {
                self.response = Some(response);
                Err(LinkError::Cut(cut))
            }
            Ok(answered) => {
                let (head, body) = answered?.into_parts();
                self.stream = Some(body);
                Ok(Response::from_parts(head, ()))
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

impl fmt::Debug for ReceiveHalf {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ReceiveHalf").finish_non_exhaustive()
    }
}

/// A request that is under way.
#[derive(Debug)]
pub(super) struct Counted(Arc<AtomicUsize>);

impl Counted {
    pub(super) fn new(requests: &Arc<AtomicUsize>) -> Self {
        requests.fetch_add(1, Ordering::Relaxed);
        Self(requests.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}
