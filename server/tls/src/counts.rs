//! How many handshakes there have been, by what they came to.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

/// Handshakes of a server so far, by what they came to: from [`ServerConfig::handshakes`](crate::ServerConfig::handshakes).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Handshakes {
    /// Those that were done in full.
    pub full: u64,
    /// Those by which a client went on with what it had agreed on before.
    pub resumed: u64,
    /// Those that failed, took too long, or broke off. Who connects and closes without a byte has not begun one.
    pub failed: u64,
}

/// Where a server's streams count.
#[derive(Debug, Default)]
pub(crate) struct Counts {
    full: AtomicU64,
    resumed: AtomicU64,
    failed: AtomicU64,
}

impl Counts {
    pub(crate) fn done(&self, is_resumed: bool) {
        let count = if is_resumed {
            &self.resumed
        } else {
            &self.full
        };
        count.fetch_add(1, Relaxed);
    }

    pub(crate) fn failed(&self) {
        self.failed.fetch_add(1, Relaxed);
    }

    pub(crate) fn read(&self) -> Handshakes {
        Handshakes {
            full: self.full.load(Relaxed),
            resumed: self.resumed.load(Relaxed),
            failed: self.failed.load(Relaxed),
        }
    }
}
