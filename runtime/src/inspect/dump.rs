//! The report as text, with a backtrace of every suspended coroutine.

use std::{
    fmt::{self, Write},
    sync::Arc,
};

use super::{Coroutine, Snapshot, Worker, collect};
use crate::{
    cancel, coroutine, scheduler,
    sys::{
        trace::{Frame, Trace},
        witness,
    },
    wait,
};

/// All workers and coroutines of the process as text, each suspended coroutine with its backtrace, like a
/// dump of goroutines or threads.
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
        return render(&seen);
    }
    // Naming frames takes long enough to be none of a worker's business.
    let theirs = seen.clone();
    let named = cancel::shield(|| crate::offload(move || render(&theirs)));
    named.unwrap_or_else(|_| render(&seen))
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
        for coroutine in worker.coroutines() {
            write_coroutine(out, coroutine)?;
        }
    }
    Ok(())
}

fn write_worker(out: &mut String, worker: &Worker) -> fmt::Result {
    if worker.is_busy() {
        return writeln!(
            out,
            "\nworker {}: busy, a coroutine holds it",
            worker.name()
        );
    }
    writeln!(
        out,
        "\nworker {}: {} coroutines, {} ready, {} not begun, {} timers, {} descriptors",
        worker.name(),
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

fn write_coroutine(out: &mut String, coroutine: &Coroutine) -> fmt::Result {
    writeln!(out, "\n{coroutine}")?;
    let stack = coroutine.stack();
    write!(
        out,
        "  stack {} KiB at {:#x}, depth {} bytes",
        (stack.end - stack.start) / 1024,
        stack.start,
        coroutine.depth()
    )?;
    if let Some(touched) = coroutine.touched() {
        write!(out, ", touched {} KiB", touched / 1024)?;
    }
    if let (Some(turns), Some(ran)) = (coroutine.turns(), coroutine.run_time()) {
        write!(out, "; {turns} turns, {ran:.1?}")?;
    }
    out.push('\n');
    match &coroutine.trace {
        Some(trace) => write_trace(out, trace),
        None => writeln!(out, "  (too little stack left for a backtrace)"),
    }
}

pub(super) fn write_trace(out: &mut String, trace: &Trace) -> fmt::Result {
    let frames = trace.frames();
    for (number, frame) in own_frames(&frames).iter().enumerate() {
        writeln!(out, "  {number:2}: {frame}")?;
    }
    Ok(())
}

/// What lies between the way out of a coroutine and the way into it. Files tell those apart: functions that
/// were inlined are known by their last name only.
fn own_frames(frames: &[Frame]) -> &[Frame] {
    let is_in = |frame: &Frame, files: &[&str]| {
        let file = frame.file.as_deref().unwrap_or_default();
        files.iter().any(|known| file.ends_with(known))
    };
    let switch = [coroutine::FILE];
    let door = [coroutine::FILE, scheduler::FILE, wait::FILE];
    let witness = frames
        .iter()
        .position(|frame| is_in(frame, &[witness::FILE]));
    let frames = match witness {
        // Of a coroutine that ran: what the signal interrupted lies beyond its handler and trampoline.
        Some(handler) => &frames[(handler + 2).min(frames.len())..],
        None => {
            let out = frames.iter().position(|frame| is_in(frame, &switch));
            let frames = &frames[out.unwrap_or(0)..];
            let begin = frames.iter().position(|frame| !is_in(frame, &door));
            &frames[begin.unwrap_or(0)..]
        }
    };
    let end = frames.iter().position(|frame| is_in(frame, &switch));
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
