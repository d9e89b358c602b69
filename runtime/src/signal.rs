//! Signals as messages: received where channels and sockets are, instead of in a handler.
//!
//! A handler may do next to nothing, so it raises a flag for each receiver and writes a byte to the
//! receiver's pipe, on which a coroutine or a plain thread waits.

use std::{
    fmt,
    io::{self, PipeWriter, Read},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use signal_hook::{SigId, flag, low_level};

use crate::{
    net::PipeReader,
    sync::channel::{self, Receiver},
    wait,
};

/// A signal, by its number (signal(7)).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Signal(i32);

macro_rules! signals {
    ($($name:ident: $what:literal,)*) => {
        $(#[doc = $what] pub const $name: Signal = Signal(libc::$name);)*

        impl Signal {
            /// Its name, such as `SIGTERM`, if it is one of this module's.
            pub fn name(self) -> Option<&'static str> {
                match self {
                    $($name => Some(stringify!($name)),)*
                    _ => None,
                }
            }
        }
    };
}

signals! {
    SIGHUP: "The terminal is gone; by custom: read the settings again.",
    SIGINT: "Ctrl-C on the terminal.",
    SIGQUIT: "Ctrl-\\ on the terminal.",
    SIGUSR1: "For the program's own use.",
    SIGUSR2: "For the program's own use.",
    SIGALRM: "An alarm of the process.",
    SIGTERM: "A request to end.",
    SIGCHLD: "A child process has stopped or ended.",
    SIGCONT: "To go on after a stop.",
    SIGWINCH: "The terminal has another size.",
}

impl Signal {
    /// The signal of that number.
    pub const fn from_raw(number: i32) -> Self {
        Self(number)
    }

    /// Its number.
    pub const fn as_raw(self) -> i32 {
        self.0
    }
}

impl fmt::Display for Signal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.name() {
            Some(name) => f.write_str(name),
            None => write!(f, "signal {}", self.0),
        }
    }
}

/// Receives the given signals from now on.
///
/// Each call makes a receiver of its own, and each receiver gets every signal. What the system would have
/// done at these signals, such as ending the process, is done no more, not even when the last receiver has
/// been dropped.
///
/// # Errors
/// If a signal cannot be received (`SIGKILL`, `SIGSTOP`, `SIGSEGV`, `SIGILL`, `SIGFPE`, or no signal at all:
/// `InvalidInput`), or the process has no descriptor left.
///
/// # Examples
/// ```
/// use maniple::signal::{SIGTERM, SIGUSR1, signals};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let received = signals(&[SIGUSR1, SIGTERM])?;
///     let worker = maniple::spawn(move || received.recv());
///     # signal_hook::low_level::raise(SIGUSR1.as_raw())?;
///     // Elsewhere: kill -USR1 …
///     assert_eq!(worker.join()??, SIGUSR1);
///     Ok(())
/// })
/// # }
/// ```
pub fn signals(wanted: &[Signal]) -> io::Result<Signals> {
    let (reader, writer) = io::pipe()?;
    let mut signals = Signals {
        raised: Vec::with_capacity(wanted.len()),
        bell: PipeReader::from_fd(reader)?,
        registered: Vec::with_capacity(2 * wanted.len()),
    };
    for &signal in wanted {
        signals.add(signal, writer.try_clone()?)?;
    }
    Ok(signals)
}

/// Receives signals like [`signals`], for a program that ends in order at the first of them.
///
/// The first is received. Any of the signals that comes after it, and before the receiver is dropped, ends the process
/// from within the handler, with the exit status of 128 and the signal's number: also where no worker ever gets to
/// receive it. Exit handlers and destructors do not run then.
///
/// # Errors
/// If a signal cannot be handled: the errors of [`signals`].
///
/// # Examples
/// ```no_run
/// use maniple::signal::{SIGINT, SIGTERM, shutdown_signals};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let asked = shutdown_signals(&[SIGTERM, SIGINT])?;
///     println!("ending, at {}; once more to end at once", asked.recv()?);
///     // ... what ends in order, while `asked` is alive.
///     drop(asked);
///     Ok(())
/// })
/// # }
/// ```
pub fn shutdown_signals(wanted: &[Signal]) -> io::Result<Signals> {
    let mut ending = Vec::with_capacity(2 * wanted.len());
    let has_come = Arc::new(AtomicBool::new(false));
    let mut register = || {
        for &Signal(signal) in wanted.iter().filter(|signal| !low_level_refuses(**signal)) {
            // In this order: the exit sees the flag that an earlier signal has set.
            let exit = flag::register_conditional_shutdown(signal, 128 + signal, has_come.clone())?;
            ending.push(exit);
            ending.push(flag::register(signal, has_come.clone())?);
        }
        signals(wanted)
    };
    let registered = register();
    match registered {
        Ok(mut signals) => {
            signals.registered.append(&mut ending);
            Ok(signals)
        }
        Err(error) => {
            ending
                .into_iter()
                .for_each(|id| _ = low_level::unregister(id));
            Err(error)
        }
    }
}

