//! tokio on one thread: `join!` without spawning, and three spawned tasks.

use std::{net::TcpStream, sync::Arc};

use anyhow::Result;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    sync::Mutex,
    task::LocalSet,
};

use super::{ANSWER, BACKENDS, Meter, REQUEST};

async fn call(stream: &mut tokio::net::TcpStream) -> std::io::Result<()> {
    stream.write_all(&[b'q'; REQUEST]).await?;
    let mut answer = [0; ANSWER];
    stream.read_exact(&mut answer).await?;
    Ok(())
}

pub(super) fn run(
    connections: Vec<[TcpStream; BACKENDS]>,
    meter: &'static Meter,
    spawned: bool,
) -> Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    let tasks = LocalSet::new();
    tasks.block_on(&runtime, async move {
        let mut leaders = Vec::new();
        for streams in connections {
            let mut own = Vec::new();
            for stream in streams {
                stream.set_nonblocking(true)?;
                own.push(tokio::net::TcpStream::from_std(stream)?);
            }
            leaders.push(tokio::spawn(async move {
                if spawned {
                    lead_spawned(own, meter).await
                } else {
                    lead_joined(own, meter).await
                }
            }));
        }
        for leader in leaders {
            leader.await??;
        }
        Ok(())
    })
}

async fn lead_joined(mut own: Vec<tokio::net::TcpStream>, meter: &Meter) -> std::io::Result<()> {
    let [a, b, c] = own.as_mut_slice() else {
        return Ok(());
    };
    loop {
        let (a, b, c) = tokio::join!(call(a), call(b), call(c));
        a.and(b).and(c)?;
        if !meter.count() {
            return Ok(());
        }
    }
}

async fn lead_spawned(own: Vec<tokio::net::TcpStream>, meter: &Meter) -> std::io::Result<()> {
    let own: Vec<_> = own
        .into_iter()
        .map(|stream| Arc::new(Mutex::new(stream)))
        .collect();
    loop {
        let mut children = Vec::with_capacity(BACKENDS);
        for stream in &own {
            let stream = stream.clone();
            children.push(tokio::spawn(async move {
                call(&mut *stream.lock().await).await
            }));
        }
        for child in children {
            child.await.map_err(std::io::Error::other)??;
        }
        if !meter.count() {
            return Ok(());
        }
    }
}
