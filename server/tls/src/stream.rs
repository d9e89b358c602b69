//! A connection over TLS, with calls that wait.
//!
//! rustls has one `&mut` session for both directions. It is under a lock, which is held while records are encrypted and
//! decrypted and never while the transport is waited for. So one coroutine may wait for bytes while another writes:
//!
//! ```text
//!   reader:  [reading: wait, receive]  [session: decrypt]
//!   writer:                            [session: encrypt]  [sending: send, wait]
//! ```
//!
//! `reading` and `sending` keep several readers, and several writers, in order; they are locks of coroutines, and are
//! held over waits.

use std::{
    fmt,
    io::{self, IoSlice, Read, Write},
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{check, is_cancelled_error},
    net::Shutdown,
    sync::{OwnedSemaphorePermit, Semaphore},
    time::{Elapsed, coarse_now},
};

use crate::{
    buffers::Buffer,
    counts::Counts,
    error::Error,
    info::Info,
    session::{Session, Step},
    transport::Transport,
};

/// A connection over TLS; made by [`ServerConfig::stream`](crate::ServerConfig::stream) and
/// [`ClientConfig::stream`](crate::ClientConfig::stream).
///
/// Reads and writes as a socket of [`maniple::net`] does: it waits in coroutines and in plain threads, and timeouts,
/// deadlines and cancellation cut it short with the same errors. The first call shakes hands, unless
/// [`Stream::handshake`] has.
///
/// Reads and writes need only `&Stream`, so two coroutines can share one, each in its direction: by reference, in an
/// `Arc`, or by [`Stream::split`].
///
/// # What a write leaves behind
/// A write returns once its bytes are with the transport. If the wait for that is cut short after they were encrypted,
/// they can not be taken back: the write returns their number, and the next one, or [`Write::flush`], sends the rest and
/// says what is wrong.
///
/// # The end
/// A read returns 0 once the peer has said that it writes no more (`close_notify`); an end without that is
/// [`Error::Truncated`]. [`Stream::shutdown`] says it to the peer. So does dropping the stream, as far as that needs no
/// waiting and everything written before has left.
///
/// # Memory
/// While nothing is in them, a stream has no buffers: it borrows them from its worker.
pub struct Stream<T: Transport> {
    transport: T,
    session: Mutex<Session>,
    is_established: AtomicBool,
    handshake: maniple::sync::Mutex<Handshake>,
    reading: maniple::sync::Mutex<Reading>,
    /// What is being sent. The writer that has it open sends all there is.
    sending: maniple::sync::Mutex<Buffer>,
    /// In nanoseconds; `u64::MAX` for none.
    read_timeout: AtomicU64,
    /// Whether something is still to be sent, since a wait for that was cut short.
    is_behind: AtomicBool,
    is_abandoned: AtomicBool,
    info: OnceLock<Box<Info>>,
}

/// What there is only until the handshake is done.
#[derive(Debug)]
struct Handshake {
    timeout: Duration,
    until: Option<Instant>,
    of_server: Option<OfServer>,
    place: Option<OwnedSemaphorePermit>,
    /// Whether the client of a server has sent some of it.
    has_begun: bool,
}

/// What the handshakes of a server share.
#[derive(Debug)]
pub(crate) struct OfServer {
    /// Who may go on at the same time.
    pub(crate) places: Arc<Semaphore>,
    pub(crate) counts: Arc<Counts>,
}

#[derive(Debug)]
struct Reading {
    /// Whether the transport may pass for readable and not be.
    is_doubtful: bool,
}

impl<T: Transport> Stream<T> {
    pub(crate) fn new(
        transport: T,
        session: Session,
        timeout: Duration,
        of_server: Option<OfServer>,
    ) -> Self {
        Self {
            transport,
            session: Mutex::new(session),
            is_established: AtomicBool::new(false),
            handshake: maniple::sync::Mutex::new(Handshake {
                timeout,
                until: coarse_now().checked_add(timeout),
                of_server,
                place: None,
                has_begun: false,
            }),
            reading: maniple::sync::Mutex::new(Reading { is_doubtful: true }),
            sending: maniple::sync::Mutex::new(Buffer::new()),
            read_timeout: AtomicU64::new(u64::MAX),
            is_behind: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
            info: OnceLock::new(),
        }
    }

