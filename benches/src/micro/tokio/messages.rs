//! tokio's channels and sockets.

use std::{hint::black_box, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    select, spawn,
    sync::{
        broadcast,
        mpsc::{channel, unbounded_channel},
        oneshot, watch,
    },
    time::timeout as with_timeout,
};

use super::{
    super::{
        Clock, Measured,
        row::{BURST, CHUNK, COUNTS, LISTENERS},
    },
    join,
};

pub(super) async fn ping_pong(timeout: Option<Duration>) -> Measured {
    let (ping, mut pinged) = channel(1);
    let (pong, mut ponged) = channel(1);
    let echo = spawn(async move {
        while let Some(message) = pinged.recv().await {
            if pong.send(message).await.is_err() {
                return;
            }
        }
    });
    let player = spawn(async move {
        let clock = Clock::start();
        for message in 0..COUNTS.messages / 2 {
            ping.send(message).await.expect("the echo listens");
            let answer = match timeout {
                None => ponged.recv().await,
                Some(timeout) => with_timeout(timeout, ponged.recv()).await.ok().flatten(),
            };
            assert_eq!(black_box(answer), Some(message));
        }
        clock.per(COUNTS.messages)
    });
    let measured = player.await.expect("joined");
    echo.await.expect("joined");
    measured
}

pub(super) async fn unbounded_stream() -> Measured {
    let (sender, mut receiver) = unbounded_channel();
    let clock = Clock::start();
    let consumer = spawn(async move {
        let mut count = 0;
        while let Some(message) = receiver.recv().await {
            black_box(message);
            count += 1;
        }
        count
    });
    let producer = spawn(async move {
        for message in 0..COUNTS.streamed {
            sender.send(message).expect("someone listens");
        }
    });
    producer.await.expect("joined");
    assert_eq!(consumer.await.expect("joined"), COUNTS.streamed);
    clock.per(COUNTS.streamed)
}

pub(super) async fn select_of_two() -> Measured {
    let (to_first, mut first) = channel(1);
    let (to_second, mut second) = channel(1);
    let clock = Clock::start();
    let producer = spawn(async move {
        for message in 0..COUNTS.messages / 2 {
            to_first.send(message).await.expect("the consumer listens");
            to_second.send(message).await.expect("the consumer listens");
        }
    });
    let consumer = spawn(async move {
        for _ in 0..COUNTS.messages {
            let message = select! {
                Some(message) = first.recv() => message,
                Some(message) = second.recv() => message,
            };
            black_box(message);
        }
    });
    join([producer, consumer]).await;
    clock.per(COUNTS.messages)
}

pub(super) async fn oneshots() -> Measured {
    let clock = Clock::start();
    for message in 0..COUNTS.messages {
        let (sender, receiver) = oneshot::channel();
        sender.send(message).expect("somebody listens");
        assert_eq!(black_box(receiver).await, Ok(message));
    }
    clock.per(COUNTS.messages)
}

pub(super) async fn broadcasts() -> Measured {
    let (sender, receiver) = broadcast::channel(BURST as usize);
    let (done, mut all_done) = channel(LISTENERS as usize);
    let listeners: Vec<_> = (0..LISTENERS)
        .map(|_| {
            let (mut receiver, done) = (receiver.resubscribe(), done.clone());
            spawn(async move {
                for message in 0..COUNTS.broadcasts {
                    assert_eq!(receiver.recv().await, Ok(message));
                    if (message + 1) % BURST == 0 {
                        done.send(()).await.expect("the sender listens");
                    }
                }
            })
        })
        .collect();
    drop(receiver);
    let clock = Clock::start();
    for message in 0..COUNTS.broadcasts {
        sender.send(message).expect("there are listeners");
        if (message + 1) % BURST == 0 {
            for _ in 0..LISTENERS {
                all_done.recv().await.expect("each tells");
            }
        }
    }
    join(listeners).await;
    clock.per(COUNTS.broadcasts)
}

pub(super) async fn watches() -> Measured {
    let (ping, mut pinged) = watch::channel(0);
    let (pong, mut ponged) = watch::channel(0);
    let clock = Clock::start();
    let echo = spawn(async move {
        for _ in 0..COUNTS.messages / 2 {
            pinged.changed().await.expect("the player stays");
            let value = *pinged.borrow();
            pong.send(value).expect("the player looks");
        }
    });
    let player = spawn(async move {
        for value in 1..=COUNTS.messages / 2 {
            ping.send(value).expect("the echo looks");
            ponged.changed().await.expect("the echo stays");
            assert_eq!(*ponged.borrow(), value);
        }
    });
    join([echo, player]).await;
    clock.per(COUNTS.messages)
}

pub(super) async fn socket_pair() -> Measured {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let echo = spawn(async move {
        let mut message = [0; 8];
        while far.read_exact(&mut message).await.is_ok() {
            far.write_all(&message).await.expect("the player listens");
        }
    });
    let player = spawn(async move {
        let clock = Clock::start();
        for number in 0..COUNTS.socket_messages / 2 {
            let mut message = number.to_ne_bytes();
            near.write_all(&message).await.expect("the echo listens");
            near.read_exact(&mut message).await.expect("an answer");
            assert_eq!(u64::from_ne_bytes(message), number);
        }
        clock.per(COUNTS.socket_messages)
    });
    let measured = player.await.expect("joined");
    echo.await.expect("joined");
    measured
}

/// One way; the last byte has come when it ends.
pub(super) async fn unix_chunks() -> Measured {
    let (mut near, mut far) = UnixStream::pair().expect("a pair of sockets");
    let receiver = spawn(async move {
        let mut chunk = vec![0; CHUNK];
        for _ in 0..COUNTS.chunks {
            far.read_exact(&mut chunk).await.expect("all of it comes");
            black_box(&chunk);
        }
    });
    let sender = spawn(async move {
        let chunk = vec![1; CHUNK];
        let clock = Clock::start();
        for _ in 0..COUNTS.chunks {
            near.write_all(black_box(&chunk))
                .await
                .expect("someone reads");
        }
        receiver.await.expect("joined");
        clock.per(COUNTS.chunks)
    });
    sender.await.expect("joined")
}
