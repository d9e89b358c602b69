//! What gives a streamed body: a reader, and maybe one that knows in which file its next bytes are.

use std::{
    fs::File,
    io::{self, Read},
    ops::Range,
    sync::Arc,
};

/// Gives a body by being read. Some can do without, as long as the next bytes are a file's, which the kernel sends by itself.
pub(crate) trait Source: Read + Send {
    /// In which file the next bytes are, and where there.
    fn in_file(&self) -> Option<(&Arc<File>, Range<u64>)> {
        None
    }

    /// So many of those bytes are not to be read any more: they have been sent.
    fn pass(&mut self, bytes: u64) {
        let _ = bytes;
    }

    /// How many bytes it is best asked for at a time.
    fn at_once(&self) -> usize {
        16 * 1024
    }
}

/// Any reader.
pub(crate) struct Plain<R>(pub(crate) R);

impl<R: Read> Read for Plain<R> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl<R: Read + Send> Source for Plain<R> {}
