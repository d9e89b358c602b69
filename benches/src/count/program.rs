//! The small program whose instructions are counted: built anew if anything in it has changed.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};
use maniple_counted::Path;

use super::baseline::Build;
use crate::callgrind::{self, Counts, HINT};

pub(super) struct Program {
    file: PathBuf,
}

impl Program {
    /// Builds it with a profile of its own, whichever profile this program has.
    pub(super) fn built() -> Result<Self> {
        let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let mut command = Command::new(cargo);
        command
            .args(["build", "--profile=counted", "--locked", "--quiet"])
            .args(["--package=maniple-counted", "--message-format=json"])
            .current_dir(env!("CARGO_MANIFEST_DIR"))
            .stdin(Stdio::null());
        // A build with other settings has other counts.
        for (name, _) in env::vars_os() {
            if name.to_string_lossy().starts_with("CARGO_PROFILE_") {
                command.env_remove(name);
            }
        }
        let output = command
            .output()
            .context("starting cargo to build maniple-counted")?;
        let messages =
            finished(&output).context("cargo build --profile=counted -p maniple-counted")?;
        let file = executable(&messages).context("cargo names no program that it built")?;
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

/// What a process wrote that succeeded.
fn finished(output: &Output) -> Result<String> {
    ensure!(
        output.status.success(),
        "{}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr).trim()
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The program among cargo's messages, each a line of JSON.
fn executable(messages: &str) -> Option<PathBuf> {
    messages.lines().find_map(|line| {
        let message: serde_json::Value = serde_json::from_str(line).ok()?;
        let program = message.get("executable")?.as_str()?;
        Some(program.into())
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_program_is_found_among_libraries() {
        let messages = r#"{"reason":"compiler-artifact","executable":null}
not JSON
{"reason":"compiler-artifact","executable":"/t/counted/maniple-counted"}
{"reason":"build-finished","success":true}"#;
        let program = executable(messages).unwrap();
        assert_eq!(program, PathBuf::from("/t/counted/maniple-counted"));
        assert_eq!(executable(r#"{"reason":"build-finished"}"#), None);
    }
}
