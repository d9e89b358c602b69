//! What a contender counts: aggregates, how long each took, and the CPU time of all.

use std::{
    sync::{
        Mutex, PoisonError,
        atomic::{AtomicBool, AtomicU8, Ordering},
    },
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::process;

/// What a contender's process saw.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct Seen {
    pub(super) aggregates: u64,
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
}

impl Seen {
    /// CPU time per aggregate.
    pub(super) fn cpu_us(&self) -> f64 {
        self.cpu_seconds * 1e6 / self.aggregates as f64
    }
}

/// What the leaders and the clock of a process share.
#[derive(Debug)]
pub(super) struct Meter {
    phase: AtomicU8,
    /// An aggregate was measured, or none can be any more.
    is_enough: AtomicBool,
    /// Latencies in nanoseconds, of those leaders that have ended.
    latencies: Mutex<Histogram<u64>>,
}

const WARM_UP: u8 = 0;
const MEASURE: u8 = 1;
const STOP: u8 = 2;

/// How long the first aggregate may take.
const PATIENCE: Duration = Duration::from_secs(60);

impl Meter {
    pub(super) fn new() -> Result<Self> {
        Ok(Self {
            phase: AtomicU8::new(WARM_UP),
            is_enough: AtomicBool::new(false),
            latencies: Mutex::new(latencies()?),
        })
    }

    /// For a leader to count with, whose first aggregate begins now.
    pub(super) fn laps(&self) -> Result<Laps<'_>> {
        Ok(Laps {
            meter: self,
            began: Instant::now(),
            latencies: latencies()?,
        })
    }

    /// Measures what `lead` does for so many seconds, after a warm-up, then has the leaders stop. A machine that stands
    /// still meanwhile has more time, until an aggregate has ended.
    pub(super) fn watch(
        &self,
        warm_up: Duration,
        measured: Duration,
        lead: impl FnOnce() -> Result<()>,
    ) -> Result<Seen> {
        let (elapsed, used) = thread::scope(|scope| {
            let clock = scope.spawn(|| -> Result<(Duration, Duration)> {
                let own_cpu_time = || process::cpu_time_of(std::process::id());
                wait(warm_up);
                self.phase.store(MEASURE, Ordering::Relaxed);
                let (started, before) = (Instant::now(), own_cpu_time()?);
                wait(measured);
                while !self.is_enough.load(Ordering::Relaxed) && started.elapsed() < PATIENCE {
                    wait(Duration::from_millis(1));
                }
                let used = own_cpu_time()? - before;
                self.phase.store(STOP, Ordering::Relaxed);
                Ok((started.elapsed(), used))
            });
            let outcome = lead();
            self.is_enough.store(true, Ordering::Relaxed);
            let seen = clock
                .join()
                .unwrap_or_else(|cause| std::panic::resume_unwind(cause));
            outcome.and(seen)
        })?;
        let latencies = self
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        if latencies.is_empty() {
            bail!("no aggregate ended in {measured:?}");
        }
        let micros = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Seen {
            aggregates: latencies.len(),
            seconds: elapsed.as_secs_f64(),
            cpu_seconds: used.as_secs_f64(),
            p50_us: micros(0.5),
            p99_us: micros(0.99),
        })
    }
}

/// One leader's count. Each has its own, since threads among the leaders would contend for one.
#[derive(Debug)]
pub(super) struct Laps<'a> {
    meter: &'a Meter,
    began: Instant,
    latencies: Histogram<u64>,
}

impl Laps<'_> {
    /// Counts an aggregate that ends now, where the next begins; false once it is time to stop.
    #[inline]
    pub(super) fn count(&mut self) -> bool {
        let now = Instant::now();
        let nanos = (now - self.began).as_nanos() as u64;
        self.began = now;
        match self.meter.phase.load(Ordering::Relaxed) {
            MEASURE => {
                if self.latencies.is_empty() {
                    self.meter.is_enough.store(true, Ordering::Relaxed);
                }
                self.latencies.saturating_record(nanos);
            }
            STOP => return false,
            _ => {}
        }
        true
    }
}

impl Drop for Laps<'_> {
    fn drop(&mut self) {
        let all = &mut self
            .meter
            .latencies
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        // All have the same bounds.
        let _ = all.add(&self.latencies);
    }
}

/// From a nanosecond to a minute, to a hundredth, which is small enough to stay in the cache.
fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 2)?)
}

fn wait(time: Duration) {
    let until = Instant::now() + time;
    while let Some(left) = until.checked_duration_since(Instant::now()) {
        thread::park_timeout(left);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_ends_in_the_warm_up_does_not_count() {
        let meter = Meter::new().unwrap();
        let mut laps = meter.laps().unwrap();
        assert!(laps.count());
        meter.phase.store(MEASURE, Ordering::Relaxed);
        assert!(laps.count() && laps.count());
        meter.phase.store(STOP, Ordering::Relaxed);
        assert!(!laps.count());
        drop(laps);
        assert_eq!(meter.latencies.into_inner().unwrap().len(), 2);
    }

    #[test]
    fn leaders_count_until_the_time_is_over() {
        let meter = Meter::new().unwrap();
        let time = Duration::from_millis(20);
        let seen = meter.watch(time, time, || {
            let mut laps = meter.laps()?;
            while laps.count() {
                thread::yield_now();
            }
            Ok(())
        });
        let seen = seen.unwrap();
        assert!(seen.aggregates > 0 && seen.seconds >= 0.02, "{seen:?}");
        assert!(seen.p50_us <= seen.p99_us, "{seen:?}");
    }

    #[test]
    fn a_time_without_aggregates_is_an_error() {
        let time = Duration::from_millis(1);
        let seen = Meter::new().unwrap().watch(time, time, || Ok(()));
        assert!(seen.unwrap_err().to_string().contains("no aggregate"));
    }

    #[test]
    fn the_time_of_an_aggregate_is_a_share_of_all() {
        let seen = Seen {
            aggregates: 4,
            seconds: 1.0,
            cpu_seconds: 2e-6,
            p50_us: 0.0,
            p99_us: 0.0,
        };
        assert_eq!(seen.cpu_us(), 0.5);
    }
}