/// A receiver of signals; made by [`signals`].
///
/// Several coroutines and threads may receive from it, through `&Signals`; each signal goes to one of
/// them. A signal that comes again before it has been received counts once, as pending signals do in the
/// system: how often one came cannot be known. Of several different ones that wait, the one named first
/// in the call to [`signals`] is received first.
#[derive(Debug)]
pub struct Signals {
    raised: Vec<(Signal, Arc<AtomicBool>)>,
    /// Holds at least as many bytes as flags are raised, but for those whose byte is about to come: who
    /// takes a byte takes a flag with it, if there is one. So nobody waits while a flag is raised.
    bell: PipeReader,
    registered: Vec<SigId>,
}

impl Signals {
    fn add(&mut self, signal: Signal, writer: PipeWriter) -> io::Result<()> {
        if low_level_refuses(signal) {
            let message = format!("{signal} cannot be received");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, message));
        }
        let raised = Arc::new(AtomicBool::new(false));
        // In this order: the flag is there before its byte.
        let id = flag::register(signal.0, raised.clone())?;
        self.registered.push(id);
        let id = low_level::pipe::register(signal.0, writer)?;
        self.registered.push(id);
        self.raised.push((signal, raised));
        Ok(())
    }

    /// Waits for a signal.
    ///
    /// # Errors
    /// If the wait is cut short by cancellation or the scope's deadline; a signal that has come is not
    /// lost by that.
    pub fn recv(&self) -> io::Result<Signal> {
        loop {
            if let Some(signal) = self.try_recv() {
                return Ok(signal);
            }
            // One byte, since others may wait for those that follow.
            (&self.bell).read_exact(&mut [0])?;
        }
    }

    /// Waits for the next signal like [`Signals::recv`], for at most `timeout`.
    ///
    /// # Errors
    /// If the bell cannot be read, or the wait was cut short; of kind `TimedOut` if no signal came in time.
    pub fn recv_timeout(&self, timeout: Duration) -> io::Result<Signal> {
        match crate::timeout(timeout, || self.recv()) {
            Ok(received) => received,
            Err(elapsed) => Err(elapsed.into()),
        }
    }

    /// A signal that has come, if one has.
    pub fn try_recv(&self) -> Option<Signal> {
        let came = |(_, raised): &&(_, Arc<AtomicBool>)| raised.swap(false, Ordering::SeqCst);
        let signal = self.raised.iter().find(came).map(|(signal, _)| *signal);
        if signal.is_none() {
            wait::spend();
        }
        signal
    }

    /// The signals as messages of a channel, which [`select!`](crate::select) can wait for among others.
    ///
    /// A coroutine of the caller's runtime hands them on, until that ends or, having dropped the channel's
    /// receiver, a further signal comes. It holds one signal back while nobody receives; those that come
    /// meanwhile count as for [`Signals::recv`].
    ///
    /// # Examples
    /// ```
    /// use maniple::{select, signal::{SIGTERM, signals}, sync::channel};
    /// # fn main() -> std::io::Result<()> {
    /// # maniple::run(|| {
    /// let stop = signals(&[SIGTERM])?.into_channel();
    /// let work = channel::unbounded::<u32>();
    /// # signal_hook::low_level::raise(SIGTERM.as_raw())?;
    /// select! {
    ///     recv(work.1) -> job => println!("job {job:?}"),
    ///     recv(stop) -> signal => println!("told to end by {}", signal.unwrap()),
    /// }
    /// # Ok(())
    /// # })
    /// # }
    /// ```
    pub fn into_channel(self) -> Receiver<Signal> {
        let (sender, receiver) = channel::bounded(0);
        let handing_on = crate::spawn(move || {
            while let Ok(signal) = self.recv() {
                if sender.send(signal).is_err() {
                    return;
                }
            }
        });
        drop(handing_on);
        receiver
    }

    /// The signals as they come, until a wait is cut short.
    pub fn iter(&self) -> impl Iterator<Item = Signal> + '_ {
        std::iter::from_fn(|| self.recv().ok())
    }
}

impl Drop for Signals {
    fn drop(&mut self) {
        for id in self.registered.drain(..) {
            low_level::unregister(id);
        }
    }
}

/// What would be a panic, or an error without a name.
fn low_level_refuses(signal: Signal) -> bool {
    let refused = [
        libc::SIGKILL,
        libc::SIGSTOP,
        libc::SIGSEGV,
        libc::SIGILL,
        libc::SIGFPE,
    ];
    refused.contains(&signal.0) || !(1..=libc::SIGRTMAX()).contains(&signal.0)
}
