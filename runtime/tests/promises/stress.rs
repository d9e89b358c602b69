//! Many tasks of all kinds at once, chosen by a seed, on 1, 2 and 8 workers and a plain thread; at the end nothing
//! is left over.
//!
//! `MANIPLE_SEED=7 MANIPLE_STRESS_SECONDS=60 cargo test -p maniple --release --test promises stress::` replays a
//! seed for longer. The choices replay; how threads interleave does not.

mod acts;

use std::{
    io::{Read, Write},
    net::SocketAddr,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    time::{Duration, Instant},
};

use maniple::{
    JoinError, JoinHandle, Runtime, block_on,
    cancel::{self, CancelToken},
    group,
    net::{TcpListener, TcpStream},
    offload, sleep, spawn, spawn_local,
    sync::{
        Condvar, Mutex, Notify, ReentrantMutex, RwLock, Semaphore,
        broadcast::{self, Lag},
        channel::{Receiver, Sender, bounded},
        watch,
    },
    task::spawn_on_workers,
    timeout, yield_now,
};

use super::passes_as_child;
use acts::{choose, halves, hear, meet, permits, policy, stream};

const PURPOSE: &str = "on purpose";

/// Counts the values that are alive: each task holds some, and messages are some.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(alive: &Arc<AtomicUsize>) -> Self {
        alive.fetch_add(1, SeqCst);
        Self(alive.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, SeqCst);
    }
}

/// splitmix64: one number leads to the next, and any number is a seed.
#[derive(Clone)]
struct Dice(u64);

impl Dice {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    fn micros(&mut self) -> Duration {
        Duration::from_micros(self.below(500))
    }
}

/// What all tasks share.
struct World {
    alive: Arc<AtomicUsize>,
    total: Mutex<(u64, u64)>,
    changed: Condvar,
    send: Sender<Counted>,
    receive: Receiver<Counted>,
    sent: AtomicUsize,
    received: AtomicUsize,
    address: SocketAddr,
    permits: Semaphore,
    inside: AtomicUsize,
    halves: RwLock<(u64, u64)>,
    depth: ReentrantMutex<()>,
    notify: Notify,
    latest: watch::Sender<u64>,
    news: broadcast::Sender<Arc<Counted>>,
}

const PERMITS: usize = 3;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).map_or(default, |text| text.parse().expect("a number"))
}

fn descriptors() -> usize {
    std::fs::read_dir("/proc/self/fd").unwrap().count()
}

#[test]
fn whatever_is_mixed_everything_ends_and_nothing_is_left() {
    passes_as_child("stress::mixing_child");
}

#[test]
#[ignore = "counts descriptors and hushes panics: a child of the test above"]
fn mixing_child() {
    let clock = std::time::UNIX_EPOCH.elapsed().unwrap();
    let seed = number("MANIPLE_SEED", clock.as_nanos() as u64);
    let seconds = number("MANIPLE_STRESS_SECONDS", 3);
    eprintln!("MANIPLE_SEED={seed}");
    let (done, ended) = mpsc::channel::<()>();
    let watchdog = std::thread::spawn(move || {
        let limit = Duration::from_secs(seconds + 60);
        if ended.recv_timeout(limit) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("hangs with MANIPLE_SEED={seed}");
            std::process::abort();
        }
    });
    let earlier = std::panic::take_hook();
    std::panic::set_hook(Box::new(move |info| {
        if info.payload().downcast_ref() != Some(&PURPOSE) {
            earlier(info);
        }
    }));
    // Once for what the process makes at its first use and keeps; the plain thread's coroutines have the default
    // runtime.
    spawn(|| ()).join().unwrap();
    one_world(1, seed, Instant::now());
    let before = descriptors();
    for workers in [1, 2, 8] {
        let until = Instant::now() + Duration::from_secs(seconds) / 3;
        one_world(workers, seed ^ workers as u64, until);
        assert_eq!(
            descriptors(),
            before,
            "descriptors are left, MANIPLE_SEED={seed}"
        );
    }
    drop(done);
    watchdog.join().unwrap();
}

