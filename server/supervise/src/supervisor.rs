//! The supervisor at work: it carries out what the plan says, and tells the plan what happens.
//!
//! One coroutine owns all of it and takes one event after the other. Others wait for what happens: for signals, for what
//! each worker says, for those who ask by the control socket.

use std::{
    collections::BTreeMap,
    env,
    ffi::OsString,
    fs, io,
    os::unix::net,
    path::PathBuf,
    process::{Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle, Runtime,
    signal::{self, SIGCHLD, SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2, Signals, signals},
    sync::{
        channel::{self, Receiver, Sender},
        oneshot,
    },
    task,
    time::coarse_now,
};
use rustix::process::{Pid, Signal, WaitOptions, WaitStatus, kill_process};

use crate::{
    ctl::{Answer, Request, serve},
    link::Link,
    message::{BADGE, Badge, Word, end_line},
    notify,
    plan::{Action, How, Id, Phase, Plan, State, Terms},
    sockets::{Named, bind_file},
    worker::tell_systemd,
};

/// What a supervisor is to do.
#[derive(Debug)]
pub(crate) struct Settings {
    pub(crate) sockets: Vec<Named>,
    pub(crate) control: Option<PathBuf>,
    pub(crate) program: Program,
    pub(crate) adopts: bool,
    pub(crate) terms: Terms,
}

/// What workers run.
#[derive(Debug)]
pub(crate) struct Program {
    path: PathBuf,
    arguments: Vec<OsString>,
}

impl Program {
    /// By the path that was asked for, or that this process was started with.
    pub(crate) fn find(wanted: Option<PathBuf>) -> io::Result<Self> {
        let mut arguments = env::args_os();
        let first = arguments.next().map(PathBuf::from);
        let path = match (wanted, first) {
            (Some(path), _) => std::path::absolute(path)?,
            // Not followed if it is a symbolic link: it may lead elsewhere at the next start.
            (None, Some(path)) if path.components().count() > 1 => std::path::absolute(path)?,
            _ => env::current_exe()?,
        };
        Ok(Self {
            path,
            arguments: arguments.collect(),
        })
    }
}

/// What happens.
#[derive(Debug)]
pub(crate) enum Event {
    Signal(signal::Signal),
    Said(Id, Word),
    Asked(Request, oneshot::Sender<Answer>),
}

/// A process that has been started and has not ended.
#[derive(Debug)]
struct Running {
    pid: Pid,
    link: Arc<Link>,
    listening: JoinHandle<()>,
}

struct Owner {
    settings: Settings,
    plan: Plan,
    running: BTreeMap<Id, Running>,
    events: Receiver<Event>,
    happened: Sender<Event>,
    /// Who waits for a reload, and for the end of which generation's.
    waiting: Vec<(u64, oneshot::Sender<Answer>)>,
    /// How often systemd is told that this runs, and when next.
    watchdog: Option<(Duration, Instant)>,
}

/// Words and signals that may wait for the owner.
const EVENTS: usize = 1024;

/// Runs the service until it has ended.
pub(crate) fn run(mut settings: Settings) -> io::Result<()> {
    let files = settings.sockets.iter();
    let mut files: Vec<PathBuf> = files.filter_map(|named| named.file.clone()).collect();
    let ran = (|| {
        let control = match settings.control.take() {
            Some(path) => {
                let at = |error: io::Error| {
                    io::Error::new(error.kind(), format!("bind {}: {error}", path.display()))
                };
                let listener = bind_file(&path).map_err(at)?;
                files.push(path);
                Some(listener)
            }
            None => None,
        };
        // One worker: this process waits, most of its life.
        let runtime = Runtime::builder().workers(1).build()?;
        runtime.run(|| supervise(settings, control))
    })();
    for path in files {
        let _ = fs::remove_file(path);
    }
    ran
}

fn supervise(settings: Settings, control: Option<net::UnixListener>) -> io::Result<()> {
    if settings.adopts {
        let own = rustix::process::getpid();
        rustix::process::set_child_subreaper(Some(own))?;
    }
    let (happened, events) = channel::bounded(EVENTS);
    // Before there is a child whose end could be missed.
    let wanted = [SIGCHLD, SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2];
    forward(signals(&wanted)?, happened.clone())?;
    if let Some(listener) = control {
        let happened = happened.clone();
        task::Builder::new()
            .name("supervisor control")
            .spawn(move || serve(listener, &happened))?;
    }
    let plan = Plan::new(settings.terms);
    let watchdog = notify::watchdog_interval().map(|interval| (interval, coarse_now()));
    Owner {
        settings,
        plan,
        running: BTreeMap::new(),
        events,
        happened,
        waiting: Vec::new(),
        watchdog,
    }
    .run()
}

fn forward(signals: Signals, happened: Sender<Event>) -> io::Result<()> {
    let forwarding = move || {
        while let Ok(signal) = signals.recv() {
            if happened.send(Event::Signal(signal)).is_err() {
                return;
            }
        }
    };
    let task = task::Builder::new().name("supervisor signals");
    task.spawn(forwarding).map(drop)
}

impl Owner {
    fn run(mut self) -> io::Result<()> {
        self.plan.begin(coarse_now());
        loop {
            self.plan.tick(coarse_now());
            if let Some(result) = self.act() {
                return result.map_err(io::Error::other);
            }
            self.feed_watchdog();
            let until = self.plan.next().into_iter();
            let until = until.chain(self.watchdog.map(|(_, at)| at)).min();
            let event = match until {
                Some(until) => self.events.recv_deadline(until).ok(),
                None => self.events.recv().ok(),
            };
            match event {
                Some(event) => self.happened(event),
                // It was time for something, or this coroutine is cancelled.
                None if maniple::cancel::is_cancelled() => {
                    return Err(io::Error::other("the supervisor was cancelled"));
                }
                None => {}
            }
        }
    }

    fn happened(&mut self, event: Event) {
        let now = coarse_now();
        match event {
            Event::Signal(SIGCHLD) => self.reap(),
            Event::Signal(signal @ (SIGTERM | SIGINT)) => {
                log::info!("{signal}: the service ends");
                self.plan.stop(now);
            }
            Event::Signal(SIGHUP) => {
                log::info!("SIGHUP: the workers are replaced");
                self.plan.reload(now);
            }
            Event::Signal(signal) => {
                for running in self.running.values() {
                    let signal = match signal {
                        SIGQUIT => Signal::QUIT,
                        SIGUSR1 => Signal::USR1,
                        _ => Signal::USR2,
                    };
                    let _ = kill_process(running.pid, signal);
                }
            }
            Event::Said(id, word) => {
                self.plan.heard(id, now);
                match word {
                    Word::Ready => self.plan.ready(id, now),
                    Word::Alive => {}
                    Word::Says(text) => self.plan.says(id, text),
                }
            }
            Event::Asked(Request::Status, answer) => {
                let _ = answer.send(Answer::Ok(self.status(now)));
            }
            Event::Asked(Request::Stop, answer) => {
                log::info!("the service ends, as ctl asks");
                self.plan.stop(now);
                let _ = answer.send(Answer::Ok("stopping\n".to_owned()));
            }
            Event::Asked(Request::Reload, answer) => {
                let before = self.plan.generation;
                log::info!("the workers are replaced, as ctl asks");
                self.plan.reload(now);
                // One that is under way may have begun before what this one is for.
                let wanted =
                    match self.plan.generation > before || self.plan.phase == Phase::Stopping {
                        true => self.plan.generation,
                        false => before + 1,
                    };
                self.waiting.push((wanted, answer));
            }
        }
    }

    /// Does what the plan says; the end of it all if that has come.
    fn act(&mut self) -> Option<Result<(), String>> {
        loop {
            let actions = self.plan.actions();
            if actions.is_empty() {
                return None;
            }
            for action in actions {
                match action {
                    Action::Start {
                        id,
                        slot,
                        generation,
                    } => match self.start(id, slot, generation) {
                        Ok(running) => {
                            let pid = running.pid.as_raw_nonzero();
                            log::info!("worker {slot} of generation {generation} is process {pid}");
                            self.running.insert(id, running);
                        }
                        Err(error) => {
                            let program = self.settings.program.path.display();
                            let how = format!("start {program}: {error}");
                            log::error!("worker {slot}: {how}");
                            self.plan.ended(id, &how, coarse_now());
                        }
                    },
                    Action::Tell(id, why) => {
                        if let Some(running) = self.running.get(&id)
                            && let Err(error) = running.link.say(&end_line(why))
                        {
                            // It ends by itself, or is killed when its time is over.
                            log::warn!("process {}: {error}", running.pid.as_raw_nonzero());
                        }
                    }
                    Action::Kill(id, how) => {
                        if let Some(running) = self.running.get(&id) {
                            let signal = match how {
                                How::Term => Signal::TERM,
                                How::Abort => Signal::ABORT,
                                How::Kill => Signal::KILL,
                            };
                            let pid = running.pid;
                            log::warn!("process {} is ended by {how:?}", pid.as_raw_nonzero());
                            let _ = kill_process(pid, signal);
                        }
                    }
                    Action::Serving => {
                        log::info!("{} workers are ready", self.plan.slots.len());
                        tell_systemd(notify::ready());
                        self.tell_status();
                    }
                    Action::Reloading => {
                        log::info!("generation {} begins", self.plan.generation);
                        tell_systemd(notify::reloading());
                    }
                    Action::Reloaded(result) => self.reloaded(result),
                    Action::Stopping => tell_systemd(notify::stopping()),
                    Action::Exit(result) => {
                        self.reap();
                        return Some(result);
                    }
                }
            }
        }
    }

    fn reloaded(&mut self, result: Result<(), String>) {
        let generation = self.plan.generation;
        let answer = match &result {
            Ok(()) => {
                log::info!("generation {generation} serves");
                Answer::Ok(format!("generation {generation} serves\n"))
            }
            Err(why) => {
                log::error!("the workers were not all replaced: {why}");
                Answer::Failed(format!("{why}\n"))
            }
        };
        // Also after a failure: the service is what it was.
        tell_systemd(notify::ready());
        self.tell_status();
        let waiting = std::mem::take(&mut self.waiting);
        for (wanted, sender) in waiting {
            if wanted <= generation || result.is_err() {
                let _ = sender.send(answer.clone());
            } else {
                self.waiting.push((wanted, sender));
            }
        }
    }

    fn start(&self, id: Id, slot: usize, generation: u64) -> io::Result<Running> {
        let badge = Badge {
            supervisor: std::process::id(),
            slot,
            generation,
            watchdog: u64::try_from(self.settings.terms.watchdog.as_millis()).unwrap_or(u64::MAX),
            sockets: self.settings.sockets.len(),
        };
        let (link, theirs) = Link::pair()?;
        link.hand_over(&self.settings.sockets)?;
        let program = &self.settings.program;
        let mut command = Command::new(&program.path);
        command
            .args(&program.arguments)
            .env(BADGE, badge.to_string());
        // What systemd says to this process is not for its children.
        for name in [
            "NOTIFY_SOCKET",
            "WATCHDOG_PID",
            "WATCHDOG_USEC",
            "LISTEN_PID",
            "LISTEN_FDS",
            "LISTEN_FDNAMES",
        ] {
            command.env_remove(name);
        }
        let child = command.stdin(Stdio::from(theirs)).spawn()?;
        let pid = Pid::from_child(&child);
        let link = Arc::new(link);
        let (of_worker, happened) = (link.clone(), self.happened.clone());
        let listening = move || {
            let mut lines = of_worker.lines();
            while let Ok(Some(word)) = lines.next_word() {
                if happened.send(Event::Said(id, word)).is_err() {
                    return;
                }
            }
        };
        let task = task::Builder::new().name(format!("supervisor worker {slot}"));
        match task.spawn(listening) {
            Ok(listening) => Ok(Running {
                pid,
                link,
                listening,
            }),
            Err(error) => {
                let _ = kill_process(pid, Signal::KILL);
                Err(error)
            }
        }
    }

    /// Takes what has ended out of the system's table, also what others have left behind, and tells the plan.
    fn reap(&mut self) {
        while let Ok(Some((pid, status))) = rustix::process::wait(WaitOptions::NOHANG) {
            let ended = self.running.iter().find(|(_, running)| running.pid == pid);
            let Some((&id, _)) = ended else {
                log::debug!("process {} was left behind and ended", pid.as_raw_nonzero());
                continue;
            };
            if let Some(running) = self.running.remove(&id) {
                running.listening.cancel();
            }
            let how = how_ended(status);
            self.report(id, pid, &how);
            self.plan.ended(id, &how, coarse_now());
        }
        self.tell_status();
    }

    fn report(&self, id: Id, pid: Pid, how: &str) {
        let Some(process) = self.plan.processes.get(&id) else {
            return;
        };
        let (slot, pid) = (process.slot, pid.as_raw_nonzero());
        match process.state {
            State::Ending => log::info!("worker {slot}, process {pid}, has ended: {how}"),
            _ => log::error!("worker {slot}, process {pid}, ended by itself: {how}"),
        }
    }

    fn feed_watchdog(&mut self) {
        if let Some((interval, next)) = &mut self.watchdog
            && *next <= coarse_now()
        {
            tell_systemd(notify::tell("WATCHDOG=1"));
            *next = coarse_now() + *interval;
        }
    }

    fn tell_status(&self) {
        let (ready, of) = (self.plan.ready_count(), self.plan.slots.len());
        let generation = self.plan.generation;
        let text = format!("{ready} of {of} workers are ready, generation {generation}");
        tell_systemd(notify::status(&text));
    }

    fn status(&self, now: Instant) -> String {
        let plan = &self.plan;
        let phase = match plan.phase {
            Phase::Starting => "starting",
            Phase::Serving if plan.is_reloading() => "reloading",
            Phase::Serving => "serving",
            Phase::Stopping => "stopping",
        };
        let (ready, of, own) = (plan.ready_count(), plan.slots.len(), std::process::id());
        let generation = plan.generation;
        let mut text = format!(
            "{phase}: {ready} of {of} workers ready, generation {generation}, supervisor {own}\n\
             WORKER     PID  GENERATION  STATE     SECONDS  CRASHES  SAYS\n"
        );
        let mut line = |slot: usize, pid: &str, generation: &str, state, seconds, says: &str| {
            let crashes = plan.slots[slot].crashes;
            let line = format!(
                "{slot:6}  {pid:>6}  {generation:>10}  {state:<8}  {seconds:7}  {crashes:7}  {says}"
            );
            text.push_str(line.trim_end());
            text.push('\n');
        };
        for slot in 0..plan.slots.len() {
            let here = plan
                .processes
                .iter()
                .filter(|(_, process)| process.slot == slot);
            for (id, process) in here {
                let pid = self
                    .running
                    .get(id)
                    .map_or(0, |running| running.pid.as_raw_nonzero().get());
                let state = match process.state {
                    State::Starting => "starting",
                    State::Ready => "ready",
                    State::Ending => "ending",
                };
                let seconds = now.saturating_duration_since(process.since).as_secs();
                let (pid, generation) = (pid.to_string(), process.generation.to_string());
                line(slot, &pid, &generation, state, seconds, &process.says);
            }
            if let Some(at) = plan.restarts_at(slot) {
                let seconds = at.saturating_duration_since(now).as_secs();
                line(slot, "-", "-", "waiting", seconds, "");
            }
        }
        for slot in &plan.slots {
            if let Some(last) = &slot.last_crash {
                text.push_str(&format!("last crash of {last}\n"));
            }
        }
        text
    }
}

/// As std has it.
fn how_ended(status: WaitStatus) -> String {
    match (status.exit_status(), status.terminating_signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (_, Some(signal)) => format!("killed by {}", name_of(signal)),
        _ => format!("{status:?}"),
    }
}

fn name_of(signal: i32) -> String {
    let name = match signal {
        4 => "SIGILL",
        6 => "SIGABRT",
        7 => "SIGBUS",
        8 => "SIGFPE",
        9 => "SIGKILL",
        11 => "SIGSEGV",
        13 => "SIGPIPE",
        _ => return signal::Signal::from_raw(signal).to_string(),
    };
    name.to_owned()
}
