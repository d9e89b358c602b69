//! Files in a simulated world: calls take time that is drawn, and their effect is that on the host's disk.

use std::{
    ffi::OsString,
    fmt, io,
    path::{Path, PathBuf},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use rustix::{fs::OFlags, io::Errno};

use super::options::OpenOptions;
use crate::{
    driver::sim::{self, Facts, HostId, Means, Opened, Opening, Scarce, World},
    net::simulated::{host, take_descriptor},
    wait::{self, Interruptible, Reason},
};

type Result<T> = std::result::Result<T, Errno>;

/// The disk of the caller's host, if the caller is in a world.
#[inline]
pub(super) fn disk() -> Option<Disk> {
    match sim::is_any() {
        false => None,
        true => sim::current().map(|world| Disk {
            world,
            host: host(),
        }),
    }
}

#[derive(Clone)]
pub(super) struct Disk {
    world: Arc<World>,
    host: HostId,
}

/// What kind of call it is: how long it may take, and what it needs beside a disk that works.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Looks,
    Changes,
    /// And takes room on the disk.
    Grows,
    Syncs,
}

impl Kind {
    /// In nanoseconds, of the world.
    fn longest(self) -> u64 {
        match self {
            Self::Looks | Self::Changes | Self::Grows => 200_000,
            Self::Syncs => 10_000_000,
        }
    }
}

impl Disk {
    pub(super) fn open(&self, path: &Path, options: &OpenOptions) -> io::Result<OpenFile> {
        let is_new_to_write = options.truncates || options.creates || options.only_new;
        let writes = options.writes || options.appends;
        // As std says.
        let contradicts = options.appends && options.truncates && !options.only_new;
        let opens = writes || options.reads && !is_new_to_write;
        if !opens || contradicts {
            return Err(Errno::INVAL.into());
        }
        let opening = Opening {
            reads: options.reads,
            writes,
            truncates: options.truncates && !options.only_new,
            creates: options.creates,
            only_new: options.only_new,
            mode: options.mode & !UMASK,
        };
        let kind = match is_new_to_write {
            true => Kind::Grows,
            false => Kind::Looks,
        };
        take_descriptor()?;
        let opened = self.call(kind, "open", path, 0, |disk, means| {
            disk.open(path, opening, means)
        })?;
        let flags = OFlags::from_bits_retain(options.flags as u32);
        Ok(OpenFile {
            disk: self.clone(),
            opened,
            path: path.to_owned(),
            opening,
            appends: options.appends,
            syncs: flags.intersects(OFlags::SYNC | OFlags::DSYNC),
            cursor: Mutex::new(0),
        })
    }

    /// All of a file, of which there may be so much.
    pub(super) fn read(&self, path: &Path, most: usize) -> io::Result<Option<Vec<u8>>> {
        take_descriptor()?;
        self.call(Kind::Looks, "read", path, 0, |disk, _| {
            let facts = disk.facts_of(path)?;
            match facts.length > most as u64 {
                true => Ok(None),
                false => disk.whole(path).map(Some),
            }
        })
    }

    pub(super) fn write(&self, path: &Path, bytes: &[u8]) -> io::Result<()> {
        let mut options = OpenOptions::new();
        options.write(true).create(true).truncate(true);
        let file = self.open(path, &options)?;
        io::Write::write_all(&mut Whole(&file), bytes)
    }

    pub(super) fn facts(&self, path: &Path) -> io::Result<Facts> {
        self.call(Kind::Looks, "look at", path, 0, |disk, _| {
            disk.facts_of(path)
        })
    }

    pub(super) fn list(&self, path: &Path) -> io::Result<Vec<(OsString, Facts)>> {
        take_descriptor()?;
        self.call(Kind::Looks, "list", path, 0, |disk, means| {
            disk.list(path, means)
        })
    }

