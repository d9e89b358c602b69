//! Child processes in the shape of [`std::process`], whose pipes and whose end a coroutine waits for
//! without holding its worker.
//!
//! The end is waited for through a process descriptor (pidfd_open(2)), so neither a thread nor a handler
//! of `SIGCHLD` is needed. Starting a process holds the worker until the new program has been loaded.

use std::{
    ffi::OsStr,
    io::{self, Read},
    os::fd::{AsFd, OwnedFd},
    path::Path,
    process,
};

pub use std::process::{ExitStatus, Output, Stdio};

use rustix::process::{Pid, PidfdFlags, pidfd_open};

use crate::{
    cancel,
    group::group,
    net::{self, PipeReader, PipeWriter},
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
        Child::new(self.command.spawn()?, self.kill_on_drop)
    }

    /// Starts the process and waits for its end. If the wait is cut short, the process is killed.
    ///
    /// # Errors
    /// As [`Command::spawn`] and [`Child::wait`].
    pub fn status(&mut self) -> io::Result<ExitStatus> {
        let mut child = self.spawn()?;
        child.kill_on_drop = true;
        child.wait()
    }

    /// Starts the process, reads what it writes and waits for its end. If that is cut short, the process
    /// is killed.
    ///
    /// # Errors
    /// As [`Command::spawn`] and [`Child::wait_with_output`].
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
/// Dropping it leaves the process to itself, unless it is to be [killed](Command::kill_on_drop). One that
/// is never waited for stays in the system's table until the parent ends.
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
    /// Readable once the process has ended.
    ended: OwnedFd,
    kill_on_drop: bool,
}

impl Child {
    fn new(mut child: process::Child, kill_on_drop: bool) -> io::Result<Self> {
        let wrap = |child: &mut process::Child| -> io::Result<_> {
            Ok((
                child.stdin.take().map(PipeWriter::from_fd).transpose()?,
                child.stdout.take().map(PipeReader::from_fd).transpose()?,
                child.stderr.take().map(PipeReader::from_fd).transpose()?,
                pidfd_open(Pid::from_child(child), PidfdFlags::empty())?,
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
            }),
            Err(error) => {
                // A process without a handle would be nobody's.
                child.kill()?;
                child.wait()?;
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
        self.child.kill()
    }

    /// How the process ended, or `None` if it still runs.
    ///
    /// # Errors
    /// If somebody else has waited for it.
    pub fn try_wait(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// Closes the child's standard input, if it is still here, and waits until the process has ended.
    ///
    /// May be called again, also after it was cut short.
    ///
    /// # Errors
    /// If the wait is cut short by cancellation or a deadline; if somebody else has waited for the process.
    pub fn wait(&mut self) -> io::Result<ExitStatus> {
        drop(self.stdin.take());
        loop {
            if let Some(status) = self.try_wait()? {
                return Ok(status);
            }
            net::wait_readable(self.ended.as_fd())?;
        }
    }

    /// Reads what is piped to its end, both at once, and waits until the process has ended.
    ///
    /// # Errors
    /// As [`Child::wait`], and if reading fails.
    pub fn wait_with_output(mut self) -> io::Result<Output> {
        drop(self.stdin.take());
        let (stdout, stderr) = (self.stdout.take(), self.stderr.take());
        let (stdout, stderr) = group(|g| {
            let stderr = g.spawn(|| read_all(stderr));
            let stdout = read_all(stdout)?;
            Ok::<_, io::Error>((stdout, stderr.join()??))
        })?;
        Ok(Output {
            status: self.wait()?,
            stdout,
            stderr,
        })
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        if self.kill_on_drop && matches!(self.try_wait(), Ok(None)) && self.kill().is_ok() {
            // A killed process ends; until it is waited for it stays in the system's table.
            _ = cancel::shield(|| self.wait());
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
