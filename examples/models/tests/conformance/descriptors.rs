//! What one thread that waits for many does when descriptors run out: those that `select` can watch, or all.

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

#[test]
fn select_turns_away_whom_it_cannot_watch() {
    raise_descriptor_limit();
    let (mut server, _backends) = start("select");
    let at = server.address();
    let mut peers: Vec<_> = (0..1100).map(|_| Peer::connect(at)).collect();
    for mut turned_away in peers.drain(1050..) {
        assert_eq!(turned_away.reply().status, 503);
        turned_away.ends();
    }
    // The backends are first asked now, with the sets full: they have their place.
    assert_eq!(peers[0].ask("/aggregate/7").status, 200);
    for peer in &mut peers[..1000] {
        assert_eq!(peer.ask("/nowhere").status, 404);
    }
    peers.drain(1..);
    assert_eq!(peers[0].ask("/nowhere").status, 404);
    assert_eq!(ask(at, "/aggregate/8").status, 200, "there is room again");
    assert!(server.lives());
}

#[test]
fn others_watch_more_than_select_can() {
    raise_descriptor_limit();
    for model in ["poll", "epoll", "reactor", "sigio", "state-machine"] {
        let (server, _backends) = start(model);
        let mut peers: Vec<_> = (0..1100).map(|_| Peer::connect(server.address())).collect();
        for peer in &mut peers {
            assert_eq!(peer.ask("/nowhere").status, 404, "{model}");
        }
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
        let mut peers: Vec<_> = (0..80).map(|_| Peer::connect(at)).collect();
        peers.drain(40..).for_each(Peer::ends);
        for peer in &mut peers[..20] {
            assert_eq!(peer.ask("/aggregate/8").status, 200, "{model}");
        }
        peers.drain(1..);
        assert_eq!(peers[0].ask("/nowhere").status, 404);
        assert_eq!(ask(at, "/aggregate/9").status, 200, "{model}");
        assert!(server.lives());
    }
}
