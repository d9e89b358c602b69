//! The load: one thread, keep-alive connections, each of which sends a batch of requests, waits until all are
//! answered, and sends the next (a closed loop). [`open`] has the load that sends at a given rate.
//!
//! It reads the server's CPU clock at both ends of the measured window, at which it also counts: so that requests
//! and CPU time belong to the same stretch.

use std::{
    net::SocketAddr,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};
use clap::Args;
use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::{
    process::{self, Core, cpu_time_of, kernel_share, ticks_of},
    task::Task,
};

mod arrivals;
mod connections;
pub(crate) mod framing;
pub(crate) mod open;
pub(crate) mod streams;
pub(crate) mod tls;

pub(crate) use self::arrivals::{Arrivals, Pace};

use self::connections::{Connections, SILENCE};

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
    /// What is asked for in place of `/`.
    #[arg(long)]
    pub(crate) task: Option<Task>,
}

/// What one run saw, printed as one line of JSON.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub(crate) struct Seen {
    pub(crate) requests: u64,
    pub(crate) seconds: f64,
    /// CPU time of the server's process within the measured seconds.
    pub(crate) server_cpu_seconds: f64,
    /// How much of that was the kernel's, by the ticks of its clock.
    pub(crate) server_kernel_share: f64,
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
    let ticks_before = ticks_of(options.server)?;
    let before = (
        cpu_time_of(options.server)?,
        cpu_time_of(std::process::id())?,
    );
    let elapsed = load.run(measured)?;
    let after = (
        cpu_time_of(options.server)?,
        cpu_time_of(std::process::id())?,
    );
    let ticks_after = ticks_of(options.server)?;
    let at = |quantile| load.latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
    let seen = Seen {
        requests: load.answered,
        seconds: elapsed.as_secs_f64(),
        server_cpu_seconds: (after.0 - before.0).as_secs_f64(),
        server_kernel_share: kernel_share(ticks_before, ticks_after),
        load_cpu_seconds: (after.1 - before.1).as_secs_f64(),
        p50_us: at(0.5),
        p99_us: at(0.99),
        max_us: at(1.0),
    };
    println!("{}", serde_json::to_string(&seen)?);
    Ok(())
}

struct Load {
    connections: Connections,
    batches: Vec<Batch>,
    batch: Vec<u8>,
    pipeline: usize,
    answered: u64,
    latencies_ns: Histogram<u64>,
}

/// The batch that a connection has sent.
#[derive(Clone)]
struct Batch {
    sent_at: Instant,
    /// Answers that are still to come.
    missing: usize,
}

impl Load {
    fn connect(options: &Options) -> Result<Self> {
        let &Options {
            address,
            connections: count,
            pipeline,
            ..
        } = options;
        ensure!(pipeline > 0, "nothing to send");
        let connections = Connections::open(address, count)?;
        let request = match options.task {
            Some(task) => task.request(address),
            None => connections.request("/"),
        };
        let idle = Batch {
            sent_at: Instant::now(),
            missing: 0,
        };
        Ok(Self {
            batches: vec![idle; count],
            batch: request.repeat(pipeline),
            connections,
            pipeline,
            answered: 0,
            latencies_ns: latencies()?,
        })
    }

    /// Sends the first batch on every connection.
    fn start(&mut self) -> Result<()> {
        let now = Instant::now();
        (0..self.batches.len()).try_for_each(|place| self.send(place, now))
    }

    fn send(&mut self, place: usize, now: Instant) -> Result<()> {
        self.batches[place] = Batch {
            sent_at: now,
            missing: self.pipeline,
        };
        self.connections.send(place, &self.batch)
    }

    /// Forgets what was counted so far; the connections go on.
    fn forget(&mut self) {
        self.answered = 0;
        self.latencies_ns.reset();
    }

    /// Answers each answered batch by the next one, for so long.
    fn run(&mut self, duration: Duration) -> Result<Duration> {
        let started = Instant::now();
        loop {
            let events = self.connections.wait(SILENCE)?;
            if events == 0 {
                bail!("no answer for {SILENCE:?}");
            }
            for event in 0..events {
                let Some((place, answers)) = self.connections.answers(event)? else {
                    continue;
                };
                let now = Instant::now();
                let batch = &mut self.batches[place];
                let waited = now.saturating_duration_since(batch.sent_at);
                self.latencies_ns
                    .saturating_record_n(waited.as_nanos() as u64, answers as u64);
                self.answered += answers as u64;
                let Some(missing) = batch.missing.checked_sub(answers) else {
                    bail!("more answers than requests");
                };
                batch.missing = missing;
                if missing == 0 {
                    self.send(place, now)?;
                }
            }
            let elapsed = started.elapsed();
            if elapsed >= duration {
                return Ok(elapsed);
            }
        }
    }
}

/// Room for latencies up to a minute, to three digits.
fn latencies() -> Result<Histogram<u64>> {
    Ok(Histogram::new_with_bounds(1, 60_000_000_000, 3)?)
}
