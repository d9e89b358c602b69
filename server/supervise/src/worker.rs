//! A worker as its program sees it: its sockets, the word that it is ready, and the word to end.

use std::{
    fmt, fs, io,
    os::{
        fd::{AsFd, OwnedFd},
        unix::net,
    },
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use maniple::{
    net::UnixStream,
    signal::{self, SIGHUP, SIGINT, SIGTERM, shutdown_signals},
    task,
};

use crate::{
    link::Link,
    message::{Badge, End, Word, read_end},
    notify,
    sockets::{Named, invalid},
};

/// A process that serves; made by [`Supervisor::run`](crate::Supervisor::run).
///
/// Without a supervisor, which is what [`workers(0)`](crate::Supervisor::workers) asks for, it is the one process of the
/// service; all its methods do the same then, and systemd is told in the supervisor's place.
#[derive(Debug)]
pub struct Worker {
    sockets: Vec<Named>,
    /// Of those that were taken, what is to be removed at the end.
    files: Vec<PathBuf>,
    service: Option<Service>,
}

/// The supervisor as its worker sees it.
#[derive(Debug)]
struct Service {
    link: Arc<Link>,
    badge: Badge,
}

/// Calls what ends the service, once.
#[derive(Clone)]
struct Ending(Arc<Mutex<Option<CallOnce>>>);

type CallOnce = Box<dyn FnOnce(End) + Send>;

impl Ending {
    fn call(&self, why: End) {
        let end = self.0.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(end) = end {
            end(why);
        }
    }
}

impl fmt::Debug for Ending {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ending")
    }
}

/// How long a supervisor may take to hand the sockets over: it does so at once.
const HAND_OVER: Duration = Duration::from_secs(10);

impl Worker {
    /// The one process of a service without a supervisor.
    pub(crate) fn alone(sockets: Vec<Named>) -> Self {
        Self {
            sockets,
            files: Vec::new(),
            service: None,
        }
    }

    /// Takes the sockets from the supervisor.
    pub(crate) fn of(badge: Badge) -> io::Result<Self> {
        let taken = (|| {
            let stream = net::UnixStream::from(io::stdin().as_fd().try_clone_to_owned()?);
            let stream = UnixStream::try_from(stream)?;
            stream.set_read_timeout(Some(HAND_OVER))?;
            let link = Link::new(stream);
            let sockets = link.take_over(badge.sockets)?;
            // What this process starts is not to find the supervisor at its standard input.
            rustix::stdio::dup2_stdin(fs::File::open("/dev/null")?)?;
            link.wait_for_ever()?;
            Ok((link, sockets))
        })();
        let (link, sockets) = taken.map_err(|error: io::Error| {
            let text = format!("take the sockets over from the supervisor: {error}");
            io::Error::new(error.kind(), text)
        })?;
        let link = Arc::new(link);
        Ok(Self {
            sockets,
            files: Vec::new(),
            service: Some(Service { link, badge }),
        })
    }

    /// Takes the listening socket of that name, to serve what connects to it.
    ///
    /// Others accept from it as well, or will do so later: it must be left open for them, and a server closes no more than
    /// its own descriptor. `maniple-server` treats what is made of an `OwnedFd` so.
    ///
    /// # Errors
    /// If there is none of that name, or it has been taken (`InvalidInput`).
    pub fn take(&mut self, name: &str) -> io::Result<OwnedFd> {
        let index = self.sockets.iter().position(|named| named.name == name);
        let Some(index) = index else {
            let text = format!("there is no socket {name:?} here, or it has been taken");
            return Err(invalid(text));
        };
        let named = self.sockets.remove(index);
        self.files.extend(named.file);
        Ok(named.socket)
    }

