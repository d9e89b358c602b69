//! What retries within a budget, hedging and ejection buy, and what they cost: in simulated worlds, where a minute takes no
//! time and each run gives the same figures. And how long a real server's end keeps a caller.

use std::{
    sync::{
        Arc, Mutex,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use clap::Args;
use maniple::{
    group::{self, Hedger},
    sim::{self, World},
};
use maniple_parts::{
    endpoints::{CallError, Ejection, Endpoints, Want},
    resilience::{Retry, RetryBudget},
};
use maniple_server::{Client, Request, Router, Server};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// Calls for each figure.
    #[arg(long, value_name = "N", default_value_t = 20_000)]
    #[arg(value_parser = clap::value_parser!(u32).range(1000..))]
    calls: u32,
    /// How often a real server is ended under its callers.
    #[arg(long, value_name = "N", default_value_t = 20)]
    ends: u32,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    println!(
        "Calls that arrive for each that is made, where each layer of callers tries three times\n"
    );
    println!("| servers that fail | layers | without a budget | budget of 20 % | and ejection |");
    println!("|---|---|---|---|---|");
    for (name, failing) in [("one of three", 1), ("all", 3)] {
        for layers in 1..=3 {
            let load = |budget, ejects| simulated(move |_| storm(failing, layers, budget, ejects));
            let (without, within) = (load(false, false)?, load(true, false)?);
            let ejecting = load(true, true)?;
            println!("| {name} | {layers} | {without:.2} | {within:.2} | {ejecting:.2} |");
        }
    }
    println!("\nA second attempt where the first is slow\n");
    println!("| answers | hedging | p50 | p99 | calls | work |");
    println!("|---|---|---|---|---|---|");
    for (name, times) in [
        ("exponential, mean 60 ms", Times::Exponential),
        ("8 to 12 ms, but 5 % take 300 ms", Times::Stragglers),
    ] {
        for (how, hedging) in HEDGINGS {
            let calls = options.calls;
            let seen = simulated(move |world| hedged(world, calls, times, hedging))?;
            let Seen {
                p50,
                p99,
                calls,
                work,
            } = seen;
            println!(
                "| {name} | {how} | {p50:.0} ms | {p99:.0} ms | {calls:+.1} % | {work:+.1} % |"
            );
        }
    }
    println!(
        "\nFirst call that meets a server's end, until another has answered it, over loopback\n"
    );
    let mut took = maniple::run(|| {
        (0..options.ends)
            .map(|_| failover())
            .collect::<Result<Vec<Duration>>>()
    })?;
    took.sort_unstable();
    let millis = |time: Duration| time.as_secs_f64() * 1000.0;
    let (median, longest) = (took[took.len() / 2], took[took.len() - 1]);
    println!(
        "median {:.2} ms, longest {:.2} ms, of {}",
        millis(median),
        millis(longest),
        took.len()
    );
    Ok(())
}

/// What a scenario comes to in a world of its own.
fn simulated<T: Send + 'static>(
    scenario: impl Fn(&World) -> T + Send + Sync + 'static,
) -> Result<T> {
    let result = Arc::new(Mutex::new(None));
    let place = result.clone();
    sim::check([1], move |world| {
        let value = scenario(world);
        *place.lock().expect("nobody panics under it") = Some(value);
    });
    let mut result = result.lock().expect("nobody panics under it");
    result.take().context("the scenario has run")
}

const SERVERS: [&str; 3] = ["a:1", "b:1", "c:1"];

/// How many calls come to the servers for each that is made at the top.
fn storm(failing: usize, layers: u32, has_budget: bool, ejects: bool) -> f64 {
    const CALLS: u32 = 3000;
    let arrived = AtomicU64::new(0);
    let builder = Endpoints::builder("servers").seed(1);
    let builder = match ejects {
        true => builder.ejection(Ejection::new()),
        false => builder.without_ejection(),
    };
    let servers = builder.build(SERVERS).expect("three servers");
    let retries: Vec<Retry> = (0..layers)
        .map(|_| {
            let retry = Retry::new().backoff(Duration::ZERO..=Duration::ZERO);
            match has_budget {
                true => retry.budget(&RetryBudget::with(20, 0, 100)),
                false => retry,
            }
        })
        .collect();
    let call = || {
        // A caller that knows nothing of servers: any may get it again.
        servers.call(|picked| {
            arrived.fetch_add(1, Relaxed);
            maniple::sleep(Duration::from_millis(1));
            match SERVERS[..failing].contains(&picked.address()) {
                true => Err(()),
                false => Ok(()),
            }
        })
    };
    for _ in 0..CALLS {
        let _served = layered(&retries, &call);
    }
    arrived.into_inner() as f64 / f64::from(CALLS)
}

fn layered(
    retries: &[Retry],
    call: &dyn Fn() -> Result<(), CallError<()>>,
) -> Result<(), CallError<()>> {
    match retries {
        [] => call(),
        [outer, inner @ ..] => outer.run(|_| true, |_| layered(inner, call)),
    }
}