fn one_world(workers: usize, seed: u64, until: Instant) {
    let alive = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    runtime.run(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || serve(&listener));
        let (send, receive) = bounded((seed % 4) as usize);
        let world = Arc::new(World {
            alive: alive.clone(),
            total: Mutex::new((0, 0)),
            changed: Condvar::new(),
            send,
            receive,
            sent: AtomicUsize::new(0),
            received: AtomicUsize::new(0),
            address,
            permits: Semaphore::new(PERMITS),
            inside: AtomicUsize::new(0),
            halves: RwLock::new((0, 0)),
            depth: ReentrantMutex::new(()),
            notify: Notify::new(),
            latest: watch::channel(0).0,
            news: broadcast::channel(4, Lag::DropOldest).0,
        });
        let (theirs, dice) = (world.clone(), Dice(seed));
        let plain = std::thread::spawn(move || plain_thread(dice, &theirs, until));
        let theirs = world.clone();
        let drivers = spawn_on_workers(move |worker| {
            let mut dice = Dice(seed.wrapping_add(worker as u64) << 8);
            loop {
                batch(&mut dice, &theirs);
                if Instant::now() >= until {
                    return;
                }
            }
        });
        drivers
            .into_iter()
            .for_each(|driver| driver.join().unwrap());
        offload(move || plain.join().unwrap()).unwrap();
        world
            .received
            .fetch_add(world.receive.try_iter().count(), SeqCst);
        assert_eq!(
            world.sent.load(SeqCst),
            world.received.load(SeqCst),
            "messages"
        );
        let total = world.total.lock();
        assert_eq!(
            total.0, total.1,
            "somebody was inside together with another"
        );
        let halves = world.halves.try_write().expect("unlocked");
        assert_eq!(halves.0, halves.1, "a writer was not alone");
        assert_eq!(world.permits.available(), PERMITS);
        assert!(!world.depth.is_locked());
        server.cancel();
        server.join().unwrap();
    });
    assert!(runtime.shutdown().is_clean(), "coroutines are left");
    assert_eq!(alive.load(SeqCst), 0, "values are left");
}

/// The same acts where waiting blocks, one after the other.
fn plain_thread(mut dice: Dice, world: &Arc<World>, until: Instant) {
    while Instant::now() < until {
        let act = AssertUnwindSafe(|| act(&mut dice, world));
        if let Err(payload) = catch_unwind(act) {
            assert_eq!(payload.downcast_ref(), Some(&PURPOSE));
        }
    }
}

fn serve(listener: &TcpListener) {
    let mut connections: Vec<JoinHandle<()>> = Vec::new();
    while let Ok((mut stream, _)) = listener.accept() {
        connections.retain(|connection| !connection.is_finished());
        connections.push(spawn(move || {
            let mut buffer = [0; 32];
            while let Ok(count @ 1..) = stream.read(&mut buffer) {
                if stream.write_all(&buffer[..count]).is_err() {
                    break;
                }
            }
        }));
    }
    // Every client is gone, so each of them comes to its end; but the accepting was cancelled, so that the
    // joining is shielded.
    cancel::shield(|| connections.into_iter().for_each(|one| one.join().unwrap()));
}

/// Spawns tasks, cancels some at some moment, and joins all.
fn batch(dice: &mut Dice, world: &Arc<World>) {
    let tasks: Vec<_> = (0..24)
        .map(|_| {
            let mut own = Dice(dice.next());
            let (world, value) = (world.clone(), Counted::new(&world.alive));
            let body = move || {
                act(&mut own, &world);
                value
            };
            if dice.below(3) == 0 {
                spawn_local(body)
            } else {
                spawn(body)
            }
        })
        .collect();
    (0..dice.below(4)).for_each(|_| yield_now());
    let cancelled: Vec<bool> = tasks.iter().map(|_| dice.below(4) == 0).collect();
    for (task, cancelled) in tasks.iter().zip(&cancelled) {
        if *cancelled {
            task.cancel();
        }
    }
    for (task, cancelled) in tasks.into_iter().zip(cancelled) {
        match task.join() {
            Ok(_) => {}
            Err(error) if error.is_panic() => {
                assert_eq!(error.into_panic().downcast_ref(), Some(&PURPOSE));
            }
            Err(error) => assert!(cancelled && error.is_cancelled(), "{error}"),
        }
    }
}

