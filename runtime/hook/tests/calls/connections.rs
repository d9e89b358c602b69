//! Connecting and accepting.

use std::{
    io::{self, Read, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    os::{
        fd::AsRawFd,
        unix::net::{UnixListener, UnixStream},
    },
    time::Duration,
};

use maniple::{Runtime, spawn};

use crate::{LONG, on_one_worker};

#[test]
fn connecting_waits_and_has_its_error() {
    on_one_worker(|| {
        // No port that anybody is given who asks for any.
        let refused = SocketAddr::from(([127, 0, 0, 1], 1));
        let error = TcpStream::connect(refused).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        let error = TcpStream::connect_timeout(&refused, LONG).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
        // A Unix-domain listener has room for so many, and says no by no event.
        let folder = std::env::temp_dir().join(format!("maniple-hook-{}", std::process::id()));
        let listener = UnixListener::bind(&folder).unwrap();
        let clients: Vec<_> = (0..300)
            .map(|_| {
                let folder = folder.clone();
                spawn(move || UnixStream::connect(folder).unwrap())
            })
            .collect();
        let accepted: Vec<_> = (0..300).map(|_| listener.accept().unwrap()).collect();
        std::fs::remove_file(folder).unwrap();
        for client in clients {
            client.join().unwrap();
        }
        drop(accepted);
    });
}

#[test]
fn two_readers_of_a_pipe_and_two_acceptors_take_turns() {
    on_one_worker(|| {
        let (reader, mut writer) = io::pipe().unwrap();
        let readers: Vec<_> = (0..4)
            .map(|_| {
                let mut reader = reader.try_clone().unwrap();
                spawn(move || reader.read(&mut [0; 1]).unwrap())
            })
            .collect();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let acceptors: Vec<_> = (0..4)
            .map(|_| {
                let listener = listener.try_clone().unwrap();
                spawn(move || listener.accept().map(drop).unwrap())
            })
            .collect();
        maniple::yield_now();
        for _ in 0..4 {
            writer.write_all(b"x").unwrap();
            TcpStream::connect(address).unwrap();
            maniple::sleep(Duration::from_millis(2));
        }
        for reader in readers {
            assert_eq!(reader.join().unwrap(), 1);
        }
        for acceptor in acceptors {
            acceptor.join().unwrap();
        }
        // Its flags are as they were.
        // SAFETY: takes a number.
        let flags = unsafe { libc::fcntl(listener.as_raw_fd(), libc::F_GETFL) };
        assert_eq!(flags & libc::O_NONBLOCK, 0);
    });
}

#[test]
fn acceptors_on_threads_and_in_coroutines_share_a_listener() {
    maniple_hook::install!();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    const EACH: usize = 100;
    // More than the others take away, so that each ends.
    let accept = |listener: TcpListener| {
        for _ in 0..EACH {
            listener.accept().unwrap();
        }
    };
    let thread = std::thread::spawn({
        let listener = listener.try_clone().unwrap();
        move || accept(listener)
    });
    let runtime = Runtime::builder().workers(2).build().unwrap();
    runtime.run(|| {
        let acceptors: Vec<_> = (0..3)
            .map(|_| {
                let listener = listener.try_clone().unwrap();
                spawn(move || accept(listener))
            })
            .collect();
        for _ in 0..4 * EACH {
            TcpStream::connect(address).unwrap();
        }
        for acceptor in acceptors {
            acceptor.join().unwrap();
        }
        thread.join().unwrap();
    });
}
