//! The stall watchdog: names coroutines that keep their worker for too long.

use std::{
    fmt::Write,
    io,
    sync::{
        Arc, Condvar, Mutex, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    thread::JoinHandle,
    time::Duration,
};

use super::dump::write_trace;
use crate::{
    coroutine::Gate,
    scheduler::snapshot::{self, At, Turn},
    sys::fenced,
};

/// Watches all workers of the process for coroutines that keep them for longer than `limit` without a wait, and
/// warns of each through the `log` crate, target `maniple::stall`: its name, its id, where it was spawned and,
/// as a backtrace, where it is. Ends when the returned guard is dropped.
///
/// A coroutine that keeps its worker delays all others there. Long computations belong into
/// [`offload`](crate::offload()), or between calls of [`yield_now`](crate::yield_now). A worker that is kept
/// *between* two coroutines is reported too: code of yours may run there, as a waker's or a logger's.
///
/// A worker that waits for nothing but other coroutines is no stall, but if *all* coroutines wait for each other, and
/// that for two seconds or more, the watch says once that it may be a deadlock, and which coroutine waits for what:
/// see [`Snapshot::looks_deadlocked`](super::Snapshot::looks_deadlocked). It is a hint: a plain thread may still come.
///
/// It is a thread that looks four times in each `limit`, at least every second; a stall is reported once,
/// after one to one and a quarter limits. Time is the clock's: a worker that gets no processor counts as kept.
///
/// # The backtrace
/// The culprit is named first, then looked at. A thread that sleeps in a system call is looked at from outside,
/// with the help of `/proc`, and does not notice. One that computes is asked by the signal `SIGURG`, whose
/// handler is installed for good at the first stall, and passes signals that are not ours on to the handler
/// before it. If in that moment the thread makes a system call that a signal cuts short, such as a receive with
/// a time limit of its own, it may see `EINTR`. The stack is copied and walked elsewhere, so code without
/// unwinding tables cuts the backtrace short, and no more. There is none for a coroutine that is on a stack of
/// another library's, where the signal is blocked, or without `/proc`.
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
    let (stop, thread) = start(limit, Whose::Program)?;
    ASKED_FOR.fetch_add(1, Ordering::Relaxed);
    Ok(StallWatch {
        stop,
        thread: Some(thread),
    })
}

/// Watches in the same way, for good, while the program itself does not and has a logger that would hear of it. For
/// `maniple-hook` alone: no part of what versions promise.
///
/// # Errors
/// As those of [`watch_stalls`].
#[doc(hidden)]
pub fn watch_stalls_unasked(limit: Duration) -> io::Result<()> {
    start(limit, Whose::Library).map(drop)
}

/// Watches that the program has started, and that have not ended.
static ASKED_FOR: AtomicUsize = AtomicUsize::new(0);

/// Who has wanted a watch.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Whose {
    Program,
    Library,
}

fn start(limit: Duration, whose: Whose) -> io::Result<(Arc<Stop>, JoinHandle<()>)> {
    if limit < Duration::from_millis(1) {
        return Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            format!("stall limit of {limit:?}: at least 1ms"),
        ));
    }
    drop(Gate::shut()?);
    let stop = Arc::new(Stop::default());
    let theirs = stop.clone();
    let thread = std::thread::Builder::new()
        .name("maniple-stall".to_owned())
        .spawn(move || watch(limit, whose, &theirs))?;
    Ok((stop, thread))
}

/// Ends the watching when dropped; made by [`watch_stalls`].
#[derive(Debug)]
#[must_use = "dropping it ends the watch"]
pub struct StallWatch {
    stop: Arc<Stop>,
    thread: Option<JoinHandle<()>>,
}

