//! A pool of connections to a service that is far, loses, resets, is cut off, and crashes.

use std::{
    collections::BTreeMap,
    io::{self, ErrorKind::TimedOut, Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream},
    sim::{self, World},
};
use maniple_parts::connections::{Connections, Lent, Manage};

const MILLI: Duration = Duration::from_millis(1);
const MAX: usize = 3;

struct ToNumbers;

impl Manage for ToNumbers {
    type Connection = TcpStream;
    type Error = io::Error;

    fn connect(&self) -> io::Result<TcpStream> {
        TcpStream::connect("numbers:7")
    }

    fn check(&self, stream: &mut TcpStream) -> io::Result<()> {
        match ask(stream, 0)? {
            0 => Ok(()),
            other => Err(io::Error::other(format!("{other} for 0"))),
        }
    }

    fn is_broken(&self, _: &mut TcpStream) -> bool {
        false
    }
}

fn ask(stream: &mut TcpStream, number: u64) -> io::Result<u64> {
    stream.write_all(&number.to_be_bytes())?;
    let mut answer = [0; 8];
    stream.read_exact(&mut answer)?;
    Ok(u64::from_be_bytes(answer))
}

/// Answers each number with itself, after a while, and notes which it was asked for.
fn numbers(world: &World, asked: &Mutex<BTreeMap<u64, u32>>) {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    maniple::group(|g| {
        while let Ok((mut stream, _)) = listener.accept() {
            g.spawn(move || {
                let mut number = [0; 8];
                while stream.read_exact(&mut number).is_ok() {
                    let number = u64::from_be_bytes(number);
                    *asked.lock().unwrap().entry(number).or_default() += 1;
                    maniple::sleep(Duration::from_micros(world.draw(0..4000)));
                    if stream.write_all(&number.to_be_bytes()).is_err() {
                        return;
                    }
                }
            });
        }
        Ok::<_, ()>(())
    })
    .unwrap();
}

/// What may happen to the network and to the service while calls are made: one thing or another, then all is well.
fn weather(world: &World, service: &sim::Host) {
    let pause = || maniple::sleep(Duration::from_micros(world.draw(0..30_000)));
    pause();
    match world.draw(0..4) {
        0 => {
            let cut = world.partition(&["scenario"], &["numbers"]);
            pause();
            cut.heal();
        }
        1 => {
            let cut = world.partition_one_way(&["numbers"], &["scenario"]);
            pause();
            cut.heal();
        }
        2 => {
            service.crash();
            pause();
            service.restart();
        }
        _ => drop(world.rule(|packet| packet.between("scenario", "numbers").then_reset())),
    }
}

/// What becomes of a call that takes long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Calls {
    /// Its caller has so much patience, in microseconds.
    Patient(u64),
    /// It may be cut short at any moment, and is waited for otherwise.
    Cut,
}

/// In microseconds: who has so much waits for all but a host that has crashed, and says nothing.
pub(super) const LONG: u64 = 60_000_000;

impl Calls {
    fn make<T>(self, call: impl FnOnce() -> T) -> Option<T> {
        match self {
            Self::Patient(micros) => maniple::timeout(Duration::from_micros(micros), call).ok(),
            Self::Cut => sim::cut(|| Self::Patient(LONG).make(call)).ok()?,
        }
    }
}

