//! A service that mostly fails is left alone for a while.

use std::{
    fmt,
    ops::RangeInclusive,
    sync::{Arc, Mutex, OnceLock, PoisonError},
    time::{Duration, Instant},
};

use maniple::time::coarse_now;

use super::window::Window;
use crate::enlisted::Enlisted;

/// Stands before the calls to one service, and answers in its place while it is broken: at once, without load for it. Clones
/// are the same breaker.
///
/// It is *closed* at first, which lets all calls through, and counts. When half of the calls of the last ten seconds failed, and
/// there were at least twenty, it *opens*: calls are refused with [`BreakerError::Open`]. After a pause it is *half open*: one
/// call is let through as a probe. If that succeeds it closes; if it fails it opens again, for twice as long. A probe that has
/// not come to an end after the first pause keeps no other from trying. All these figures can be set.
///
/// As in Hystrix, resilience4j and Envoy's outlier detection, of which only what one caller can see is here.
#[derive(Clone)]
pub struct CircuitBreaker {
    settings: Settings,
    state: Arc<Shared>,
}

/// What clones share.
struct Shared {
    began: Instant,
    machine: Mutex<Machine>,
    name: OnceLock<String>,
}

/// Those that have a name.
static NAMED: Enlisted<Shared> = Enlisted::new("circuit breakers", tell);

fn tell() -> String {
    let line = |(name, stats): (String, BreakerStats)| {
        let BreakerStats {
            state,
            opened,
            refused,
        } = stats;
        let name = name.escape_debug();
        format!("  {name}: {state}, opened {opened} times, {refused} calls not made\n")
    };
    CircuitBreaker::all().into_iter().map(line).collect()
}

#[derive(Clone, Debug)]
struct Settings {
    percent: u32,
    least_calls: u32,
    window: Duration,
    pause: RangeInclusive<Duration>,
    probes: u32,
}

/// What a breaker lets through.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum BreakerState {
    /// All calls.
    Closed,
    /// None.
    Open,
    /// Probes alone.
    HalfOpen,
}

impl fmt::Display for BreakerState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Closed => "closed",
            Self::Open => "open",
            Self::HalfOpen => "half open",
        })
    }
}

/// What a breaker lets through, and what it has seen so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct BreakerStats {
    /// What it lets through now.
    pub state: BreakerState,
    /// How often it has opened, for want of successes or by a failed probe.
    pub opened: u64,
    /// Calls that were not made.
    pub refused: u64,
}

/// Why a call through a breaker has no value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BreakerError<E> {
    /// It was not made.
    #[error("not called: the service has failed too often")]
    Open {
        /// How long it is until it is worth trying.
        after: Duration,
    },
    /// It was made, and failed.
    #[error(transparent)]
    Call(E),
}

impl CircuitBreaker {
    /// Opens when half of the calls of ten seconds failed, and there were 20; tries one again after 1 s, then later and later
    /// up to 30 s.
    pub fn new() -> Self {
        Self {
            settings: Settings {
                percent: 50,
                least_calls: 20,
                window: Duration::from_secs(10),
                pause: Duration::from_secs(1)..=Duration::from_secs(30),
                probes: 1,
            },
            state: Arc::new(Shared {
                began: coarse_now(),
                machine: Mutex::default(),
                name: OnceLock::new(),
            }),
        }
    }

    /// Has [`all`](Self::all) tell of it, by this name: its clones have it too, and the first name stays. `Metrics` of the crate
    /// `maniple-server` tells of all that have one.
    pub fn name(self, name: impl Into<String>) -> Self {
        if self.state.name.set(name.into()).is_ok() {
            NAMED.add(&self.state);
        }
        self
    }

    /// Those of the process that have a name, in the order in which they were named.
    pub fn all() -> Vec<(String, BreakerStats)> {
        let all = NAMED.all();
        all.iter()
            .map(|one| (one.name.get().cloned().unwrap_or_default(), one.stats()))
            .collect()
    }

