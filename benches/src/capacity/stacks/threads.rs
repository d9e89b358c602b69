//! The standard library's threads.

use std::{
    sync::Arc,
    thread::{self, Builder, park},
};

use anyhow::{Result, anyhow};

use super::{BATCH, arrivals::Arrivals, spec::Spec, stages::Stages, touch::touch};

pub(super) fn run(spec: &Spec) -> Result<()> {
    let mut stages = Stages::begin(spec.count, "mprotect")?;
    let spawner = thread::current();
    let gate = Arc::new(Arrivals::new(move || spawner.unpark()));
    let (pages, slot) = (spec.touch, usize::try_from(spec.slot.0)?);
    let mut handles = Vec::with_capacity(usize::try_from(spec.count)?);
    let mut cause = None;
    for begun in 1..=spec.count {
        let place = Arc::clone(&gate);
        let body = move || {
            touch(pages);
            place.wait(park);
        };
        match Builder::new().stack_size(slot).spawn(body) {
            Ok(handle) => handles.push(handle),
            Err(error) => {
                cause = Some(error.to_string());
                break;
            }
        }
        if begun % BATCH == 0 {
            gate.await_all(begun, park);
            stages.reached(begun)?;
        }
    }
    gate.await_all(handles.len() as u64, park);
    stages.parked(handles.len() as u64, cause)?;
    gate.open();
    for handle in &handles {
        handle.thread().unpark();
    }
    for (joined, handle) in handles.into_iter().enumerate() {
        handle.join().map_err(|_| anyhow!("a thread panicked"))?;
        stages.joined(joined as u64)?;
    }
    stages.ended()?;
    stages.finish()
}
