//! maniple's channels and sockets.

use std::{
    hint::black_box,
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    net::UnixStream,
    spawn,
    sync::channel::{Receiver, Sender, bounded, unbounded},
};

use super::{
    super::{
        Measured,
        row::{BOUND, COUNTS, CROWD},
        time,
    },
    join,
};

pub(super) fn ping_pong(capacity: usize, timeout: Option<Duration>) -> Measured {
    let (ping, pinged) = bounded(capacity);
    let (pong, ponged) = bounded(capacity);
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
    stream(unbounded(), 1)
}

pub(super) fn crowd() -> Measured {
    stream(bounded(BOUND), CROWD)
}

/// From so many tasks to as many others.
fn stream((sender, receiver): (Sender<u64>, Receiver<u64>), side: u64) -> Measured {
    time(COUNTS.streamed, || {
        let consumers: Vec<_> = (0..side)
            .map(|_| {
                let receiver = receiver.clone();
                spawn(move || receiver.iter().map(black_box).count() as u64)
            })
            .collect();
        let producers: Vec<_> = (0..side)
            .map(|_| {
                let sender = sender.clone();
                spawn(move || {
                    for message in 0..COUNTS.streamed / side {
                        sender.send(message).expect("someone listens");
                    }
                })
            })
            .collect();
        drop(sender);
        join(producers);
        let counts = consumers.into_iter().map(|task| task.join());
        assert_eq!(counts.map(Result::unwrap).sum::<u64>(), COUNTS.streamed);
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
