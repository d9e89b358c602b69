//! Standby: what waits for a descriptor on no worker in particular, and goes to whichever is free.
//!
//! All drivers of a runtime share one epoll set, which each has in its own. So an idle worker takes what
//! has come, and what a worker that computes would take late goes to another. A descriptor is in the set for
//! one event at a time; the next event needs it armed again, by one system call.
//!
//! An event wakes every worker that sleeps, and one of them gets it. The kernel has no exclusive wake-ups,
//! which would wake one alone, for a set within a set (epoll_ctl(2), `EPOLLEXCLUSIVE`).

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use rustix::{
    event::epoll::{self, CreateFlags, Event, EventData, EventFlags},
    io::Errno,
    time::{
        Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, timerfd_create,
        timerfd_settime,
    },
};

use super::sim;
use crate::{
    sys::{
        event::{refused, timespec},
        later,
    },
    wheel::{Key, Wheel},
};

/// What is on standby in one runtime; the driver hands each back once, knowing nothing of it.
pub(crate) struct Standby<T> {
    epoll: OwnedFd,
    /// Rings in the set when the next deadline is due.
    alarm: OwnedFd,
    clock: fn() -> Instant,
    start: Instant,
    waiting: AtomicUsize,
    state: Mutex<State<T>>,
}

struct State<T> {
    /// What waits, by deadline; a timer's key is what the kernel keeps for its descriptor.
    items: Wheel<T>,
    /// The tick that the alarm is set for.
    alarm_at: Option<u64>,
}

/// 134 ms: these deadlines end what has been idle for long, and few ticks make few alarms.
const TICK_NANOS_SHIFT: u32 = 27;

/// The alarm's event carries what no key can.
const ALARM: u64 = 0;

/// Taken by one worker at a time, so that others get a share of what has come.
const EVENTS_AT_ONCE: usize = 16;

impl<T> Standby<T> {
    pub(crate) fn new(clock: fn() -> Instant) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC);
        let epoll = epoll.map_err(|errno| refused("epoll_create1", errno))?;
        let alarm = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        );
        let alarm = alarm.map_err(|errno| refused("timerfd_create", errno))?;
        epoll::add(
            &epoll,
            &alarm,
            EventData::new_u64(ALARM),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            alarm,
            clock,
            start: clock(),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                items: Wheel::new(0),
                alarm_at: None,
            }),
        })
    }

    /// How many items are on standby.
    #[inline]
    pub(crate) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Keeps `item` until `fd`, which it owns, is readable, has hung up or failed, or until the deadline.
    ///
    /// Hands it back if the kernel does not watch the descriptor: then it has to find out itself.
    pub(crate) fn enter(&self, fd: BorrowedFd<'_>, until: Instant, item: T) -> Result<(), T> {
        let tick = self.tick_of(until) + 1;
        // Held until the descriptor is armed: after that another worker may take the item, which may close it.
        let mut state = self.lock();
        let key = state.items.insert(tick, item);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let data = EventData::new_u64(key.to_bits());
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        let watched = match epoll::modify(&self.epoll, fd, data, flags) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, fd, data, flags),
            done => done,
        };
        if let Some(world) = sim::current() {
            // It may be readable already.
            world.note_registered(true);
        }
        if watched.is_err()
            && let Some(item) = self.leave(&mut state, key)
        {
            return Err(item);
        }
        let set = self.set_alarm(&mut state);
        drop(state);
        tell_if_failed(set);
        Ok(())
    }

    /// Hands out what is due now; not always all of it at once.
    pub(crate) fn take_due(&self, mut hand_out: impl FnMut(T)) {
        let mut events = [Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; EVENTS_AT_ONCE];
        let no_wait = timespec(Duration::ZERO);
        // An interruption, too, leaves the set readable.
        let count = epoll::wait(&self.epoll, &mut events, Some(&no_wait)).unwrap_or(0);
        for event in &events[..count] {
            match Key::from_bits(event.data.u64()) {
                Some(key) => {
                    let item = self.leave(&mut self.lock(), key);
                    item.into_iter().for_each(&mut hand_out);
                }
                None => self.take_late(&mut hand_out),
            }
        }
        if sim::current().is_some() {
            self.take_late(&mut hand_out);
        }
    }

    /// Hands out what has its deadline behind it.
    fn take_late(&self, hand_out: &mut impl FnMut(T)) {
        let mut late = Vec::new();
        let set = {
            let mut state = self.lock();
            let present = self.tick_of((self.clock)());
            state.items.advance(present, &mut |item| late.push(item));
            state.alarm_at = None;
            self.waiting.fetch_sub(late.len(), Ordering::Relaxed);
            self.set_alarm(&mut state)
        };
        tell_if_failed(set);
        late.into_iter().for_each(hand_out);
    }

    /// Hands out all there are, for a shutdown.
    pub(crate) fn take_all(&self) -> Vec<T> {
        let mut all = Vec::new();
        let mut state = self.lock();
        state.items.advance(u64::MAX, &mut |item| all.push(item));
        self.waiting.fetch_sub(all.len(), Ordering::Relaxed);
        all
    }

    fn leave(&self, state: &mut State<T>, key: Key) -> Option<T> {
        let item = state.items.remove(key)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(item)
    }

    /// Sets the alarm if it would ring too late for the next deadline.
    fn set_alarm(&self, state: &mut State<T>) -> Result<(), Errno> {
        let Some(next) = state.items.next_expiry() else {
            return Ok(());
        };
        if state.alarm_at.is_some_and(|at| at <= next) {
            return Ok(());
        }
        let at = Duration::from_nanos(next.saturating_mul(1 << TICK_NANOS_SHIFT));
        let left = at.saturating_sub((self.clock)().saturating_duration_since(self.start));
        if let Some(world) = sim::current() {
            world.set_alarm(left);
            state.alarm_at = Some(next);
            return Ok(());
        }
        // Zero would switch it off.
        let setting = Itimerspec {
            it_interval: timespec(Duration::ZERO),
            it_value: timespec(left.max(Duration::from_nanos(1))),
        };
        timerfd_settime(&self.alarm, TimerfdTimerFlags::empty(), &setting)?;
        state.alarm_at = Some(next);
        Ok(())
    }

    fn tick_of(&self, at: Instant) -> u64 {
        let nanos = at.saturating_duration_since(self.start).as_nanos();
        u64::try_from(nanos >> TICK_NANOS_SHIFT).unwrap_or(u64::MAX - 1)
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Later, since a worker may come here between two coroutines.
fn tell_if_failed(set: Result<(), Errno>) {
    if let Err(errno) = set {
        let line = format!("set the alarm of coroutines on standby: {errno}");
        later::say(log::Level::Error, line);
    }
}

impl<T> AsFd for Standby<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