    /// Shakes hands, if that is not done. Without this, the first read or write does.
    ///
    /// # Errors
    /// [`Error::HandshakeTimeout`], [`Error::Handshake`], [`Error::EndedInHandshake`], [`Error::PlainHttp`],
    /// [`Error::NotTls`]; an error of the transport; or if the wait was cut short, after which another call goes on.
    pub fn handshake(&self) -> io::Result<&Info> {
        self.establish(None)?;
        Ok(self.info.get().expect("what is established is told"))
    }

    /// What the handshake came to; `None` until it is done.
    #[inline]
    pub fn info(&self) -> Option<&Info> {
        self.info.get().map(|info| &**info)
    }

    /// What it goes over. Bytes that are written to that, or read from it, are missed by TLS.
    pub fn transport(&self) -> &T {
        &self.transport
    }

    /// How long a read may wait; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_read_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        let nanos = match timeout {
            None => u64::MAX,
            Some(Duration::ZERO) => {
                let text = "a timeout must be longer than zero";
                return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
            }
            Some(timeout) => u64::try_from(timeout.as_nanos()).unwrap_or(u64::MAX),
        };
        self.read_timeout.store(nanos, Ordering::Relaxed);
        Ok(())
    }

    /// How long a write may wait for room; for ever with `None`, which is the default.
    ///
    /// # Errors
    /// Kind `InvalidInput` if the timeout is zero.
    pub fn set_write_timeout(&self, timeout: Option<Duration>) -> io::Result<()> {
        self.transport.set_write_timeout(timeout)
    }

    /// Reads without waiting.
    ///
    /// # Errors
    /// Kind `WouldBlock` if nothing is there that could be decrypted, or the handshake is not done; else as a read.
    pub fn try_read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        if !self.is_established() && !self.try_establish()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        loop {
            let step = self.session().read(buffer);
            if let Step::Read(count) = self.seen(step)? {
                return Ok(count);
            }
            self.try_receive()?;
        }
    }

    /// Writes without waiting: as much as goes at once is encrypted, and what there is no room for leaves with the next
    /// write.
    ///
    /// # Errors
    /// Kind `WouldBlock` if something is still to be sent for which there is no room, or the handshake is not done; else
    /// as a write.
    pub fn try_write(&self, bytes: &[u8]) -> io::Result<usize> {
        if !self.is_established() && !self.try_establish()? {
            return Err(io::ErrorKind::WouldBlock.into());
        }
        let Some(mut sending) = self.sending.try_lock() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        self.try_send(&mut sending)?;
        let taken = self.encrypt(&[IoSlice::new(bytes)], &mut sending)?;
        match self.try_send(&mut sending) {
            Err(error) if error.kind() != io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(taken),
        }
    }

    /// Reads without consuming.
    ///
    /// # Errors
    /// As a read.
    pub fn peek(&self, buffer: &mut [u8]) -> io::Result<usize> {
        self.read_by(self.read_until(), |session| session.peek(buffer))
    }

    /// Waits until something can be read that is decrypted already, or the end. Needs no buffer before that.
    ///
    /// # Errors
    /// Past `until` (kind `TimedOut`); if the wait was cut short; or as a read.
    #[inline]
    pub fn wait_readable_until(&self, until: Instant) -> io::Result<()> {
        self.read_by(Some(until), |session| session.peek(&mut []))
            .map(drop)
    }

    /// Waits until something can be read that is decrypted already, or the end, no longer than the read timeout.
    ///
    /// # Errors
    /// Past that (kind `TimedOut`); if the wait was cut short; or as a read.
    pub fn wait_readable(&self) -> io::Result<()> {
        self.read_by(self.read_until(), |session| session.peek(&mut []))
            .map(drop)
    }

    /// Whether it has received something that was not read: then the transport may have nothing to read though the
    /// stream has.
    pub fn holds_input(&self) -> bool {
        self.session().holds_input()
    }

    /// Whether something that was written is still to be given to the transport, since a wait for that was cut short:
    /// the next write or flush does.
    #[inline]
    pub fn is_behind(&self) -> bool {
        self.is_behind.load(Ordering::Relaxed)
    }

    /// Bytes, encrypted, that are still to be given to the transport, since a wait for that was cut short.
    pub fn unsent(&self) -> usize {
        match self.sending.try_lock() {
            Some(sending) => sending.len() + self.session().outgoing(),
            // Somebody is sending.
            None => 1,
        }
    }

    /// Ends one direction or both. For writing, the peer is told by `close_notify`, after everything written before;
    /// then the transport's direction is ended, too. To end both does not wait: the peer is told if there is room, and
    /// nobody is writing.
    ///
    /// # Errors
    /// If the connection is gone, or the wait was cut short.
    pub fn shutdown(&self, how: Shutdown) -> io::Result<()> {
        if how != Shutdown::Write {
            self.session().expect_end();
        }
        if how == Shutdown::Write && self.is_established() {
            let mut sending = self.sending.lock();
            let closed = self.session().close();
            self.send_with(closed, &mut sending)?;
        } else if how == Shutdown::Both
            && self.is_established()
            && let Some(mut sending) = self.sending.try_lock()
        {
            // A caller that ends both does not ask whether all has left.
            let _ = self.session().close();
            self.session().take_outgoing(&mut sending);
            let _ = self.try_send(&mut sending);
        }
        self.transport.shutdown(how)
    }

    /// From now on dropping the stream says no `close_notify`: what was written may not be taken for whole.
    pub fn abandon(&self) {
        self.is_abandoned.store(true, Ordering::Relaxed);
    }

    /// A half for reading and one for writing, for two coroutines. The connection is closed when both are dropped.
    ///
    /// # Examples
    /// ```
    /// # use std::io::{Read, Write};
    /// # fn echo(stream: maniple_tls::Stream<maniple::net::TcpStream>) -> std::io::Result<()> {
    /// let (mut reader, mut writer) = stream.split();
    /// let writing = maniple::spawn(move || writer.write_all(b"a question"));
    /// let mut answer = [0; 64];
    /// let count = reader.read(&mut answer)?;
    /// # let _ = count;
    /// writing.join()?
    /// # }
    /// ```
    pub fn split(self) -> (ReadHalf<T>, WriteHalf<T>) {
        let stream = Arc::new(self);
        (ReadHalf(stream.clone()), WriteHalf(stream))
    }

    #[inline]
    fn is_established(&self) -> bool {
        self.is_established.load(Ordering::Acquire)
    }

    /// Never held over a wait.
    #[inline]
    fn session(&self) -> MutexGuard<'_, Session> {
        // rustls says itself that a session which it left in the middle is of no use.
        self.session.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn read_until(&self) -> Option<Instant> {
        match self.read_timeout.load(Ordering::Relaxed) {
            u64::MAX => None,
            nanos => coarse_now().checked_add(Duration::from_nanos(nanos)),
        }
    }

    /// Receives until there is what to read.
    #[inline]
    fn read_by(
        &self,
        until: Option<Instant>,
        mut read: impl FnMut(&mut Session) -> Result<Step, Error>,
    ) -> io::Result<usize> {
        if !self.is_established() {
            self.establish(until)?;
        }
        let mut session = self.session();
        loop {
            let step = read(&mut session);
            let is_quiet = step.is_ok() && !session.has_outgoing();
            if let Ok(Step::Read(count)) = step
                && is_quiet
            {
                return Ok(count);
            }
            drop(session);
            if !is_quiet && let Step::Read(count) = self.seen(step)? {
                return Ok(count);
            }
            session = self.receive(until)?;
        }
    }

    /// After what may have left something to tell the peer: an answer to a new key, an alert.
    fn seen(&self, step: Result<Step, Error>) -> io::Result<Step> {
        // A writer that is at it meanwhile sends this with what it writes next.
        if let Some(mut sending) = self.sending.try_lock() {
            self.session().take_outgoing(&mut sending);
            // There is time: the next writer sends it, and meets the error.
            let _ = self.try_send(&mut sending);
        }
        Ok(step?)
    }

    /// Waits for the transport and takes in what came; without effect if another reader has.
    fn receive(&self, until: Option<Instant>) -> io::Result<MutexGuard<'_, Session>> {
        let Some(mut reading) = self.reading.try_lock() else {
            drop(self.reading.lock());
            return Ok(self.session());
        };
        let (wanted, has_waiting) = {
            let session = self.session();
            (session.wants(), session.has_waiting())
        };
        if has_waiting {
            self.seen(Ok(Step::Receive))?;
        }
        loop {
            // Without a buffer.
            self.transport.wait_readable(until)?;
            let mut received = Buffer::new();
            let room = &mut received.room(1)[..wanted];
            let read = match reading.is_doubtful {
                true => self.transport.try_read(room),
                false => self.transport.read(room),
            };
            match read {
                Ok(count) => {
                    reading.is_doubtful =
                        count == wanted || !self.transport.is_emptied_by_short_reads();
                    received.fill(count);
                    let mut session = self.session();
                    match count {
                        0 => session.end(),
                        _ => session.receive(&mut received),
                    }
                    return Ok(session);
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => received.fill(0),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => received.fill(0),
                Err(error) => {
                    received.fill(0);
                    return Err(error);
                }
            }
        }
    }

    /// Receives what is there; kind `WouldBlock` if nothing is.
    fn try_receive(&self) -> io::Result<()> {
        let Some(mut reading) = self.reading.try_lock() else {
            return Err(io::ErrorKind::WouldBlock.into());
        };
        let wanted = self.session().wants();
        let mut received = Buffer::new();
        let read = self.transport.try_read(&mut received.room(1)[..wanted]);
        reading.is_doubtful = true;
        received.fill(*read.as_ref().unwrap_or(&0));
        match read? {
            0 => self.session().end(),
            _ => self.session().receive(&mut received),
        }
        Ok(())
    }

    fn write_by(&self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
        if slices.iter().all(|slice| slice.is_empty()) {
            return Ok(0);
        }
        if !self.is_established() {
            self.establish(None)?;
        }
        let mut sending = self.sending.lock();
        if !sending.is_empty() {
            self.send(&mut sending)?;
        }
        let taken = self.encrypt(slices, &mut sending)?;
        match self.send(&mut sending) {
            Err(error) if !is_cut(&error) => Err(error),
            // What is still to be sent is remembered, and why, if that is so again.
            _ => Ok(taken),
        }
    }

    /// Encrypts behind what is to be sent.
    #[inline]
    fn encrypt(&self, slices: &[IoSlice<'_>], sending: &mut Buffer) -> io::Result<usize> {
        let mut session = self.session();
        let taken = session.write(slices);
        session.take_outgoing(sending);
        drop(session);
        match taken {
            Ok(taken) => Ok(taken),
            Err(error) => {
                let _ = self.try_send(sending);
                Err(error.into())
            }
        }
    }

    /// Sends all there is, after something that has added to it.
    fn send_with(&self, done: Result<(), Error>, sending: &mut Buffer) -> io::Result<()> {
        self.session().take_outgoing(sending);
        match done {
            Ok(()) => self.send(sending),
            Err(error) => {
                let _ = self.try_send(sending);
                Err(error.into())
            }
        }
    }

    /// Sends all there is.
    #[inline]
    fn send(&self, sending: &mut Buffer) -> io::Result<()> {
        self.send_by(sending, T::write)
    }

    /// Sends what there is room for; kind `WouldBlock` if that is not all.
    fn try_send(&self, sending: &mut Buffer) -> io::Result<()> {
        self.send_by(sending, T::try_write)
    }

    #[inline]
    fn send_by(
        &self,
        sending: &mut Buffer,
        write: impl Fn(&T, &[u8]) -> io::Result<usize>,
    ) -> io::Result<()> {
        let mut sent = Ok(());
        while !sending.is_empty() {
            match write(&self.transport, sending.unread()) {
                Ok(0) => sent = Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => sending.consume(count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => sent = Err(error),
            }
            if sent.is_err() {
                break;
            }
        }
        if self.is_behind() != sent.is_err() {
            self.is_behind.store(sent.is_err(), Ordering::Relaxed);
        }
        sent
    }

    /// Shakes hands, unless that is done, no longer than `until` and the handshake's own time.
    #[cold]
    fn establish(&self, until: Option<Instant>) -> io::Result<()> {
        let mut handshake = self.handshake.lock();
        if self.is_established() {
            return Ok(());
        }
        let at = [handshake.until, until].into_iter().flatten().min();
        let shaken = match at {
            None => self.shake_hands(&mut handshake),
            Some(at) => maniple::deadline(at, || self.shake_hands(&mut handshake))
                .unwrap_or_else(|elapsed| Err(elapsed.into())),
        };
        match shaken {
            Err(error) if handshake.is_late() && is_elapsed(&error) => {
                handshake.place = None;
                let late = Error::HandshakeTimeout(handshake.timeout);
                Err(self.session().fail(late).into())
            }
            // It may go on.
            Err(error) if is_cut(&error) => Err(error),
            shaken => {
                handshake.place = None;
                shaken
            }
        }
    }

    fn shake_hands(&self, handshake: &mut Handshake) -> io::Result<()> {
        let mut sending = self.sending.lock();
        loop {
            if handshake.needs_place() && self.session().holds_input() {
                handshake.take_place()?;
            }
            let shaken = self.session().shake_hands();
            let is_done = *shaken.as_ref().unwrap_or(&false);
            if !is_done || !sending.is_empty() || !self.session().has_waiting() {
                self.send_with(shaken.map(drop), &mut sending)?;
            }
            if is_done {
                self.is_shaken(handshake);
                return Ok(());
            }
            if self.receive(None)?.has_ended() {
                return Err(Error::EndedInHandshake.into());
            }
        }
    }

    /// As far as it goes without waiting; whether it is done.
    #[cold]
    fn try_establish(&self) -> io::Result<bool> {
        let Some(mut handshake) = self.handshake.try_lock() else {
            return Ok(false);
        };
        let Some(mut sending) = self.sending.try_lock() else {
            return Ok(self.is_established());
        };
        while !self.is_established() {
            if handshake.needs_place() && self.session().holds_input() && !handshake.try_place() {
                return Ok(false);
            }
            let shaken = self.session().shake_hands();
            self.session().take_outgoing(&mut sending);
            let sent = self.try_send(&mut sending);
            if shaken? {
                handshake.place = None;
                self.is_shaken(&handshake);
                break;
            }
            match sent.and_then(|()| self.try_receive()) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(false),
                received => received?,
            }
            if self.session().has_ended() {
                return Err(Error::EndedInHandshake.into());
            }
        }
        Ok(true)
    }

    fn is_shaken(&self, handshake: &Handshake) {
        let info = self.session().info();
        if let Some(of_server) = &handshake.of_server {
            of_server.counts.done(info.is_resumed());
        }
        self.info.get_or_init(|| Box::new(info));
        self.is_established.store(true, Ordering::Release);
    }
}

