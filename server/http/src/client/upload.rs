//! A request's body on its way, where it is made while it is sent.
//!
//! ```text
//!   caller:  sends the head ──► has the body sent ──► awaits the answer's head ──► reads its body
//!                                     │                        ▲ broken: the caller learns why
//!   sender:                           └─ makes a part ─► writes it ─► … ─► whole
//! ```
//!
//! Who writes and who reads share the connection, and [`Progress`]. An upload that is [`Going`](State::Going) at the end
//! of the answer has its connection closed: the server need not read the rest.

use std::{
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU8, Ordering},
    },
    time::{Duration, Instant},
};

use http::{HeaderMap, HeaderName, HeaderValue};
use maniple::{
    JoinHandle, cancel::CancelToken, net::Shutdown, panics, sync::Mutex, task, time::now,
};

use super::http2::Way;
use crate::{
    http1::{
        chunk,
        response::{END_OF_TRAILERS, LAST_SIZE, append_any_trailer, append_trailer, write_chunk},
    },
    response::BodyKind,
    transport::Transport,
    writer::{BodyWriter, Flush, Sink},
};

/// Read at a time of a body that a reader gives, and collected at most of one that a function writes.
const PART: usize = 16 * 1024;

/// How long the last write may take to return when the answer has come.
const SOON: Duration = Duration::from_millis(100);

/// How far an upload has come; who reads the answer and who sends the body share it.
#[derive(Debug)]
pub(crate) struct Progress {
    state: AtomicU8,
    /// Why it is broken, until somebody asks.
    reason: Mutex<Option<io::Error>>,
    /// Cancelled once it goes on no more.
    is_over: CancelToken,
    /// When that was.
    ended: OnceLock<Instant>,
}

/// What makes a body failed: no error of the connection.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(crate) struct Unmade(pub(crate) io::Error);

/// The states of an upload.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(crate) enum State {
    Going,
    /// All has been made, and is about to be written.
    Ending,
    Whole,
    /// The server takes no more; it may have answered before.
    Refused,
    /// As `Refused`, with a reset, which is told but once.
    Reset,
    /// Its maker failed, or the connection: there will be no whole request.
    Broken,
}

impl Progress {
    fn new() -> Arc<Self> {
        Arc::new(Self {
            state: AtomicU8::new(State::Going as u8),
            reason: Mutex::new(None),
            is_over: CancelToken::new(),
            ended: OnceLock::new(),
        })
    }

    /// The state, once the last write has had the time to return: the answer may be faster.
    pub(crate) fn state_behind_the_answer(&self) -> State {
        if self.state() == State::Ending {
            let _ = self.is_over.cancelled().recv_timeout(SOON);
        }
        self.state()
    }

    pub(crate) fn state(&self) -> State {
        // Pairs with the store in `end`: who sees `Broken` finds the reason.
        match self.state.load(Ordering::Acquire) {
            0 => State::Going,
            1 => State::Ending,
            2 => State::Whole,
            3 => State::Refused,
            4 => State::Reset,
            _ => State::Broken,
        }
    }

    pub(crate) fn ended(&self) -> Option<Instant> {
        self.ended.get().copied()
    }

    fn end(&self, state: State) {
        if state != State::Ending {
            let _ = self.ended.set(now());
        }
        self.state.store(state as u8, Ordering::Release);
        if state != State::Ending {
            self.is_over.cancel();
        }
    }

    pub(crate) fn is_going(&self) -> bool {
        matches!(self.state(), State::Going | State::Ending)
    }

    /// Why it is broken, for the first who asks.
    pub(crate) fn reason(&self) -> Option<io::Error> {
        self.reason.lock().take()
    }

    fn break_off(&self, error: io::Error, to: &To) {
        *self.reason.lock() = Some(error);
        self.end(State::Broken);
        // Who waits for the answer wakes up.
        to.break_off();
    }
}

/// What a body is sent over.
#[derive(Debug)]
enum To {
    Http1(Arc<Transport>),
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "nobody makes one"))]
    Http2(Way),
}

