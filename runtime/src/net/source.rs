//! A descriptor that coroutines wait on: tries the call first, and waits only for what it lacks.
//!
//! The descriptor is non-blocking. Each worker on which somebody waited for it has it registered with
//! its driver, until the source is dropped; nearly always that is one worker, and finding the
//! registration is one comparison.

use std::{
    io,
    os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd},
    ptr::NonNull,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, AtomicI32, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    io::Errno,
    net::{RecvFlags, sockopt},
};

use super::simulated;
use crate::{
    coroutine::Remote,
    driver::Slot,
    error::{Elapsed, Interrupt},
    scheduler::{Worker, current_waiter, may_block_thread, now, on_waiter},
    sys::{
        event::{Direction, poll_any, to_poll},
        spin::SpinLock,
    },
    wait::{self, Interruptible, Reason, Waited},
    waiter::Waiter,
};

pub(crate) struct Source {
    /// `None` once it was given back.
    fd: Option<OwnedFd>,
    /// What others may have done to the socket: [`STRANGE`], [`LINGERS`]; and in a simulated world, from [`END`] on,
    /// which end of a connection it is.
    marks: AtomicU32,
    /// The latest registration, as `worker id << 32 | slot`; 0 for none, since worker ids start at 1.
    latest: AtomicU64,
    registrations: SpinLock<Registrations>,
    /// What it shares with clones. Made when there are any, or something to note.
    shared: OnceLock<Arc<Shared>>,
}

/// What handles of one file have to know of each other.
#[derive(Default)]
struct Shared {
    /// The error that ended the connection, 0 as yet.
    fate: AtomicI32,
    /// Whether one of them may have told the socket to linger.
    lingers: AtomicBool,
}

/// Somebody else has had the descriptor in hand, so that reads may have learnt to end early: by TLS in the
/// kernel, by bytes that were taken out of band.
const STRANGE: u32 = 1;
/// The socket may have been told to linger, so that closing it may block.
const LINGERS: u32 = 2;
/// By so many bits further.
const END: u32 = 8;

#[derive(Default)]
struct Registrations {
    first: Option<(Arc<Remote>, Slot)>,
    more: Vec<(Arc<Remote>, Slot)>,
}

impl Registrations {
    fn iter(&self) -> impl Iterator<Item = &(Arc<Remote>, Slot)> {
        self.first.iter().chain(&self.more)
    }

    fn remove(&mut self, worker_id: u32) {
        self.more.retain(|(home, _)| home.worker_id != worker_id);
        if matches!(&self.first, Some((home, _)) if home.worker_id == worker_id) {
            self.first = self.more.pop();
        }
    }
}

/// How far an operation got, for the readiness bit.
pub(crate) enum Moved<T> {
    /// As far as it could go: more may be there.
    Fully(T),
    /// A read has filled its buffer: more may be there, or not.
    Filled(T),
    /// Less than it asked for: nothing more is there.
    Short(T),
}

impl<T> Moved<T> {
    /// A datagram says nothing about whether another is there; one that was peeked at certainly is.
    pub(super) fn of_datagram(value: T, flags: RecvFlags) -> Self {
        match flags.contains(RecvFlags::PEEK) {
            true => Moved::Fully(value),
            false => Moved::Filled(value),
        }
    }
}

impl Source {
    /// Takes over a non-blocking descriptor of our own making.
    pub(crate) fn new(fd: OwnedFd) -> Self {
        Self {
            fd: Some(fd),
            marks: AtomicU32::new(0),
            latest: AtomicU64::new(0),
            registrations: SpinLock::new(Registrations::default()),
            shared: OnceLock::new(),
        }
    }

    /// Takes over a non-blocking descriptor that somebody else has made.
    pub(crate) fn foreign(fd: OwnedFd) -> Self {
        let source = Self::new(fd);
        source.mark(STRANGE | LINGERS);
        source
    }

    /// Takes over what a listener has accepted, which lingers as the listener does.
    pub(crate) fn accepted(fd: OwnedFd, listener: &Source) -> Self {
        let source = Self::new(fd);
        if listener.may_linger() {
            source.mark(LINGERS);
        }
        source.note_end();
        source
    }

