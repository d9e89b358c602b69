//! The half of a request by which its body goes, as who makes the body and who hears the answer share it.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::Waker,
};

use bytes::Bytes;
use http::HeaderMap;
use maniple::future::Poller;

use crate::http2::{LinkError, Reason, SendHalf};

/// The half, shared: who hears the answer ends it, whatever who makes the body does meanwhile.
#[derive(Clone, Debug)]
pub(crate) struct Half {
    half: Arc<Mutex<SendHalf>>,
    /// Of who hears the answer. `h2` wakes nobody for what its own side has ended.
    hears: Waker,
}

impl Half {
    pub(super) fn new(half: SendHalf, hears: Waker) -> Self {
        Self {
            half: Arc::new(Mutex::new(half)),
            hears,
        }
    }

    /// Never held over a wait.
    fn locked(&self) -> MutexGuard<'_, SendHalf> {
        self.half.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Gives the request up, if it has not ended.
    pub(crate) fn give_up(&self) {
        self.locked().reset(Reason::CANCEL);
        self.hears.wake_by_ref();
    }
}

/// A way for a body over a link.
#[derive(Debug)]
pub(crate) struct Way {
    half: Half,
    poller: Poller,
}

impl Way {
    pub(super) fn new(half: Half) -> Self {
        Self {
            half,
            poller: Poller::new(),
        }
    }

    /// Sends some of it, once there is room; how much.
    pub(crate) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let room = self.poller.wait(None, |context| {
            self.half.locked().poll_room(context, bytes.len())
        })?;
        let room = match room {
            Ok(Some(room)) => room.min(bytes.len()),
            Ok(None) => return Err(io::ErrorKind::BrokenPipe.into()),
            Err(error) => return Err(broken(error)),
        };
        let part = Bytes::copy_from_slice(&bytes[..room]);
        self.half.locked().put(part, false).map_err(broken)?;
        Ok(room)
    }

    /// Ends it, with these fields behind it if there are any.
    pub(crate) fn finish(&self, trailers: HeaderMap) -> io::Result<()> {
        let mut half = self.half.locked();
        let ended = match trailers.is_empty() {
            true => half.put(Bytes::new(), true),
            false => half.put_trailers(trailers),
        };
        ended.map_err(broken)
    }

    pub(crate) fn give_up(&self) {
        self.half.give_up();
    }
}

/// The server wants no more. What for is for who hears the answer.
fn broken(error: LinkError) -> io::Error {
    io::Error::new(io::ErrorKind::BrokenPipe, error)
}
