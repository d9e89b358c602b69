//! An answer on its way: what is written waits for room, and leaves by itself.

use std::{
    io::{self, Read},
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    task::{Context, Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use h2::{Reason, SendStream};
use http::{HeaderMap, HeaderName, HeaderValue};
use maniple::{cancel::is_cancelled_error, future::Poller, panics, time::coarse_now};

use super::{
    super::faults::report_broken_body,
    incoming::{Respond, io_error, lock},
};
use crate::{
    http1::response::append_any_trailer,
    response::{BodyKind, Write},
    source::Source,
    writer::{BodyWriter, Flush, Sink},
};

/// The body of an answer as it is sent.
pub(super) struct Outgoing {
    way: Way,
    /// Where to leave what is written in parts.
    desks: Option<Arc<Desks>>,
    poller: Option<Poller>,
    stall: Duration,
    slowest: u64,
    /// When the first wait began, and how much was sent since.
    began: Option<Instant>,
    sent: u64,
}

enum Way {
    Open(SendStream<Bytes>),
    /// What is written may wait for the connection's turn, which sends it.
    Shared(Arc<Desk>),
    /// The head has not left.
    Kept {
        respond: Respond,
        head: http::Response<()>,
    },
    /// While it becomes another.
    Gone,
}

/// What is left of one answer until the connection has its turn.
pub(super) struct Desk(Mutex<Left>);

struct Left {
    stream: SendStream<Bytes>,
    bytes: Vec<u8>,
    /// How much the client has room for.
    room: usize,
    /// How much was left the last time.
    usual: usize,
}

/// Whether bytes were left.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Leaving {
    /// Before all others, so that the connection is to hear of it.
    First,
    Further,
    /// There was no room.
    Full,
}

impl Desk {
    fn new(stream: SendStream<Bytes>) -> Self {
        Self(Mutex::new(Left {
            stream,
            bytes: Vec::new(),
            room: 0,
            usual: 0,
        }))
    }

    /// Never held over a wait.
    fn left(&self) -> MutexGuard<'_, Left> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn leave(&self, more: &[u8]) -> Leaving {
        let Left {
            stream,
            bytes,
            room,
            usual,
        } = &mut *self.left();
        let is_first = bytes.is_empty();
        if is_first {
            stream.reserve_capacity(FULL);
            *room = stream.capacity().min(FULL);
        }
        if more.len() > *room - bytes.len() {
            return Leaving::Full;
        }
        if is_first {
            bytes.reserve_exact((*usual).max(more.len()));
        }
        bytes.extend_from_slice(more);
        match is_first {
            true => Leaving::First,
            false => Leaving::Further,
        }
    }

    /// Sends what is there. Who left it hears of an error when there is more.
    fn send(&self) {
        let mut left = self.left();
        let bytes = std::mem::take(&mut left.bytes);
        if !bytes.is_empty() {
            left.usual = bytes.len();
            let _ = left.stream.send_data(bytes.into(), false);
        }
    }
}

/// Those of a connection.
pub(super) struct Desks {
    late: Mutex<Vec<Arc<Desk>>>,
    /// That of the connection's coroutine.
    waker: Waker,
}

impl Desks {
    pub(super) fn new(waker: Waker) -> Self {
        Self {
            late: Mutex::default(),
            waker,
        }
    }

    /// Never held over a wait.
    fn late(&self) -> MutexGuard<'_, Vec<Arc<Desk>>> {
        self.late.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Sends all that was left.
    pub(super) fn send(&self) {
        let late = std::mem::take(&mut *self.late());
        for desk in late {
            desk.send();
        }
    }
}

/// What became of a body.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Made {
    Whole,
    /// It broke off, and is to look like that.
    Cut,
}

impl Outgoing {
    pub(super) fn new(stream: SendStream<Bytes>, stall: Duration, slowest: u64) -> Self {
        Self::by(Way::Open(stream), stall, slowest)
    }

    /// One whose head leaves with the first of the body.
    pub(super) fn late(
        respond: Respond,
        head: http::Response<()>,
        stall: Duration,
        slowest: u64,
    ) -> Self {
        Self::by(Way::Kept { respond, head }, stall, slowest)
    }