    /// Says that this process serves, and has `end` called once when it is to end: at the word of the supervisor, at
    /// SIGTERM or SIGINT, or if the supervisor is gone. A second of these signals ends the process at once.
    ///
    /// To be called in a coroutine: others of the same runtime wait for that word. One of them says that this process is
    /// alive if somebody [wants to know](crate::Supervisor::watchdog), so that a runtime that is held up is noticed.
    ///
    /// # Errors
    /// If signals cannot be received, there is no stack for a coroutine, or the supervisor or systemd cannot be told.
    ///
    /// # Panics
    /// If it is not called in a coroutine.
    pub fn ready(&self, end: impl FnOnce(End) + Send + 'static) -> io::Result<()> {
        let ending = Ending(Arc::new(Mutex::new(Some(Box::new(end)))));
        let signals = shutdown_signals(&[SIGTERM, SIGINT])?;
        let of_signals = ending.clone();
        let supervised = self.service.is_some();
        task::Builder::new().name("worker signals").spawn(move || {
            if let Ok(signal) = signals.recv() {
                log::info!("{signal}: this worker ends");
                if !supervised {
                    tell_systemd(notify::stopping());
                }
                of_signals.call(End::Stopped);
                // While this is here, a second signal ends the process.
                let _ = signals.recv();
            }
        })?;
        match &self.service {
            None => {
                if let Some(interval) = notify::watchdog_interval() {
                    let alive = || tell_systemd(notify::tell("WATCHDOG=1"));
                    every("worker watchdog", interval, alive)?;
                }
                notify::ready()
            }
            Some(service) => {
                // Of a terminal that is gone all of the group hear: the supervisor's answer to it is enough.
                let hangups = signal::signals(&[SIGHUP])?;
                every("worker hangups", Duration::ZERO, move || _ = hangups.recv())?;
                service.ready(ending)
            }
        }
    }

    /// Says what it is doing, in a line for people: `ctl status` has it, or systemd's status if there is no supervisor.
    ///
    /// # Errors
    /// If that cannot be sent.
    pub fn say(&self, text: &str) -> io::Result<()> {
        match &self.service {
            None => notify::status(text),
            Some(service) => service.link.say(&Word::Says(text.to_owned()).to_string()),
        }
    }

    /// Whether it has a supervisor.
    pub fn is_supervised(&self) -> bool {
        self.service.is_some()
    }

    /// Which of the workers it is, from 0.
    pub fn slot(&self) -> usize {
        self.service
            .as_ref()
            .map_or(0, |service| service.badge.slot)
    }

    /// How often the service has been replaced by reloads, from 1.
    pub fn generation(&self) -> u64 {
        let generation = |service: &Service| service.badge.generation;
        self.service.as_ref().map_or(1, generation)
    }
}

impl Drop for Worker {
    fn drop(&mut self) {
        self.sockets.iter().for_each(Named::remove_file);
        for path in &self.files {
            let _ = fs::remove_file(path);
        }
    }
}

impl Service {
    fn ready(&self, ending: Ending) -> io::Result<()> {
        let link = self.link.clone();
        task::Builder::new()
            .name("worker supervisor")
            .spawn(move || {
                let mut lines = link.lines();
                loop {
                    match lines.next() {
                        Ok(Some(line)) => match read_end(&line) {
                            Some(why) => {
                                log::info!("this worker is {why}, and ends");
                                ending.call(why);
                            }
                            None => {
                                log::warn!("the supervisor says {line:?}, which means nothing here")
                            }
                        },
                        Ok(None) => {
                            log::warn!("the supervisor is gone: this worker ends");
                            return ending.call(End::Stopped);
                        }
                        // The runtime ends.
                        Err(error) if maniple::cancel::is_cancelled_error(&error) => return,
                        Err(error) => {
                            log::warn!("the supervisor cannot be heard: {error}: this worker ends");
                            return ending.call(End::Stopped);
                        }
                    }
                }
            })?;
        if self.badge.watchdog > 0 {
            let link = self.link.clone();
            let interval = Duration::from_millis(self.badge.watchdog) / 3;
            every("worker watchdog", interval, move || {
                // That nobody listens any more is found by the coroutine that listens.
                let _ = link.say(&Word::Alive.to_string());
            })?;
        }
        self.link.say(&Word::Ready.to_string())
    }
}

fn every(
    name: &'static str,
    interval: Duration,
    tell: impl Fn() + Send + 'static,
) -> io::Result<()> {
    let telling = task::Builder::new().name(name).spawn(move || {
        loop {
            tell();
            maniple::sleep(interval);
        }
    })?;
    drop(telling);
    Ok(())
}

pub(crate) fn tell_systemd(told: io::Result<()>) {
    if let Err(error) = told {
        log::warn!("tell systemd: {error}");
    }
}
