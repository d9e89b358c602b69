//! Connections within the process: what a test, or a program that calls itself, has in place of sockets.
//!
//! ```text
//!   one end ──write──► pipe: at most 64 KiB ──read──► other end
//!           ◄──read───                      ◄──write──
//! ```
//!
//! They do as TCP connections do. Reads and writes wait, in coroutines and in plain threads, and are cut short by
//! timeouts, deadlines and cancellation with the same errors. A peer that takes nothing stops its writer once the pipe
//! is full. Either direction can be ended by itself. Dropping an end that has unread bytes resets the connection.
//! There is no descriptor, no port and no kernel: what is written is there to be read at once.
//!
//! # Examples
//! A whole server, and no port:
//! ```
//! use std::io::{Read, Write};
//! use maniple_server::{Request, Router, Server, transport::memory};
//!
//! # fn main() -> std::io::Result<()> {
//! maniple::run(|| {
//!     let router = Router::new().get("/greet/{name}", |request: &mut Request| {
//!         format!("hello, {}", request.param("name").unwrap_or("you"))
//!     });
//!     let (listener, connector) = memory::listener();
//!     let server = Server::builder(router).listener(listener)?;
//!     let handle = server.handle();
//!     let serving = maniple::spawn(move || server.serve());
//!
//!     let mut stream = connector.connect()?;
//!     stream.write_all(b"GET /greet/Ann HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")?;
//!     let mut answer = String::new();
//!     stream.read_to_string(&mut answer)?;
//!     assert!(answer.ends_with("\r\n\r\nhello, Ann"));
//!
//!     handle.drain();
//!     serving.join()??;
//!     Ok(())
//! })
//! # }
//! ```

