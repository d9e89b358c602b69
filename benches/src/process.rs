//! Child processes that are pinned to a core, and the CPU time that they used.

use std::{
    ffi::OsStr,
    io::{ErrorKind, Read, Write},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, anyhow, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec},
    process::{Resource, Signal},
    thread::{sched_getaffinity, sched_setaffinity},
};

/// This binary, started again with other arguments; killed when dropped.
#[derive(Debug)]
pub(crate) struct Child {
    inner: std::process::Child,
    /// What it printed and nobody has asked for yet.
    printed: Vec<u8>,
}

/// Longer than anything that is started here.
const FOR_EVER: Duration = Duration::from_secs(365 * 24 * 3600);

impl Child {
    /// Starts this binary with `arguments`.
    pub(crate) fn start<S: AsRef<OsStr>>(arguments: impl IntoIterator<Item = S>) -> Result<Self> {
        Self::start_with(Stdio::null(), arguments)
    }

    /// Starts this binary so that it can be told what to do next, line by line.
    pub(crate) fn start_to_tell<S: AsRef<OsStr>>(
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        Self::start_with(Stdio::piped(), arguments)
    }

    fn start_with<S: AsRef<OsStr>>(
        stdin: Stdio,
        arguments: impl IntoIterator<Item = S>,
    ) -> Result<Self> {
        let program = std::env::current_exe().context("finding this program")?;
        Self::start_command(stdin, Command::new(program).args(arguments))
            .context("starting a child process")
    }

    /// Starts a command that runs this binary in its turn.
    pub(crate) fn start_command(stdin: Stdio, command: &mut Command) -> Result<Self> {
        let inner = command
            .stdin(stdin)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()?;
        Ok(Self {
            inner,
            printed: Vec::new(),
        })
    }

    /// Starts another program on the first core. That it ends with this one is up to it.
    pub(crate) fn start_on_first_core(command: &mut Command) -> Result<Self> {
        let allowed = sched_getaffinity(None).context("asking for the allowed cores")?;
        // A child has the cores of the thread that starts it.
        pin(Core::First)?;
        let started = Self::start_command(Stdio::null(), command);
        sched_setaffinity(None, &allowed).context("going back to all cores")?;
        started
    }

    /// Its process id.
    pub(crate) fn id(&self) -> u32 {
        self.inner.id()
    }

    /// Writes it a line. A child that has ended is an error with its own last words.
    pub(crate) fn tell(&mut self, line: &str) -> Result<()> {
        let stdin = self.inner.stdin.as_mut().context("it cannot be told")?;
        match stdin.write_all(format!("{line}\n").as_bytes()) {
            Err(error) if error.kind() == ErrorKind::BrokenPipe => Err(self.end()),
            result => result.context("telling a child"),
        }
    }

