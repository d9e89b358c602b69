//! Calls on files of the system: each runs as a whole on a thread of the pool for files.

use std::{
    io::{self, Read},
    path::Path,
};

use crate::{
    cancel,
    offload::{file_leaving, file_whole},
};

pub(super) fn on_path<T: Send + 'static>(
    path: impl AsRef<Path>,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    file_whole(move || call(&path))?
}

/// A call that changes nothing, and so may be left behind.
pub(super) fn look<T: Send + 'static>(
    path: impl AsRef<Path>,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    file_leaving(move || call(&path), &mut false)?
}

/// Reads to the end, as long as somebody waits for it: what was left behind does not read on for ever.
pub(super) fn read_on(from: &mut impl Read, all: &mut Vec<u8>) -> io::Result<()> {
    loop {
        let got = from.by_ref().take(PART).read_to_end(all)?;
        if (got as u64) < PART {
            return Ok(());
        }
        cancel::check()?;
    }
}

/// Bytes between two looks at whether anybody waits.
const PART: u64 = 1 << 20;
