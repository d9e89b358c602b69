//! What ends a call early, and what is left of its connection then.

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream, UdpSocket},
    os::{fd::AsRawFd, unix::net::UnixStream},
    time::Instant,
};

use maniple::{cancel::CancelToken, spawn, timeout};

use crate::{LONG, WHILE, on_one_worker, pair, poll, sleep};

#[test]
fn a_sockets_own_timeout_ends_the_call_and_leaves_the_connection() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        near.set_read_timeout(Some(WHILE)).unwrap();
        let began = Instant::now();
        let error = near.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(began.elapsed() >= WHILE);
        far.write_all(b"x").unwrap();
        near.read_exact(&mut [0; 1]).unwrap();
    });
}

#[test]
fn a_sockets_own_timeout_ends_a_blocked_send_and_leaves_the_connection() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        near.set_write_timeout(Some(WHILE)).unwrap();
        let began = Instant::now();
        let (sent, error) = fill(&mut near);
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        assert!(began.elapsed() >= WHILE);
        far.read_exact(&mut vec![0; sent]).unwrap();
        near.write_all(b"x").unwrap();
        far.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn of_a_sockets_own_timeout_and_a_deadline_the_shorter_one_ends_the_call() {
    on_one_worker(|| {
        let read = |of: &mut TcpStream| of.read(&mut [0]).unwrap_err();
        let write = |of: &mut TcpStream| fill(of).1;
        for call in [read, write] {
            let set = |of: &TcpStream, time| {
                of.set_read_timeout(Some(time)).unwrap();
                of.set_write_timeout(Some(time)).unwrap();
            };
            let (mut near, mut far) = pair();
            set(&near, WHILE);
            let error = timeout(LONG, || call(&mut near)).unwrap();
            assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
            // The connection is as it was.
            far.write_all(b"x").unwrap();
            near.read_exact(&mut [0]).unwrap();

            let (mut near, mut far) = pair();
            set(&near, LONG);
            let error = timeout(WHILE, || call(&mut near)).unwrap();
            assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
            // And this one is not.
            _ = far.write_all(b"late");
            assert!(matches!(near.read(&mut [0; 4]), Ok(0) | Err(_)));
        }
    });
}

/// Sends until a send fails: how much it was, since one says first what it had room for, and how it failed.
fn fill(to: &mut impl Write) -> (usize, io::Error) {
    let bytes = vec![7; 64 << 20];
    let mut sent = 0;
    loop {
        match to.write(&bytes) {
            Ok(more) => sent += more,
            Err(error) => return (sent, error),
        }
    }
}

#[test]
fn a_descriptor_that_its_owner_made_non_blocking_does_not_wait() {
    on_one_worker(|| {
        let (mut near, _far) = pair();
        near.set_nonblocking(true).unwrap();
        let error = near.read(&mut [0; 1]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        assert_eq!(
            listener.accept().unwrap_err().kind(),
            io::ErrorKind::WouldBlock
        );
    });
}

#[test]
fn a_deadline_ends_a_call_with_an_error_and_shuts_the_connection_down() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        let error = timeout(WHILE, || near.read(&mut [0; 1]))
            .unwrap()
            .unwrap_err();
        assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
        // What comes too late reaches nobody.
        _ = far.write_all(b"late");
        assert!(matches!(near.read(&mut [0; 4]), Ok(0) | Err(_)));
        assert!(near.write_all(b"next").is_err());
    });
}

#[test]
fn a_cancellation_ends_calls_of_every_kind_with_its_error() {
    on_one_worker(|| {
        let (mut near, _far) = pair();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let (mut reader, _writer) = io::pipe().unwrap();
        let calls: [Box<dyn FnMut() -> io::Result<()> + '_>; 5] = [
            Box::new(move || near.read(&mut [0; 1]).map(drop)),
            Box::new(|| listener.accept().map(drop)),
            Box::new(|| udp.recv_from(&mut [0; 1]).map(drop)),
            Box::new(move || reader.read(&mut [0; 1]).map(drop)),
            Box::new(|| poll(&udp, libc::POLLIN).map(drop)),
        ];
        for mut call in calls {
            let token = CancelToken::new();
            let theirs = token.clone();
            spawn(move || theirs.cancel());
            for _ in 0..2 {
                let error = token.run(&mut call).unwrap().unwrap_err();
                assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
            }
        }
        // A listener, and a socket for datagrams, are used again.
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1, peer.local_addr().unwrap());
        udp.send_to(b"x", udp.local_addr().unwrap()).unwrap();
        assert_eq!(udp.recv(&mut [0; 4]).unwrap(), 1);
    });
}

#[test]
fn an_answer_that_came_for_a_call_that_was_cut_is_nobodys() {
    on_one_worker(|| {
        let cut = |call: &mut dyn FnMut() -> io::Result<usize>| {
            let token = CancelToken::new();
            token.cancel();
            let error = token.run(call).unwrap().unwrap_err();
            assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
        };
        let (mut near, mut far) = pair();
        far.write_all(b"late").unwrap();
        assert_eq!(near.peek(&mut [0; 9]).unwrap(), 4);
        cut(&mut || near.read(&mut [0; 9]));
        assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0);

        let (mut near, mut far) = UnixStream::pair().unwrap();
        far.write_all(b"late").unwrap();
        cut(&mut || near.read(&mut [0; 9]));
        assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0);

        // Who polls a connection reads by it.
        for events in [libc::POLLIN, libc::POLLIN | libc::POLLOUT] {
            let (mut near, mut far) = pair();
            cut(&mut || poll(&near, events));
            _ = far.write_all(b"late");
            assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0);
        }
        // And who polls a listener accepts by it.
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        cut(&mut || poll(&listener, libc::POLLIN));
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1, peer.local_addr().unwrap());
    });
}

#[test]
fn nothing_is_cut_that_is_shielded() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        let token = CancelToken::new();
        token.cancel();
        spawn(move || {
            sleep(WHILE);
            far.write_all(b"x").unwrap();
        });
        let read = token.run(|| maniple::cancel::shield(|| near.read(&mut [0; 1])));
        assert_eq!(read.unwrap().unwrap(), 1);
    });
}

/// libcurl and others poll their connections, and an end of a pair by which they are woken.
#[test]
fn of_several_connections_that_one_call_polls_none_is_used_again_once_it_was_cut() {
    on_one_worker(|| {
        let pairs = [pair(), pair()];
        let (own, mut waker) = UnixStream::pair().unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let polled = |fd: i32| libc::pollfd {
            fd,
            events: libc::POLLIN,
            revents: 0,
        };
        let mut all = [
            pairs[0].0.as_raw_fd(),
            own.as_raw_fd(),
            listener.as_raw_fd(),
            pairs[1].0.as_raw_fd(),
        ]
        .map(polled);
        // SAFETY: so many entries, of ours.
        let mut call = || unsafe { libc::poll(all.as_mut_ptr(), 4, -1) };
        let (found, error) = timeout(WHILE, || (call(), io::Error::last_os_error())).unwrap();
        assert_eq!((found, error.raw_os_error()), (-1, Some(libc::ETIMEDOUT)));
        for (mut near, mut far) in pairs {
            _ = far.write_all(b"late");
            assert_eq!(near.read(&mut [0; 9]).unwrap_or(0), 0);
        }
        // What is no connection to somebody goes on.
        waker.write_all(b"x").unwrap();
        (&own).read_exact(&mut [0]).unwrap();
        let peer = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        assert_eq!(listener.accept().unwrap().1, peer.local_addr().unwrap());
    });
}
