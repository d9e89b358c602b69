//! Child processes in the shape of [`std::process`], whose pipes and whose end a coroutine waits for
//! without holding its worker.
//!
//! The end is waited for through a process descriptor (pidfd_open(2)), so neither a thread nor a handler
//! of `SIGCHLD` is needed. Starting a process holds the worker until the new program has been loaded.

use std::{
    collections::VecDeque,
    ffi::OsStr,
    fmt,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process,
    sync::LazyLock,
};

pub use std::process::{ExitStatus, Output, Stdio};

use rustix::{
    io::Errno,
    process::{
        Pid, PidfdFlags, Signal, WaitId, WaitIdOptions, pidfd_open, pidfd_send_signal, waitid,
    },
};

use crate::{
    cancel,
    driver::sim,
    group::group,
    net::{self, PipeReader, PipeWriter},
    sys::{socket::exit_status, spin::SpinLock},
    wait,
};

/// What to start, and how; as [`std::process::Command`].
///
/// # Examples
/// ```
/// use maniple::process::Command;
/// # fn main() -> std::io::Result<()> {
/// let output = maniple::run(|| Command::new("echo").arg("hello").output())?;
/// assert!(output.status.success());
/// assert_eq!(output.stdout, b"hello\n");
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
pub struct Command {
    command: process::Command,
    kill_on_drop: bool,
    has_stdin: bool,
    has_stdout: bool,
    has_stderr: bool,
}

impl Command {
    /// A command that runs `program`, looked for in `PATH`.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        Self {
            command: process::Command::new(program),
            kill_on_drop: false,
            has_stdin: false,
            has_stdout: false,
            has_stderr: false,
        }
    }

    /// Adds an argument.
    pub fn arg(&mut self, arg: impl AsRef<OsStr>) -> &mut Self {
        self.command.arg(arg);
        self
    }

    /// Adds arguments.
    pub fn args(&mut self, args: impl IntoIterator<Item = impl AsRef<OsStr>>) -> &mut Self {
        self.command.args(args);
        self
    }

    /// Sets a variable of the environment.
    pub fn env(&mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> &mut Self {
        self.command.env(name, value);
        self
    }

    /// Lets the child inherit no variable that is not set here.
    pub fn env_clear(&mut self) -> &mut Self {
        self.command.env_clear();
        self
    }

    /// The child's working directory. Default: the parent's.
    pub fn current_dir(&mut self, folder: impl AsRef<Path>) -> &mut Self {
        self.command.current_dir(folder);
        self
    }

    /// Its standard input. Default: inherited, for [`Command::output`] none.
    pub fn stdin(&mut self, stdin: impl Into<Stdio>) -> &mut Self {
        self.has_stdin = true;
        self.command.stdin(stdin);
        self
    }

    /// Its standard output. Default: inherited, for [`Command::output`] a pipe.
    pub fn stdout(&mut self, stdout: impl Into<Stdio>) -> &mut Self {
        self.has_stdout = true;
        self.command.stdout(stdout);
        self
    }

    /// Its standard error. Default: inherited, for [`Command::output`] a pipe.
    pub fn stderr(&mut self, stderr: impl Into<Stdio>) -> &mut Self {
        self.has_stderr = true;
        self.command.stderr(stderr);
        self
    }

    /// Whether a child is killed when its handle is dropped before it has ended. Default: no.
    ///
    /// The drop then also waits, whatever cancels its scope, until the killed process is gone.
    pub fn kill_on_drop(&mut self, kill: bool) -> &mut Self {
        self.kill_on_drop = kill;
        self
    }

    /// For what this type has no method for, such as [`std::os::unix::process::CommandExt`]. Standard
    /// input and outputs are to be set here, not there.
    pub fn as_std_mut(&mut self) -> &mut process::Command {
        &mut self.command
    }

    /// Starts the process.
    ///
    /// # Errors
    /// If it cannot be started, or the parent has no descriptor left for it.
    pub fn spawn(&mut self) -> io::Result<Child> {
        sim::refuse("a child process");
        LEFT.sweep();
        Child::new(self.command.spawn()?, self.kill_on_drop)
    }

    /// Starts the process and waits for its end. If the wait is cut short, the process is killed.
    ///
    /// # Errors
    /// Fails as [`Command::spawn`] and [`Child::wait`] do.
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.spawn()?;
        child.kill_on_drop = true;
        child.wait()
    }

    /// Starts the process, reads what it writes and waits for its end. If that is cut short, the process
    /// is killed.
    ///
    /// # Errors
    /// Fails as [`Command::spawn`] and [`Child::wait_with_output`] do.
    pub fn output(&mut self) -> io::Result<Output> {
        let defaults = |command: &mut Self, read: fn() -> Stdio, stdin: fn() -> Stdio| {
            if !command.has_stdin {
                command.command.stdin(stdin());
            }
            if !command.has_stdout {
                command.command.stdout(read());
            }
            if !command.has_stderr {
                command.command.stderr(read());
            }
        };
        defaults(self, Stdio::piped, Stdio::null);
        let spawned = self.spawn();
        defaults(self, Stdio::inherit, Stdio::inherit);
        let mut child = spawned?;
        child.kill_on_drop = true;
        child.wait_with_output()
    }
}

