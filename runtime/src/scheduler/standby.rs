//! Coroutines that begin once a descriptor is readable; until then they have neither stack nor worker.
//!
//! All workers of a runtime share one epoll set, which each has in its own: so whoever is free takes what
//! has come, and what a worker that computes would have come to late goes to another. A descriptor is in
//! the set for one event at a time and is armed again for the next, by one system call.
//!
//! An event wakes every worker that sleeps, of which one gets it. Exclusive wake-ups, which would wake one,
//! are not to be had for a set within a set (epoll_ctl(2), `EPOLLEXCLUSIVE`).

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

use super::now;
use crate::{
    coroutine::Unstarted,
    sys::{event::timespec, later},
    wheel::{Key, Wheel},
};

/// The coroutines on standby of one runtime.
pub(super) struct Standby {
    epoll: OwnedFd,
    /// Rings in the set when the next deadline is due.
    alarm: OwnedFd,
    start: Instant,
    waiting: AtomicUsize,
    state: Mutex<State>,
}

struct State {
    /// Who waits, by deadline; a timer's key is what the kernel keeps for its descriptor.
    tasks: Wheel<Unstarted>,
    /// The tick that the alarm is set for.
    alarm_at: Option<u64>,
}

/// 134 ms: these deadlines end what has been idle for long, and few ticks make few alarms.
const TICK_NANOS_SHIFT: u32 = 27;

/// The alarm's event carries what no key can.
const ALARM: u64 = 0;

/// Taken by one worker at a time, so that others get a share of what has come.
const EVENTS_AT_ONCE: usize = 16;

impl Standby {
    pub(super) fn new() -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let alarm = timerfd_create(
            TimerfdClockId::Monotonic,
            TimerfdFlags::CLOEXEC | TimerfdFlags::NONBLOCK,
        )?;
        epoll::add(
            &epoll,
            &alarm,
            EventData::new_u64(ALARM),
            EventFlags::IN | EventFlags::ET,
        )?;
        Ok(Self {
            epoll,
            alarm,
            start: now(),
            waiting: AtomicUsize::new(0),
            state: Mutex::new(State {
                tasks: Wheel::new(0),
                alarm_at: None,
            }),
        })
    }

    /// How many are on standby.
    #[inline]
    pub(super) fn len(&self) -> usize {
        self.waiting.load(Ordering::Relaxed)
    }

    /// Keeps `task` until `fd`, which it owns, is readable, has hung up or failed, or until the deadline.
    ///
    /// Hands it back if the kernel does not watch the descriptor: then it has to find out itself.
    pub(super) fn enter(
        &self,
        fd: BorrowedFd<'_>,
        until: Instant,
        task: Unstarted,
    ) -> Result<(), Unstarted> {
        let tick = self.tick_of(until) + 1;
        // Held until the descriptor is armed: after that another worker may begin the task, which may close it.
        let mut state = self.lock();
        let key = state.tasks.insert(tick, task);
        self.waiting.fetch_add(1, Ordering::Relaxed);
        let data = EventData::new_u64(key.to_bits());
        let flags = EventFlags::IN | EventFlags::RDHUP | EventFlags::ONESHOT;
        let watched = match epoll::modify(&self.epoll, fd, data, flags) {
            Err(Errno::NOENT) => epoll::add(&self.epoll, fd, data, flags),
            done => done,
        };
        if watched.is_err()
            && let Some(task) = self.leave(&mut state, key)
        {
            return Err(task);
        }
        let set = self.set_alarm(&mut state);
        drop(state);
        tell_if_failed(set);
        Ok(())
    }

    /// Hands out who can begin now; not always all of them at once.
    pub(super) fn take_due(&self, mut begin: impl FnMut(Unstarted)) {
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
                    let task = self.leave(&mut self.lock(), key);
                    task.into_iter().for_each(&mut begin);
                }
                None => self.take_late(&mut begin),
            }
        }
    }

    /// Hands out whose deadline has come.
    fn take_late(&self, begin: &mut impl FnMut(Unstarted)) {
        let mut late = Vec::new();
        let set = {
            let mut state = self.lock();
            let present = self.tick_of(now());
            state.tasks.advance(present, &mut |task| late.push(task));
            state.alarm_at = None;
            self.waiting.fetch_sub(late.len(), Ordering::Relaxed);
            self.set_alarm(&mut state)
        };
        tell_if_failed(set);
        late.into_iter().for_each(begin);
    }

    /// Hands out all there are, for a shutdown.
    pub(super) fn take_all(&self) -> Vec<Unstarted> {
        let mut all = Vec::new();
        let mut state = self.lock();
        state.tasks.advance(u64::MAX, &mut |task| all.push(task));
        self.waiting.fetch_sub(all.len(), Ordering::Relaxed);
        all
    }

    fn leave(&self, state: &mut State, key: Key) -> Option<Unstarted> {
        let task = state.tasks.remove(key)?;
        self.waiting.fetch_sub(1, Ordering::Relaxed);
        Some(task)
    }

    /// Sets the alarm if it would ring too late for the next deadline.
    fn set_alarm(&self, state: &mut State) -> Result<(), Errno> {
        let Some(next) = state.tasks.next_expiry() else {
            return Ok(());
        };
        if state.alarm_at.is_some_and(|at| at <= next) {
            return Ok(());
        }
        let at = Duration::from_nanos(next.saturating_mul(1 << TICK_NANOS_SHIFT));
        let left = at.saturating_sub(now().saturating_duration_since(self.start));
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

    fn lock(&self) -> MutexGuard<'_, State> {
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

impl AsFd for Standby {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.epoll.as_fd()
    }
}