use std::{
    collections::VecDeque,
    fmt,
    io::{self, IoSlice, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::Waker,
    time::{Duration, Instant},
};

use maniple::{
    cancel::check,
    net::Shutdown,
    sync::channel::{self, Receiver, Select, Sender},
    time::{Elapsed, coarse_now},
};

/// Bytes that a direction holds; further ones wait for room.
pub const CAPACITY: usize = 64 * 1024;

/// Connections that wait to be accepted; further ones wait to be made.
const BACKLOG: usize = 128;

/// A listener, and what connects to it.
pub fn listener() -> (Listener, Connector) {
    let (send, arrivals) = channel::bounded(BACKLOG);
    let listener = Listener {
        arrivals,
        doors: Arc::new(Mutex::new(Some(send))),
    };
    let connector = Connector {
        doors: listener.doors.clone(),
    };
    (listener, connector)
}

/// Two ends that are connected to each other.
pub fn pair() -> (Stream, Stream) {
    let (there, back) = (Arc::new(Pipe::new()), Arc::new(Pipe::new()));
    let end = |incoming: &Arc<Pipe>, outgoing: &Arc<Pipe>| Stream {
        incoming: incoming.clone(),
        outgoing: outgoing.clone(),
        read_timeout: Timeout::default(),
        write_timeout: Timeout::default(),
        resets: AtomicBool::new(false),
    };
    (end(&back, &there), end(&there, &back))
}

/// Accepts connections; made by [`listener`]. Clones accept from the same queue.
#[derive(Clone, Debug)]
pub struct Listener {
    arrivals: Receiver<Stream>,
    doors: Doors,
}

/// What connectors send on, until the listener closes.
type Doors = Arc<Mutex<Option<Sender<Stream>>>>;

impl Listener {
    /// Waits for a connection.
    ///
    /// # Errors
    /// If the wait was cut short, or the listener is closed and all that had arrived is accepted
    /// (kind `ConnectionAborted`).
    pub fn accept(&self) -> io::Result<Stream> {
        self.arrivals.recv().map_err(|_| match check() {
            Err(interrupt) => interrupt.into(),
            Ok(()) => closed(),
        })
    }

    /// Accepts a connection that has arrived.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is none; else as [`Listener::accept`].
    pub fn try_accept(&self) -> io::Result<Stream> {
        self.arrivals.try_recv().map_err(|error| match error {
            channel::TryRecvError::Empty => io::ErrorKind::WouldBlock.into(),
            channel::TryRecvError::Disconnected => closed(),
        })
    }

    /// Refuses what has not connected yet, for all clones; what has can still be accepted.
    pub fn close(&self) {
        let door = lock(&self.doors).take();
        drop(door);
    }
}

#[cold]
fn closed() -> io::Error {
    io::Error::new(io::ErrorKind::ConnectionAborted, "the listener is closed")
}

/// Connects to a [`Listener`]; made by [`listener`]. Clones connect to the same one.
#[derive(Clone, Debug)]
pub struct Connector {
    doors: Doors,
}

impl Connector {
    /// Connects. Waits while 128 connections wait to be accepted.
    ///
    /// # Errors
    /// Kind `ConnectionRefused` if the listener is closed or gone; or if the wait was cut short.
    pub fn connect(&self) -> io::Result<Stream> {
        let door = lock(&self.doors).clone();
        let (ours, theirs) = pair();
        let sent = match door {
            Some(door) => door.send(theirs).map_err(drop),
            None => Err(()),
        };
        match sent {
            Ok(()) => Ok(ours),
            Err(()) => Err(match check() {
                Err(interrupt) => interrupt.into(),
                Ok(()) => io::ErrorKind::ConnectionRefused.into(),
            }),
        }
    }
}

/// One end of a connection; made by [`pair`], [`Connector::connect`] and [`Listener::accept`].
///
/// Reads and writes need only `&Stream`, so two coroutines can share one, each in its direction.
pub struct Stream {
    incoming: Arc<Pipe>,
    outgoing: Arc<Pipe>,
    read_timeout: Timeout,
    write_timeout: Timeout,
    /// Whether dropping it resets the connection whatever is unread.
    resets: AtomicBool,
}

impl Stream {
    /// How long a read may wait; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.read_timeout.set(timeout)
    }

    /// How long a write may wait; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.write_timeout.set(timeout)
    }

    /// Ends one direction or both. The peer reads what was written before, and then the end.
    ///
    /// # Errors
    /// Kind `NotConnected` if the connection was reset.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if matches!(how, Shutdown::Write | Shutdown::Both) {
            if self.outgoing.flow().is_reset {
                return Err(io::ErrorKind::NotConnected.into());
            }
            self.outgoing.change(|flow| flow.is_ended = true);
        }
        if matches!(how, Shutdown::Read | Shutdown::Both) {
            self.incoming.change(|flow| flow.is_ended = true);
        }
        Ok(())
    }

    /// Reads what is there, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there; else as a read.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.incoming.take(buffer, true)
    }

    /// Writes what there is room for, without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if there is no room; else as a write.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        self.outgoing.put(&[IoSlice::new(bytes)])
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let until = self.read_timeout.until();
        self.incoming
            .until_it_can(&self.incoming.readable, until, |pipe| {
                pipe.take(buffer, false)
            })
    }

    /// Waits until there is something to read, the end included.
    ///
    /// # Errors
    /// Past `until` (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        let look = |pipe: &Pipe| match pipe.flow().can_be_read() {
            true => Ok(()),
            false => Err(io::ErrorKind::WouldBlock.into()),
        };
        self.incoming
            .until_it_can(&self.incoming.readable, Some(until), look)
    }

    /// Waits until there is something to read or room to write, no longer than the read and the write timeout.
    ///
    /// # Errors
    /// Past a timeout (kind `TimedOut`), or if the wait was cut short.
    pub fn wait_either(&self) -> io::Result<()> {
        let (read, write) = (self.read_timeout.until(), self.write_timeout.until());
        let until = [read, write].into_iter().flatten().min();
        loop {
            check()?;
            if self.incoming.flow().can_be_read() || self.outgoing.flow().can_be_written() {
                return Ok(());
            }
            let mut either = Select::new();
            let readable = either.recv(&self.incoming.readable.news);
            either.recv(&self.outgoing.writable.news);
            let rung = match until {
                None => either.ready().ok(),
                Some(until) => either.ready_deadline(until).ok(),
            };
            match rung {
                Some(index) if index == readable => _ = self.incoming.readable.news.try_recv(),
                Some(_) => _ = self.outgoing.writable.news.try_recv(),
                None => is_over(until)?,
            }
        }
    }

    /// Wakes this once something has come or there is room, which may have been so already.
    #[cfg(feature = "http2")]
    pub(super) fn wake_by(&self, waker: &Waker) {
        self.incoming.readable.wake_by(waker);
        self.outgoing.writable.wake_by(waker);
    }

    /// That the peer has ended its sending, and whether nothing can be sent to it any more.
    pub(super) fn hangup(&self) -> Option<bool> {
        let is_ended = self.incoming.flow().is_ended;
        let is_gone = self.outgoing.flow().is_unread;
        (is_ended || is_gone).then_some(is_gone)
    }

    /// Bytes that were written and that the peer has not read.
    pub fn unread_by_peer(&self) -> usize {
        self.outgoing.flow().bytes.len()
    }

    /// Has dropping this end reset the connection: the peer reads what was written, and then an error.
    pub fn reset_on_close(&self) {
        self.resets.store(true, Ordering::Relaxed);
    }

    fn receive(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let until = self.read_timeout.until();
        self.incoming
            .until_it_can(&self.incoming.readable, until, |pipe| {
                pipe.take(buffer, true)
            })
    }

    fn transmit(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let until = self.write_timeout.until();
        self.outgoing
            .until_it_can(&self.outgoing.writable, until, |pipe| pipe.put(slices))
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        let mut is_reset = *self.resets.get_mut();
        self.incoming.change(|flow| {
            is_reset |= !flow.bytes.is_empty();
            flow.bytes = VecDeque::new();
            flow.is_unread = true;
        });
        self.outgoing.change(|flow| {
            flow.is_ended = true;
            flow.is_reset |= is_reset;
        });
    }
}