    /// Of how many calls of the last `window` how many in a hundred must fail for it to open. Default: 50 % of at least 20 calls
    /// in 10 s.
    pub fn opens_at(mut self, percent: u32, least_calls: u32, window: Duration) -> Self {
        self.settings.percent = percent;
        self.settings.least_calls = least_calls.max(1);
        self.settings.window = window;
        self
    }

    /// How long it stays open at first, and at most. It doubles each time that a probe fails. Default: 1 s to 30 s.
    pub fn pause(mut self, bounds: RangeInclusive<Duration>) -> Self {
        self.settings.pause = bounds;
        self
    }

    /// How many probes must succeed for it to close, of which as many may be made at a time. Default: 1.
    pub fn probes(mut self, probes: u32) -> Self {
        self.settings.probes = probes.max(1);
        self
    }

    /// Calls `f` if the service is worth it; any error is a failure of the service.
    ///
    /// # Errors
    /// [`BreakerError::Open`] if it was not called, else what it returned.
    ///
    /// # Panics
    /// If `f` does. That counts as nothing, and so does a call that is cut short by unwinding.
    pub fn call<T, E>(&self, f: impl FnOnce() -> Result<T, E>) -> Result<T, BreakerError<E>> {
        self.call_if(|_| true, f)
    }

    /// Calls `f` if the service is worth it. An error that is the caller's own fault, as `fails` says, is a success of the
    /// service: it works.
    ///
    /// # Errors
    /// [`BreakerError::Open`] if it was not called, else what it returned.
    ///
    /// # Panics
    /// If `f` or `fails` does; that counts as nothing.
    pub fn call_if<T, E>(
        &self,
        fails: impl FnOnce(&E) -> bool,
        f: impl FnOnce() -> Result<T, E>,
    ) -> Result<T, BreakerError<E>> {
        let admitted = self.with_machine(|machine, settings, now| machine.admit(settings, now));
        let generation = admitted.map_err(|after| BreakerError::Open { after })?;
        let mut ticket = Ticket {
            breaker: self,
            generation,
            outcome: None,
        };
        let outcome = f();
        ticket.outcome = Some(match &outcome {
            Ok(_) => false,
            Err(error) => fails(error),
        });
        drop(ticket);
        outcome.map_err(BreakerError::Call)
    }

    /// What it lets through now.
    pub fn state(&self) -> BreakerState {
        self.stats().state
    }

    /// What it lets through now, and what it has seen.
    pub fn stats(&self) -> BreakerStats {
        self.state.stats()
    }

    fn with_machine<T>(&self, f: impl FnOnce(&mut Machine, &Settings, Duration) -> T) -> T {
        let settings = &self.settings;
        self.state
            .with_machine(|machine, now| f(machine, settings, now))
    }
}

impl Shared {
    /// Nothing waits while it is held.
    fn with_machine<T>(&self, f: impl FnOnce(&mut Machine, Duration) -> T) -> T {
        let now = coarse_now().saturating_duration_since(self.began);
        let mut machine = self.machine.lock().unwrap_or_else(PoisonError::into_inner);
        f(&mut machine, now)
    }

    fn stats(&self) -> BreakerStats {
        self.with_machine(|machine, now| BreakerStats {
            state: match machine.state {
                State::Closed => BreakerState::Closed,
                State::Open { until } if until > now => BreakerState::Open,
                State::Open { .. } | State::HalfOpen { .. } => BreakerState::HalfOpen,
            },
            opened: machine.opened,
            refused: machine.refused,
        })
    }
}

impl Default for CircuitBreaker {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for CircuitBreaker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("CircuitBreaker")
            .field("name", &self.state.name.get())
            .field("state", &self.state())
            .finish_non_exhaustive()
    }
}

/// A call that was let through; what it came to is noted when it goes, also by unwinding.
struct Ticket<'a> {
    breaker: &'a CircuitBreaker,
    generation: u64,
    /// Whether it failed; `None` if it did not come to an end.
    outcome: Option<bool>,
}

impl Drop for Ticket<'_> {
    fn drop(&mut self) {
        let (generation, outcome) = (self.generation, self.outcome);
        self.breaker.with_machine(|machine, settings, now| {
            machine.settle(settings, now, generation, outcome);
        });
    }
}

