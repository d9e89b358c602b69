//! The stall watchdog: names coroutines that keep their worker for too long.

use std::{
    io,
    sync::{Arc, Condvar, Mutex, PoisonError},
    time::Duration,
};

use super::dump::write_trace;
use crate::{
    scheduler::survey::{self, Turn},
    sys::fenced,
};

/// Watches all workers of the process for coroutines that compute for longer than `limit` without a wait,
/// and warns of each through the `log` crate, target `maniple::stall`: its name, its id, where it was
/// spawned and, as a backtrace, where it is. Ends when the returned guard is dropped.
///
/// A coroutine that keeps its worker delays all others there. Long computations belong into
/// [`offload`](crate::offload()), or between calls of [`yield_now`](crate::yield_now).
///
/// It is a thread that looks four times in each `limit`, at least every second; a stall is reported once,
/// after one to one and a quarter limits. The backtrace is asked for by the signal `SIGURG`, whose handler
/// is installed for good at the first stall.
///
/// # Errors
/// If `limit` is shorter than a millisecond, no thread can be started, or the kernel lacks membarrier(2).
///
/// # Examples
/// ```
/// use std::time::Duration;
/// # fn main() -> std::io::Result<()> {
/// let _watch = maniple::inspect::watch_stalls(Duration::from_millis(100))?;
/// # Ok(())
/// # }
/// ```
pub fn watch_stalls(limit: Duration) -> io::Result<StallWatch> {
    if limit < Duration::from_millis(1) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("stall limit of {limit:?}: at least 1ms"),
        ));
    }
    survey::guard_running()?;
    let stop = Arc::new(Stop::default());
    let theirs = stop.clone();
    let thread = std::thread::Builder::new()
        .name("maniple-stall".to_owned())
        .spawn(move || watch(limit, &theirs))?;
    Ok(StallWatch {
        stop,
        thread: Some(thread),
    })
}

/// Ends the watching when dropped; made by [`watch_stalls`].
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct StallWatch {
    stop: Arc<Stop>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        *self.stop.flag() = true;
        self.stop.raised.notify_all();
        if let Some(thread) = self.thread.take()
            && let Err(payload) = thread.join()
        {
            fenced::tell!(error, "the stall watchdog panicked");
            fenced::discard(payload);
        }
    }
}

#[derive(Debug, Default)]
struct Stop {
    flag: Mutex<bool>,
    raised: Condvar,
}

impl Stop {
    fn flag(&self) -> std::sync::MutexGuard<'_, bool> {
        self.flag.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Waits for one look's distance; true if the watch has ended.
    fn wait(&self, pause: Duration) -> bool {
        let waited = self
            .raised
            .wait_timeout_while(self.flag(), pause, |raised| !*raised);
        *waited.unwrap_or_else(PoisonError::into_inner).0
    }
}

/// What was last seen of one worker.
#[derive(Clone, Copy, Default)]
struct Seen {
    worker_id: u32,
    turn: u64,
    looks: u32,
    reported: bool,
}

/// Looks in each limit.
const LOOKS: u32 = 4;

fn watch(limit: Duration, stop: &Stop) {
    let pause = (limit / LOOKS).min(Duration::from_secs(1));
    let patience = u32::try_from(limit.as_nanos().div_ceil(pause.as_nanos())).unwrap_or(u32::MAX);
    let mut seen: Vec<Seen> = Vec::new();
    while !stop.wait(pause) {
        let now = survey::turns();
        seen.retain(|seen| now.iter().any(|turn| turn.worker_id == seen.worker_id));
        for turn in now {
            let at = seen
                .iter()
                .position(|seen| seen.worker_id == turn.worker_id);
            let at = at.unwrap_or_else(|| {
                seen.push(Seen {
                    worker_id: turn.worker_id,
                    ..Seen::default()
                });
                seen.len() - 1
            });
            let seen = &mut seen[at];
            if !turn.running || seen.turn != turn.number {
                *seen = Seen {
                    worker_id: turn.worker_id,
                    turn: turn.number,
                    looks: 0,
                    reported: false,
                };
                continue;
            }
            seen.looks = seen.looks.saturating_add(1);
            if seen.looks >= patience && !seen.reported {
                seen.reported = true;
                report(&turn, limit);
            }
        }
    }
}

fn report(turn: &Turn, limit: Duration) {
    let trace = turn.whereabouts();
    let Some(culprit) = turn.culprit() else {
        return;
    };
    let mut place = String::new();
    if let Some(trace) = trace {
        place.push('\n');
        // Writing to a string does not fail.
        let _ = write_trace(&mut place, &trace);
    }
    let worker = &turn.worker;
    let place = place.trim_end();
    fenced::tell!(warn, target: "maniple::stall", "{culprit} has kept worker {worker} for over {limit:?}{place}");
}