impl Read for Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer)
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.receive(buffer)
    }
}

macro_rules! writer {
    ($($writer:ty),*) => {$(
        impl Write for $writer {
            fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
                self.transmit(&[IoSlice::new(bytes)])
            }

            fn write_vectored(&mut self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                self.transmit(slices)
            }

            fn flush(&mut self) -> io::Result<()> {
                Ok(())
            }
        }
    )*};
}

writer!(Stream, &Stream);

impl fmt::Debug for Stream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("memory::Stream").finish_non_exhaustive()
    }
}

/// One direction.
struct Pipe {
    flow: Mutex<Flow>,
    /// Rung when something can be read.
    readable: Bell,
    /// Rung when something can be written.
    writable: Bell,
}

#[derive(Default)]
struct Flow {
    bytes: VecDeque<u8>,
    /// Nothing more will come.
    is_ended: bool,
    /// That end is none that its writer meant.
    is_reset: bool,
    /// Its reader is gone.
    is_unread: bool,
}

impl Flow {
    fn can_be_read(&self) -> bool {
        !self.bytes.is_empty() || self.is_ended
    }

    fn can_be_written(&self) -> bool {
        self.bytes.len() < CAPACITY || self.is_ended || self.is_unread
    }
}

impl Pipe {
    fn new() -> Self {
        Self {
            flow: Mutex::default(),
            readable: Bell::new(),
            writable: Bell::new(),
        }
    }

    /// Never held over a wait.
    fn flow(&self) -> MutexGuard<'_, Flow> {
        lock(&self.flow)
    }

    fn change(&self, change: impl FnOnce(&mut Flow)) {
        change(&mut self.flow());
        self.readable.ring();
        self.writable.ring();
    }

    /// Moves bytes out of it, or only copies them; 0 at the end.
    fn take(&self, buffer: &mut [u8], consume: bool) -> io::Result<usize> {
        if buffer.is_empty() {
            return Ok(0);
        }
        let mut flow = self.flow();
        let count = flow.bytes.len().min(buffer.len());
        if count == 0 {
            return match (flow.is_reset, flow.is_ended) {
                (true, _) => Err(io::ErrorKind::ConnectionReset.into()),
                (false, true) => Ok(0),
                (false, false) => Err(io::ErrorKind::WouldBlock.into()),
            };
        }
        let (front, back) = flow.bytes.as_slices();
        let of_front = count.min(front.len());
        buffer[..of_front].copy_from_slice(&front[..of_front]);
        buffer[of_front..count].copy_from_slice(&back[..count - of_front]);
        if consume {
            flow.bytes.drain(..count);
            drop(flow);
            self.writable.ring();
        }
        Ok(count)
    }

    /// Moves bytes into it.
    fn put(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        let mut flow = self.flow();
        if flow.is_ended || flow.is_unread {
            return Err(io::ErrorKind::BrokenPipe.into());
        }
        let mut room = CAPACITY - flow.bytes.len();
        let (whole, all_room) = (slices.iter().map(|slice| slice.len()).sum::<usize>(), room);
        if room == 0 && whole > 0 {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        for slice in slices {
            let count = slice.len().min(room);
            flow.bytes.extend(&slice[..count]);
            room -= count;
        }
        drop(flow);
        self.readable.ring();
        Ok(all_room - room)
    }

    /// Tries until it need not wait any more.
    fn until_it_can<T>(
        &self,
        bell: &Bell,
        until: Option<Instant>,
        mut attempt: impl FnMut(&Self) -> io::Result<T>,
    ) -> io::Result<T> {
        loop {
            check()?;
            match attempt(self) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => bell.wait(until)?,
                done => {
                    // Another may wait for the same, and what this one heard was meant for both.
                    bell.ring();
                    return done;
                }
            }
        }
    }
}

