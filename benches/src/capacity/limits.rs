//! What this machine and this process grant: mappings, descriptors, address space, memory.

use std::fs;

use rustix::process::{Resource, getrlimit};

use super::quantity::Bytes;

/// The limits that a process with many coroutines meets; what could not be read, or is not set, is `None`.
#[derive(Clone, Debug, Default)]
pub(crate) struct Limits {
    /// `vm.max_map_count`.
    pub(crate) mappings: Option<u64>,
    /// The soft and the hard `RLIMIT_NOFILE`.
    pub(crate) descriptors: (Option<u64>, Option<u64>),
    /// `RLIMIT_AS`.
    pub(crate) address_space: Option<Bytes>,
    /// What may still be committed, where `vm.overcommit_memory` is 2.
    pub(crate) commit: Option<Bytes>,
    /// What can be used without pressure: `MemAvailable`, or what the control group leaves if that is less.
    pub(crate) memory: Option<Bytes>,
}

impl Limits {
    /// Those in force here and now.
    pub(crate) fn here() -> Self {
        let meminfo = read("/proc/meminfo");
        let available = field(&meminfo, "MemAvailable:");
        let descriptors = getrlimit(Resource::Nofile);
        let strict = number("/proc/sys/vm/overcommit_memory") == Some(2);
        Self {
            mappings: number("/proc/sys/vm/max_map_count"),
            descriptors: (descriptors.current, descriptors.maximum),
            address_space: getrlimit(Resource::As).current.map(Bytes),
            commit: strict.then(|| left_to_commit(&meminfo)).flatten(),
            memory: match (available, left_in_group()) {
                (Some(available), Some(left)) => Some(available.min(left)),
                (available, left) => available.or(left),
            },
        }
    }
}

/// What the control group of this process may still allocate, if it is limited.
fn left_in_group() -> Option<Bytes> {
    let groups = read("/proc/self/cgroup");
    let path = groups.lines().find_map(|line| line.strip_prefix("0::"))?;
    let folder = format!("/sys/fs/cgroup{path}");
    let limit = number(&format!("{folder}/memory.max"))?;
    let used = number(&format!("{folder}/memory.current"))?;
    Some(Bytes(limit.saturating_sub(used)))
}

fn left_to_commit(meminfo: &str) -> Option<Bytes> {
    let limit = field(meminfo, "CommitLimit:")?;
    let committed = field(meminfo, "Committed_AS:")?;
    Some(Bytes(limit.0.saturating_sub(committed.0)))
}

/// A line such as `VmRSS:  123 kB` of a file in /proc.
pub(crate) fn field(text: &str, name: &str) -> Option<Bytes> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    let kilobytes = line.trim().strip_suffix("kB")?.trim();
    kilobytes.parse::<u64>().ok()?.checked_mul(1024).map(Bytes)
}

fn number(path: &str) -> Option<u64> {
    read(path).trim().parse().ok()
}

/// Empty if it cannot be read: a limit that is hidden cannot be compared with.
fn read(path: &str) -> String {
    fs::read_to_string(path).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_field_is_read_in_bytes() {
        let text = "VmRSS:\t    123 kB\nThreads:\t7\nVmPTE: x kB\n";
        assert_eq!(field(text, "VmRSS:"), Some(Bytes(123 * 1024)));
        assert_eq!(field(text, "Threads:"), None);
        assert_eq!(field(text, "VmPTE:"), None);
        assert_eq!(field(text, "VmSwap:"), None);
    }

    #[test]
    fn what_is_committed_is_subtracted() {
        let text = "CommitLimit: 100 kB\nCommitted_AS: 30 kB\n";
        assert_eq!(left_to_commit(text), Some(Bytes(70 * 1024)));
        let text = "CommitLimit: 100 kB\nCommitted_AS: 130 kB\n";
        assert_eq!(left_to_commit(text), Some(Bytes(0)));
    }

    #[test]
    fn this_machine_grants_something() {
        let limits = Limits::here();
        assert!(limits.memory.is_none_or(|memory| memory.0 > 0));
        assert!(limits.mappings.is_some_and(|mappings| mappings > 0));
    }
}
