//! Who holds which connections: how many processes there are on either side, and from and to which addresses.
//!
//! Processes come in pairs: client process i connects to server process i alone, which listens on an address of its
//! own. So every server process gets exactly its share; behind one address that all share (`SO_REUSEPORT`) the kernel
//! would spread connections by hash, and the process that gets most would reach its limit first. It also suits
//! servers that cannot share.

use std::net::Ipv4Addr;

use anyhow::{Result, ensure};
use serde::Serialize;

/// The processes of a run and their connections.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(super) struct Plan {
    pub(super) connections: usize,
    /// On either side.
    pub(super) processes: usize,
    /// Addresses that each client process connects from.
    pub(super) sources: usize,
    /// Connections that a client process has under way at once, few enough for any server's backlog.
    pub(super) window: usize,
}

/// What of the machine's limits decides the plan.
#[derive(Clone, Copy, Debug)]
pub(super) struct Grants {
    /// The hard `RLIMIT_NOFILE`.
    pub(super) descriptors: u64,
    /// `net.ipv4.ip_local_port_range`, both ends of which are used.
    pub(super) ports: (u16, u16),
    /// `net.core.somaxconn`.
    pub(super) backlog: u64,
}

impl Plan {
    /// A plan with as few processes as the limits allow, but no fewer than asked for.
    pub(super) fn of(connections: usize, at_least: usize, grants: &Grants) -> Result<Self> {
        let most = most_in_a_process(grants.descriptors);
        ensure!(
            most > 0,
            "RLIMIT_NOFILE is {}, which leaves nothing for connections: raise it (ulimit -Hn 20000)",
            grants.descriptors
        );
        let processes = connections.div_ceil(most).max(at_least).min(connections);
        ensure!(
            (1..=MOST_PROCESSES).contains(&processes),
            "{connections} connections would take {processes} processes on either side, and {MOST_PROCESSES} are the \
             most: raise RLIMIT_NOFILE (ulimit -Hn {})",
            (connections as u64).div_ceil(MOST_PROCESSES as u64) * 2
        );
        let (first, last) = grants.ports;
        let ports = usize::from(last.saturating_sub(first)) + 1;
        // The kernel looks for a free port from a random one on: that stays short while half are free.
        let each = (ports / 2).max(1);
        let sources = connections.div_ceil(processes).div_ceil(each);
        ensure!(
            sources <= MOST_SOURCES,
            "net.ipv4.ip_local_port_range has only {ports} ports: widen it \
             (sysctl -w net.ipv4.ip_local_port_range='1024 65535')"
        );
        let backlog = usize::try_from(grants.backlog).unwrap_or(usize::MAX);
        Ok(Self {
            connections,
            processes,
            sources,
            window: (backlog / 2).clamp(1, WINDOW),
        })
    }

    /// Connections of one pair of processes; shares differ by one at most.
    pub(super) fn share(&self, process: usize) -> usize {
        let larger = self.connections % self.processes;
        self.connections / self.processes + usize::from(process < larger)
    }
}

/// Connections in a process that may open so many files: a twentieth is left for all else.
pub(super) fn most_in_a_process(descriptors: u64) -> usize {
    let spare = (descriptors / 20).max(SPARE_DESCRIPTORS);
    usize::try_from(descriptors.saturating_sub(spare)).unwrap_or(usize::MAX)
}

/// Where a server process listens.
pub(super) fn server_address(process: usize) -> Ipv4Addr {
    loopback(1, process)
}

/// Where a client process connects from; the same for all, whose servers have different addresses.
pub(super) fn source_address(source: usize) -> Ipv4Addr {
    loopback(2, source)
}

/// Address `index` of network 127.`network`.0.0/16, without those that end in 0 or 255.
fn loopback(network: u8, index: usize) -> Ipv4Addr {
    let (third, fourth) = (index / 254, index % 254 + 1);
    let octet = |number: usize| u8::try_from(number).expect("a plan has fewer addresses");
    Ipv4Addr::new(127, network, octet(third), octet(fourth))
}

