//! Streams and listeners over TCP: what std promises of its own holds here too.

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::OwnedFd,
    sync::Arc,
    time::Instant,
};

use maniple::{
    net::{Shutdown, TcpListener, TcpStream},
    spawn, yield_now,
};

use super::{echo, fill, pair};
use crate::{LONG, SHORT, on};

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
fn with_a_limit_a_peer_that_reads_nothing_has_little_kept_for_it_and_gets_all_of_it() {
    on(1, || {
        const LIMIT: u32 = 64 * 1024;
        let held = |limited: bool| {
            let (mut client, mut server) = pair();
            if limited {
                server.limit_unsent(LIMIT).unwrap();
            }
            let mut sent = 0;
            while let Ok(count) = server.try_write(&[b'x'; 1024 * 1024]) {
                sent += count;
            }
            let room = client.try_read(&mut [0; 1]).unwrap();
            let writing = spawn(move || server.write_all(&[b'y'; 300_000]));
            let mut all = Vec::new();
            client.read_to_end(&mut all).unwrap();
            writing.join().unwrap().unwrap();
            assert_eq!(room + all.len(), sent + 300_000);
            assert!(all.ends_with(&[b'y'; 300_000]));
            sent
        };
        // What the peer's kernel takes in is the same of both.
        let (limited, unlimited) = (held(true), held(false));
        assert!(
            limited + LIMIT as usize <= unlimited,
            "{limited} bytes, and {unlimited} without a limit"
        );
    });
}

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