fn act(dice: &mut Dice, world: &Arc<World>) {
    let _value = Counted::new(&world.alive);
    match dice.below(22) {
        0 => std::panic::panic_any(PURPOSE),
        1 => drop(timeout(dice.micros(), || sleep(Duration::from_secs(3600)))),
        2 => add(dice, world),
        3 => {
            let mut total = world.total.lock();
            world.changed.wait_timeout(&mut total, dice.micros());
        }
        4 => {
            // Counted before it can be received, and taken back if it was not sent.
            world.sent.fetch_add(1, SeqCst);
            if world
                .send
                .send_timeout(Counted::new(&world.alive), dice.micros())
                .is_err()
            {
                world.sent.fetch_sub(1, SeqCst);
            }
        }
        5 => {
            if world.receive.recv_timeout(dice.micros()).is_ok() {
                world.received.fetch_add(1, SeqCst);
            }
        }
        6 => family(dice, world, 2),
        7 => tokens(dice),
        8 | 9 => talk(dice, world),
        10 => drop(offload(|| std::hint::black_box(1))),
        11 => permits(dice, world),
        12 => halves(dice, world),
        13 => choose(dice, world),
        14 => hear(dice, world),
        15 => meet(dice, world),
        16 => policy(dice, world),
        17 => stream(dice),
        18 => drop(block_on(spawn(yield_now).into_future())),
        19 => {
            let _outer = world.depth.lock();
            let _inner = world.depth.lock();
            yield_now();
        }
        _ => cancel::shield(|| sleep(dice.micros())),
    }
}

/// Two numbers that only a task alone in the mutex keeps equal.
fn add(dice: &mut Dice, world: &World) {
    let mut total = world.total.lock();
    total.0 += 1;
    if dice.below(2) == 0 {
        cancel::shield(yield_now);
    }
    total.1 += 1;
    world.changed.notify_one();
}

/// A group whose children borrow, have children of their own, fail, panic or wait to be cancelled.
fn family(dice: &mut Dice, world: &Arc<World>, generations: u32) {
    let borrowed = Counted::new(&world.alive);
    let seeds: Vec<u64> = (0..3).map(|_| dice.next()).collect();
    let _: Result<(), JoinError> = group(|g| {
        for seed in &seeds {
            g.spawn(|| {
                let mut own = Dice(*seed);
                let _own = Counted::new(&borrowed.0);
                match own.below(5) {
                    0 if generations > 0 => family(&mut own, world, generations - 1),
                    1 => sleep(own.micros()),
                    2 => add(&mut own, world),
                    3 => yield_now(),
                    _ => {}
                }
            });
        }
        if dice.below(3) == 0 {
            g.cancel();
        }
        if dice.below(8) == 0 {
            std::panic::panic_any(PURPOSE);
        }
        Ok(())
    });
}

fn tokens(dice: &mut Dice) {
    let token = CancelToken::new();
    let theirs = token.clone();
    let delay = dice.micros();
    let canceller = spawn(move || {
        // Whatever cuts the sleep, the token is cancelled.
        let _ = timeout(delay, || sleep(Duration::from_secs(3600)));
        theirs.cancel();
    });
    let _ = token.run(|| sleep(Duration::from_millis(5)));
    drop(canceller.join());
}

/// Speaks with the server, and at times hangs up before the answer.
fn talk(dice: &mut Dice, world: &World) {
    let Ok(mut stream) = TcpStream::connect(world.address) else {
        return;
    };
    let said = dice.next().to_be_bytes();
    if stream.write_all(&said).is_err() || dice.below(3) == 0 {
        return;
    }
    stream
        .set_read_timeout(Some(Duration::from_micros(1 + dice.below(5_000))))
        .unwrap();
    let mut heard = [0; 8];
    if stream.read_exact(&mut heard).is_ok() {
        assert_eq!(said, heard);
    }
}
