//! The load of streams: WebSockets that send a message once the last has come back, or subscribers that only read.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use serde::{Deserialize, Serialize};

use super::connections::SILENCE;
use crate::process::{self, Core, cpu_time_of, kernel_share, ticks_of};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// Process id of the server.
    #[arg(long)]
    server: u32,
    #[arg(long)]
    connections: usize,
    /// Bytes of a WebSocket message; without it the connections only subscribe.
    #[arg(long)]
    message: Option<u8>,
    #[arg(long)]
    warm_up_seconds: f64,
    #[arg(long)]
    seconds: f64,
}

/// What one run saw, printed as one line of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) messages: u64,
    pub(crate) seconds: f64,
    /// CPU time of the server's process within the measured seconds.
    pub(crate) server_cpu_seconds: f64,
    /// How much of that was the kernel's, by the ticks of its clock.
    pub(crate) server_kernel_share: f64,
    /// Resident in the server at the end.
    pub(crate) server_resident_bytes: u64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::settle(Core::Last)?;
    let mut load = Load::connect(options)?;
    load.run(Duration::try_from_secs_f64(options.warm_up_seconds)?)?;
    load.messages = 0;
    let ticks_before = ticks_of(options.server)?;
    let before = cpu_time_of(options.server)?;
    let elapsed = load.run(Duration::try_from_secs_f64(options.seconds)?)?;
    let after = cpu_time_of(options.server)?;
    let ticks_after = ticks_of(options.server)?;
    let seen = Seen {
        messages: load.messages,
        seconds: elapsed.as_secs_f64(),
        server_cpu_seconds: (after - before).as_secs_f64(),
        server_kernel_share: kernel_share(ticks_before, ticks_after),
        server_resident_bytes: crate::memory::Memory::of(&[options.server])?.resident,
    };
    ensure!(seen.messages > 0, "nothing came");
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

struct Load {
    streams: Vec<TcpStream>,
    /// Bytes of each answer that have come.
    come: Vec<usize>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// What is sent, and the length of what comes back.
    echo: Option<(Vec<u8>, usize)>,
    messages: u64,
}

impl Load {
    fn connect(options: &Options) -> Result<Self> {
        let echo = options.message.map(|length| {
            let mask = [0x11, 0x22, 0x33, 0x44];
            let mut frame = vec![0x82, 0x80 | length];
            frame.extend(mask);
            frame.extend(
                (0..length)
                    .zip(mask.iter().cycle())
                    .map(|(byte, mask)| byte ^ mask),
            );
            (frame, 2 + usize::from(length))
        });
        ensure!(
            options.message.is_none_or(|length| length < 126),
            "a message of up to 125 bytes"
        );
        let fields = match echo {
            Some(_) => {
                "Connection: Upgrade\r\nUpgrade: websocket\r\nSec-WebSocket-Version: 13\r\n\
                 Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
            }
            None => "",
        };
        let request = format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n");
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let mut streams = Vec::new();
        for place in 0..options.connections {
            let mut stream = TcpStream::connect(options.address)?;
            stream.set_nodelay(true)?;
            stream.write_all(request.as_bytes())?;
            if let Some((frame, _)) = &echo {
                open(&mut stream)?;
                stream.write_all(frame)?;
            }
            stream.set_nonblocking(true)?;
            let data = EventData::new_u64(place as u64);
            epoll::add(&epoll, stream.as_fd(), data, EventFlags::IN)?;
            streams.push(stream);
        }
        Ok(Self {
            come: vec![0; streams.len()],
            streams,
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            echo,
            messages: 0,
        })
    }

    fn run(&mut self, duration: Duration) -> Result<Duration> {
        let started = Instant::now();
        let patience = Timespec::try_from(SILENCE)?;
        while started.elapsed() < duration {
            self.events.clear();
            let room = rustix::buffer::spare_capacity(&mut self.events);
            match epoll::wait(&self.epoll, room, Some(&patience)) {
                Ok(0) => bail!("nothing for {SILENCE:?}"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in 0..self.events.len() {
                let place = self.events[event].data.u64() as usize;
                self.take(place)?;
            }
        }
        Ok(started.elapsed())
    }

    fn take(&mut self, place: usize) -> Result<()> {
        let stream = &mut self.streams[place];
        let count = match stream.read(&mut self.buffer) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(count) => count,
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) => return Err(error).context("reading"),
        };
        match &self.echo {
            None => {
                let marks = memchr::memchr_iter(MARK, &self.buffer[..count]).count();
                self.messages += marks as u64;
            }
            Some((frame, length)) => {
                self.come[place] += count;
                if self.come[place] >= *length {
                    ensure!(self.come[place] == *length, "more came than was sent");
                    self.come[place] = 0;
                    self.messages += 1;
                    stream.write_all(frame).context("sending a message")?;
                }
            }
        }
        Ok(())
    }
}

/// Stands once in each event, and in nothing else that is sent.
const MARK: u8 = b'#';

/// Reads the head of the answer.
fn open(stream: &mut TcpStream) -> Result<()> {
    stream.set_read_timeout(Some(SILENCE))?;
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).context("reading a head")?;
        head.push(byte[0]);
    }
    ensure!(head.starts_with(b"HTTP/1.1 101 "), "no WebSocket");
    Ok(())
}
