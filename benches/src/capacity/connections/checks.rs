//! What so many connections need of the machine beside what it grants, with what to raise.

use std::fs;

use anyhow::{Result, ensure};

use super::plan::{Grants, Plan, WINDOW, most_in_a_process};
use crate::{
    capacity::{
        limits::Limits,
        quantity::{Bytes, count},
    },
    servers::Name,
};

/// A limit that is too low for a run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Short {
    /// What is too low and how to raise it, in one line.
    pub(super) text: String,
    /// Whether the run is in vain.
    pub(super) fatal: bool,
}

/// The limits that connections meet, beyond those that decide the plan; what could not be read is `None`.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Machine {
    pub(super) file_max: Option<u64>,
    pub(super) open_files: Option<u64>,
    /// `fs.nr_open`, up to which RLIMIT_NOFILE can be raised.
    pub(super) nr_open: Option<u64>,
    pub(super) orphans: Option<u64>,
    /// Pages that TCP buffers may take: the third figure of `tcp_mem`.
    pub(super) tcp_pages: Option<u64>,
    pub(super) epoll_watches: Option<u64>,
    pub(super) memory: Option<Bytes>,
}

impl Machine {
    pub(super) fn here() -> Self {
        Self {
            file_max: figure("fs/file-max", 0),
            open_files: figure("fs/file-nr", 0),
            nr_open: figure("fs/nr_open", 0),
            orphans: figure("net/ipv4/tcp_max_orphans", 0),
            tcp_pages: figure("net/ipv4/tcp_mem", 2),
            epoll_watches: figure("fs/epoll/max_user_watches", 0),
            memory: Limits::here().memory,
        }
    }
}

/// The limits that decide the plan, or what Linux has by default where one is hidden.
pub(super) fn grants() -> Grants {
    let descriptors = Limits::here().descriptors.1.unwrap_or(u64::MAX);
    let port = |index, default| {
        let port = figure("net/ipv4/ip_local_port_range", index);
        port.and_then(|port| u16::try_from(port).ok())
            .unwrap_or(default)
    };
    Grants {
        descriptors,
        ports: (port(0, 32_768), port(1, 60_999)),
        backlog: figure("net/core/somaxconn", 0).unwrap_or(4096),
    }
}

/// Number `index` in a file below /proc/sys.
fn figure(path: &str, index: usize) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/sys/{path}")).ok()?;
    text.split_whitespace().nth(index)?.parse().ok()
}

/// Whatever is too low for this plan with the hungriest of `servers`.
pub(super) fn check(
    plan: &Plan,
    servers: &[Name],
    grants: &Grants,
    machine: &Machine,
) -> Vec<Short> {
    let ends = 2 * plan.connections as u64;
    let others = machine.open_files.unwrap_or(0) + 200 * plan.processes as u64;
    let mut all = Vec::new();
    let mut want = |name: &str, needed: u64, granted: Option<u64>, fatal: bool, what: &str| {
        if let Some(granted) = granted
            && granted < needed
        {
            let value = match name {
                // Where it begins to hold back, where it presses, where it refuses.
                "net.ipv4.tcp_mem" => format!("'{} {} {needed}'", needed / 2, needed / 4 * 3),
                _ => needed.to_string(),
            };
            let (needed, granted) = (count(needed), count(granted));
            let text = format!(
                "{name} is {granted}, {needed} are needed: {what} (sysctl -w {name}={value})"
            );
            all.push(Short { text, fatal });
        }
    };
    want(
        "fs.file-max",
        ends + others,
        machine.file_max,
        true,
        "each connection is two open files",
    );
    let watched = machine.epoll_watches;
    want(
        "fs.epoll.max_user_watches",
        ends,
        watched,
        true,
        "each end is watched",
    );
    // An idle socket holds no buffer; at worst every server end holds a request or every client end an answer.
    want(
        "net.ipv4.tcp_mem",
        plan.connections as u64,
        machine.tcp_pages,
        false,
        "pages, if all connections carry a message at once",
    );
    want(
        "net.ipv4.tcp_max_orphans",
        plan.connections as u64,
        machine.orphans,
        false,
        "if a server dies, the kernel resets what is beyond; a drain leaves none",
    );
    want(
        "net.core.somaxconn",
        2 * WINDOW as u64,
        Some(grants.backlog),
        false,
        &format!("connections are opened {} at a time", plan.window),
    );
    if let Some(nr_open) = machine.nr_open
        && grants.descriptors < nr_open
        && plan.connections > most_in_a_process(grants.descriptors)
    {
        all.push(Short {
            text: format!(
                "RLIMIT_NOFILE is {}, hence {} processes on either side; fs.nr_open allows {} (ulimit -Hn {nr_open})",
                count(grants.descriptors),
                plan.processes,
                count(nr_open)
            ),
            fatal: false,
        });
    }
    let needed = memory(plan, servers);
    if let Some(available) = machine.memory
        && available < needed
    {
        all.push(Short {
            text: format!(
                "memory: about {needed} are needed, {available} are available: take --count {} or free some",
                count((plan.connections as f64 * available.0 as f64 / needed.0 as f64 * 0.95) as u64)
            ),
            fatal: true,
        });
    }
    all
}

