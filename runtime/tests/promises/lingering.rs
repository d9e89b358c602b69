//! Dropping a connection holds nobody up, whatever its socket was told to do when it is closed.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use maniple::net::{TcpListener, TcpStream};
use rustix::net::sockopt::set_socket_linger;

use super::on;

/// How long a close would wait; what it may take if it does not is far below.
const LINGER: Option<Duration> = Some(Duration::from_secs(30));
const AT_ONCE: Duration = Duration::from_secs(10);

/// A connection, and the end that never reads.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    accepted(&listener, listener.local_addr().unwrap())
}

fn accepted(listener: &TcpListener, address: SocketAddr) -> (TcpStream, TcpStream) {
    let client = TcpStream::connect(address).unwrap();
    (listener.accept().unwrap().0, client)
}

/// Writes more than the two kernels hold, drops, and holds that this took no time to speak of.
fn drops_at_once(mut stream: TcpStream, mut peer: TcpStream) {
    stream
        .set_write_timeout(Some(Duration::from_millis(20)))
        .unwrap();
    let mut sent = 0;
    while let Ok(n) = stream.write(&[7; 64 << 10]) {
        sent += n;
    }
    let begun = Instant::now();
    drop(stream);
    assert!(begun.elapsed() < AT_ONCE, "the drop waited");
    // And all the same nothing is lost.
    let mut all = Vec::new();
    peer.read_to_end(&mut all).unwrap();
    assert_eq!(all.len(), sent);
}

#[test]
fn a_connection_that_was_told_to_linger_is_dropped_at_once_on_a_worker_and_its_bytes_arrive() {
    on(1, || {
        let (stream, peer) = pair();
        stream.set_linger(LINGER).unwrap();
        assert_eq!(stream.linger().unwrap(), LINGER);
        drops_at_once(stream, peer);
        // By a clone of the listener, and by one of that, which are all the same socket.
        for clones in 1..=2 {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            let mut clone = listener.try_clone().unwrap();
            for _ in 1..clones {
                clone = clone.try_clone().unwrap();
            }
            set_socket_linger(clone.as_fd(), LINGER).unwrap();
            let (stream, peer) = accepted(&listener, address);
            assert_eq!(stream.linger().unwrap(), LINGER);
            drops_at_once(stream, peer);
        }
    });
}

#[test]
fn nor_does_one_hold_up_anybody_that_others_told_to_linger() {
    on(1, || {
        // Through the descriptor.
        let (stream, peer) = pair();
        set_socket_linger(stream.as_fd(), LINGER).unwrap();
        drops_at_once(stream, peer);
        // Before it came to be ours.
        let (stream, peer) = pair();
        let std = std::net::TcpStream::try_from(stream).unwrap();
        set_socket_linger(&std, LINGER).unwrap();
        drops_at_once(TcpStream::try_from(std).unwrap(), peer);
        // By a clone, which is the same socket.
        let (stream, peer) = pair();
        stream.try_clone().unwrap().set_linger(LINGER).unwrap();
        drops_at_once(stream, peer);
        // By the listener, from which it has it.
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        set_socket_linger(&listener, LINGER).unwrap();
        let listener = TcpListener::try_from(listener).unwrap();
        let (stream, peer) = accepted(&listener, address);
        assert_eq!(stream.linger().unwrap(), LINGER);
        drops_at_once(stream, peer);
    });
}

#[test]
fn a_linger_time_of_zero_still_resets_the_peer() {
    on(1, || {
        let (stream, mut peer) = pair();
        stream.set_linger(Some(Duration::ZERO)).unwrap();
        drop(stream);
        let error = peer.read(&mut [0]).unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_descriptor_that_is_given_away_keeps_its_linger_time() {
    on(1, || {
        let (stream, _peer) = pair();
        stream.set_linger(LINGER).unwrap();
        let fd = OwnedFd::from(stream);
        assert_eq!(rustix::net::sockopt::socket_linger(&fd).unwrap(), LINGER);
    });
}