    /// The same, of which the connection sends what is left with it.
    pub(super) fn with_desks(mut self, desks: Arc<Desks>) -> Self {
        self.desks = Some(desks);
        self
    }

    fn by(way: Way, stall: Duration, slowest: u64) -> Self {
        Self {
            way,
            desks: None,
            poller: None,
            stall,
            slowest,
            began: None,
            sent: 0,
        }
    }

    /// What is done with the stream, behind its head.
    fn with<R>(&mut self, f: impl FnOnce(&mut SendStream<Bytes>) -> R) -> io::Result<R> {
        if let Way::Kept { respond, head } = &mut self.way {
            let sent = lock(respond).send_response(std::mem::take(head), false);
            self.way = Way::Open(sent.map_err(io_error)?);
        }
        match &mut self.way {
            Way::Open(stream) => Ok(f(stream)),
            Way::Shared(desk) => Ok(f(&mut desk.left().stream)),
            Way::Kept { .. } | Way::Gone => Err(io::ErrorKind::BrokenPipe.into()),
        }
    }

    /// Leaves bytes to the connection, which sends them when it has its turn, with those that are left until then. False if there
    /// is no room for that.
    fn leave(&mut self, bytes: &[u8]) -> io::Result<bool> {
        self.with(|_| ())?;
        let Some(desks) = &self.desks else {
            return Ok(false);
        };
        self.way = match std::mem::replace(&mut self.way, Way::Gone) {
            Way::Open(stream) => Way::Shared(Arc::new(Desk::new(stream))),
            way => way,
        };
        let Way::Shared(desk) = &self.way else {
            return Ok(false);
        };
        let is_left = desk.leave(bytes);
        if is_left == Leaving::First {
            desks.late().push(desk.clone());
            desks.waker.wake_by_ref();
        }
        self.sent = self.sent.saturating_add(bytes.len() as u64);
        Ok(is_left != Leaving::Full)
    }

    /// Sends all of it as the client has room for it; `last` says that nothing follows.
    pub(super) fn send(&mut self, mut bytes: Bytes, last: bool) -> io::Result<()> {
        if let Way::Shared(desk) = &self.way {
            desk.send();
        }
        if bytes.is_empty() {
            return match (&mut self.way, last) {
                (_, false) => Ok(()),
                (Way::Kept { respond, head }, true) => {
                    let sent = lock(respond).send_response(std::mem::take(head), true);
                    sent.map(drop).map_err(io_error)
                }
                (_, true) => self
                    .with(|stream| stream.send_data(bytes, true))?
                    .map_err(io_error),
            };
        }
        while !bytes.is_empty() {
            let room = self.room_for(bytes.len())?;
            let part = bytes.split_to(room.min(bytes.len()));
            self.sent = self.sent.saturating_add(part.len() as u64);
            let is_last = last && bytes.is_empty();
            self.with(|stream| stream.send_data(part, is_last))?
                .map_err(io_error)?;
        }
        Ok(())
    }

    /// Waits until there is room for some of so many bytes; for how many there is.
    fn room_for(&mut self, wanted: usize) -> io::Result<usize> {
        let polled = self.with(|stream| {
            stream.reserve_capacity(wanted.min(MOST_AT_ONCE));
            match stream.capacity() {
                0 => Err(stream.poll_capacity(&mut Context::from_waker(Waker::noop()))),
                room => Ok(room),
            }
        })?;
        let polled = match polled {
            Ok(room) => return Ok(room),
            Err(polled) => polled,
        };
        if let Poll::Ready(Some(room)) = polled {
            let room = room.map_err(io_error)?;
            maniple::cancel::check()?;
            return Ok(room);
        }
        let now = coarse_now();
        let began = *self.began.get_or_insert(now);
        // As fast as a client must take an answer in the long run, beyond one stall.
        let mut until = now + self.stall;
        if let Some(seconds) = self.sent.checked_div(self.slowest) {
            let most = self.stall.saturating_add(Duration::from_secs(seconds));
            until = began
                .checked_add(most)
                .map_or(until, |most| until.min(most));
        }
        let poller = self.poller.get_or_insert_default();
        let way = &mut self.way;
        let room = poller.wait(Some(until), |context| match way {
            Way::Open(stream) => stream.poll_capacity(context),
            Way::Shared(desk) => desk.left().stream.poll_capacity(context),
            Way::Kept { .. } | Way::Gone => Poll::Ready(None),
        })?;
        match room {
            Some(room) => room.map_err(io_error),
            None => Err(io::ErrorKind::ConnectionReset.into()),
        }
    }

