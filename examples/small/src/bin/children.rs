//! Child processes: several at once, their output, and one that takes too long and is killed.
//!
//! Try it: `cargo run --bin children`.

use std::{io, time::Duration};

use maniple::{group, process::Command};

fn shell(script: &str) -> io::Result<String> {
    let output = Command::new("sh")
        .args(["-c", script])
        .kill_on_drop(true)
        .output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!("{script:?}: {}", output.status)));
    }
    Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
}

fn main() {
    maniple::run(|| {
        // Without `exec` the shell would be killed, and its sleep would go on.
        let scripts = ["uname -s", "exit 3", "exec sleep 60"];
        let results = group::map(scripts.len(), scripts, |script| {
            maniple::timeout(Duration::from_millis(500), || shell(script))?
        });
        for (script, result) in scripts.iter().zip(results) {
            match result {
                Ok(output) => println!("{script}: {output}"),
                Err(error) => println!("{script} failed: {error}"),
            }
        }
    });
}
