//! Settings of a supervisor, and which of the two a process is: supervisor or worker.

use std::{env, io, path::PathBuf, time::Duration};

use crate::{
    message::{BADGE, Badge},
    plan::Terms,
    sockets::{self, Wanted, check_name, invalid},
    supervisor::{self, Program, Settings},
    worker::Worker,
};

/// Settings of a service of several processes; see the [crate](crate) for what becomes of them.
///
/// # Examples
/// ```
/// use maniple_supervise::Supervisor;
/// # fn main() -> std::io::Result<()> {
/// // Without a supervisor: this process is the one that serves.
/// let worker = Supervisor::new().workers(0).listen("http", "127.0.0.1:0")?.run()?;
/// let mut worker = worker.expect("the service is here");
/// let socket = worker.take("http")?;
/// # let _ = socket;
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Debug)]
#[must_use = "settings do nothing until they run"]
pub struct Supervisor {
    wanted: Vec<Wanted>,
    control: Option<PathBuf>,
    program: Option<PathBuf>,
    adopts: bool,
    terms: Terms,
}

impl Default for Supervisor {
    fn default() -> Self {
        Self::new()
    }
}

impl Supervisor {
    /// The defaults: a worker for each core that the process may use, no sockets.
    pub fn new() -> Self {
        Self {
            wanted: Vec::new(),
            control: None,
            program: None,
            adopts: false,
            terms: Terms {
                workers: std::thread::available_parallelism().map_or(1, usize::from),
                start_timeout: Duration::from_secs(60),
                end_timeout: Duration::from_secs(60),
                first_pause: Duration::from_millis(100),
                longest_pause: Duration::from_secs(30),
                watchdog: Duration::ZERO,
            },
        }
    }

    /// Processes that serve. 0 is for none but this one, without a supervisor.
    ///
    /// Each has a runtime of its own, which uses all cores unless its builder says otherwise: with as many processes as
    /// cores, one runtime worker in each is enough.
    pub fn workers(mut self, workers: usize) -> Self {
        self.terms.workers = workers;
        self
    }

    /// Adds a socket to listen on, which each worker [takes](Worker::take) by its name. The address is `host:port`,
    /// `unix:/path` or `unix:@name`.
    ///
    /// A socket that systemd passes under that name (`FileDescriptorName=` in the socket unit) is taken in place of it. If
    /// systemd passes as many as are listed here and none under a name of these, they are taken in their order.
    ///
    /// # Errors
    /// If the name has a blank, a colon or what is no ASCII, or is used already (`InvalidInput`).
    pub fn listen(mut self, name: &str, address: &str) -> io::Result<Self> {
        check_name(name)?;
        if self.wanted.iter().any(|wanted| wanted.name == name) {
            return Err(invalid(format!("two sockets have the name {name:?}")));
        }
        self.wanted.push(Wanted {
            name: name.to_owned(),
            address: address.to_owned(),
        });
        Ok(self)
    }

    /// A Unix-domain socket for [`ctl`](crate::ctl), open to the user of this process and to root. Default: none.
    pub fn control(mut self, path: impl Into<PathBuf>) -> Self {
        self.control = Some(path.into());
        self
    }

    /// The program that workers are, looked at anew at each start. Default: this one, by the path that it was started
    /// with; if that has no slash, by the path of its file.
    ///
    /// A symbolic link is followed at each start, so a deployment may switch it and reload.
    pub fn program(mut self, path: impl Into<PathBuf>) -> Self {
        self.program = Some(path.into());
        self
    }

    /// How long a worker may take until it is [ready](Worker::ready). Default: 60 s. Then it is killed, and counts as one
    /// that crashed.
    pub fn start_timeout(mut self, timeout: Duration) -> Self {
        self.terms.start_timeout = timeout;
        self
    }

    /// How long a worker may take to end once it has been told to. Default: 60 s. Then it is killed. It is to be longer
    /// than what its server takes to drain.
    pub fn end_timeout(mut self, timeout: Duration) -> Self {
        self.terms.end_timeout = timeout;
        self
    }

    /// How long after a crash a worker is started again: at first, and at the most, doubled at each crash in between.
    /// Default: 100 ms and 30 s. A worker that served for the longest pause begins with the first one again.
    pub fn restart_pause(mut self, first: Duration, longest: Duration) -> Self {
        self.terms.first_pause = first;
        self.terms.longest_pause = longest.max(first);
        self
    }

    /// After how long a silence of its runtime a worker is taken to hang; then it is ended by SIGABRT and started again.
    /// Default: never.
    pub fn watchdog(mut self, silence: Duration) -> Self {
        self.terms.watchdog = silence;
        self
    }

    /// Whether processes that workers have left behind become the supervisor's children, which takes them out of the
    /// system's table when they end. Default: no, unless it is process 1, as in a container, where they do so anyway.
    pub fn adopt_orphans(mut self, adopt: bool) -> Self {
        self.adopts = adopt;
        self
    }

    /// In the process that was started: runs the service, and returns `None` once that has ended. In a worker: returns it
    /// at once. To be called at the start of `main`, before there is a runtime; the logger may be there.
    ///
    /// # Errors
    /// In the supervisor: if a socket cannot be opened, or a worker of the first ones ends before it is ready. In a worker:
    /// if it cannot take over the sockets.
    pub fn run(self) -> io::Result<Option<Worker>> {
        if let Some(badge) = own_badge()? {
            return Worker::of(badge).map(Some);
        }
        let sockets = sockets::open(&self.wanted)?;
        if self.terms.workers == 0 {
            return Ok(Some(Worker::alone(sockets)));
        }
        let settings = Settings {
            sockets,
            control: self.control,
            program: Program::find(self.program)?,
            adopts: self.adopts,
            terms: self.terms,
        };
        supervisor::run(settings).map(|()| None)
    }
}

/// What the supervisor has put into the environment, if this process is its worker, and not one that a worker started.
fn own_badge() -> io::Result<Option<Badge>> {
    let Ok(text) = env::var(BADGE) else {
        return Ok(None);
    };
    let badge: Badge = text.parse().map_err(invalid)?;
    let parent = rustix::process::getppid().map(|pid| pid.as_raw_nonzero().get());
    let is_ours = parent.is_some_and(|parent| u32::try_from(parent) == Ok(badge.supervisor));
    Ok(is_ours.then_some(badge))
}