/// The states of a breaker, without a clock: times are since it was made.
#[derive(Debug, Default)]
struct Machine {
    state: State,
    /// Of the state: what was let through in an earlier one says nothing of this one.
    generation: u64,
    window: Window,
    /// How often a probe failed since it was closed.
    relapses: u32,
    opened: u64,
    refused: u64,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum State {
    #[default]
    Closed,
    Open {
        until: Duration,
    },
    HalfOpen {
        /// That were let through and have not come to an end.
        probing: u32,
        succeeded: u32,
        /// When the last one was let through.
        since: Duration,
    },
}

impl Machine {
    /// Lets a call through, or says how long it will be until that is worth trying.
    fn admit(&mut self, settings: &Settings, now: Duration) -> Result<u64, Duration> {
        let admitted = self.judge(settings, now);
        self.refused += u64::from(admitted.is_err());
        admitted
    }

    fn judge(&mut self, settings: &Settings, now: Duration) -> Result<u64, Duration> {
        if let State::Open { until } = self.state {
            if now < until {
                return Err(until - now);
            }
            self.enter(State::HalfOpen {
                probing: 0,
                succeeded: 0,
                since: now,
            });
        }
        if let State::HalfOpen {
            probing,
            succeeded,
            since,
        } = &mut self.state
        {
            if *probing + *succeeded >= settings.probes {
                let given_up = since.saturating_add(*settings.pause.start());
                if now < given_up {
                    return Err(given_up - now);
                }
                *probing = 0;
            }
            *probing += 1;
            *since = now;
        }
        Ok(self.generation)
    }

    fn settle(
        &mut self,
        settings: &Settings,
        now: Duration,
        generation: u64,
        failed: Option<bool>,
    ) {
        if generation != self.generation {
            return;
        }
        match (&mut self.state, failed) {
            (State::Closed, Some(failed)) => {
                self.window.note(settings.window, now, failed);
                let late = self.window.outcomes(settings.window, now);
                let (calls, failures) = (u64::from(late.calls), u64::from(late.failures));
                if failed
                    && late.calls >= settings.least_calls
                    && failures * 100 >= calls * u64::from(settings.percent)
                {
                    self.relapses = 0;
                    self.open(settings, now);
                }
            }
            (State::HalfOpen { .. }, Some(true)) => {
                self.relapses = self.relapses.saturating_add(1);
                self.open(settings, now);
            }
            (
                State::HalfOpen {
                    probing, succeeded, ..
                },
                outcome,
            ) => {
                *probing = probing.saturating_sub(1);
                *succeeded += u32::from(outcome.is_some());
                if *succeeded >= settings.probes {
                    self.enter(State::Closed);
                }
            }
            (State::Closed, None) | (State::Open { .. }, _) => {}
        }
    }

    fn open(&mut self, settings: &Settings, now: Duration) {
        let doubled = 1_u32.checked_shl(self.relapses).unwrap_or(u32::MAX);
        let pause = settings.pause.start().saturating_mul(doubled);
        let pause = pause.min(*settings.pause.end());
        self.opened += 1;
        self.enter(State::Open {
            until: now.saturating_add(pause),
        });
    }

