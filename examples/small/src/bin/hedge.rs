//! Hedging: a second attempt where the first is slower than most, and whichever answers first.
//!
//! Try it: `cargo run --bin hedge`.

use std::{
    io,
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use maniple::group::Hedger;

/// One call in ten takes half a second, as where a server collects garbage.
fn call(calls: &AtomicU32) -> io::Result<u32> {
    let n = calls.fetch_add(1, Relaxed);
    let slow = n % 10 == 9;
    maniple::sleep(Duration::from_millis(if slow { 500 } else { 5 }));
    Ok(n)
}

fn main() -> io::Result<()> {
    maniple::run(|| {
        let calls = AtomicU32::new(0);
        let hedger = Hedger::new(Duration::from_millis(50)); // learns the delay from what it sees
        let mut slowest = Duration::ZERO;
        for _ in 0..50 {
            let began = Instant::now();
            hedger.run(|_attempt| call(&calls))?;
            slowest = slowest.max(began.elapsed());
        }
        println!(
            "50 answers by {} calls, the slowest after {slowest:.0?}",
            calls.into_inner()
        );
        Ok(())
    })
}
