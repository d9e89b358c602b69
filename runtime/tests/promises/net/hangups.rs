//! Ends of connections, told apart from what else happens on them.

use std::{
    io::{ErrorKind, Write},
    time::Instant,
};

use maniple::net::{self, Shutdown};

use super::pair;
use crate::{LONG, SHORT, on};

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
