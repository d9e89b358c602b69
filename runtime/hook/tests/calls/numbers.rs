//! One number, and whatever stands behind it; one descriptor, and several who use it.

use std::{
    io::{self, Read, Write},
    os::{
        fd::{AsFd, AsRawFd, OwnedFd},
        unix::net::UnixStream,
    },
    time::Duration,
};

use maniple::spawn;

use crate::{WHILE, on_one_worker, pair, sleep};

#[test]
fn a_number_that_is_closed_and_used_again_is_waited_for_anew() {
    on_one_worker(|| {
        let mut numbers = Vec::new();
        for round in 0..50_u8 {
            // Of another kind each time, and under the same number.
            let (mut near, mut far): (OwnedFd, OwnedFd) = match round % 3 {
                0 => {
                    let (near, far) = pair();
                    (near.into(), far.into())
                }
                1 => {
                    let (near, far) = UnixStream::pair().unwrap();
                    (near.into(), far.into())
                }
                _ => {
                    let (near, far) = io::pipe().unwrap();
                    (near.into(), far.into())
                }
            };
            numbers.push(near.as_raw_fd());
            // What was watched under another number stays open, and says things, after this one is closed.
            let other = near.try_clone().unwrap();
            let writer = spawn(move || {
                maniple::yield_now();
                std::fs::File::from(far.try_clone().unwrap())
                    .write_all(&[round])
                    .unwrap();
                far
            });
            let mut got = [0];
            std::fs::File::from(near).read_exact(&mut got).unwrap();
            assert_eq!(got, [round]);
            far = writer.join().unwrap();
            near = other;
            drop((near, far));
        }
        numbers.sort_unstable();
        numbers.dedup();
        assert!(numbers.len() < 50, "numbers were used again: {numbers:?}");
    });
}

#[test]
fn what_comes_for_the_file_that_had_a_number_before_is_not_the_next_ones() {
    on_one_worker(|| {
        let (near, mut far) = UnixStream::pair().unwrap();
        let number = near.as_raw_fd();
        let poll = |timeout| {
            let mut of = libc::pollfd {
                fd: number,
                events: libc::POLLIN,
                revents: 0,
            };
            // SAFETY: one entry, of ours.
            (unsafe { libc::poll(&raw mut of, 1, timeout) }, of.revents)
        };
        assert_eq!(poll(5), (0, 0), "watched from here on");
        // That file stays open, watched under a number that is another's now.
        let _before = near.try_clone().unwrap();
        let (other, mut other_far) = UnixStream::pair().unwrap();
        // SAFETY: takes numbers of ours.
        assert_eq!(unsafe { libc::dup2(other.as_raw_fd(), number) }, number);
        let writer = spawn(move || {
            far.write_all(b"x").unwrap();
            sleep(WHILE);
            other_far.write_all(b"y").unwrap();
            (far, other_far)
        });
        assert_eq!(poll(-1), (1, libc::POLLIN));
        let mut got = [0_u8];
        let at_once = libc::MSG_DONTWAIT;
        // SAFETY: the buffer's own.
        let n = unsafe { libc::recv(number, got.as_mut_ptr().cast(), 1, at_once) };
        assert_eq!((n, &got), (1, b"y"));
        writer.join().unwrap();
    });
}

#[test]
fn a_socket_goes_from_std_to_maniple_and_back_between_waits() {
    on_one_worker(|| {
        let (mut near, mut far) = pair();
        let mut writes = 0_u8;
        for _ in 0..3 {
            let mut write = || {
                let mut far = far.try_clone().unwrap();
                writes += 1;
                let byte = writes;
                spawn(move || far.write_all(&[byte]).unwrap());
                byte
            };
            let (mut got, byte) = ([0], write());
            near.read_exact(&mut got).unwrap();
            assert_eq!(got, [byte]);
            let mut ours = maniple::net::TcpStream::try_from(near).unwrap();
            let byte = write();
            ours.read_exact(&mut got).unwrap();
            assert_eq!(got, [byte]);
            near = ours.try_into().unwrap();
        }
        far.write_all(b"x").unwrap();
        near.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn a_socket_of_maniples_may_be_polled_by_others_while_it_is_waited_for() {
    on_one_worker(|| {
        let listener = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let mut near = maniple::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
        let (mut far, _) = listener.accept().unwrap();
        // It is registered by its first wait.
        let writer = spawn(move || {
            far.write_all(b"x").unwrap();
            sleep(WHILE);
            far.write_all(b"y").unwrap();
            far
        });
        near.read_exact(&mut [0]).unwrap();
        let mut of = libc::pollfd {
            fd: near.as_fd().as_raw_fd(),
            events: libc::POLLIN,
            revents: 0,
        };
        // SAFETY: one entry, of ours.
        assert_eq!(unsafe { libc::poll(&raw mut of, 1, -1) }, 1);
        near.read_exact(&mut [0]).unwrap();
        let mut far = writer.join().unwrap();
        spawn(move || far.write_all(b"z").unwrap());
        near.read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn one_waits_to_read_and_another_to_write_the_same_descriptor() {
    on_one_worker(|| {
        let (near, far) = pair();
        let mut writing = near.try_clone().unwrap();
        // The same number for both.
        let number = near.as_raw_fd();
        let reader = spawn(move || {
            let mut got = [0_u8; 5];
            // SAFETY: the buffer's own.
            let n = unsafe { libc::recv(number, got.as_mut_ptr().cast(), 5, libc::MSG_WAITALL) };
            assert_eq!((n, &got), (5, b"reply"));
            near
        });
        let writer = spawn(move || writing.write_all(&vec![1; 4 << 20]).unwrap());
        let mut far = far;
        maniple::sleep(Duration::from_millis(5));
        far.write_all(b"re").unwrap();
        let mut got = vec![0; 4 << 20];
        far.read_exact(&mut got).unwrap();
        far.write_all(b"ply").unwrap();
        writer.join().unwrap();
        reader.join().unwrap();
    });
}
