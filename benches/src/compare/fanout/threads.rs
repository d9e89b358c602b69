//! Plain threads: each leader has three helpers for life, since starting three threads for each
//! aggregate costs several times as much.

use std::{
    net::TcpStream,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread::{self, JoinHandle},
};

use anyhow::{Result, anyhow};

use super::{BACKENDS, call, meter::Meter};

pub(super) fn run(connections: Vec<[TcpStream; BACKENDS]>, meter: &'static Meter) -> Result<()> {
    let leaders: Vec<JoinHandle<_>> = connections
        .into_iter()
        .map(|streams| {
            let mut laps = meter.laps()?;
            Ok(thread::spawn(move || -> std::io::Result<()> {
                let helpers = streams.map(Helper::start);
                loop {
                    for helper in &helpers {
                        helper.ask.send(()).map_err(std::io::Error::other)?;
                    }
                    for helper in &helpers {
                        helper.done.recv().map_err(std::io::Error::other)??;
                    }
                    if !laps.count() {
                        return Ok(());
                    }
                }
            }))
        })
        .collect::<Result<_>>()?;
    for leader in leaders {
        leader.join().map_err(|_| anyhow!("a leader panicked"))??;
    }
    Ok(())
}

struct Helper {
    ask: SyncSender<()>,
    done: Receiver<std::io::Result<()>>,
}

impl Helper {
    fn start(stream: TcpStream) -> Self {
        let (ask, asked) = sync_channel(1);
        let (tell, done) = sync_channel(1);
        thread::spawn(move || {
            while asked.recv().is_ok() {
                if tell.send(call(&stream)).is_err() {
                    return;
                }
            }
        });
        Self { ask, done }
    }
}
