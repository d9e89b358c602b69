//! maniple's channels and sockets.

use std::{
    hint::black_box,
    io::{Read, Write},
    time::Duration,
};

use maniple::{
    net::UnixStream,
    select, spawn,
    sync::{
        broadcast::{self, Lag},
        channel::{Receiver, Sender, bounded, unbounded},
        oneshot, watch,
    },
};

use super::{
    super::{
        Clock, Measured,
        row::{BOUND, BURST, CHUNK, COUNTS, CROWD, LISTENERS},
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

pub(super) fn select_of_two() -> Measured {
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

pub(super) fn oneshots() -> Measured {
    time(COUNTS.messages, || {
        for message in 0..COUNTS.messages {
            let (sender, receiver) = oneshot::channel();
            sender.send(message).expect("somebody listens");
            assert_eq!(black_box(receiver).recv(), Ok(message));
        }
    })
}

pub(super) fn broadcasts() -> Measured {
    let (sender, receiver) = broadcast::channel(BURST as usize, Lag::DropOldest);
    let (done, all_done) = bounded(LISTENERS as usize);
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let (mut receiver, done) = (receiver.resubscribe(), done.clone());
            spawn(move || {
                for message in 0..COUNTS.broadcasts {
                    assert_eq!(receiver.recv(), Ok(message));
                    if (message + 1) % BURST == 0 {
                        done.send(()).expect("the sender listens");
                    }
                }
            })
        })
        .collect();
    drop(receiver);
    time(COUNTS.broadcasts, || {
        for message in 0..COUNTS.broadcasts {
            sender.send(message).expect("there are listeners");
            if (message + 1) % BURST == 0 {
                (0..LISTENERS).for_each(|_| all_done.recv().expect("each tells"));
            }
        }
        join(listeners);
    })
}

pub(super) fn watches() -> Measured {
    let (ping, mut pinged) = watch::channel(0);
    let (pong, mut ponged) = watch::channel(0);
    time(COUNTS.messages, || {
        let echo = spawn(move || {
            for _ in 0..COUNTS.messages / 2 {
                pinged.changed().expect("the player stays");
                let value = *pinged.borrow();
                pong.send(value).expect("the player looks");
            }
        });
        let player = spawn(move || {
            for value in 1..=COUNTS.messages / 2 {
                ping.send(value).expect("the echo looks");
                ponged.changed().expect("the echo stays");
                assert_eq!(*ponged.borrow(), value);
            }
        });
        join([echo, player]);
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
