//! Programs of this workspace that are not this one: cargo builds them anew if anything in them has changed.

use std::{
    env,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use anyhow::{Context, Result, ensure};

/// The program whose calls are hooked, of the package `maniple-counted`.
pub(crate) const HOOKED: &str = "maniple-hooked";

/// Has cargo build a program of this workspace; where it is.
pub(crate) fn build(name: &str, of: &[&str]) -> Result<PathBuf> {
    let cargo = env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command
        .args(["build", "--locked", "--quiet", "--message-format=json"])
        .args(of)
        .args(["--bin", name])
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
        .with_context(|| format!("starting cargo to build {name}"))?;
    let messages = finished(&output).with_context(|| format!("cargo build --bin {name}"))?;
    executable(&messages).context("cargo names no program that it built")
}

/// What a process wrote that succeeded.
pub(crate) fn finished(output: &Output) -> Result<String> {
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
