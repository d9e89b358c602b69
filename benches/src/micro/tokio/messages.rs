//! tokio's channels and sockets.

use std::{hint::black_box, time::Duration};

use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::UnixStream,
    spawn,
    sync::mpsc::{channel, unbounded_channel},
    time::timeout as with_timeout,
};

use super::super::{Clock, Measured, row::COUNTS};

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
