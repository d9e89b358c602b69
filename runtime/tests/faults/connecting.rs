//! Connecting: an attempt that was cut is taken back, and the next one finds everything as it was.

use std::{
    fs,
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use maniple::{
    cancel::cancel_at,
    net::{TcpListener, TcpStream},
};

use super::at_every_suspension;

fn bind() -> (TcpListener, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    (listener, address)
}

/// A listener whose queue is full: attempts to connect to it stay without an answer.
struct Full {
    listener: TcpListener,
    address: SocketAddr,
    _queued: TcpStream,
}

impl Full {
    fn new() -> Self {
        // A queue of none still takes one (listen(2), and the kernel's `sk_acceptq_is_full`).
        let listener = TcpListener::builder().backlog(0).bind("127.0.0.1:0");
        let listener = listener.unwrap();
        let address = listener.local_addr().unwrap();
        Self {
            listener,
            address,
            _queued: TcpStream::connect(address).unwrap(),
        }
    }

    /// Sockets in the whole system that try to connect to it.
    fn attempts(&self) -> usize {
        const SYN_SENT: &str = "02";
        let port = format!(":{:04X}", self.address.port());
        let table = fs::read_to_string("/proc/self/net/tcp").unwrap();
        let fields = table
            .lines()
            .map(|line| line.split_whitespace().collect::<Vec<_>>());
        fields
            .filter(|fields| fields[2].ends_with(&port) && fields[3] == SYN_SENT)
            .count()
    }
}

#[test]
fn an_attempt_to_connect_that_was_cut_leaves_no_connection() {
    let (listener, address) = bind();
    let points = at_every_suspension(|after| {
        let struck = maniple::group(|g| {
            // Ends with the last number. A connection before it that nobody closes keeps this waiting for ever.
            let accepting = g.spawn(|| {
                let mut numbers = Vec::new();
                while numbers.last() != Some(&u8::MAX) {
                    let (mut stream, _) = listener.accept().unwrap();
                    stream.read_to_end(&mut numbers).unwrap();
                }
                numbers
            });
            let connect = |number: u8| TcpStream::connect(address)?.write_all(&[number]);
            let mut said = Vec::new();
            let (_, struck) = cancel_at(after, || {
                while said.len() < 2 && connect(said.len() as u8).is_ok() {
                    said.push(said.len() as u8);
                }
            });
            assert!(struck || said.len() == 2);
            connect(u8::MAX).unwrap();
            said.push(u8::MAX);
            assert_eq!(accepting.join().unwrap(), said, "cut at {after}");
            Ok::<_, ()>(struck)
        });
        struck.unwrap()
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn an_attempt_without_an_answer_ends_with_its_cut() {
    let points = at_every_suspension(|after| {
        let full = Full::new();
        let limit = Duration::from_millis(2);
        let (tried, struck) = cancel_at(after, || {
            let attempts = [(); 2].map(|()| TcpStream::connect_timeout(&full.address, limit));
            attempts.map(|attempt| attempt.is_err())
        });
        assert_eq!(tried, Ok([true, true]));
        assert_eq!(full.attempts(), 0, "cut at {after}");
        // And the listener has not noticed.
        drop(full.listener.accept().unwrap());
        TcpStream::connect(full.address).unwrap();
        struck
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn all_attempts_end_if_the_race_of_several_is_cut() {
    let (listener, address) = bind();
    let points = at_every_suspension(|after| {
        let full = Full::new();
        let (raced, struck) = cancel_at(after, || {
            // The second attempt joins in once the first has had its time.
            TcpStream::connect(&[full.address, address][..])
        });
        assert_eq!(full.attempts(), 0, "cut at {after}");
        match raced {
            Ok(Ok(stream)) => {
                let (accepted, peer) = listener.accept().unwrap();
                assert_eq!(peer, stream.local_addr().unwrap());
                drop(accepted);
            }
            cut => assert!(struck, "{cut:?}"),
        }
        // Of a cut attempt the listener may still have heard: it is closed.
        let last = TcpStream::connect(address).unwrap();
        loop {
            let (mut stream, peer) = listener.accept().unwrap();
            if peer == last.local_addr().unwrap() {
                break;
            }
            assert_eq!(stream.read(&mut [0]).unwrap_or(0), 0);
        }
        struck
    });
    assert!(points >= 2, "{points}");
}
