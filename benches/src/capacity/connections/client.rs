//! A client process: one thread that holds keep-alive connections to one server, and does what it is told with them.
//!
//! It gives up at the first connection that the server refuses, loses or does not answer: then the server has not
//! survived, and the client's last words say at which connection.

mod dial;

use std::{
    io::{ErrorKind, Read, Write, stdin},
    net::{Shutdown, SocketAddrV4, TcpStream},
    os::fd::{AsFd, OwnedFd},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail};
use clap::Args;
use hdrhistogram::Histogram;
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use super::{
    orders::{Order, PATIENCE, Report, Trickled, histogram},
    plan::source_address,
};
use crate::{
    capacity::quantity::count,
    load::framing::{Answer, Framing},
    process::{self, Core, raise_descriptor_limit},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// The server of this client.
    #[arg(long)]
    server: SocketAddrV4,
    /// Addresses to connect from.
    #[arg(long)]
    sources: usize,
    /// Connections under way at once.
    #[arg(long)]
    window: usize,
}

/// Obeys until there are no more orders.
pub(crate) fn run(options: &Options) -> Result<()> {
    process::settle(Core::Last)?;
    raise_descriptor_limit(0)?;
    let mut client = Client::new(options.clone())?;
    for line in stdin().lines() {
        let report = client.obey(serde_json::from_str(&line?)?)?;
        println!("{}", serde_json::to_string(&report)?);
    }
    Ok(())
}

struct Client {
    options: Options,
    /// By the number that epoll knows them by; `None` once closed.
    connections: Vec<Option<Connection>>,
    /// Connections that wait for an answer, or for the server's end to close.
    waiting: usize,
    closing: bool,
    request: Vec<u8>,
    epoll: OwnedFd,
    events: Vec<Event>,
    buffer: Vec<u8>,
    usual: Answer,
    latencies: Histogram<u64>,
}

struct Connection {
    stream: TcpStream,
    /// When the request that waits for its answer was to be sent.
    due: Option<Instant>,
    framing: Framing,
}

impl Client {
    fn new(options: Options) -> Result<Self> {
        Ok(Self {
            connections: Vec::new(),
            waiting: 0,
            closing: false,
            request: format!("GET / HTTP/1.1\r\nHost: {}\r\n\r\n", options.server).into_bytes(),
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            events: Vec::with_capacity(256),
            buffer: vec![0; 16 * 1024],
            usual: Answer::default(),
            latencies: histogram(),
            options,
        })
    }

    fn obey(&mut self, order: Order) -> Result<Report> {
        match order {
            Order::Open { until } => self.open(until).context("opening")?,
            Order::Hold { seconds } => self
                .hold(Duration::try_from_secs_f64(seconds)?)
                .context("holding")?,
            Order::Trickle {
                requests,
                per_second,
            } => {
                let trickled = self.trickle(requests, per_second);
                return Ok(Report::Trickled(trickled.context("serving a trickle")?));
            }
            Order::Close => self.close().context("closing")?,
        }
        Ok(Report::Done)
    }

    /// An answer on each shows that the server has accepted it, so that its backlog never holds more than the window.
    fn open(&mut self, until: usize) -> Result<()> {
        while self.connections.len() < until || self.waiting > 0 {
            while self.connections.len() < until && self.waiting < self.options.window {
                let number = self.connections.len();
                let name = || format!("connection {} to its server", count(number as u64 + 1));
                self.connect(number).with_context(name)?;
                self.send(number, Instant::now()).with_context(name)?;
            }
            self.turn_or_give_up()?;
        }
        Ok(())
    }

    fn connect(&mut self, number: usize) -> Result<()> {
        let source = source_address(number % self.options.sources);
        let stream = dial::connect(source, self.options.server, PATIENCE)?;
        let data = EventData::new_u64(number as u64);
        epoll::add(&self.epoll, stream.as_fd(), data, EventFlags::IN)?;
        self.connections.push(Some(Connection {
            stream,
            due: None,
            framing: Framing::default(),
        }));
        Ok(())
    }

