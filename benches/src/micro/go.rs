//! Go's rows, in a program of its own that this process becomes. It is told how often, and prints what it measured.

use anyhow::Result;

use super::{
    name,
    row::{COUNTS, Row},
};
use crate::go::become_peer;

pub(super) fn run(row: Row, workers: usize) -> Result<()> {
    become_peer(
        workers,
        [
            "micro".to_owned(),
            format!("--row={}", name(row)),
            format!("--counts={}", serde_json::to_string(&COUNTS)?),
        ],
    )
}
