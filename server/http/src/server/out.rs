//! The way out of a connection: answers are collected, kept back while users' code runs, and sent as fast as the
//! client takes them.
//!
//! Answers to requests that came together leave by one write. Between two of them runs users' code, a handler or
//! the reader of a body, and may wait. What it keeps back is known to the worker meanwhile ([`Out::keep_back`]),
//! where a coroutine of its own, the *courier*, comes by after a moment and sends what is still there.
//!
//! ```text
//!   answer 1 ──► collected ──► listed ─── handler returns soon ──► answer 2 collected behind it ──► one write
//!                                 └────── handler waits, a moment passes ──► the courier sends answer 1
//! ```
//!
//! The courier never waits for a client, and the handler never for the courier. All of this is one thread's: a
//! connection's coroutine, its buffer and the courier stay on one worker.

use std::{
    cell::{Cell, RefCell, RefMut},
    fs::File,
    io::{self, IoSlice},
    mem,
    ops::Range,
    rc::Rc,
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{sync::Notify, time::Elapsed, time::coarse_now};
use rustix::io::Errno;

use super::state::Connection;

/// A buffer for answers, lent to a connection while it is busy.
pub(crate) struct Out {
    /// Borrowed over a wait by the connection while it sends, and by the courier.
    bytes: RefCell<Vec<u8>>,
    /// Whose they are, while the courier may send them.
    connection: Cell<Option<Arc<Connection>>>,
    is_kept_back: Cell<bool>,
    /// Whether the courier has it in its list; a former holder may have left it there.
    is_listed: Cell<bool>,
    /// When the courier tries again, and after how long once more: the client had no room.
    again: Cell<Option<(Instant, Duration)>>,
    /// What the lookout sees of who uses it.
    pub(super) busy: Busy,
}

/// What a busy connection is at, for the lookout of its worker.
pub(super) struct Busy {
    /// Its post there, or [`NOBODY`].
    pub(super) post: Cell<u32>,
    /// Counts twice for each request; odd while its handler works.
    pub(super) turn: Cell<u32>,
    /// Whether the client takes interim answers.
    http_11: Cell<bool>,
    /// The turn at which an interim answer would be taken for another.
    mute: Cell<u32>,
}

/// No post.
pub(super) const NOBODY: u32 = u32::MAX;

impl Busy {
    /// A handler works from now on.
    #[inline]
    pub(super) fn begin(&self, http_11: bool) {
        self.http_11.set(http_11);
        self.turn.set(self.turn.get().wrapping_add(1));
    }

    /// It has returned.
    #[inline]
    pub(super) fn end(&self) {
        self.turn.set(self.turn.get().wrapping_add(1));
    }

    /// The next handler's client awaits an interim answer, which must not come by accident.
    #[cold]
    pub(super) fn mute_next(&self) {
        self.mute.set(self.turn.get().wrapping_add(1));
    }

    /// Whether the client can be sent an interim answer now that means nothing.
    fn may_ask(&self) -> bool {
        let turn = self.turn.get();
        turn % 2 == 1 && self.http_11.get() && self.mute.get() != turn
    }
}

const CAPACITY: usize = 4 * 1024;

/// How much of a long body that is in memory goes ahead of the rest: more than what the kernel of a client that reads
/// nothing takes in at first and [`AHEAD`] together. Meanwhile the kernel takes only that much of it before the client has
/// the server send more.
///
/// Else it would copy half a megabyte and more at once, and where many begin who read next to nothing, others of their
/// worker would wait for all of these copies. Files that the kernel sends by itself are not copied; there the limit had
/// clients that take what they can get cost up to three times as much, by calls for less and less.
const BEGINNING: usize = 256 * 1024;

const AHEAD: u32 = 64 * 1024;

/// Sends the beginning of a long body.
fn begin<R>(connection: &Connection, send: impl FnOnce() -> R) -> R {
    connection.transport.limit_unsent(Some(AHEAD));
    let sent = send();
    connection.transport.limit_unsent(None);
    maniple::yield_now();
    sent
}

thread_local! {
    static DESK: Rc<Desk> = Rc::new(Desk::default());
}

impl Out {
    /// An empty one.
    pub(crate) fn new() -> Rc<Self> {
        Rc::new(Self {
            bytes: RefCell::new(Vec::with_capacity(CAPACITY)),
            connection: Cell::new(None),
            is_kept_back: Cell::new(false),
            is_listed: Cell::new(false),
            again: Cell::new(None),
            busy: Busy {
                post: Cell::new(NOBODY),
                turn: Cell::new(0),
                http_11: Cell::new(false),
                mute: Cell::new(0),
            },
        })
    }

    /// Forgets what was not sent, so that another connection may use it; its capacity, if it may.
    #[inline]
    pub(crate) fn clear(&self) -> Option<usize> {
        self.busy.post.set(NOBODY);
        if self.is_kept_back.get() {
            self.take_off();
        }
        let mut bytes = self.bytes.try_borrow_mut().ok()?;
        bytes.clear();
        Some(bytes.capacity())
    }

    /// What has been collected, to add to it.
    #[inline]
    pub(crate) fn bytes(&self) -> RefMut<'_, Vec<u8>> {
        match self.bytes.try_borrow_mut() {
            Ok(bytes) => bytes,
            Err(_) => self.bytes_after_the_courier(),
        }
    }

    /// The courier had its turn end in the middle; it waits for nothing but its next.
    #[cold]
    fn bytes_after_the_courier(&self) -> RefMut<'_, Vec<u8>> {
        loop {
            maniple::cancel::shield(maniple::yield_now);
            if let Ok(bytes) = self.bytes.try_borrow_mut() {
                return bytes;
            }
        }
    }

    #[inline]
    pub(crate) fn is_kept_back(&self) -> bool {
        self.is_kept_back.get()
    }

    /// Before users' code runs: what has been collected may leave without it. False if nobody could see to that.
    #[inline(never)]
    pub(crate) fn keep_back(self: &Rc<Self>, connection: &Arc<Connection>) -> bool {
        if self.bytes.try_borrow().is_ok_and(|bytes| bytes.is_empty()) {
            return true;
        }
        DESK.with(|desk| {
            if !desk.is_attended() {
                return false;
            }
            self.connection.set(Some(connection.clone()));
            self.is_kept_back.set(true);
            self.again.set(None);
            if !self.is_listed.replace(true) {
                desk.listed.borrow_mut().push(self.clone());
            }
            if !desk.is_awake.replace(true) {
                desk.news.notify_one();
            }
            true
        })
    }

    /// Keeps answers back like [`keep_back`](Self::keep_back), for so long.
    #[cold]
    pub(crate) fn keep_back_for(
        self: &Rc<Self>,
        connection: &Arc<Connection>,
        moment: Duration,
    ) -> bool {
        let is_kept = self.keep_back(connection);
        if moment > MOMENT {
            self.again.set(Some((coarse_now() + moment, MOMENT)));
        }
        is_kept
    }

    /// From now on the courier leaves it alone.
    fn take_off(&self) {
        self.is_kept_back.set(false);
        drop(self.connection.take());
    }

    /// Sends what has been collected. After an error nothing more can be sent: closing resets the connection, so
    /// that an answer that broke off is not taken for whole.
    #[inline]
    pub(crate) fn flush(&self, connection: &Connection, stall: Duration) -> io::Result<()> {
        let mut bytes = self.bytes();
        if bytes.is_empty() && !connection.transport.is_behind() {
            return Ok(());
        }
        match connection.transport.write(&bytes) {
            Ok(sent) if sent == bytes.len() && !connection.transport.is_behind() => {
                bytes.clear();
                Ok(())
            }
            begun => finish(connection, &mut bytes, &[], begun, stall),
        }
    }

    /// Sends what there is room for of what [`flush`](Self::flush) sends, without waiting; whether that was all.
    #[inline]
    pub(crate) fn try_flush(&self, connection: &Connection) -> io::Result<bool> {
        let mut bytes = self.bytes();
        match connection.transport.try_write(&bytes) {
            Ok(sent) if sent == bytes.len() && !connection.transport.is_behind() => {
                bytes.clear();
                Ok(true)
            }
            Ok(sent) => {
                bytes.drain(..sent);
                Ok(false)
            }
            Err(error) if is_no_failure(&error) => Ok(false),
            Err(error) => {
                bytes.clear();
                connection.transport.reset_on_close();
                Err(error)
            }
        }
    }

    /// Sends what [`flush`](Self::flush) does, and `more` behind it.
    pub(crate) fn flush_with(
        &self,
        more: &[u8],
        connection: &Connection,
        stall: Duration,
    ) -> io::Result<()> {
        if more.len() <= BEGINNING {
            return self.flush_at_once(more, connection, stall);
        }
        let (beginning, rest) = more.split_at(BEGINNING);
        begin(connection, || {
            self.flush_at_once(beginning, connection, stall)
        })?;
        self.flush_at_once(rest, connection, stall)
    }

    fn flush_at_once(
        &self,
        more: &[u8],
        connection: &Connection,
        stall: Duration,
    ) -> io::Result<()> {
        let mut bytes = self.bytes();
        let slices = [IoSlice::new(&bytes), IoSlice::new(more)];
        let begun = connection.transport.write_vectored(&slices);
        finish(connection, &mut bytes, more, begun, stall)
    }

    /// Has the kernel send a part of a file; how much of it, which is less where the file has no more, or the kernel cannot.
    pub(crate) fn send_file(
        &self,
        file: &File,
        part: Range<u64>,
        connection: &Connection,
        stall: Duration,
    ) -> io::Result<u64> {
        // The way is taken until then.
        let _bytes = self.bytes();
        let whole = (part.end - part.start) as usize;
        let write = |sent: usize| {
            let at = part.start + sent as u64;
            connection.transport.send_file(file, at, whole - sent)
        };
        match go_on(connection, whole, write(0), stall, write) {
            Ok(()) => Ok(whole as u64),
            Err((error, sent)) if is_of_file(&error) => Ok(sent as u64),
            Err((error, _)) => {
                connection.transport.reset_on_close();
                Err(error)
            }
        }
    }

    /// Sends an interim answer that means nothing, if one can be sent now: no byte of the answer in hand has left, and none
    /// of those before it is held back. Whether it was.
    #[cold]
    pub(super) fn ask(&self, connection: &Connection, interim: &[u8]) -> bool {
        let Ok(mut bytes) = self.bytes.try_borrow_mut() else {
            return false;
        };
        // Where nothing is under way there is room for all of it.
        let is_silent = connection.transport.untaken().is_ok_and(|bytes| bytes == 0);
        if !bytes.is_empty() || !self.busy.may_ask() || !is_silent {
            return false;
        }
        match connection.transport.try_write(interim) {
            Ok(sent) => bytes.extend_from_slice(&interim[sent..]),
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
        true
    }

    /// Sends what the client has room for, for the courier; whether to come again.
    fn send_what_fits(&self, now: Instant) -> bool {
        let Ok(mut bytes) = self.bytes.try_borrow_mut() else {
            // The connection itself is sending.
            return false;
        };
        let again = self.again.get();
        if again.is_some_and(|(at, _)| now < at) {
            return true;
        }
        let Some(connection) = self.connection.take() else {
            return false;
        };
        self.connection.set(Some(connection.clone()));
        if bytes.is_empty() && !connection.transport.is_behind() {
            return false;
        }
        let next = match connection.transport.try_write(&bytes) {
            Ok(sent) if sent == bytes.len() && !connection.transport.is_behind() => {
                bytes.clear();
                return false;
            }
            Ok(sent) => {
                bytes.drain(..sent);
                MOMENT
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                again.map_or(MOMENT, |(_, last)| (last * 2).min(LONGEST_MOMENT))
            }
            // The connection's next write meets it too.
            Err(_) => return false,
        };
        self.again.set(Some((now + next, next)));
        true
    }
}

