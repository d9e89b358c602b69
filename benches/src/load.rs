//! The load: one thread, keep-alive connections, each of which sends a batch of requests, waits until all are
//! answered, and sends the next (a closed loop).
//!
//! It reads the server's CPU clock at both ends of the measured window, at which it also counts: so that requests
//! and CPU time belong to the same stretch.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};
use serde::{Deserialize, Serialize};

use crate::process::{self, Core, cpu_time_of};

mod framing;

use framing::{Answer, Framing};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    pub(crate) address: SocketAddr,
    /// Process id of the server.
    #[arg(long)]
    pub(crate) server: u32,
    #[arg(long)]
    pub(crate) connections: usize,
    /// Requests in a batch.
    #[arg(long)]
    pub(crate) pipeline: usize,
    #[arg(long)]
    pub(crate) warm_up_seconds: f64,
    #[arg(long)]
    pub(crate) seconds: f64,
}

/// What one run saw, printed as one line of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// CPU time of the server's process within the measured seconds.
    pub(crate) server_cpu_seconds: f64,
    /// CPU time of the load's own process.
    pub(crate) load_cpu_seconds: f64,
    /// From the sending of a batch to each of its answers.
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::settle(Core::Last)?;
    let mut load = Load::connect(options)?;
    let warm_up = Duration::try_from_secs_f64(options.warm_up_seconds)?;
    let measured = Duration::try_from_secs_f64(options.seconds)?;
    load.start()?;
    load.run(warm_up)?;
    load.forget();
    let before = (
        cpu_time_of(options.server)?,
        cpu_time_of(std::process::id())?,
    );
    let elapsed = load.run(measured)?;
    let after = (
        cpu_time_of(options.server)?,
        cpu_time_of(std::process::id())?,
    );
    let at = |quantile| load.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
    let seen = Seen {
        requests: load.answered,
        seconds: elapsed.as_secs_f64(),
        server_cpu_seconds: (after.0 - before.0).as_secs_f64(),
        load_cpu_seconds: (after.1 - before.1).as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: at(1.0),
    };
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

struct Load {
    connections: Vec<Connection>,
    batch: Vec<u8>,
    pipeline: usize,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    /// The last answer's head and length: most answers begin with the same head.
    usual: Answer,
    answered: u64,
    latencies_ns: Histogram<u64>,
}

struct Connection {
    stream: TcpStream,
    sent_at: Instant,
    /// Answers of the batch that are still to come.
    missing: usize,
    framing: Framing,
}

impl Load {
    fn connect(options: &Options) -> Result<Self> {
        let &Options {
            address,
            connections,
            pipeline,
            ..
        } = options;
        ensure!(connections > 0 && pipeline > 0, "nothing to send");
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let connect = |index| {
            let stream = TcpStream::connect(address)?;
            stream.set_nodelay(true)?;
            stream.set_nonblocking(true)?;
            epoll::add(
                &epoll,
                stream.as_fd(),
                EventData::new_u64(index),
                EventFlags::IN,
            )?;
            std::io::Result::Ok(Connection {
                stream,
                sent_at: Instant::now(),
                missing: 0,
                framing: Framing::default(),
            })
        };
        let connections = (0..connections)
            .map(|index| {
                let name = || format!("connection {} of {connections}", index + 1);
                connect(index as u64).with_context(name)
            })
            .collect::<Result<_>>()?;
        Ok(Self {
            connections,
            batch: format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n")
                .repeat(pipeline)
                .into_bytes(),
            pipeline,
            epoll,
            events: Vec::with_capacity(1024),
            buffer: vec![0; 64 * 1024],
            usual: Answer::default(),
            answered: 0,
            latencies_ns: Histogram::new_with_bounds(1, 60_000_000_000, 3)?,
        })
    }

    /// Sends the first batch on every connection.
    fn start(&mut self) -> Result<()> {
        let now = Instant::now();
        self.connections
            .iter_mut()
            .try_for_each(|connection| connection.send(&self.batch, self.pipeline, now))
    }

    /// Forgets what was counted so far; the connections go on.
    fn forget(&mut self) {
        self.answered = 0;
        self.latencies_ns.reset();
    }

    /// Answers each answered batch by the next one, for so long.
    fn run(&mut self, duration: Duration) -> Result<Duration> {
        let started = Instant::now();
        let patience = Timespec::try_from(SILENCE)?;
        loop {
            self.events.clear();
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut self.events),
                Some(&patience),
            ) {
                Ok(0) => bail!("no answer for {SILENCE:?}"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &self.events {
                let connection = &mut self.connections[event.data.u64() as usize];
                let count = match connection.stream.read(&mut self.buffer) {
                    Ok(0) => bail!("the server closed a connection"),
                    Ok(count) => count,
                    Err(error) if error.kind() == ErrorKind::WouldBlock => continue,
                    Err(error) => return Err(error).context("reading an answer"),
                };
                let answers = connection
                    .framing
                    .feed(&self.buffer[..count], &mut self.usual)?;
                if answers == 0 {
                    continue;
                }
                let now = Instant::now();
                let waited = now.saturating_duration_since(connection.sent_at);
                self.latencies_ns
                    .saturating_record_n(waited.as_nanos() as u64, answers as u64);
                self.answered += answers as u64;
                let Some(missing) = connection.missing.checked_sub(answers) else {
                    bail!("more answers than requests");
                };
                connection.missing = missing;
                if missing == 0 {
                    connection.send(&self.batch, self.pipeline, now)?;
                }
            }
            let elapsed = started.elapsed();
            if elapsed >= duration {
                return Ok(elapsed);
            }
        }
    }
}

impl Connection {
    fn send(&mut self, batch: &[u8], pipeline: usize, now: Instant) -> Result<()> {
        self.sent_at = now;
        self.missing = pipeline;
        // A batch is far smaller than a socket's buffer, which is empty at this point.
        self.stream.write_all(batch).context("sending requests")
    }
}

/// How long a server under load may answer nothing at all.
const SILENCE: Duration = Duration::from_secs(5);
