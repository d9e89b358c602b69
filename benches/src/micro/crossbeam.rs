//! crossbeam-channel's rows, on the standard library's threads.

use std::{hint::black_box, time::Duration};

use crossbeam_channel::{Receiver, Sender, bounded, select, unbounded};

use super::{
    Measured, TIMEOUT,
    row::{BOUND, CROWD, Row, THREAD_COUNTS as COUNTS},
    threads::{join, spawn},
    time,
};

pub(super) fn run(row: Row) -> Measured {
    match row {
        Row::PingPong => ping_pong(1, None),
        Row::Rendezvous => ping_pong(0, None),
        Row::ChannelUnbounded => stream(unbounded(), 1),
        Row::ChannelMpmc => stream(bounded(BOUND), CROWD),
        Row::Select2 => select_of_two(),
        Row::Timer => ping_pong(1, Some(TIMEOUT)),
        _ => unreachable!("crossbeam-channel lacks {row:?}"),
    }
}

fn ping_pong(capacity: usize, timeout: Option<Duration>) -> Measured {
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

/// From so many threads to as many others.
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
        let counts = consumers.into_iter().map(|thread| thread.join());
        assert_eq!(counts.map(Result::unwrap).sum::<u64>(), COUNTS.streamed);
    })
}

fn select_of_two() -> Measured {
    let (to_first, first) = bounded(1);
    let (to_second, second) = bounded(1);
    // Until the end: a channel that is closed can be selected, too.
    let _open = (to_first.clone(), to_second.clone());
    time(COUNTS.messages, || {
        let producer = spawn(move || {
            for message in 0..COUNTS.messages / 2 {
                to_first.send(message).expect("the consumer listens");
                to_second.send(message).expect("the consumer listens");
            }
        });
        let consumer = spawn(move || {
            for _ in 0..COUNTS.messages {
                let message = select! {
                    recv(first) -> message => message,
                    recv(second) -> message => message,
                };
                black_box(message.expect("a message"));
            }
        });
        join([producer, consumer]);
    })
}
