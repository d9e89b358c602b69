//! Memory that processes hold, as the kernel counts it.

use std::fs;

use anyhow::{Context, Result};
use serde::Serialize;

use crate::capacity::limits::field;

/// Of one process or of several together, in bytes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Memory {
    pub(crate) resident: u64,
    pub(crate) page_tables: u64,
}

impl Memory {
    /// What these processes hold now.
    pub(crate) fn of(processes: &[u32]) -> Result<Self> {
        let mut all = Self::default();
        for process in processes {
            // Counted page by page: the counter behind VmRSS lags behind by some pages for each core.
            let rollup = read(process, "smaps_rollup")?;
            let status = read(process, "status")?;
            let find = |text, name| {
                let bytes = field(text, name);
                bytes.with_context(|| format!("no {name} of process {process}"))
            };
            all.resident += find(&rollup, "Rss:")?.0;
            all.page_tables += find(&status, "VmPTE:")?.0;
        }
        Ok(all)
    }

    pub(crate) fn sum(&self) -> u64 {
        self.resident + self.page_tables
    }
}

fn read(process: &u32, file: &str) -> Result<String> {
    let path = format!("/proc/{process}/{file}");
    fs::read_to_string(&path).with_context(|| format!("reading {path}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_is_resident() {
        let own = [std::process::id()];
        let before = Memory::of(&own).unwrap();
        let touched = std::hint::black_box(vec![1_u8; 64 << 20]);
        let after = Memory::of(&own).unwrap();
        // Other tests run in this process meanwhile, but none of them frees so much.
        assert!(
            after.resident - before.resident > 32 << 20,
            "{before:?} {after:?}"
        );
        drop(touched);
    }
}
