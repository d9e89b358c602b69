//! What the kernel's part of a request costs: the limit's system calls, timed as they serve a load.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};

/// System calls of a server.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Call {
    Read,
    Write,
    /// For events.
    Wait,
}

/// Sees the limit's system calls.
pub(super) trait Observer {
    fn around<T>(&mut self, call: Call, f: impl FnOnce() -> T) -> T;
    /// The last connection was closed.
    fn all_closed(&mut self);
}

/// The limit as it is compared to: nobody looks.
pub(super) struct Unobserved;

impl Observer for Unobserved {
    #[inline(always)]
    fn around<T>(&mut self, _: Call, f: impl FnOnce() -> T) -> T {
        f()
    }

    fn all_closed(&mut self) {}
}

/// CPU time of calls of one kind.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Timing {
    pub(crate) calls: u64,
    pub(crate) nanos: u64,
}

impl Timing {
    /// Of one call.
    pub(crate) fn mean_us(&self) -> f64 {
        self.nanos as f64 / self.calls.max(1) as f64 / 1e3
    }
}

/// What all calls of a run took, printed as one line of JSON.
#[derive(Clone, Copy, Debug, Default, Deserialize, Serialize)]
pub(crate) struct Timings {
    pub(crate) read: Timing,
    pub(crate) write: Timing,
    pub(crate) wait: Timing,
}

/// Asks for the thread's CPU time before and after, since waiting and being interrupted cost nobody's request.
pub(super) struct Timed {
    timings: Timings,
    /// What asking takes, which is no part of the call.
    overhead: Duration,
}

impl Timed {
    pub(super) fn new() -> Self {
        let mut askings: Vec<Duration> = (0..10_001)
            .map(|_| {
                let before = cpu_time();
                cpu_time().saturating_sub(before)
            })
            .collect();
        let (_, &mut overhead, _) = askings.select_nth_unstable(5_000);
        Self {
            timings: Timings::default(),
            overhead,
        }
    }
}

impl Observer for Timed {
    fn around<T>(&mut self, call: Call, f: impl FnOnce() -> T) -> T {
        let before = cpu_time();
        let result = f();
        let taken = cpu_time().saturating_sub(before);
        let timing = match call {
            Call::Read => &mut self.timings.read,
            Call::Write => &mut self.timings.write,
            Call::Wait => &mut self.timings.wait,
        };
        timing.calls += 1;
        timing.nanos += taken.saturating_sub(self.overhead).as_nanos() as u64;
        result
    }

    fn all_closed(&mut self) {
        let line = serde_json::to_string(&self.timings).expect("numbers can be written");
        println!("{line}");
    }
}

/// Of this thread.
fn cpu_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(
        time.tv_sec.unsigned_abs(),
        time.tv_nsec.unsigned_abs() as u32,
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_call_is_timed_as_its_kind() {
        let mut timed = Timed::new();
        let spin = || {
            let begun = cpu_time();
            while cpu_time() - begun < Duration::from_millis(1) {}
        };
        assert_eq!(timed.around(Call::Read, || 7), 7);
        timed.around(Call::Write, spin);
        timed.around(Call::Write, spin);
        let Timings { read, write, wait } = timed.timings;
        assert_eq!((read.calls, write.calls, wait.calls), (1, 2, 0));
        assert!(write.mean_us() > 500.0, "{write:?}");
        assert!(read.nanos < write.nanos, "{read:?} {write:?}");
    }
}