    /// The next line that it prints, or that it has ended as it should.
    pub(crate) fn line_or_end(&mut self) -> Result<Option<String>> {
        match self.line(FOR_EVER) {
            Ok(line) => Ok(Some(line)),
            Err(_) if self.inner.wait()?.success() => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// The next line that it prints. A child that ends before is an error with its own last words.
    pub(crate) fn line(&mut self, patience: Duration) -> Result<String> {
        let until = Instant::now() + patience;
        loop {
            if let Some(end) = self.printed.iter().position(|&byte| byte == b'\n') {
                let line: Vec<u8> = self.printed.drain(..=end).collect();
                return Ok(String::from_utf8_lossy(&line).trim().to_owned());
            }
            let stdout = self.inner.stdout.as_mut().context("its output is taken")?;
            let left = until.saturating_duration_since(Instant::now());
            let timeout = Timespec::try_from(left).context("too long a time")?;
            let mut ready = [PollFd::new(stdout, PollFlags::IN)];
            match rustix::event::poll(&mut ready, Some(&timeout)) {
                Ok(0) => bail!("silent for {patience:?}"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("waiting for a child's output"),
            }
            if ready[0].revents().is_empty() {
                continue;
            }
            let mut chunk = [0; 4096];
            match stdout
                .read(&mut chunk)
                .context("reading a child's output")?
            {
                0 => return Err(self.end()),
                count => self.printed.extend_from_slice(&chunk[..count]),
            }
        }
    }

    /// Asks it to end, and waits until it has.
    pub(crate) fn stop(mut self) -> Result<()> {
        let process = rustix::process::Pid::from_child(&self.inner);
        rustix::process::kill_process(process, Signal::TERM).context("stopping a child")?;
        self.inner.wait().context("waiting for a child's end")?;
        Ok(())
    }

    /// Why it ended, if it has: its last words on stderr, or how it exited.
    pub(crate) fn ended(&mut self) -> Option<anyhow::Error> {
        match self.inner.try_wait() {
            Ok(None) => None,
            _ => Some(self.end()),
        }
    }

    /// Waits for its end and says why it came.
    fn end(&mut self) -> anyhow::Error {
        let status = match self.inner.wait() {
            Ok(status) => status,
            Err(error) => return error.into(),
        };
        let mut text = Vec::new();
        if let Some(stderr) = &mut self.inner.stderr {
            // Whatever could be read is still its last words.
            let _ = stderr.read_to_end(&mut text);
        }
        match last_words(&String::from_utf8_lossy(&text)) {
            Some(words) => anyhow!("{words}"),
            None => anyhow!("ended early: {status}"),
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.inner.kill();
        let _ = self.inner.wait();
    }
}

/// The cause in what a failed child wrote: a panic's message, or else the last line.
fn last_words(text: &str) -> Option<String> {
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|line| !line.is_empty())
        .collect();
    let panic = lines.iter().position(|line| line.contains("panicked at"));
    // Go's come first, and all its goroutines after them.
    let go = |line: &&&str| line.starts_with("panic: ") || line.starts_with("fatal error: ");
    let words = panic
        .and_then(|at| lines.get(at + 1))
        .or_else(|| lines.iter().find(go))
        .or(lines.last())?;
    Some(words.trim_start_matches("maniple-bench: ").to_owned())
}

/// User and system time of all threads of a process, to the nanosecond.
pub(crate) fn cpu_time_of(process: u32) -> Result<Duration> {
    let mut clock = 0;
    let id = libc::pid_t::try_from(process)?;
    // SAFETY: the pointer is to a local, which outlives the call.
    let status = unsafe { libc::clock_getcpuclockid(id, &raw mut clock) };
    if status != 0 {
        let cause = std::io::Error::from_raw_os_error(status);
        return Err(cause).with_context(|| format!("no CPU clock for process {process}"));
    }
    let mut time = libc::timespec {
        tv_sec: 0,
        tv_nsec: 0,
    };
    // SAFETY: the pointer is to a local, which outlives the call.
    if unsafe { libc::clock_gettime(clock, &raw mut time) } != 0 {
        let cause = std::io::Error::last_os_error();
        return Err(cause).with_context(|| format!("reading the CPU clock of process {process}"));
    }
    Ok(Duration::new(
        time.tv_sec.try_into()?,
        time.tv_nsec.try_into()?,
    ))
}

/// The time that passes, and the CPU time of this process meanwhile.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Stopwatch {
    started: Instant,
    cpu: Duration,
}

impl Stopwatch {
    pub(crate) fn start() -> Result<Self> {
        let cpu = cpu_time_of(std::process::id())?;
        let started = Instant::now();
        Ok(Self { started, cpu })
    }

    /// The time and the CPU time since the start.
    pub(crate) fn elapsed(&self) -> Result<(Duration, Duration)> {
        let wall = self.started.elapsed();
        Ok((
            wall,
            cpu_time_of(std::process::id())?.saturating_sub(self.cpu),
        ))
    }
}

/// The share of a process's CPU time that was the kernel's: by ticks of the system's clock, so only over
/// seconds. The arguments are what `ticks_of` said before and after.
pub(crate) fn kernel_share(before: (u64, u64), after: (u64, u64)) -> f64 {
    let (user, kernel) = (after.0 - before.0, after.1 - before.1);
    kernel as f64 / (user + kernel).max(1) as f64
}

/// User and kernel time of a process in ticks of the system's clock, since it started.
pub(crate) fn ticks_of(process: u32) -> Result<(u64, u64)> {
    let file = format!("/proc/{process}/stat");
    let text = std::fs::read_to_string(&file).with_context(|| format!("reading {file}"))?;
    ticks_in(&text).with_context(|| format!("no times in {file}"))
}

/// Fields 14 and 15; the second is a name in parentheses, with anything in it.
fn ticks_in(stat: &str) -> Option<(u64, u64)> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let mut fields = fields.split(' ').skip(11).map(str::parse);
    Some((fields.next()?.ok()?, fields.next()?.ok()?))
}

/// Which of the allowed cores.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Core {
    /// Where contenders run.
    First,
    /// Where their load or their backends run.
    Last,
    /// All of them, where contender and load share the machine.
    Any,
}

