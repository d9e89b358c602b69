//! What connections take in the kernel, for both ends, and descriptors.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::capacity::limits::field;

/// What the kernel holds, of the whole machine.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(super) struct Kernel {
    /// TCP sockets that are open, and those whose process is gone.
    pub(super) sockets: u64,
    pub(super) orphans: u64,
    /// Bytes in TCP's buffers.
    pub(super) buffers: u64,
    /// Bytes in slabs, in which sockets, files, inodes and watches lie.
    pub(super) slab: u64,
}

impl Kernel {
    pub(super) fn here() -> Result<Self> {
        Self::from(&read("/proc/net/sockstat")?, &read("/proc/meminfo")?)
    }

    fn from(sockstat: &str, meminfo: &str) -> Result<Self> {
        let tcp = sockstat.lines().find_map(|line| line.strip_prefix("TCP:"));
        let words: Vec<&str> = tcp.unwrap_or_default().split_whitespace().collect();
        let find = |name: &str| {
            let pair = words.chunks_exact(2).find(|pair| pair[0] == name);
            let figure: Option<u64> = pair.and_then(|pair| pair[1].parse().ok());
            figure.with_context(|| format!("no '{name}' of TCP in /proc/net/sockstat"))
        };
        Ok(Self {
            sockets: find("inuse")?,
            orphans: find("orphan")?,
            buffers: find("mem")? * rustix::param::page_size() as u64,
            slab: field(meminfo, "Slab:")
                .context("no Slab in /proc/meminfo")?
                .0,
        })
    }

    pub(super) fn sum(&self) -> u64 {
        self.buffers + self.slab
    }
}

/// Descriptors that a process has open.
pub(super) fn descriptors(process: u32) -> Result<usize> {
    let folder = format!("/proc/{process}/fd");
    let entries = fs::read_dir(&folder).with_context(|| format!("reading {folder}"))?;
    Ok(entries.count())
}

fn read(path: &str) -> Result<String> {
    fs::read_to_string(path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn sockets_and_buffers_are_read_from_the_line_of_tcp() {
        let sockstat = "sockets: used 9\nTCP: inuse 7 orphan 1 tw 2 alloc 8 mem 3\nTCP6: inuse 4\n";
        let meminfo = "MemTotal: 5 kB\nSlab: 6 kB\n";
        let kernel = Kernel::from(sockstat, meminfo).unwrap();
        let page = rustix::param::page_size() as u64;
        assert_eq!((kernel.sockets, kernel.orphans), (7, 1));
        assert_eq!((kernel.buffers, kernel.slab), (3 * page, 6144));
        let error = Kernel::from("TCP: inuse 7\n", meminfo).unwrap_err();
        assert!(error.to_string().contains("'orphan'"), "{error}");
        assert!(Kernel::here().is_ok());
    }

    #[test]
    fn an_open_socket_is_a_descriptor() {
        let sockets: Vec<TcpListener> = (0..100)
            .map(|_| TcpListener::bind("127.0.0.1:0").unwrap())
            .collect();
        assert!(descriptors(std::process::id()).unwrap() > sockets.len());
        assert!(descriptors(0).is_err());
    }
}
