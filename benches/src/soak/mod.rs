//! A server under clients that do all that clients do wrong, for as long as one likes, and a verdict.
//!
//! Each client's conversation must end in one of the ways that its kind allows. Beside that the server's memory must not grow,
//! and when the clients are gone it must have no connection, no handler and no coroutine left. On request it speaks TLS, with
//! another certificate again and again, and is two processes that a supervisor replaces again and again.

mod certificates;
mod client;
mod faults;
pub(crate) mod server;

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::{Mutex, MutexGuard},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use fastrand::Rng;
use maniple::{Runtime, sync::mpsc};
use rustix::process::{Pid, Signal, kill_process};

use self::{
    certificates::Certificates,
    client::Site,
    faults::Fault,
    server::{Ended, FILE, HUGE, Word},
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
    /// Over TLS; the server's certificate is another one every few seconds.
    #[arg(long)]
    tls: bool,
    /// A supervisor with two processes, which are replaced again and again in the first half of the time.
    #[arg(long)]
    restarts: bool,
}

/// Growth that is no leak: stacks, buffers and lists have reached their sizes for so many clients only after a while.
const SLACK_BYTES: u64 = 8 << 20;
const SLACK_SHARE: f64 = 0.1;

/// How long it may take until a server is ready, or has ended: more than its own patience.
const PATIENCE: Duration = Duration::from_secs(150);

/// What is done again and again is done so often, or eight times if that is more seldom.
const PERIOD: Duration = Duration::from_secs(20);

pub(crate) fn run(options: &Options) -> Result<()> {
    raise_descriptor_limit(4096)?;
    let seed = options.seed.unwrap_or_else(|| fastrand::u64(..));
    println!(
        "soak of {} s with {} clients{}{}, --seed {seed}",
        options.seconds,
        options.clients,
        if options.tls { " --tls" } else { "" },
        if options.restarts { " --restarts" } else { "" },
    );
    let folder = Folder::new()?;
    let certificates = match options.tls {
        true => Some(Certificates::new(&folder.0)?),
        false => None,
    };
    let mut child = start(options, &folder.0)?;
    let Word::Ready { address, .. } = word(&mut child)? else {
        bail!("the server ended at once");
    };
    let soak = Soak {
        options,
        seed,
        site: Site::new(address.parse()?, certificates.as_ref())?,
        server: child.id(),
        until: Instant::now() + Duration::from_secs_f64(options.seconds),
        tally: Tally::default(),
    };
    let (resident, words) = std::thread::scope(|scope| {
        let clients = scope.spawn(|| soak.converse());
        let words = scope.spawn(|| listen(&mut child));
        let watching = scope.spawn(|| soak.watch());
        let disturbed = soak.disturb(certificates.as_ref());
        let conversed = clients.join();
        let resident = watching.join();
        // Whatever went wrong, so that it says no more.
        let told = soak.signal(Signal::TERM);
        let until = Instant::now() + PATIENCE;
        while !words.is_finished() && Instant::now() < until {
            maniple::sleep(Duration::from_millis(50));
        }
        if !words.is_finished() {
            soak.signal(Signal::KILL)?;
        }
        let words = words.join();
        disturbed?;
        told?;
        let panicked = |_| anyhow!("a thread of the soak panicked");
        conversed.map_err(panicked)??;
        anyhow::Ok((resident.map_err(panicked)??, words.map_err(panicked)??))
    })?;
    let complaints = soak.judge(&resident, &words);
    if complaints.is_empty() {
        println!("verdict: sound");
        return Ok(());
    }
    for complaint in &complaints {
        println!("complaint: {complaint}");
    }
    bail!("not sound: {} complaints, --seed {seed}", complaints.len())
}

/// What the server serves, and its certificate; removed at the end.
struct Folder(PathBuf);

