//! tokio on one thread: `join!` without spawning, and three spawned tasks.

use anyhow::{Result, anyhow};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use super::{
    ANSWER, BACKENDS, REQUEST,
    meter::{Laps, Meter},
};

async fn call(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[b'q'; REQUEST]).await?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).await?;
    Ok(())
}

pub(super) fn run(
    connections: Vec<[std::net::TcpStream; BACKENDS]>,
    meter: &'static Meter,
    spawned: bool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut leaders = Vec::new();
        for streams in connections {
            for stream in &streams {
                stream.set_nonblocking(true)?;
            }
            let [a, b, c] = streams.map(TcpStream::from_std);
            let (streams, laps) = ([a?, b?, c?], meter.laps()?);
            leaders.push(match spawned {
                true => tokio::spawn(lead_spawned(streams, laps)),
                false => tokio::spawn(lead_joined(streams, laps)),
            });
        }
        for leader in leaders {
            leader.await??;
        }
        Ok(())
    })
}

async fn lead_joined(streams: [TcpStream; BACKENDS], mut laps: Laps<'_>) -> Result<()> {
    let [mut a, mut b, mut c] = streams;
    loop {
        let (a, b, c) = tokio::join!(call(&mut a), call(&mut b), call(&mut c));
        a.and(b).and(c)?;
        if !laps.count() {
            return Ok(());
        }
    }
}

/// A task cannot borrow, so the streams go into the tasks and come back: cheaper than to share them.
async fn lead_spawned(streams: [TcpStream; BACKENDS], mut laps: Laps<'_>) -> Result<()> {
    let mut streams = streams.map(Some);
    loop {
        let tasks = streams.each_mut().map(|place| {
            let stream = place.take();
            tokio::spawn(async move {
                let mut stream = stream.ok_or_else(|| anyhow!("a stream is gone"))?;
                call(&mut stream).await?;
                anyhow::Ok(stream)
            })
        });
        for (task, place) in tasks.into_iter().zip(&mut streams) {
            *place = Some(task.await??);
        }
        if !laps.count() {
            return Ok(());
        }
    }
}
