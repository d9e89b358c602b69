//! Files that the kernel sends by itself.

use std::{
    fs::File,
    io::{ErrorKind, Read, Write},
    os::unix::fs::FileExt,
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use maniple::{
    net::{TcpStream, UnixStream},
    spawn,
};

use super::pair;
use crate::{SHORT, on, plain_thread};

/// A file that is already removed, with numbers in it, a byte each.
fn numbers(length: usize) -> File {
    static NEXT: AtomicUsize = AtomicUsize::new(0);
    let name = format!(
        "maniple-sent-{}-{}",
        std::process::id(),
        NEXT.fetch_add(1, Relaxed)
    );
    let path = std::env::temp_dir().join(name);
    let mut file = File::options()
        .read(true)
        .write(true)
        .create_new(true)
        .open(&path)
        .unwrap();
    std::fs::remove_file(&path).unwrap();
    file.write_all(&bytes(length)).unwrap();
    file
}

fn bytes(length: usize) -> Vec<u8> {
    (0..length).map(|at| (at % 251) as u8).collect()
}

/// Sends all from there on.
fn send(stream: &TcpStream, file: &File, mut at: u64) -> std::io::Result<u64> {
    loop {
        match stream.send_file(file, at, 1 << 20)? {
            0 => return Ok(at),
            sent => at += sent as u64,
        }
    }
}

/// More than the buffers of a connection hold, so that it waits for room.
const LARGE: usize = 24 << 20;

#[test]
fn a_file_is_sent_from_any_byte_to_its_end_while_the_peer_reads() {
    on(1, || {
        let (here, mut there) = pair();
        let sender = spawn(move || {
            let file = numbers(LARGE);
            send(&here, &file, 1000)
        });
        let mut all = Vec::new();
        there.read_to_end(&mut all).unwrap();
        assert!(all == bytes(LARGE)[1000..]);
        assert_eq!(sender.join().unwrap().unwrap(), LARGE as u64);
    });
}

#[test]
fn a_file_goes_over_a_unix_socket_and_off_a_plain_thread_too() {
    let file = numbers(100_000);
    let (here, mut there) = UnixStream::pair().unwrap();
    let reader = plain_thread(move || {
        let mut all = Vec::new();
        there.read_to_end(&mut all).unwrap();
        all
    });
    let mut at = 0;
    while let sent @ 1.. = here.send_file(&file, at, 65_536).unwrap() {
        at += sent as u64;
    }
    drop(here);
    assert!(reader.join().unwrap() == bytes(100_000));
}

#[test]
fn sending_a_file_to_who_takes_nothing_ends_with_the_write_timeout() {
    on(1, || {
        let (here, _there) = pair();
        here.set_write_timeout(Some(SHORT)).unwrap();
        let error = send(&here, &numbers(LARGE), 0).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::TimedOut);
    });
}

#[test]
fn a_file_that_becomes_shorter_ends_there_and_a_peer_that_is_gone_is_an_error() {
    on(1, || {
        let (here, there) = pair();
        let file = numbers(10);
        assert_eq!(here.send_file(&file, 4, 100).unwrap(), 6);
        assert_eq!(here.send_file(&file, 10, 100).unwrap(), 0);
        file.set_len(2).unwrap();
        assert_eq!(here.send_file(&file, 4, 100).unwrap(), 0);
        file.write_all_at(&bytes(1 << 20), 0).unwrap();
        drop(there);
        let error = loop {
            if let Err(error) = send(&here, &file, 0) {
                break error;
            }
        };
        let gone = [ErrorKind::BrokenPipe, ErrorKind::ConnectionReset];
        assert!(gone.contains(&error.kind()), "{error:?}");
    });
}
