//! maniple's coroutines.

use std::sync::{
    Arc,
    atomic::{AtomicU64, Ordering},
};

use anyhow::{Result, bail};
use maniple::{
    JoinHandle, Runtime,
    inspect::{self, GuardKind},
    runtime::{NoOverflow, StackGuard},
    spawn,
    sync::Semaphore,
    yield_now,
};

use super::{
    BATCH,
    spec::{Guard, Spec},
    stages::Stages,
    touch::touch,
};

pub(super) fn run(spec: &Spec) -> Result<()> {
    let builder = Runtime::builder()
        .workers(spec.workers.into())
        .stack_size(usize::try_from(spec.slot.0)?)
        .max_coroutines(usize::try_from(spec.count)?.saturating_add(1024));
    let builder = match spec.guard {
        Guard::Auto => builder.stack_guard(StackGuard::Auto),
        Guard::Madvise => builder.stack_guard(StackGuard::Madvise),
        Guard::Mprotect => builder.stack_guard(StackGuard::Mprotect),
        // SAFETY: `Spec::refused` leaves room on each stack for the pages touched and for the engine's frames, and
        // nothing else runs there.
        Guard::None => builder.without_stack_guards(unsafe { NoOverflow::promised() }),
    };
    let runtime = builder.build()?;
    let mut stages = Stages::begin(spec.count, guard()?)?;
    runtime.run(|| measure(spec, &mut stages))?;
    if !runtime.shutdown().is_clean() {
        bail!("coroutines were left behind");
    }
    stages.finish()
}

fn guard() -> Result<&'static str> {
    let kinds: Vec<GuardKind> = inspect::stacks()
        .iter()
        .map(|stacks| stacks.guard())
        .collect();
    Ok(match kinds[..] {
        [GuardKind::Madvise] => "madvise",
        [GuardKind::Mprotect] => "mprotect",
        [GuardKind::None] => "none",
        _ => bail!("guards cannot be told: {kinds:?}"),
    })
}

fn measure(spec: &Spec, stages: &mut Stages) -> Result<()> {
    let pages = spec.touch;
    let gate = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(AtomicU64::new(0));
    let mut handles = Vec::with_capacity(usize::try_from(spec.count)?);
    // A coroutine that gets no stack ends before it begins.
    let mut lost = None;
    for begun in 1..=spec.count {
        let (gate, arrivals) = (Arc::clone(&gate), Arc::clone(&arrived));
        handles.push(spawn(move || {
            touch(pages);
            arrivals.fetch_add(1, Ordering::Relaxed);
            // Closed, not granted.
            let _ = gate.acquire();
        }));
        if begun % BATCH == 0 || begun == spec.count {
            lost = settle(&mut handles, &arrived);
            stages.reached(handles.len() as u64)?;
        }
        if lost.is_some() {
            break;
        }
    }
    stages.parked(handles.len() as u64, lost)?;
    gate.close();
    for (joined, handle) in handles.into_iter().enumerate() {
        handle.join()?;
        stages.joined(joined as u64)?;
    }
    stages.ended()
}

/// Waits until all wait or have ended for want of a stack; takes the latter away and says why.
fn settle(handles: &mut Vec<JoinHandle<()>>, arrived: &AtomicU64) -> Option<String> {
    let recent = handles
        .len()
        .saturating_sub(usize::try_from(BATCH).unwrap_or(usize::MAX));
    loop {
        let waiting = arrived.load(Ordering::Relaxed);
        let ended = handles[recent..]
            .iter()
            .filter(|handle| handle.is_finished())
            .count();
        if waiting + ended as u64 >= handles.len() as u64 {
            break;
        }
        yield_now();
    }
    let ended: Vec<_> = handles
        .extract_if(recent.., |handle| handle.is_finished())
        .collect();
    let causes = ended.into_iter().filter_map(|handle| handle.join().err());
    causes.map(|error| error.to_string()).last()
}
