//! The limit: a state machine over epoll, on one thread.

use std::{
    io::{ErrorKind, Read, Write},
    net::TcpStream,
};

use anyhow::{Context, Result, bail};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};

use super::{
    ANSWER, BACKENDS, REQUEST,
    meter::{Laps, Meter},
};

struct Leader<'a> {
    laps: Laps<'a>,
    streams: [TcpStream; BACKENDS],
    missing: [usize; BACKENDS],
    pending: usize,
}

impl Leader<'_> {
    fn ask(&mut self) -> Result<()> {
        self.pending = BACKENDS;
        for (stream, missing) in self.streams.iter_mut().zip(&mut self.missing) {
            *missing = ANSWER;
            stream.write_all(&[b'q'; REQUEST]).context("asking")?;
        }
        Ok(())
    }
}

pub(super) fn run(connections: Vec<[TcpStream; BACKENDS]>, meter: &Meter) -> Result<()> {
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let mut leaders = Vec::new();
    for (index, streams) in connections.into_iter().enumerate() {
        for (place, stream) in streams.iter().enumerate() {
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64((index * BACKENDS + place) as u64);
            epoll::add(&epoll, stream, data, EventFlags::IN)?;
        }
        leaders.push(Leader {
            laps: meter.laps()?,
            streams,
            missing: [0; BACKENDS],
            pending: 0,
        });
    }
    leaders.iter_mut().try_for_each(Leader::ask)?;
    let mut events = Vec::with_capacity(512);
    let mut buffer = [0; ANSWER];
    loop {
        events.clear();
        epoll::wait(&epoll, rustix::buffer::spare_capacity(&mut events), None)?;
        for event in &events {
            let token = event.data.u64() as usize;
            let (leader, place) = (&mut leaders[token / BACKENDS], token % BACKENDS);
            match leader.streams[place].read(&mut buffer) {
                Ok(0) => bail!("a backend closed"),
                Ok(count) => leader.missing[place] -= count,
                Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                Err(error) => return Err(error).context("reading"),
            }
            if leader.missing[place] == 0 {
                leader.pending -= 1;
                if leader.pending == 0 {
                    if !leader.laps.count() {
                        return Ok(());
                    }
                    leader.ask()?;
                }
            }
        }
    }
}
