//! Readiness by epoll: edge-triggered, a descriptor registered once, its readiness remembered.
//!
//! A descriptor is added for both directions at its first wait and stays until it is closed, so a
//! wait costs no `epoll_ctl`. The kernel reports edges; between them a bit per direction says whether
//! the last edge has been used up. The bit is cleared by the caller that ran into `EAGAIN`, or read or wrote
//! less than it asked for: on a stream that says the same (epoll(7), question 9), without the extra
//! call. After a hang-up or an error the descriptor counts as ready for good, since no edge follows.
//!
//! A read also ends at a byte that the peer has marked as urgent (`MSG_OOB`), however much lies behind it,
//! and may even fail there with `EAGAIN` if the thread has a signal pending. The kernel reports such a mark,
//! by `EPOLLPRI`, no later than what lies behind it. From then on neither a short read nor one failure
//! is believed, until a second failure says that the queue, and so the mark, has been read.
//!
//! A read that filled its buffer says nothing about what is left. Where the [predictor](super::read_predictor)
//! says that the next would fail, it is [deferred](Deferred): the reader waits for an edge, and tries only if
//! none has come when the worker has nothing else to do, or after [`LONGEST_DEFERRAL`].
//!
//! All of this is one thread's. A descriptor that is used on several workers is registered with each
//! of them, and each gets its edges and keeps its own bits.

use std::{
    collections::VecDeque,
    io,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    buffer::spare_capacity,
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
};

use super::{Polled, Slot, Standby, Token, lent::Lent, read_predictor::ReadPredictor};
use crate::sys::{
    event::{Bell, Direction, refused, timespec},
    spin::SpinLock,
};

pub(crate) struct Epoll {
    registrar: Arc<Registrar>,
    slots: Vec<Registration>,
    free: Vec<u32>,
    /// What events may come for: registrations, and waits for what others own.
    registered: usize,
    events: Vec<Event>,
    deferred: VecDeque<Deferred>,
    lent: Lent,
}

/// One cache line: with thousands of connections each event meets a cold one.
#[derive(Default)]
#[repr(align(64))]
struct Registration {
    /// Tells an event of this registration from one of the slot's former owner.
    generation: u32,
    read: Side,
    write: Side,
}

#[derive(Default)]
struct Side {
    ready: bool,
    /// Ready for good: no edge follows a hang-up or an error.
    ended: bool,
    /// A mark lies ahead at which reads end early.
    marked: bool,
    predictor: ReadPredictor,
    waiter: Option<Token>,
    /// Further waiters of a descriptor that is shared by several.
    #[expect(
        clippy::box_collection,
        reason = "one word in place of three, and rarely there"
    )]
    more: Option<Box<Vec<Token>>>,
}

const _: () = assert!(size_of::<Registration>() == 64);

/// A read that was put off: its side is taken for not ready although the last edge may not have been used up.
#[derive(Clone, Copy, Debug)]
struct Deferred {
    slot: Slot,
    generation: u32,
    since: Instant,
}

/// What a wrong guess may cost a reader while its worker is busy.
const LONGEST_DEFERRAL: Duration = Duration::from_millis(1);

/// Events taken from the kernel at a time; more wait for the next call.
const EVENTS_AT_ONCE: usize = 512;

/// What a descriptor is registered for.
const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::PRI)
    .union(EventFlags::OUT)
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

/// The bell's event carries what no slot can, and so does that of the set that all workers share.
const BELL: u64 = u64::MAX;
const STANDBY: u64 = u64::MAX - 1;

impl Epoll {
    /// The driver that others take descriptors out of with `registrar`.
    pub(super) fn of(registrar: Arc<Registrar>) -> Self {
        Self {
            registrar,
            slots: Vec::new(),
            free: Vec::new(),
            registered: 0,
            events: Vec::with_capacity(EVENTS_AT_ONCE),
            deferred: VecDeque::new(),
            lent: Lent::default(),
        }
    }

    /// Whether any descriptor is registered, that is, whether polling can find anything.
    #[inline]
    pub(super) fn is_idle(&self) -> bool {
        self.registered == 0
    }

    /// Whether a read was put off, so that a poll does not wait.
    pub(super) fn has_deferred(&self) -> bool {
        !self.deferred.is_empty()
    }

    /// How many descriptors are registered.
    pub(super) fn len(&self) -> usize {
        self.registered
    }

