//! Datagrams over loopback: kept whole and in order, and cut waits consume none.

use std::{
    io::ErrorKind,
    net::{Ipv4Addr, SocketAddr},
    sync::{Arc, atomic::AtomicUsize, atomic::Ordering::SeqCst},
    time::{Duration, Instant},
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    net::{RecvBatch, UdpSocket},
    spawn, yield_now,
};

use super::{LONG, SHORT, on, plain_thread};

fn bound() -> (UdpSocket, SocketAddr) {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(LONG)).unwrap();
    let address = socket.local_addr().unwrap();
    (socket, address)
}

/// Two sockets that are connected to each other.
fn pair() -> (UdpSocket, UdpSocket) {
    let ((one, first), (two, second)) = (bound(), bound());
    one.connect(second).unwrap();
    two.connect(first).unwrap();
    (one, two)
}

#[test]
fn datagrams_keep_their_bounds_and_say_who_sent_them() {
    on(1, || {
        let ((one, first), (two, second)) = (bound(), bound());
        one.send_to(b"first", second).unwrap();
        one.send_to(b"", second).unwrap();
        one.send_to(b"third", ("localhost", second.port())).unwrap();
        let mut buffer = [0; 16];
        assert_eq!(two.peek_from(&mut buffer).unwrap(), (5, first));
        assert_eq!(two.recv_from(&mut buffer).unwrap(), (5, first));
        assert_eq!(&buffer[..5], b"first");
        assert_eq!(two.recv_from(&mut buffer).unwrap(), (0, first));
        assert_eq!(two.recv_from(&mut buffer[..2]).unwrap(), (2, first));
        assert_eq!(&buffer[..2], b"th");
        let error = two.try_recv_from(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::WouldBlock, "its end is lost");
    });
}

