//! Opening what is below a directory and nowhere else.

use std::{
    fs::{File, Metadata},
    io,
    os::unix::{
        fs::{FileExt, MetadataExt},
        io::OwnedFd,
    },
    path::{Component, Path},
    time::UNIX_EPOCH,
};

use maniple::{fs, sim};

use rustix::{
    fs::{CWD, Mode, OFlags, ResolveFlags, openat, openat2},
    io::Errno,
};

/// What is at a place.
#[derive(Debug)]
pub(super) enum Found {
    Directory,
    File(Opened, Identity),
}

/// A regular file.
#[derive(Debug)]
pub(super) enum Opened {
    Disk(File),
    /// In a simulated world.
    World(fs::File),
}

impl Opened {
    pub(super) fn read_exact_at(&self, bytes: &mut [u8], offset: u64) -> io::Result<()> {
        match self {
            Self::Disk(file) => file.read_exact_at(bytes, offset),
            Self::World(file) => file.read_exact_at(bytes, offset),
        }
    }

    pub(super) fn identity(&self) -> io::Result<Identity> {
        match self {
            Self::Disk(file) => file.metadata().map(|metadata| Identity::of(&metadata)),
            Self::World(file) => Identity::in_world(&file.metadata()?),
        }
    }
}

/// A FIFO without a writer would hold the call, and a terminal could become the process's.
const FLAGS: OFlags = OFlags::RDONLY
    .union(OFlags::CLOEXEC)
    .union(OFlags::NONBLOCK)
    .union(OFlags::NOCTTY);

/// Attempts while files are being renamed, which could have led out.
const ATTEMPTS: usize = 16;

/// Opens a directory or a regular file, by a relative path without `..`.
///
/// Symbolic links may lead to what is below the directory too, unless they begin with `/`. Where the kernel cannot look after
/// that (before Linux 5.6, or forbidden in a container) none is followed.
///
/// # Errors
/// Kind `NotFound` for what is neither, or leads out.
pub(super) fn below(root: &Path, path: &Path) -> io::Result<Found> {
    if sim::is_inside() {
        return in_world(&root.join(path));
    }
    let root = openat(
        CWD,
        root,
        OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
        Mode::empty(),
    )?;
    let path = match path.as_os_str().is_empty() {
        true => Path::new("."),
        false => path,
    };
    for _ in 0..ATTEMPTS {
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_MAGICLINKS;
        match openat2(&root, path, FLAGS, Mode::empty(), resolve) {
            Ok(opened) => return sort(opened),
            Err(Errno::AGAIN) => {}
            // Sandboxes refuse calls that they do not know with either.
            Err(Errno::NOSYS | Errno::PERM) => return sort(step_by_step(root, path)?),
            Err(error) => return Err(told(error)),
        }
    }
    Err(told(Errno::XDEV))
}

/// Opens a regular file wherever it is.
pub(super) fn file(path: &Path) -> io::Result<Found> {
    if sim::is_inside() {
        return in_world(path);
    }
    sort(openat(CWD, path, FLAGS, Mode::empty()).map_err(told)?)
}

/// In a simulated world, which has no links.
#[cold]
fn in_world(path: &Path) -> io::Result<Found> {
    let file = fs::File::open(path).map_err(|error| match error.kind() {
        io::ErrorKind::NotADirectory | io::ErrorKind::InvalidFilename => {
            io::ErrorKind::NotFound.into()
        }
        _ => error,
    })?;
    let metadata = file.metadata()?;
    match metadata.is_dir() {
        true => Ok(Found::Directory),
        false => Ok(Found::File(
            Opened::World(file),
            Identity::in_world(&metadata)?,
        )),
    }
}

/// Without a link on the way.
fn step_by_step(root: OwnedFd, path: &Path) -> io::Result<OwnedFd> {
    let mut at = root;
    let mut rest = path.components().peekable();
    while let Some(component) = rest.next() {
        let flags = match rest.peek() {
            Some(_) => OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC,
            None => FLAGS,
        };
        if !matches!(component, Component::Normal(_) | Component::CurDir) {
            return Err(told(Errno::XDEV));
        }
        let name = component.as_os_str();
        at = openat(&at, name, flags | OFlags::NOFOLLOW, Mode::empty()).map_err(told)?;
    }
    Ok(at)
}

fn sort(opened: OwnedFd) -> io::Result<Found> {
    let file = File::from(opened);
    let metadata = file.metadata()?;
    if metadata.is_dir() {
        return Ok(Found::Directory);
    }
    match metadata.is_file() {
        true => Ok(Found::File(Opened::Disk(file), Identity::of(&metadata))),
        false => Err(io::ErrorKind::NotFound.into()),
    }
}

/// A place that cannot be, leads out or holds something else is none.
fn told(error: Errno) -> io::Error {
    match error {
        Errno::NOTDIR
        | Errno::LOOP
        | Errno::XDEV
        | Errno::NAMETOOLONG
        | Errno::NXIO
        | Errno::NODEV => io::ErrorKind::NotFound.into(),
        other => other.into(),
    }
}

/// What tells whether a file is still the same.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Identity {
    device: u64,
    pub(super) inode: u64,
    pub(super) length: u64,
    /// Seconds since 1970, and nanoseconds.
    pub(super) modified: (i64, i64),
    pub(super) changed: (i64, i64),
}

impl Identity {
    pub(super) fn of(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    fn in_world(metadata: &fs::Metadata) -> io::Result<Self> {
        let since = metadata.modified()?.duration_since(UNIX_EPOCH);
        let since = since.unwrap_or_default();
        let modified = (since.as_secs() as i64, i64::from(since.subsec_nanos()));
        Ok(Self {
            device: 0,
            inode: metadata.ino(),
            length: metadata.len(),
            modified,
            changed: modified,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn step_by_step_no_link_is_followed() {
        let root = std::env::temp_dir().join(format!("maniple-steps-{}", std::process::id()));
        std::fs::create_dir_all(root.join("a")).unwrap();
        std::fs::write(root.join("a/file"), "text").unwrap();
        let _ = std::os::unix::fs::symlink("a", root.join("link"));
        let _ = std::os::unix::fs::symlink("a/file", root.join("last"));
        let open = |path: &str| {
            let flags = OFlags::PATH | OFlags::DIRECTORY;
            let root = openat(CWD, &root, flags, Mode::empty()).unwrap();
            step_by_step(root, Path::new(path)).and_then(sort)
        };
        assert!(matches!(open("a/file"), Ok(Found::File(..))));
        assert!(matches!(open("a"), Ok(Found::Directory)));
        for path in ["link/file", "last", "../a", "/etc", "a/none"] {
            let error = open(path).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::NotFound, "{path}");
        }
        std::fs::remove_dir_all(&root).unwrap();
    }
}