#[derive(Clone, Copy, Debug)]
enum Times {
    Exponential,
    Stragglers,
}

#[derive(Clone, Copy, Debug)]
enum Hedging {
    None,
    /// After this percentile, for so many of a hundred calls.
    At(usize, u32),
    /// And a third attempt after this percentile of the second.
    Twice(usize),
}

const HEDGINGS: [(&str, Hedging); 4] = [
    ("none", Hedging::None),
    ("at p90, of at most 10 %", Hedging::At(90, 10)),
    ("at p50, of at most 100 %", Hedging::At(50, 100)),
    ("at p50, and again at p50 of that", Hedging::Twice(50)),
];

#[derive(Clone, Copy, Debug)]
struct Seen {
    p50: f64,
    p99: f64,
    /// More than without, in hundredths.
    calls: f64,
    work: f64,
}

/// Callers that are eight at a time, one call after the other.
fn hedged(world: &World, calls: u32, times: Times, hedging: Hedging) -> Seen {
    let (made, worked) = (AtomicU64::new(0), AtomicU64::new(0));
    let (percent, most) = match hedging {
        Hedging::None => (90, 0),
        Hedging::At(percent, most) => (percent, most),
        Hedging::Twice(percent) => (percent, 100),
    };
    let [hedger, again] = [(); 2].map(|()| {
        let hedger = Hedger::new(Duration::from_millis(100)).percentile(percent);
        hedger.at_most(most, Duration::from_secs(10))
    });
    let mut took = group::map(8, 0..calls, |_| {
        let begun = maniple::time::now();
        let attempt = |_| {
            made.fetch_add(1, Relaxed);
            let _work = Working(&worked, maniple::time::now());
            maniple::sleep(drawn(world, times));
            Ok::<_, ()>(())
        };
        let answered = match hedging {
            Hedging::None => attempt(0),
            Hedging::At(..) => hedger.run(attempt),
            Hedging::Twice(_) => hedger.run(|number| match number {
                0 => attempt(0),
                _ => again.run(attempt),
            }),
        };
        answered.expect("no attempt fails");
        maniple::time::now() - begun
    });
    took.sort_unstable();
    let at = |percent: usize| took[took.len() * percent / 100].as_secs_f64() * 1000.0;
    let mean = match times {
        Times::Exponential => 60.0,
        Times::Stragglers => 0.95 * 10.0 + 0.05 * 300.0,
    };
    let worked = worked.into_inner() as f64 / 1000.0 / f64::from(calls);
    Seen {
        p50: at(50),
        p99: at(99),
        calls: (made.into_inner() as f64 / f64::from(calls) - 1.0) * 100.0,
        work: (worked / mean - 1.0) * 100.0,
    }
}

/// Counts the microseconds that a server is busy, until its caller has gone.
struct Working<'a>(&'a AtomicU64, Instant);

impl Drop for Working<'_> {
    fn drop(&mut self) {
        let worked = maniple::time::now() - self.1;
        self.0.fetch_add(worked.as_micros() as u64, Relaxed);
    }
}

fn drawn(world: &World, times: Times) -> Duration {
    let share = (world.draw(0..1 << 32) as f64 + 0.5) / (1_u64 << 32) as f64;
    Duration::from_secs_f64(match times {
        Times::Exponential => -0.060 * share.ln(),
        Times::Stragglers if share < 0.05 => 0.300,
        Times::Stragglers => 0.008 + 0.004 * (share - 0.05) / 0.95,
    })
}

/// Ends one of two servers, and tells how long the first call takes that has to go to the other.
fn failover() -> Result<Duration> {
    let serve = || {
        let router = Router::new().get("/", |_: &mut Request| "ok");
        let server = Server::builder(router).drain_grace(Duration::ZERO);
        server.bind("127.0.0.1:0")
    };
    let servers = [serve()?, serve()?];
    let addresses = [servers[0].local_addr(), servers[1].local_addr()];
    let ends = servers[0].handle();
    let others = servers[1].handle();
    let serving = servers.map(|server| maniple::spawn(move || server.serve()));
    let client = Client::new();
    let endpoints = Endpoints::builder("real").build(addresses)?;
    let retry = Retry::new().backoff(Duration::ZERO..=Duration::ZERO);
    let call = |want: &Want| {
        retry.run(
            |_| true,
            |_| {
                endpoints.call_as(want, |picked| {
                    client.get(&format!("http://{}/", picked.address()))?.text()
                })
            },
        )
    };
    for _ in 0..100 {
        call(&Want::new()).context("both are there")?;
    }
    ends.drain();
    let took = loop {
        let (want, begun) = (Want::new(), Instant::now());
        let answer = call(&want).context("one is there")?;
        ensure!(answer == "ok", "another answer");
        if want.attempts() > 1 {
            break begun.elapsed();
        }
    };
    others.drain();
    for each in serving {
        each.join()??;
    }
    Ok(took)
}