    /// Registers `fd` for both directions; it counts as not ready until the kernel says so, which it
    /// does at the next poll if it is ready now.
    pub(super) fn register(&mut self, fd: BorrowedFd<'_>) -> io::Result<Slot> {
        let index = match self.free.pop() {
            Some(index) => index,
            None => {
                self.slots.push(Registration::default());
                u32::try_from(self.slots.len() - 1).expect("fewer descriptors than 2^32")
            }
        };
        let generation = self.slots[index as usize].generation;
        let data = u64::from(generation) << 32 | u64::from(index);
        let (data, flags) = (EventData::new_u64(data), WATCHED);
        let was_lent = self.lent.take_back(fd);
        let added = match epoll::add(&self.registrar.epoll, fd, data, flags) {
            Err(Errno::EXIST) if was_lent => epoll::modify(&self.registrar.epoll, fd, data, flags),
            added => added,
        };
        if let Err(errno) = added {
            self.free.push(index);
            return Err(errno.into());
        }
        self.registered += 1;
        Ok(Slot(index))
    }

    /// Forgets a registration whose descriptor has been taken out of the epoll set.
    fn forget(&mut self, slot: Slot) {
        let registration = &mut self.slots[slot.0 as usize];
        debug_assert!(registration.read.waiter.is_none() && registration.write.waiter.is_none());
        let generation = registration.generation.wrapping_add(1);
        // The last indices and generation together would be the marks of the bell and of standby.
        *registration = Registration {
            generation: generation & (u32::MAX >> 1),
            ..Registration::default()
        };
        self.free.push(slot.0);
        self.registered -= 1;
    }

    /// Forgets those whose descriptors other threads have taken out.
    #[cold]
    fn forget_retired(&mut self) {
        for slot in self.registrar.take_retired() {
            self.forget(slot);
        }
    }

    /// Takes a registration out, whose descriptor is open still.
    pub(super) fn remove(&mut self, slot: Slot, fd: BorrowedFd<'_>) {
        self.registrar.unwatch(fd);
        self.forget(slot);
    }

    /// Has the next event of `fd` that is one of `events` hand back `waiter`.
    pub(super) fn watch_lent(
        &mut self,
        fd: BorrowedFd<'_>,
        events: u32,
        waiter: Token,
    ) -> rustix::io::Result<()> {
        let set = &self.registrar.epoll;
        self.lent.watch(set, fd, events, waiter)?;
        self.registered += 1;
        Ok(())
    }

    /// Takes a waiter out that something else has woken; does nothing if it was handed back.
    pub(super) fn forget_lent(&mut self, fd: BorrowedFd<'_>, waiter: Token) {
        self.registered -= self.lent.forget(fd, waiter);
    }

    /// What the event said that has handed back who waited for what others own; nothing, if that is not certain.
    pub(super) fn came_lent(&self, fd: BorrowedFd<'_>) -> u32 {
        self.lent.came(fd)
    }

    /// Whether nobody waits for it.
    pub(super) fn is_unawaited(&self, slot: Slot) -> bool {
        let Registration { read, write, .. } = &self.slots[slot.0 as usize];
        read.waiter.is_none() && write.waiter.is_none()
    }

    #[inline]
    pub(super) fn is_ready(&self, slot: Slot, direction: Direction) -> bool {
        self.slots[slot.0 as usize].side(direction).ready
    }