impl Handshake {
    fn is_late(&self) -> bool {
        self.until.is_some_and(|until| until <= coarse_now())
    }

    fn needs_place(&self) -> bool {
        self.of_server.is_some() && self.place.is_none()
    }

    fn take_place(&mut self) -> io::Result<()> {
        self.has_begun = true;
        if let Some(of_server) = &self.of_server {
            match of_server.places.clone().acquire_owned() {
                Ok(place) => self.place = Some(place),
                Err(_) => {
                    check()?;
                    return Err(Elapsed.into());
                }
            }
        }
        Ok(())
    }

    fn try_place(&mut self) -> bool {
        self.has_begun = true;
        let places = self.of_server.as_ref().map(|of| of.places.clone());
        self.place = places.and_then(|places| places.try_acquire_owned().ok());
        self.place.is_some()
    }
}

/// Whether a wait was cut short, so that the connection is as good as before.
fn is_cut(error: &io::Error) -> bool {
    is_elapsed(error) || is_cancelled_error(error)
}

fn is_elapsed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::TimedOut
        && error.get_ref().is_some_and(|inner| inner.is::<Elapsed>())
}

impl<T: Transport> Drop for Stream<T> {
    fn drop(&mut self) {
        let session = self
            .session
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner);
        let handshake = self.handshake.get_mut();
        if let Some(of_server) = &handshake.of_server
            && !*self.is_established.get_mut()
            && (handshake.has_begun || session.has_failed())
        {
            of_server.counts.failed();
        }
        let sending = self.sending.get_mut();
        // Behind what has not left, it would come to nobody.
        if !*self.is_abandoned.get_mut()
            && !session.has_failed()
            && sending.is_empty()
            && session.close().is_ok()
            && session.has_outgoing()
        {
            session.take_outgoing(sending);
            // Errors say that the peer is gone, or reads nothing.
            let _ = self.transport.try_write(sending.unread());
            if !session.is_server() {
                take_tickets(&self.transport);
            }
        }
    }
}

