//! One server with one count of connections, from its start to its last connection.

use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use serde::Serialize;

use super::{
    meter::{Kernel, descriptors},
    orders::{Order, PATIENCE, Report, histogram},
    plan::{Plan, server_address},
};
use crate::{
    capacity::quantity::count,
    memory::Memory,
    process::{Child, cpu_time_of},
    servers::Name,
    terminal::progress,
};

/// What is asked of the connections once they are open.
#[derive(Clone, Copy, Debug)]
pub(super) struct Phases {
    pub(super) hold: Duration,
    pub(super) requests: u64,
    pub(super) per_second: f64,
}

/// What a server that survived has shown.
#[derive(Clone, Debug, Serialize)]
pub(super) struct Figures {
    pub(super) connections: usize,
    pub(super) ramp_seconds: f64,
    pub(super) drain_seconds: f64,
    /// Of all server processes, before the first connection, when idle ones had been held, after the trickle, and when
    /// all were closed.
    pub(super) memory_before: Memory,
    pub(super) memory_held: Memory,
    pub(super) memory_served: Memory,
    pub(super) memory_drained: Memory,
    /// Of the whole machine, for both ends.
    pub(super) kernel_before: Kernel,
    pub(super) kernel_held: Kernel,
    pub(super) requests: u64,
    /// Requests that were not sent since their connection still waited for an answer.
    pub(super) skipped: u64,
    pub(super) trickle_seconds: f64,
    /// Of all server processes, while they served the trickle.
    pub(super) server_cpu_seconds: f64,
    pub(super) p50_us: f64,
    pub(super) p99_us: f64,
    pub(super) p999_us: f64,
    pub(super) max_us: f64,
    pub(super) curve: Vec<Point>,
}

/// Memory on the way up, at a moment without traffic.
#[derive(Clone, Copy, Debug, Serialize)]
pub(super) struct Point {
    pub(super) connections: usize,
    pub(super) seconds: f64,
    pub(super) memory: Memory,
    pub(super) kernel: Kernel,
}

impl Figures {
    fn each(&self, now: u64, before: u64) -> f64 {
        (now as f64 - before as f64) / self.connections as f64
    }

    /// Bytes of the server's processes for an idle connection: resident, and page tables.
    pub(super) fn held(&self) -> (f64, f64) {
        let (now, before) = (&self.memory_held, &self.memory_before);
        (
            self.each(now.resident, before.resident),
            self.each(now.page_tables, before.page_tables),
        )
    }

    /// Bytes of the server's processes for a connection, right after the trickle.
    pub(super) fn served(&self) -> f64 {
        self.each(self.memory_served.sum(), self.memory_before.sum())
    }

    /// Bytes of the kernel for both ends of an idle connection.
    pub(super) fn kernel(&self) -> f64 {
        self.each(self.kernel_held.sum(), self.kernel_before.sum())
    }

    pub(super) fn cpu_us(&self) -> f64 {
        self.server_cpu_seconds * 1e6 / self.requests as f64
    }
}

pub(super) fn measure(server: Name, plan: &Plan, phases: &Phases) -> Result<Figures> {
    server.ready()?;
    settle()?;
    let mut pairs = Pairs::start(server, plan)?;
    let done = pairs.measure(plan, phases);
    done.map_err(|error| {
        // A server that has ended knows better than its client what happened.
        let ended = pairs.servers.iter_mut().find_map(Child::ended);
        ended.map_or(error, |cause| cause.context(format!("{server} ended")))
    })
}

/// Waits until the kernel has put away what an attempt before left.
fn settle() -> Result<()> {
    until(SETTLE, || Ok(Kernel::here()?.orphans == 0))?;
    Ok(())
}