    fn enter(&mut self, state: State) {
        self.state = state;
        self.generation += 1;
        self.window.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn settings() -> Settings {
        Settings {
            percent: 50,
            least_calls: 4,
            window: 10 * SECOND,
            pause: SECOND..=4 * SECOND,
            probes: 2,
        }
    }

    /// One call that comes to this.
    fn call(machine: &mut Machine, now: Duration, failed: bool) -> Result<(), Duration> {
        let settings = settings();
        let generation = machine.admit(&settings, now)?;
        machine.settle(&settings, now, generation, Some(failed));
        Ok(())
    }

    #[test]
    fn it_opens_by_the_share_of_failures_among_enough_calls() {
        let mut machine = Machine::default();
        for failed in [true, true, true] {
            call(&mut machine, SECOND, failed).unwrap();
        }
        assert_eq!(machine.state, State::Closed, "three are not enough");
        // Eleven seconds later these are forgotten.
        for failed in [false, false, false, true, true] {
            call(&mut machine, 12 * SECOND, failed).unwrap();
        }
        assert_eq!(machine.state, State::Closed, "two of five");
        call(&mut machine, 12 * SECOND, true).unwrap();
        assert_eq!(machine.state, State::Open { until: 13 * SECOND });
        let refused = call(&mut machine, 12 * SECOND + SECOND / 2, true);
        assert_eq!(refused, Err(SECOND / 2));
    }

    fn opened() -> Machine {
        let mut machine = Machine::default();
        for _ in 0..4 {
            call(&mut machine, Duration::ZERO, true).unwrap();
        }
        assert_eq!(machine.state, State::Open { until: SECOND });
        machine
    }

    #[test]
    fn probes_close_it_and_a_failed_one_opens_it_for_longer() {
        let mut machine = opened();
        let mut now = SECOND;
        for pause in [2, 4, 4, 4] {
            call(&mut machine, now, true).unwrap();
            let until = now + pause * SECOND;
            assert_eq!(machine.state, State::Open { until });
            now = until;
        }
        let settings = settings();
        let first = machine.admit(&settings, now).unwrap();
        let second = machine.admit(&settings, now).unwrap();
        assert_eq!(machine.admit(&settings, now), Err(SECOND), "two probes");
        machine.settle(&settings, now, first, Some(false));
        assert_eq!(
            machine.admit(&settings, now),
            Err(SECOND),
            "one has succeeded"
        );
        machine.settle(&settings, now, second, Some(false));
        assert_eq!(machine.state, State::Closed);
        // From here it counts anew.
        for _ in 0..3 {
            call(&mut machine, now, true).unwrap();
        }
        assert_eq!(machine.state, State::Closed);
        call(&mut machine, now, true).unwrap();
        assert_eq!(
            machine.state,
            State::Open {
                until: now + SECOND
            }
        );
    }

    #[test]
    fn a_probe_that_comes_to_nothing_leaves_its_place_to_another() {
        let mut machine = opened();
        let settings = settings();
        for _ in 0..100 {
            let probe = machine.admit(&settings, SECOND).unwrap();
            machine.settle(&settings, SECOND, probe, None);
        }
        assert!(matches!(machine.state, State::HalfOpen { probing: 0, .. }));
    }

    #[test]
    fn a_probe_that_never_ends_does_not_keep_it_closed_to_others_for_ever() {
        let mut machine = opened();
        let settings = settings();
        let stuck = machine.admit(&settings, SECOND).unwrap();
        let other = machine.admit(&settings, SECOND).unwrap();
        machine.settle(&settings, SECOND, other, Some(false));
        let refused = machine.admit(&settings, SECOND + SECOND / 2);
        assert_eq!(
            refused,
            Err(SECOND / 2),
            "until it has taken as long as a pause"
        );
        let further = machine.admit(&settings, 2 * SECOND).unwrap();
        machine.settle(&settings, 2 * SECOND, further, Some(false));
        assert_eq!(machine.state, State::Closed);
        machine.settle(&settings, 3 * SECOND, stuck, Some(true));
        assert_eq!(machine.state, State::Closed);
    }

    #[test]
    fn what_began_before_says_nothing_of_what_is_now() {
        let mut machine = Machine::default();
        let settings = settings();
        let early: Vec<_> = (0..9)
            .map(|_| machine.admit(&settings, Duration::ZERO).unwrap())
            .collect();
        for _ in 0..4 {
            call(&mut machine, Duration::ZERO, true).unwrap();
        }
        for generation in early {
            machine.settle(&settings, SECOND, generation, Some(false));
        }
        assert_eq!(machine.state, State::Open { until: SECOND });
        let probe = machine.admit(&settings, SECOND).unwrap();
        machine.settle(&settings, SECOND, 0, Some(true));
        machine.settle(&settings, SECOND, probe, Some(false));
        assert!(matches!(
            machine.state,
            State::HalfOpen { succeeded: 1, .. }
        ));
    }
}
