//! Everything at once, across workers, for some seconds; then nothing may be left.
//!
//! `MANIPLE_STRESS_SECONDS=30 MANIPLE_SEED=7 cargo test -p maniple --release stress` replays a seed.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{
    JoinError,
    cancel::CancelToken,
    group,
    net::{TcpListener, TcpStream},
    sleep, spawn,
    sync::{Mutex, channel},
    timeout, yield_now,
};

use super::on;

struct Alive(Arc<AtomicUsize>);

impl Alive {
    fn new(count: &Arc<AtomicUsize>) -> Self {
        count.fetch_add(1, Ordering::SeqCst);
        Self(count.clone())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::SeqCst);
    }
}

/// xorshift64: enough to mix, and replayable.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % sides
    }
}

fn env(name: &str, default: u64) -> u64 {
    std::env::var(name)
        .ok()
        .and_then(|value| value.parse().ok())
        .unwrap_or(default)
}

#[test]
fn a_mix_of_everything_leaves_nothing_behind() {
    let seed = env("MANIPLE_SEED", 0x5eed_1234_abcd);
    let seconds = env("MANIPLE_STRESS_SECONDS", 3);
    println!("MANIPLE_SEED={seed}");
    std::panic::set_hook(Box::new(|info| {
        let intended = info.payload().downcast_ref::<&str>() == Some(&"intended");
        if !intended {
            eprintln!("{info}");
        }
    }));
    let alive = Arc::new(AtomicUsize::new(0));
    for workers in [1, 2, 8] {
        let until = Instant::now() + Duration::from_millis(seconds * 1_000 / 3);
        let alive = alive.clone();
        on(workers, move || churn(seed + workers as u64, until, &alive));
    }
    assert_eq!(alive.load(Ordering::SeqCst), 0, "values were lost");
}

fn churn(seed: u64, until: Instant, alive: &Arc<AtomicUsize>) {
    let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
    let address = listener.local_addr().unwrap();
    let echo = spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            spawn(move || {
                let mut buffer = [0; 64];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        return;
                    }
                }
            });
        }
    });
    let shared = Arc::new(Mutex::new(0u64));
    let mut dice = Dice(seed | 1);
    while Instant::now() < until {
        let batch: Vec<_> = (0..32)
            .map(|_| {
                let (kind, delay) = (dice.roll(9), dice.roll(300));
                let (value, shared) = (Alive::new(alive), shared.clone());
                let task = spawn(move || {
                    act(kind, Duration::from_micros(delay), &shared, address);
                    value
                });
                (task, dice.roll(4) == 0)
            })
            .collect();
        for (task, cancel) in &batch {
            if *cancel {
                task.cancel();
            }
        }
        for (task, cancelled) in batch {
            if let Err(error) = task.join() {
                assert!(error.is_panic() || cancelled, "{error}");
            }
        }
    }
    echo.cancel();
    echo.join().unwrap();
}

fn act(kind: u64, delay: Duration, shared: &Mutex<u64>, address: std::net::SocketAddr) {
    match kind {
        0 => panic!("intended"),
        1 => drop(timeout(delay, || sleep(Duration::from_secs(600)))),
        2 => {
            let mut guard = shared.lock();
            yield_now();
            *guard += 1;
        }
        3 => {
            let (send, receive) = channel::bounded(1);
            let _ = maniple::join!((0..8).try_for_each(|n| send.send(n).map_err(drop)), {
                (0..8).filter(|_| receive.recv().is_ok()).count()
            });
        }
        4 => {
            let outcome: Result<(), JoinError> = group(|g| {
                for _ in 0..3 {
                    g.spawn(|| sleep(delay));
                }
                Ok(())
            });
            drop(outcome);
        }
        5 => {
            let token = CancelToken::new();
            let theirs = token.clone();
            let canceller = spawn(move || theirs.cancel());
            let _ = token.run(|| sleep(Duration::from_secs(600)));
            let _ = canceller.join();
        }
        6 | 7 => {
            let Ok(mut stream) = TcpStream::connect(address) else {
                return;
            };
            let _ = stream.write_all(b"ping");
            if kind == 6 {
                let _ = timeout(delay, || stream.read(&mut [0; 4]));
            }
        }
        _ => drop(maniple::offload(|| std::hint::black_box(1 + 1))),
    }
}
