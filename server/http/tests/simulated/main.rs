//! Servers and clients in a simulated world: the shipped code, its own sockets, over links that delay, cut and restart.

mod bounds;
mod files;
mod handover;
#[cfg(feature = "http2")]
mod links;
#[cfg(feature = "fault-injection")]
mod planted;
mod rare;
mod shortage;
mod weather;

use std::{
    collections::BTreeSet,
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    net::TcpStream,
    sim::{self, World},
    sync::Mutex,
};
use maniple_server::{Client, Request, Router, Server, ServerHandle};

const MILLI: Duration = Duration::from_millis(1);

/// A service that takes its time and answers with what it was asked for.
fn slow_echo(world: &World) -> Router {
    let world = world.clone();
    Router::new().get("/{number}", move |request: &mut Request| {
        maniple::sleep(Duration::from_micros(world.draw(0..5000)));
        request.param("number").unwrap_or_default().to_owned()
    })
}

/// Serves until it drains, and leaves its handle.
fn serve(router: Router, handles: &Mutex<Vec<ServerHandle>>) {
    let server = Server::builder(router).bind("0.0.0.0:80").unwrap();
    handles.lock().push(server.handle());
    server.serve().unwrap();
}

fn text(client: &Client, number: u64) -> Option<String> {
    let answer = client.get(&format!("http://api/{number}")).ok()?;
    assert!(answer.status().is_success());
    answer.text().ok()
}

#[test]
fn no_answer_goes_to_another_call_whatever_is_cut_short() {
    no_answer_goes_to_another_call(Client::new);
}

fn no_answer_goes_to_another_call(client: fn() -> Client) {
    sim::check(sim::seeds(200), move |world| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let _api = world.host("api", move || serve(slow_echo(&own), &handles));
        world
            .link("scenario", "api")
            .latency(MILLI..5 * MILLI)
            .loss(0.01);
        world.settle();
        let client = client();
        let callers: Vec<_> = (0..4)
            .map(|caller| {
                let (client, world) = (client.clone(), world.clone());
                maniple::spawn(move || {
                    for call in 0..5 {
                        let number = caller * 100 + call;
                        let patience = Duration::from_millis(world.draw(2..40));
                        let answer = maniple::timeout(patience, || text(&client, number));
                        if let Ok(Some(answer)) = &answer {
                            sim::always!(*answer == number.to_string(), "{answer} for {number}");
                        }
                        sim::sometimes!(matches!(answer, Ok(Some(_))));
                        sim::sometimes!(!matches!(answer, Ok(Some(_))));
                    }
                })
            })
            .collect();
        callers
            .into_iter()
            .for_each(|caller| caller.join().unwrap());
    });
}

/// A service whose handlers take so long at the most, and that is drained at a drawn time, beside those who call it; they
/// say what was answered.
fn drained_beside(
    world: &World,
    work: Duration,
    callers: impl Fn(&World, &Mutex<BTreeSet<String>>),
) {
    let work = work.as_micros() as u64;
    let handles = Arc::new(Mutex::new(Vec::new()));
    let (begun, answered) = (
        Arc::new(Mutex::new(BTreeSet::new())),
        Mutex::new(BTreeSet::new()),
    );
    // What handlers were at work on, or began with, once the server had ended, with which its process would.
    let forgotten = Arc::new(Mutex::new(BTreeSet::new()));
    let (own, theirs, left) = (world.clone(), begun.clone(), handles.clone());
    let told = forgotten.clone();
    let _api = world.host("api", move || {
        let (own, begun) = (own.clone(), theirs.clone());
        let working = Arc::new(Mutex::new((BTreeSet::new(), false)));
        let (at_work, late) = (working.clone(), told.clone());
        let router = Router::new().get("/{number}", move |request: &mut Request| {
            let number = request.param("number").unwrap_or_default().to_owned();
            begun.lock().insert(number.clone());
            let has_ended = {
                let mut working = at_work.lock();
                working.0.insert(number.clone());
                working.1
            };
            if has_ended {
                late.lock().insert(number.clone());
            }
            maniple::sleep(Duration::from_micros(own.draw(0..work)));
            at_work.lock().0.remove(&number);
            number
        });
        serve(router, &left);
        let mut working = working.lock();
        working.1 = true;
        told.lock().extend(working.0.iter().cloned());
    });
    world.settle();
    maniple::join!(callers(world, &answered), {
        maniple::sleep(Duration::from_micros(world.draw(0..15_000)));
        let handle = handles.lock()[0].clone();
        handle.drain();
        let drained = maniple::timeout(60 * 1000 * MILLI, || {
            while !handle.is_drained() {
                maniple::sleep(MILLI);
            }
        });
        assert!(drained.is_ok(), "the drain ends");
    });
    world.settle();
    let forgotten = forgotten.lock().clone();
    assert!(forgotten.is_empty(), "the drain forgot {forgotten:?}");
    let (begun, answered) = (begun.lock().clone(), answered.lock().clone());
    sim::sometimes!(answered.len() == 12);
    sim::sometimes!(answered.len() < 12);
    assert_eq!(begun, answered);
}

