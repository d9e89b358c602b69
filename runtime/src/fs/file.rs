//! Open files.

use std::{
    fmt,
    io::{self, Read, Seek, SeekFrom, Write},
    os::{
        fd::{AsFd, BorrowedFd},
        unix::fs::FileExt,
    },
    path::Path,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{
    call::{look, on_path, read_on},
    metadata::Metadata,
    options::OpenOptions,
    simulated::{self, OpenFile, Whole},
};
use crate::{
    cancel,
    offload::{file_leaving, file_whole},
};

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
pub struct File(Kind);

enum Kind {
    Real(Real),
    Simulated(OpenFile),
}

struct Real {
    file: Arc<std::fs::File>,
    /// A read was left behind: the cursor may be anywhere, and move yet.
    astray: AtomicBool,
}

/// Bytes that one call moves at most, since they are copied.
const MAX_MOVED: usize = 1024 * 1024;

impl File {
    pub(super) fn of_world(file: OpenFile) -> Self {
        Self(Kind::Simulated(file))
    }

    /// Opens a file for reading.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::open`] does, and if the pool's queue is full, or the call was cut short.
    pub fn open(path: impl AsRef<Path>) -> io::Result<Self> {
        if simulated::disk().is_some() {
            return OpenOptions::new().read(true).open(path);
        }
        look(path, |path| std::fs::File::open(path)).map(Self::from)
    }

    /// Opens a file for writing, empty, whether or not it was there.
    ///
    /// # Errors
    /// Fails as [`File::open`] does.
    pub fn create(path: impl AsRef<Path>) -> io::Result<Self> {
        (OpenOptions::new().write(true).create(true).truncate(true)).open(path)
    }

    /// Closes the file on another thread: on a network file system that may take as long as writing does. A file that
    /// is dropped closes where that happens.
    ///
    /// # Errors
    /// If the pool's queue is full, or the call was cut short before it began. The file is closed all the same.
    pub fn close(self) -> io::Result<()> {
        match self.0 {
            Kind::Real(Real { file, .. }) => file_whole(move || drop(file)),
            Kind::Simulated(_) => Ok(cancel::check()?),
        }
    }

    /// What the system knows of the file.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::metadata`] and [`File::open`] do.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match &self.0 {
            Kind::Real(real) => real.look(|file| file.metadata()).map(Metadata::from),
            Kind::Simulated(file) => file.facts().map(Metadata::of_world),
        }
    }

    /// Cuts the file to that length, or extends it with zeros.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::set_len`] and [`File::open`] do.
    pub fn set_len(&self, bytes: u64) -> io::Result<()> {
        match &self.0 {
            Kind::Real(real) => real.call(move |file| file.set_len(bytes)),
            Kind::Simulated(file) => file.set_len(bytes),
        }
    }

    /// Returns once data and metadata are on the disk. The names in a directory are, once that was opened for reading
    /// and synced.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::sync_all`] and [`File::open`] do.
    pub fn sync_all(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Real(real) => real.call(|file| file.sync_all()),
            Kind::Simulated(file) => file.sync(),
        }
    }

    /// Has the kernel write what it holds, like [`File::sync_all`], without the metadata that reading does not need.
    ///
    /// # Errors
    /// Fails as [`std::fs::File::sync_data`] and [`File::open`] do.
    pub fn sync_data(&self) -> io::Result<()> {
        match &self.0 {
            Kind::Real(real) => real.call(|file| file.sync_data()),
            Kind::Simulated(file) => file.sync(),
        }
    }

    /// Reads from there on, and leaves the cursor where it is; as [`FileExt::read_at`].
    ///
    /// # Errors
    /// Fails as [`FileExt::read_at`] and [`File::open`] do.
    ///
    /// # Examples
    /// ```
    /// use maniple::fs::File;
    /// let mut word = [0; 7];
    /// maniple::run(|| File::open("/proc/version")?.read_exact_at(&mut word, 6))?;
    /// assert_eq!(&word, b"version");
    /// # Ok::<_, std::io::Error>(())
    /// ```
    pub fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            Kind::Real(real) => {
                let wanted = buffer.len().min(MAX_MOVED);
                let got = real.look(move |file| {
                    let mut own = vec![0; wanted];
                    let got = file.read_at(&mut own, offset)?;
                    own.truncate(got);
                    Ok(own)
                })?;
                buffer[..got.len()].copy_from_slice(&got);
                Ok(got.len())
            }
            Kind::Simulated(file) => file.read_at(buffer, offset),
        }
    }

    /// Fills the buffer from there on; as [`FileExt::read_exact_at`].
    ///
    /// # Errors
    /// Fails as [`File::read_at`] does; `UnexpectedEof` if there is less.
    pub fn read_exact_at(&self, mut buffer: &mut [u8], mut offset: u64) -> io::Result<()> {
        while !buffer.is_empty() {
            match self.read_at(buffer, offset)? {
                0 => return Err(io::ErrorKind::UnexpectedEof.into()),
                count => {
                    buffer = &mut buffer[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }

    /// Writes there, and leaves the cursor where it is; as [`FileExt::write_at`]. A file that was opened for appending
    /// is appended to, wherever that is.
    ///
    /// # Errors
    /// Fails as [`FileExt::write_at`] and [`File::open`] do.
    pub fn write_at(&self, bytes: &[u8], offset: u64) -> io::Result<usize> {
        match &self.0 {
            Kind::Real(real) => {
                let own = bytes[..bytes.len().min(MAX_MOVED)].to_vec();
                real.call(move |file| file.write_at(&own, offset))
            }
            Kind::Simulated(file) => file.write_at(bytes, offset),
        }
    }

    /// Writes all of it there; as [`FileExt::write_all_at`].
    ///
    /// # Errors
    /// Fails as [`File::write_at`] does; part of it may have been written.
    pub fn write_all_at(&self, mut bytes: &[u8], mut offset: u64) -> io::Result<()> {
        while !bytes.is_empty() {
            match self.write_at(bytes, offset)? {
                0 => return Err(io::ErrorKind::WriteZero.into()),
                count => {
                    bytes = &bytes[count..];
                    offset += count as u64;
                }
            }
        }
        Ok(())
    }
}

impl OpenOptions {
    /// Opens a file. Since that may make or empty it, a call that has begun is seen through, other than
    /// [`File::open`].
    ///
    /// # Errors
    /// Fails as [`std::fs::OpenOptions::open`] does, and if the pool's queue is full, or the call was cut short.
    pub fn open(&self, path: impl AsRef<Path>) -> io::Result<File> {
        if let Some(disk) = simulated::disk() {
            return disk.open(path.as_ref(), self).map(File::of_world);
        }
        let options = self.std();
        on_path(path, move |path| options.open(path)).map(File::from)
    }
}

impl Real {
    /// A call that may be left behind, and has nothing to do with the cursor.
    fn look<T: Send + 'static>(
        &self,
        call: impl FnOnce(&std::fs::File) -> io::Result<T> + Send + 'static,
    ) -> io::Result<T> {
        let file = self.file.clone();
        file_leaving(move || call(&file), &mut false)?
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
        let real = match &self.0 {
            Kind::Real(real) => real,
            Kind::Simulated(file) => return file.read(buffer),
        };
        let wanted = buffer.len().min(MAX_MOVED);
        let got = real.call_reading(move |mut file| {
            let mut own = vec![0; wanted];
            let got = file.read(&mut own)?;
            own.truncate(got);
            Ok(own)
        })?;
        buffer[..got.len()].copy_from_slice(&got);
        Ok(got.len())
    }

    fn read_to_end(&mut self, buffer: &mut Vec<u8>) -> io::Result<usize> {
        let real = match &self.0 {
            Kind::Real(real) => real,
            Kind::Simulated(file) => return Whole(file).read_to_end(buffer),
        };
        // What was read before an error is handed on with it, as the trait asks.
        let (result, got) = real.call_reading(|mut file| {
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
        let real = match &self.0 {
            Kind::Real(real) => real,
            Kind::Simulated(file) => return file.write(bytes),
        };
        real.check_cursor()?;
        let own = bytes[..bytes.len().min(MAX_MOVED)].to_vec();
        real.call(move |mut file| file.write(&own))
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Seek for &File {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let real = match &self.0 {
            Kind::Real(real) => real,
            Kind::Simulated(file) => return file.seek(to),
        };
        real.check_cursor()?;
        real.call(move |mut file| file.seek(to))
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
    /// # Panics
    /// In a simulated world, whose files have no descriptors.
    #[track_caller]
    fn as_fd(&self) -> BorrowedFd<'_> {
        match &self.0 {
            Kind::Real(real) => real.file.as_fd(),
            Kind::Simulated(file) => {
                panic!("{file:?} is a file of a simulated world, which has no descriptor")
            }
        }
    }
}

impl From<std::fs::File> for File {
    fn from(file: std::fs::File) -> Self {
        Self(Kind::Real(Real {
            file: Arc::new(file),
            astray: AtomicBool::new(false),
        }))
    }
}

impl fmt::Debug for File {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Kind::Real(real) => real.file.fmt(f),
            Kind::Simulated(file) => file.fmt(f),
        }
    }
}
