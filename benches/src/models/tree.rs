//! What a model uses, summed over all processes of its group, as /proc tells it.

use std::{
    fs,
    ops::Sub,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::{capacity::limits::field, process::cpu_time_of};

/// A model at one moment.
#[derive(Clone, Copy, Debug)]
pub(super) struct Snapshot {
    at: Instant,
    /// Of all living processes, and of ended ones that were waited for.
    cpu: Duration,
    /// Of all living threads, voluntary or not.
    switches: u64,
    /// The last id that the kernel gave to a thread or process, anybody's.
    last_id: u64,
    pub(super) holdings: Holdings,
}

/// What a model holds at a moment.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub(super) struct Holdings {
    pub(super) processes: usize,
    pub(super) threads: usize,
    pub(super) descriptors: usize,
    /// Resident memory in bytes; a page that processes share is divided among them.
    pub(super) memory: u64,
}

/// What a model used between two moments.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Used {
    pub(super) seconds: f64,
    pub(super) cpu_seconds: f64,
    pub(super) switches: u64,
    /// Threads and processes that were made meanwhile, on the whole machine.
    pub(super) made: u64,
}

impl Snapshot {
    /// Of the process group `group`.
    pub(super) fn of(group: u32) -> Result<Self> {
        let processes = members(group);
        ensure!(!processes.is_empty(), "the model has ended");
        let cpu = processes.iter().map(Process::cpu).sum();
        let at = Instant::now();
        let mut holdings = Holdings {
            processes: processes.len(),
            threads: processes.iter().map(|process| process.threads).sum(),
            ..Holdings::default()
        };
        let switches = processes.iter().map(Process::switches).sum();
        for process in &processes {
            holdings.descriptors += entries(format!("/proc/{}/fd", process.id)).len();
        }
        holdings.memory = processes.iter().map(Process::memory).sum();
        Ok(Self {
            at,
            cpu,
            switches,
            last_id: last_id(&read("/proc/loadavg")).unwrap_or(0),
            holdings,
        })
    }
}

impl Sub for Snapshot {
    type Output = Used;

    fn sub(self, earlier: Self) -> Used {
        Used {
            seconds: (self.at - earlier.at).as_secs_f64(),
            // The time of a process that ended without being waited for is lost.
            cpu_seconds: self.cpu.saturating_sub(earlier.cpu).as_secs_f64(),
            switches: self.switches.saturating_sub(earlier.switches),
            made: self.last_id.saturating_sub(earlier.last_id),
        }
    }
}

fn members(group: u32) -> Vec<Process> {
    let all = entries("/proc").into_iter();
    let all = all.filter_map(|name| name.parse::<u32>().ok());
    // One that ends meanwhile is none.
    all.filter_map(|id| Process::parse(id, &read(&format!("/proc/{id}/stat"))))
        .filter(|process| process.group == group && process.state != 'Z')
        .collect()
}

#[derive(Clone, Debug, PartialEq)]
struct Process {
    id: u32,
    state: char,
    group: u32,
    threads: usize,
    own_ticks: u64,
    /// Those of children that have ended and were waited for, and of theirs.
    childrens_ticks: u64,
}

impl Process {
    /// From its line in /proc/PID/stat, whose second field is a name in parentheses, with anything in it.
    fn parse(id: u32, stat: &str) -> Option<Self> {
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split_whitespace().collect();
        let number = |at: usize| fields.get(at)?.parse::<u64>().ok();
        Some(Self {
            id,
            state: fields.first()?.chars().next()?,
            group: fields.get(2)?.parse().ok()?,
            own_ticks: number(11)? + number(12)?,
            childrens_ticks: number(13)? + number(14)?,
            threads: number(17)? as usize,
        })
    }

    fn cpu(&self) -> Duration {
        let own = cpu_time_of(self.id).unwrap_or_else(|_| ticks(self.own_ticks));
        own + ticks(self.childrens_ticks)
    }

    fn switches(&self) -> u64 {
        let tasks = format!("/proc/{}/task", self.id);
        let of = |task: &String| switches(&read(&format!("{tasks}/{task}/status")));
        entries(&tasks).iter().map(of).sum()
    }

    fn memory(&self) -> u64 {
        let text = read(&format!("/proc/{}/smaps_rollup", self.id));
        field(&text, "Pss:").map_or(0, |bytes| bytes.0)
    }
}

fn ticks(ticks: u64) -> Duration {
    Duration::from_secs_f64(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

/// In a thread's `status`.
fn switches(status: &str) -> u64 {
    let names = ["voluntary_ctxt_switches:", "nonvoluntary_ctxt_switches:"];
    let of = |name| status.lines().find_map(|line| line.strip_prefix(name));
    let counts = names.into_iter().filter_map(of);
    counts
        .filter_map(|count| count.trim().parse::<u64>().ok())
        .sum()
}

fn last_id(loadavg: &str) -> Option<u64> {
    loadavg.split_whitespace().last()?.parse().ok()
}

fn entries(folder: impl AsRef<Path>) -> Vec<String> {
    let Ok(entries) = fs::read_dir(folder) else {
        return Vec::new();
    };
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.collect()
}

/// Empty if it cannot be read: what has ended is counted no more.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use std::{
        os::unix::process::CommandExt,
        process::{Command, Stdio},
    };

    use super::*;

    #[test]
    fn a_process_is_read_behind_any_name() {
        let stat = "7 (a) b) S 1 9 9 0 -1 4194560 90 0 0 0 30 70 5 6 20 0 12 0 5 1000 88 0";
        let process = Process::parse(7, stat).unwrap();
        let expected = Process {
            id: 7,
            state: 'S',
            group: 9,
            threads: 12,
            own_ticks: 100,
            childrens_ticks: 11,
        };
        assert_eq!(process, expected);
        assert_eq!(Process::parse(7, "7 (a"), None);
    }

    #[test]
    fn both_kinds_of_switches_count() {
        let status = "Name:\tx\nvoluntary_ctxt_switches:\t40\nnonvoluntary_ctxt_switches:\t2\n";
        assert_eq!(switches(status), 42);
        assert_eq!(switches(""), 0);
        assert_eq!(last_id("0.1 0.2 0.3 2/200 4711\n"), Some(4711));
    }

    #[test]
    fn a_group_is_summed_over_its_processes() {
        // The shell waits for a child of its own, which waits for its input.
        let mut shell = Command::new("sh")
            .args(["-c", "echo started; cat; exit 0"])
            .process_group(0)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut said = String::new();
        let mut stdout = std::io::BufReader::new(shell.stdout.take().unwrap());
        std::io::BufRead::read_line(&mut stdout, &mut said).unwrap();
        // The shell says it before it forks.
        let until = Instant::now() + Duration::from_secs(10);
        let seen = loop {
            let seen = Snapshot::of(shell.id()).unwrap();
            if seen.holdings.processes == 2 {
                break seen;
            }
            assert!(Instant::now() < until, "{seen:?}");
            std::thread::yield_now();
        };
        assert_eq!(seen.holdings.threads, 2);
        assert!(seen.holdings.descriptors >= 6, "{seen:?}");
        assert!(seen.holdings.memory > 0, "{seen:?}");
        let used = Snapshot::of(shell.id()).unwrap() - seen;
        assert!(used.seconds > 0.0 && used.cpu_seconds < used.seconds + 0.1);
        drop(shell.stdin.take());
        shell.wait().unwrap();
        assert!(Snapshot::of(shell.id()).is_err());
    }
}