    /// Ends a body, with these fields behind it.
    pub(super) fn finish(&mut self, rest: Bytes, trailers: Option<HeaderMap>) -> io::Result<()> {
        let trailers = trailers.filter(|trailers| !trailers.is_empty());
        let is_last = trailers.is_none();
        match rest.len() {
            // As little as that waits for room without its coroutine.
            1..=SMALL => {
                if let Way::Shared(desk) = &self.way {
                    desk.send();
                }
                self.with(|stream| stream.send_data(rest, is_last))?
                    .map_err(io_error)?;
            }
            _ => self.send(rest, is_last)?,
        }
        match trailers {
            None => Ok(()),
            Some(trailers) => self
                .with(|stream| stream.send_trailers(trailers))?
                .map_err(io_error),
        }
    }

    /// Has the answer look like one that was cut.
    pub(super) fn reset(&mut self, reason: Reason) {
        match &mut self.way {
            Way::Open(stream) => stream.send_reset(reason),
            Way::Shared(desk) => desk.left().stream.send_reset(reason),
            Way::Kept { respond, .. } => lock(respond).send_reset(reason),
            Way::Gone => {}
        }
    }

    /// Sends a body as it is made, of the request's if it wants.
    pub(super) fn send_made(
        &mut self,
        body: BodyKind,
        asked: &mut (dyn Read + Send),
    ) -> io::Result<Made> {
        match body {
            BodyKind::Reader { reader, length } => self.send_read(reader, length),
            BodyKind::Writer { write, length } => self.send_written(write, length, asked),
            BodyKind::Static(_)
            | BodyKind::Owned(_)
            | BodyKind::Shared(_)
            | BodyKind::Problem(_)
            | BodyKind::Takeover(_) => Ok(Made::Whole),
        }
    }

    fn send_read(&mut self, mut reader: Box<dyn Source>, length: Option<u64>) -> io::Result<Made> {
        let mut sent = 0_u64;
        let made = loop {
            let mut buffer = vec![0; reader.at_once()];
            let read = catch_unwind(AssertUnwindSafe(|| reader.read(&mut buffer)));
            match read {
                Ok(Ok(0)) if length.is_none_or(|length| length == sent) => {
                    break self.finish(Bytes::new(), None).map(|()| Made::Whole);
                }
                Ok(Ok(0)) => break Ok(Made::Cut),
                Ok(Ok(count)) => {
                    buffer.truncate(count);
                    sent = sent.saturating_add(count as u64);
                    if let Err(error) = self.send(buffer.into(), false) {
                        break Err(error);
                    }
                }
                Ok(Err(error)) if error.kind() == io::ErrorKind::Interrupted => {}
                Ok(Err(error)) => {
                    report_broken_body(error);
                    break Ok(Made::Cut);
                }
                Err(panic) => {
                    panics::discard(panic);
                    break Ok(Made::Cut);
                }
            }
        };
        // Its destructor is users' code.
        panics::catch(AssertUnwindSafe(move || drop(reader)));
        made
    }