impl To {
    fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            To::Http1(stream) => stream.write(bytes),
            To::Http2(way) => way.write(bytes),
        }
    }

    fn flush(&self) -> io::Result<()> {
        match self {
            To::Http1(stream) => stream.flush(),
            To::Http2(_) => Ok(()),
        }
    }

    fn break_off(&self) {
        match self {
            To::Http1(stream) => {
                // An error says that the connection is gone already.
                let _ = stream.shutdown(Shutdown::Both);
            }
            To::Http2(way) => way.give_up(),
        }
    }
}

/// Sends a body in its framing. What has been made and not been written stays here when a wait is cut short, so that
/// the next call goes on behind it.
#[derive(Debug)]
pub(crate) struct Sender {
    to: To,
    progress: Arc<Progress>,
    /// Bytes that it must still have, if its length was told; else it goes in chunks.
    left: Option<u64>,
    /// As it is to go over the wire, and so much of it has been written.
    made: Vec<u8>,
    written: usize,
    /// When what a function writes leaves.
    full: usize,
    /// The names that the head has announced, and the lines.
    announced: HeaderMap,
    trailers: Vec<u8>,
    /// The last chunk has been made.
    has_ended: bool,
}

impl Sender {
    /// For a request whose head has been sent.
    pub(crate) fn new(stream: Arc<Transport>, left: Option<u64>, announced: HeaderMap) -> Self {
        Self::to(To::Http1(stream), left, announced)
    }

    /// The same over HTTP/2, where trailers need not be announced.
    #[cfg(feature = "http2")]
    pub(crate) fn over(way: Way, left: Option<u64>) -> Self {
        Self::to(To::Http2(way), left, HeaderMap::new())
    }

    fn to(to: To, left: Option<u64>, announced: HeaderMap) -> Self {
        Self {
            to,
            progress: Progress::new(),
            left,
            made: Vec::new(),
            written: 0,
            full: 1,
            announced,
            trailers: Vec::new(),
            has_ended: false,
        }
    }

    pub(crate) fn progress(&self) -> Arc<Progress> {
        self.progress.clone()
    }

    /// Adds a part, and has it leave.
    pub(crate) fn send(&mut self, part: &[u8]) -> io::Result<()> {
        self.collect(part)?;
        self.write_out()
    }

    /// All has been made: the next write is the last.
    fn announce_end(&self) {
        if self.progress.state() == State::Going {
            self.progress.end(State::Ending);
        }
    }

    /// Ends the body, with these trailers if it goes in chunks.
    pub(crate) fn finish(&mut self) -> io::Result<()> {
        match self.left {
            Some(0) => {}
            Some(left) => {
                let text = format!("the body ended {left} bytes before its length");
                return self.fail(io::Error::new(io::ErrorKind::UnexpectedEof, text));
            }
            // A call before may have been cut short.
            None if self.has_ended => {}
            None if matches!(self.to, To::Http2(_)) => {}
            None => {
                self.has_ended = true;
                self.made.extend_from_slice(LAST_SIZE);
                self.made.append(&mut self.trailers);
                self.made.extend_from_slice(END_OF_TRAILERS);
            }
        }
        self.announce_end();
        self.write_out()?;
        if let To::Http2(way) = &self.to
            && !std::mem::replace(&mut self.has_ended, true)
        {
            let ended = way.finish(chunk::trailers(&self.trailers));
            ended.or_else(|error| self.settle(error))?;
        }
        if self.progress.is_going() {
            self.progress.end(State::Whole);
        }
        Ok(())
    }