    /// A call moved less than it could have: not ready until the next edge, unless none will follow, the call may
    /// have ended at a mark, or `doubtful` says that there may be other reasons.
    #[inline]
    pub(super) fn came_short(&mut self, slot: Slot, direction: Direction, doubtful: bool) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        side.ready = side.ended | side.marked | doubtful;
        side.predictor.found(doubtful);
    }

    /// A read filled its buffer: there may be more, or not.
    #[inline]
    pub(super) fn came_filled(&mut self, slot: Slot) {
        self.slots[slot.0 as usize].read.predictor.found(true);
    }

    /// Whether to try a read now. If it is put off, the reader has to wait.
    #[inline]
    pub(super) fn is_worth_reading(&mut self, slot: Slot, now: impl FnOnce() -> Instant) -> bool {
        let registration = &mut self.slots[slot.0 as usize];
        let side = &mut registration.read;
        if side.ready && !side.ended && side.predictor.puts_off() {
            side.ready = false;
            self.deferred.push_back(Deferred {
                slot,
                generation: registration.generation,
                since: now(),
            });
            return false;
        }
        side.ready
    }

    /// A call would have blocked: not ready until the next edge, whatever was thought before. Returns whether
    /// it is to be tried once more all the same, since a mark was reported.
    #[inline]
    pub(super) fn would_block(&mut self, slot: Slot, direction: Direction) -> bool {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        side.ready = side.marked;
        side.marked = false;
        side.ended = false;
        side.predictor.failed();
        side.ready
    }

    #[inline]
    pub(super) fn add_waiter(&mut self, slot: Slot, direction: Direction, waiter: Token) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        match side.waiter {
            None => side.waiter = Some(waiter),
            Some(_) => side.more.get_or_insert_default().push(waiter),
        }
    }

    /// Takes a waiter out that was woken by something else.
    pub(super) fn remove_waiter(&mut self, slot: Slot, direction: Direction, waiter: Token) {
        let side = self.slots[slot.0 as usize].side_mut(direction);
        if side.waiter == Some(waiter) {
            side.waiter = side.more.as_mut().and_then(|more| more.pop());
        } else if let Some(more) = &mut side.more {
            more.retain(|other| *other != waiter);
        }
    }

    /// Waits for events, at most for `timeout` (`None`: for ever), and hands back who waited for them.
    ///
    /// Does not wait while a read is deferred: its reader is handed back if nothing else has happened.
    pub(super) fn poll(
        &mut self,
        timeout: Option<Duration>,
        now: impl FnOnce() -> Instant,
        mut wake: impl FnMut(Token),
    ) -> io::Result<Polled> {
        if self.registrar.has_retired.load(Ordering::Relaxed) {
            self.forget_retired();
        }
        let mut polled = Polled::default();
        let may_wait = timeout != Some(Duration::ZERO);
        let any_deferred = !self.deferred.is_empty();
        let timeout = match any_deferred {
            true => Some(Duration::ZERO),
            false => timeout,
        };
        let timeout = timeout.map(timespec);
        self.events.clear();
        match epoll::wait(
            &self.registrar.epoll,
            spare_capacity(&mut self.events),
            timeout.as_ref(),
        ) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(errno.into()),
        }
        for event in &self.events {
            let data = event.data.u64();
            if data >= STANDBY {
                polled.standby |= data == STANDBY;
                continue;
            }
            let (index, generation) = (data as u32, (data >> 32) as u32);
            let registration = self.slots.get_mut(index as usize);
            let Some(registration) = registration.filter(|it| it.generation == generation) else {
                self.registered -= self.lent.fire(data, event.flags, &mut wake);
                continue;
            };
            let flags = event.flags;
            let broken = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            // A half-closed stream can still be written to, and become full: only its reading ends.
            let read_ended = broken || flags.contains(EventFlags::RDHUP);
            registration.read.marked |= flags.contains(EventFlags::PRI);
            if read_ended || flags.contains(EventFlags::IN) {
                registration.read.fire(read_ended, &mut wake);
            }
            if broken || flags.contains(EventFlags::OUT) {
                registration.write.fire(broken, &mut wake);
            }
        }
        if any_deferred {
            let idle = may_wait && self.events.is_empty();
            self.settle_deferred(idle, now(), &mut wake);
        }
        Ok(polled)
    }

    /// Hands back who waits in one place, as if another had taken what came there. `drawn` says where to look first.
    #[cold]
    pub(super) fn wake_for_nothing(&mut self, drawn: u64, wake: &mut dyn FnMut(Token)) {
        let places = self.slots.len() * 2;
        if places == 0 {
            return;
        }
        let first = (drawn % places as u64) as usize;
        for place in (first..places).chain(0..first) {
            let slot = &mut self.slots[place / 2];
            let side = match place % 2 {
                0 => &mut slot.read,
                _ => &mut slot.write,
            };
            if side.waiter.is_some() {
                return side.fire(false, &mut |token| wake(token));
            }
        }
    }

    /// Lets those readers try that no edge has come for: all of them, or those that are overdue.
    fn settle_deferred(&mut self, all: bool, now: Instant, wake: &mut impl FnMut(Token)) {
        while let Some(&deferred) = self.deferred.front() {
            let registration = &mut self.slots[deferred.slot.0 as usize];
            let side = &mut registration.read;
            if registration.generation == deferred.generation && side.predictor.is_waiting() {
                if !all && now.saturating_duration_since(deferred.since) < LONGEST_DEFERRAL {
                    break;
                }
                side.fire(false, wake);
                side.predictor.tries_after_all();
            }
            self.deferred.pop_front();
        }
    }
}

