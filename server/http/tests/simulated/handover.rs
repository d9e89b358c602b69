//! A server that is followed by another on the same listener, as a supervisor's new worker follows the old one.

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use maniple::{
    net::TcpListener,
    sim::{self, World},
    sync::Mutex,
};
use maniple_server::{Client, Request, Router, Server, ServerHandle, transport::Listener};

use super::MILLI;

/// What all runs of the server have begun, each with the run that did.
type Begun = Arc<Mutex<Vec<(u64, String)>>>;

fn routes(world: &World, run: u64, begun: &Begun) -> Router {
    let (world, begun) = (world.clone(), begun.clone());
    Router::new().get("/{number}", move |request: &mut Request| {
        let number = request.param("number").unwrap_or_default().to_owned();
        begun.lock().push((run, number.clone()));
        maniple::sleep(Duration::from_micros(world.draw(0..5000)));
        format!("{run} {number}")
    })
}

/// Serves on a listener by one run after the other. Each drains once the next one accepts.
fn supervised(world: &World, begun: &Begun, runs: u64, left: &Mutex<Vec<ServerHandle>>) {
    let listener = TcpListener::bind("0.0.0.0:80").unwrap();
    maniple::group(|g| {
        let mut before: Option<ServerHandle> = None;
        for run in 0..runs {
            let builder = Server::builder(routes(world, run, begun));
            let passed_on = Listener::try_from(listener.try_clone().unwrap()).unwrap();
            let server = builder.listener(passed_on.shared(true)).unwrap();
            let handle = server.handle();
            g.spawn(move || server.serve().unwrap());
            // Both accept for a while.
            maniple::sleep(Duration::from_micros(world.draw(0..2000)));
            if let Some(before) = before.replace(handle.clone()) {
                before.drain();
            }
            left.lock().push(handle);
            maniple::sleep(Duration::from_micros(world.draw(0..12_000)));
        }
        Ok::<_, ()>(())
    })
    .unwrap();
}

#[test]
fn no_request_is_lost_while_servers_follow_each_other_on_one_listener() {
    sim::check(sim::seeds(200), |world| {
        let (begun, left) = (Begun::default(), Arc::new(Mutex::new(Vec::new())));
        let (own, theirs, handles) = (world.clone(), begun.clone(), left.clone());
        let _api = world.host("api", move || supervised(&own, &theirs, 3, &handles));
        world.link("scenario", "api").latency(MILLI / 10..MILLI);
        world.settle();
        let answers = maniple::group::map(3, 0..30_u64, |number| {
            // Each over a connection of its own.
            let client = Client::new();
            maniple::sleep(Duration::from_micros(world.draw(0..3000)));
            let answer = client.get(&format!("http://api/{number}"));
            let text = answer.and_then(|answer| answer.text());
            text.unwrap_or_else(|error| panic!("{number}: {error}"))
        });
        let runs: BTreeSet<_> = answers.iter().map(|answer| answer.as_bytes()[0]).collect();
        sim::sometimes!(runs.len() == 3);
        for (number, answer) in answers.iter().enumerate() {
            assert_eq!(answer.split(' ').nth(1), Some(&*number.to_string()));
        }
        let begun = begun.lock().clone();
        assert_eq!(begun.len(), 30, "each was begun once: {begun:?}");
        // The earlier ones have ended: nobody holds on to them.
        let earlier: Vec<_> = left.lock().drain(..).collect();
        for handle in &earlier[..2] {
            world.eventually(Duration::from_secs(60), || {
                handle.is_drained() && handle.connections() == 0
            });
        }
    });
}

#[test]
fn kept_connections_go_on_with_who_follows() {
    sim::check(sim::seeds(200), |world| {
        let (begun, left) = (Begun::default(), Arc::new(Mutex::new(Vec::new())));
        let (own, theirs, handles) = (world.clone(), begun.clone(), left.clone());
        let _api = world.host("api", move || supervised(&own, &theirs, 3, &handles));
        world.settle();
        let client = Client::new();
        let answered = maniple::group::map(2, 0..20_u64, |number| {
            maniple::sleep(Duration::from_micros(world.draw(0..3000)));
            let answer = client.get(&format!("http://api/{number}"));
            answer.and_then(|answer| answer.text()).map(drop)
        });
        for (number, answer) in answered.iter().enumerate() {
            assert!(answer.is_ok(), "{number}: {answer:?}");
        }
        let begun = begun.lock();
        let numbers: BTreeSet<_> = begun.iter().map(|(_, number)| number).collect();
        assert_eq!((numbers.len(), begun.len()), (20, 20), "{begun:?}");
        sim::sometimes!(begun.iter().any(|(run, _)| *run == 2));
    });
}
