//! Files in the shape of [`std::fs`]: each call runs as a whole on the [`offload`](crate::offload()) pool
//! while the coroutine waits. On a plain thread it runs there.
//!
//! Linux cannot wait for a file to be ready as it can for a socket, so a call costs a hand-over to another
//! thread and back, some 10 µs. Move much at a time: [`read`], [`write`](write()), or a [`File`] in a
//! [`BufReader`](io::BufReader) or [`BufWriter`](io::BufWriter).
//!
//! # Cancellation
//!
//! A call in a cancelled scope, or past its deadline, does not begin, and one that still waits for a
//! thread is withdrawn: it then has had no effect. A call that has begun is seen through, and its result
//! returned, for a file half written or a cursor moved unseen would be worse than late.

use std::{
    fmt,
    fs::{Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::Arc,
};

use crate::offload::offload_whole;

/// Reads the whole file; as [`std::fs::read`].
///
/// # Errors
/// As there; if the pool's queue is full, or the call was cut short before it began.
///
/// # Examples
/// ```
/// let text = maniple::run(|| maniple::fs::read("/proc/version"))?;
/// assert!(text.starts_with(b"Linux"));
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    on_path(path, |path| std::fs::read(path))
}

/// Reads the whole file, which must be UTF-8; as [`std::fs::read_to_string`].
///
/// # Errors
/// As [`read`]; `InvalidData` if it is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    on_path(path, |path| std::fs::read_to_string(path))
}

/// Makes or replaces the file's contents; as [`std::fs::write`].
///
/// # Errors
/// As [`read`].
pub fn write(path: impl AsRef<Path>, contents: impl Into<Vec<u8>>) -> io::Result<()> {
    let contents = contents.into();
    on_path(path, move |path| std::fs::write(path, contents))
}

/// What the system knows of the file, or of what a symbolic link leads to; as [`std::fs::metadata`].
///
/// # Errors
/// As [`read`].
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    on_path(path, |path| std::fs::metadata(path))
}

/// Makes a directory and those above it that are missing; as [`std::fs::create_dir_all`].
///
/// # Errors
/// As [`read`].
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    on_path(path, |path| std::fs::create_dir_all(path))
}

/// Removes a file; as [`std::fs::remove_file`].
///
/// # Errors
/// As [`read`].
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    on_path(path, |path| std::fs::remove_file(path))
}

/// Gives a file another name, in place of what had it; as [`std::fs::rename`].
///
/// # Errors
/// As [`read`].
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    let to = to.as_ref().to_owned();
    on_path(from, move |from| std::fs::rename(from, to))
}

/// An open file, whose calls leave the worker to other coroutines; as [`std::fs::File`].
///
/// A call moves at most 1 MiB, through a buffer of its own. Like std's it can be used through a shared
/// reference; the cursor is then shared too. Writes are not buffered, so `flush` has nothing to do.
///
/// # Examples
/// ```
/// use maniple::fs::File;
/// use std::io::{BufRead, BufReader};
/// let first = maniple::run(|| {
///     let meminfo = BufReader::new(File::open("/proc/meminfo")?);
///     meminfo.lines().next().expect("a line")
/// })?;
/// assert!(first.starts_with("MemTotal"));
/// # Ok::<_, std::io::Error>(())
/// ```
pub struct File {
    file: Arc<std::fs::File>,
}

/// Bytes that one call moves at most, since they are copied.
const MAX_MOVED: usize = 1024 * 1024;

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// As [`std::fs::File::open`]; if the pool's queue is full, or the call was cut short before it began.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(OpenOptions::new().read(true), path)
    }

    /// Opens a file for writing, empty, whether or not it was there.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(
            OpenOptions::new().write(true).create(true).truncate(true),
            path,
        )
    }

    /// Opens a file as std's options say.
    ///
    /// # Errors
    /// As [`File::open`].
    pub fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<Self> {
        let options = options.clone();
        on_path(path, move |path| options.open(path)).map(Self::from)
    }

    /// What the system knows of the file.
    ///
    /// # Errors
    /// As [`std::fs::File::metadata`] and [`File::open`].
    pub fn metadata(&self) -> io::Result<Metadata> {
        self.call(|file| file.metadata())
    }

    /// Cuts the file to that length, or extends it with zeros.
    ///
    /// # Errors
    /// As [`std::fs::File::set_len`] and [`File::open`].
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(move |file| file.set_len(bytes))
    }

    /// Returns once data and metadata are on the disk.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_all`] and [`File::open`].
    pub fn sync_all(&self) -> io::Result<()> {
        self.call(|file| file.sync_all())
    }

    /// As [`File::sync_all`], without the metadata that reading does not need.
    ///
    /// # Errors
    /// As [`std::fs::File::sync_data`] and [`File::open`].
    pub fn sync_data(&self) -> io::Result<()> {
        self.call(|file| file.sync_data())
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        offload_whole(move || call(&file))?
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(MAX_MOVED);
        let got = self.call(move |mut file| {
            let mut own = vec![0; wanted];
            let got = file.read(&mut own)?;
            own.truncate(got);
            Ok(own)
        })?;
        buffer[..got.len()].copy_from_slice(&got);
        Ok(got.len())
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        // What was read before an error is handed on with it, as the trait asks.
        let (result, got) = self.call(|mut file| {
            let mut got = Vec::new();
            Ok((file.read_to_end(&mut got), got))
        })?;
        buffer.extend(got);
        result
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let own = bytes[..bytes.len().min(MAX_MOVED)].to_vec();
        self.call(move |mut file| file.write(&own))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.call(move |mut file| file.seek(to))
    }
}

impl Read for File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        (&*self).read(buffer)
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        (&*self).read_to_end(buffer)
    }
}

impl Write for File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        (&*self).write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        (&*self).seek(to)
    }
}

impl AsFd for File {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self {
            file: Arc::new(file),
        }
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.file.fmt(f)
    }
}

fn on_path<T: Send + 'static>(
    path: impl AsRef<Path>,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    offload_whole(move || call(&path))?
}
