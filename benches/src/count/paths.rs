//! The hot paths, each done a given number of times.

use std::{
    hint::black_box,
    io::{Read, Write},
    time::Duration,
};

use anyhow::{Context, Result};
use clap::ValueEnum;
use maniple::{
    JoinError, group,
    net::TcpStream,
    sleep, spawn,
    sync::{Mutex, channel::bounded},
    yield_now,
};
use maniple_server::{Request, Router, Server};

use crate::servers::BODY;

/// An operation; what its count is per.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(super) enum Path {
    /// Two coroutines that yield to each other; per yield.
    #[value(name = "yield-2")]
    Yield2,
    /// 1,000 coroutines that yield; per yield.
    #[value(name = "yield-1000")]
    Yield1000,
    /// Spawn an empty coroutine and join it; per coroutine.
    SpawnJoin,
    /// Three spawned children of a group, joined in it; per group.
    #[value(name = "group-3")]
    Group3,
    /// `join!` of three calls; per `join!`.
    #[value(name = "join-3")]
    Join3,
    /// A message to another coroutine over a channel of capacity 1 and one back; per round trip.
    PingPong,
    /// As ping-pong, but the answer is awaited under a timeout: a timer armed and cancelled; per round trip.
    Timer,
    /// Lock and unlock a mutex that nobody else wants.
    Mutex,
    /// Sleep for a millisecond, with nothing else to do.
    Sleep,
    /// One request and its answer on a TCP connection, the client's side included; per request.
    Http,
    /// Sixteen requests at once and their answers, the client's side included; per request.
    HttpPipelined,
}

impl Path {
    /// How often it is done in the shorter of two runs.
    pub(super) fn times(self) -> u64 {
        match self {
            // The clock has a say in how a sleep goes, so there must be enough of them to even that out.
            Self::Sleep => 1_000,
            Self::Yield1000 => 20_000,
            Self::Http | Self::HttpPipelined => 4_000,
            _ => 10_000,
        }
    }

    /// Does it so many times on one worker.
    pub(super) fn perform(self, times: u64) -> Result<()> {
        let runtime = maniple::Runtime::builder().workers(1).build()?;
        runtime.run(|| match self {
            Self::Yield2 => yields(2, times),
            Self::Yield1000 => yields(1_000, times),
            Self::SpawnJoin => Ok((0..times).try_for_each(|_| spawn(|| ()).join())?),
            Self::Group3 => Ok((0..times).try_for_each(|_| group_of_three())?),
            Self::Join3 => {
                for _ in 0..times {
                    black_box(maniple::join!(black_box(1), black_box(2), black_box(3)));
                }
                Ok(())
            }
            Self::PingPong => ping_pong(times, None),
            Self::Timer => ping_pong(times, Some(Duration::from_secs(3600))),
            Self::Mutex => {
                let mutex = Mutex::new(0u64);
                (0..times).for_each(|_| *black_box(&mutex).lock() += 1);
                Ok(())
            }
            Self::Sleep => {
                (0..times).for_each(|_| sleep(Duration::from_millis(1)));
                Ok(())
            }
            Self::Http => http(times, 1),
            Self::HttpPipelined => http(times, 16),
        })
    }
}

fn yields(coroutines: u64, times: u64) -> Result<()> {
    let each = times / coroutines;
    let tasks: Vec<_> = (0..coroutines)
        .map(|_| spawn(move || (0..each).for_each(|_| yield_now())))
        .collect();
    Ok(tasks.into_iter().try_for_each(|task| task.join())?)
}

fn group_of_three() -> Result<(), JoinError> {
    let numbers = [1, 2, 3];
    let sum = group(|g| {
        let [one, two, three] = numbers
            .each_ref()
            .map(|number| g.spawn(move || *black_box(number)));
        Ok::<_, JoinError>(one.join()? + two.join()? + three.join()?)
    })?;
    black_box(sum);
    Ok(())
}

fn ping_pong(times: u64, timeout: Option<Duration>) -> Result<()> {
    let (ping, pinged) = bounded(1);
    let (pong, ponged) = bounded(1);
    let echo = spawn(move || {
        while let Ok(message) = pinged.recv() {
            if pong.send(message).is_err() {
                return;
            }
        }
    });
    for message in 0..times {
        ping.send(message)?;
        black_box(match timeout {
            None => ponged.recv()?,
            Some(timeout) => ponged.recv_timeout(timeout)?,
        });
    }
    drop(ping);
    Ok(echo.join()?)
}

/// The server as it comes, and a client on the same worker: so that one thing happens after the other.
fn http(times: u64, pipelined: usize) -> Result<()> {
    let router = Router::new().get("/", |_: &mut Request| BODY);
    let server = Server::builder(router).bind("127.0.0.1:0")?;
    let (address, handle) = (server.local_addr(), server.handle());
    let serving = spawn(move || server.serve());
    let mut stream = TcpStream::connect(address)?;
    stream.set_nodelay(true)?;
    let request = format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n");
    let mut answer = [0; 4096];
    stream.write_all(request.as_bytes())?;
    let length = stream.read(&mut answer)?;
    let whole = answer[..length].ends_with(BODY.as_bytes());
    whole
        .then_some(())
        .context("the first answer came in pieces")?;
    // All answers are as long: the date has a fixed width.
    let batch = request.repeat(pipelined);
    for _ in 0..times / pipelined as u64 {
        stream.write_all(batch.as_bytes())?;
        stream.read_exact(&mut answer[..length * pipelined])?;
    }
    drop(stream);
    handle.drain();
    serving.join()??;
    Ok(())
}
