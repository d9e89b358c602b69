//! A connection as both ends have it: who has something to send writes for all, and a keeper asks whether the peer lives.
//!
//! Frames are appended to a batch under a lock. Who comes by while nobody writes takes the batch and writes it, without
//! waiting; what others append meanwhile is the next batch, which the same one writes. Where the kernel has no more room,
//! the batch is the keeper's, who may wait. So nobody who makes or answers a call waits for a socket, and a cancelled
//! one leaves no half of a frame behind.

use std::{
    fmt,
    io::{self, IoSlice},
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
    task::{Poll, Waker},
    time::{Duration, Instant},
};

use bytes::Bytes;
use maniple::{
    future::Poller,
    log_limit::LogLimit,
    net::Shutdown,
    sync::{Mutex, MutexGuard, Notify},
};

use crate::{
    address::Address,
    frame::{
        Batch, CallId, Fault, Frame, Goaway, HEAD, Hello, Inlet, Kind, Manner, Reason, TooLarge,
        pong,
    },
    rare::rarely,
    record::{Tape, beside},
    recording::Way,
    settings::Settings,
    transport::Stream,
    waiters::Waiters,
};

/// Which end of a connection this is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Side {
    Client,
    Server,
}

pub(crate) struct Link {
    stream: Stream,
    pub(crate) local: Address,
    pub(crate) peer: Address,
    /// What the peer said first.
    pub(crate) hello: Hello,
    pub(crate) settings: Settings,
    manner: Manner,
    /// Where its frames are recorded, and which way ours go.
    tape: Option<(Tape, Side)>,
    out: Mutex<Out>,
    /// Reads that found something.
    heard: AtomicU64,
    /// Something for the keeper to look at.
    news: Notify,
    is_closed: AtomicBool,
    /// Since when the peer takes nothing, in milliseconds of the connection's age and one; 0 if it does.
    stuck_since: AtomicU64,
    began: Instant,
}

#[derive(Default)]
struct Out {
    /// To be written next.
    batch: Batch,
    /// Memory for the batch after that.
    spare: Batch,
    /// One that the keeper is to go on with.
    stuck: Option<Batch>,
    /// Somebody writes.
    is_writing: bool,
    /// Bytes of the batch that is being written.
    writing: usize,
    /// Who reads has woken several who will have something to send, and writes for all of them then.
    is_held: bool,
    /// Requests that were appended, and those of them that may have left.
    requests: u64,
    left: u64,
    /// Who waits for room.
    room: Waiters,
    /// Bytes of the next batch, and of the one that is being written, that did not wait for room.
    urgent: usize,
    urgent_writing: usize,
    /// Who reads, if it waits until there are fewer.
    reader: Option<Waker>,
}

impl Out {
    fn unsent(&self) -> usize {
        self.batch.len() + self.writing
    }
}

/// What came of a write that does not wait.
enum Written {
    All,
    Full,
}

/// Batches that one writes who has something else to do.
const TURNS: u32 = 8;

/// Pieces that are written at once.
const SLICES: usize = 32;

/// Bytes that are less than the head of a frame.
const SMALL: usize = 5;

impl Link {
    /// Says hello, and hears the peer's.
    pub(crate) fn open(
        stream: Stream,
        settings: Settings,
        side: Side,
    ) -> io::Result<(Self, Inlet)> {
        let [local, peer] = stream.ends()?;
        if local == peer && local.tcp().is_some() {
            return Err(io::Error::other("connected to itself"));
        }
        stream.set_nodelay()?;
        let mut inlet = Inlet::new(settings.max_frame);
        let hello = maniple::timeout(settings.patience, || greet(&stream, &settings, &mut inlet))
            .map_err(|_| io::Error::from(io::ErrorKind::TimedOut))??;
        let manner = Manner {
            max_frame: hello.max_frame,
            checksums: hello.checksums,
        };
        let tape = tape(&settings, &hello, side, [&local, &peer]);
        let link = Self {
            tape,
            stream,
            local,
            peer,
            hello,
            settings,
            manner,
            out: Mutex::new(Out::default()),
            heard: AtomicU64::new(0),
            news: Notify::new(),
            is_closed: AtomicBool::new(false),
            stuck_since: AtomicU64::new(0),
            began: maniple::time::now(),
        };
        Ok((link, inlet))
    }