impl Folder {
    fn new() -> Result<Self> {
        let path = std::env::temp_dir().join(format!("maniple-soak-{}", std::process::id()));
        std::fs::create_dir_all(&path)?;
        let folder = Self(path);
        for (name, length) in [("file", FILE), ("huge", HUGE)] {
            std::fs::File::create(folder.0.join(name))?.set_len(length)?;
        }
        Ok(folder)
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn start(options: &Options, folder: &Path) -> Result<Child> {
    let mut arguments = vec![
        "serve-soak".into(),
        "--folder".into(),
        folder.as_os_str().to_owned(),
    ];
    arguments.extend(options.tls.then(|| "--tls".into()));
    arguments.extend(options.restarts.then(|| "--supervised".into()));
    Child::start(arguments)
}

/// The next word of one of the server's processes.
fn word(child: &mut Child) -> Result<Word> {
    let line = child.line(PATIENCE)?;
    serde_json::from_str(&line).with_context(|| format!("what a server says: {line}"))
}

/// What the server's processes say until the last has ended.
fn listen(child: &mut Child) -> Result<Vec<Word>> {
    let mut words = Vec::new();
    while let Some(line) = child.line_or_end()? {
        words.push(serde_json::from_str(&line).with_context(|| format!("in: {line}"))?);
    }
    Ok(words)
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

/// What all threads of a soak know.
struct Soak<'a> {
    options: &'a Options,
    seed: u64,
    site: Site,
    server: u32,
    until: Instant,
    tally: Tally,
}

impl Soak<'_> {
    /// All clients, each of which has one conversation after the other.
    fn converse(&self) -> Result<()> {
        let runtime = Runtime::builder().workers(1).build()?;
        let (notes, noted) = mpsc::channel();
        for client in 0..u64::from(self.options.clients) {
            let (notes, site, until) = (notes.clone(), self.site.clone(), self.until);
            let mut random = Rng::with_seed(self.seed.wrapping_add(client));
            runtime.spawn(move || {
                while Instant::now() < until {
                    let fault = Fault::any(&mut random, &site);
                    let ended = fault.converse(&site, &mut random);
                    if notes.send((fault, ended)).is_err() {
                        return;
                    }
                }
            });
        }
        drop(notes);
        // Until the last one has ended.
        while let Ok((fault, ended)) = noted.recv() {
            self.tally.note(fault, ended);
        }
        Ok(())
    }

    /// Resident bytes of the server's processes, again and again. From the second half of the time alone if they are
    /// replaced in the first.
    fn watch(&self) -> Result<Vec<u64>> {
        let whole = Duration::from_secs_f64(self.options.seconds);
        let from = match self.options.restarts {
            true => self.until - whole / 2,
            false => self.until - whole,
        };
        let mut resident = Vec::new();
        while Instant::now() < self.until {
            maniple::sleep(Duration::from_millis(250));
            let memory = match Memory::of(&processes(self.server)) {
                Ok(memory) => memory.resident,
                // One has ended in between.
                Err(_) if self.options.restarts && is_there(self.server) => continue,
                Err(error) => return Err(error.context("the server has ended")),
            };
            if Instant::now() > from {
                resident.push(memory);
            }
            progress(&format!(
                "{} conversations, {} MiB",
                self.tally.conversations(),
                memory >> 20
            ));
        }
        progress("");
        Ok(resident)
    }

    /// Gives the server other certificates, and replaces its processes, until the time is over.
    fn disturb(&self, certificates: Option<&Certificates>) -> Result<()> {
        let whole = Duration::from_secs_f64(self.options.seconds);
        let period = PERIOD.min(whole / 8);
        let half = self.until - whole / 2;
        loop {
            let now = Instant::now();
            if now >= self.until {
                return Ok(());
            }
            maniple::sleep(period.min(self.until - now));
            if let Some(certificates) = certificates {
                certificates.exchange()?;
            }
            if self.options.restarts && Instant::now() < half {
                self.signal(Signal::HUP)?;
            }
        }
    }

    fn signal(&self, signal: Signal) -> Result<()> {
        let pid = i32::try_from(self.server).ok().and_then(Pid::from_raw);
        kill_process(pid.context("no process")?, signal).context("the server is gone")
    }

    /// What is wrong with all that was seen.
    fn judge(&self, resident: &[u64], words: &[Word]) -> Vec<String> {
        for ((fault, how), count) in locked(&self.tally.ended).iter() {
            println!("{count:>8}  {fault:?}: {how}");
        }
        let mut complaints = locked(&self.tally.complaints).clone();
        let conversations = self.tally.conversations();
        if conversations == 0 {
            complaints.push("nobody was answered".to_owned());
        }
        complaints.extend(growth(resident));
        let generation = |word: &Word| match word {
            Word::Ready { generation, .. } => *generation,
            Word::Ended(_) => 0,
        };
        let generations = words.iter().map(generation).max().unwrap_or(0).max(1);
        let ended = words.iter().filter_map(|word| match word {
            Word::Ended(ended) => Some(ended),
            Word::Ready { .. } => None,
        });
        let ended: Vec<&Ended> = ended.collect();
        let handled: u64 = ended.iter().map(|ended| ended.handled).sum();
        let done: u64 = ended.iter().map(|ended| ended.handshakes.0).sum();
        let failed: u64 = ended.iter().map(|ended| ended.handshakes.1).sum();
        println!(
            "{conversations} conversations, {handled} requests, {done} handshakes ({failed} failed)"
        );
        println!("{generations} generations, {} processes ended", ended.len());
        let processes = if self.options.restarts {
            2 * generations
        } else {
            1
        };
        if ended.len() as u64 != processes {
            complaints.push(format!(
                "{} of {processes} processes ended in order",
                ended.len()
            ));
        }
        if self.options.restarts && generations < 2 {
            complaints.push("no process was replaced".to_owned());
        }
        for ended in ended {
            let is_idle = ended.figures.is_none_or(|figures| figures.is_idle());
            if !is_idle || !ended.is_clean || !ended.left.is_empty() {
                complaints.push(format!(
                    "the clients are gone, and a process ended so: {ended:?}"
                ));
            }
        }
        if let Some(seen) = self.site.certificates_seen() {
            println!("{seen} certificates seen");
            if seen < 2 {
                complaints.push("clients saw one certificate alone".to_owned());
            }
        }
        complaints
    }
}

/// A process and those that it has started.
fn processes(parent: u32) -> Vec<u32> {
    let children = std::fs::read_dir(format!("/proc/{parent}/task"))
        .into_iter()
        .flatten();
    let children = children
        .flatten()
        .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
    let children: Vec<String> = children.collect();
    let children = children.iter().flat_map(|line| line.split_whitespace());
    std::iter::once(parent)
        .chain(children.filter_map(|pid| pid.parse().ok()))
        .collect()
}

fn is_there(process: u32) -> bool {
    Path::new(&format!("/proc/{process}")).exists()
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
