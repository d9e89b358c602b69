//! Sockets over loopback: what std promises of its own holds here too, and waiting leaves the worker to others.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    os::{
        fd::{AsFd, OwnedFd},
        unix::thread::JoinHandleExt,
    },
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    thread,
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle, Runtime,
    cancel::{is_cancelled_error, shield_for},
    net::{self, Shutdown, TcpListener, TcpStream, ToSocketAddrs},
    offload, spawn,
    task::spawn_on_workers,
    yield_now,
};

use super::{LONG, SHORT, on, passes_as_child};

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Answers each connection with what it says, until cancelled.
fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, server)
}

/// Fills the stream until a write has to wait.
fn fill(stream: &mut TcpStream) -> std::io::Error {
    stream.set_write_timeout(Some(SHORT)).unwrap();
    let block = [0; 64 << 10];
    loop {
        if let Err(error) = stream.write(&block) {
            return error;
        }
    }
}

#[test]
fn what_is_sent_comes_back_over_many_connections() {
    on(2, || {
        let (address, server) = echo();
        let clients: Vec<_> = (0..50_u32)
            .map(|name| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    assert_eq!(stream.peer_addr().unwrap(), address);
                    for round in 0..20_u32 {
                        let said = (name * 1_000 + round).to_be_bytes();
                        stream.write_all(&said).unwrap();
                        let mut heard = [0; 4];
                        stream.read_exact(&mut heard).unwrap();
                        assert_eq!(said, heard);
                    }
                })
            })
            .collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
        server.cancel();
        server.join().unwrap();
    });
}

