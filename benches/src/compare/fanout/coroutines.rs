//! Coroutines: maniple's groups and `join!`, and may.

use std::{
    net::TcpStream,
    os::fd::{FromRawFd, IntoRawFd},
};

use anyhow::Result;

use super::{BACKENDS, call, meter::Meter};

pub(super) fn run_maniple(
    connections: Vec<[TcpStream; BACKENDS]>,
    meter: &'static Meter,
    with_join: bool,
) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| -> Result<()> {
        let mut leaders = Vec::new();
        for streams in connections {
            let [a, b, c] = streams.map(maniple::net::TcpStream::try_from);
            let streams = [a?, b?, c?];
            let mut laps = meter.laps()?;
            leaders.push(maniple::spawn(move || -> std::io::Result<()> {
                let [a, b, c] = &streams;
                loop {
                    if with_join {
                        let (a, b, c) = maniple::join!(call(a), call(b), call(c));
                        a.and(b).and(c)?;
                    } else {
                        maniple::group(|group| {
                            let a = group.spawn(|| call(a));
                            let b = group.spawn(|| call(b));
                            let c = group.spawn(|| call(c));
                            a.join()??;
                            b.join()??;
                            c.join()?
                        })?;
                    }
                    if !laps.count() {
                        return Ok(());
                    }
                }
            }));
        }
        for leader in leaders {
            leader.join()??;
        }
        Ok(())
    })
}

pub(super) fn run_may(
    connections: Vec<[TcpStream; BACKENDS]>,
    meter: &'static Meter,
) -> Result<()> {
    may::config().set_workers(1).set_pool_capacity(1_000);
    let mut leaders = Vec::new();
    for streams in connections {
        // SAFETY: each descriptor is a connected socket that is given away.
        let mut streams =
            streams.map(|stream| unsafe { may::net::TcpStream::from_raw_fd(stream.into_raw_fd()) });
        let mut laps = meter.laps()?;
        leaders.push(may::go!(move || -> std::io::Result<()> {
            loop {
                let mut results = [const { Ok(()) }; BACKENDS];
                may::coroutine::scope(|scope| {
                    for (stream, result) in streams.iter_mut().zip(&mut results) {
                        may::go!(scope, move || *result = call(stream));
                    }
                });
                results.into_iter().collect::<std::io::Result<()>>()?;
                if !laps.count() {
                    return Ok(());
                }
            }
        }));
    }
    for leader in leaders {
        leader
            .join()
            .map_err(|_| anyhow::anyhow!("a leader panicked"))??;
    }
    Ok(())
}