    fn send_written(
        &mut self,
        write: Write,
        length: Option<u64>,
        asked: &mut (dyn Read + Send),
    ) -> io::Result<Made> {
        let mut written = Written {
            out: self,
            left: length,
            policy: Flush::default(),
            kept: Vec::new(),
            trailers: HeaderMap::new(),
            trailer_lines: Vec::new(),
            failed: None,
        };
        let called = catch_unwind(AssertUnwindSafe(|| {
            write(asked, &mut BodyWriter::new(&mut written))
        }));
        let Written {
            left,
            kept,
            trailers,
            failed,
            ..
        } = written;
        if let Some(error) = failed {
            if let Err(panic) = called {
                panics::discard(panic);
            }
            return Err(error);
        }
        match called {
            Ok(Ok(())) if left.is_none_or(|left| left == 0) => self
                .finish(kept.into(), Some(trailers))
                .map(|()| Made::Whole),
            Ok(Ok(())) => Ok(Made::Cut),
            Ok(Err(error)) => {
                report_broken_body(error);
                Ok(Made::Cut)
            }
            Err(panic) => {
                panics::discard(panic);
                Ok(Made::Cut)
            }
        }
    }
}

/// Bytes that an answer may end with, whether there is room for them or not.
const SMALL: usize = 1024;

/// Room that is asked for at a time.
const MOST_AT_ONCE: usize = 64 * 1024;

/// What is written leaves at the latest when so much of it is there.
const FULL: usize = 16 * 1024;

/// A body while a function writes it.
struct Written<'a> {
    out: &'a mut Outgoing,
    /// Bytes that it must still have, if its length was told.
    left: Option<u64>,
    policy: Flush,
    kept: Vec<u8>,
    trailers: HeaderMap,
    /// As they would stand in HTTP/1.1, by which they are bounded.
    trailer_lines: Vec<u8>,
    /// Why nothing more can be sent.
    failed: Option<io::Error>,
}

impl Written<'_> {
    fn leave(&mut self, bytes: &[u8]) -> io::Result<bool> {
        let left = self.out.leave(bytes);
        left.map_err(|error| self.note(error))
    }

    fn send_kept(&mut self) -> io::Result<()> {
        let kept = std::mem::take(&mut self.kept);
        let sent = self.out.send(kept.into(), false);
        sent.map_err(|error| self.note(error))
    }

    /// Keeps an error for what comes later, and gives it as its writer is told of it.
    fn note(&mut self, error: io::Error) -> io::Error {
        let told = io::Error::new(error.kind(), error.to_string());
        // A wait that was cut short must look like one.
        let (kept, told) = match is_cancelled_error(&error) {
            true => (told, error),
            false => (error, told),
        };
        self.failed = Some(kept);
        told
    }

    fn check(&self) -> io::Result<()> {
        match &self.failed {
            Some(error) => Err(io::Error::new(error.kind(), error.to_string())),
            None => Ok(()),
        }
    }
}

impl Sink for Written<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.check()?;
        if let Some(left) = self.left {
            let after = left.checked_sub(bytes.len() as u64);
            self.left = Some(after.ok_or_else(|| {
                let text = "the body is longer than was told";
                io::Error::new(io::ErrorKind::InvalidInput, text)
            })?);
        }
        let full = match self.policy {
            // The connection's coroutine has its turn once this one waits.
            Flush::Each | Flush::After(_) => {
                if self.kept.is_empty() && bytes.len() < FULL && self.leave(bytes)? {
                    return Ok(());
                }
                1
            }
            Flush::Bytes(bytes) => bytes.clamp(1, FULL),
        };
        for part in bytes.chunks(FULL) {
            self.kept.extend_from_slice(part);
            if self.kept.len() >= full {
                self.send_kept()?;
            }
        }
        Ok(())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.check()?;
        self.send_kept()?;
        // A head that was kept back, of an answer of which there is nothing yet.
        self.out.with(|_| ())
    }

    fn set_policy(&mut self, policy: Flush) {
        self.policy = policy;
    }

    fn trailer(&mut self, name: HeaderName, value: HeaderValue) -> io::Result<()> {
        let lines = &mut self.trailer_lines;
        let appended = append_any_trailer(lines, &name, &value);
        appended.map_err(|text| io::Error::new(io::ErrorKind::InvalidInput, text))?;
        self.trailers.append(name, value);
        Ok(())
    }

    fn headers_mut(&mut self) -> Option<&mut HeaderMap> {
        match &mut self.out.way {
            Way::Kept { head, .. } => Some(head.headers_mut()),
            Way::Open(_) | Way::Shared(_) | Way::Gone => None,
        }
    }
}
