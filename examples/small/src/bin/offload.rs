//! Work that computes goes to a thread, so that the coroutines beside it go on.
//!
//! Try it: `cargo run --release --bin offload`.

use std::{
    io,
    time::{Duration, Instant},
};

/// A second or so of computing, without a wait.
fn primes(below: u64) -> usize {
    let is_prime = |n: &u64| {
        (2..)
            .take_while(|d| d * d <= *n)
            .all(|d| !n.is_multiple_of(d))
    };
    (2..below).filter(is_prime).count()
}

fn main() -> io::Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let (found, ticks) = maniple::join!(maniple::offload(|| primes(200_000)), heartbeat());
        println!(
            "{} primes, and the worker was never kept for longer than {ticks:.0?}",
            found?
        );
        Ok(())
    })
}

/// For a tenth of a second: how late a sleep of a millisecond ends at worst.
fn heartbeat() -> Duration {
    let beat = || {
        let began = Instant::now();
        maniple::sleep(Duration::from_millis(1));
        began.elapsed()
    };
    (0..100).map(|_| beat()).max().unwrap_or_default()
}