#[test]
fn a_datagram_says_how_long_it_is_even_where_its_end_is_lost() {
    on(1, || {
        let ((one, first), (two, second)) = (bound(), bound());
        let mut buffer = [0; 3];
        for (text, length) in [(&b"longer"[..], 6), (b"no", 2), (b"", 0)] {
            one.send_to(text, second).unwrap();
            assert_eq!(two.recv_len_from(&mut buffer).unwrap(), (length, first));
        }
        two.connect(first).unwrap();
        one.send_to(b"again", second).unwrap();
        assert_eq!(two.recv_len(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer, b"aga");
    });
}

#[test]
fn a_connected_socket_hears_its_peer_alone_and_learns_that_it_is_gone() {
    on(1, || {
        let (one, two) = pair();
        let (stranger, _) = bound();
        assert_eq!(one.peer_addr().unwrap(), two.local_addr().unwrap());
        assert_eq!(
            stranger.peer_addr().unwrap_err().kind(),
            ErrorKind::NotConnected
        );
        stranger
            .send_to(b"unheard", two.local_addr().unwrap())
            .unwrap();
        one.send(b"heard").unwrap();
        let mut buffer = [0; 16];
        assert_eq!(two.peek(&mut buffer).unwrap(), 5);
        assert_eq!(two.recv(&mut buffer).unwrap(), 5);
        assert_eq!(&buffer[..5], b"heard");
        drop(two);
        one.send(b"nobody").unwrap();
        let error = one.recv(&mut buffer).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    });
}

#[test]
fn a_waiting_receiver_leaves_the_worker_to_the_sender_and_threads_may_be_either() {
    on(2, || {
        let (one, two) = pair();
        let echo = spawn(move || {
            let mut buffer = [0; 8];
            for _ in 0..200 {
                let n = two.recv(&mut buffer).unwrap();
                two.send(&buffer[..n]).unwrap();
            }
        });
        let ask = move |one: &UdpSocket| {
            let mut buffer = [0; 8];
            for round in 0..100_u32 {
                one.send(&round.to_be_bytes()).unwrap();
                assert_eq!(one.recv(&mut buffer).unwrap(), 4);
                assert_eq!(buffer[..4], round.to_be_bytes());
            }
        };
        ask(&one);
        let thread = plain_thread(move || ask(&one));
        echo.join().unwrap();
        thread.join().unwrap();
    });
}

#[test]
fn many_receivers_share_a_socket_and_each_datagram_reaches_one() {
    const SENT: usize = 400;
    on(2, || {
        let (socket, address) = bound();
        let (socket, heard) = (Arc::new(socket), Arc::new(AtomicUsize::new(0)));
        let receivers: Vec<_> = (0..8)
            .map(|_| {
                let (socket, heard) = (socket.clone(), heard.clone());
                spawn(move || {
                    while socket.recv(&mut [0; 8]).is_ok() {
                        heard.fetch_add(1, SeqCst);
                    }
                })
            })
            .collect();
        let (sender, _) = bound();
        for sent in 1..=SENT {
            sender.send_to(b"one", address).unwrap();
            // Few are on their way at a time, so that none is dropped.
            while heard.load(SeqCst) + 50 < sent {
                yield_now();
            }
        }
        while heard.load(SeqCst) < SENT {
            yield_now();
        }
        for receiver in receivers {
            receiver.cancel();
            receiver.join().unwrap();
        }
        assert_eq!(heard.load(SeqCst), SENT);
    });
}

#[test]
fn receives_end_at_their_timeout_and_not_before() {
    let body = || {
        let (socket, _) = bound();
        let zero = socket.set_read_timeout(Some(Duration::ZERO)).unwrap_err();
        assert_eq!(zero.kind(), ErrorKind::InvalidInput);
        socket.set_read_timeout(Some(SHORT)).unwrap();
        let begun = Instant::now();
        let mut batch = RecvBatch::new(4, 16);
        for error in [
            socket.recv(&mut [0]).unwrap_err(),
            socket.peek_from(&mut [0]).unwrap_err(),
            socket.recv_batch(&mut batch).unwrap_err(),
        ] {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
        }
        assert!(begun.elapsed() >= 3 * SHORT, "never early");
    };
    on(1, body);
    body();
}

#[test]
fn cancelling_at_any_moment_neither_loses_nor_doubles_a_datagram() {
    for yields in 0..12 {
        on(1, move || {
            let (one, two) = pair();
            let token = CancelToken::new();
            let theirs = token.clone();
            let receiver = spawn(move || {
                let mut heard = Vec::new();
                let cut = theirs.run(|| {
                    loop {
                        let mut buffer = [0; 1];
                        match two.recv(&mut buffer) {
                            Ok(n) => heard.push((n, buffer[0])),
                            Err(error) => return error,
                        }
                    }
                });
                assert!(is_cancelled_error(&cut.unwrap()));
                while heard.len() < 5 {
                    let mut buffer = [0; 1];
                    heard.push((two.recv(&mut buffer).unwrap(), buffer[0]));
                }
                heard
            });
            let canceller = spawn(move || {
                (0..yields).for_each(|_| yield_now());
                token.cancel();
            });
            for byte in 0..5 {
                one.send(&[byte]).unwrap();
                yield_now();
            }
            canceller.join().unwrap();
            assert_eq!(
                receiver.join().unwrap(),
                [0, 1, 2, 3, 4].map(|byte| (1, byte))
            );
        });
    }
}

#[test]
fn a_batch_carries_many_datagrams_each_with_its_sender_and_says_which_lost_their_end() {
    on(1, || {
        let ((one, first), (two, second)) = (bound(), bound());
        let (third, third_address) = bound();
        let texts: Vec<_> = (0..20).map(|at| format!("datagram {at}")).collect();
        let mut datagrams: Vec<_> = texts.iter().map(|text| (text.as_str(), second)).collect();
        datagrams.push(("far too long for the room that there is", second));
        datagrams.push(("elsewhere", third_address));
        assert_eq!(one.send_batch(&datagrams).unwrap(), 22);
        assert_eq!(one.send_batch::<&str>(&[]).unwrap(), 0);
        assert_eq!(third.recv_from(&mut [0; 16]).unwrap(), (9, first));
        let (mut batch, mut at) = (RecvBatch::new(8, 16), 0);
        while at < 21 {
            let received = two.recv_batch(&mut batch).unwrap();
            assert_eq!((received, batch.is_empty()), (batch.len(), false));
            for datagram in batch.iter() {
                assert_eq!(datagram.from, first);
                assert_eq!(datagram.truncated, at == 20);
                let text = datagrams[at].0.as_bytes();
                assert_eq!(datagram.bytes, &text[..text.len().min(16)]);
                at += 1;
            }
        }
        assert_eq!(at, 21);
    });
}

#[test]
fn a_batch_that_waits_is_served_by_the_first_datagram_or_cut() {
    on(1, || {
        let (one, two) = pair();
        let two = Arc::new(two);
        let wait = |socket: Arc<UdpSocket>| {
            spawn(move || {
                let mut batch = RecvBatch::new(8, 16);
                socket.recv_batch(&mut batch).map(|n| (n, batch.len()))
            })
        };
        let waiting = wait(two.clone());
        yield_now();
        one.send(b"first").unwrap();
        assert_eq!(waiting.join().unwrap().unwrap(), (1, 1));
        let waiting = wait(two);
        yield_now();
        waiting.cancel();
        assert!(is_cancelled_error(&waiting.join().unwrap().unwrap_err()));
    });
}

#[test]
fn options_clones_and_conversions_are_those_of_the_same_socket() {
    on(1, || {
        let (one, two) = pair();
        one.set_ttl(42).unwrap();
        one.set_broadcast(true).unwrap();
        one.set_multicast_loop_v4(true).unwrap();
        let clone = one.try_clone().unwrap();
        assert_eq!(
            (clone.ttl().unwrap(), clone.broadcast().unwrap()),
            (42, true)
        );
        assert_eq!(clone.read_timeout(), None);
        assert_eq!(one.read_timeout(), Some(LONG));
        assert!(one.take_error().unwrap().is_none());
        let std = std::net::UdpSocket::try_from(clone).unwrap();
        std.send(b"from std").unwrap();
        let ours = UdpSocket::try_from(std).unwrap();
        assert_eq!(two.recv(&mut [0; 16]).unwrap(), 8);
        two.send(b"back").unwrap();
        assert_eq!(ours.recv(&mut [0; 16]).unwrap(), 4);
        let unbound = ours.leave_multicast_v4(&Ipv4Addr::new(224, 0, 0, 251), &Ipv4Addr::LOCALHOST);
        assert!(unbound.is_err(), "it is no member");
        let error = UdpSocket::bind(two.local_addr().unwrap()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::AddrInUse);
        assert!(error.to_string().starts_with("bind 127.0.0.1:"), "{error}");
    });
}