    pub(super) fn make_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Kind::Grows, "make directory", path, 0, |disk, means| {
            disk.make_folder(path, means)
        })
    }

    pub(super) fn make_all_folders(&self, path: &Path) -> io::Result<()> {
        self.call(Kind::Grows, "make directories", path, 0, |disk, means| {
            disk.make_all_folders(path, means)
        })
    }

    pub(super) fn remove_folder(&self, path: &Path) -> io::Result<()> {
        self.call(Kind::Changes, "remove directory", path, 0, |disk, means| {
            disk.remove_folder(path, means)
        })
    }

    pub(super) fn remove_file(&self, path: &Path) -> io::Result<()> {
        self.call(Kind::Changes, "remove", path, 0, |disk, means| {
            disk.remove_file(path, means)
        })
    }

    pub(super) fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Kind::Changes, "rename", from, 0, |disk, means| {
            disk.rename(from, to, means)
        })
    }

    pub(super) fn link(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.call(Kind::Grows, "link", from, 0, |disk, means| {
            disk.link(from, to, means)
        })
    }

    fn call<T>(
        &self,
        kind: Kind,
        name: &'static str,
        path: &Path,
        number: u64,
        act: impl FnOnce(&mut sim::Disk, &mut Means<'_>) -> Result<T>,
    ) -> io::Result<T> {
        self.call_in_trouble(
            kind,
            name,
            path,
            number,
            |disk, means, trouble| match trouble {
                Some(errno) => Err(errno),
                None => act(disk, means),
            },
        )
    }

    /// A call which may have to fail: `act` is told how.
    fn call_in_trouble<T>(
        &self,
        kind: Kind,
        name: &'static str,
        path: &Path,
        number: u64,
        act: impl FnOnce(&mut sim::Disk, &mut Means<'_>, Option<Errno>) -> Result<T>,
    ) -> io::Result<T> {
        let world = &self.world;
        let is_inside = sim::current().is_some_and(|own| Arc::ptr_eq(&own, world));
        assert!(
            is_inside,
            "{} is a file of a simulated world, which this is not",
            path.display()
        );
        wait::check()?;
        self.take_time(kind, Interruptible::Yes)?;
        let trouble = if world.lacks(self.host, Scarce::Disk) {
            Some(Errno::IO)
        } else if kind == Kind::Grows && world.lacks(self.host, Scarce::Space) {
            Some(Errno::NOSPC)
        } else {
            None
        };
        let result = world.on_disk(self.host, |disk, means| act(disk, means, trouble));
        let failed = result.as_ref().err().copied();
        let code = failed.map_or(0, |errno| errno.raw_os_error() as u64);
        world.note_call(self.host, &[kind as u64, number, code], || {
            let path = path.display();
            match failed {
                None => format!("{name} {path}"),
                Some(errno) => format!("{name} {path}: {}", io::Error::from(errno)),
            }
        });
        // Others may see what it has done before the caller knows.
        if kind != Kind::Looks && world.draw(2) == 0 {
            _ = self.take_time(kind, Interruptible::No);
        }
        Ok(result?)
    }

    fn take_time(&self, kind: Kind, interruptible: Interruptible) -> io::Result<()> {
        let takes = Duration::from_nanos(self.world.draw(kind.longest()));
        let until = self.world.now() + takes;
        Ok(wait::pass(Reason::Offload, until, interruptible)?)
    }
}

/// Permissions that a file is made without.
const UMASK: u32 = 0o022;

pub(super) struct OpenFile {
    disk: Disk,
    opened: Opened,
    path: PathBuf,
    opening: Opening,
    appends: bool,
    /// Each write is synced.
    syncs: bool,
    cursor: Mutex<u64>,
}

impl OpenFile {
    pub(super) fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        let at = *self.cursor();
        let count = self.read_at(buffer, at)?;
        *self.cursor() = at + count as u64;
        Ok(count)
    }

    pub(super) fn read_at(&self, buffer: &mut [u8], at: u64) -> io::Result<usize> {
        self.check(self.opening.reads)?;
        let (path, number) = (&self.path, buffer.len() as u64);
        self.disk
            .call(Kind::Looks, "read", path, number, |disk, _| {
                let bytes = disk.read_at(&self.opened, at, buffer.len())?;
                buffer[..bytes.len()].copy_from_slice(bytes);
                Ok(bytes.len())
            })
    }

    pub(super) fn write(&self, bytes: &[u8]) -> io::Result<usize> {
        let at = *self.cursor();
        let (at, count) = self.write_to(bytes, (!self.appends).then_some(at))?;
        *self.cursor() = at + count as u64;
        Ok(count)
    }

    pub(super) fn write_at(&self, bytes: &[u8], at: u64) -> io::Result<usize> {
        // A file that is opened for appending is appended to whatever the offset, says pwrite(2) of Linux.
        let (_, count) = self.write_to(bytes, (!self.appends).then_some(at))?;
        Ok(count)
    }

    fn write_to(&self, bytes: &[u8], at: Option<u64>) -> io::Result<(u64, usize)> {
        self.check(self.opening.writes)?;
        let (path, number) = (&self.path, bytes.len() as u64);
        self.disk.call_in_trouble(
            Kind::Grows,
            "write",
            path,
            number,
            |disk, means, trouble| {
                let written = match trouble {
                    None => disk.write_at(&self.opened, at, bytes, means)?,
                    // The last of the room.
                    Some(Errno::NOSPC) if bytes.len() > 1 && means.flips() => {
                        disk.write_at(&self.opened, at, &bytes[..bytes.len() / 2], means)?
                    }
                    Some(errno) => return Err(errno),
                };
                if self.syncs {
                    disk.sync(&self.opened)?;
                }
                Ok(written)
            },
        )
    }

    pub(super) fn seek(&self, to: io::SeekFrom) -> io::Result<u64> {
        let (from, by) = match to {
            io::SeekFrom::Start(at) => (at, 0),
            io::SeekFrom::Current(by) => (*self.cursor(), by),
            io::SeekFrom::End(by) => (self.facts()?.length, by),
        };
        let at = from.checked_add_signed(by).ok_or(Errno::INVAL)?;
        let at = i64::try_from(at).map_err(|_| Errno::INVAL)? as u64;
        *self.cursor() = at;
        Ok(at)
    }

    pub(super) fn set_len(&self, bytes: u64) -> io::Result<()> {
        if !self.opening.writes {
            return Err(Errno::INVAL.into());
        }
        self.disk.call(
            Kind::Grows,
            "set length of",
            &self.path,
            bytes,
            |disk, means| disk.set_length(&self.opened, bytes, means),
        )
    }

    pub(super) fn sync(&self) -> io::Result<()> {
        self.disk.call_in_trouble(
            Kind::Syncs,
            "sync",
            &self.path,
            0,
            |disk, means, trouble| match trouble {
                None => disk.sync(&self.opened),
                Some(errno) => {
                    disk.fail_to_sync(&self.opened, means.dice)?;
                    Err(errno)
                }
            },
        )
    }

    pub(super) fn facts(&self) -> io::Result<Facts> {
        self.disk
            .call(Kind::Looks, "look at", &self.path, 0, |disk, _| {
                disk.facts(&self.opened)
            })
    }

    fn check(&self, may: bool) -> io::Result<()> {
        match may {
            true => Ok(()),
            false => Err(Errno::BADF.into()),
        }
    }

    fn cursor(&self) -> MutexGuard<'_, u64> {
        self.cursor.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for OpenFile {
    fn drop(&mut self) {
        let Disk { world, host } = &self.disk;
        world.on_disk(*host, |disk, _| disk.close(&self.opened));
    }
}

impl fmt::Debug for OpenFile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("File")
            .field("path", &self.path)
            .field("host", &self.disk.host.0)
            .finish_non_exhaustive()
    }
}

/// A file, for what std does with readers and writers.
pub(super) struct Whole<'a>(pub(super) &'a OpenFile);

impl io::Read for Whole<'_> {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.read(buffer)
    }
}

impl io::Write for Whole<'_> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
