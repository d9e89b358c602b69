//! One server of a set: its calls at a time, what they came to, and whether it may have more.

use std::{
    fmt,
    sync::{
        Mutex, MutexGuard, PoisonError,
        atomic::{
            AtomicBool, AtomicU64, AtomicUsize,
            Ordering::{AcqRel, Acquire, Relaxed, Release},
        },
    },
    time::Duration,
};

use super::{
    endpoint::Endpoint,
    health::{Ejection, Health},
    latency::Latency,
};
use crate::adaptive::{self, Bounds, Controller, Sample};

/// A server, for as long as it is in the list or has calls. Times are since the set was made.
///
/// All that is asked for on the way to a call is in atomics; the locks are held for some instructions, by those whose calls
/// have ended. The atomics order nothing but themselves: who reads an old value calls a server that was left out a moment
/// ago.
#[derive(Debug)]
pub(super) struct Member {
    /// What it may have at a time; `usize::MAX` for no limit.
    limit: AtomicUsize,
    in_flight: AtomicUsize,
    /// Until when it is left out, in nanoseconds.
    out_until: AtomicU64,
    /// Since when it has been in the list, or back, in nanoseconds; 0 if from the beginning.
    back_since: AtomicU64,
    /// What [checks](super::Checks) say.
    is_down: AtomicBool,
    /// It is in the list no more.
    has_left: AtomicBool,
    /// What decides the limit, where it is to be found out.
    adapts: Option<Mutex<Controller>>,
    latency: Mutex<Latency>,
    health: Mutex<Health>,
    counts: Counts,
}

#[derive(Debug, Default)]
struct Counts {
    calls: AtomicU64,
    succeeded: AtomicU64,
    failed: AtomicU64,
    ejections: AtomicU64,
}

/// What a call came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Outcome {
    Succeeded,
    Failed,
    /// It was cut short, by nobody's fault.
    Cut,
}

/// A server of a set as it is now.
#[derive(Clone, Debug, PartialEq)]
#[non_exhaustive]
pub struct EndpointStats {
    /// What the list says of it.
    pub endpoint: Endpoint,
    /// Whether it gets calls.
    pub state: EndpointState,
    /// Calls under way.
    pub in_flight: usize,
    /// How many it may have at a time, if there is a limit.
    pub limit: Option<usize>,
    /// How long its calls take: at once as long as a slow one, then slowly less. Zero while nothing is known.
    pub latency: Duration,
    /// Calls that were given to it.
    pub calls: u64,
    /// Of these, those that succeeded.
    pub succeeded: u64,
    /// Of these, those that failed. What is neither was cut short, or is under way.
    pub failed: u64,
    /// How often it was left out.
    pub ejections: u64,
}

/// Whether a server gets calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum EndpointState {
    /// Its share of them.
    Serving,
    /// Some, since it is new or has come back.
    Returning,
    /// None for so long, since its calls failed.
    Ejected {
        /// Until it is tried again.
        left: Duration,
    },
    /// None, since it fails its checks.
    Down,
    /// None, since its weight is 0.
    Draining,
}

impl fmt::Display for EndpointStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.endpoint.to_string();
        write!(
            f,
            "{}: {}, {}",
            text.escape_debug(),
            self.state,
            self.in_flight
        )?;
        if let Some(limit) = self.limit {
            write!(f, " of {limit}")?;
        }
        let Self {
            latency,
            calls,
            failed,
            ejections,
            ..
        } = self;
        write!(
            f,
            " under way, {latency:.1?}; {calls} calls, {failed} failed, left out {ejections} times"
        )
    }
}

impl fmt::Display for EndpointState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Serving => "serving",
            Self::Returning => "returning",
            Self::Ejected { left } => return write!(f, "left out for {left:.1?}"),
            Self::Down => "down",
            Self::Draining => "draining",
        })
    }
}

/// How many calls a server may have at a time.
#[derive(Clone, Copy, Debug)]
pub(super) enum Limit {
    Fixed(usize),
    Adaptive(Bounds),
}

/// A server that comes back has this share of its calls at first.
const FIRST_SHARE: f64 = 0.1;

