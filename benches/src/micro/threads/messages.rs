//! Channels and sockets of the standard library.

use std::{
    hint::black_box,
    io::{Read, Write},
    os::unix::net::UnixStream,
    sync::mpsc::{channel, sync_channel},
    time::Duration,
};

use super::{
    super::{
        Clock, Measured,
        row::{CHUNK, THREAD_COUNTS as COUNTS},
        time,
    },
    spawn,
};

pub(super) fn ping_pong(capacity: usize, timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = sync_channel(capacity);
    let (pong, ponged) = sync_channel(capacity);
    let echo = spawn(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    let player = spawn(move || {
        time(COUNTS.messages, || {
            for message in 0..COUNTS.messages / 2 {
                ping.send(message).expect("the echo listens");
                let answer = match timeout {
                    None => ponged.recv().ok(),
                    Some(timeout) => ponged.recv_timeout(timeout).ok(),
                };
                assert_eq!(black_box(answer), Some(message));
            }
        })
    });
    let measured = player.join().expect("joined");
    echo.join().expect("joined");
    measured
}

pub(super) fn unbounded_stream() -> Measured {
    let (sender, receiver) = channel();
    time(COUNTS.streamed, || {
        let consumer = spawn(move || receiver.iter().map(black_box).count() as u64);
        let producer = spawn(move || {
            for message in 0..COUNTS.streamed {
                sender.send(message).expect("someone listens");
            }
        });
        producer.join().expect("joined");
        assert_eq!(consumer.join().expect("joined"), COUNTS.streamed);
    })
}

pub(super) fn socket_pair() -> Measured {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let echo = spawn(move || {
        let mut message = [0; 8];
        while far.read_exact(&mut message).is_ok() {
            far.write_all(&message).expect("the player listens");
        }
    });
    let player = spawn(move || {
        time(COUNTS.socket_messages, || {
            for number in 0..COUNTS.socket_messages / 2 {
                let mut message = number.to_ne_bytes();
                near.write_all(&message).expect("the echo listens");
                near.read_exact(&mut message).expect("an answer");
                assert_eq!(u64::from_ne_bytes(message), number);
            }
        })
    });
    let measured = player.join().expect("joined");
    echo.join().expect("joined");
    measured
}

/// One way; the last byte has come when it ends.
pub(super) fn unix_chunks() -> Measured {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let receiver = spawn(move || {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..COUNTS.chunks {
            far.read_exact(&mut chunk).expect("all of it comes");
            black_box(&chunk);
        }
    });
    let sender = spawn(move || {
        let chunk = vec![1; CHUNK];
        let clock = Clock::start();
        for _ in 0..COUNTS.chunks {
            near.write_all(black_box(&chunk)).expect("someone reads");
        }
        receiver.join().expect("joined");
        clock.per(COUNTS.chunks)
    });
    sender.join().expect("joined")
}