/// Servers send tickets behind the handshake, which a client may never have read. Left unread, they would have the kernel
/// reset the connection as it is closed, and what was written before might be lost.
fn take_tickets(transport: &impl Transport) {
    for _ in 0..8 {
        match transport.try_read(&mut [0; 2048]) {
            Ok(1..) => {}
            _ => return,
        }
    }
}

impl<T: Transport> fmt::Debug for Stream<T> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("tls::Stream")
            .field("info", &self.info.get())
            .finish_non_exhaustive()
    }
}

/// The reading half of a [`Stream`]; made by [`Stream::split`].
#[derive(Debug)]
pub struct ReadHalf<T: Transport>(Arc<Stream<T>>);

/// The writing half of a [`Stream`]; made by [`Stream::split`].
#[derive(Debug)]
pub struct WriteHalf<T: Transport>(Arc<Stream<T>>);

macro_rules! halves {
    ($($half:ident, $trait:ident;)*) => {$(
        impl<T: Transport> $half<T> {
            /// The whole.
            pub fn stream(&self) -> &Stream<T> {
                &self.0
            }
        }
    )*};
}

halves! {
    ReadHalf, Read;
    WriteHalf, Write;
}

macro_rules! reader {
    ($($reader:ty, $self:ident => $stream:expr;)*) => {$(
        impl<T: Transport> Read for $reader {
            #[inline]
            fn read(&mut $self, buffer: &mut [u8]) -> io::Result<usize> {
                let stream: &Stream<T> = $stream;
                stream.read_by(stream.read_until(), |session| session.read(buffer))
            }
        }
    )*};
}

macro_rules! writer {
    ($($writer:ty, $self:ident => $stream:expr;)*) => {$(
        impl<T: Transport> Write for $writer {
            fn write(&mut $self, bytes: &[u8]) -> io::Result<usize> {
                let stream: &Stream<T> = $stream;
                stream.write_by(&[IoSlice::new(bytes)])
            }

            fn write_vectored(&mut $self, slices: &[IoSlice<'_>]) -> io::Result<usize> {
                let stream: &Stream<T> = $stream;
                stream.write_by(slices)
            }

            fn flush(&mut $self) -> io::Result<()> {
                let stream: &Stream<T> = $stream;
                let mut sending = stream.sending.lock();
                stream.send_with(Ok(()), &mut sending)
            }
        }
    )*};
}

reader! {
    Stream<T>, self => self;
    &Stream<T>, self => self;
    ReadHalf<T>, self => &self.0;
}

writer! {
    Stream<T>, self => self;
    &Stream<T>, self => self;
    WriteHalf<T>, self => &self.0;
}