fn nanos(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Member {
    /// `since` is when it came into the list, zero for the first list.
    pub(super) fn new(limit: Option<Limit>, since: Duration) -> Self {
        let (first, adapts) = match limit {
            None => (usize::MAX, None),
            Some(Limit::Fixed(calls)) => (calls, None),
            Some(Limit::Adaptive(bounds)) => {
                let controller = Controller::new(bounds);
                (controller.limit(), Some(Mutex::new(controller)))
            }
        };
        Self {
            limit: AtomicUsize::new(first),
            in_flight: AtomicUsize::new(0),
            out_until: AtomicU64::new(0),
            back_since: AtomicU64::new(nanos(since)),
            is_down: AtomicBool::new(false),
            has_left: AtomicBool::new(false),
            adapts,
            latency: Mutex::default(),
            health: Mutex::default(),
            counts: Counts::default(),
        }
    }

    pub(super) fn is_out(&self, now: Duration) -> bool {
        nanos(now) < self.out_until.load(Relaxed)
    }

    /// Whether neither its calls nor its checks speak against it.
    pub(super) fn is_fit(&self, now: Duration) -> bool {
        !self.is_down.load(Relaxed) && !self.is_out(now)
    }

    pub(super) fn has_room(&self) -> bool {
        self.in_flight.load(Relaxed) < self.limit.load(Relaxed)
    }

    pub(super) fn in_flight(&self) -> usize {
        self.in_flight.load(Relaxed)
    }

    /// Of its full share, from 0 to 1.
    pub(super) fn share(&self, ramp: Duration, now: Duration) -> f64 {
        let since = self.back_since.load(Relaxed);
        if since == 0 || ramp.is_zero() {
            return 1.0;
        }
        let passed = nanos(now).saturating_sub(since) as f64 / nanos(ramp) as f64;
        (FIRST_SHARE + (1.0 - FIRST_SHARE) * passed).min(1.0)
    }

    pub(super) fn latency(&self, now: Duration) -> f64 {
        locked(&self.latency).at(now)
    }

    /// Takes a place for a call, if there is one.
    pub(super) fn enter(&self) -> bool {
        // Acquire, for `leave`: who has a place sees what its holder before noted.
        let entered = self.in_flight.fetch_update(Acquire, Relaxed, |now| {
            (now < self.limit.load(Relaxed)).then(|| now + 1)
        });
        if entered.is_ok() {
            self.counts.calls.fetch_add(1, Relaxed);
        }
        entered.is_ok()
    }

    /// A call that has a place begins; what is to be told when it has its answer, where the limit adapts.
    pub(super) fn begin(&self, now: Duration) -> Option<Sample> {
        let adapts = self.adapts.as_ref()?;
        // Where several come together one is looked at.
        let mut controller = adapts.try_lock().ok()?;
        let sample = controller.begin(now, self.in_flight());
        self.limit.store(controller.limit(), Relaxed);
        sample
    }

    /// A call that is looked at has its answer, or will have none.
    pub(super) fn end(&self, sample: Sample, now: Duration, outcome: Outcome) {
        if let Some(adapts) = &self.adapts {
            let mut controller = locked(adapts);
            let outcome = match outcome {
                Outcome::Succeeded => adaptive::Outcome::Answered,
                Outcome::Failed | Outcome::Cut => adaptive::Outcome::Failed,
            };
            controller.end(sample, now, outcome);
            self.limit.store(controller.limit(), Relaxed);
        }
    }

    /// It is in the list no more.
    pub(super) fn remove(&self) {
        // Release, for `has_left`: who looks after it was told elsewhere that this server has left sees it here.
        self.has_left.store(true, Release);
    }

    pub(super) fn has_left(&self) -> bool {
        self.has_left.load(Acquire)
    }

    /// A call has ended. Whether it is the failure that is enough for the server to be left out.
    pub(super) fn leave(
        &self,
        settings: Option<&Ejection>,
        now: Duration,
        took: Duration,
        outcome: Outcome,
    ) -> bool {
        let mut latency = locked(&self.latency);
        match outcome {
            Outcome::Succeeded => latency.note(now, took),
            Outcome::Failed => latency.note_failure(now, took),
            Outcome::Cut => latency.note_cut(now, took),
        }
        drop(latency);
        let is_enough = self.judge(settings, now, outcome);
        self.in_flight.fetch_sub(1, Release);
        is_enough
    }

    fn judge(&self, settings: Option<&Ejection>, now: Duration, outcome: Outcome) -> bool {
        let count = match outcome {
            Outcome::Succeeded => &self.counts.succeeded,
            Outcome::Failed => &self.counts.failed,
            Outcome::Cut => return false,
        };
        count.fetch_add(1, Relaxed);
        let Some(settings) = settings else {
            return false;
        };
        let is_back = self.share(settings.ramp, now) >= 1.0;
        let mut health = locked(&self.health);
        match outcome {
            // What began before it was left out says nothing new.
            _ if self.is_out(now) => false,
            Outcome::Failed => health.failed(settings, now, is_back),
            _ => {
                health.succeeded(settings, now, is_back);
                false
            }
        }
    }

    /// Leaves it out.
    pub(super) fn eject(&self, settings: &Ejection, now: Duration) -> Duration {
        let pause = locked(&self.health).leave_out(settings);
        // When it is back it is another one, most likely: who is thought slow gets no call to show that it is not.
        *locked(&self.latency) = Latency::default();
        let until = nanos(now.saturating_add(pause));
        self.back_since.store(until.max(1), Relaxed);
        self.out_until.store(until, Relaxed);
        self.counts.ejections.fetch_add(1, Relaxed);
        pause
    }

    /// What a check says; whether that is new. Who is up again begins with a small share of calls.
    pub(super) fn set_down(&self, is_down: bool, now: Duration) -> bool {
        let changes = self.is_down.swap(is_down, AcqRel) != is_down;
        if changes && !is_down {
            *locked(&self.latency) = Latency::default();
            self.back_since.store(nanos(now).max(1), Relaxed);
        }
        changes
    }

    pub(super) fn stats(
        &self,
        endpoint: &Endpoint,
        ramp: Duration,
        now: Duration,
    ) -> EndpointStats {
        let left = self.out_until.load(Relaxed).saturating_sub(nanos(now));
        let state = if endpoint.weight_of() == 0 {
            EndpointState::Draining
        } else if self.is_down.load(Relaxed) {
            EndpointState::Down
        } else if left > 0 {
            EndpointState::Ejected {
                left: Duration::from_nanos(left),
            }
        } else if self.share(ramp, now) < 1.0 {
            EndpointState::Returning
        } else {
            EndpointState::Serving
        };
        let limit = self.limit.load(Relaxed);
        EndpointStats {
            endpoint: endpoint.clone(),
            state,
            in_flight: self.in_flight(),
            limit: (limit != usize::MAX).then_some(limit),
            latency: Duration::from_secs_f64(self.latency(now)),
            calls: self.counts.calls.load(Relaxed),
            succeeded: self.counts.succeeded.load(Relaxed),
            failed: self.counts.failed.load(Relaxed),
            ejections: self.counts.ejections.load(Relaxed),
        }
    }
}