/// In the middle of their requests, over connections that are kept.
fn callers(_: &World, answered: &Mutex<BTreeSet<String>>) {
    maniple::group::map(3, 0..3, |caller| {
        let client = Client::new();
        for call in 0..4 {
            let Some(answer) = text(&client, caller * 100 + call) else {
                return;
            };
            answered.lock().insert(answer);
        }
    });
}

/// Of handlers, some of which outlast the time in which a server accepts those who come last.
const LONGER: Duration = Duration::from_millis(400);

/// Each over a connection of its own, some of which come just as the drain begins.
fn newcomers(world: &World, answered: &Mutex<BTreeSet<String>>) {
    maniple::group::map(12, 0..12, |number| {
        maniple::sleep(Duration::from_micros(world.draw(0..8_000)));
        let answer = text(&Client::new(), number);
        answered.lock().extend(answer);
    });
}

#[test]
fn a_drain_ends_and_loses_nobody_who_comes_as_it_begins() {
    sim::check(sim::seeds(200), |world| {
        drained_beside(world, LONGER, newcomers);
    });
}

#[test]
fn a_drain_ends_and_loses_no_request_that_it_has_begun_to_answer() {
    sim::check(sim::seeds(200), |world| {
        drained_beside(world, 5 * MILLI, callers);
    });
}

#[test]
fn a_client_finds_its_server_again_after_a_crash_or_a_partition() {
    sim::check(sim::seeds(200), |world| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let api = world.host("api", move || serve(slow_echo(&own), &handles));
        world.settle();
        let client = Client::new();
        assert!(text(&client, 1).is_some());
        let second = 1000 * MILLI;
        match world.draw(0..2) {
            0 => {
                let cut = world.partition(&["scenario"], &["api"]);
                let silent = maniple::timeout(second, || text(&client, 2));
                assert!(!matches!(silent, Ok(Some(_))));
                cut.heal();
            }
            _ => {
                api.crash();
                let silent = maniple::timeout(second, || text(&client, 2));
                assert!(!matches!(silent, Ok(Some(_))));
                api.restart();
                world.settle();
            }
        }
        let tries = Arc::new(AtomicUsize::new(0));
        let found = maniple::timeout(60 * second, || {
            loop {
                tries.fetch_add(1, Ordering::Relaxed);
                match maniple::timeout(second, || text(&client, 3)) {
                    Ok(Some(answer)) => return answer,
                    _ => maniple::sleep(100 * MILLI),
                }
            }
        });
        assert_eq!(found.as_deref(), Ok("3"), "after {tries:?} tries");
        assert!(tries.load(Ordering::Relaxed) <= 3, "{tries:?} tries");
    });
}

#[test]
fn a_server_and_its_clients_have_the_same_trace_for_the_same_seed() {
    let scenario = |world: &World| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let _api = world.host("api", move || serve(slow_echo(&own), &handles));
        world.settle();
        let client = Client::new();
        maniple::group(|g| {
            for number in 0..4 {
                let client = &client;
                g.spawn(move || text(client, number));
            }
            Ok::<_, ()>(())
        })
        .unwrap();
    };
    let traces = || -> Vec<u64> {
        let trace = |seed| sim::run(seed, scenario).unwrap().trace();
        (0..200).map(trace).collect()
    };
    assert_eq!(traces(), traces());
}

/// Keys of a `HashMap` differ from map to map, so what went by its order would be another trace.
#[test]
fn the_same_seed_drains_many_connections_in_the_same_order() {
    let drained = |seed| {
        let run = sim::run(seed, |world| {
            let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
            let theirs = handles.clone();
            let _api = world.host("api", move || serve(slow_echo(&own), &theirs));
            world.settle();
            maniple::group(|g| {
                for number in 0..20 {
                    g.spawn(move || {
                        let mut stream = TcpStream::connect("api:80").unwrap();
                        let request = format!("GET /{number} HTTP/1.1\r\nHost: api\r\n\r\n");
                        stream.write_all(request.as_bytes()).unwrap();
                        // Idle after that, until the drain ends it.
                        stream.read_to_end(&mut Vec::new()).unwrap();
                    });
                }
                maniple::sleep(1000 * MILLI);
                handles.lock()[0].drain();
                Ok::<_, ()>(())
            })
            .unwrap();
        });
        run.unwrap().trace()
    };
    for seed in 0..5 {
        assert_eq!(drained(seed), drained(seed), "seed {seed}");
    }
}