/// A process that has been started; as [`std::process::Child`].
///
/// Dropping it leaves the process to itself, unless it is to be [killed](Command::kill_on_drop). One that ends
/// later is taken out of the system's table when the next child is started or dropped, up to
/// [`MAX_LEFT`] of those that are left.
///
/// Where the program ignores `SIGCHLD`, as it does if who started it did, the system waits for children by itself.
/// How one ended is then asked of its process descriptor (Linux 6.15); see [`StatusLost`].
///
/// # Examples
/// ```
/// use maniple::process::{Command, Stdio};
/// use std::{io::{Read, Write}, time::Duration};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let mut cat = Command::new("cat").stdin(Stdio::piped()).stdout(Stdio::piped()).spawn()?;
///     cat.stdin.take().expect("piped").write_all(b"mouse")?;
///     let mut text = String::new();
///     cat.stdout.take().expect("piped").read_to_string(&mut text)?;
///     assert_eq!(text, "mouse");
///     assert!(cat.wait()?.success());
///
///     let mut sleep = Command::new("sleep").arg("60").spawn()?;
///     let late = maniple::timeout(Duration::from_millis(5), || sleep.wait()).unwrap();
///     assert!(late.is_err());
///     sleep.kill()?;
///     assert!(!sleep.wait()?.success());
///     Ok(())
/// })
/// # }
/// ```
#[derive(Debug)]
pub struct Child {
    /// What the child reads, if piped.
    pub stdin: Option<PipeWriter>,
    /// What the child writes, if piped.
    pub stdout: Option<PipeReader>,
    /// What the child writes as errors, if piped.
    pub stderr: Option<PipeReader>,
    child: process::Child,
    /// Readable once the process has ended. `None`: it had, and nothing was left of it.
    ended: Option<OwnedFd>,
    kill_on_drop: bool,
    /// How it ended, if somebody else has waited for it.
    found: Option<ExitStatus>,
}

/// How a process ended cannot be told: the program ignores `SIGCHLD`, so that the system has done away with all that
/// was known of it, or other code of the program has waited for it.
///
/// Comes inside an [`io::Error`] of kind [`Other`](io::ErrorKind::Other), with what the process wrote if the call
/// has read that. It takes a kernel before Linux 6.15, or a process that ended the moment it had begun.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct StatusLost {
    /// What it wrote, if [`Command::output`] or [`Child::wait_with_output`] have read it.
    pub stdout: Vec<u8>,
    /// What it wrote as errors, likewise.
    pub stderr: Vec<u8>,
}

impl fmt::Display for StatusLost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(
            "how the process ended is lost: SIGCHLD is ignored, or somebody else has waited for it",
        )
    }
}

impl std::error::Error for StatusLost {}

impl Child {
    fn new(mut child: process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let wrap = |child: &mut process::Child| -> io::Result<_> {
            Ok((
                child.stdin.take().map(PipeWriter::from_fd).transpose()?,
                child.stdout.take().map(PipeReader::from_fd).transpose()?,
                child.stderr.take().map(PipeReader::from_fd).transpose()?,
                match pidfd_open(Pid::from_child(child), PidfdFlags::empty()) {
                    // It has ended and was not kept.
                    Err(Errno::SRCH) => None,
                    opened => Some(opened?),
                },
            ))
        };
        match wrap(&mut child) {
            Ok((stdin, stdout, stderr, ended)) => Ok(Self {
                stdin,
                stdout,
                stderr,
                child,
                ended,
                kill_on_drop,
                found: None,
            }),
            Err(error) => {
                // A process without a handle would be nobody's.
                _ = child.kill();
                _ = child.wait();
                Err(error)
            }
        }
    }

