//! Plain threads: each leader has three helpers for life, since starting three threads for each
//! aggregate costs several times as much.

use std::{
    net::TcpStream,
    sync::mpsc::{Receiver, SyncSender, sync_channel},
    thread,
};

use anyhow::{Result, anyhow};

use super::{BACKENDS, Meter, call};

pub(super) fn run(connections: Vec<[TcpStream; BACKENDS]>, meter: &'static Meter) -> Result<()> {
    let leaders: Vec<_> = connections
        .into_iter()
        .map(|streams| {
            thread::spawn(move || -> std::io::Result<()> {
                let helpers = streams.map(Helper::start);
                loop {
                    for helper in &helpers {
                        helper.ask.send(()).map_err(std::io::Error::other)?;
                    }
                    for helper in &helpers {
                        helper.done.recv().map_err(std::io::Error::other)??;
                    }
                    if !meter.count() {
                        return Ok(());
                    }
                }
            })
        })
        .collect();
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
