//! A pool of connections to a service that is far, loses, resets, is cut off, and crashes.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream},
    sim::{self, World},
};
use maniple_parts::connections::{Connections, Manage};

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

/// Callers whose calls are cut short, over a pool whose service has weather.
pub(super) fn calls_in_weather(world: &World) {
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
    let call = |number: u64, patience: Duration| {
        maniple::timeout(patience, || {
            let mut lent = pool.get().ok()?;
            let stats = pool.stats();
            sim::always!(stats.open <= MAX && stats.idle <= MAX, "{stats:?}");
            let answer = ask(&mut lent, number);
            // If it was cut short, the pool sees that by itself.
            if answer.is_err() && maniple::cancel::check().is_ok() {
                lent.discard();
            }
            answer.ok()
        })
    };
    maniple::group(|g| {
        for caller in 1..=4 {
            let call = &call;
            let asked = &asked;
            g.spawn(move || {
                for round in 0..6 {
                    let number = caller * 100 + round;
                    let patience = Duration::from_micros(world.draw(1000..40_000));
                    let answer = call(number, patience);
                    if let Ok(Some(answer)) = answer {
                        sim::always!(answer == number, "{answer} for {number}");
                        let times = asked.lock().unwrap().get(&number).copied();
                        sim::always!(times == Some(1), "{number} was asked {times:?} times");
                    }
                    sim::sometimes!(matches!(answer, Ok(Some(_))));
                    sim::sometimes!(matches!(answer, Ok(None)));
                }
            });
        }
        weather(world, &service);
        Ok::<_, ()>(())
    })
    .unwrap();
    // All is well again: within a few calls, each of which drops what it finds broken, the service answers.
    let found = (0..=MAX as u64 + 6).any(|round| {
        let answer = call(1000 + round, 2000 * MILLI);
        sim::always!(!matches!(answer, Ok(Some(other)) if other != 1000 + round));
        matches!(answer, Ok(Some(_)))
    });
    assert!(found, "{:?}", pool.stats());
    // Who was cut while it connected left that to the pool.
    world.advance(1000 * MILLI);
    let stats = pool.stats();
    assert_eq!((stats.open, stats.waiting), (stats.idle, 0), "{stats:?}");
}

#[test]
fn no_call_gets_the_answer_of_another_and_a_pool_finds_its_service_again() {
    sim::check(sim::seeds(200), calls_in_weather);
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
