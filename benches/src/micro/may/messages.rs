//! may's channels and sockets. The channels have no bound, so ping-pong uses those.

use std::{
    hint::black_box,
    io::{Read, Write},
    time::Duration,
};

use may::{cqueue, cqueue_add, go, os::unix::net::UnixStream, sync::mpsc::channel};

use super::super::{
    Clock, Measured,
    row::{CHUNK, COUNTS},
    time,
};

pub(super) fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = channel();
    let (pong, ponged) = channel();
    let echo = go!(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    let player = go!(move || {
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
        let consumer = go!(move || receiver.iter().map(black_box).count() as u64);
        let producer = go!(move || {
            for message in 0..COUNTS.streamed {
                sender.send(message).expect("someone listens");
            }
        });
        producer.join().expect("joined");
        assert_eq!(consumer.join().expect("joined"), COUNTS.streamed);
    })
}

/// With the queue of events that its `select!` is made of, and which need not begin anew for each message.
pub(super) fn select_of_two() -> Measured {
    let (to_first, first) = channel();
    let (to_second, second) = channel();
    // Until the end: a channel that is closed makes events, too.
    let _open = (to_first.clone(), to_second.clone());
    time(COUNTS.messages, || {
        let producer = go!(move || {
            for message in 0..COUNTS.messages / 2 {
                to_first.send(message).expect("the consumer listens");
                to_second.send(message).expect("the consumer listens");
            }
        });
        cqueue::scope(|cqueue| {
            cqueue_add!(cqueue, 0, message = first.recv() => {
                black_box(message.ok());
            });
            cqueue_add!(cqueue, 1, message = second.recv() => {
                black_box(message.ok());
            });
            for _ in 0..COUNTS.messages {
                cqueue.poll(None).expect("an event");
            }
        });
        producer.join().expect("joined");
    })
}

pub(super) fn socket_pair() -> Measured {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let echo = go!(move || {
        let mut message = [0; 8];
        while far.read_exact(&mut message).is_ok() {
            far.write_all(&message).expect("the player listens");
        }
    });
    let player = go!(move || {
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
    let receiver = go!(move || {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..COUNTS.chunks {
            far.read_exact(&mut chunk).expect("all of it comes");
            black_box(&chunk);
        }
    });
    let sender = go!(move || {
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
