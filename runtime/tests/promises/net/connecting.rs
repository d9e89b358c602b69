//! Connecting: to one address, to several, and to names that are looked up.

use std::{
    io::{ErrorKind, Read, Write},
    net::SocketAddr,
    os::{fd::OwnedFd, unix::thread::JoinHandleExt},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::{is_cancelled_error, shield_for},
    net::{self, TcpListener, TcpStream, ToSocketAddrs},
    spawn, yield_now,
};

use crate::{LONG, SHORT, on, plain_thread};

#[test]
fn a_connection_to_nobody_is_refused() {
    on(1, || {
        let (_kept, address) = refusing();
        for error in [
            TcpStream::connect(address),
            TcpStream::connect_timeout(&address, LONG),
        ] {
            assert_eq!(error.unwrap_err().kind(), ErrorKind::ConnectionRefused);
        }
    });
}

#[test]
fn a_name_that_nobody_has_is_an_error() {
    on(1, || {
        assert!(TcpStream::connect("no.such.host.invalid:1").is_err());
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
    plain_thread(body).join().unwrap();
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
    let connecting = plain_thread(move || TcpStream::connect_timeout(&silent, 4 * SHORT));
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
