//! Calls that are cut in the middle of their waits, each in both ways.

use std::{
    io::{self, Write},
    net::{TcpListener, TcpStream, ToSocketAddrs},
    os::{
        fd::{AsRawFd, FromRawFd, OwnedFd},
        unix::net::{UnixListener, UnixStream},
    },
    process::{Child, Command},
    sync::mpsc::{Receiver, channel},
};

use maniple::{cancel::CancelToken, spawn, timeout};

use crate::{WHILE, alone_with_children, on_one_worker, pair};

/// Has the call of each new subject cut while it waits, by a cancellation and by a deadline.
fn cut_midway<S>(mut new: impl FnMut() -> S, mut call: impl FnMut(&mut S) -> io::Result<()>) {
    let token = CancelToken::new();
    let theirs = token.clone();
    let mut subject = new();
    // It has its turn when the call suspends.
    let canceller = spawn(move || theirs.cancel());
    let error = token.run(|| call(&mut subject)).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ECANCELED));
    canceller.join().unwrap();

    let mut subject = new();
    let error = timeout(WHILE, || call(&mut subject)).unwrap().unwrap_err();
    assert_eq!(error.raw_os_error(), Some(libc::ETIMEDOUT));
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
}

fn told(found: i64) -> io::Result<()> {
    match found {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[test]
fn connecting_to_a_listener_without_room_is_cut() {
    on_one_worker(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let address = listener.local_addr().unwrap();
        // Those that it has room for.
        let mut room = Vec::new();
        let full = loop {
            match TcpStream::connect_timeout(&address, WHILE) {
                Ok(stream) => room.push(stream),
                Err(error) => break error,
            }
        };
        assert_eq!(full.kind(), io::ErrorKind::TimedOut);
        cut_midway(|| (), |()| TcpStream::connect(address).map(drop));
        // The listener is none the worse.
        for _ in room {
            listener.accept().unwrap();
        }
        TcpStream::connect(address).unwrap();
    });
}

/// A Unix-domain socket does not begin to connect then, and is asked for again.
#[test]
fn connecting_to_a_unix_listener_without_room_is_cut() {
    on_one_worker(|| {
        let name = format!("maniple-hook-full-{}", std::process::id());
        let path = std::env::temp_dir().join(name);
        let listener = UnixListener::bind(&path).unwrap();
        // SAFETY: takes numbers.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let _room = UnixStream::connect(&path).unwrap();
        cut_midway(|| (), |()| UnixStream::connect(&path).map(drop));
        listener.accept().unwrap();
        UnixStream::connect(&path).unwrap();
        std::fs::remove_file(path).unwrap();
    });
}

#[test]
fn a_blocked_send_is_cut() {
    on_one_worker(|| {
        let bytes = vec![7; 64 << 20];
        // One that has moved something says so, and the next call says why there was no more.
        cut_midway(pair, |(near, _)| near.write_all(&bytes));
        cut_midway(|| io::pipe().unwrap(), |(_, near)| near.write_all(&bytes));
    });
}

#[test]
fn select_and_a_wait_for_a_set_are_cut() {
    on_one_worker(|| {
        cut_midway(pair, |(near, _)| {
            let (fd, none) = (near.as_raw_fd(), std::ptr::null_mut());
            // SAFETY: a set of ours, and a descriptor below its size.
            told(i64::from(unsafe {
                let mut set: libc::fd_set = std::mem::zeroed();
                libc::FD_SET(fd, &raw mut set);
                libc::select(fd + 1, &raw mut set, none, none, std::ptr::null_mut())
            }))
        });
        let set = || {
            // SAFETY: takes numbers; a descriptor that is ours then.
            unsafe { OwnedFd::from_raw_fd(libc::epoll_create1(libc::EPOLL_CLOEXEC)) }
        };
        cut_midway(set, |set| {
            let mut found = libc::epoll_event { events: 0, u64: 0 };
            // SAFETY: room for one.
            let found = unsafe { libc::epoll_wait(set.as_raw_fd(), &raw mut found, 1, -1) };
            told(i64::from(found))
        });
    });
}

#[test]
fn a_wait_for_a_child_is_cut_and_the_child_is_there_still() {
    let _alone = alone_with_children();
    on_one_worker(|| {
        let mut children: Vec<Child> = Vec::new();
        let mut child = || {
            let child = Command::new("sleep").arg("60").spawn().unwrap();
            let id = child.id() as i32;
            children.push(child);
            id
        };
        cut_midway(&mut child, |of| {
            // SAFETY: no room for a status.
            told(i64::from(unsafe {
                libc::waitpid(*of, std::ptr::null_mut(), 0)
            }))
        });
        cut_midway(&mut child, |of| {
            let (kind, id) = (libc::P_PID, *of as u32);
            // SAFETY: no room for the answer.
            told(i64::from(unsafe {
                libc::waitid(kind, id, std::ptr::null_mut(), libc::WEXITED)
            }))
        });
        // Any child: there is no descriptor to wait for.
        cut_midway(&mut child, |_| {
            // SAFETY: no room for a status.
            told(i64::from(unsafe { libc::wait(std::ptr::null_mut()) }))
        });
        for mut child in children {
            child.kill().unwrap();
            assert!(!child.wait().unwrap().success());
        }
    });
}

#[test]
fn a_look_up_that_hangs_is_cut() {
    on_one_worker(|| {
        // All threads for names wait for one of these, and so does the look-up behind them.
        let hold = |over: Receiver<()>| spawn(move || maniple::hook::look_up(move || over.recv()));
        let (ends, held): (Vec<_>, Vec<_>) = (0..64)
            .map(|_| {
                let (end, over) = channel();
                (end, hold(over))
            })
            .unzip();
        // Each of them has its turn, and hands its job over.
        maniple::yield_now();
        cut_midway(|| (), |()| ("localhost", 80).to_socket_addrs().map(drop));
        drop(ends);
        for held in held {
            assert!(
                held.join().unwrap().unwrap().is_err(),
                "they were held until now"
            );
        }
        assert!(("localhost", 80).to_socket_addrs().is_ok());
    });
}
