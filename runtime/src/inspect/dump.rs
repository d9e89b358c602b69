//! The report as text, with a backtrace of every suspended coroutine.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use super::{Coroutine, Snapshot, State, Told, Worker, collect, section};
use crate::{
    cancel, coroutine,
    scheduler::{now, snapshot::WorkerView, suspend},
    sys::trace::Frame,
    wait,
};

/// All workers and coroutines of the process as text, each suspended coroutine with its backtrace, like a
/// dump of goroutines or threads.
///
/// Of a worker that is held it tells who holds it, and where, and lists its other coroutines without backtraces.
/// How the holder is found is told at [`watch_stalls`](super::watch_stalls()). Behind it come the
/// [sections](super::add_section()) of others.
///
/// Frames have names and lines as far as the program has debug information; `debug =
/// "line-tables-only"` in the profile is enough. The first dump reads that information, which can take
/// a second. Otherwise as [`snapshot`](super::snapshot()).
///
/// # Examples
/// ```
/// let report = maniple::run(maniple::inspect::dump);
/// assert!(report.contains("worker maniple-0"));
/// ```
pub fn dump() -> String {
    let seen = Arc::new(collect(true));
    if crate::current().is_none() {
        return whole(&seen);
    }
    // Naming frames takes long enough to be none of a worker's business.
    let theirs = seen.clone();
    let named = cancel::shield(|| crate::offload(move || whole(&theirs)));
    named.unwrap_or_else(|_| whole(&seen))
}

fn whole(seen: &Snapshot) -> String {
    let mut report = render(seen);
    report += &section::told();
    report
}

/// What a worker tells of itself and its coroutines, as the report has it.
pub(crate) fn text_of(name: String, view: WorkerView) -> String {
    let at = now();
    render(&Snapshot {
        at,
        workers: vec![Worker::new(name, Told::Answer(view), at)],
        offload_queued: 0,
        on_standby: 0,
    })
}

fn render(seen: &Snapshot) -> String {
    let mut report = String::new();
    // Writing to a string does not fail.
    let _ = write_report(&mut report, seen);
    report
}

fn write_report(out: &mut String, seen: &Snapshot) -> fmt::Result {
    let count = seen.coroutines().count();
    writeln!(
        out,
        "{count} coroutines on {} workers, {} on standby, {} offloaded jobs waiting",
        seen.workers().len(),
        seen.on_standby(),
        seen.offload_queued()
    )?;
    if seen.looks_deadlocked() {
        writeln!(
            out,
            "hint: every coroutine waits for another one, and no timer or descriptor is awaited: deadlock?"
        )?;
    }
    for worker in seen.workers() {
        write_worker(out, worker)?;
        if let Some(holder) = worker.holder() {
            write_coroutine(out, holder, worker)?;
        }
        for coroutine in worker.coroutines() {
            write_coroutine(out, coroutine, worker)?;
        }
    }
    Ok(())
}

fn write_worker(out: &mut String, worker: &Worker) -> fmt::Result {
    let name = worker.name().escape_debug();
    match (worker.state, &worker.holder) {
        (State::Answered, _) => {}
        (State::Ended, _) => return writeln!(out, "\nworker {name}: ended with its runtime"),
        (State::Busy, Some(_)) => {
            let others = worker.coroutines().len();
            return writeln!(
                out,
                "\nworker {name}: busy, a coroutine holds it, {others} others are there"
            );
        }
        (State::Busy, None) => {
            writeln!(out, "\nworker {name}: busy between two coroutines")?;
            return match &worker.trace {
                Some(trace) => write_trace(out, &trace.frames(), true),
                None => writeln!(out, "  (it cannot be told where)"),
            };
        }
    }
    writeln!(
        out,
        "\nworker {name}: {} coroutines, {} ready, {} not begun, {} timers, {} descriptors",
        worker.coroutines().len(),
        worker.ready(),
        worker.unstarted(),
        worker.timers(),
        worker.descriptors()
    )?;
    writeln!(
        out,
        "  so far: {} begun, {} turns, {} polls, {} sleeps, {} steals, {} wakes from elsewhere",
        worker.begun(),
        worker.turns(),
        worker.polls(),
        worker.sleeps(),
        worker.steals(),
        worker.wakes_from_elsewhere()
    )
}

fn write_coroutine(out: &mut String, coroutine: &Coroutine, worker: &Worker) -> fmt::Result {
    writeln!(out, "\n{coroutine}")?;
    let stack = coroutine.stack();
    write!(
        out,
        "  stack {} KiB at {:#x}",
        (stack.end - stack.start) / 1024,
        stack.start,
    )?;
    if !coroutine.is_running() {
        write!(out, ", depth {} bytes", coroutine.depth())?;
    }
    if let Some(touched) = coroutine.touched() {
        write!(out, ", touched {} KiB", touched / 1024)?;
    }
    if let (Some(turns), Some(ran)) = (coroutine.turns(), coroutine.run_time()) {
        write!(out, "; {turns} turns, {ran:.1?}")?;
    }
    out.push('\n');
    let missing = match (&coroutine.trace, worker.state) {
        (Some(trace), _) => return write_trace(out, &trace.frames(), false),
        (None, _) if coroutine.is_running() => match &worker.trace {
            Some(trace) => return write_trace(out, &trace.frames(), true),
            None => "it cannot be told where it is",
        },
        (None, State::Answered) if coroutine.depth() == 0 => "on a stack of another's",
        (None, State::Answered) => "too little stack left for a backtrace",
        (None, _) => "no backtrace while its worker is held",
    };
    writeln!(out, "  ({missing})")
}

/// Writes the frames that say something, of a thread that ran or of a coroutine that was suspended.
pub(super) fn write_trace(out: &mut String, frames: &[Frame], ran: bool) -> fmt::Result {
    for (number, frame) in own_frames(frames, ran).iter().enumerate() {
        writeln!(out, "  {number:2}: {frame}")?;
    }
    Ok(())
}

/// What lies between the way out of a coroutine and the way into it. Files tell those apart: functions that
/// were inlined are known by their last name only.
fn own_frames(frames: &[Frame], ran: bool) -> &[Frame] {
    let is_in = |frame: &Frame, files: &[&str]| {
        let file = frame.file.as_deref().unwrap_or_default();
        files.iter().any(|known| file.ends_with(known))
    };
    let is_switch = |frame: &Frame| is_in(frame, &coroutine::FILES);
    let is_door = |frame: &Frame| {
        is_switch(frame) || is_in(frame, &[suspend::FILE]) || is_in(frame, &wait::FILES)
    };
    let out = frames.iter().position(is_switch);
    let frames = &frames[out.filter(|_| !ran).unwrap_or(0)..];
    let begin = frames.iter().position(|frame| !is_door(frame));
    let frames = &frames[begin.unwrap_or(0)..];
    let is_base =
        |frame: &Frame| is_switch(frame) || frame.function.contains("__rust_begin_short_backtrace");
    let end = frames.iter().position(is_base);
    let mut frames = &frames[..end.unwrap_or(frames.len())];
    while let [inner @ .., outermost] = frames
        && (outermost.function == "__rust_try" || is_in(outermost, &CATCHING))
    {
        frames = inner;
    }
    frames
}

/// Files of the standard library between the base of a coroutine and its body, where panics are caught.
const CATCHING: [&str; 4] = [
    "std/src/panic.rs",
    "std/src/panicking.rs",
    "core/src/panic/unwind_safe.rs",
    "core/src/ops/function.rs",
];
