//! Goroutines, in a program of Go's own that this process becomes. It prints the same lines.

use anyhow::Result;

use super::spec::Spec;
use crate::go::become_peer;

pub(super) fn run(spec: &Spec) -> Result<()> {
    become_peer(
        spec.workers.into(),
        [
            "stacks".to_owned(),
            format!("--count={}", spec.count),
            format!("--touch={}", spec.touch),
        ],
    )
}