/// Wakes one who waits, or the next who comes to: what it is rung for is looked at under the lock.
struct Bell {
    rope: Sender<()>,
    news: Receiver<()>,
    /// Of who polls.
    waker: Mutex<Option<Waker>>,
}

impl Bell {
    fn new() -> Self {
        let (rope, news) = channel::bounded(1);
        let waker = Mutex::new(None);
        Self { rope, news, waker }
    }

    #[cfg(feature = "http2")]
    fn wake_by(&self, waker: &Waker) {
        let former = lock(&self.waker).replace(waker.clone());
        drop(former);
    }

    fn ring(&self) {
        // Where it is full, it has been rung already.
        let _ = self.rope.try_send(());
        let waker = lock(&self.waker).take();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn wait(&self, until: Option<Instant>) -> io::Result<()> {
        let rung = match until {
            None => self.news.recv().ok(),
            Some(until) => self.news.recv_deadline(until).ok(),
        };
        rung.map_or_else(|| is_over(until), Ok)
    }
}

/// Why a wait ended that nobody ended by ringing.
#[cold]
fn is_over(until: Option<Instant>) -> io::Result<()> {
    check()?;
    match until {
        Some(_) => Err(Elapsed.into()),
        None => Ok(()),
    }
}

/// How long a call may wait, in nanoseconds; `u64::MAX` for ever.
struct Timeout(AtomicU64);

impl Default for Timeout {
    fn default() -> Self {
        Self(AtomicU64::new(u64::MAX))
    }
}

impl Timeout {
    fn set(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = match timeout {
            None => u64::MAX,
            Some(Duration::ZERO) => {
                let text = "a timeout must be longer than zero";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.0.store(nanos, Ordering::Relaxed);
        Ok(())
    }

    fn until(&self) -> Option<Instant> {
        match self.0.load(Ordering::Relaxed) {
            u64::MAX => None,
            nanos => coarse_now().checked_add(Duration::from_nanos(nanos)),
        }
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing that can panic leaves what is guarded half changed.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use std::thread;

    use maniple::{
        Runtime,
        cancel::{CancelToken, is_cancelled_error},
    };

    use super::*;

    const LONG: Duration = Duration::from_secs(60);

    /// In a coroutine, on one worker; for at most a minute.
    fn in_a_runtime<T: Send>(f: impl FnOnce() -> T + Send) -> T {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| maniple::timeout(LONG, f).unwrap())
    }

    /// As many bytes as go in, through a pipe that holds fewer, one end in each of two coroutines or threads.
    fn send_much(mut one: Stream, other: Stream) -> (impl FnOnce(), impl FnOnce() -> Vec<u8>) {
        let write = move || {
            one.write_all(&[b'a'; CAPACITY]).unwrap();
            one.write_all(&[b'b'; 3 * CAPACITY]).unwrap();
        };
        let read = move || {
            let mut bytes = Vec::new();
            (&other).read_to_end(&mut bytes).unwrap();
            bytes
        };
        (write, read)
    }

    #[test]
    fn a_writer_waits_for_its_reader_between_coroutines_and_between_threads() {
        let (one, other) = pair();
        let (write, read) = send_much(one, other);
        let ((), bytes) = in_a_runtime(move || maniple::join!(write(), read()));
        assert_eq!(
            (bytes.len(), bytes[CAPACITY - 1], bytes[CAPACITY]),
            (4 * CAPACITY, b'a', b'b')
        );
        let (one, other) = pair();
        let (write, read) = send_much(one, other);
        thread::scope(|scope| {
            scope.spawn(write);
            assert_eq!(read().len(), 4 * CAPACITY);
        });
    }

    #[test]
    fn each_direction_ends_by_itself() {
        let (mut one, mut other) = pair();
        one.write_all(b"question").unwrap();
        one.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            one.write(b"x").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
        let mut heard = String::new();
        other.read_to_string(&mut heard).unwrap();
        other.write_all(b"answer").unwrap();
        drop(other);
        let mut answer = String::new();
        one.read_to_string(&mut answer).unwrap();
        assert_eq!((heard.as_str(), answer.as_str()), ("question", "answer"));
    }

    #[test]
    fn an_end_that_is_dropped_with_unread_bytes_resets_the_connection() {
        let (mut one, mut other) = pair();
        one.write_all(b"unread").unwrap();
        other.write_all(b"last").unwrap();
        drop(other);
        let mut heard = [0; 4];
        one.read_exact(&mut heard).unwrap();
        assert_eq!(&heard, b"last");
        for _ in 0..2 {
            assert_eq!(
                one.read(&mut heard).unwrap_err().kind(),
                io::ErrorKind::ConnectionReset
            );
        }
        assert_eq!(
            one.write(b"x").unwrap_err().kind(),
            io::ErrorKind::BrokenPipe
        );
    }

    #[test]
    fn an_end_can_be_told_to_look_like_none() {
        let (mut one, other) = pair();
        other.reset_on_close();
        drop(other);
        assert_eq!(
            one.read(&mut [0]).unwrap_err().kind(),
            io::ErrorKind::ConnectionReset
        );
    }

    #[test]
    fn waits_are_cut_by_timeouts_deadlines_and_cancellation_as_those_for_sockets() {
        in_a_runtime(|| {
            let (mut one, _other) = pair();
            let full = vec![0; CAPACITY];
            one.write_all(&full).unwrap();
            let moment = Duration::from_millis(5);
            one.set_read_timeout(Some(moment)).unwrap();
            one.set_write_timeout(Some(moment)).unwrap();
            let timed_out = |error: io::Error| {
                assert_eq!(error.kind(), io::ErrorKind::TimedOut);
                assert!(error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()));
            };
            timed_out(one.read(&mut [0]).unwrap_err());
            timed_out(one.peek(&mut [0]).unwrap_err());
            timed_out(one.write(b"x").unwrap_err());
            timed_out(one.wait_either().unwrap_err());
            timed_out(one.wait_readable_until(coarse_now() + moment).unwrap_err());
            one.set_read_timeout(None).unwrap();
            one.set_write_timeout(None).unwrap();
            // What handles the error is in time all the same.
            let read = maniple::timeout(moment, || one.read(&mut [0]).unwrap_err());
            read.map(timed_out).unwrap();
            let token = CancelToken::new();
            let cancelled = token.clone();
            maniple::join!(
                {
                    let read = token.run(|| {
                        assert!(is_cancelled_error(&one.read(&mut [0]).unwrap_err()));
                        assert!(is_cancelled_error(&one.write(b"x").unwrap_err()));
                    });
                    // What handles the error ends as if nothing had been.
                    read.unwrap();
                },
                {
                    maniple::yield_now();
                    cancelled.cancel();
                }
            );
        });
    }

    #[test]
    fn all_who_read_hear_of_the_end() {
        let (one, other) = pair();
        in_a_runtime(move || {
            let ends = || (&one).read(&mut [0; 8]).unwrap();
            let (first, second, third, ()) = maniple::join!(ends(), ends(), ends(), {
                maniple::yield_now();
                drop(other);
            });
            assert_eq!((first, second, third), (0, 0, 0));
        });
    }

    #[test]
    fn who_waits_for_either_is_woken_by_both() {
        in_a_runtime(|| {
            let (one, other) = pair();
            one.wait_either().unwrap();
            let full = vec![0; CAPACITY];
            (&one).write_all(&full).unwrap();
            for what in ["room", "bytes"] {
                maniple::join!(
                    {
                        one.wait_either().unwrap();
                        match what {
                            "room" => assert_eq!(one.try_write(&full).unwrap(), 7),
                            _ => assert_eq!(one.try_read(&mut [0; 8]).unwrap(), 3),
                        }
                    },
                    {
                        maniple::yield_now();
                        match what {
                            "room" => (&other).read_exact(&mut [0; 7]).unwrap(),
                            _ => (&other).write_all(b"abc").unwrap(),
                        }
                    }
                );
            }
            assert_eq!(
                one.try_read(&mut [0]).unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
            assert_eq!(
                one.try_write(b"x").unwrap_err().kind(),
                io::ErrorKind::WouldBlock
            );
        });
    }

    #[test]
    fn who_connects_waits_for_a_place_in_the_queue_and_not_for_a_listener_that_is_gone() {
        in_a_runtime(|| {
            let (listener, connector) = listener();
            let waiting: Vec<_> = (0..BACKLOG).map(|_| connector.connect().unwrap()).collect();
            let (late, accepted) = maniple::join!(connector.connect(), listener.accept());
            assert!(late.is_ok() && accepted.is_ok());
            listener.close();
            let left = std::iter::from_fn(|| listener.accept().ok()).count();
            assert_eq!(left, BACKLOG);
            assert_eq!(
                connector.connect().unwrap_err().kind(),
                io::ErrorKind::ConnectionRefused
            );
            drop(waiting);
        });
    }
}