    /// A second handle to the same file.
    pub(crate) fn try_clone(&self) -> io::Result<Self> {
        // Either may read from the file what the other does not hear of.
        self.mark(STRANGE);
        simulated::take_descriptor()?;
        let clone = Self::new(self.as_fd().try_clone_to_owned()?);
        clone.mark(STRANGE);
        let shared = self.shared.get_or_init(Arc::default);
        if self.marks.fetch_or(STRANGE, Ordering::AcqRel) & LINGERS != 0 {
            shared.lingers.store(true, Ordering::Relaxed);
        }
        // A new one's is not set.
        _ = clone.shared.set(shared.clone());
        Ok(clone)
    }

    /// For a user, who may do anything with it but close it.
    #[inline]
    pub(crate) fn lend(&self) -> BorrowedFd<'_> {
        self.mark(STRANGE | LINGERS);
        self.as_fd()
    }

    /// For a user who only waits for it.
    #[inline]
    pub(crate) fn fd_to_wait_for(&self) -> BorrowedFd<'_> {
        self.as_fd()
    }

    /// The socket has been told to linger.
    pub(crate) fn lingers(&self) {
        self.mark(LINGERS);
    }

    /// Whether it, or a clone, may have been.
    #[inline]
    fn may_linger(&self) -> bool {
        let of_clone = |shared: &Arc<Shared>| shared.lingers.load(Ordering::Relaxed);
        self.marks.load(Ordering::Relaxed) & LINGERS != 0 || self.shared.get().is_some_and(of_clone)
    }

    #[inline]
    fn is_strange(&self) -> bool {
        self.marks.load(Ordering::Relaxed) & STRANGE != 0
    }

    #[inline]
    fn mark(&self, marks: u32) {
        let before = self.marks.load(Ordering::Relaxed);
        if before & marks != marks {
            // With that of `try_clone`: either this finds what clones share, or that one finds the mark.
            self.marks.fetch_or(marks, Ordering::AcqRel);
            if marks & LINGERS != 0
                && let Some(shared) = self.shared.get()
            {
                shared.lingers.store(true, Ordering::Relaxed);
            }
            if before >> END != 0 && marks & STRANGE != 0 {
                simulated::ask_always();
            }
        }
    }

    /// Takes over a socket that a world may have made.
    pub(in crate::net) fn of_world(fd: OwnedFd) -> Self {
        let source = Self::new(fd);
        source.note_end();
        source
    }

    /// Takes over what listens in a world, which is to hear of its end: connections end with it.
    pub(in crate::net) fn listening_in_world(fd: OwnedFd) -> Self {
        let source = Self::new(fd);
        source.marks.store(u32::MAX << END, Ordering::Relaxed);
        source
    }

    /// Finds out which end of a connection of a world it is.
    fn note_end(&self) {
        let end = simulated::end_of(self.as_fd());
        // Beyond these many the kernel has all to do.
        if end < u32::MAX >> END {
            self.marks.fetch_or(end << END, Ordering::Relaxed);
        }
    }

    /// Which end of a connection of a world it is, if it is one of which the world hears all.
    #[inline]
    pub(in crate::net) fn end(&self) -> Option<u32> {
        match self.marks.load(Ordering::Relaxed) >> END {
            0 => None,
            end => self.end_unless_strange(end),
        }
    }

    #[cold]
    fn end_unless_strange(&self, end: u32) -> Option<u32> {
        (!self.is_strange()).then_some(end)
    }

    /// The kernel is asked to do something with it that a world is to hear of.
    #[inline]
    pub(in crate::net) fn ask(&self) {
        if self.marks.load(Ordering::Relaxed) >> END != 0 {
            simulated::ask();
        }
    }

    /// What a read from a connection returns that found its end. The kernel reports what ended it to a single call,
    /// be it a write, and to reads behind that a clean end: they get the error too.
    #[cold]
    pub(crate) fn at_end(&self) -> rustix::io::Result<Moved<usize>> {
        if let Some(errno) = simulated::fate(self.as_fd()) {
            return Err(errno);
        }
        match self.fate() {
            0 => Ok(Moved::Fully(0)),
            raw => Err(Errno::from_raw_os_error(raw)),
        }
    }

    /// The error that ended the connection, 0 as yet.
    fn fate(&self) -> i32 {
        let shared = self.shared.get();
        shared.map_or(0, |shared| shared.fate.load(Ordering::Relaxed))
    }

    /// Remembers an error, if it is one that ends connections; which error it is.
    #[cold]
    fn note(&self, mut errno: Errno) -> Errno {
        if errno == Errno::PIPE
            && self.fate() == 0
            && let Some(fate) = simulated::fate(self.as_fd())
        {
            // As the kernel does, the first call after it is told what it was.
            errno = fate;
        }
        if ENDINGS.contains(&errno) {
            let shared = self.shared.get_or_init(Arc::default);
            shared.fate.store(errno.raw_os_error(), Ordering::Relaxed);
        }
        errno
    }

    /// The socket's pending error, which asking takes.
    pub(crate) fn take_error(&self) -> io::Result<Option<io::Error>> {
        let error = sockopt::socket_error(self.as_fd())?.err();
        Ok(error.map(|errno| self.note(errno).into()))
    }

    #[cold]
    fn close_marked(&self, marks: u32) {
        if marks >> END != 0 {
            simulated::ask();
        }
        if self.may_linger() && Worker::current().is_some() {
            self.close_at_once();
        }
    }

    /// Keeps a close that would wait from holding a worker. The kernel sends what is unsent all the same.
    #[cold]
    fn close_at_once(&self) {
        if let Ok(Some(time)) = sockopt::socket_linger(self.as_fd())
            && !time.is_zero()
        {
            _ = sockopt::set_socket_linger(self.as_fd(), None);
        }
    }

    /// Gives the descriptor back, waited for by nobody.
    pub(crate) fn into_fd(mut self) -> OwnedFd {
        self.mark(STRANGE);
        self.deregister();
        self.fd.take().expect(OPEN)
    }

    /// Does `operation` once. One that would have to wait is an error of kind `WouldBlock`, and a caller that waits for
    /// readiness next does wait: what was known of it is spent.
    pub(crate) fn try_io<T>(
        &self,
        direction: Direction,
        operation: impl FnOnce(BorrowedFd<'_>) -> rustix::io::Result<T>,
    ) -> io::Result<T> {
        let outcome = operation(self.as_fd());
        if let Some(worker) = Worker::of_coroutine() {
            match outcome {
                Err(Errno::AGAIN) => {
                    if let Some(slot) = self.slot_on(worker) {
                        worker.with_driver(|driver| driver.would_block(slot, direction));
                    }
                }
                _ => worker.spend(),
            }
        }
        outcome.map_err(|errno| self.note(errno).into())
    }

    /// Repeats `operation` until it does not have to wait any more.
    #[inline]
    pub(crate) fn io<T>(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
        mut operation: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<Moved<T>>,
    ) -> io::Result<T> {
        let Some(worker) = Worker::of_coroutine() else {
            return self.io_on_thread(direction, timeout, operation);
        };
        wait::check()?;
        let mut until = None;
        loop {
            let slot = self.slot_on(worker);
            let try_now = match slot {
                Some(slot) => worker.with_driver(|driver| match direction {
                    Direction::Read => driver.is_worth_reading(slot, || worker.recent()),
                    Direction::Write => driver.is_ready(slot, direction),
                }),
                None => true,
            };
            if try_now {
                match operation(self.as_fd()) {
                    Ok(Moved::Fully(value)) => {
                        worker.spend();
                        return Ok(value);
                    }
                    Ok(Moved::Filled(value)) => {
                        if let Some(slot) = slot {
                            worker.with_driver(|driver| driver.came_filled(slot));
                        }
                        worker.spend();
                        return Ok(value);
                    }
                    Ok(Moved::Short(value)) => {
                        if let Some(slot) = slot {
                            let strange = self.is_strange();
                            worker
                                .with_driver(|driver| driver.came_short(slot, direction, strange));
                        }
                        worker.spend();
                        return Ok(value);
                    }
                    Err(Errno::INTR) => continue,
                    Err(Errno::AGAIN) => {
                        if let Some(slot) = slot
                            && worker.with_driver(|driver| driver.would_block(slot, direction))
                        {
                            continue;
                        }
                    }
                    Err(errno) => {
                        let errno = self.note(errno);
                        // A caller that tries again and again lets others run in between.
                        worker.spend();
                        return Err(errno.into());
                    }
                }
            }
            if until.is_none() {
                until = self::until(timeout);
            }
            self.wait_on(worker, slot, direction, until)?;
        }
    }

    #[cold]
    fn io_on_thread<T>(
        &self,
        direction: Direction,
        timeout: Option<Duration>,
        mut operation: impl FnMut(BorrowedFd<'_>) -> rustix::io::Result<Moved<T>>,
    ) -> io::Result<T> {
        let until = until(timeout);
        loop {
            wait::check()?;
            match operation(self.as_fd()) {
                Ok(Moved::Fully(value) | Moved::Filled(value) | Moved::Short(value)) => {
                    return Ok(value);
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => block_thread(self.as_fd(), direction, until)?,
                Err(errno) => return Err(self.note(errno).into()),
            }
        }
    }

    /// Waits until the descriptor is ready; a coroutine that finds it remembered as ready goes on at once.
    #[inline]
    pub(crate) fn wait_ready(
        &self,
        direction: Direction,
        until: Option<Instant>,
    ) -> io::Result<()> {
        wait::check()?;
        let Some(worker) = Worker::of_coroutine() else {
            return block_thread(self.as_fd(), direction, until);
        };
        loop {
            let slot = self.slot_on(worker);
            if let Some(slot) = slot
                && worker.with_driver(|driver| driver.is_ready(slot, direction))
            {
                return Ok(());
            }
            if self.wait_on(worker, slot, direction, until)? {
                return Ok(());
            }
        }
    }

    /// Waits until the descriptor is ready in one direction or the other.
    pub(crate) fn wait_either(&self, until: Option<Instant>) -> io::Result<()> {
        let both = [(self, Direction::Read), (self, Direction::Write)];
        wait_any_for(Reason::Either(self.as_fd().as_raw_fd()), &both, until).map(drop)
    }

    /// One wait; false if something else than the descriptor's becoming ready has ended it. Its registration may
    /// have been given up meanwhile.
    fn wait_on(
        &self,
        worker: &Worker,
        slot: Option<Slot>,
        direction: Direction,
        until: Option<Instant>,
    ) -> io::Result<bool> {
        let slot = match slot {
            Some(slot) => slot,
            None => self.register(worker)?,
        };
        wait_on_slot(worker, slot, self.as_fd(), direction, until)
    }

    /// Whether a read may find something: no, if the calling worker watches it and has heard of nothing since a read
    /// emptied it.
    #[inline]
    pub(crate) fn may_be_readable(&self) -> bool {
        let Some(worker) = Worker::of_coroutine() else {
            return true;
        };
        self.slot_on(worker)
            .is_none_or(|slot| worker.with_driver(|driver| driver.is_ready(slot, Direction::Read)))
    }

    /// Whether the calling worker knows it to be ready.
    fn is_ready_on(&self, worker: &Worker, direction: Direction) -> bool {
        self.slot_on(worker)
            .is_some_and(|slot| worker.with_driver(|driver| driver.is_ready(slot, direction)))
    }

    #[inline]
    fn slot_on(&self, worker: &Worker) -> Option<Slot> {
        let latest = self.latest.load(Ordering::Relaxed);
        if (latest >> 32) as u32 == worker.id() {
            return Some(Slot(latest as u32));
        }
        if latest == 0 {
            return None;
        }
        self.slot_on_other(worker)
    }

    #[cold]
    fn slot_on_other(&self, worker: &Worker) -> Option<Slot> {
        let registrations = self.registrations.lock();
        registrations
            .iter()
            .find(|(home, _)| home.worker_id == worker.id())
            .map(|(_, slot)| *slot)
    }

    #[cold]
    fn register(&self, worker: &Worker) -> io::Result<Slot> {
        simulated::may_fail(&[Errno::NOMEM, Errno::NOSPC])?;
        let slot = worker.with_driver(|driver| driver.register(self.as_fd()))?;
        let entry = (worker.home().clone(), slot);
        let mut registrations = self.registrations.lock();
        if registrations.first.is_none() {
            registrations.first = Some(entry);
        } else {
            registrations.more.push(entry);
        }
        let latest = u64::from(worker.id()) << 32 | u64::from(slot.0);
        self.latest.store(latest, Ordering::Relaxed);
        Ok(slot)
    }

    /// Takes the descriptor out of what the calling worker watches, unless somebody waits for it there.
    /// The next wait registers it again, with its own worker.
    pub(crate) fn unwatch(&self) {
        let Some(worker) = Worker::current() else {
            return;
        };
        let Some(slot) = self.slot_on(worker) else {
            return;
        };
        let fd = self.as_fd();
        let unwatched = worker.with_driver(|driver| {
            let unawaited = driver.is_unawaited(slot);
            if unawaited {
                driver.remove(slot, fd);
            }
            unawaited
        });
        if unwatched {
            let mut registrations = self.registrations.lock();
            registrations.remove(worker.id());
            let latest = registrations.iter().next();
            let latest = latest.map_or(0, |(home, slot)| {
                u64::from(home.worker_id) << 32 | u64::from(slot.0)
            });
            self.latest.store(latest, Ordering::Relaxed);
        }
    }

    fn deregister(&self) {
        if self.latest.swap(0, Ordering::Relaxed) == 0 {
            return;
        }
        let registrations = std::mem::take(&mut *self.registrations.lock());
        let here = Worker::current();
        for (home, slot) in registrations.iter() {
            match here.filter(|worker| worker.id() == home.worker_id) {
                Some(worker) => {
                    worker.with_driver(|driver| driver.remove(*slot, self.as_fd()));
                }
                None => home.registrar.retire(*slot, self.as_fd()),
            }
        }
    }
}

impl AsFd for Source {
    #[inline]
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_ref().expect(OPEN).as_fd()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        if self.fd.is_none() {
            return;
        }
        self.deregister();
        let marks = self.marks.load(Ordering::Relaxed);
        if marks != 0 {
            self.close_marked(marks);
        }
    }
}

/// When a timeout that begins now is over; `None`, too, if that is past all time.
pub(in crate::net) fn until(timeout: Option<Duration>) -> Option<Instant> {
    timeout.and_then(|timeout| now().checked_add(timeout))
}

/// Only what takes the source itself takes its descriptor.
const OPEN: &str = "a source has its descriptor";

/// Errors that a connection ends with. `EPIPE` is none: it follows one's own shutdown as well.
const ENDINGS: [Errno; 4] = [
    Errno::CONNRESET,
    Errno::TIMEDOUT,
    Errno::HOSTUNREACH,
    Errno::NETUNREACH,
];

/// One wait; whether the descriptor became ready, rather than something else that woke the caller.
fn wait_on_slot(
    worker: &Worker,
    slot: Slot,
    fd: BorrowedFd<'_>,
    direction: Direction,
    until: Option<Instant>,
) -> io::Result<bool> {
    let reason = reason(fd, direction);
    let waiter = current_waiter();
    let waited = wait::wait(
        reason,
        until,
        Interruptible::Yes,
        |waiter| {
            waiter.claim.arm(true);
            worker.with_driver(|driver| {
                driver.add_waiter(slot, direction, NonNull::from(waiter));
            });
            true
        },
        || worker.with_driver(|driver| driver.remove_waiter(slot, direction, waiter)),
    );
    match waited {
        Waited::AtOnce | Waited::Notified => Ok(true),
        Waited::TimedOut => Err(Elapsed.into()),
        Waited::Interrupted(interrupt) => Err(interrupt.into()),
        Waited::Again => Ok(false),
    }
}

/// Waits until one of the descriptors is ready in its direction, and returns which.
pub(crate) fn wait_any(of: &[(&Source, Direction)], until: Option<Instant>) -> io::Result<usize> {
    let (first, direction) = of.first().expect("there is something to wait for");
    wait_any_for(reason(first.as_fd(), *direction), of, until)
}

fn wait_any_for(
    reason: Reason,
    of: &[(&Source, Direction)],
    until: Option<Instant>,
) -> io::Result<usize> {
    wait::check()?;
    let Some(worker) = Worker::of_coroutine() else {
        let mut fds: Vec<_> = (of.iter())
            .map(|(source, direction)| to_poll(source.as_fd(), *direction))
            .collect();
        return block_thread_with(&reason, until, |slice| poll_any(&mut fds, slice));
    };
    loop {
        let ready =
            (of.iter()).position(|(source, direction)| source.is_ready_on(worker, *direction));
        if let Some(ready) = ready {
            return Ok(ready);
        }
        wait_on_all(worker, reason, of, until)?;
    }
}

/// One wait by one waiter in several places.
fn wait_on_all(
    worker: &Worker,
    reason: Reason,
    of: &[(&Source, Direction)],
    until: Option<Instant>,
) -> io::Result<()> {
    for (source, _) in of {
        if source.slot_on(worker).is_none() {
            source.register(worker)?;
        }
    }
    // A registration stays while somebody waits there.
    let places = || {
        let place = |(source, direction): &(&Source, Direction)| {
            source.slot_on(worker).map(|slot| (slot, *direction))
        };
        of.iter().filter_map(place)
    };
    let waiter = current_waiter();
    let forget = || {
        worker.with_driver(|driver| {
            for (slot, direction) in places() {
                driver.remove_waiter(slot, direction, waiter);
            }
        });
    };
    let waited = wait::wait(
        reason,
        until,
        Interruptible::Yes,
        |waiter| {
            waiter.claim.arm(true);
            worker.with_driver(|driver| {
                for (slot, direction) in places() {
                    driver.add_waiter(slot, direction, NonNull::from(waiter));
                }
            });
            true
        },
        forget,
    );
    match waited {
        Waited::Notified => {
            // One place has handed it back; it must not stay in the others.
            forget();
            Ok(())
        }
        Waited::AtOnce | Waited::Again => Ok(()),
        Waited::TimedOut => Err(Elapsed.into()),
        Waited::Interrupted(interrupt) => Err(interrupt.into()),
    }
}

/// One wait for any of the places, or for what `arm` makes the waiter known to and `forget` takes it back
/// from. It may end for nothing.
pub(super) fn wait_beside(
    of: &[(&Source, Direction)],
    until: Option<Instant>,
    arm: impl FnOnce(&Waiter) -> bool,
    forget: impl Fn(),
) -> io::Result<()> {
    let Some(worker) = Worker::of_coroutine() else {
        // A thread waits for one thing at a time, so that it looks at the sockets now and then.
        let look = now() + LOOK;
        let until = until.map_or(look, |until| until.min(look));
        let reason = Reason::Future;
        return match wait::wait(reason, Some(until), Interruptible::Yes, arm, &forget) {
            Waited::Interrupted(interrupt) => Err(interrupt.into()),
            _ => Ok(()),
        };
    };
    for (source, direction) in of {
        if source.slot_on(worker).is_none() {
            source.register(worker)?;
        }
        if source.is_ready_on(worker, *direction) {
            return Ok(());
        }
    }
    let places = || {
        let place = |(source, direction): &(&Source, Direction)| {
            source.slot_on(worker).map(|slot| (slot, *direction))
        };
        of.iter().filter_map(place)
    };
    let waiter = current_waiter();
    let leave = || {
        worker.with_driver(|driver| {
            for (slot, direction) in places() {
                driver.remove_waiter(slot, direction, waiter);
            }
        });
    };
    let waited = wait::wait(
        Reason::Future,
        until,
        Interruptible::Yes,
        |waiter| {
            if !arm(waiter) {
                return false;
            }
            worker.with_driver(|driver| {
                for (slot, direction) in places() {
                    driver.add_waiter(slot, direction, NonNull::from(waiter));
                }
            });
            true
        },
        || {
            forget();
            leave();
        },
    );
    match waited {
        Waited::Notified => {
            // One of them has ended it; it must not stay with the others.
            forget();
            leave();
            Ok(())
        }
        // What ended the wait before it began may have been at it for long.
        Waited::AtOnce => {
            worker.spend();
            wait::check().map_err(Into::into)
        }
        Waited::Again | Waited::TimedOut => Ok(()),
        Waited::Interrupted(interrupt) => Err(interrupt.into()),
    }
}

/// How often a plain thread looks at sockets while it waits for a waker too.
const LOOK: Duration = Duration::from_millis(5);

/// Blocks the plain thread until the descriptor is ready, `until`, or the scope's deadline.
#[cold]
fn block_thread(
    fd: BorrowedFd<'_>,
    direction: Direction,
    until: Option<Instant>,
) -> io::Result<()> {
    let mut fds = [to_poll(fd, direction)];
    let poll = |slice| poll_any(&mut fds, slice);
    block_thread_with(&reason(fd, direction), until, poll).map(drop)
}

/// Blocks the plain thread until `poll` says which descriptor is ready, `until`, or the scope's deadline.
#[cold]
fn block_thread_with(
    reason: &Reason,
    until: Option<Instant>,
    mut poll: impl FnMut(Option<Duration>) -> io::Result<Option<usize>>,
) -> io::Result<usize> {
    may_block_thread(reason);
    loop {
        crate::cancel::check()?;
        let (cancellable, scope_deadline) =
            on_waiter(|waiter| (!waiter.is_in_own_scope(), waiter.deadline()));
        let earliest = match (until, scope_deadline) {
            (Some(own), Some(scope)) => Some(own.min(scope)),
            (own, scope) => own.or(scope),
        };
        let left = earliest.map(|at| at.saturating_duration_since(now()));
        // A cancellation from another thread cannot interrupt the poll, so it is looked for.
        let slice = match left {
            _ if !cancellable => left,
            Some(left) => Some(left.min(CANCEL_CHECK)),
            None => Some(CANCEL_CHECK),
        };
        if let Some(ready) = poll(slice)? {
            return Ok(ready);
        }
        if left.is_some_and(|left| left.is_zero()) {
            if scope_deadline.is_some_and(|at| at <= now()) {
                on_waiter(Waiter::note_cut);
            }
            return Err(Interrupt::Elapsed.into());
        }
    }
}

fn reason(fd: BorrowedFd<'_>, direction: Direction) -> Reason {
    match direction {
        Direction::Read => Reason::Readable(fd.as_raw_fd()),
        Direction::Write => Reason::Writable(fd.as_raw_fd()),
    }
}

/// How long a plain thread may take to notice that its scope was cancelled.
const CANCEL_CHECK: Duration = Duration::from_millis(100);

/// Waits until `fd` is readable, has hung up or failed. It may return early, as poll(2) may.
///
/// For descriptors that something else reads: pipes, C libraries. The descriptor must be one that epoll
/// can watch, which regular files are not. It is registered for this one wait; sockets of this crate
/// avoid that cost.
///
/// # Errors
/// If the descriptor cannot be watched, the scope is cancelled or its deadline passes.
pub fn wait_readable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_once(fd, Direction::Read)
}

