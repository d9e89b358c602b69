//! tokio's tasks: what others have on a stack is a box that they keep.

use std::{
    hint::black_box,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ::tokio::{runtime::Builder, spawn, sync::Semaphore, task::yield_now};
use anyhow::Result;

use super::{
    BATCH,
    spec::{Spec, page_size},
    stages::Stages,
};

pub(super) fn run(spec: &Spec) -> Result<()> {
    let runtime = match spec.workers {
        1 => Builder::new_current_thread().build()?,
        workers => Builder::new_multi_thread()
            .worker_threads(workers.into())
            .build()?,
    };
    let mut stages = Stages::begin(spec.count, "-")?;
    let spec = *spec;
    let mut stages = runtime.block_on(async move {
        let main = spawn(async move {
            measure(&spec, &mut stages).await?;
            anyhow::Ok(stages)
        });
        main.await?
    })?;
    stages.ended()?;
    drop(runtime);
    stages.finish()
}

async fn measure(spec: &Spec, stages: &mut Stages) -> Result<()> {
    let bytes = usize::try_from(u64::from(spec.touch) * page_size())?;
    let gate = Arc::new(Semaphore::new(0));
    let arrived = Arc::new(AtomicU64::new(0));
    let mut handles = Vec::with_capacity(usize::try_from(spec.count)?);
    for begun in 1..=spec.count {
        let (gate, arrivals) = (Arc::clone(&gate), Arc::clone(&arrived));
        handles.push(spawn(async move {
            let state = black_box(vec![1_u8; bytes].into_boxed_slice());
            arrivals.fetch_add(1, Ordering::Relaxed);
            // Closed, not granted.
            let _ = gate.acquire().await;
            black_box(state);
        }));
        if begun % BATCH == 0 {
            settle(begun, &arrived).await;
            stages.reached(begun)?;
        }
    }
    settle(spec.count, &arrived).await;
    stages.parked(spec.count, None)?;
    gate.close();
    for (joined, handle) in handles.into_iter().enumerate() {
        handle.await?;
        stages.joined(joined as u64)?;
    }
    Ok(())
}

async fn settle(count: u64, arrived: &AtomicU64) {
    while arrived.load(Ordering::Relaxed) < count {
        yield_now().await;
    }
}