/// Sends what this worker's courier would send for the connection, if there is any.
#[cold]
pub(crate) fn flush_kept_back(connection: &Arc<Connection>, stall: Duration) -> io::Result<()> {
    let is_its_own = |out: &&Rc<Out>| {
        let owner = out.connection.take();
        let is_own = owner
            .as_ref()
            .is_some_and(|owner| Arc::ptr_eq(owner, connection));
        out.connection.set(owner);
        is_own
    };
    let out = DESK.with(|desk| desk.listed.borrow().iter().find(is_its_own).cloned());
    out.map_or(Ok(()), |out| out.flush(connection, stall))
}

#[inline]
fn finish(
    connection: &Connection,
    bytes: &mut Vec<u8>,
    more: &[u8],
    begun: io::Result<usize>,
    stall: Duration,
) -> io::Result<()> {
    let sent = match begun {
        Ok(sent) if sent == bytes.len() + more.len() && !connection.transport.is_behind() => Ok(()),
        begun => send_slowly(connection, bytes, more, begun, stall).map_err(|(error, _)| error),
    };
    // Sent, or part of it sent: users' code may still run before the connection goes, and the courier come by.
    bytes.clear();
    if sent.is_err() {
        connection.transport.reset_on_close();
    }
    sent
}

/// Sends a few bytes, outside of what is collected; how many were sent if not all.
pub(crate) fn send(
    connection: &Connection,
    bytes: &[u8],
    stall: Duration,
) -> Result<(), (io::Error, usize)> {
    match connection.transport.write(bytes) {
        Ok(sent) if sent == bytes.len() && !connection.transport.is_behind() => Ok(()),
        begun => send_slowly(connection, bytes, &[], begun, stall),
    }
}

