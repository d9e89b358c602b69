//! A client library that hangs in a call: the request is answered all the same, and what hangs is bounded.

use std::{
    net::{SocketAddr, TcpListener},
    thread,
    time::Instant,
};

use maniple_models::work::backend::PATIENCE;

use super::{
    http::ask,
    process::{Ports, Running},
};

#[test]
fn a_call_that_cannot_be_interrupted_is_left_behind() {
    // The kernel takes their connections and what is sent over them; nobody will ever answer.
    let ports = Ports::reserve();
    let silent = ports
        .addresses()
        .map(|port| TcpListener::bind(port).unwrap());
    let addresses = ports.said();
    let mut server = Running::start(&[
        "blocking-client",
        "--listen=127.0.0.1:0",
        "--workers=6",
        "--backends",
        &addresses,
    ]);
    let at = server.address();

    // Three calls of each hang, and six in all are let hang.
    let begun = Instant::now();
    let asked = [1, 2].map(|id| thread::spawn(move || status_and_body(at, id)));
    for asked in asked {
        let late = "3 of the backends did not answer in time\n".to_owned();
        assert_eq!(asked.join().unwrap(), (503, late));
    }
    assert!(begun.elapsed() >= PATIENCE);
    let refused = "too many calls hang in the client library\n".to_owned();
    assert_eq!(status_and_body(at, 3), (503, refused));

    // The connections end, and with them the calls.
    drop(silent);
    let _backends = Running::start(&["backends", "--backends", &addresses]);
    let dropped = Instant::now();
    while status_and_body(at, 4).0 != 200 {
        let waited = dropped.elapsed();
        assert!(waited < 10 * PATIENCE, "what hung is still counted");
    }
    assert!(server.lives());
}

fn status_and_body(at: SocketAddr, id: u64) -> (u16, String) {
    let reply = ask(at, &format!("/aggregate/{id}"));
    (reply.status, reply.body)
}