/// What other threads take descriptors out with.
pub(crate) struct Registrar {
    epoll: OwnedFd,
    /// Registrations whose descriptors were taken out, for the driver to forget.
    retired: SpinLock<Vec<Slot>>,
    /// Whether there are any. It changes while they are locked; a driver that sees it late forgets them a poll later.
    has_retired: AtomicBool,
}

impl Registrar {
    /// For a driver that `bell` ends the waits of, and that reports what has come for `standby`.
    pub(super) fn new<T>(bell: &Bell, standby: &Standby<T>) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC);
        let epoll = epoll.map_err(|errno| refused("epoll_create1", errno))?;
        epoll::add(&epoll, standby, EventData::new_u64(STANDBY), EventFlags::IN)?;
        epoll::add(
            &epoll,
            bell,
            EventData::new_u64(BELL),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            retired: SpinLock::new(Vec::new()),
            has_retired: AtomicBool::new(false),
        })
    }

    /// Takes out a registration that nobody waits for, whose descriptor is open still.
    pub(super) fn retire(&self, slot: Slot, fd: BorrowedFd<'_>) {
        self.unwatch(fd);
        let mut retired = self.retired.lock();
        retired.push(slot);
        self.has_retired.store(true, Ordering::Relaxed);
    }

    fn unwatch(&self, fd: BorrowedFd<'_>) {
        if let Err(errno) = epoll::delete(&self.epoll, fd) {
            // ENOENT: taken out already. Anything else is a descriptor closed behind our back.
            debug_assert_eq!(errno, Errno::NOENT);
        }
    }

    fn take_retired(&self) -> Vec<Slot> {
        let mut retired = self.retired.lock();
        self.has_retired.store(false, Ordering::Relaxed);
        std::mem::take(&mut *retired)
    }
}

impl Registration {
    #[inline]
    fn side(&self, direction: Direction) -> &Side {
        match direction {
            Direction::Read => &self.read,
            Direction::Write => &self.write,
        }
    }

    #[inline]
    fn side_mut(&mut self, direction: Direction) -> &mut Side {
        match direction {
            Direction::Read => &mut self.read,
            Direction::Write => &mut self.write,
        }
    }
}

