//! What the commands take from the command line alike, and what they show while they measure.

use std::io::{self, IsTerminal};

/// Parses how long to measure.
pub(crate) fn seconds(text: &str) -> Result<f64, String> {
    let seconds: f64 = text.parse().map_err(|_| "not a number of seconds")?;
    match seconds > 0.0 && seconds <= 3600.0 {
        true => Ok(seconds),
        false => Err("must be longer than 0 and at most 3600".to_owned()),
    }
}

/// Shows on a terminal what is going on, in place of what it showed before.
pub(crate) fn progress(text: &str) {
    if io::stderr().is_terminal() {
        eprint!("\r\x1b[K{text}");
    }
}