    /// Appends a frame and has it written, whether or not there is room for it.
    pub(crate) fn send(
        &self,
        head: (Kind, u8, CallId),
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let mut out = self.out.lock();
        if self.is_closed() {
            return Ok(());
        }
        let before = out.batch.len();
        self.append(&mut out, head, attachment, body)?;
        out.urgent += out.batch.len() - before;
        self.flush(out);
        Ok(())
    }

    /// Does so once there is room for it, or the connection has gone. `number`, of a request, is told before it can leave
    /// which it is on this connection.
    ///
    /// # Errors
    /// If the wait was cut short: nothing is sent then.
    pub(crate) fn send_in_turn(
        &self,
        head: (Kind, u8, CallId),
        number: Option<&AtomicU64>,
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> io::Result<Result<(), TooLarge>> {
        let out = self.out.lock();
        if self.has_room(&out) && !rarely!("what goes waits its turn though there is room") {
            return Ok(self.push(out, head, number, attachment, body));
        }
        drop(out);
        self.wait_and_send(head, number, attachment, body)
    }

    #[cold]
    fn wait_and_send(
        &self,
        head: (Kind, u8, CallId),
        number: Option<&AtomicU64>,
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> io::Result<Result<(), TooLarge>> {
        let (mut body, mut sent) = (Some(body), Ok(()));
        let mut own = None;
        let waited = Poller::new().wait(None, |context| {
            let mut out = self.out.lock();
            if !self.has_room(&out) {
                out.room.join(&mut own, context.waker());
                return Poll::Pending;
            }
            if let Some(body) = body.take() {
                sent = self.push(out, head, number, attachment, body);
            }
            Poll::Ready(())
        });
        let mut out = self.out.lock();
        out.room.leave(own.as_ref());
        // There may be room for the next too; and who was cut short may have been woken in its place.
        drop(self.wake_for_room(out));
        waited.map(|()| sent)
    }

    fn push<'a>(
        &'a self,
        mut out: MutexGuard<'a, Out>,
        head: (Kind, u8, CallId),
        number: Option<&AtomicU64>,
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        if self.is_closed() {
            // It is nobody's any more.
            return Ok(());
        }
        self.append(&mut out, head, attachment, body)?;
        if let Some(number) = number {
            out.requests += 1;
            number.store(out.requests, Ordering::Release);
        }
        self.flush(out);
        Ok(())
    }

    fn append(
        &self,
        out: &mut Out,
        head: (Kind, u8, CallId),
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<(), TooLarge> {
        let (start, parts) = (out.batch.bytes.len(), out.batch.parts.len());
        out.batch.push(self.manner, head, attachment, body)?;
        if let Some((tape, side)) = &self.tape {
            let is_beside = out.batch.parts.len() > parts;
            let sum = if self.manner.checksums { 4 } else { 0 };
            let bytes = &out.batch.bytes[start + HEAD..];
            let bytes = &bytes[..bytes.len() - sum];
            tape.pieces(side.way(), head, [bytes, beside(attachment, is_beside)]);
        }
        Ok(())
    }

    fn has_room(&self, out: &Out) -> bool {
        out.unsent() <= self.settings.max_unsent || self.is_closed()
    }

    /// Sends a frame whose body is short.
    pub(crate) fn send_short(&self, kind: Kind, call: CallId, body: &[u8]) {
        // It fits: every peer takes so much.
        let _ = self.send((kind, 0, call), &Bytes::new(), |out| {
            out.extend_from_slice(body);
            Ok(())
        });
    }

    pub(crate) fn send_goaway(&self, taken: u64, reason: Reason, text: &str) {
        let mut body = Vec::new();
        Goaway::write(&mut body, taken, reason, text);
        self.send_short(Kind::Goaway, CallId::default(), &body);
    }

    /// Answers a ping. A peer that asks and does not read waits for itself.
    pub(crate) fn send_pong(&self, call: CallId, body: &Bytes) -> Result<(), Fault> {
        let body = pong(body)?;
        let _ = self.send_in_turn((Kind::Pong, 0, call), None, &Bytes::new(), |out| {
            out.extend_from_slice(&body);
            Ok(())
        });
        Ok(())
    }

    /// From now on what is sent waits for [`Link::release`].
    pub(crate) fn hold(&self) -> Held<'_> {
        self.out.lock().is_held = true;
        Held(self)
    }

    /// Requests that may have left.
    pub(crate) fn requests_left(&self) -> u64 {
        self.out.lock().left
    }

    pub(crate) fn unsent(&self) -> usize {
        self.out.lock().unsent()
    }

    /// What the kernel has in its queues: bytes that came and were not read, and bytes that the peer has not acknowledged.
    pub(crate) fn queues(&self) -> (u64, usize) {
        self.stream.queues()
    }

    /// For how long the peer has taken nothing.
    pub(crate) fn stalled(&self) -> Option<Duration> {
        let since = self.stuck_since.load(Ordering::Relaxed).checked_sub(1)?;
        let age = maniple::time::now().saturating_duration_since(self.began);
        Some(age.saturating_sub(Duration::from_millis(since)))
    }

    pub(crate) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Ends the connection: who reads sees its end.
    pub(crate) fn close(&self) {
        if self.is_closed.swap(true, Ordering::AcqRel) {
            return;
        }
        // It may be gone already.
        let _ = self.stream.shutdown(Shutdown::Both);
        let mut out = self.out.lock();
        let waiting = out.room.take();
        let reader = out.reader.take();
        drop(out);
        waiting.into_iter().chain(reader).for_each(Waker::wake);
        self.news.notify_one();
    }

    /// Says that nothing more is sent.
    pub(crate) fn shut(&self) {
        // Over TLS that may have to wait.
        let _ = self.stream.set_write_timeout(self.settings.heartbeat);
        let _ = self.stream.shutdown(Shutdown::Write);
    }

    /// Has the keeper look around.
    pub(crate) fn tell_keeper(&self) {
        self.news.notify_one();
    }

    /// Whether all that was appended is written.
    pub(crate) fn is_flushed(&self) -> bool {
        let out = self.out.lock();
        !out.is_writing && out.batch.is_empty()
    }

    /// Writes what there is, unless somebody does already.
    fn flush<'a>(&'a self, mut out: MutexGuard<'a, Out>) {
        // What is more than there is room for is not held back: others wait for that room.
        let is_held = out.is_held && self.has_room(&out);
        if out.is_writing || is_held || out.batch.is_empty() || self.is_closed() {
            return;
        }
        out.is_writing = true;
        let mut turns = 0;
        loop {
            let spare = std::mem::take(&mut out.spare);
            let mut batch = std::mem::replace(&mut out.batch, spare);
            out.left = out.requests;
            out.urgent_writing = std::mem::take(&mut out.urgent);
            if turns == TURNS {
                // The rest is for who has nothing else to do.
                out.writing = batch.len();
                out.stuck = Some(batch);
                drop(out);
                return self.news.notify_one();
            }
            turns += 1;
            out.writing = batch.len();
            drop(out);
            let written = self.write_now(&mut batch);
            out = self.out.lock();
            out.writing = batch.len();
            match written {
                Ok(Written::All) => {
                    batch.clear();
                    (out.spare, out.urgent_writing) = (batch, 0);
                    out = self.wake_for_room(out);
                    if out.batch.is_empty() {
                        out.is_writing = false;
                        return;
                    }
                }
                Ok(Written::Full) => {
                    out.stuck = Some(batch);
                    drop(out);
                    return self.news.notify_one();
                }
                Err(_) => {
                    out.is_writing = false;
                    drop(out);
                    return self.close();
                }
            }
        }
    }

