//! A model as a process group of its own, and the backends that it asks.

use std::{
    io::{BufRead, BufReader, Read},
    net::SocketAddr,
    os::unix::process::{CommandExt, ExitStatusExt},
    process::{self, Command, Stdio},
    sync::{Arc, Mutex, PoisonError, mpsc},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use clap::Args;
use maniple_models::{Model, Service, Site, backends, find, work::backend::COUNT};
use rustix::process::{Pid, Signal, WaitOptions};

use crate::process::{Child, Core, raise_descriptor_limit, settle};

/// The model of one load, to be run in this process until it is killed.
#[derive(Args, Debug)]
pub(crate) struct Options {
    model: String,
    #[arg(long, value_delimiter = ',')]
    backends: Vec<SocketAddr>,
}

/// A running model; killed, with all processes of its group, when dropped.
#[derive(Debug)]
pub(super) struct Server {
    leader: process::Child,
    pub(super) address: SocketAddr,
    /// From the start of the process to the line that says where it listens.
    pub(super) start_up: Duration,
    /// The end of what it wrote to stderr.
    words: Arc<Mutex<String>>,
}

impl Server {
    /// Starts a model, and waits until it listens.
    pub(super) fn start(model: &Model, backends: &str) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        let mut command = Command::new(program);
        command
            .args(["model-serve", model.name, "--backends", backends])
            .process_group(0)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let started = Instant::now();
        let mut leader = command.spawn().context("starting a process")?;
        let words = Arc::default();
        if let Some(stderr) = leader.stderr.take() {
            let words = Arc::clone(&words);
            thread::spawn(move || keep_last_words(stderr, &words));
        }
        let stdout = leader.stdout.take().context("its output is taken")?;
        let mut server = Self {
            leader,
            address: SocketAddr::from(([0; 4], 0)),
            start_up: Duration::ZERO,
            words,
        };
        let (tell, told) = mpsc::channel();
        thread::spawn(move || {
            let mut lines = BufReader::new(stdout).lines().map_while(Result::ok);
            if let Some(line) = lines.next() {
                // Nobody waits any more if that took too long.
                let _ = tell.send((line, Instant::now()));
            }
            // A model that prints more must not wait for a reader.
            lines.for_each(drop);
        });
        let (line, at) = match told.recv_timeout(START_PATIENCE) {
            Ok(told) => told,
            Err(mpsc::RecvTimeoutError::Timeout) => {
                bail!("does not listen within {START_PATIENCE:?}")
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                let status = server.leader.wait()?;
                return Err(anyhow!("{}", server.why(status)));
            }
        };
        let address = line.strip_prefix("listening on ");
        server.address = address
            .and_then(|address| address.parse().ok())
            .with_context(|| format!("says {line:?} in place of where it listens"))?;
        server.start_up = at - started;
        Ok(server)
    }

    /// The id of its process group.
    pub(super) fn group(&self) -> u32 {
        self.leader.id()
    }

    /// Why it ended, if its first process has.
    pub(super) fn ended(&mut self) -> Option<String> {
        let status = self.leader.try_wait().ok().flatten()?;
        Some(self.why(status))
    }

    fn why(&self, status: process::ExitStatus) -> String {
        let words = self.words.lock().unwrap_or_else(PoisonError::into_inner);
        let words = words.lines().map(str::trim).rfind(|line| !line.is_empty());
        let how = match (status.signal(), status.code()) {
            (Some(signal), _) => format!("killed by signal {signal}"),
            (None, Some(code)) => format!("exited with {code}"),
            (None, None) => "ended".to_owned(),
        };
        match words {
            Some(words) => format!("{how}: {}", words.trim_start_matches("maniple-bench: ")),
            None => how,
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let Some(group) = i32::try_from(self.group()).ok().and_then(Pid::from_raw) else {
            return;
        };
        // It may have ended by itself.
        let _ = rustix::process::kill_process_group(group, Signal::KILL);
        // Its children become this process's when it ends, so that the next model has the machine for itself.
        while rustix::process::waitpgid(group, WaitOptions::empty()).is_ok() {}
    }
}

/// Reads to the end, so that a model that complains much is not held up, and keeps the last kilobytes.
fn keep_last_words(stderr: impl Read, words: &Mutex<String>) {
    let lines = BufReader::new(stderr).lines().map_while(Result::ok);
    for line in lines {
        let mut words = words.lock().unwrap_or_else(PoisonError::into_inner);
        if words.len() > LAST_WORDS {
            words.clear();
        }
        words.push_str(&line);
        words.push('\n');
    }
}

/// Has orphans of models become children of this process, which waits for their end.
pub(super) fn adopt_orphans() -> Result<()> {
    rustix::process::set_child_subreaper(Some(rustix::process::getpid()))
        .context("adopting the models' orphans")
}

/// Lets the load, and the backends, run before the models where the machine permits it: who measures must not wait
/// for those whom it measures.
pub(super) fn go_first() {
    // Without the right to it the load still runs, only later.
    let _ = rustix::process::setpriority_process(None, HIGHER_PRIORITY);
}

/// Backends for one model, which end when dropped; and their addresses.
pub(super) fn start_backends() -> Result<(Child, String)> {
    let mut child = Child::start(["model-backends"]).context("the backends")?;
    let line = child.line(START_PATIENCE).context("the backends")?;
    let addresses = line.strip_prefix("backends ");
    let addresses = addresses.context("the backends do not say where they are")?;
    Ok((child, addresses.to_owned()))
}

/// The child that is the backends.
pub(crate) fn run_backends() -> Result<()> {
    settle(Core::Any)?;
    raise_descriptor_limit(0)?;
    backends::serve([SocketAddr::from(([127, 0, 0, 1], 0)); COUNT])?;
    Ok(())
}

/// The child that is a model.
pub(crate) fn run(options: &Options) -> Result<()> {
    settle(Core::Any)?;
    // Lower than its parent may always go.
    let _ = rustix::process::setpriority_process(None, 0);
    raise_descriptor_limit(0)?;
    let model = find(&options.model).context("there is no such model")?;
    let backends = options.backends[..].try_into();
    let site = Site {
        listen: SocketAddr::from(([127, 0, 0, 1], 0)),
        backends: backends.ok().context("there are three backends")?,
        workers: match model.service {
            Service::Chat(_) => CHAT_WORKERS,
            Service::Http | Service::HttpOfItsOwn => WORKERS,
        },
        cores: thread::available_parallelism().map_or(1, usize::from),
    };
    (model.serve)(&site)?;
    bail!("it stopped serving")
}

/// As `model` has it unless told otherwise.
pub(super) const WORKERS: usize = 64;
/// A member of a room stays, and may hold two.
const CHAT_WORKERS: usize = 256;
const START_PATIENCE: Duration = Duration::from_secs(10);
const HIGHER_PRIORITY: i32 = -5;
const LAST_WORDS: usize = 4096;
