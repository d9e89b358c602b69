//! Files in the shape of [`std::fs`]: each call runs as a whole on a thread of a pool for files, as
//! [`offload`](crate::offload()) describes, while the coroutine waits. On a plain thread it runs there.
//!
//! Linux cannot wait for a file to be ready as it can for a socket, so a call costs a hand-over to another
//! thread and back, some 10 µs. Move much at a time: [`read`], [`write`](write()), or a [`File`] in a
//! [`BufReader`](io::BufReader) or [`BufWriter`](io::BufWriter).
//!
//! # Cancellation
//!
//! A call in a cancelled scope, or past its deadline, does not begin, and one that still waits for a
//! thread is withdrawn: it then has had no effect.
//!
//! A call that has begun and only looks, that is [`read`], [`read_to_string`], [`read_limited`], [`metadata`],
//! [`read_dir`], [`File::open`], [`File::metadata`] and reading a [`File`], is left behind. Its thread stays with it,
//! and others stand in for up to 1,024 such; what it brings too late is dropped, and a file closed. A `File` whose read
//! was left behind has its cursor anywhere, and refuses what depends on that from then on: open it again.
//!
//! A call that changes something and has begun is seen through, and its result returned: a file half written would
//! be worse than late. On a file system that stands still it takes as long as that does, and a shutdown its
//! grace time.

use std::{
    fmt,
    fs::{DirEntry, Metadata, OpenOptions},
    io::{self, Read, Seek, SeekFrom, Write},
    os::fd::{AsFd, BorrowedFd},
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    vec,
};

use crate::{
    cancel,
    offload::{file_leaving, file_whole},
};

/// Reads the whole file; as [`std::fs::read`].
///
/// # Errors
/// Fails as [`std::fs::read`] does, and if the pool's queue is full, or the call was cut short.
///
/// # Examples
/// ```
/// let text = maniple::run(|| maniple::fs::read("/proc/version"))?;
/// assert!(text.starts_with(b"Linux"));
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn read(path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
    look(path, |path| {
        let mut all = Vec::new();
        read_on(&mut std::fs::File::open(path)?, &mut all).map(|()| all)
    })
}

/// Reads the whole file, unless it has more than `max_bytes`: what others may have made has any length, and some
/// files have no end.
///
/// # Errors
/// Fails as [`read`] does; of kind `FileTooLarge` if there is more.
///
/// # Examples
/// ```
/// use std::io::ErrorKind;
/// let endless = maniple::run(|| maniple::fs::read_limited("/dev/zero", 1000));
/// assert_eq!(endless.unwrap_err().kind(), ErrorKind::FileTooLarge);
/// ```
pub fn read_limited(path: impl AsRef<Path>, max_bytes: usize) -> io::Result<Vec<u8>> {
    look(path, move |path| {
        let mut all = Vec::new();
        // One more, to see that there is more.
        let most = (max_bytes as u64).saturating_add(1);
        read_on(&mut std::fs::File::open(path)?.take(most), &mut all)?;
        match all.len() <= max_bytes {
            true => Ok(all),
            false => Err(io::Error::new(
                io::ErrorKind::FileTooLarge,
                format!("{} has more than {max_bytes} bytes", path.display()),
            )),
        }
    })
}

/// Reads the whole file, which must be UTF-8; as [`std::fs::read_to_string`].
///
/// # Errors
/// Fails as [`read`] does; `InvalidData` if it is not UTF-8.
pub fn read_to_string(path: impl AsRef<Path>) -> io::Result<String> {
    String::from_utf8(read(path)?)
        .map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error))
}

/// Makes or replaces the file's contents; as [`std::fs::write`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn write(path: impl AsRef<Path>, contents: impl Into<Vec<u8>>) -> io::Result<()> {
    let contents = contents.into();
    on_path(path, move |path| std::fs::write(path, contents))
}

/// What the system knows of the file, or of what a symbolic link leads to; as [`std::fs::metadata`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    look(path, |path| std::fs::metadata(path))
}