    /// Wakes the first who waits for room, who wakes the next.
    fn wake_for_room<'a>(&'a self, mut out: MutexGuard<'a, Out>) -> MutexGuard<'a, Out> {
        if is_calm(&out)
            && let Some(reader) = out.reader.take()
        {
            reader.wake();
        }
        if self.has_room(&out)
            && let Some(first) = out.room.pop()
        {
            drop(out);
            first.wake();
            return self.out.lock();
        }
        out
    }

    fn write_now(&self, batch: &mut Batch) -> io::Result<Written> {
        if rarely!("what goes is written by the keeper") {
            return Ok(Written::Full);
        }
        while !batch.is_empty() {
            let written = if rarely!("what goes is written in small pieces") {
                with_slices(batch, |slices| {
                    let first = &slices[0];
                    self.stream.try_write(&first[..first.len().min(SMALL)])
                })
            } else if batch.parts.is_empty() {
                self.stream.try_write(&batch.bytes[batch.written..])
            } else {
                with_slices(batch, |slices| self.stream.try_write_vectored(slices))
            };
            match written {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => batch.written += count,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return Ok(Written::Full);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        // What is encrypted and has no room is the keeper's, too.
        Ok(match self.stream.is_behind() {
            false => Written::All,
            true => Written::Full,
        })
    }

    /// Keeps the connection until it is closed: writes what others could not, and asks a silent peer whether it lives.
    /// `look` is called whenever something may have changed, and at least once for each heartbeat.
    pub(crate) fn keep(&self, mut look: impl FnMut()) {
        // Whatever ends this ends the connection.
        let _closing = Closing(self);
        let beat = self.settings.heartbeat;
        let mut pulse = Pulse::new(self, beat);
        while !self.is_closed() {
            let left = pulse.next.saturating_duration_since(maniple::time::now());
            self.news.notified_timeout(left);
            if self.is_closed() {
                return;
            }
            let stuck = self.out.lock().stuck.take();
            if let Some(batch) = stuck
                && !self.write_stuck(batch, &mut pulse)
            {
                return self.close();
            }
            look();
            if !pulse.goes_on(self, true) {
                maniple::panics::catch(|| {
                    log::warn!("RPC: {self} is silent: its connection ends");
                });
                return self.close();
            }
        }
    }

    /// Writes a batch however long it takes, as long as the peer lives and takes some of it; whether it does.
    fn write_stuck(&self, mut batch: Batch, pulse: &mut Pulse) -> bool {
        let mut taken = maniple::time::now();
        while !batch.is_empty() || self.stream.is_behind() {
            let left = pulse.next.saturating_duration_since(maniple::time::now());
            // A timeout of nothing is none.
            let least = Duration::from_millis(1);
            let _ = self.stream.set_write_timeout(left.max(least));
            let written = match batch.is_empty() {
                true => self.stream.flush().map(|()| 0),
                false => with_slices(&batch, |slices| self.stream.write_vectored(slices)),
            };
            match written {
                Ok(0) if !batch.is_empty() => return false,
                Ok(count) => {
                    batch.written += count;
                    taken = maniple::time::now();
                    self.stuck_since.store(0, Ordering::Relaxed);
                    let mut out = self.out.lock();
                    out.writing = batch.len();
                    drop(self.wake_for_room(out));
                }
                Err(error) if error.kind() == io::ErrorKind::TimedOut => {
                    let now = maniple::time::now();
                    let silent = now.saturating_duration_since(taken);
                    let since = taken.saturating_duration_since(self.began);
                    let since = u64::try_from(since.as_millis()).unwrap_or(u64::MAX - 1) + 1;
                    if self.stuck_since.swap(since, Ordering::Relaxed) == 0 {
                        self.tell_of_stall();
                    }
                    if silent >= self.settings.stall || !pulse.goes_on(self, false) {
                        return false;
                    }
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(_) => return false,
            }
            if self.is_closed() {
                return false;
            }
        }
        batch.clear();
        let mut out = self.out.lock();
        (out.spare, out.writing, out.is_writing) = (batch, 0, false);
        out.urgent_writing = 0;
        out = self.wake_for_room(out);
        self.flush(out);
        true
    }

    #[cold]
    fn tell_of_stall(&self) {
        static LIMIT: LogLimit = LogLimit::new(5);
        let (unread, unacknowledged) = self.queues();
        if let Some(left_out) = LIMIT.admit() {
            maniple::panics::catch(|| {
                log::warn!(
                    "RPC: {self} takes nothing: Send-Q {unacknowledged}, Recv-Q {unread}, {} more to send{left_out}",
                    self.unsent()
                );
            });
        }
    }

    /// A peer that has answers made and does not read them is not read on from: what did not wait for room has a bound too.
    fn wait_for_calm(&self) -> io::Result<()> {
        if is_calm(&self.out.lock()) {
            return Ok(());
        }
        Poller::new().wait(None, |context| {
            let mut out = self.out.lock();
            if is_calm(&out) || self.is_closed() {
                return Poll::Ready(());
            }
            out.reader = Some(context.waker().clone());
            Poll::Pending
        })
    }

    /// Hands each frame to `handle`, until the connection ends. `handle` tells whether somebody was woken who may have
    /// something to send. `start` is called once the frames that came are handled, and again, when others had their turn,
    /// as long as it says so.
    ///
    /// # Errors
    /// What was wrong with a frame, after which no other is read.
    pub(crate) fn read(
        &self,
        inlet: &mut Inlet,
        mut handle: impl FnMut(Frame) -> Result<bool, Fault>,
        mut start: impl FnMut() -> bool,
    ) -> Result<io::Result<()>, Fault> {
        loop {
            let (mut woken, mut held) = (0, None);
            while let Some(frame) = inlet.next()? {
                if let Some((tape, side)) = &self.tape {
                    tape.frame(side.other().way(), &frame);
                }
                woken += u32::from(handle(frame)?);
                if woken == 2 && held.is_none() {
                    held = Some(self.hold());
                }
            }
            let mut goes_on = start();
            if goes_on || held.is_some() {
                // They have their turn, and then one write does for all.
                maniple::yield_now();
                while goes_on {
                    goes_on = start();
                    if goes_on {
                        maniple::yield_now();
                    }
                }
                drop(held);
            }
            if let Err(error) = self.wait_for_calm() {
                return Ok(Err(error));
            }
            let mut room = inlet.room();
            if rarely!("what came is read byte by byte") {
                room = &mut room[..1];
            }
            match self.stream.read(room) {
                Ok(0) if inlet.is_within() => {
                    return Ok(Err(io::ErrorKind::UnexpectedEof.into()));
                }
                Ok(0) => return Ok(Ok(())),
                Ok(count) => {
                    inlet.fill(count);
                    let heard = self.heard.load(Ordering::Relaxed);
                    self.heard.store(heard.wrapping_add(1), Ordering::Relaxed);
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Ok(Err(error)),
            }
        }
    }
}

fn is_calm(out: &Out) -> bool {
    out.urgent + out.urgent_writing <= MOST_URGENT
}

/// Bytes that need not wait for room.
const MOST_URGENT: usize = 256 * 1024;

impl Side {
    /// The way that its frames go.
    fn way(self) -> Way {
        match self {
            Side::Client => Way::ToServer,
            Side::Server => Way::ToClient,
        }
    }

    fn other(self) -> Self {
        match self {
            Side::Client => Side::Server,
            Side::Server => Side::Client,
        }
    }
}

/// The recording of a connection, whose hellos are over.
fn tape(
    settings: &Settings,
    theirs: &Hello,
    side: Side,
    [here, there]: [&Address; 2],
) -> Option<(Tape, Side)> {
    let recorder = settings.recorder.as_ref()?;
    let (client, server) = match side {
        Side::Client => (here, there),
        Side::Server => (there, here),
    };
    let tape = recorder.connection(client.to_string(), server.to_string());
    for (hello, side) in [(&settings.hello(), side), (theirs, side.other())] {
        let mut body = Vec::new();
        hello.write(&mut body);
        tape.pieces(
            side.way(),
            (Kind::Hello, 0, CallId::default()),
            [&body, &[]],
        );
    }
    Some((tape, side))
}

/// Hellos, both ways.
fn greet(stream: &Stream, settings: &Settings, inlet: &mut Inlet) -> io::Result<Hello> {
    let mut batch = Batch::default();
    let manner = Manner {
        max_frame: crate::frame::LEAST_FRAME,
        checksums: false,
    };
    let head = (Kind::Hello, 0, CallId::default());
    let pushed = batch.push(manner, head, &Bytes::new(), |out| {
        settings.hello().write(out);
        Ok(())
    });
    pushed.map_err(|_| io::Error::other("a hello that is too large"))?;
    let mut rest = &batch.bytes[..];
    while !rest.is_empty() {
        match stream.write_vectored(&[IoSlice::new(rest)])? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            count => rest = &rest[count..],
        }
    }
    stream.flush()?;
    let no_hello = |fault: Fault| io::Error::new(io::ErrorKind::InvalidData, fault.text);
    loop {
        match inlet.next() {
            Ok(Some(frame)) => match Hello::read(&frame) {
                Ok(hello) => return Ok(hello),
                Err(fault) => {
                    refuse(stream, fault);
                    return Err(no_hello(fault));
                }
            },
            Ok(None) => {}
            Err(fault) => {
                refuse(stream, fault);
                return Err(no_hello(fault));
            }
        }
        match stream.read(inlet.room())? {
            0 => return Err(io::ErrorKind::UnexpectedEof.into()),
            count => inlet.fill(count),
        }
    }
}

/// Tells who said no hello why it is not heard, if it can be told at once.
fn refuse(stream: &Stream, fault: Fault) {
    let mut batch = Batch::default();
    let manner = Manner {
        max_frame: crate::frame::LEAST_FRAME,
        checksums: false,
    };
    let head = (Kind::Goaway, 0, CallId::default());
    let _ = batch.push(manner, head, &Bytes::new(), |out| {
        Goaway::write(out, 0, fault.reason, fault.text);
        Ok(())
    });
    let _ = stream.try_write(&batch.bytes);
}

fn with_slices<T>(batch: &Batch, write: impl FnOnce(&[IoSlice<'_>]) -> T) -> T {
    let mut slices = [IoSlice::new(&[]); SLICES];
    let mut count = 0;
    batch.pieces(|piece| {
        slices[count] = IoSlice::new(piece);
        count += 1;
        count < SLICES
    });
    write(&slices[..count])
}

/// When the peer was last heard of.
struct Pulse {
    beat: Duration,
    next: Instant,
    heard: u64,
    is_asked: bool,
}

impl Pulse {
    fn new(link: &Link, beat: Duration) -> Self {
        Self {
            beat,
            next: after(beat),
            heard: link.heard.load(Ordering::Relaxed),
            is_asked: false,
        }
    }

    /// Whether the peer may live. `may_ask`: whether a question would leave.
    fn goes_on(&mut self, link: &Link, may_ask: bool) -> bool {
        if maniple::time::now() < self.next {
            return true;
        }
        if rarely!("a question to the peer goes late") {
            self.next = after(self.beat / 10);
            return true;
        }
        self.next = after(self.beat);
        let heard = link.heard.load(Ordering::Relaxed);
        if heard != self.heard {
            (self.heard, self.is_asked) = (heard, false);
            return true;
        }
        if std::mem::replace(&mut self.is_asked, true) {
            return false;
        }
        if may_ask {
            link.send_short(Kind::Ping, CallId::default(), &[0; 8]);
        }
        true
    }
}

fn after(time: Duration) -> Instant {
    let now = maniple::time::now();
    let far = Duration::from_secs(60 * 60 * 24 * 365);
    now.checked_add(time.min(far)).unwrap_or(now)
}

/// Lets what was held back go when dropped.
pub(crate) struct Held<'a>(&'a Link);

impl Drop for Held<'_> {
    fn drop(&mut self) {
        let mut out = self.0.out.lock();
        out.is_held = false;
        self.0.flush(out);
    }
}

struct Closing<'a>(&'a Link);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        self.0.close();
    }
}

/// Who the peer is: its name and address, and the end here, as `ss` shows both.
impl fmt::Display for Link {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = match &*self.hello.name {
            "" => "a peer without a name",
            name => name,
        };
        write!(f, "{name} at {} (here {})", self.peer, self.local)
    }
}
