//! What one thread that waits for many does when descriptors run out: those that `select` can watch, or all.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use super::{
    http::{Peer, ask},
    process::{Running, raise_descriptor_limit},
};

pub fn start(model: &str) -> (Running, Running) {
    let backends = Running::start(&["backends"]);
    let arguments = [
        model,
        "--listen=127.0.0.1:0",
        "--cores=1",
        "--workers=4",
        "--backends",
    ];
    let server = Running::start(&[&arguments[..], &[backends.said()]].concat());
    (server, backends)
}

/// Those of so many clients who are served while all are there. Which these are is not said: under load the kernel may
/// let clients in in another order than they came.
fn served(at: SocketAddr, clients: usize) -> Vec<Peer> {
    let mut peers: Vec<_> = (0..clients).map(|_| Peer::connect(at)).collect();
    let statuses: Vec<_> = peers
        .iter_mut()
        .map(|peer| peer.status("/nowhere"))
        .collect();
    let both = peers.into_iter().zip(statuses);
    both.filter(|(_, status)| *status == Some(404))
        .map(|(peer, _)| peer)
        .collect()
}

/// The server may see a new client before it has seen that others left.
fn has_room_again(at: SocketAddr) -> bool {
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        if Peer::connect(at).status("/aggregate/9") == Some(200) {
            return true;
        }
    }
    false
}

#[test]
fn select_turns_away_whom_it_cannot_watch() {
    raise_descriptor_limit();
    let (mut server, _backends) = start("select");
    let at = server.address();
    let mut peers = served(at, 1100);
    assert!((1000..1024).contains(&peers.len()), "{}", peers.len());
    let mut turned_away = Peer::connect(at);
    assert_eq!(turned_away.reply().status, 503);
    turned_away.ends();
    // The backends are first asked now, with the sets full: they have their place.
    assert_eq!(peers[0].ask("/aggregate/7").status, 200);
    peers.drain(1..);
    assert_eq!(peers[0].ask("/nowhere").status, 404);
    assert!(has_room_again(at));
    assert!(server.lives());
}

#[test]
fn others_watch_more_than_select_can() {
    raise_descriptor_limit();
    for model in ["poll", "epoll", "reactor", "sigio", "state-machine"] {
        let (server, _backends) = start(model);
        assert_eq!(served(server.address(), 1100).len(), 1100, "{model}");
    }
}

#[test]
fn a_loop_without_descriptors_turns_clients_away_and_serves_the_others() {
    raise_descriptor_limit();
    for model in [
        "select",
        "poll",
        "epoll",
        "reactor",
        "sigio",
        "state-machine",
    ] {
        let (mut server, _backends) = start(model);
        let at = server.address();
        assert_eq!(ask(at, "/aggregate/7").status, 200);
        server.limit_descriptors(40);
        let mut peers = served(at, 80);
        assert!((20..40).contains(&peers.len()), "{model}: {}", peers.len());
        for peer in &mut peers {
            assert_eq!(peer.ask("/aggregate/8").status, 200, "{model}");
        }
        peers.drain(1..);
        assert_eq!(peers[0].ask("/nowhere").status, 404);
        assert!(has_room_again(at), "{model}");
        assert!(server.lives());
    }
}
