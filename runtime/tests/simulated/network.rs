//! Hosts, links, connections and what befalls them.

use std::{
    io::{self, ErrorKind, Read, Write},
    time::Duration,
};

use maniple::{
    net::{Shutdown, TcpListener, TcpStream},
    sim::{self, World},
};

pub(crate) const MILLIS: Duration = Duration::from_millis(1);
pub(crate) const MINUTE: Duration = Duration::from_secs(60);

/// Sends back what comes, and ends as its client does.
pub(crate) fn echo() {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    while let Ok((stream, _)) = listener.accept() {
        maniple::spawn(move || -> io::Result<()> {
            let mut buffer = [0; 700];
            loop {
                match (&stream).read(&mut buffer)? {
                    0 => return Ok(()),
                    count => (&stream).write_all(&buffer[..count])?,
                }
            }
        });
    }
}

pub(crate) fn connected(world: &World) -> TcpStream {
    world.settle();
    TcpStream::connect("server:7").unwrap()
}

#[test]
fn bytes_come_whole_and_in_order_in_other_portions_and_take_their_time() {
    sim::check(sim::seeds(200), |world| {
        let _server = world.host("server", echo);
        world
            .link("scenario", "server")
            .latency(2 * MILLIS..9 * MILLIS)
            .loss(0.02);
        let stream = connected(world);
        assert!(world.now() >= 4 * MILLIS, "there and back");
        stream.set_nodelay(true).unwrap();
        let sent: Vec<u8> = (0..world.draw(1..100_000))
            .map(|n| (n % 251) as u8)
            .collect();
        maniple::group(|g| {
            g.spawn(|| {
                (&stream).write_all(&sent)?;
                stream.shutdown(Shutdown::Write)
            });
            let mut received: Vec<u8> = Vec::new();
            let mut buffer = [0; 4096];
            loop {
                let count = (&stream).read(&mut buffer)?;
                if count == 0 {
                    break;
                }
                sim::sometimes!(count < buffer.len());
                received.extend(&buffer[..count]);
            }
            assert!(received == sent);
            Ok::<_, io::Error>(())
        })
        .unwrap();
        sim::sometimes!(world.now() > 200 * MILLIS);
    });
}

#[test]
fn a_whole_network_has_the_same_trace_for_the_same_seed() {
    let scenario = |world: &World| {
        let server = world.host("server", echo);
        let _client = world.host("client", || {
            maniple::sleep(MILLIS);
            let Ok(mut stream) = TcpStream::connect("server:7") else {
                return;
            };
            let mut buffer = vec![1; 30_000];
            _ = stream
                .write_all(&buffer)
                .and_then(|()| stream.read_exact(&mut buffer));
        });
        let mut stream = connected(world);
        stream.write_all(&[7; 5000]).unwrap();
        stream.read_exact(&mut [0; 5000]).unwrap();
        if world.draw(0..2) == 0 {
            server.crash();
            server.restart();
        }
        maniple::sleep(MINUTE);
    };
    let traces = || -> Vec<u64> {
        let trace = |seed| sim::run(seed, scenario).unwrap().trace();
        (0..200).map(trace).collect()
    };
    assert_eq!(traces(), traces());
}

#[test]
fn addresses_are_those_of_the_hosts() {
    sim::check(0..5, |world| {
        let server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:80").unwrap();
            let (stream, peer) = listener.accept().unwrap();
            assert_eq!(stream.peer_addr().unwrap(), peer);
            assert_eq!(stream.local_addr().unwrap(), listener.local_addr().unwrap());
            (&stream).write_all(peer.to_string().as_bytes()).unwrap();
        });
        world.settle();
        let mut stream = TcpStream::connect("server:80").unwrap();
        assert_eq!(stream.peer_addr().unwrap(), (server.address(), 80).into());
        let mut seen = String::new();
        stream.read_to_string(&mut seen).unwrap();
        assert_eq!(seen, stream.local_addr().unwrap().to_string());
        let twice =
            TcpListener::bind("127.0.0.1:9").map(|first| (TcpListener::bind("127.0.0.1:9"), first));
        assert_eq!(twice.unwrap().0.unwrap_err().kind(), ErrorKind::AddrInUse);
        let local = TcpListener::bind("localhost:0").unwrap();
        let near = TcpStream::connect(local.local_addr().unwrap()).unwrap();
        assert!(near.peer_addr().unwrap().ip().is_loopback());
        assert!(
            TcpStream::connect("nobody:1")
                .unwrap_err()
                .to_string()
                .contains("no such host")
        );
    });
}