/// What is in the directory, in no order; as [`std::fs::read_dir`].
///
/// # Errors
/// Fails as [`read`] does; each entry may be an error too, behind which none follows.
///
/// # Examples
/// ```
/// let files = maniple::run(|| -> std::io::Result<usize> {
///     let mut files = 0;
///     for entry in maniple::fs::read_dir("/proc/self")? {
///         // What the entry itself tells needs no other thread; `entry.metadata()` would ask the disk here.
///         files += usize::from(entry?.file_type()?.is_file());
///     }
///     Ok(files)
/// })?;
/// assert!(files > 0);
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    let (rest, ready) = look(path, |path| std::fs::read_dir(path).map(next_entries))?;
    Ok(ReadDir { rest, ready })
}

/// The iterator of [`read_dir`].
#[derive(Debug)]
pub struct ReadDir {
    /// `None` once all is read, or a call for more was left behind.
    rest: Option<std::fs::ReadDir>,
    ready: vec::IntoIter<io::Result<DirEntry>>,
}

/// Entries that are read at a time.
const ENTRIES_AT_ONCE: usize = 256;

fn next_entries(
    mut from: std::fs::ReadDir,
) -> (
    Option<std::fs::ReadDir>,
    vec::IntoIter<io::Result<DirEntry>>,
) {
    let mut ready = Vec::new();
    while ready.len() < ENTRIES_AT_ONCE {
        let Some(entry) = from.next() else {
            return (None, ready.into_iter());
        };
        let failed = entry.is_err();
        ready.push(entry);
        if failed {
            return (None, ready.into_iter());
        }
    }
    (Some(from), ready.into_iter())
}

impl Iterator for ReadDir {
    type Item = io::Result<DirEntry>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.ready.as_slice().is_empty() {
            let from = self.rest.take()?;
            match file_leaving(move || next_entries(from), &mut false) {
                Ok((rest, ready)) => (self.rest, self.ready) = (rest, ready),
                Err(error) => return Some(Err(error)),
            }
        }
        self.ready.next()
    }
}

/// Runs `job`, which may look at files and must change nothing, on a thread of the pool for files while the calling
/// coroutine waits: several calls for the price of one hand-over. A plain thread runs it itself.
///
/// Once begun it is left behind like [`read`], if the wait is cut short; what it brings then is dropped.
///
/// # Errors
/// That of `job`, and if the pool's queue is full, or the call was cut short.
///
/// # Panics
/// With the panic of `job`.
///
/// # Examples
/// ```
/// use std::os::unix::fs::FileExt;
/// let begin = maniple::run(|| maniple::fs::reading(|| {
///     let file = std::fs::File::open("/proc/version")?;
///     let mut begin = [0; 5];
///     file.read_exact_at(&mut begin, 0).map(|()| begin)
/// }))?;
/// assert_eq!(&begin, b"Linux");
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn reading<T, F>(job: F) -> io::Result<T>
where
    F: FnOnce() -> io::Result<T> + Send + 'static,
    T: Send + 'static,
{
    file_leaving(job, &mut false)?
}

/// Makes a directory and those above it that are missing; as [`std::fs::create_dir_all`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn create_dir_all(path: impl AsRef<Path>) -> io::Result<()> {
    on_path(path, |path| std::fs::create_dir_all(path))
}

/// Removes a file; as [`std::fs::remove_file`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    on_path(path, |path| std::fs::remove_file(path))
}

/// Gives a file another name, in place of what had it; as [`std::fs::rename`].
///
/// # Errors
/// Fails as [`read`] does.
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
    /// A read was left behind: the cursor may be anywhere, and move yet.
    astray: AtomicBool,
}

/// Bytes that one call moves at most, since they are copied.
const MAX_MOVED: usize = 1024 * 1024;

