//! Using the processor for a while.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

use super::Answer;

/// Keeps a core busy until this thread has had it for `time`: time for which others had the core does not count.
pub fn burn(time: Duration) -> Answer {
    let until = used() + time;
    let mut rounds = 0_u64;
    while used() < until {
        for round in 0..200 {
            rounds = std::hint::black_box(rounds + round % 2);
        }
    }
    Answer::ok(format!("{{\"burnt_us\":{}}}\n", time.as_micros()))
}

/// The processor time of this thread.
fn used() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
