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
//!
//! # In a simulated world
//!
//! Paths lead to the disk of the caller's host, and [what a crash leaves of that](crate::sim#files) is drawn. There are
//! no links but hard ones, no owners, and nobody lacks a permission. [`reading`] panics, since its job would use std's
//! files, and so does what takes a [`File`]'s descriptor.

mod call;
mod file;
mod metadata;
mod options;
mod simulated;

use std::{
    io::{self, Read},
    path::Path,
};

use self::call::{look, on_path, read_on};
use crate::{net::simulated::remove_socket_file, offload::file_leaving};

pub use file::File;
pub use metadata::{DirEntry, FileType, Metadata, ReadDir};
pub use options::OpenOptions;

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
    if let Some(disk) = simulated::disk() {
        let all = disk.read(path.as_ref(), usize::MAX)?;
        return Ok(all.unwrap_or_default());
    }
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
    if let Some(disk) = simulated::disk() {
        let all = disk.read(path.as_ref(), max_bytes)?;
        return all.ok_or_else(|| too_large(path.as_ref(), max_bytes));
    }
    look(path, move |path| {
        let mut all = Vec::new();
        // One more, to see that there is more.
        let most = (max_bytes as u64).saturating_add(1);
        read_on(&mut std::fs::File::open(path)?.take(most), &mut all)?;
        match all.len() <= max_bytes {
            true => Ok(all),
            false => Err(too_large(path, max_bytes)),
        }
    })
}

fn too_large(path: &Path, max_bytes: usize) -> io::Error {
    let text = format!("{} has more than {max_bytes} bytes", path.display());
    io::Error::new(io::ErrorKind::FileTooLarge, text)
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
    if let Some(disk) = simulated::disk() {
        return disk.write(path.as_ref(), &contents);
    }
    on_path(path, move |path| std::fs::write(path, contents))
}

/// What the system knows of the file, or of what a symbolic link leads to; as [`std::fs::metadata`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn metadata(path: impl AsRef<Path>) -> io::Result<Metadata> {
    if let Some(disk) = simulated::disk() {
        return disk.facts(path.as_ref()).map(Metadata::of_world);
    }
    look(path, |path| std::fs::metadata(path)).map(Metadata::from)
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
///         // What the entry itself tells needs no other thread.
///         files += usize::from(entry?.file_type()?.is_file());
///     }
///     Ok(files)
/// })?;
/// assert!(files > 0);
/// # Ok::<_, std::io::Error>(())
/// ```
pub fn read_dir(path: impl AsRef<Path>) -> io::Result<ReadDir> {
    ReadDir::open(path.as_ref())
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
    if let Some(disk) = simulated::disk() {
        return disk.make_all_folders(path.as_ref());
    }
    on_path(path, |path| std::fs::create_dir_all(path))
}

/// Makes a directory in one that is there; as [`std::fs::create_dir`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn create_dir(path: impl AsRef<Path>) -> io::Result<()> {
    if let Some(disk) = simulated::disk() {
        return disk.make_folder(path.as_ref());
    }
    on_path(path, |path| std::fs::create_dir(path))
}

/// Removes a directory in which nothing is; as [`std::fs::remove_dir`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn remove_dir(path: impl AsRef<Path>) -> io::Result<()> {
    if let Some(disk) = simulated::disk() {
        return disk.remove_folder(path.as_ref());
    }
    on_path(path, |path| std::fs::remove_dir(path))
}

/// Removes a file; as [`std::fs::remove_file`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn remove_file(path: impl AsRef<Path>) -> io::Result<()> {
    if remove_socket_file(path.as_ref()) {
        return Ok(());
    }
    if let Some(disk) = simulated::disk() {
        return disk.remove_file(path.as_ref());
    }
    on_path(path, |path| std::fs::remove_file(path))
}

/// Gives a file another name, in place of what had it; as [`std::fs::rename`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn rename(from: impl AsRef<Path>, to: impl AsRef<Path>) -> io::Result<()> {
    if let Some(disk) = simulated::disk() {
        return disk.rename(from.as_ref(), to.as_ref());
    }
    let to = to.as_ref().to_owned();
    on_path(from, move |from| std::fs::rename(from, to))
}

/// Gives a file a further name, which nothing has; as [`std::fs::hard_link`].
///
/// # Errors
/// Fails as [`read`] does.
pub fn hard_link(original: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    if let Some(disk) = simulated::disk() {
        return disk.link(original.as_ref(), link.as_ref());
    }
    let link = link.as_ref().to_owned();
    on_path(original, move |original| std::fs::hard_link(original, link))
}
