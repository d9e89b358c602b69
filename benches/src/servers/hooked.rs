//! maniple-server in a program whose calls are hooked, which this process becomes: linked to this one, the hook would be
//! between the other contenders and the C library, too.

use std::{env, os::unix::process::CommandExt, process::Command, sync::OnceLock};

use anyhow::{Context, Result, anyhow, ensure};

use super::Listening;
use crate::cargo::{HOOKED, build};

pub(super) fn serve(listening: &Listening) -> Result<()> {
    ensure!(
        listening.idle_seconds.is_none(),
        "it knows no other idle time"
    );
    let program = env::current_exe()?.with_file_name(HOOKED);
    let mut command = Command::new(&program);
    let error = command
        .args(["serve".to_owned(), listening.listen.to_string()])
        .exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// That it can be started: beside this program, with the same crates, features and all.
pub(super) fn ready() -> Result<()> {
    static BUILT: OnceLock<Result<(), String>> = OnceLock::new();
    let built = BUILT.get_or_init(|| {
        let of = [
            "--release",
            "--package=maniple-bench",
            "--package=maniple-counted",
        ];
        build(HOOKED, &of)
            .map(|_beside| ())
            .map_err(|error| format!("{error:#}"))
    });
    built.clone().map_err(|error| anyhow!(error))
}