/// To be called first in a child: ends it when its parent ends, and binds it, with all threads it starts later, to a
/// core.
pub(crate) fn settle(core: Core) -> Result<()> {
    rustix::process::set_parent_process_death_signal(Some(Signal::KILL))?;
    pin(core)
}

pub(crate) fn pin(core: Core) -> Result<()> {
    let cores = core_affinity::get_core_ids().unwrap_or_default();
    let id = match core {
        Core::First => cores.first(),
        Core::Last => cores.last(),
        Core::Any => return Ok(()),
    };
    let id = *id.context("the allowed cores are unknown")?;
    if !core_affinity::set_for_current(id) {
        bail!("cannot pin to core {}", id.id);
    }
    Ok(())
}

/// Allows this process, and those that it starts, as many descriptors as the hard limit grants.
pub(crate) fn raise_descriptor_limit(needed: u64) -> Result<()> {
    let mut limit = rustix::process::getrlimit(Resource::Nofile);
    if limit.maximum.is_some_and(|maximum| maximum < needed) {
        let maximum = limit.maximum.unwrap_or_default();
        bail!(
            "{needed} open files are needed but RLIMIT_NOFILE is {maximum}: raise it (ulimit -Hn {needed})"
        );
    }
    limit.current = limit.maximum;
    rustix::process::setrlimit(Resource::Nofile, limit).context("raising RLIMIT_NOFILE")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_cause_of_a_panic_is_its_message() {
        let text =
            "thread 'main' (7) panicked at src/main.rs:1:2:\nno more threads\nnote: run with ...\n";
        assert_eq!(last_words(text).unwrap(), "no more threads");
        assert_eq!(last_words("one\nmaniple-bench: two\n\n").unwrap(), "two");
        let go = "panic: no echo\n\ngoroutine 1 [running]:\nmain.main()\n\t/main.go:12 +0x1d\n";
        assert_eq!(last_words(go).unwrap(), "panic: no echo");
        assert_eq!(last_words(" \n"), None);
    }

    #[test]
    fn a_process_has_used_no_less_cpu_time_later() {
        let before = cpu_time_of(std::process::id()).unwrap();
        assert!(cpu_time_of(std::process::id()).unwrap() >= before);
    }

    #[test]
    fn a_program_starts_on_the_first_core_and_leaves_this_thread_the_others() {
        let before = sched_getaffinity(None).unwrap();
        let script = ["-c", "grep Cpus_allowed_list /proc/self/status"];
        let mut command = Command::new("/bin/sh");
        let mut child = Child::start_on_first_core(command.args(script)).unwrap();
        let line = child.line(Duration::from_secs(20)).unwrap();
        let first = core_affinity::get_core_ids().unwrap()[0].id.to_string();
        assert_eq!(line.split_whitespace().last(), Some(first.as_str()));
        assert_eq!(sched_getaffinity(None).unwrap(), before);
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b) S 1 7 7 0 -1 4194560 90 0 0 0 30 70 0 0 20 0 1 0 5";
        assert_eq!(ticks_in(stat), Some((30, 70)));
        assert_eq!(ticks_in("7 (a"), None);
        assert!(ticks_of(std::process::id()).is_ok());
        assert_eq!(kernel_share((10, 10), (40, 80)), 0.7);
    }

    #[test]
    fn a_limit_that_is_too_low_is_named() {
        if rustix::process::getrlimit(Resource::Nofile)
            .maximum
            .is_none()
        {
            return;
        }
        let error = raise_descriptor_limit(u64::MAX).unwrap_err().to_string();
        assert!(error.contains("RLIMIT_NOFILE"), "{error}");
    }
}
