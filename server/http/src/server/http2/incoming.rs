//! A request's body as it comes, and the way to say something before the answer.

use std::{
    io,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::Duration,
};

use bytes::{Buf, Bytes};
use h2::{RecvStream, server::SendResponse};
use http::{HeaderMap, StatusCode};
use maniple::{future::Poller, time::coarse_now};

use super::head;
use crate::{
    body::{Apart, BodyError},
    http1::chunk::is_framing,
};

/// The way back, until the answer takes it.
pub(super) type Respond = Arc<Mutex<SendResponse<Bytes>>>;

/// Never held over a wait.
pub(super) fn lock(respond: &Respond) -> MutexGuard<'_, SendResponse<Bytes>> {
    respond.lock().unwrap_or_else(PoisonError::into_inner)
}

pub(super) struct Incoming {
    /// None where a tunnel has it.
    stream: Option<RecvStream>,
    respond: Respond,
    /// What has come and was not read.
    piece: Bytes,
    /// How long that was when it came. The window is opened by that once it is used up.
    came: usize,
    trailers: HeaderMap,
    poller: Option<Poller>,
}

impl Incoming {
    pub(super) fn new(stream: Option<RecvStream>, respond: Respond) -> Self {
        Self {
            stream,
            respond,
            piece: Bytes::new(),
            came: 0,
            trailers: HeaderMap::new(),
            poller: None,
        }
    }

    /// Waits for what `poll` gives of the stream.
    fn wait<T>(
        &mut self,
        patience: Duration,
        poll: impl Fn(&mut RecvStream, &mut Context<'_>) -> Poll<T>,
    ) -> io::Result<T> {
        let Some(stream) = &mut self.stream else {
            return Err(io::ErrorKind::UnexpectedEof.into());
        };
        // Most often it is there.
        if let Poll::Ready(came) = poll(stream, &mut Context::from_waker(Waker::noop())) {
            maniple::cancel::check()?;
            return Ok(came);
        }
        let until = coarse_now().checked_add(patience);
        let poller = self.poller.get_or_insert_default();
        poller.wait(until, |context| poll(stream, context))
    }

    fn next_piece(&mut self, patience: Duration) -> Result<bool, BodyError> {
        let used = std::mem::take(&mut self.came);
        // A stream that is gone has no window.
        if let Some(stream) = self.stream.as_mut().filter(|_| used > 0) {
            let _ = stream.flow_control().release_capacity(used);
        }
        let came = self.wait(patience, RecvStream::poll_data);
        match came.map_err(BodyError::from_read)? {
            Some(Ok(piece)) => {
                self.came = piece.len();
                self.piece = piece;
                Ok(true)
            }
            Some(Err(error)) => Err(broken(error)),
            None => {
                let trailers = self.wait(patience, RecvStream::poll_trailers);
                let trailers = trailers.map_err(BodyError::from_read)?.map_err(broken)?;
                self.trailers = trailers.unwrap_or_default();
                Ok(false)
            }
        }
    }
}

impl Apart for Incoming {
    fn read(&mut self, buffer: &mut [u8], patience: Duration) -> Result<usize, BodyError> {
        while self.piece.is_empty() {
            if !self.next_piece(patience)? {
                return Ok(0);
            }
        }
        let count = self.piece.len().min(buffer.len());
        self.piece.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }

    fn inform(&self, status: StatusCode, headers: &HeaderMap) -> io::Result<()> {
        let interim = head::of_interim(status, headers);
        let sent = lock(&self.respond).send_informational(interim);
        sent.map_err(io_error)
    }

    fn trailers(&self) -> HeaderMap {
        let mut trailers = HeaderMap::new();
        for (name, value) in &self.trailers {
            if !is_framing(name) {
                trailers.append(name.clone(), value.clone());
            }
        }
        trailers
    }
}

fn broken(error: h2::Error) -> BodyError {
    match error.is_remote() || error.is_io() {
        true => BodyError::Disconnected,
        false => BodyError::Malformed {
            reason: "the stream is broken",
        },
    }
}

/// What callers are told of a stream that is gone.
pub(super) fn io_error(error: h2::Error) -> io::Error {
    let kind = match error.is_io() {
        true => error
            .get_io()
            .map_or(io::ErrorKind::BrokenPipe, io::Error::kind),
        false if error.is_reset() || error.is_go_away() => io::ErrorKind::ConnectionReset,
        false => io::ErrorKind::BrokenPipe,
    };
    io::Error::new(kind, error)
}
