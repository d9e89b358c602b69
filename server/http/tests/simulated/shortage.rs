//! A server and its clients that run out of stacks and descriptors, and whose system fails them.

use std::{io, sync::Arc, time::Duration};

use maniple::{
    net::TcpStream,
    sim::{self, World},
    sync::Mutex,
};
use maniple_server::Client;

use super::{MILLI, serve, slow_echo, text};

/// A server that is short of what `with` says, asked by several clients; then it has everything, and answers, and ends.
fn lives_on(world: &World, with: fn(sim::Shortage) -> sim::Shortage) {
    let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
    let left = handles.clone();
    let _api = world.host("api", move || serve(slow_echo(&own), &left));
    world.settle();
    let shortage = with(world.shortage("api"));
    maniple::group(|g| {
        for caller in 0..4 {
            g.spawn(move || {
                for call in 0..4 {
                    // Each from anew, so that each is accepted.
                    let (client, number) = (Client::new(), caller * 100 + call);
                    let answer = maniple::timeout(300 * MILLI, || asked(&client, number));
                    if let Ok(Ok(answer)) = &answer {
                        sim::always!(*answer == number.to_string(), "{answer} for {number}");
                    }
                    sim::sometimes!(matches!(answer, Ok(Ok(_))));
                    sim::sometimes!(!matches!(answer, Ok(Ok(_))));
                }
            });
        }
        Ok::<_, ()>(())
    })
    .unwrap();
    drop(shortage);
    let client = Client::new();
    let found = maniple::timeout(60 * 1000 * MILLI, || text(&client, 7));
    assert_eq!(found, Ok(Some("7".to_owned())));
    drop(client);
    let handle = handles.lock()[0].clone();
    handle.drain();
    let drained = maniple::timeout(60 * 1000 * MILLI, || {
        while !handle.is_drained() {
            maniple::sleep(MILLI);
        }
    });
    assert!(drained.is_ok(), "the drain ends");
    assert_eq!(handle.connections(), 0);
}

/// The answer's text, unless the server says that it cannot.
fn asked(client: &Client, number: u64) -> io::Result<String> {
    let answer = client
        .get(&format!("http://api/{number}"))
        .map_err(io::Error::other)?;
    match answer.status().is_success() {
        true => answer.text().map_err(io::Error::other),
        false => Err(io::Error::other(answer.status().to_string())),
    }
}

#[test]
fn a_server_lives_on_without_stacks_and_answers_nobody_else() {
    sim::check(sim::seeds(200), |world| {
        lives_on(world, |shortage| shortage.stacks(0.4));
    });
}

#[test]
fn a_server_lives_on_without_descriptors() {
    sim::check(sim::seeds(200), |world| {
        lives_on(world, |shortage| shortage.descriptors(0.7));
    });
}

#[test]
fn a_server_lives_on_while_its_systems_calls_fail() {
    sim::check(sim::seeds(200), |world| {
        lives_on(world, |shortage| shortage.calls(0.4));
    });
}

#[test]
fn a_client_that_runs_short_of_everything_tells_so_and_finds_its_server_again() {
    sim::check(sim::seeds(200), |world| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let _api = world.host("api", move || serve(slow_echo(&own), &handles));
        world.settle();
        let client = Client::new();
        let shortage = world.shortage("scenario");
        let shortage = shortage.stacks(0.3).descriptors(0.3).calls(0.3);
        for number in 0..10 {
            let answer = maniple::timeout(1000 * MILLI, || asked(&client, number));
            if let Ok(Ok(answer)) = &answer {
                assert_eq!(*answer, number.to_string());
            }
            sim::sometimes!(matches!(answer, Ok(Err(_))));
        }
        drop(shortage);
        let found = maniple::timeout(10_000 * MILLI, || text(&client, 77));
        assert_eq!(found, Ok(Some("77".to_owned())));
    });
}

#[test]
fn a_drain_without_descriptors_ends() {
    sim::check(sim::seeds(200), |world| {
        let (own, handles) = (world.clone(), Arc::new(Mutex::new(Vec::new())));
        let left = handles.clone();
        let _api = world.host("api", move || serve(slow_echo(&own), &left));
        world.settle();
        let _shortage = world.shortage("api").descriptors(1.0).stacks(0.5);
        // They wait to be accepted.
        let _waiting: Vec<_> = (0..3).map(|_| TcpStream::connect("api:80")).collect();
        maniple::sleep(Duration::from_micros(world.draw(0..10_000)));
        let handle = handles.lock()[0].clone();
        handle.drain();
        let drained = maniple::timeout(60 * 1000 * MILLI, || {
            while !handle.is_drained() {
                maniple::sleep(MILLI);
            }
        });
        assert!(drained.is_ok(), "the drain ends");
    });
}