/// Callers over a pool whose service has weather, and whose calls are of this kind.
pub(super) fn calls_in_weather(world: &World, calls: impl Fn() -> Calls + Sync) {
    let asked: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
    let (own, theirs) = (world.clone(), asked.clone());
    let service = world.host("numbers", move || numbers(&own, &theirs));
    let link = world.link("scenario", "numbers").latency(MILLI..3 * MILLI);
    drop(link.loss(0.005).resets(0.005));
    world.settle();
    let pool = Connections::builder(ToNumbers)
        .max(MAX)
        .patience(50 * MILLI)
        .connect_timeout(20 * MILLI)
        .check_after(2 * MILLI)
        .build()
        .unwrap();
    let ask_over = |lent: &mut Lent<ToNumbers>, number| {
        let stats = pool.stats();
        sim::always!(stats.open <= MAX && stats.idle <= MAX, "{stats:?}");
        ask(lent, number)
    };
    let give_back = |lent: Lent<ToNumbers>, answer: io::Result<u64>| {
        // If it was cut short, the pool sees that by itself.
        let is_cut = |error: &io::Error| {
            error.kind() == TimedOut || maniple::cancel::is_cancelled_error(error)
        };
        if answer.as_ref().is_err_and(|error| !is_cut(error)) {
            lent.discard();
        }
        answer.ok()
    };
    let call = |number: u64, how: Calls| {
        if number.is_multiple_of(2) {
            return how.make(|| {
                let mut lent = pool.get().ok()?;
                let answer = ask_over(&mut lent, number);
                give_back(lent, answer)
            });
        }
        let Ok(mut lent) = pool.get() else {
            return Some(None);
        };
        // Its scope is over when the connection is given back.
        let answer = how.make(|| ask_over(&mut lent, number))?;
        Some(give_back(lent, answer))
    };
    maniple::group(|g| {
        for caller in 1..=4 {
            let (call, calls) = (&call, &calls);
            let asked = &asked;
            g.spawn(move || {
                for round in 0..6 {
                    let number = caller * 100 + round;
                    let answer = call(number, calls());
                    if let Some(Some(answer)) = answer {
                        sim::always!(answer == number, "{answer} for {number}");
                        let times = asked.lock().unwrap().get(&number).copied();
                        sim::always!(times == Some(1), "{number} was asked {times:?} times");
                    }
                    sim::sometimes!(matches!(answer, Some(Some(_))));
                    sim::sometimes!(matches!(answer, Some(None)));
                }
            });
        }
        weather(world, &service);
        Ok::<_, ()>(())
    })
    .unwrap();
    // All is well again: within a few calls, each of which drops what it finds broken, the service answers.
    let found = (0..=MAX as u64 + 6).any(|round| {
        let number = 1000 + round;
        let answer = call(number, Calls::Patient(2_000_000)).flatten();
        if let Some(answer) = answer {
            sim::always!(answer == number, "{answer} for {number}");
        }
        answer.is_some()
    });
    assert!(found, "{:?}", pool.stats());
    // Who was cut while it connected left that to the pool.
    world.advance(1000 * MILLI);
    let stats = pool.stats();
    assert_eq!((stats.open, stats.waiting), (stats.idle, 0), "{stats:?}");
}

#[test]
fn no_call_gets_the_answer_of_another_and_a_pool_finds_its_service_again() {
    sim::check(sim::seeds(200), |world| {
        calls_in_weather(world, || Calls::Patient(world.draw(1000..40_000)));
    });
}

#[test]
fn no_call_gets_the_answer_of_one_that_was_cut_short_anywhere() {
    sim::check(sim::seeds(200), |world| {
        calls_in_weather(world, || Calls::Cut)
    });
}

/// In a world a pool takes rare ways on purpose.
#[test]
fn a_pool_may_give_up_and_ask_any_connection_and_no_call_fails_of_it() {
    sim::check(sim::seeds(100), |world| {
        let asked: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
        let (own, theirs) = (world.clone(), asked.clone());
        let _service = world.host("numbers", move || numbers(&own, &theirs));
        world.settle();
        let pool = Connections::builder(ToNumbers).max(MAX).build().unwrap();
        maniple::group::map(2 * MAX, 1..40, |number| {
            let mut lent = pool.get().unwrap();
            let answer = ask(&mut lent, number).unwrap();
            sim::always!(answer == number, "{answer} for {number}");
            let stats = pool.stats();
            sim::always!(stats.open <= MAX, "{stats:?}");
        });
        // Neither is so by itself within a minute.
        sim::sometimes!(pool.stats().discarded > 0);
        sim::sometimes!(asked.lock().unwrap().contains_key(&0));
        sim::sometimes!(pool.stats().connects <= MAX as u64);
    });
}

#[test]
fn a_pool_without_stacks_or_descriptors_loses_no_place() {
    sim::check(sim::seeds(200), |world| {
        let asked: Arc<Mutex<BTreeMap<u64, u32>>> = Arc::default();
        let own = world.clone();
        let _service = world.host("numbers", move || numbers(&own, &asked));
        world.settle();
        let pool = Connections::builder(ToNumbers)
            .max(MAX)
            .patience(50 * MILLI)
            .connect_timeout(50 * MILLI)
            .max_idle(MILLI)
            .build()
            .unwrap();
        let shortage = world.shortage("scenario");
        let shortage = shortage.stacks(0.4).descriptors(0.3).calls(0.2);
        for number in 0..20 {
            let got = maniple::timeout(100 * MILLI, || pool.get().map(drop));
            sim::sometimes!(matches!(got, Ok(Ok(()))));
            sim::sometimes!(matches!(got, Ok(Err(_))));
            maniple::sleep(Duration::from_micros(world.draw(0..3000)));
            let stats = pool.stats();
            sim::always!(stats.open <= MAX, "{stats:?} at {number}");
        }
        drop(shortage);
        // Each place can be had, all at once.
        let lent = Vec::from_iter((0..MAX).map(|_| pool.get().unwrap()));
        assert_eq!(pool.stats().open, MAX);
        assert!(pool.get().is_err(), "there is no place more");
        drop(lent);
    });
}
