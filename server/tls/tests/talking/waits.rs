//! Waits are cut short as those of sockets are, and nothing is lost by it.

use std::{
    io::{ErrorKind, Read, Write},
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, is_cancelled_error},
    time::{Elapsed, coarse_now},
};

use super::{acquainted, configs, in_a_runtime};

const MOMENT: Duration = Duration::from_millis(5);

#[test]
fn waits_are_cut_by_timeouts_deadlines_and_cancellation_as_those_for_sockets() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        let timed_out = |error: std::io::Error| {
            assert_eq!(error.kind(), ErrorKind::TimedOut);
            assert!(error.get_ref().is_some_and(|inner| inner.is::<Elapsed>()));
        };
        server.set_read_timeout(Some(MOMENT)).unwrap();
        timed_out((&server).read(&mut [0]).unwrap_err());
        timed_out(server.peek(&mut [0]).unwrap_err());
        timed_out(server.wait_readable().unwrap_err());
        server.set_read_timeout(None).unwrap();
        timed_out(
            server
                .wait_readable_until(coarse_now() + MOMENT)
                .unwrap_err(),
        );
        let read = maniple::timeout(MOMENT, || (&server).read(&mut [0]).unwrap_err());
        read.map(timed_out).unwrap();
        assert_eq!(
            server
                .set_read_timeout(Some(Duration::ZERO))
                .unwrap_err()
                .kind(),
            ErrorKind::InvalidInput
        );
        let token = CancelToken::new();
        let cancelled = token.clone();
        maniple::join!(
            {
                let read = token.run(|| (&server).read(&mut [0]).unwrap_err());
                assert!(is_cancelled_error(&read.unwrap()));
            },
            {
                maniple::yield_now();
                cancelled.cancel();
            }
        );
        // Nothing of it matters to the connection.
        (&client).write_all(b"x").unwrap();
        (&server).read_exact(&mut [0]).unwrap();
    });
}

#[test]
fn what_a_write_that_was_cut_short_has_left_behind_is_sent_by_the_next() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        server.set_write_timeout(Some(MOMENT)).unwrap();
        let piece: Vec<u8> = (0..30_000u32).map(|n| (n % 251) as u8).collect();
        let mut taken = Vec::new();
        // Until the client's room is gone, and the write that found none returns with what it had encrypted.
        let error = loop {
            match (&server).write(&piece) {
                Ok(count) => taken.extend_from_slice(&piece[..count]),
                Err(error) => break error,
            }
        };
        assert_eq!(error.kind(), ErrorKind::TimedOut);
        assert!(server.unsent() > 0);
        // The kernel moves bytes to the other side meanwhile, so that there may be room once more.
        let flushed = loop {
            match server.try_write(&piece) {
                Ok(count) => taken.extend_from_slice(&piece[..count]),
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::WouldBlock);
                    if let Err(error) = (&server).flush() {
                        break error;
                    }
                }
            }
        };
        assert_eq!(flushed.kind(), ErrorKind::TimedOut);
        server.set_write_timeout(None).unwrap();
        let (flushed, heard) = maniple::join!(
            {
                (&server).write_all(b"end").unwrap();
                (&server).flush()
            },
            {
                let mut heard = vec![0; taken.len() + 3];
                (&client).read_exact(&mut heard).map(|()| heard)
            }
        );
        flushed.unwrap();
        taken.extend_from_slice(b"end");
        assert!(heard.unwrap() == taken);
        assert_eq!(server.unsent(), 0);
    });
}

#[test]
fn a_reader_that_is_given_up_leaves_what_comes_to_the_next() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        for turn in 0..50u8 {
            let cut = maniple::timeout(Duration::from_micros(50), || (&server).read(&mut [0; 2]));
            let heard = match cut.unwrap() {
                Err(error) => {
                    assert_eq!(error.kind(), ErrorKind::TimedOut);
                    (&client).write_all(&[turn]).unwrap();
                    let mut byte = [0];
                    (&server).read_exact(&mut byte).unwrap();
                    byte[0]
                }
                Ok(count) => panic!("{count} bytes from nobody"),
            };
            assert_eq!(heard, turn);
        }
    });
}

#[test]
fn several_readers_and_writers_share_one_stream() {
    in_a_runtime(|| {
        let (client, server) = acquainted(&configs());
        let write = |byte: u8| {
            for _ in 0..200 {
                // Each of one record, and so whole.
                assert_eq!((&client).write(&[byte; 1000]).unwrap(), 1000);
                maniple::yield_now();
            }
        };
        let read = || {
            let mut sum = 0;
            let mut buffer = [0; 777];
            loop {
                match (&server).read(&mut buffer).unwrap() {
                    0 => return sum,
                    count => sum += count,
                }
            }
        };
        let (one, other, third, ()) = maniple::join!(read(), read(), read(), {
            maniple::join!(write(1), write(2), write(3));
            client.shutdown(maniple::net::Shutdown::Write).unwrap();
        });
        assert_eq!(one + other + third, 600_000);
    });
}