/// Standard streams, epoll, listeners, event descriptors, what libraries open.
const SPARE_DESCRIPTORS: u64 = 32;
/// Half the backlog of 128 that std listens with, the shortest among the servers.
pub(super) const WINDOW: usize = 64;
/// The parent has three pipes to each of a pair.
const MOST_PROCESSES: usize = 2000;
const MOST_SOURCES: usize = 2000;

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    const GRANTS: Grants = Grants {
        descriptors: 20_000,
        ports: (32_768, 60_999),
        backlog: 4096,
    };

    #[test]
    fn descriptors_decide_how_many_processes_there_are() {
        for (connections, processes) in [(1, 1), (19_000, 1), (19_001, 2), (300_000, 16)] {
            let plan = Plan::of(connections, 1, &GRANTS).unwrap();
            assert_eq!(plan.processes, processes, "{connections}");
        }
        assert_eq!(Plan::of(200, 2, &GRANTS).unwrap().processes, 2);
        assert_eq!(Plan::of(3, 5, &GRANTS).unwrap().processes, 3);
    }

    #[test]
    fn shares_are_even_and_complete() {
        for (connections, at_least) in [(300_000, 1), (7, 3), (19_001, 1), (1, 1)] {
            let plan = Plan::of(connections, at_least, &GRANTS).unwrap();
            let shares: Vec<usize> = (0..plan.processes).map(|i| plan.share(i)).collect();
            assert_eq!(shares.iter().sum::<usize>(), connections);
            let spread = shares.iter().max().unwrap() - shares.iter().min().unwrap();
            assert!(spread <= 1, "{shares:?}");
            assert!(*shares.iter().max().unwrap() <= most_in_a_process(GRANTS.descriptors));
        }
    }

    #[test]
    fn a_source_uses_no_more_than_half_its_ports() {
        let plan = Plan::of(300_000, 1, &GRANTS).unwrap();
        assert_eq!((plan.share(0), plan.sources), (18_750, 2));
        let narrow = Grants {
            ports: (40_000, 40_099),
            ..GRANTS
        };
        let plan = Plan::of(5000, 1, &narrow).unwrap();
        assert_eq!(plan.sources, 100);
    }

    #[test]
    fn no_more_are_under_way_than_half_a_backlog_holds() {
        assert_eq!(Plan::of(1000, 1, &GRANTS).unwrap().window, 64);
        for (backlog, window) in [(128, 64), (16, 8), (1, 1)] {
            let grants = Grants { backlog, ..GRANTS };
            assert_eq!(Plan::of(1000, 1, &grants).unwrap().window, window);
        }
    }

    #[test]
    fn limits_that_leave_no_plan_are_named_with_what_to_do() {
        let low = |descriptors| Grants {
            descriptors,
            ..GRANTS
        };
        let error = Plan::of(10, 1, &low(32)).unwrap_err().to_string();
        assert!(error.contains("RLIMIT_NOFILE is 32"), "{error}");
        let error = Plan::of(1_000_000, 1, &low(64)).unwrap_err().to_string();
        assert!(error.contains("ulimit -Hn 1000"), "{error}");
        let grants = Grants {
            ports: (40_000, 40_000),
            ..GRANTS
        };
        let error = Plan::of(10_000, 1, &grants).unwrap_err().to_string();
        assert!(error.contains("ip_local_port_range"), "{error}");
    }

    #[test]
    fn addresses_are_loopback_and_differ() {
        let servers = (0..MOST_PROCESSES).map(server_address);
        let sources = (0..MOST_SOURCES).map(source_address);
        let all: HashSet<Ipv4Addr> = servers.chain(sources).collect();
        assert_eq!(all.len(), MOST_PROCESSES + MOST_SOURCES);
        assert!(all.iter().all(Ipv4Addr::is_loopback));
        assert_eq!(server_address(0), Ipv4Addr::new(127, 1, 0, 1));
        assert_eq!(server_address(254), Ipv4Addr::new(127, 1, 1, 1));
    }
}