/// Asks again and again, for so long at most. Whether the answer was yes.
fn until(patience: Duration, mut question: impl FnMut() -> Result<bool>) -> Result<bool> {
    let begin = Instant::now();
    while !question()? {
        if begin.elapsed() > patience {
            return Ok(false);
        }
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Ok(true)
}

struct Pairs {
    server: Name,
    servers: Vec<Child>,
    clients: Vec<Child>,
}

impl Pairs {
    fn start(server: Name, plan: &Plan) -> Result<Self> {
        let mut pairs = Self {
            server,
            servers: Vec::new(),
            clients: Vec::new(),
        };
        for process in 0..plan.processes {
            let listen = format!("--listen={}:0", server_address(process));
            let idle = format!("--idle-seconds={IDLE_SECONDS}");
            pairs.servers.push(Child::start([
                "serve".to_owned(),
                server.to_string(),
                listen,
                idle,
            ])?);
        }
        for server in &mut pairs.servers {
            let address = server.line(START_PATIENCE)?;
            pairs.clients.push(Child::start_to_tell([
                "capacity".to_owned(),
                "connections-client".to_owned(),
                format!("--server={address}"),
                format!("--sources={}", plan.sources),
                format!("--window={}", plan.window),
            ])?);
        }
        Ok(pairs)
    }

    fn measure(&mut self, plan: &Plan, phases: &Phases) -> Result<Figures> {
        let connections = plan.connections;
        let processes: Vec<u32> = self.servers.iter().map(Child::id).collect();
        // Servers have announced themselves; one request makes them set up what they do on first use.
        self.tell(plan, |_| Order::Open { until: 1 })?;
        self.tell(plan, |_| Order::Close)?;
        let open_before = self.descriptors()?;
        let (memory_before, kernel_before) = (Memory::of(&processes)?, Kernel::here()?);
        let mut curve = Vec::new();
        let begin = Instant::now();
        let mut measuring = Duration::ZERO;
        for step in 1..=STEPS {
            self.tell(plan, |share| Order::Open {
                until: share * step / STEPS,
            })?;
            let measure = Instant::now();
            let point = Point {
                connections: (0..plan.processes)
                    .map(|process| plan.share(process) * step / STEPS)
                    .sum(),
                seconds: (begin.elapsed() - measuring).as_secs_f64(),
                memory: Memory::of(&processes)?,
                kernel: Kernel::here()?,
            };
            measuring += measure.elapsed();
            self.progress(plan, &format!("{} open", count(point.connections as u64)));
            curve.push(point);
        }
        let ramp_seconds = (begin.elapsed() - measuring).as_secs_f64();
        self.progress(plan, "idle");
        let seconds = phases.hold.as_secs_f64();
        self.tell(plan, |_| Order::Hold { seconds })?;
        let (memory_held, kernel_held) = (Memory::of(&processes)?, Kernel::here()?);

        self.progress(plan, "serving");
        let cpu_before = cpu_time(&processes)?;
        let begin = Instant::now();
        let reports = self.tell(plan, |share| {
            let part = share as f64 / connections as f64;
            Order::Trickle {
                // All of a client's connections, however few requests there are for it.
                requests: ((phases.requests as f64 * part).round() as u64).max(share as u64),
                per_second: phases.per_second * part,
            }
        })?;
        let trickle_seconds = begin.elapsed().as_secs_f64();
        let server_cpu_seconds = (cpu_time(&processes)? - cpu_before).as_secs_f64();
        let memory_served = Memory::of(&processes)?;
        let (mut latencies, mut skipped) = (histogram(), 0);
        for report in &reports {
            let Report::Trickled(trickled) = report else {
                bail!("a client reported no latencies");
            };
            trickled.record(&mut latencies);
            skipped += trickled.skipped;
        }

        self.progress(plan, "draining");
        let begin = Instant::now();
        self.tell(plan, |_| Order::Close)?;
        let closed = until(PATIENCE, || Ok(self.descriptors()? <= open_before))?;
        ensure!(
            closed,
            "{} descriptors are still open {PATIENCE:?} after the last connection was closed",
            count((self.descriptors()? - open_before) as u64)
        );
        let drain_seconds = begin.elapsed().as_secs_f64();
        if let Some(cause) = self.servers.iter_mut().find_map(Child::ended) {
            return Err(cause).context("after the drain");
        }
        progress("");
        let at = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Figures {
            connections,
            ramp_seconds,
            drain_seconds,
            memory_before,
            memory_held,
            memory_served,
            memory_drained: Memory::of(&processes)?,
            kernel_before,
            kernel_held,
            requests: latencies.len(),
            skipped,
            trickle_seconds,
            server_cpu_seconds,
            p50_us: at(0.5),
            p99_us: at(0.99),
            p999_us: at(0.999),
            max_us: at(1.0),
            curve,
        })
    }

    /// Tells every client what it is to do with its share, and waits for all.
    fn tell(&mut self, plan: &Plan, order: impl Fn(usize) -> Order) -> Result<Vec<Report>> {
        let mut patience = START_PATIENCE;
        for (process, client) in self.clients.iter_mut().enumerate() {
            let share = plan.share(process);
            let order = order(share);
            patience = patience.max(time_for(&order, plan));
            client.tell(&serde_json::to_string(&order)?)?;
        }
        let mut reports = Vec::new();
        for client in &mut self.clients {
            let line = client.line(patience)?;
            reports.push(serde_json::from_str(&line).context("what a client printed")?);
        }
        Ok(reports)
    }

    /// Open in all servers together.
    fn descriptors(&self) -> Result<usize> {
        self.servers
            .iter()
            .map(|child| descriptors(child.id()))
            .sum()
    }

    fn progress(&self, plan: &Plan, what: &str) {
        progress(&format!(
            "{}: {what}, {} connections",
            self.server,
            count(plan.connections as u64)
        ));
    }
}

/// How long the clients may be silent: they give up by themselves when nothing goes on.
fn time_for(order: &Order, plan: &Plan) -> Duration {
    let seconds = match order {
        // A thousand in a second is slow.
        Order::Open { .. } | Order::Close => plan.connections as f64 / 1000.0,
        Order::Hold { seconds } => *seconds,
        Order::Trickle {
            requests,
            per_second,
        } => 2.0 * *requests as f64 / per_second,
    };
    START_PATIENCE + 2 * PATIENCE + Duration::from_secs_f64(seconds)
}

fn cpu_time(processes: &[u32]) -> Result<Duration> {
    processes.iter().map(|&process| cpu_time_of(process)).sum()
}

/// Points of the curve on the way up.
const STEPS: usize = 10;
/// Longer than any attempt: that servers close idle connections is not what is measured.
const IDLE_SECONDS: u64 = 24 * 3600;
/// How long servers and clients may take to start.
const START_PATIENCE: Duration = Duration::from_secs(20);
/// How long the kernel may take to reset what a failed attempt left behind.
const SETTLE: Duration = Duration::from_secs(60);
