//! A server under clients that do all that clients do wrong, for as long as one likes, and a verdict.
//!
//! Each client's conversation must end in one of the ways that its kind allows. Beside that the server's memory must not grow,
//! and when the clients are gone it must have no connection, no handler and no coroutine left.

mod faults;
pub(crate) mod server;

use std::{
    collections::BTreeMap,
    net::SocketAddr,
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use fastrand::Rng;
use maniple::{Runtime, sync::mpsc};

use self::{
    faults::Fault,
    server::{End, Figures},
};
use crate::{
    memory::Memory,
    process::{Child, raise_descriptor_limit},
    terminal::{progress, seconds},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    /// How long.
    #[arg(long, default_value = "600", value_parser = seconds)]
    seconds: f64,
    /// Clients at a time.
    #[arg(long, value_name = "N", default_value_t = 64)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..=1000))]
    clients: u16,
    /// What the clients do follows from it; if not given, another one each time.
    #[arg(long)]
    seed: Option<u64>,
}

/// Growth that is no leak: stacks, buffers and lists have reached their sizes for so many clients only after a while.
const SLACK_BYTES: u64 = 8 << 20;
const SLACK_SHARE: f64 = 0.1;

/// How long the server may need to find that all clients are gone: more than its longest time limit.
const PATIENCE: Duration = Duration::from_secs(30);

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(4096)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "soak of {} s with {} clients, --seed {seed}",
        options.seconds, options.clients
    );
    let mut child = Child::start_to_tell(["serve-soak"])?;
    let address: SocketAddr = child.line(PATIENCE)?.parse().context("its address")?;
    let until = Instant::now() + Duration::from_secs_f64(options.seconds);
    let tally = Tally::default();
    let resident = std::thread::scope(|scope| {
        let clients = scope.spawn(|| converse(options, seed, address, until, &tally));
        let resident = watch(child.id(), until, &tally);
        let ended = clients.join().map_err(|_| anyhow!("the clients panicked"));
        ended?.and(resident)
    })?;
    let complaints = judge(&mut child, &tally, &resident)?;
    if complaints.is_empty() {
        println!("verdict: sound");
        return Ok(());
    }
    for complaint in &complaints {
        println!("complaint: {complaint}");
    }
    bail!("not sound: {} complaints, --seed {seed}", complaints.len())
}

/// How conversations ended.
#[derive(Default)]
struct Tally {
    ended: Mutex<BTreeMap<(Fault, &'static str), u64>>,
    complaints: Mutex<Vec<String>>,
}

/// Complaints that are kept: one that comes at all comes often.
const MOST_COMPLAINTS: usize = 20;

impl Tally {
    fn note(&self, fault: Fault, ended: Result<&'static str, String>) {
        match ended {
            Ok(how) => *locked(&self.ended).entry((fault, how)).or_default() += 1,
            Err(complaint) => {
                let mut complaints = locked(&self.complaints);
                if complaints.len() < MOST_COMPLAINTS {
                    complaints.push(format!("{fault:?}: {complaint}"));
                }
            }
        }
    }

    fn conversations(&self) -> u64 {
        locked(&self.ended).values().sum()
    }
}

fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// All clients, each of which has one conversation after the other.
fn converse(
    options: &Options,
    seed: u64,
    address: SocketAddr,
    until: Instant,
    tally: &Tally,
) -> Result<()> {
    let runtime = Runtime::builder().workers(1).build()?;
    let (notes, noted) = mpsc::channel();
    for client in 0..u64::from(options.clients) {
        let notes = notes.clone();
        runtime.spawn(move || {
            let mut random = Rng::with_seed(seed.wrapping_add(client));
            while Instant::now() < until {
                let fault = Fault::any(&mut random);
                let ended = fault.converse(address, &mut random);
                if notes.send((fault, ended)).is_err() {
                    return;
                }
            }
        });
    }
    drop(notes);
    // Until the last one has ended.
    while let Ok((fault, ended)) = noted.recv() {
        tally.note(fault, ended);
    }
    Ok(())
}

/// Resident bytes of the server, again and again.
fn watch(server: u32, until: Instant, tally: &Tally) -> Result<Vec<u64>> {
    let mut resident = Vec::new();
    while Instant::now() < until {
        maniple::sleep(Duration::from_millis(250));
        let memory = Memory::of(&[server]).context("the server has ended")?;
        resident.push(memory.resident);
        progress(&format!(
            "{} conversations, {} MiB",
            tally.conversations(),
            memory.resident >> 20
        ));
    }
    progress("");
    Ok(resident)
}

/// What is wrong with all that was seen.
fn judge(child: &mut Child, tally: &Tally, resident: &[u64]) -> Result<Vec<String>> {
    for ((fault, how), count) in locked(&tally.ended).iter() {
        println!("{count:>8}  {fault:?}: {how}");
    }
    let mut complaints = locked(&tally.complaints).clone();
    if tally.conversations() == 0 {
        complaints.push("nobody was answered".to_owned());
    }
    complaints.extend(growth(resident));
    let until = Instant::now() + PATIENCE;
    let figures = loop {
        child.tell("figures")?;
        let figures: Figures = serde_json::from_str(&child.line(PATIENCE)?)?;
        if figures.is_idle() || Instant::now() > until {
            break figures;
        }
        maniple::sleep(Duration::from_millis(100));
    };
    if !figures.is_idle() {
        complaints.push(format!("the clients are gone, and there are {figures:?}"));
    }
    child.tell("drain")?;
    let end: End = serde_json::from_str(&child.line(PATIENCE)?)?;
    if !end.is_clean || !end.left.is_empty() {
        complaints.push(format!("the drain was not clean: {end:?}"));
    }
    Ok(complaints)
}

/// Whether the last quarter needed more than the second one.
fn growth(resident: &[u64]) -> Option<String> {
    let quarter = resident.len() / 4;
    let most = |part: &[u64]| part.iter().copied().max().unwrap_or(0);
    if quarter == 0 {
        return None;
    }
    let early = most(&resident[quarter..2 * quarter]);
    let late = most(&resident[3 * quarter..]);
    println!("memory: {early} bytes early, {late} late");
    let allowed = early + SLACK_BYTES + (early as f64 * SLACK_SHARE) as u64;
    (late > allowed).then(|| format!("memory grew from {early} to {late} bytes"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_grows_and_grows_is_a_complaint() {
        let steps = |step: u64| (0..40).map(|at| (50 << 20) + at * step).collect::<Vec<_>>();
        assert_eq!(growth(&steps(0)), None);
        assert!(growth(&steps(1 << 20)).is_some());
        assert_eq!(growth(&[]), None);
    }
}
