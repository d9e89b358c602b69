//! What a model does when a queue of its own, or one of the kernel's for it, is full.

use super::{
    descriptors::start,
    http::{Peer, ask},
};

#[test]
fn loop_pool_refuses_to_compute_when_its_queue_is_full() {
    let (mut server, _backends) = start("loop-pool");
    let at = server.address();
    let request = "GET /cpu?us=100000 HTTP/1.1\r\nhost: c\r\n\r\n";
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(at)).collect();
    peers.iter_mut().for_each(|peer| peer.send(request));
    let statuses: Vec<_> = peers.iter_mut().map(|peer| peer.reply().status).collect();
    assert!(
        statuses.contains(&200) && statuses.contains(&503),
        "one computes, four wait, and the others are told: {statuses:?}"
    );
    assert!(statuses.iter().all(|status| [200, 503].contains(status)));
    assert_eq!(ask(at, "/cpu?us=1").status, 200, "there is room again");
    assert!(server.lives());
}

#[test]
fn sigio_loses_no_event_when_the_kernel_queues_no_signal() {
    let (mut server, _backends) = start("sigio");
    let at = server.address();
    server.limit_signals(0);
    let mut peers: Vec<_> = (0..20).map(|_| Peer::connect(at)).collect();
    for _ in 0..5 {
        for peer in &mut peers {
            peer.send("GET /aggregate/3 HTTP/1.1\r\nhost: c\r\n\r\n");
        }
        for peer in &mut peers {
            assert_eq!(peer.reply().status, 200);
        }
    }
    assert!(server.lives());
}