    fn hold(&mut self, time: Duration) -> Result<()> {
        let until = Instant::now() + time;
        loop {
            let left = until.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Ok(());
            }
            self.turn(left)?;
        }
    }

    /// An open loop: what is due is sent whether or not earlier requests have been answered.
    fn trickle(&mut self, requests: u64, per_second: f64) -> Result<Trickled> {
        self.latencies.reset();
        let order = Shuffled::of(self.connections.len());
        let (mut sent, mut skipped) = (0, 0);
        let begin = Instant::now();
        let due = |request: u64| begin + Duration::from_secs_f64(request as f64 / per_second);
        while sent < requests {
            let now = Instant::now();
            // Answers are read in between, lest their latency grows with what is overdue.
            let burst = sent + 64;
            while sent < requests.min(burst) && due(sent) <= now {
                let number = order.get(sent);
                match &self.connections[number] {
                    Some(connection) if connection.due.is_none() => self.send(number, due(sent))?,
                    _ => skipped += 1,
                }
                sent += 1;
            }
            self.turn(due(sent).saturating_duration_since(Instant::now()))?;
        }
        while self.waiting > 0 {
            self.turn_or_give_up()?;
        }
        Ok(Trickled::new(skipped, &self.latencies))
    }

    /// Says so on each connection and waits for the server's end: none is left to the kernel.
    fn close(&mut self) -> Result<()> {
        self.closing = true;
        let mut next = 0;
        while next < self.connections.len() || self.waiting > 0 {
            while next < self.connections.len() && self.waiting < MOST_CLOSING {
                if let Some(connection) = &self.connections[next] {
                    connection.stream.shutdown(Shutdown::Write)?;
                    self.waiting += 1;
                }
                next += 1;
            }
            self.turn_or_give_up()?;
        }
        self.connections.clear();
        self.closing = false;
        Ok(())
    }

    fn send(&mut self, number: usize, due: Instant) -> Result<()> {
        let connection = self.connections[number].as_mut().context("it is closed")?;
        connection.due = Some(due);
        self.waiting += 1;
        // A request is far smaller than a socket's buffer, which is empty at this point.
        connection
            .stream
            .write_all(&self.request)
            .context("sending a request")
    }

    fn turn_or_give_up(&mut self) -> Result<()> {
        if self.turn(PATIENCE)? == 0 {
            let what = match self.closing {
                true => "left open",
                false => "left without an answer",
            };
            bail!(
                "{} connections {what} for {PATIENCE:?}",
                count(self.waiting as u64)
            );
        }
        Ok(())
    }

    /// Waits for events once and handles them. How many there were.
    fn turn(&mut self, patience: Duration) -> Result<usize> {
        self.events.clear();
        let patience = Timespec::try_from(patience)?;
        let spare = rustix::buffer::spare_capacity(&mut self.events);
        match epoll::wait(&self.epoll, spare, Some(&patience)) {
            Ok(_) => {}
            Err(rustix::io::Errno::INTR) => return Ok(0),
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for index in 0..self.events.len() {
            let number = self.events[index].data.u64() as usize;
            self.receive(number)
                .with_context(|| format!("connection {}", count(number as u64 + 1)))?;
        }
        Ok(self.events.len())
    }

    fn receive(&mut self, number: usize) -> Result<()> {
        let place = &mut self.connections[number];
        let connection = place.as_mut().context("an event after its end")?;
        let received = match connection.stream.read(&mut self.buffer) {
            Ok(0) if !self.closing => bail!("closed by the server"),
            Ok(count) if count > 0 => &self.buffer[..count],
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
            Err(error) if !self.closing => return Err(error).context("reading an answer"),
            // While closing, a reset is an end as well.
            Ok(_) | Err(_) => {
                *place = None;
                self.waiting -= 1;
                return Ok(());
            }
        };
        match connection.framing.feed(received, &mut self.usual)? {
            0 => {}
            1 => {
                let due = connection.due.take().context("an answer to no request")?;
                self.waiting -= 1;
                self.latencies
                    .saturating_record(due.elapsed().as_nanos() as u64);
            }
            answers => bail!("{answers} answers to a request"),
        }
        Ok(())
    }
}

/// Visits all numbers below a count in turn, not in the order in which they came.
struct Shuffled {
    count: u64,
    stride: u64,
}

impl Shuffled {
    fn of(count: usize) -> Self {
        let count = count as u64;
        let coprime = |stride: &u64| greatest_common_divisor(*stride, count) == 1;
        // The golden ratio's part of the whole, as far from a short cycle as can be.
        let from = (count as f64 * 0.618) as u64;
        Self {
            count,
            stride: (from.max(1)..).find(coprime).unwrap_or(1),
        }
    }

    fn get(&self, index: u64) -> usize {
        (u128::from(index) * u128::from(self.stride) % u128::from(self.count)) as usize
    }
}

fn greatest_common_divisor(a: u64, b: u64) -> u64 {
    match b {
        0 => a,
        _ => greatest_common_divisor(b, a % b),
    }
}

/// Ends that close at once, few enough that a server takes notice within its usual turns.
const MOST_CLOSING: usize = 256;

#[cfg(test)]
mod tests;
