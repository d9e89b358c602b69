//! Waits for a socket: timeouts, cancellation, tries that do not wait, and either direction.

use std::{
    io::{ErrorKind, Read, Write},
    os::fd::AsFd,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::{Duration, Instant},
};

use maniple::{
    cancel::is_cancelled_error,
    net::{self, Shutdown, TcpStream},
    spawn, yield_now,
};

use super::{fill, pair};
use crate::{LONG, SHORT, on};

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
fn a_coroutine_that_fails_over_and_over_keeps_no_other_from_running() {
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
fn a_connection_that_was_read_empty_is_known_to_be_quiet_until_something_comes() {
    on(1, || {
        let (mut near, mut far) = pair();
        let reading = spawn(move || {
            let mut buffer = [0; 64];
            // Waited for, so that the worker watches it from here on.
            let count = near.read(&mut buffer).unwrap();
            (near, buffer[..count].to_vec())
        });
        yield_now();
        far.write_all(b"ab").unwrap();
        let (near, read) = reading.join().unwrap();
        assert_eq!(read, b"ab");
        assert!(!near.may_be_readable());
        drop(far);
        let over = Instant::now() + Duration::from_secs(30);
        while !near.may_be_readable() {
            assert!(Instant::now() < over, "the end is not heard of");
            maniple::sleep(Duration::from_millis(1));
        }
    });
}