    /// The process's id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process (`SIGKILL`), unless it has ended. Returns at once; [`Child::wait`] waits for the end.
    ///
    /// # Errors
    /// If the parent may not.
    pub fn kill(&mut self) -> io::Result<()> {
        // Not by its number, which may be another's by now.
        match &self.ended {
            None => Ok(()),
            Some(process) => match pidfd_send_signal(process, Signal::KILL) {
                Err(Errno::SRCH) => Ok(()),
                sent => Ok(sent?),
            },
        }
    }

    /// How the process ended, or `None` if it still runs.
    ///
    /// # Errors
    /// If that is [lost](StatusLost).
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        wait::spend();
        if self.found.is_some() {
            return Ok(self.found);
        }
        match self.child.try_wait() {
            Err(error) if error.raw_os_error() == Some(Errno::CHILD.raw_os_error()) => {
                let process = self.ended.as_ref().map(AsFd::as_fd);
                self.found = process.and_then(exit_status);
                match self.found {
                    Some(_) => Ok(self.found),
                    None => Err(io::Error::other(StatusLost::default())),
                }
            }
            waited => waited,
        }
    }

    /// Closes the child's standard input, if it is still here, and waits until the process has ended.
    ///
    /// May be called again, also after it was cut short.
    ///
    /// # Errors
    /// If the wait is cut short by cancellation or a deadline; if how the process ended is [lost](StatusLost).
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            match &self.ended {
                Some(process) => net::wait_readable(process.as_fd())?,
                // It had ended before there was anything to wait for.
                None => return self.child.wait(),
            }
        }
    }

    /// Reads what is piped to its end, both at once, and waits until the process has ended.
    ///
    /// # Errors
    /// If the wait is cut short by cancellation or a deadline; if how the process ended is [lost](StatusLost); or if
    /// reading fails. A [`StatusLost`] brings what was read.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = group(|g| {
            let stderr = g.spawn(|| read_all(stderr));
            let stdout = read_all(stdout)?;
            Ok::<_, io::Error>((stdout, stderr.join()??))
        })?;
        match self.wait() {
            Ok(status) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            Err(error)
                if error
                    .get_ref()
                    .is_some_and(|inner| inner.is::<StatusLost>()) =>
            {
                Err(io::Error::other(StatusLost { stdout, stderr }))
            }
            Err(error) => Err(error),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if !matches!(self.try_wait(), Ok(None)) {
            return;
        }
        if !self.kill_on_drop {
            LEFT.sweep();
            LEFT.keep(self.ended.take());
        } else if self.kill().is_ok() {
            // A killed process ends; until it is waited for it stays in the system's table.
            _ = cancel::shield(|| self.wait());
        }
    }
}

/// Processes whose handles were dropped and that are waited for in passing, at most.
pub const MAX_LEFT: usize = 1024;

/// Processes that were left to themselves, by descriptors, since their numbers may become others'.
struct Left(SpinLock<VecDeque<OwnedFd>>);

static LEFT: LazyLock<Left> = LazyLock::new(|| Left(SpinLock::new(VecDeque::new())));

/// Processes that are looked at in passing.
const LOOKED_AT: usize = 32;

impl Left {
    fn keep(&self, process: Option<OwnedFd>) {
        let mut left = self.0.lock();
        // One too many stays in the system's table once it has ended.
        let beyond = match left.len() < MAX_LEFT {
            true => {
                left.extend(process);
                None
            }
            false => process,
        };
        drop(left);
        drop(beyond);
    }

    /// Waits for some of those that have ended.
    fn sweep(&self) {
        let count = self.0.lock().len().min(LOOKED_AT);
        for _ in 0..count {
            let first = self.0.lock().pop_front();
            let Some(process) = first else { return };
            let options = WaitIdOptions::EXITED | WaitIdOptions::NOHANG;
            if let Ok(None) = waitid(WaitId::PidFd(process.as_fd()), options) {
                self.keep(Some(process));
            }
        }
    }
}

fn read_all(pipe: Option<PipeReader>) -> io::Result<Vec<u8>> {
    let mut all = Vec::new();
    if let Some(mut pipe) = pipe {
        pipe.read_to_end(&mut all)?;
    }
    Ok(all)
}