impl Side {
    #[inline]
    fn fire(&mut self, ended: bool, wake: &mut impl FnMut(Token)) {
        self.ready = true;
        self.ended |= ended;
        self.predictor.edge_came();
        if let Some(waiter) = self.waiter.take() {
            wake(waiter);
            if let Some(more) = &mut self.more {
                more.drain(..).for_each(wake);
            }
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::driver::read_predictor::SURE;
    use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType};
    use std::{os::fd::AsFd, ptr::NonNull};

    struct Peers {
        driver: Epoll,
        slot: Slot,
        near: OwnedFd,
        far: OwnedFd,
    }

    /// The driver only hands it back.
    const SOMEBODY: Token = NonNull::dangling();

    impl Peers {
        fn new() -> Self {
            let nothing = Standby::<()>::new(Instant::now).unwrap();
            let registrar = Registrar::new(&Bell::new().unwrap(), &nothing).unwrap();
            let mut driver = Epoll::of(Arc::new(registrar));
            let flags = SocketFlags::NONBLOCK;
            let (near, far) =
                rustix::net::socketpair(AddressFamily::UNIX, SocketType::STREAM, flags, None)
                    .unwrap();
            let slot = driver.register(near.as_fd()).unwrap();
            Self {
                driver,
                slot,
                near,
                far,
            }
        }

        fn send(&self, bytes: &[u8]) {
            let sent = rustix::net::send(&self.far, bytes, SendFlags::empty());
            assert_eq!(sent, Ok(bytes.len()));
        }

        /// Reads four bytes as a source does; whether they were there.
        fn read(&mut self) -> Read {
            if !self.driver.is_worth_reading(self.slot, Instant::now) {
                return Read::NotTried;
            }
            match rustix::net::recv(&self.near, &mut [0; 4], RecvFlags::empty()) {
                Ok(_) => {
                    self.driver.came_filled(self.slot);
                    Read::Filled
                }
                Err(_) => {
                    self.driver.would_block(self.slot, Direction::Read);
                    Read::Failed
                }
            }
        }

        fn poll(&mut self, timeout: Option<Duration>, now: Instant) -> usize {
            let mut woken = 0;
            let direction = Direction::Read;
            self.driver.add_waiter(self.slot, direction, SOMEBODY);
            self.driver.poll(timeout, || now, |_| woken += 1).unwrap();
            self.driver.remove_waiter(self.slot, direction, SOMEBODY);
            woken
        }

        /// Four bytes come and are read, until the read after them is put off.
        fn learn(&mut self) {
            for tried in 0..=SURE {
                self.send(b"four");
                assert_eq!(self.poll(None, Instant::now()), 1);
                assert_eq!(self.read(), Read::Filled);
                match tried < SURE {
                    true => assert_eq!(self.read(), Read::Failed),
                    false => assert_eq!(self.read(), Read::NotTried),
                }
            }
        }
    }

    #[derive(Debug, PartialEq, Eq)]
    enum Read {
        Filled,
        Failed,
        NotTried,
    }

    #[test]
    fn reads_that_kept_failing_behind_full_ones_are_put_off_until_an_edge() {
        let mut peers = Peers::new();
        peers.learn();
        for _ in 0..10 {
            peers.send(b"four");
            assert_eq!(peers.poll(None, Instant::now()), 1);
            assert_eq!(peers.read(), Read::Filled);
            assert_eq!(peers.read(), Read::NotTried);
        }
    }

    #[test]
    fn what_lay_behind_a_full_read_is_found_when_nothing_else_happens() {
        let mut peers = Peers::new();
        peers.learn();
        peers.send(b"fourmore");
        assert_eq!(peers.poll(None, Instant::now()), 1);
        assert_eq!(peers.read(), Read::Filled);
        assert_eq!(peers.read(), Read::NotTried);
        // No edge follows; a poll that may wait for ever does not.
        assert_eq!(peers.poll(None, Instant::now()), 1);
        assert_eq!(peers.read(), Read::Filled);
        // Having been wrong, the next is tried at once.
        assert_eq!(peers.read(), Read::Failed);
    }

    #[test]
    fn a_busy_worker_lets_a_deferred_reader_try_in_time() {
        let mut peers = Peers::new();
        peers.learn();
        let now = Instant::now();
        assert_eq!(peers.poll(Some(Duration::ZERO), now), 0);
        assert_eq!(peers.poll(Some(Duration::ZERO), now + LONGEST_DEFERRAL), 1);
        assert_eq!(peers.read(), Read::Failed);
    }

    #[test]
    fn the_end_is_read_at_once_whatever_was_learnt() {
        let mut peers = Peers::new();
        peers.learn();
        peers.send(b"four");
        rustix::net::shutdown(&peers.far, rustix::net::Shutdown::Both).unwrap();
        assert_eq!(peers.poll(None, Instant::now()), 1);
        assert_eq!(peers.read(), Read::Filled);
        assert_eq!(peers.read(), Read::Filled, "the end");
    }

    #[test]
    fn behind_a_mark_neither_a_short_read_nor_the_first_that_fails_is_believed() {
        let mut peers = Peers::new();
        let sent = rustix::net::send(&peers.far, b"one!", SendFlags::OOB);
        if sent == Err(Errno::OPNOTSUPP) {
            return;
        }
        assert_eq!(peers.poll(None, Instant::now()), 1);
        let (slot, direction) = (peers.slot, Direction::Read);
        peers.driver.came_short(slot, direction, false);
        assert!(peers.driver.is_ready(slot, direction));
        assert!(peers.driver.would_block(slot, direction), "the first");
        assert!(peers.driver.is_ready(slot, direction));
        assert!(!peers.driver.would_block(slot, direction), "the second");
        assert!(!peers.driver.is_ready(slot, direction));
        // Without a mark, both are believed.
        peers.send(b"more");
        peers.driver.slots[slot.0 as usize].read.marked = false;
        peers.driver.slots[slot.0 as usize].read.ready = true;
        peers.driver.came_short(slot, direction, false);
        assert!(!peers.driver.is_ready(slot, direction));
    }

    #[test]
    fn deferred_reads_do_not_outlive_their_registration() {
        let mut peers = Peers::new();
        peers.learn();
        let near = peers.near.as_fd();
        peers.driver.remove(peers.slot, near);
        peers.slot = peers.driver.register(near).unwrap();
        let polled = peers.poll(Some(Duration::ZERO), Instant::now() + LONGEST_DEFERRAL);
        assert_eq!(polled, 0);
    }
}