impl Drop for StallWatch {
    fn drop(&mut self) {
        ASKED_FOR.fetch_sub(1, Ordering::Relaxed);
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
struct Seen {
    at: At,
    number: (u64, u32, u32),
    looks: u32,
}

/// Looks in each limit.
const LOOKS: u32 = 4;

fn watch(limit: Duration, whose: Whose, stop: &Stop) {
    let pause = (limit / LOOKS).min(Duration::from_secs(1));
    let patience = u32::try_from(limit.as_nanos().div_ceil(pause.as_nanos())).unwrap_or(u32::MAX);
    let mut seen: Vec<Seen> = Vec::new();
    let mut silence = Silence::new(pause);
    while !stop.wait(pause) {
        let is_heard = log::max_level() >= log::LevelFilter::Warn;
        if whose == Whose::Library && !(is_heard && ASKED_FOR.load(Ordering::Relaxed) == 0) {
            seen.clear();
            continue;
        }
        let turns = snapshot::turns();
        if silence.lasts(&turns) {
            fenced::call_or_tell(
                || "looking for a deadlock".to_owned(),
                || silence.told = tell_of_deadlock(),
            );
        }
        let mut now = Vec::with_capacity(turns.len());
        for turn in turns.iter().filter(|turn| turn.at != At::Rest) {
            let is_it = |seen: &&Seen| (seen.at, seen.number) == (turn.at, turn.number);
            let looks = seen.iter().find(is_it).map_or(0, |seen| seen.looks + 1);
            now.push(Seen {
                at: turn.at,
                number: turn.number,
                looks,
            });
            // Once for each: it goes on counting.
            if looks == patience {
                fenced::call_or_tell(|| "reporting a stall".to_owned(), || report(turn, limit));
            }
        }
        seen = now;
    }
}

/// For how long no coroutine has had a turn.
struct Silence {
    /// Turns of all workers so far.
    turns: Vec<u64>,
    looks: u32,
    /// The look at which everybody is asked: later in the same silence all would say the same.
    ask_at: u32,
    told: bool,
}

impl Silence {
    fn new(pause: Duration) -> Self {
        Self {
            turns: Vec::new(),
            looks: 0,
            ask_at: u32::try_from(SILENCE.as_nanos().div_ceil(pause.as_nanos()))
                .unwrap_or(u32::MAX),
            told: false,
        }
    }

    /// Whether it lasts long enough to ask everybody, which is costly: once in each silence, and no more once a
    /// deadlock was told of.
    fn lasts(&mut self, seen: &[Turn]) -> bool {
        let turns: Vec<u64> = seen.iter().map(|turn| turn.number.0).collect();
        let is_silent = seen.iter().all(|turn| turn.at != At::Turn) && turns == self.turns;
        self.looks = if is_silent {
            self.looks.saturating_add(1)
        } else {
            0
        };
        self.turns = turns;
        self.looks == self.ask_at && !self.told && !self.turns.is_empty()
    }
}

/// So long must nothing have happened for a deadlock to be looked for.
const SILENCE: Duration = Duration::from_secs(2);

/// Of the coroutines in a deadlock, so many are named.
const NAMED: usize = 10;

/// Whether there is one, and then says so.
fn tell_of_deadlock() -> bool {
    let seen = super::snapshot();
    if !seen.looks_deadlocked() {
        return false;
    }
    let mut who = String::new();
    for coroutine in seen.coroutines().take(NAMED) {
        let name = coroutine.name().map(|name| format!(" {name:?}"));
        // Writing to a string does not fail.
        let _ = write!(
            who,
            "\n  coroutine {}{}, spawned at {}, waits for {}",
            coroutine.id(),
            name.unwrap_or_default(),
            coroutine.spawned_at(),
            coroutine.waits_for().unwrap_or_default(),
        );
    }
    let more = seen.coroutines().count().saturating_sub(NAMED);
    if more > 0 {
        let _ = write!(who, "\n  and {more} more");
    }
    fenced::tell!(
        warn,
        target: "maniple::stall",
        "every coroutine waits for another one, and no timer or descriptor is awaited: deadlock?{who}"
    );
    true
}

fn report(turn: &Turn, limit: Duration) {
    let Some(culprit) = turn.culprit() else {
        return;
    };
    let mut place = String::new();
    if let Some(trace) = turn.whereabouts(&culprit) {
        place.push('\n');
        // Writing to a string does not fail.
        let _ = write_trace(&mut place, &trace.frames(), true);
    }
    let worker = turn.worker.escape_debug();
    let place = place.trim_end();
    match culprit.coroutine {
        Some(coroutine) => fenced::tell!(
            warn,
            target: "maniple::stall",
            "{coroutine} has kept worker {worker} for over {limit:?}{place}"
        ),
        None => fenced::tell!(
            warn,
            target: "maniple::stall",
            "worker {worker} has been kept between two coroutines for over {limit:?}, by a destructor, a waker, a \
             logger or the runtime's own work{place}"
        ),
    }
}
