//! Many coroutines at once, each with a stack of its own, all parked until one event ends them.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering::SeqCst},
};

use maniple::{Runtime, spawn, sync::Condvar, sync::Mutex, yield_now};

/// Parks so many coroutines at once, then lets them go, and holds that every one of them was there.
fn park_and_end(count: usize) {
    let runtime = Runtime::builder()
        .workers(2)
        // Room for the stacks that the other worker keeps at hand.
        .max_coroutines(count + count / 100)
        .build()
        .unwrap();
    let ended = Arc::new(AtomicUsize::new(0));
    runtime.run(|| {
        let gate = Arc::new((Mutex::new((0, false)), Condvar::new()));
        let parked: Vec<_> = (0..count)
            .map(|own| {
                let (gate, ended) = (gate.clone(), ended.clone());
                spawn(move || {
                    let mut state = gate.0.lock();
                    state.0 += 1;
                    gate.1.wait_while(&mut state, |(_, open)| !*open);
                    drop(state);
                    ended.fetch_add(1, SeqCst);
                    own
                })
            })
            .collect();
        while gate.0.lock().0 < count {
            yield_now();
        }
        assert_eq!(ended.load(SeqCst), 0, "all of them are parked at once");
        gate.0.lock().1 = true;
        gate.1.notify_all();
        for (expected, one) in parked.into_iter().enumerate() {
            assert_eq!(one.join().unwrap(), expected);
        }
    });
    assert_eq!(ended.load(SeqCst), count);
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_hundred_thousand_coroutines_are_parked_at_once() {
    park_and_end(100_000);
}

#[test]
#[ignore = "needs 5 GiB"]
fn a_million_coroutines_are_parked_at_once() {
    park_and_end(1_000_000);
}