#[test]
fn a_connection_to_nobody_is_refused() {
    on(1, || {
        let free = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = free.local_addr().unwrap();
        drop(free);
        for error in [
            TcpStream::connect(address),
            TcpStream::connect_timeout(&address, LONG),
        ] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn an_address_in_use_is_an_error_that_names_the_address() {
    on(1, || {
        let busy = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = busy.local_addr().unwrap();
        let error = TcpListener::bind(address).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        let named = error.to_string().starts_with(&format!("bind {address}: "));
        assert!(named, "{error}");
    });
}

#[test]
fn a_name_that_nobody_has_is_an_error() {
    on(1, || {
        assert!(TcpStream::connect("no.such.host.invalid:1").is_err());
    });
}

#[test]
fn a_timeout_of_zero_is_rejected_and_changes_nothing() {
    on(1, || {
        let (client, _server) = pair();
        client.set_read_timeout(Some(LONG)).unwrap();
        for refused in [
            client.set_read_timeout(Some(Duration::ZERO)),
            client.set_write_timeout(Some(Duration::ZERO)),
            TcpStream::connect_timeout(&client.peer_addr().unwrap(), Duration::ZERO).map(drop),
        ] {
            assert_eq!(refused.unwrap_err().kind(), ErrorKind::InvalidInput);
        }
        assert_eq!(
            (client.read_timeout(), client.write_timeout()),
            (Some(LONG), None)
        );
    });
}

#[test]
fn reads_and_writes_past_their_timeouts_say_timed_out_and_leave_the_stream_usable() {
    on(1, || {
        let (mut client, mut server) = pair();
        client.set_read_timeout(Some(SHORT)).unwrap();
        let begun = Instant::now();
        assert_eq!(
            client.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert_eq!(
            client.peek(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(begun.elapsed() >= 2 * SHORT, "never early");
        server.write_all(b"x").unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 1);
        assert_eq!(fill(&mut client).kind(), ErrorKind::TimedOut);
        drop(client);
        let mut rest = Vec::new();
        server.read_to_end(&mut rest).unwrap();
        assert!(rest.len() >= 64 << 10);
    });
}

#[test]
fn a_cancelled_read_is_no_interruption_that_is_tried_again() {
    on(1, || {
        let (mut client, _server) = pair();
        let reader = spawn(move || client.read_exact(&mut [0]));
        yield_now();
        reader.cancel();
        let error = reader.join().unwrap().unwrap_err();
        assert!(is_cancelled_error(&error), "{error:?}");
        assert_ne!(error.kind(), ErrorKind::Interrupted);
    });
}

#[test]
fn whoever_fails_over_and_over_keeps_nobody_else_from_running() {
    on(1, || {
        let (mut client, _server) = pair();
        client.shutdown(Shutdown::Write).unwrap();
        let over = Arc::new(AtomicUsize::new(0));
        let failing = spawn({
            let over = over.clone();
            move || {
                while over.load(SeqCst) == 0 {
                    client.write(b"x").unwrap_err();
                }
            }
        });
        // Begins after the other.
        spawn(move || over.store(1, SeqCst)).join().unwrap();
        failing.join().unwrap();
    });
}

#[test]
fn a_wait_waits_after_a_try_that_found_nothing() {
    on(1, || {
        let (client, mut server) = pair();
        let mut buffer = [0; 8];
        for _ in 0..3 {
            server.write_all(b"x").unwrap();
            client.wait_readable().unwrap();
            assert_eq!(client.try_read(&mut buffer).unwrap(), 1);
            let empty = client.try_read(&mut buffer).unwrap_err();
            assert_eq!(empty.kind(), ErrorKind::WouldBlock);
            // What was known of the readiness is spent, so this finds nothing to return early for.
            let until = Instant::now() + Duration::from_millis(5);
            let waited = client.wait_readable_until(until).unwrap_err();
            assert_eq!(waited.kind(), ErrorKind::TimedOut);
        }
    });
}

#[test]
fn peeking_consumes_nothing_and_trying_waits_for_nothing() {
    on(1, || {
        let (mut client, mut server) = pair();
        let mut buffer = [0; 8];
        assert_eq!(
            client.try_read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        server.write_all(b"peek").unwrap();
        for _ in 0..2 {
            assert_eq!(client.peek(&mut buffer).unwrap(), 4);
        }
        assert_eq!(client.try_read(&mut buffer).unwrap(), 4);
        assert_eq!(&buffer[..4], b"peek");
        assert_eq!(
            client.try_read(&mut buffer).unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        drop(server);
        assert_eq!(client.read(&mut buffer).unwrap(), 0);
        assert_eq!(
            client.try_read(&mut buffer).unwrap(),
            0,
            "the end is no wait"
        );
        assert_eq!(client.peek(&mut buffer).unwrap(), 0);
    });
}

#[test]
fn what_the_peer_has_not_taken_is_known_and_a_reset_throws_it_away() {
    on(1, || {
        let (mut client, mut server) = pair();
        server.write_all(b"taken").unwrap();
        while server.unacknowledged().unwrap() > 0 {
            maniple::sleep(SHORT);
        }
        let mut taken = [0; 5];
        client.read_exact(&mut taken).unwrap();
        fill(&mut server);
        let waiting = server.unacknowledged().unwrap();
        assert!(waiting > 0);
        while server.try_write(&[0; 1 << 20]).is_ok() {}
        let full = server.try_write(b"x").unwrap_err();
        assert_eq!(full.kind(), ErrorKind::WouldBlock);
        // The peer takes some, and it shows though the stream may not be writable yet.
        let before = server.unacknowledged().unwrap();
        let mut buffer = vec![0; 1 << 16];
        while server.unacknowledged().unwrap() >= before {
            client.read_exact(&mut buffer).unwrap();
        }
        server.reset_on_close().unwrap();
        drop(server);
        let end = client.read_to_end(&mut Vec::new()).unwrap_err();
        assert_eq!(end.kind(), ErrorKind::ConnectionReset);
    });
}

/// Linux refuses nothing that comes after that, unlike for Unix streams: 0 was not the end.
#[test]
fn what_comes_after_reading_was_shut_down_is_read_later() {
    on(1, || {
        let (mut client, mut server) = pair();
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!(client.read(&mut [0; 8]).unwrap(), 0);
        server.write_all(b"late").unwrap();
        let (mut buffer, until) = ([0; 8], Instant::now() + LONG);
        let count = loop {
            match client.read(&mut buffer).unwrap() {
                0 if Instant::now() < until => yield_now(),
                count => break count,
            }
        };
        assert_eq!(&buffer[..count], b"late");
    });
}

#[test]
fn each_direction_can_be_shut_down_and_a_waiting_reader_is_woken() {
    on(1, || {
        let (client, mut server) = pair();
        let client = Arc::new(client);
        let theirs = client.clone();
        let reader = spawn(move || (&*theirs).read(&mut [0]));
        yield_now();
        client.shutdown(Shutdown::Read).unwrap();
        assert_eq!(reader.join().unwrap().unwrap(), 0);
        (&*client).write_all(b"still").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        assert_eq!(
            (&*client).write(b"no").unwrap_err().kind(),
            ErrorKind::BrokenPipe
        );
        let mut all = Vec::new();
        server.read_to_end(&mut all).unwrap();
        assert_eq!(all, b"still");
        let (client, mut server) = pair();
        client.shutdown(Shutdown::Both).unwrap();
        assert_eq!(server.read(&mut [0]).unwrap(), 0);
    });
}

#[test]
fn a_half_closed_stream_still_receives() {
    on(1, || {
        let (mut client, mut server) = pair();
        client.write_all(b"question").unwrap();
        client.shutdown(Shutdown::Write).unwrap();
        let (mut question, mut answer) = (String::new(), String::new());
        server.read_to_string(&mut question).unwrap();
        server
            .write_all(question.to_uppercase().as_bytes())
            .unwrap();
        drop(server);
        client.read_to_string(&mut answer).unwrap();
        assert_eq!(answer, "QUESTION");
    });
}

#[test]
fn a_reader_and_a_writer_share_a_stream_while_more_than_the_buffers_hold_passes() {
    const BYTES: usize = 32 << 20;
    on(2, || {
        let (address, server) = echo();
        let stream = TcpStream::connect(address).unwrap();
        let byte = |at: usize| (at % 251) as u8;
        let ((), ()) = maniple::join!(
            {
                let mut at = 0;
                while at < BYTES {
                    let block: Vec<u8> = (at..BYTES.min(at + 100_000)).map(byte).collect();
                    (&stream).write_all(&block).unwrap();
                    at += block.len();
                }
                stream.shutdown(Shutdown::Write).unwrap();
            },
            {
                let (mut at, mut buffer) = (0, vec![0; 64 << 10]);
                loop {
                    let count = (&stream).read(&mut buffer).unwrap();
                    if count == 0 {
                        break;
                    }
                    let expected = (at..at + count).map(byte);
                    assert!(buffer[..count].iter().copied().eq(expected), "after {at}");
                    at += count;
                }
                assert_eq!(at, BYTES);
            }
        );
        server.cancel();
        server.join().unwrap();
    });
}

#[test]
fn a_clone_is_the_same_connection_with_its_own_timeouts() {
    on(1, || {
        let (mut client, mut server) = pair();
        let mut clone = client.try_clone().unwrap();
        clone.set_read_timeout(Some(SHORT)).unwrap();
        assert_eq!(client.read_timeout(), None);
        assert_eq!(
            clone.read(&mut [0]).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        let waiting = spawn(move || {
            let mut buffer = [0; 2];
            client.read_exact(&mut buffer).map(|()| buffer)
        });
        yield_now();
        clone.write_all(b"to").unwrap();
        let mut buffer = [0; 2];
        server.read_exact(&mut buffer).unwrap();
        server.write_all(&buffer).unwrap();
        assert_eq!(&waiting.join().unwrap().unwrap(), b"to");
        // The other handle is gone; this one holds the connection open.
        server.write_all(b"on").unwrap();
        clone.set_read_timeout(None).unwrap();
        clone.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"on");
    });
}

#[test]
fn sockets_go_to_std_and_come_back() {
    on(1, || {
        let (client, server) = pair();
        let mut blocking = std::net::TcpStream::try_from(client).unwrap();
        let mut server =
            TcpStream::try_from(std::net::TcpStream::try_from(server).unwrap()).unwrap();
        server.write_all(b"std").unwrap();
        let mut buffer = [0; 3];
        blocking.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"std");
        let mut ours = TcpStream::try_from(blocking).unwrap();
        let reader = spawn(move || ours.read(&mut [0]).unwrap());
        yield_now();
        server.write_all(b"x").unwrap();
        assert_eq!(reader.join().unwrap(), 1);
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let listener = TcpListener::try_from(listener).unwrap();
        let address = listener.local_addr().unwrap();
        assert_eq!(
            listener.try_accept().unwrap_err().kind(),
            ErrorKind::WouldBlock
        );
        let accepting = spawn(move || listener.accept().map(|(_, peer)| peer));
        let client = TcpStream::connect(address).unwrap();
        assert_eq!(
            accepting.join().unwrap().unwrap(),
            client.local_addr().unwrap()
        );
        drop(OwnedFd::from(client));
    });
}

#[test]
fn options_read_back_as_they_were_set() {
    on(1, || {
        let (client, _server) = pair();
        for nodelay in [true, false] {
            client.set_nodelay(nodelay).unwrap();
            assert_eq!(client.nodelay().unwrap(), nodelay);
        }
        client.set_ttl(42).unwrap();
        assert_eq!(client.ttl().unwrap(), 42);
        assert!(client.take_error().unwrap().is_none());
    });
}

#[test]
fn a_stream_serves_coroutines_of_two_workers() {
    on(2, || {
        let (client, server) = pair();
        let (client, turn) = (Arc::new(client), Arc::new(AtomicUsize::new(0)));
        let theirs = turn.clone();
        let workers = spawn_on_workers(move |worker| {
            for round in 0..200 {
                while theirs.load(SeqCst) != 2 * round + worker {
                    yield_now();
                }
                let mut buffer = [0];
                (&*client).write_all(&[round as u8]).unwrap();
                (&*client).read_exact(&mut buffer).unwrap();
                assert_eq!(buffer, [round as u8]);
                theirs.fetch_add(1, SeqCst);
            }
        });
        let mut server = server;
        for _ in 0..400 {
            let mut buffer = [0];
            server.read_exact(&mut buffer).unwrap();
            server.write_all(&buffer).unwrap();
        }
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
        assert_eq!(turn.load(SeqCst), 400);
    });
}

#[test]
fn streams_are_dropped_by_other_workers_while_their_numbers_are_used_again() {
    on(2, || {
        let workers = spawn_on_workers(|_| {
            let listener = TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            for _ in 0..300 {
                let mut client = TcpStream::connect(address).unwrap();
                let (mut server, _) = listener.accept().unwrap();
                // Off the workers, so that either of them may begin the coroutine below.
                let reader = thread::spawn(move || client.read_exact(&mut [0; 4]));
                server.write_all(b"over").unwrap();
                offload(|| reader.join().unwrap().unwrap()).unwrap();
                spawn(move || drop(server)).join().unwrap();
            }
        });
        workers
            .into_iter()
            .for_each(|worker| worker.join().unwrap());
    });
}

#[test]
fn plain_threads_use_the_same_sockets() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = thread::spawn(move || {
        let mut stream = listener.incoming().next().unwrap().unwrap();
        let mut all = String::new();
        stream.read_to_string(&mut all).unwrap();
        all
    });
    let mut client = TcpStream::connect(address).unwrap();
    client.set_read_timeout(Some(SHORT)).unwrap();
    assert_eq!(
        client.read(&mut [0]).unwrap_err().kind(),
        ErrorKind::TimedOut
    );
    assert_eq!(
        client
            .wait_readable_until(Instant::now() + SHORT)
            .unwrap_err()
            .kind(),
        ErrorKind::TimedOut
    );
    client.write_all(b"from a thread").unwrap();
    drop(client);
    assert_eq!(server.join().unwrap(), "from a thread");
}

#[test]
fn acceptors_on_all_workers_share_a_listener_and_each_connection_is_accepted_once() {
    const CLIENTS: usize = 200;
    on(2, || {
        let listener = Arc::new(TcpListener::bind("127.0.0.1:0").unwrap());
        let address = listener.local_addr().unwrap();
        let accepted = Arc::new(AtomicUsize::new(0));
        let acceptors: Vec<_> = (0..8)
            .map(|_| {
                let (listener, accepted) = (listener.clone(), accepted.clone());
                spawn(move || {
                    while listener.accept().is_ok() {
                        accepted.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let mut clients: Vec<_> = (0..CLIENTS)
            .map(|_| TcpStream::connect(address).unwrap())
            .collect();
        // An accepted connection is closed at once: its end says that it was accepted.
        clients
            .iter_mut()
            .for_each(|client| assert_eq!(client.read(&mut [0]).unwrap(), 0));
        for acceptor in acceptors {
            acceptor.cancel();
            acceptor.join().unwrap();
        }
        assert_eq!(accepted.load(SeqCst), CLIENTS);
    });
}

#[test]
fn a_reset_connection_is_an_error_to_a_waiting_reader() {
    on(1, || {
        let (client, mut server) = pair();
        server.write_all(b"unread").unwrap();
        client.wait_readable().unwrap();
        let reader = spawn(move || server.read(&mut [0]));
        yield_now();
        // Closing with unread bytes resets, RFC 2525 section 2.17.
        drop(client);
        let error = reader.join().unwrap().unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    });
}

#[test]
fn the_end_is_seen_after_a_read_that_filled_only_part_of_the_buffer() {
    on(2, || {
        for round in 0..300 {
            let (mut client, mut server) = pair();
            let closer = spawn(move || {
                server.write_all(b"last").unwrap();
                if round % 2 == 0 {
                    yield_now();
                }
                drop(server);
            });
            let mut buffer = [0; 64];
            let mut got = 0;
            while got < 4 {
                got += client.read(&mut buffer).unwrap();
            }
            assert_eq!(client.read(&mut buffer).unwrap(), 0, "round {round}");
            closer.join().unwrap();
        }
    });
}

#[test]
fn waiting_to_read_takes_no_bytes_and_keeps_to_its_instant() {
    on(1, || {
        let (mut client, mut server) = pair();
        client.set_read_timeout(Some(LONG)).unwrap();
        let at = Instant::now() + SHORT;
        assert_eq!(
            client.wait_readable_until(at).unwrap_err().kind(),
            ErrorKind::TimedOut
        );
        assert!(Instant::now() >= at, "never early");
        server.write_all(b"here").unwrap();
        client.wait_readable_until(Instant::now() + LONG).unwrap();
        client.wait_readable().unwrap();
        net::wait_readable(client.as_fd()).unwrap();
        net::wait_writable(client.as_fd()).unwrap();
        let mut buffer = [0; 4];
        client.read_exact(&mut buffer).unwrap();
        assert_eq!(&buffer, b"here");
        drop(server);
        client.wait_readable().unwrap();
        assert_eq!(client.read(&mut buffer).unwrap(), 0);
    });
}

/// A listener that answers no more connections, with those that fill it.
fn mute() -> (TcpListener, Vec<TcpStream>, SocketAddr) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    rustix::net::listen(&listener, 0).unwrap();
    let address = listener.local_addr().unwrap();
    let mut filling = Vec::new();
    while let Ok(stream) = TcpStream::connect_timeout(&address, 4 * SHORT) {
        filling.push(stream);
    }
    (listener, filling, address)
}

/// A bound socket at which nobody listens, and nobody else can meanwhile.
fn refusing() -> (OwnedFd, SocketAddr) {
    use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
    let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
    bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
    let address = getsockname(&socket).unwrap().try_into().unwrap();
    (socket, address)
}

#[test]
fn of_several_addresses_one_that_is_silent_holds_nobody_up_for_long() {
    let body = || {
        let (_listener, _filling, silent) = mute();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let answering = listener.local_addr().unwrap();
        let begun = Instant::now();
        let addresses = [silent, answering, silent];
        let stream = TcpStream::connect(&addresses[..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), answering);
        assert!(begun.elapsed() >= Duration::from_millis(250), "never early");
        let (mut accepted, _) = listener.accept().unwrap();
        (&stream).write_all(b"usable").unwrap();
        accepted.read_exact(&mut [0; 6]).unwrap();
        let nobody = listener.try_accept().unwrap_err();
        assert_eq!(nobody.kind(), ErrorKind::WouldBlock);
    };
    on(1, body);
    thread::spawn(body).join().unwrap();
}

#[test]
fn of_several_addresses_the_last_error_is_told_if_all_refuse() {
    on(1, || {
        let ((_one, first), (_other, second)) = (refusing(), refusing());
        let addresses = [first, second, "[::1]:1".parse().unwrap()];
        assert!(TcpStream::connect(&addresses[..]).is_err());
        let error = TcpStream::connect(&addresses[..2]).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
        let nowhere = TcpStream::connect(&addresses[..0]).unwrap_err();
        assert_eq!(nowhere.kind(), ErrorKind::InvalidInput);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let stream = TcpStream::connect(&[first, address][..]).unwrap();
        assert_eq!(stream.peer_addr().unwrap(), address);
    });
}

#[test]
fn connecting_to_several_addresses_is_cut_at_any_moment() {
    on(1, || {
        let (_listener, _filling, silent) = mute();
        for late in [SHORT, Duration::from_millis(255)] {
            let begun = Instant::now();
            let cut = maniple::timeout(late, || TcpStream::connect(&[silent, silent][..]));
            assert_eq!(cut.unwrap().unwrap_err().kind(), ErrorKind::TimedOut);
            assert!(begun.elapsed() >= late, "never early");
        }
        for yields in 0..5 {
            let connecting = spawn(move || TcpStream::connect(&[silent, silent][..]));
            (0..yields).for_each(|_| yield_now());
            connecting.cancel();
            match connecting.join() {
                Ok(result) => assert!(is_cancelled_error(&result.unwrap_err())),
                Err(never_begun) => assert!(never_begun.is_cancelled()),
            }
        }
    });
}

#[test]
fn connecting_behind_a_shield_goes_on_when_it_is_cancelled() {
    on(1, || {
        let (_listener, _filling, silent) = mute();
        for addresses in [vec![silent], vec![silent, silent]] {
            let connecting = spawn(move || {
                shield_for(4 * SHORT, || TcpStream::connect(&addresses[..])).unwrap()
            });
            (0..5).for_each(|_| yield_now());
            connecting.cancel();
            let error = connecting.join().unwrap().unwrap_err();
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
    });
}

#[test]
fn a_signal_does_not_end_a_plain_threads_connecting() {
    extern "C" fn nothing(_: libc::c_int) {}
    let handler = nothing as extern "C" fn(libc::c_int);
    // SAFETY: the handler does nothing, and nothing else in this process uses the signal.
    unsafe { libc::signal(libc::SIGIO, handler as libc::sighandler_t) };
    let (_listener, _filling, silent) = mute();
    let connecting = thread::spawn(move || TcpStream::connect_timeout(&silent, 4 * SHORT));
    while !connecting.is_finished() {
        // SAFETY: the thread is not joined yet, so its handle is valid.
        unsafe { libc::pthread_kill(connecting.as_pthread_t(), libc::SIGIO) };
        maniple::sleep(Duration::from_millis(1));
    }
    let error = connecting.join().unwrap().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
}

#[test]
fn looking_up_a_name_leaves_the_worker_to_others_and_is_done_once_in_a_while() {
    // For the whole process; no other test here minds.
    net::set_name_ttl(Duration::ZERO);
    on(1, || {
        let turns = Arc::new(AtomicUsize::new(0));
        let theirs = turns.clone();
        let other = spawn(move || {
            loop {
                theirs.fetch_add(1, SeqCst);
                yield_now();
                if maniple::cancel::is_cancelled() {
                    return;
                }
            }
        });
        yield_now();
        // An answer that is there before the waiting begins needs no wait: look up until one is not.
        let (begun, mut look_ups) = (Instant::now(), 0);
        loop {
            let before = turns.load(SeqCst);
            let listener = TcpListener::bind("localhost:0").unwrap();
            let port = listener.local_addr().unwrap().port();
            look_ups += 1;
            if turns.load(SeqCst) > before {
                TcpStream::connect(("localhost", port)).unwrap();
                break;
            }
            assert!(
                begun.elapsed() < LONG,
                "{look_ups} look-ups held up the worker"
            );
        }
        println!("{look_ups} look-ups");
        net::set_name_ttl(LONG);
        let first = ("localhost", 1).to_socket_addrs().unwrap();
        let before = turns.load(SeqCst);
        let second = ("localhost", 2).to_socket_addrs().unwrap();
        assert_eq!(
            turns.load(SeqCst),
            before,
            "an answer from memory waits for nothing"
        );
        let ports =
            |addresses: &[SocketAddr]| addresses.iter().map(|a| (a.ip(), 2)).collect::<Vec<_>>();
        let second: Vec<_> = second.iter().map(|a| (a.ip(), a.port())).collect();
        assert_eq!(second, ports(&first));
        net::set_name_ttl(net::DEFAULT_NAME_TTL);
        other.cancel();
        drop(other.join());
    });
}

#[test]
#[ignore = "counts descriptors: a child of the test below"]
fn descriptors_child() {
    let count = || std::fs::read_dir("/proc/self/fd").unwrap().count();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    // One round first: what is made once and kept is no leak.
    let before = runtime.run(|| {
        churn(10);
        count()
    });
    runtime.run(|| churn(2_000));
    let after = runtime.run(count);
    assert_eq!(after, before, "descriptors are left");
    assert!(runtime.shutdown().is_clean());
}

fn churn(connections: usize) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        let answering: Vec<_> = (0..connections)
            .map(|_| {
                let (mut stream, _) = listener.accept().unwrap();
                spawn(move || {
                    let count = stream.read(&mut [0; 8]).unwrap();
                    stream.write_all(&[0; 8][..count]).unwrap();
                })
            })
            .collect();
        answering.into_iter().for_each(|one| one.join().unwrap());
    });
    for batch in 0..connections.div_ceil(100) {
        let clients: Vec<_> = (0..100.min(connections - batch * 100))
            .map(|_| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(b"x").unwrap();
                    assert_eq!(stream.read(&mut [0; 8]).unwrap(), 1);
                })
            })
            .collect();
        clients
            .into_iter()
            .for_each(|client| client.join().unwrap());
    }
    server.join().unwrap();
}

#[test]
fn two_thousand_connections_across_two_workers_leave_no_descriptor() {
    passes_as_child("net::descriptors_child");
}

/// Writes until there is no room; how much that was.
fn fill_up(stream: &TcpStream) -> usize {
    let mut written = 0;
    loop {
        match stream.try_write(&[b'x'; 65_536]) {
            Ok(count) => written += count,
            Err(error) => {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
                return written;
            }
        }
    }
}

/// One that waits for either direction is woken by each of the two, and by neither when nothing happens.
fn waits_for_either() {
    let (near, mut far) = pair();
    near.wait_either().unwrap();
    let mut written = fill_up(&near);
    near.set_write_timeout(Some(SHORT)).unwrap();
    // What is on its way may still make room: then it is filled again.
    let over = Instant::now() + LONG;
    while near.wait_either().is_ok() {
        written += fill_up(&near);
        assert!(Instant::now() < over);
    }
    let error = near.wait_either().unwrap_err();
    assert_eq!(error.kind(), ErrorKind::TimedOut);
    near.set_write_timeout(Some(LONG)).unwrap();

    far.write_all(b"hello").unwrap();
    let mut buffer = [0; 5];
    while near.try_read(&mut buffer).is_err() {
        near.wait_either().unwrap();
    }
    assert_eq!(&buffer, b"hello");

    let reading = spawn(move || {
        let mut bytes = vec![0; written];
        far.read_exact(&mut bytes).unwrap();
        far
    });
    while near.try_write(b"more").is_err() {
        near.wait_either().unwrap();
    }
    let far = reading.join().unwrap();
    fill_up(&near);
    drop(far);
    let over = Instant::now() + LONG;
    while near
        .try_read(&mut [0])
        .is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    {
        near.wait_either().unwrap();
        assert!(Instant::now() < over);
    }
}

#[test]
fn a_coroutine_waits_for_either_direction() {
    on(1, waits_for_either);
    on(2, waits_for_either);
}

#[test]
fn a_plain_thread_waits_for_either_direction() {
    waits_for_either();
}

#[test]
fn a_wait_for_either_direction_is_cut_short_and_then_another_may_wait() {
    on(1, || {
        let (near, mut far) = pair();
        let near = Arc::new(near);
        fill_up(&near);
        near.set_read_timeout(Some(SHORT)).unwrap();
        while near.wait_either().is_ok() {
            fill_up(&near);
        }
        near.set_read_timeout(None).unwrap();
        let waiting = spawn({
            let near = near.clone();
            move || near.wait_either()
        });
        (0..4).for_each(|_| yield_now());
        waiting.cancel();
        let error = waiting.join().unwrap().unwrap_err();
        assert!(is_cancelled_error(&error));
        let waiting = spawn({
            let near = near.clone();
            move || near.wait_either()
        });
        (0..4).for_each(|_| yield_now());
        far.write_all(b"x").unwrap();
        waiting.join().unwrap().unwrap();
        assert_eq!((&*near).read(&mut [0; 9]).unwrap(), 1);
    });
}

#[test]
fn the_ends_of_connections_are_told_apart_from_what_else_happens_on_them() {
    on(1, || {
        let hangups = net::Hangups::new().unwrap();
        let none = hangups.wait_until(Instant::now() + SHORT).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::TimedOut);
        let mut pairs: Vec<_> = (0..4).map(|_| pair()).collect();
        // One that has ended before it is watched, and before those bytes are read.
        pairs[3].0.write_all(b"bytes").unwrap();
        pairs[3].0.shutdown(Shutdown::Write).unwrap();
        for (key, (_, stream)) in pairs.iter().enumerate() {
            hangups.watch(stream.fd_to_wait_for(), key as u64).unwrap();
        }
        let told = |hangups: &net::Hangups| {
            let told = hangups.wait_until(Instant::now() + LONG).unwrap();
            let told = told.iter().map(|hangup| (hangup.key, hangup.is_whole));
            told.collect::<Vec<_>>()
        };
        assert_eq!(told(&hangups), [(3, false)]);
        pairs[0].0.write_all(b"bytes").unwrap();
        let none = hangups.wait_until(Instant::now() + SHORT).unwrap_err();
        assert_eq!(none.kind(), ErrorKind::TimedOut);
        pairs[1].0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told(&hangups), [(1, false)]);
        pairs[2].0.reset_on_close().unwrap();
        let (reset, stays) = pairs.remove(2);
        drop(reset);
        assert_eq!(told(&hangups), [(2, true)]);
        // One that is closed here is watched no more; one that is watched again has another key.
        drop(stays);
        hangups.watch(pairs[0].1.fd_to_wait_for(), 9).unwrap();
        pairs[0].0.shutdown(Shutdown::Write).unwrap();
        assert_eq!(told(&hangups), [(9, false)]);
    });
}

#[test]
fn a_unix_socket_whose_peer_is_gone_has_ended_as_a_whole() {
    on(1, || {
        let hangups = net::Hangups::new().unwrap();
        let (half, one) = net::UnixStream::pair().unwrap();
        let (gone, other) = net::UnixStream::pair().unwrap();
        hangups.watch(one.fd_to_wait_for(), 1).unwrap();
        hangups.watch(other.fd_to_wait_for(), 2).unwrap();
        half.shutdown(Shutdown::Write).unwrap();
        let until = Instant::now() + LONG;
        let told = hangups.wait_until(until).unwrap();
        assert_eq!((told[0].key, told[0].is_whole), (1, false));
        drop(gone);
        let told = hangups.wait_until(until).unwrap();
        assert_eq!((told[0].key, told[0].is_whole), (2, true));
        drop(half);
        let told = hangups.wait_until(until).unwrap();
        assert_eq!((told[0].key, told[0].is_whole), (1, true));
    });
}
