//! What a host of a world runs short of, and how often.

use std::collections::BTreeMap;

use super::host::HostId;

/// What may run out, or fail.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Scarce {
    Stacks,
    Descriptors,
    /// Calls of the kernel that fail for want of memory or for other reasons of its own.
    Calls,
    /// Room on the disk.
    Space,
    /// A disk that reads, writes and syncs.
    Disk,
}

/// How often of one each fails.
type Shares = [f64; 5];

/// Shortages in force, by number.
#[derive(Default)]
pub(super) struct Shortages {
    of: BTreeMap<u64, (HostId, Shares)>,
    begun: u64,
}

impl Shortages {
    pub(super) fn begin(&mut self, host: HostId) -> u64 {
        self.begun += 1;
        self.of.insert(self.begun, (host, Shares::default()));
        self.begun
    }

    pub(super) fn set(&mut self, number: u64, scarce: Scarce, of_one: f64) {
        if let Some((_, shares)) = self.of.get_mut(&number) {
            shares[scarce as usize] = of_one;
        }
    }

    pub(super) fn end(&mut self, number: u64) {
        self.of.remove(&number);
    }

    /// How often of one it fails there; of several shortages the worst counts.
    pub(super) fn share(&self, host: HostId, scarce: Scarce) -> f64 {
        let those = self.of.values().filter(|(of, _)| *of == host);
        those.fold(0.0, |worst, (_, shares)| worst.max(shares[scarce as usize]))
    }
}