/// One error that names all fatal ones.
pub(super) fn refuse(shorts: &[Short]) -> Result<()> {
    let fatal: Vec<&str> = shorts
        .iter()
        .filter(|short| short.fatal)
        .map(|short| short.text.as_str())
        .collect();
    ensure!(fatal.is_empty(), "{}", fatal.join("; "));
    Ok(())
}

/// What the whole machine needs at the peak: a generous estimate, so that a run that begins also ends.
pub(super) fn memory(plan: &Plan, servers: &[Name]) -> Bytes {
    let server = servers.iter().map(|&name| allowance(name)).max();
    let each = KERNEL + CLIENT + server.unwrap_or(0);
    let processes = 2 * plan.processes as u64 * PROCESS;
    Bytes((plan.connections as u64 * each).saturating_add(processes))
}

/// Bytes that a server's process may take for a connection, page tables included.
fn allowance(server: Name) -> u64 {
    let kib = match server {
        Name::Epoll => 2,
        Name::Maniple | Name::ManipleHooked => 12,
        Name::Hyper => 16,
        Name::Axum | Name::Go | Name::MayMinihttp => 28,
        Name::Threads => 48,
    };
    kib << 10
}

/// Both ends of a connection in the kernel: two sockets, files, inodes and watches.
const KERNEL: u64 = 12 << 10;
/// A connection in a client process.
const CLIENT: u64 = 1 << 10;
/// A process before its first connection.
const PROCESS: u64 = 8 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    const GRANTS: Grants = Grants {
        descriptors: 20_000,
        ports: (32_768, 60_999),
        backlog: 4096,
    };

    fn shorts(connections: usize, grants: &Grants, machine: &Machine) -> Vec<Short> {
        let plan = Plan::of(connections, 1, grants).unwrap();
        check(&plan, &[Name::Maniple, Name::Epoll], grants, machine)
    }

    #[test]
    fn a_machine_without_limits_is_fine() {
        assert_eq!(shorts(300_000, &GRANTS, &Machine::default()), []);
    }

    #[test]
    fn each_limit_is_named_with_its_figures_and_how_to_raise_it() {
        let low = |change: fn(&mut Machine)| {
            let mut machine = Machine::default();
            change(&mut machine);
            let shorts = shorts(300_000, &GRANTS, &machine);
            assert_eq!(shorts.len(), 1, "{shorts:?}");
            (shorts[0].text.clone(), shorts[0].fatal)
        };
        for ((text, fatal), parts, expected) in [
            (
                low(|machine| (machine.file_max, machine.open_files) = (Some(500_000), Some(800))),
                ["fs.file-max is 500,000", "sysctl -w fs.file-max=604000"],
                true,
            ),
            (
                low(|machine| machine.epoll_watches = Some(1)),
                ["watches is 1,", "max_user_watches=600000"],
                true,
            ),
            (
                low(|machine| machine.tcp_pages = Some(100)),
                ["tcp_mem is 100", "tcp_mem='150000 225000 300000'"],
                false,
            ),
            (
                low(|machine| machine.orphans = Some(131_072)),
                ["131,072", "tcp_max_orphans=300000"],
                false,
            ),
            (
                low(|machine| machine.nr_open = Some(1 << 20)),
                ["RLIMIT_NOFILE is 20,000", "ulimit -Hn 1048576"],
                false,
            ),
            (
                low(|machine| machine.memory = Some(Bytes(4 << 30))),
                [
                    "memory: about 7.4 GiB",
                    "4 GiB are available: take --count 154,",
                ],
                true,
            ),
        ] {
            for part in parts {
                assert!(text.contains(part), "{part}: {text}");
            }
            assert!(!text.contains('\n'), "{text}");
            assert_eq!(fatal, expected, "{text}");
        }
    }

    #[test]
    fn processes_that_descriptors_do_not_demand_are_no_complaint() {
        let plan = Plan::of(200, 2, &GRANTS).unwrap();
        let machine = Machine {
            nr_open: Some(1 << 20),
            ..Machine::default()
        };
        assert_eq!(check(&plan, &[Name::Epoll], &GRANTS, &machine), []);
    }

    #[test]
    fn a_short_backlog_slows_and_does_not_refuse() {
        let grants = Grants {
            backlog: 16,
            ..GRANTS
        };
        let shorts = shorts(100, &grants, &Machine::default());
        assert!(shorts[0].text.contains("8 at a time"), "{shorts:?}");
        refuse(&shorts).unwrap();
    }

    #[test]
    fn all_that_makes_a_run_vain_is_told_at_once() {
        let machine = Machine {
            file_max: Some(1),
            memory: Some(Bytes(1)),
            orphans: Some(1),
            ..Machine::default()
        };
        let error = refuse(&shorts(1000, &GRANTS, &machine)).unwrap_err();
        let error = error.to_string();
        assert!(error.contains("fs.file-max"), "{error}");
        assert!(error.contains("memory"), "{error}");
        assert!(!error.contains("orphans"), "{error}");
    }

    #[test]
    fn the_hungriest_server_decides_how_much_memory_is_needed() {
        let plan = Plan::of(10_000, 1, &GRANTS).unwrap();
        let all = memory(&plan, &Name::ALL);
        assert_eq!(all, memory(&plan, &[Name::Threads]));
        assert!(memory(&plan, &[Name::Epoll]) < all);
    }
}