    /// Adds a trailer, if it is one that the head has announced, or need not have.
    pub(crate) fn trailer(&mut self, name: &HeaderName, value: &HeaderValue) -> io::Result<()> {
        let lines = &mut self.trailers;
        let appended = match &self.to {
            To::Http1(_) => append_trailer(lines, Some(&self.announced), name, value),
            To::Http2(_) => append_any_trailer(lines, name, value),
        };
        appended.map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    /// Nothing whole will come of it, since what makes it failed: the server is not to take what came for the body.
    pub(crate) fn break_off(&self, error: io::Error) {
        let error = io::Error::new(error.kind(), Unmade(error));
        self.progress.break_off(error, &self.to);
    }

    fn collect(&mut self, part: &[u8]) -> io::Result<()> {
        if let Some(left) = self.left {
            let Some(after) = left.checked_sub(part.len() as u64) else {
                let text = "the body is longer than was told";
                return self.fail(io::Error::new(io::ErrorKind::InvalidInput, text));
            };
            self.left = Some(after);
            self.made.extend_from_slice(part);
            if after == 0 {
                self.announce_end();
            }
        } else if let To::Http2(_) = self.to {
            self.made.extend_from_slice(part);
        } else {
            write_chunk(&mut self.made, part);
        }
        Ok(())
    }

    fn write_out(&mut self) -> io::Result<()> {
        while self.written < self.made.len() {
            match self.to.write(&self.made[self.written..]) {
                Ok(0) => return self.settle(io::ErrorKind::BrokenPipe.into()),
                Ok(count) => self.written += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return self.settle(error),
            }
        }
        self.made.clear();
        self.written = 0;
        let flushed = self.to.flush();
        flushed.or_else(|error| self.settle(error))?;
        if self.left == Some(0) && self.progress.is_going() {
            self.progress.end(State::Whole);
        }
        Ok(())
    }

    /// What an error of the connection means for the answer. It may be gone on behind a wait that was cut.
    fn settle(&self, error: io::Error) -> io::Result<()> {
        match error.kind() {
            _ if maniple::cancel::is_cancelled_error(&error) => {}
            io::ErrorKind::BrokenPipe => self.progress.end(State::Refused),
            io::ErrorKind::ConnectionReset => self.progress.end(State::Reset),
            kind => {
                let told = io::Error::new(kind, error.to_string());
                self.progress.break_off(error, &self.to);
                return Err(told);
            }
        }
        Err(error)
    }

    fn fail(&self, error: io::Error) -> io::Result<()> {
        let told = io::Error::new(error.kind(), error.to_string());
        self.break_off(error);
        Err(told)
    }

    /// Sends what is made of it to the end.
    fn send_all(mut self, body: BodyKind) {
        let made = catch_unwind(AssertUnwindSafe(|| match body {
            BodyKind::Reader { reader, .. } => self.send_read(reader),
            BodyKind::Writer { write, .. } => {
                write(&mut io::empty(), &mut BodyWriter::new(&mut self))
            }
            _ => Ok(()),
        }));
        let ended = match made {
            Ok(Ok(())) => self.finish(),
            Ok(Err(error)) => Err(error),
            Err(panic) => {
                panics::discard(panic);
                Err(io::Error::other("what makes the body panicked"))
            }
        };
        if let Err(error) = ended
            && self.progress.is_going()
        {
            self.break_off(error);
        }
    }

    fn send_read(&mut self, mut reader: impl Read) -> io::Result<()> {
        let mut buffer = vec![0; PART];
        loop {
            match reader.read(&mut buffer) {
                Ok(0) => return Ok(()),
                Ok(count) => self.send(&buffer[..count])?,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
    }
}

impl Sink for Sender {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        for part in bytes.chunks(PART) {
            self.collect(part)?;
            if self.made.len() >= self.full {
                self.write_out()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.write_out()
    }

    fn set_policy(&mut self, policy: Flush) {
        self.full = match policy {
            Flush::Bytes(bytes) => bytes.clamp(1, PART),
            // Nobody is there who could send it meanwhile.
            Flush::Each | Flush::After(_) => 1,
        };
    }

    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        Sender::trailer(self, &name, &value)
    }
}

/// A coroutine that sends a body; ended when it is dropped.
#[derive(Debug)]
pub(crate) struct Courier {
    handle: JoinHandle<()>,
}

impl Courier {
    /// Has the body sent while its caller goes on.
    pub(crate) fn send(sender: Sender, body: BodyKind) -> io::Result<Self> {
        let builder = task::Builder::new().name("http client upload");
        let handle = builder.spawn(move || sender.send_all(body))?;
        Ok(Self { handle })
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.handle.cancel();
    }
}