impl File {
    /// Opens a file for reading.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::open`] does, and if the pool's queue is full, or the call was cut short.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        look(path, |path| std::fs::File::open(path)).map(Self::from)
    }

    /// Opens a file for writing, empty, whether or not it was there.
    ///
    /// # Errors
    /// Fails as [`File::open`] does.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        Self::open_with(
            OpenOptions::new().write(true).create(true).truncate(true),
            path,
        )
    }

    /// Opens a file as std's options say. Since that may make or empty it, a call that has begun is seen through,
    /// other than [`File::open`].
    ///
    /// # Errors
    /// Fails as [`File::open`] does.
    pub fn open_with(options: &OpenOptions, path: impl AsRef<Path>) -> io::Result<Self> {
        let options = options.clone();
        on_path(path, move |path| options.open(path)).map(Self::from)
    }

    /// Closes the file on another thread: on a network file system that may take as long as writing does. A file that
    /// is dropped closes where that happens.
    ///
    /// # Errors
    /// If the pool's queue is full, or the call was cut short before it began. The file is closed all the same.
    pub fn close(self) -> io::Result<()> {
        let file = self.file;
        file_whole(move || drop(file))
    }

    /// What the system knows of the file.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::metadata`] and [`File::open`] do.
    pub fn metadata(&self) -> io::Result<Metadata> {
        let file = self.file.clone();
        file_leaving(move || file.metadata(), &mut false)?
    }

    /// Cuts the file to that length, or extends it with zeros.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::set_len`] and [`File::open`] do.
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        self.call(move |file| file.set_len(bytes))
    }

    /// Returns once data and metadata are on the disk.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::sync_all`] and [`File::open`] do.
    pub fn sync_all(&self) -> io::Result<()> {
        self.call(|file| file.sync_all())
    }

    /// Has the kernel write what it holds, like [`File::sync_all`], without the metadata that reading does not need.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::sync_data`] and [`File::open`] do.
    pub fn sync_data(&self) -> io::Result<()> {
        self.call(|file| file.sync_data())
    }

    fn call<T: Send + 'static>(
        &self,
        call: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        file_whole(move || call(&file))?
    }

    /// A call that may be left behind, and moves the cursor.
    fn call_reading<T: Send + 'static>(
        &self,
        call: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        self.check_cursor()?;
        let (file, mut left) = (self.file.clone(), false);
        let result = file_leaving(move || call(&file), &mut left);
        if left {
            self.astray.store(true, Ordering::Relaxed);
        }
        result?
    }

    fn check_cursor(&self) -> io::Result<()> {
        match self.astray.load(Ordering::Relaxed) {
            false => Ok(()),
            true => Err(io::Error::other(
                "a read of this file was left behind when it was cut short: its cursor may be anywhere",
            )),
        }
    }
}

impl Read for &File {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let wanted = buffer.len().min(MAX_MOVED);
        let got = self.call_reading(move |mut file| {
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
        let (result, got) = self.call_reading(|mut file| {
            let mut got = Vec::new();
            Ok((read_on(&mut file, &mut got), got))
        })?;
        let bytes = got.len();
        buffer.extend(got);
        result.map(|()| bytes)
    }
}

impl Write for &File {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.check_cursor()?;
        let own = bytes[..bytes.len().min(MAX_MOVED)].to_vec();
        self.call(move |mut file| file.write(&own))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        self.check_cursor()?;
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
            astray: AtomicBool::new(false),
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
    file_whole(move || call(&path))?
}

/// A call that changes nothing, and so may be left behind.
fn look<T: Send + 'static>(
    path: impl AsRef<Path>,
    call: impl FnOnce(&Path) -> io::Result<T> + Send + 'static,
) -> io::Result<T> {
    let path = path.as_ref().to_owned();
    file_leaving(move || call(&path), &mut false)?
}

/// Reads to the end, as long as somebody waits for it: what was left behind does not read on for ever.
fn read_on(from: &mut impl Read, all: &mut Vec<u8>) -> io::Result<()> {
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
