//! A million coroutines at once: each on its own guarded stack, each waiting, none using the CPU.
//!
//! Try it: `cargo run --release --bin million`. It needs about 5 GB of memory; `--count` takes fewer.

use std::fs;
use std::io;
use std::process::ExitCode;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use anyhow::Context as _;
use clap::Parser;
use maniple::sync::channel;

/// Parks many coroutines, shows what they cost, and lets them all end.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// How many
    #[arg(long, value_name = "N", default_value_t = 1_000_000,
          value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    count: u32,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("million: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<()> {
    let count = cli.count as usize;
    let mut runtime = maniple::Runtime::builder().max_coroutines(count + 1);
    if let Some(workers) = cli.workers {
        runtime = runtime.workers(workers.into());
    }
    runtime.build()?.run(|| park_and_release(count))
}

fn park_and_release(count: usize) -> anyhow::Result<()> {
    show("before", Instant::now())?;
    let started = Instant::now();
    let (gate, waiting_at_gate) = channel::bounded::<()>(1);
    let (all_here, wait_for_all) = channel::bounded(1);
    let here = AtomicUsize::new(0);

    let released = maniple::group(|g| -> anyhow::Result<Instant> {
        for n in 0..count {
            let wait = || {
                // Relaxed: the count orders nothing, the channel does.
                if here.fetch_add(1, Ordering::Relaxed) + 1 == count {
                    let _ = all_here.send(());
                }
                // Nothing is ever sent: the wait ends when the gate is dropped.
                let _ = waiting_at_gate.recv();
            };
            drop(
                g.builder()
                    .spawn(wait)
                    .with_context(|| format!("spawn coroutine {}", n + 1))?,
            );
        }
        wait_for_all.recv()?;
        show(&format!("{count} parked"), started)?;
        drop(gate);
        Ok(Instant::now())
    })?;
    show("all ended", released)
}

/// One line: what the process holds, by the kernel's own account.
fn show(what: &str, since: Instant) -> anyhow::Result<()> {
    let status = fs::read_to_string("/proc/self/status").context("read /proc/self/status")?;
    let mib = |key: &str| -> io::Result<f64> {
        let line = status
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'));
        let kib = line.and_then(|rest| rest.trim().trim_end_matches(" kB").parse::<f64>().ok());
        kib.map(|kib| kib / 1024.0)
            .ok_or_else(|| io::Error::other(format!("no {key} in status")))
    };
    let mappings = fs::read_to_string("/proc/self/maps").context("read /proc/self/maps")?;
    println!(
        "{what:>20}: {:6.2} s, {:7.1} MiB resident, {:6.1} MiB page tables, {} mappings",
        since.elapsed().as_secs_f64(),
        mib("VmRSS")?,
        mib("VmPTE")?,
        mappings.lines().count(),
    );
    Ok(())
}
