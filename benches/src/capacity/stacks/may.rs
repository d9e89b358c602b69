//! may's coroutines.

use std::{
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use ::may::{
    coroutine::{self, JoinHandle, park},
    go,
};
use anyhow::{Result, anyhow};

use super::{
    BATCH,
    arrivals::Arrivals,
    spec::{Spec, page_size},
    stages::Stages,
    touch::touch,
};

pub(super) fn run(spec: &Spec) -> Result<()> {
    // In words, without the guard page that it adds.
    let words = usize::try_from((spec.slot.0 - page_size()) / size_of::<usize>() as u64)?;
    ::may::config()
        .set_workers(spec.workers.into())
        .set_pool_capacity(1)
        .set_stack_size(words);
    let spec = *spec;
    let main = go!(move || {
        let mut stages = Stages::begin(spec.count, "mprotect")?;
        measure(&spec, &mut stages)?;
        stages.finish()
    });
    main.join()
        .map_err(|panic| anyhow!("{}", message(&*panic)))?
}

fn measure(spec: &Spec, stages: &mut Stages) -> Result<()> {
    let pages = spec.touch;
    let spawner = coroutine::current();
    let gate = Arc::new(Arrivals::new(move || spawner.unpark()));
    let mut handles: Vec<JoinHandle<()>> = Vec::with_capacity(usize::try_from(spec.count)?);
    let mut cause = None;
    for begun in 1..=spec.count {
        let place = Arc::clone(&gate);
        let body = move || {
            touch(pages);
            place.wait(park);
        };
        // A stack that cannot be had is a panic.
        match catch_unwind(AssertUnwindSafe(|| go!(body))) {
            Ok(handle) => handles.push(handle),
            Err(panic) => {
                cause = Some(message(&*panic));
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
        handle.coroutine().unpark();
    }
    for (joined, handle) in handles.into_iter().enumerate() {
        handle
            .join()
            .map_err(|panic| anyhow!("{}", message(&*panic)))?;
        stages.joined(joined as u64)?;
    }
    stages.ended()
}

fn message(panic: &(dyn std::any::Any + Send)) -> String {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or(panic.downcast_ref::<&str>().copied());
    text.unwrap_or("a panic without a message").to_owned()
}
