//! What is known of files, and what is in directories.

use std::{
    ffi::OsString,
    io,
    os::unix::fs::MetadataExt,
    path::{Path, PathBuf},
    time::{SystemTime, UNIX_EPOCH},
    vec,
};

use super::{call::look, simulated};
use crate::{driver::sim::Facts, offload::file_leaving};

/// What the system knows of a file; as [`std::fs::Metadata`].
#[derive(Clone, Debug)]
pub struct Metadata(Known);

#[derive(Clone, Debug)]
enum Known {
    Real(std::fs::Metadata),
    Simulated(Facts),
}

impl Metadata {
    pub(super) fn of_world(facts: Facts) -> Self {
        Self(Known::Simulated(facts))
    }

    /// What kind of file it is.
    pub fn file_type(&self) -> FileType {
        match &self.0 {
            Known::Real(metadata) => FileType(Kind::Real(metadata.file_type())),
            Known::Simulated(facts) => FileType::of_world(facts),
        }
    }

    /// Whether it is a regular file.
    pub fn is_file(&self) -> bool {
        self.file_type().is_file()
    }

    /// Whether it is a directory.
    pub fn is_dir(&self) -> bool {
        self.file_type().is_dir()
    }

    /// Its length in bytes.
    #[allow(clippy::len_without_is_empty, reason = "as std's")]
    pub fn len(&self) -> u64 {
        match &self.0 {
            Known::Real(metadata) => metadata.len(),
            Known::Simulated(facts) => facts.length,
        }
    }

    /// When its contents were changed last.
    ///
    /// # Errors
    /// If the file system does not know.
    pub fn modified(&self) -> io::Result<SystemTime> {
        match &self.0 {
            Known::Real(metadata) => metadata.modified(),
            Known::Simulated(facts) => Ok(UNIX_EPOCH + facts.modified),
        }
    }

    /// Its kind and permissions, as `stat(2)` has them.
    pub fn mode(&self) -> u32 {
        match &self.0 {
            Known::Real(metadata) => metadata.mode(),
            Known::Simulated(facts) => facts.mode,
        }
    }

    /// What its file system knows it by, whatever names it has.
    pub fn ino(&self) -> u64 {
        match &self.0 {
            Known::Real(metadata) => metadata.ino(),
            Known::Simulated(facts) => facts.number,
        }
    }

    /// How many names it has.
    pub fn nlink(&self) -> u64 {
        match &self.0 {
            Known::Real(metadata) => metadata.nlink(),
            Known::Simulated(facts) => facts.names.into(),
        }
    }

    /// All that std tells of it; `None` in a simulated world.
    pub fn as_std(&self) -> Option<&std::fs::Metadata> {
        match &self.0 {
            Known::Real(metadata) => Some(metadata),
            Known::Simulated(_) => None,
        }
    }
}

impl From<std::fs::Metadata> for Metadata {
    fn from(metadata: std::fs::Metadata) -> Self {
        Self(Known::Real(metadata))
    }
}

/// What kind of file something is; as [`std::fs::FileType`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct FileType(Kind);

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Kind {
    Real(std::fs::FileType),
    File,
    Folder,
}

impl FileType {
    fn of_world(facts: &Facts) -> Self {
        Self(match facts.is_folder {
            true => Kind::Folder,
            false => Kind::File,
        })
    }

    /// A regular file.
    pub fn is_file(&self) -> bool {
        match self.0 {
            Kind::Real(kind) => kind.is_file(),
            kind => kind == Kind::File,
        }
    }

    /// A directory.
    pub fn is_dir(&self) -> bool {
        match self.0 {
            Kind::Real(kind) => kind.is_dir(),
            kind => kind == Kind::Folder,
        }
    }

    /// A symbolic link, of which simulated worlds have none.
    pub fn is_symlink(&self) -> bool {
        matches!(self.0, Kind::Real(kind) if kind.is_symlink())
    }
}

/// Something in a directory; as [`std::fs::DirEntry`].
#[derive(Debug)]
pub struct DirEntry(Entry);

#[derive(Debug)]
enum Entry {
    Real(std::fs::DirEntry),
    Simulated {
        folder: PathBuf,
        name: OsString,
        facts: Facts,
    },
}

impl DirEntry {
    /// Its name in the directory.
    pub fn file_name(&self) -> OsString {
        match &self.0 {
            Entry::Real(entry) => entry.file_name(),
            Entry::Simulated { name, .. } => name.clone(),
        }
    }

    /// The directory's path, as it was given, and its name.
    pub fn path(&self) -> PathBuf {
        match &self.0 {
            Entry::Real(entry) => entry.path(),
            Entry::Simulated { folder, name, .. } => folder.join(name),
        }
    }

    /// What kind of file it is. Most file systems have said that with the name, so that it needs no other thread.
    ///
    /// # Errors
    /// If the file system has to be asked, and that fails.
    pub fn file_type(&self) -> io::Result<FileType> {
        match &self.0 {
            Entry::Real(entry) => entry.file_type().map(|kind| FileType(Kind::Real(kind))),
            Entry::Simulated { facts, .. } => Ok(FileType::of_world(facts)),
        }
    }

    /// What the system knows of it; of a symbolic link, not of what that leads to.
    ///
    /// # Errors
    /// Fails as [`metadata`](super::metadata) does.
    pub fn metadata(&self) -> io::Result<Metadata> {
        match &self.0 {
            Entry::Real(entry) => {
                look(entry.path(), |path| std::fs::symlink_metadata(path)).map(Metadata::from)
            }
            Entry::Simulated { facts, .. } => match simulated::disk() {
                Some(disk) => disk.facts(&self.path()).map(Metadata::of_world),
                None => Ok(Metadata::of_world(facts.clone())),
            },
        }
    }
}

/// The iterator of [`read_dir`](super::read_dir).
#[derive(Debug)]
pub struct ReadDir {
    /// `None` once all is read, or a call for more was left behind.
    rest: Option<std::fs::ReadDir>,
    ready: vec::IntoIter<io::Result<DirEntry>>,
}

/// Entries that are read at a time.
const ENTRIES_AT_ONCE: usize = 256;

impl ReadDir {
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        if let Some(disk) = simulated::disk() {
            let all = disk.list(path)?.into_iter().map(|(name, facts)| {
                let folder = path.to_owned();
                Ok(DirEntry(Entry::Simulated {
                    folder,
                    name,
                    facts,
                }))
            });
            let ready = all.collect::<Vec<_>>().into_iter();
            return Ok(Self { rest: None, ready });
        }
        let (rest, ready) = look(path, |path| std::fs::read_dir(path).map(next_entries))?;
        Ok(Self { rest, ready })
    }
}

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
        ready.push(entry.map(|entry| DirEntry(Entry::Real(entry))));
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