/// Whether another try may go on.
fn is_no_failure(error: &io::Error) -> bool {
    let kind = error.kind();
    kind == io::ErrorKind::WouldBlock || kind == io::ErrorKind::Interrupted
}

/// Whether sending a file failed for what the file is, and not for the client.
fn is_of_file(error: &io::Error) -> bool {
    let of_file = [Errno::INVAL, Errno::IO, Errno::NOSYS, Errno::OPNOTSUPP];
    error.kind() == io::ErrorKind::WriteZero
        || Errno::from_io_error(error).is_some_and(|errno| of_file.contains(&errno))
}

/// Goes on with a write of two pieces that has not sent all, for as long as the client takes something.
#[cold]
fn send_slowly(
    connection: &Connection,
    one: &[u8],
    other: &[u8],
    begun: io::Result<usize>,
    stall: Duration,
) -> Result<(), (io::Error, usize)> {
    let whole = one.len() + other.len();
    go_on(connection, whole, begun, stall, |sent| {
        let slices = [
            IoSlice::new(&one[sent.min(one.len())..]),
            IoSlice::new(&other[sent.saturating_sub(one.len())..]),
        ];
        connection.transport.write_vectored(&slices)
    })
}

/// Writes until all is sent, for as long as the client takes something; `write` is told how much is.
fn go_on(
    connection: &Connection,
    whole: usize,
    begun: io::Result<usize>,
    stall: Duration,
    write: impl Fn(usize) -> io::Result<usize>,
) -> Result<(), (io::Error, usize)> {
    let transport = &connection.transport;
    let mut sent = 0;
    let mut written = begun;
    let mut patience = Patience::with(connection, stall);
    let pace = Pace::of(connection, stall);
    loop {
        let failed = match written {
            // All that was left was to be flushed.
            Ok(0) if sent == whole => None,
            Ok(0) => Some(io::ErrorKind::WriteZero.into()),
            Ok(count) => {
                sent += count;
                patience = Patience::with(connection, stall);
                pace.is_too_slow(sent).then(|| Elapsed.into())
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => None,
            Err(error) if is_own_timeout(&error) => {
                let taken = sent.saturating_sub(connection.transport.untaken().unwrap_or(0));
                let is_over = patience.is_over(connection) || pace.is_too_slow(taken);
                is_over.then_some(error)
            }
            Err(error) => Some(error),
        };
        if let Some(error) = failed {
            return Err((error, sent));
        }
        written = if sent < whole {
            write(sent)
        } else if transport.is_behind() {
            transport.flush().map(|()| 0)
        } else {
            return Ok(());
        };
    }
}

/// Whether a timeout of the socket passed, and not a deadline of the caller's scope.
pub(crate) fn is_own_timeout(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
        && error.get_ref().is_some_and(|inner| inner.is::<Elapsed>())
        && maniple::cancel::check().is_ok()
}

/// Patience with a client that reads slowly: it is over once the client has taken nothing for a whole stall.
///
/// A connection becomes writable only once a third of the kernel's buffer is free, megabytes of it, for which a
/// slow client may need minutes. So what counts is what the client has acknowledged.
#[derive(Debug)]
pub(crate) struct Patience {
    stall: Duration,
    since: Instant,
    unacknowledged: usize,
}

impl Patience {
    pub(crate) fn with(connection: &Connection, stall: Duration) -> Self {
        Self {
            stall,
            since: coarse_now(),
            unacknowledged: connection.transport.untaken().unwrap_or(0),
        }
    }

    /// How often to look.
    pub(crate) fn period(stall: Duration) -> Duration {
        (stall / 4).max(Duration::from_millis(1))
    }

    /// Whether the client has taken nothing for so long.
    pub(crate) fn is_over(&mut self, connection: &Connection) -> bool {
        let now = coarse_now();
        let left = connection.transport.untaken().unwrap_or(usize::MAX);
        if left < self.unacknowledged {
            self.unacknowledged = left;
            self.since = now;
        }
        now.saturating_duration_since(self.since) >= self.stall
    }

    /// Whether the client has taken all there was.
    pub(crate) fn is_done(&self) -> bool {
        self.unacknowledged == 0
    }
}

/// How fast a client takes what is sent at one time.
#[derive(Debug)]
struct Pace {
    began: Instant,
    stall: Duration,
    slowest: u64,
}

impl Pace {
    fn of(connection: &Connection, stall: Duration) -> Self {
        Self {
            began: coarse_now(),
            stall,
            slowest: connection.slowest,
        }
    }

    /// Whether it took longer for so many bytes than they may take, beyond one stall.
    fn is_too_slow(&self, taken: usize) -> bool {
        let Some(seconds) = (taken as u64).checked_div(self.slowest) else {
            return false;
        };
        let most = self.stall.saturating_add(Duration::from_secs(seconds));
        coarse_now().saturating_duration_since(self.began) > most
    }
}

/// A worker's list of what is kept back, and its courier.
struct Desk {
    listed: RefCell<Vec<Rc<Out>>>,
    news: Notify,
    attended: Cell<bool>,
    /// Whether the courier comes by without being told.
    is_awake: Cell<bool>,
}

impl Default for Desk {
    fn default() -> Self {
        Self {
            listed: RefCell::default(),
            news: Notify::new(),
            attended: Cell::new(false),
            is_awake: Cell::new(false),
        }
    }
}

/// How long answers are kept back by users' code that waits. Shorter, and handlers that ask a neighbour would
/// have each answer leave by itself.
const MOMENT: Duration = Duration::from_millis(1);

/// How long the courier leaves a client alone that has no room.
const LONGEST_MOMENT: Duration = Duration::from_millis(128);

/// How long a courier stays that has nothing to do.
const STAY: Duration = Duration::from_secs(1);

impl Desk {
    /// Whether there is a courier; there is from now on, if it gets a stack.
    #[inline]
    fn is_attended(self: &Rc<Self>) -> bool {
        self.attended.get() || self.call_courier()
    }

    #[cold]
    fn call_courier(self: &Rc<Self>) -> bool {
        let courier = Courier { desk: self.clone() };
        let spawned = maniple::task::Builder::new()
            .name("maniple-server courier")
            .without_locals()
            .spawn_local(move || courier.attend());
        self.attended.set(spawned.is_ok());
        spawned.is_ok()
    }

    /// Sends what fits of all that is listed.
    fn go_round(&self) {
        let now = coarse_now();
        let listed = mem::take(&mut *self.listed.borrow_mut());
        for out in listed {
            if out.send_what_fits(now) {
                self.listed.borrow_mut().push(out);
            } else {
                out.is_listed.set(false);
                out.take_off();
            }
        }
    }

    /// How long until the next client is to be tried again.
    fn next(&self) -> Duration {
        let now = coarse_now();
        let listed = self.listed.borrow();
        let next = listed.iter().map(|out| match out.again.get() {
            Some((at, _)) => at.saturating_duration_since(now),
            None => Duration::ZERO,
        });
        next.min().unwrap_or(STAY)
    }
}

/// The right to be a worker's courier, given back however it ends.
struct Courier {
    desk: Rc<Desk>,
}

impl Courier {
    fn attend(self) {
        let desk = &*self.desk;
        loop {
            // Nothing is listed but what clients had no room for.
            desk.is_awake.set(false);
            if desk.news.notified_timeout(desk.next()) {
                maniple::sleep(MOMENT);
            } else if desk.listed.borrow().is_empty() {
                return;
            }
            desk.go_round();
        }
    }
}

impl Drop for Courier {
    fn drop(&mut self) {
        self.desk.attended.set(false);
        self.desk.is_awake.set(false);
        for out in self.desk.listed.take() {
            out.is_listed.set(false);
            out.take_off();
        }
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;

    use maniple::{
        cancel::CancelToken,
        net::{TcpListener, TcpStream},
    };

    use super::*;
    use crate::transport::Transport;

    const LONG: Duration = Duration::from_secs(60);

    /// A connection whose client has read nothing and has no more room, and how much it was sent.
    fn full() -> (Arc<Connection>, TcpStream, usize) {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (stream, _) = listener.accept().unwrap();
        let mut sent = 0;
        // Twice nothing in a row: the kernel moves bytes to the other side meanwhile.
        let mut refused = 0;
        while refused < 2 {
            match stream.try_write(&[b'x'; 64 * 1024]) {
                Ok(count) => (sent, refused) = (sent + count, 0),
                Err(_) => {
                    refused += 1;
                    maniple::sleep(Duration::from_millis(10));
                }
            }
        }
        (
            Arc::new(Connection::new(Transport::Tcp(stream), 0)),
            client,
            sent,
        )
    }

    fn in_a_runtime(f: impl FnOnce() + Send) {
        let runtime = maniple::Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| maniple::timeout(LONG, f).unwrap());
    }

    #[test]
    fn a_client_without_room_gets_what_is_kept_back_once_it_has_some() {
        in_a_runtime(|| {
            let (connection, mut client, sent) = full();
            let out = Out::new();
            // More than the kernel takes by and by.
            let kept = vec![b'k'; 16 * 1024 * 1024];
            out.bytes().extend_from_slice(&kept);
            assert!(out.keep_back(&connection));
            // The handler goes on as if there were no client.
            for _ in 0..10 {
                maniple::sleep(MOMENT);
                assert!(!out.bytes.borrow().is_empty());
            }
            let mut all = vec![0; sent + kept.len()];
            client.read_exact(&mut all).unwrap();
            assert!(all[..sent].iter().all(|&byte| byte == b'x'));
            assert!(all[sent..] == kept);
            while !out.bytes().is_empty() {
                maniple::sleep(MOMENT);
            }
            out.bytes().extend_from_slice(b"more");
            out.flush(&connection, LONG).unwrap();
            client.read_exact(&mut all[..4]).unwrap();
            assert!(all.starts_with(b"more"));
        });
    }

    #[test]
    fn a_client_that_is_gone_costs_the_handler_nothing() {
        in_a_runtime(|| {
            let (connection, client, _) = full();
            drop(client);
            let out = Out::new();
            out.bytes().extend_from_slice(b"kept");
            assert!(out.keep_back(&connection));
            while out.is_kept_back() {
                maniple::sleep(MOMENT);
            }
            assert!(out.flush(&connection, LONG).is_err());
        });
    }

    #[test]
    fn a_buffer_that_another_connection_has_now_is_sent_to_that_one() {
        in_a_runtime(|| {
            let (connection, client, _) = full();
            let out = Out::new();
            out.bytes().extend_from_slice(b"first");
            assert!(out.keep_back(&connection));
            out.clear();
            assert_eq!(Arc::strong_count(&connection), 1, "the first may close");
            drop((connection, client));
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let mut client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let connection = Arc::new(Connection::new(
                Transport::Tcp(listener.accept().unwrap().0),
                0,
            ));
            out.bytes().extend_from_slice(b"second");
            assert!(out.keep_back(&connection));
            let mut all = [0; 6];
            client.read_exact(&mut all).unwrap();
            assert_eq!(&all, b"second");
        });
    }

    #[test]
    fn of_a_long_body_little_goes_ahead_to_a_client_that_takes_nothing() {
        in_a_runtime(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let transport = Transport::Tcp(listener.accept().unwrap().0);
            let connection = Arc::new(Connection::new(transport, 0));
            let body = vec![b'k'; 16 * 1024 * 1024];
            let out = Out::new();
            let flush = || out.flush_with(&body, &connection, LONG);
            let cut = maniple::timeout(Duration::from_millis(100), flush);
            assert!(!matches!(cut, Ok(Ok(()))));
            // What the client's kernel has taken is not among it.
            let ahead = connection.transport.untaken().unwrap();
            assert!(ahead <= 4 * AHEAD as usize, "{ahead} bytes");
            drop(client);
        });
    }

    #[test]
    fn what_a_write_that_broke_off_has_sent_is_not_sent_again() {
        in_a_runtime(|| {
            let (connection, mut client, sent) = full();
            let out = Out::new();
            out.bytes().resize(64 * 1024 * 1024, b'k');
            // The client takes some and no more.
            let token = CancelToken::new();
            let flushed = token.clone();
            let reader = maniple::spawn(move || {
                let mut some = vec![0; sent + 1024 * 1024];
                client.read_exact(&mut some).unwrap();
                token.cancel();
                client
            });
            let cut = flushed.run(|| out.flush(&connection, LONG));
            assert!(!matches!(cut, Ok(Ok(()))));
            let _client = reader.join().unwrap();
            // Users' code runs before the connection goes: the destructor of a body.
            assert!(out.keep_back(&connection));
            assert!(!out.is_kept_back() && out.bytes().is_empty());
        });
    }

    #[test]
    fn without_a_stack_for_the_courier_nothing_is_kept_back() {
        let builder = maniple::Runtime::builder().workers(1).max_coroutines(1);
        builder.build().unwrap().run(|| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let _client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
            let connection = Arc::new(Connection::new(
                Transport::Tcp(listener.accept().unwrap().0),
                0,
            ));
            let out = Out::new();
            assert!(out.keep_back(&connection), "there is nothing");
            out.bytes().extend_from_slice(b"x");
            assert!(!out.keep_back(&connection));
        });
    }
}
