//! Go's net/http, in a program of its own that this process becomes.

use anyhow::Result;

use super::Listening;
use crate::go::become_peer;

pub(super) fn serve(listening: &Listening) -> Result<()> {
    become_peer(1, arguments(listening))
}

pub(super) fn serve_with_workers(listening: &Listening, workers: usize) -> Result<()> {
    let arguments = arguments(listening).into_iter();
    become_peer(workers, arguments.chain(["--routes".to_owned()]))
}

fn arguments(listening: &Listening) -> Vec<String> {
    let mut arguments = vec!["serve".to_owned(), format!("--listen={}", listening.listen)];
    if let Some(patience) = listening.idle() {
        arguments.push(format!("--idle={}s", patience.as_secs()));
    }
    arguments
}
