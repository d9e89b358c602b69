//! Faults put in on purpose, as people make them: each is found within a thousand seeds, and its cure is not.

use std::{
    collections::VecDeque,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream},
    sim::{self, World},
    sync::{Mutex, Notify, Semaphore},
};

const SEEDS: u64 = 1000;

/// The first seed that fails, and how.
fn found(scenario: impl Fn(&World) + Copy + Send + 'static) -> String {
    let failure = |seed| sim::run(seed, scenario).err();
    let failure = (0..SEEDS).find_map(failure);
    let failure = failure.expect("the fault is found");
    println!("found by {failure}");
    failure.what().to_owned()
}

/// A queue whose takers wait to be told. Who looks and then waits misses what comes in between, if the telling is not
/// kept.
fn hand_over(world: &World, keeps: bool) {
    let queue = Arc::new((Mutex::new(VecDeque::new()), Notify::new()));
    let theirs = queue.clone();
    let taker = maniple::spawn(move || {
        for _ in 0..3 {
            loop {
                let item: Option<u32> = theirs.0.lock().pop_front();
                if item.is_some() {
                    break;
                }
                // Here it is somebody else's turn, now and then.
                maniple::yield_now();
                theirs.1.notified();
            }
        }
    });
    for item in 0..3 {
        maniple::sleep(Duration::from_micros(world.draw(0..3)));
        queue.0.lock().push_back(item);
        match keeps {
            true => queue.1.notify_one(),
            // Only those who wait now.
            false => queue.1.notify_waiters(),
        }
    }
    taker.join().unwrap();
}

#[test]
fn a_lost_wake_up_is_found_as_a_deadlock() {
    let what = found(|world| hand_over(world, false));
    assert!(what.contains("deadlock"), "{what}");
    sim::check(0..SEEDS, |world| hand_over(world, true));
}

/// Two locks, taken in one order or in two.
fn cross(world: &World, same_order: bool) {
    let locks = Arc::new((Mutex::new(()), Mutex::new(())));
    let all: Vec<_> = [false, true]
        .into_iter()
        .map(|swapped| {
            let (locks, world) = (locks.clone(), world.clone());
            maniple::spawn(move || {
                let (first, second) = match swapped && !same_order {
                    false => (&locks.0, &locks.1),
                    true => (&locks.1, &locks.0),
                };
                maniple::sleep(Duration::from_micros(world.draw(0..10)));
                let _first = first.lock();
                maniple::sleep(Duration::from_micros(world.draw(0..3)));
                let _second = second.lock();
            })
        })
        .collect();
    all.into_iter().for_each(|each| each.join().unwrap());
}

#[test]
fn two_locks_in_two_orders_are_found() {
    let what = found(|world| cross(world, false));
    assert!(what.contains("deadlock") && what.contains("lock"), "{what}");
    sim::check(0..SEEDS, |world| cross(world, true));
}

/// A server that answers numbers by numbers.
fn answer() {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        drop(maniple::spawn(move || {
            let mut number = [0];
            while stream.read_exact(&mut number).is_ok() {
                maniple::sleep(Duration::from_millis(2));
                if stream.write_all(&number).is_err() {
                    break;
                }
            }
        }));
    }
}

/// Calls over connections that are kept. One whose call was cut short has an answer on its way that is nobody's.
fn call(kept: &mut Vec<TcpStream>, number: u8, patience: Duration, keeps_cut: bool) -> Option<u8> {
    let mut stream = match kept.pop() {
        Some(stream) => stream,
        None => TcpStream::connect("server:7").ok()?,
    };
    stream.set_read_timeout(Some(patience)).ok()?;
    let mut answer = [0];
    let done = stream
        .write_all(&[number])
        .and_then(|()| stream.read_exact(&mut answer));
    if done.is_ok() || keeps_cut {
        kept.push(stream);
    }
    done.ok().map(|()| answer[0])
}

fn calls(world: &World, keeps_cut: bool) {
    let _server = world.host("server", answer);
    world.settle();
    let mut kept = Vec::new();
    for number in 0..10 {
        let patience = Duration::from_micros(world.draw(1500..6000));
        if let Some(answer) = call(&mut kept, number, patience, keeps_cut) {
            sim::always!(answer == number, "call {number} got the answer of {answer}");
        }
    }
}

#[test]
fn a_pool_that_hands_out_a_cut_connection_is_found() {
    let what = found(|world| calls(world, true));
    assert!(what.contains("got the answer of"), "{what}");
    sim::check(0..SEEDS, |world| calls(world, false));
}

/// A drain that waits for those it knows of. Who has been accepted and is not counted yet is forgotten.
fn drain(world: &World, counts_at_once: bool) {
    #[derive(Default)]
    struct Server {
        drains: AtomicBool,
        accepted: AtomicUsize,
        open: AtomicUsize,
        served: AtomicUsize,
    }
    let server = Arc::new(Server::default());
    let (own, theirs) = (world.clone(), server.clone());
    let acceptor = maniple::spawn(move || {
        while !theirs.drains.load(Ordering::Relaxed) {
            maniple::sleep(Duration::from_micros(own.draw(1..20)));
            theirs.accepted.fetch_add(1, Ordering::Relaxed);
            if counts_at_once {
                theirs.open.fetch_add(1, Ordering::Relaxed);
            }
            let server = theirs.clone();
            drop(maniple::spawn(move || {
                if !counts_at_once {
                    server.open.fetch_add(1, Ordering::Relaxed);
                }
                maniple::sleep(Duration::from_micros(5));
                server.served.fetch_add(1, Ordering::Relaxed);
                server.open.fetch_sub(1, Ordering::Relaxed);
            }));
        }
    });
    maniple::sleep(Duration::from_micros(world.draw(1..60)));
    server.drains.store(true, Ordering::Relaxed);
    acceptor.join().unwrap();
    while server.open.load(Ordering::Relaxed) > 0 {
        maniple::sleep(Duration::from_micros(1));
    }
    let [served, accepted] = [&server.served, &server.accepted].map(|n| n.load(Ordering::Relaxed));
    assert_eq!(served, accepted, "all are served");
}

#[test]
fn a_drain_that_forgets_a_connection_is_found() {
    let what = found(|world| drain(world, false));
    assert!(what.contains("all are served"), "{what}");
    sim::check(0..SEEDS, |world| drain(world, true));
}

/// A permit that is not given back where its holder is cut short.
fn leak(world: &World, leaks: bool) {
    let permits = Arc::new(Semaphore::new(1));
    let theirs = permits.clone();
    let patience = Duration::from_micros(world.draw(1..100));
    let work = Duration::from_micros(world.draw(1..100));
    let cut = maniple::timeout(patience, move || {
        let permit = theirs.acquire().unwrap();
        if leaks {
            permit.forget();
            maniple::sleep(work);
            theirs.add_permits(1);
        } else {
            maniple::sleep(work);
            drop(permit);
        }
    });
    sim::sometimes!(cut.is_err());
    let _mine = permits.acquire().unwrap();
}

#[test]
fn a_permit_that_a_cut_holder_keeps_is_found() {
    let what = found(|world| leak(world, true));
    assert!(what.contains("deadlock"), "{what}");
    sim::check(0..SEEDS, |world| leak(world, false));
}