#[test]
fn nobody_who_listens_refuses_and_nobody_who_is_there_times_out() {
    sim::check(0..20, |world| {
        let server = world.host("server", || ());
        world.settle();
        let refused = TcpStream::connect("server:7").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
        server.crash();
        let begun = world.now();
        let silent = TcpStream::connect("server:7").unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        assert!(world.now() - begun > MINUTE, "as long as TCP tries");
        let address = (server.address(), 7).into();
        let cut = TcpStream::connect_timeout(&address, 30 * MILLIS).unwrap_err();
        assert_eq!(cut.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_listener_that_ignores_new_connections_leaves_them_to_who_listens_next() {
    sim::check(0..20, |world| {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        let early = TcpStream::connect("scenario:7").unwrap();
        listener.ignore_new().unwrap();
        let late = maniple::spawn(|| TcpStream::connect("scenario:7"));
        maniple::sleep(100 * MILLIS);
        let (accepted, _) = listener.accept().unwrap();
        assert_eq!(accepted.peer_addr().unwrap(), early.local_addr().unwrap());
        assert_eq!(
            listener.try_accept().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        drop(listener);
        let next = TcpListener::bind("0.0.0.0:7").unwrap();
        next.accept().unwrap();
        late.join().unwrap().unwrap();
        assert!(world.now() >= Duration::from_secs(1), "asked again");
    });
}

#[test]
fn nobody_listens_where_a_listener_that_ignored_new_connections_was_closed() {
    sim::check(0..20, |_| {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        listener.ignore_new().unwrap();
        drop(listener);
        let refused = TcpStream::connect("scenario:7").unwrap_err();
        assert_eq!(refused.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_partition_holds_up_what_is_sent_until_it_heals() {
    sim::check(sim::seeds(100), |world| {
        let _server = world.host("server", echo);
        let mut stream = connected(world);
        let cut = match world.draw(0..2) {
            0 => world.partition(&["scenario"], &["server"]),
            _ => world.partition_one_way(&["server"], &["scenario"]),
        };
        stream.write_all(b"hello").unwrap();
        stream.set_read_timeout(Some(MINUTE)).unwrap();
        let waited = stream.read(&mut [0; 5]).unwrap_err();
        assert_eq!(waited.kind(), ErrorKind::TimedOut);
        cut.heal();
        let mut answer = [0; 5];
        stream.read_exact(&mut answer).unwrap();
        assert_eq!(&answer, b"hello");
    });
}

#[test]
fn a_host_that_crashed_says_nothing_until_it_is_back_and_then_knows_no_connection() {
    sim::check(sim::seeds(100), |world| {
        let server = world.host("server", echo);
        let mut stream = connected(world);
        stream.write_all(b"before").unwrap();
        stream.read_exact(&mut [0; 6]).unwrap();
        server.crash();
        assert!(!server.is_up());
        stream.write_all(b"into the void").unwrap();
        stream.set_read_timeout(Some(MINUTE)).unwrap();
        let silent = stream.read(&mut [0; 5]).unwrap_err();
        assert_eq!(silent.kind(), ErrorKind::TimedOut);
        server.restart();
        let reset = stream.read(&mut [0; 5]).unwrap_err();
        assert_eq!(reset.kind(), ErrorKind::ConnectionReset);
        let mut again = connected(world);
        again.write_all(b"after").unwrap();
        again.read_exact(&mut [0; 5]).unwrap();
    });
}

#[test]
fn an_end_that_had_not_read_all_resets_the_connection() {
    sim::check(0..50, |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            stream.read_exact(&mut [0; 1]).unwrap();
            // The rest has come by then.
            maniple::sleep(MINUTE);
        });
        let mut stream = connected(world);
        stream.write_all(b"two").unwrap();
        let error = stream.read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_connection_may_be_reset_on_purpose() {
    sim::check(0..50, |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (stream, _) = listener.accept().unwrap();
            stream.reset_on_close().unwrap();
        });
        let error = connected(world).read(&mut [0; 5]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn a_sender_waits_for_who_does_not_read() {
    sim::check(0..30, |world| {
        let _server = world.host("server", || {
            let listener = TcpListener::bind("0.0.0.0:7").unwrap();
            let (mut stream, _) = listener.accept().unwrap();
            maniple::sleep(MINUTE);
            let mut sink = Vec::new();
            assert_eq!(stream.read_to_end(&mut sink).unwrap(), 4 << 20);
            stream.write_all(b"all").unwrap();
        });
        let mut stream = connected(world);
        stream.write_all(&vec![0; 4 << 20]).unwrap();
        assert!(world.now() >= MINUTE, "buffers are bounded");
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "all");
    });
}
