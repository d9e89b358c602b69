//! The child's side of a measurement: the clock, the memory, the lines that it prints.

use std::{fs::File, io::Read};

use anyhow::{Context, Result};

use super::protocol::{Event, Footprint, Parked, Stage};
use crate::{capacity::limits::field, process::Stopwatch};

/// Measures from the first spawn to the end, and tells the parent.
#[derive(Debug)]
pub(super) struct Stages {
    guard: &'static str,
    wanted: u64,
    /// How many make progress that is worth a line.
    step: u64,
    told: u64,
    begun: Stopwatch,
    stage: Stopwatch,
    before: Footprint,
    /// Allocated beforehand: at the limit of mappings there may be no more memory to have.
    buffer: Vec<u8>,
}

impl Stages {
    /// To be called when the engine runs and nothing is spawned yet.
    pub(super) fn begin(wanted: u64, guard: &'static str) -> Result<Self> {
        let mut buffer = vec![0; 64 << 10];
        let before = footprint(&mut buffer)?;
        let now = Stopwatch::start()?;
        Ok(Self {
            guard,
            wanted,
            step: (wanted / 100).clamp(1, 256),
            told: 0,
            begun: now,
            stage: now,
            before,
            buffer,
        })
    }

    /// So many are spawned.
    pub(super) fn reached(&mut self, count: u64) -> Result<()> {
        self.progress(count, Event::Reached(count))
    }

    /// So many were joined.
    pub(super) fn joined(&mut self, count: u64) -> Result<()> {
        self.progress(count, Event::Joined(count))
    }

    fn progress(&mut self, count: u64, event: Event) -> Result<()> {
        if count < self.told + self.step {
            return Ok(());
        }
        self.told = count;
        tell(&event)
    }

    /// All that could be spawned wait; `cause` says why there are no more.
    pub(super) fn parked(&mut self, count: u64, cause: Option<String>) -> Result<()> {
        let spawn = stage(&self.stage)?;
        let now = footprint(&mut self.buffer)?;
        tell(&Event::Parked(Parked {
            count,
            cause: cause.filter(|_| count < self.wanted),
            guard: self.guard.to_owned(),
            spawn,
            before: self.before,
            now,
        }))?;
        self.told = 0;
        self.stage = Stopwatch::start()?;
        Ok(())
    }

    /// All were woken and joined.
    pub(super) fn ended(&mut self) -> Result<()> {
        tell(&Event::Ended(stage(&self.stage)?))
    }

    /// The engine is gone, too.
    pub(super) fn finish(self) -> Result<()> {
        tell(&Event::Finished(stage(&self.begun)?))
    }
}

fn tell(event: &Event) -> Result<()> {
    println!("{}", serde_json::to_string(event)?);
    Ok(())
}

fn stage(since: &Stopwatch) -> Result<Stage> {
    let (wall, cpu) = since.elapsed()?;
    Ok(Stage {
        seconds: wall.as_secs_f64(),
        cpu_seconds: cpu.as_secs_f64(),
    })
}

/// What this process takes.
fn footprint(buffer: &mut [u8]) -> Result<Footprint> {
    let mut status = File::open("/proc/self/status").context("open /proc/self/status")?;
    let length = status.read(buffer).context("read /proc/self/status")?;
    let text = std::str::from_utf8(&buffer[..length]).context("/proc/self/status is no text")?;
    let bytes = |name: &str| field(text, name).map_or(0, |bytes| bytes.0);
    let (resident, page_tables) = (bytes("VmRSS:"), bytes("VmPTE:"));
    let mut maps = File::open("/proc/self/maps").context("open /proc/self/maps")?;
    let mut mappings = 0;
    loop {
        let length = maps.read(buffer).context("read /proc/self/maps")?;
        if length == 0 {
            break;
        }
        mappings += buffer[..length]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count() as u64;
    }
    Ok(Footprint {
        resident,
        page_tables,
        mappings,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn memory_that_is_touched_shows() {
        let mut buffer = vec![0; 64 << 10];
        let pages = vec![1_u8; 64 << 20];
        let now = footprint(&mut buffer).unwrap();
        // Other tests come and go in the same process, and the kernel counts in batches.
        assert!(now.resident >= 60 << 20, "{now:?}");
        assert!(now.page_tables > 0 && now.mappings > 0);
        drop(pages);
    }
}
