//! What a server has at a time, which stays within its bounds at any moment.

use std::sync::{
    Arc,
    atomic::{AtomicUsize, Ordering},
};

use maniple::{
    sim::{self, World},
    sync::Mutex,
};
use maniple_server::{Client, Request, Router, Server, ServerHandle};

use super::{MILLI, text};

/// Connections that the server has at most.
const MAX: usize = 3;

/// Says how many handlers there are at a time, at most.
fn serve(world: &World, handles: &Mutex<Vec<ServerHandle>>, most: &Arc<AtomicUsize>) {
    let (world, most) = (world.clone(), most.clone());
    let now = AtomicUsize::new(0);
    let router = Router::new().get("/{number}", move |request: &mut Request| {
        most.fetch_max(now.fetch_add(1, Ordering::Relaxed) + 1, Ordering::Relaxed);
        maniple::sleep(MILLI * world.draw(0..5) as u32);
        now.fetch_sub(1, Ordering::Relaxed);
        request.param("number").unwrap_or_default().to_owned()
    });
    let server = Server::builder(router).max_connections(MAX);
    let server = server.bind("0.0.0.0:80").unwrap();
    handles.lock().push(server.handle());
    server.serve().unwrap();
}

#[test]
fn a_server_has_no_more_connections_and_handlers_than_it_may_and_answers_all() {
    sim::check(sim::seeds(100), |world| {
        let (handles, most) = (Arc::new(Mutex::new(Vec::new())), Arc::default());
        let (own, left, counted) = (world.clone(), handles.clone(), Arc::clone(&most));
        let _api = world.host("api", move || serve(&own, &left, &counted));
        world.settle();
        let handle = handles.lock()[0].clone();
        // Each over a connection of its own, which ends with its client.
        let answers = maniple::group::map(4 * MAX, 0..4 * MAX as u64, |number| {
            let answer = text(&Client::new(), number);
            sim::always!(handle.connections() <= MAX, "{}", handle.connections());
            answer
        });
        let expected = (0..4 * MAX).map(|number| Some(number.to_string()));
        assert!(answers.iter().cloned().eq(expected), "{answers:?}");
        let most = most.load(Ordering::Relaxed);
        sim::always!(most <= MAX, "{most} handlers at a time");
        sim::sometimes!(most == MAX);
    });
}
