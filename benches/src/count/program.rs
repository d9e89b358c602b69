//! The small program whose instructions are counted: built anew if anything in it has changed.

use std::{
    env,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context, Result};
use maniple_counted::Path;

use super::baseline::Build;
use crate::{
    callgrind::{self, Counts, HINT},
    cargo::{HOOKED, build, finished},
};

pub(super) struct Program {
    file: PathBuf,
}

impl Program {
    /// Builds it with a profile of its own, whichever profile this program has; or the one whose calls are hooked.
    pub(super) fn built(hooked: bool) -> Result<Self> {
        let name = if hooked { HOOKED } else { PLAIN };
        let of = ["--profile=counted", "--package=maniple-counted"];
        let file = build(name, &of)?;
        Ok(Self { file })
    }

    /// What it was built with.
    pub(super) fn build(&self) -> Result<Build> {
        let output = Command::new(&self.file).arg("build").output();
        let lines = finished(&output.context("starting maniple-counted")?)?;
        Build::told(&lines).context("maniple-counted does not say what it was built with")
    }

    /// Counts while it does the path so often.
    pub(super) fn run(&self, path: Path, times: u64) -> Result<Counts> {
        let file = env::temp_dir().join(format!("maniple-count.{}", std::process::id()));
        let output = callgrind::command(&self.file, &file, false)
            .args([path.name(), &times.to_string()])
            .stdin(Stdio::null())
            .output()
            .context(HINT)?;
        finished(&output)?;
        let counts = Counts::read(&file, &self.file);
        // It is of no use to anybody else, in whatever state.
        let _ = std::fs::remove_file(&file);
        counts
    }
}

const PLAIN: &str = "maniple-counted";