/// Waits until a descriptor is writable, like [`wait_readable`] for reading.
///
/// # Errors
/// If the descriptor cannot be watched, the scope is cancelled or its deadline passes.
pub fn wait_writable(fd: BorrowedFd<'_>) -> io::Result<()> {
    wait_once(fd, Direction::Write)
}

fn wait_once(fd: BorrowedFd<'_>, direction: Direction) -> io::Result<()> {
    wait::check()?;
    let Some(worker) = Worker::of_coroutine() else {
        return block_thread(fd, direction, None);
    };
    // A descriptor of its own, so that several coroutines may wait for the same file at once.
    simulated::take_descriptor()?;
    let own = fd.try_clone_to_owned()?;
    simulated::may_fail(&[Errno::NOMEM, Errno::NOSPC])?;
    let slot = worker.with_driver(|driver| driver.register(own.as_fd()))?;
    let result = loop {
        match wait_on_slot(worker, slot, own.as_fd(), direction, None) {
            Ok(true) => break Ok(()),
            Err(error) => break Err(error),
            // The edge may have come while nobody was registered.
            Ok(false) if worker.with_driver(|driver| driver.is_ready(slot, direction)) => {
                break Ok(());
            }
            Ok(false) => {}
        }
    };
    worker.with_driver(|driver| driver.remove(slot, own.as_fd()));
    result
}
