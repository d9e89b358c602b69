//! The files of a host, in memory: what its programs see, and what of that is there after a loss of power.
//!
//! Every change shows at once. It is on the disk for certain once it was synced: bytes and lengths by syncing the file,
//! names by syncing the directory. What was not may be there, in part, or not: see [`content`] and [`folder`]. This is
//! what POSIX and fsync(2) leave open, as found in file systems by Pillai and others ("All File Systems Are Not Created
//! Equal", OSDI 2014); how a sync fails is after Rebello and others ("Can Applications Recover from fsync Failures?",
//! ATC 2020).

mod content;
mod folder;

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
    path::{Component, Path},
    time::Duration,
};

use rustix::io::Errno;

use self::{
    content::Content,
    folder::{Folder, Number, Step, Unsynced},
};
use super::{dice::Dice, host::HostId};

/// The disks of a world's hosts.
#[derive(Default)]
pub(super) struct Disks(BTreeMap<HostId, Disk>);

impl Disks {
    pub(super) fn of(&mut self, host: HostId) -> &mut Disk {
        self.0.entry(host).or_insert_with(Disk::new)
    }

    pub(super) fn power_off(&mut self, host: HostId, dice: &mut Dice) {
        if let Some(disk) = self.0.get_mut(&host) {
            disk.lose_power(dice);
        }
    }

    pub(super) fn power_on(&mut self, host: HostId) {
        if let Some(disk) = self.0.get_mut(&host) {
            disk.is_on = true;
        }
    }
}

pub(crate) struct Disk {
    nodes: BTreeMap<Number, Node>,
    made: Number,
    unsynced: Unsynced,
    /// Which time it is on; what was opened before is no more.
    power: u32,
    is_on: bool,
    used: u64,
    size: u64,
}

struct Node {
    kind: Kind,
    mode: u32,
    modified: Duration,
    /// Names that show.
    names: u32,
    opened: u32,
}

enum Kind {
    File(Content),
    Folder(Folder),
}

/// How a file is opened.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Opening {
    pub(crate) reads: bool,
    pub(crate) writes: bool,
    pub(crate) truncates: bool,
    pub(crate) creates: bool,
    pub(crate) only_new: bool,
    pub(crate) mode: u32,
}

/// An open file, until it is [closed](Disk::close).
#[derive(Debug)]
pub(crate) struct Opened {
    pub(crate) number: Number,
    power: u32,
}

/// What is known of a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Facts {
    pub(crate) number: Number,
    pub(crate) is_folder: bool,
    pub(crate) length: u64,
    pub(crate) mode: u32,
    /// Since 1970, by the host's clock.
    pub(crate) modified: Duration,
    pub(crate) names: u32,
}

/// A change is made at that time.
pub(crate) struct Means<'a> {
    pub(crate) now: Duration,
    pub(crate) dice: &'a mut Dice,
}

impl Means<'_> {
    pub(crate) fn flips(&mut self) -> bool {
        self.dice.below(2) == 0
    }
}

type Result<T> = std::result::Result<T, Errno>;

const ROOT: Number = 1;

/// Bytes that a disk has room for, unless it is said.
const SIZE: u64 = 1 << 30;

/// And at most: it is this process's memory.
const MOST_SIZE: u64 = 1 << 36;

/// Longer names there are not.
const LONGEST_NAME: usize = 255;

const LONGEST_PATH: usize = 4096;

const FOLDER_MODE: u32 = 0o755;
const IS_FOLDER: u32 = 0o040_000;
const IS_FILE: u32 = 0o100_000;

impl Disk {
    /// With a directory for temporary files, and nothing else.
    fn new() -> Self {
        let root = Node::folder(Duration::ZERO);
        let mut disk = Self {
            nodes: BTreeMap::from([(ROOT, root)]),
            made: ROOT,
            unsynced: Unsynced::default(),
            power: 0,
            is_on: true,
            used: 0,
            size: SIZE,
        };
        for temporary in [Path::new("/tmp"), &std::env::temp_dir()] {
            _ = disk.make_folders(temporary, Duration::ZERO);
        }
        disk.sync_everything();
        disk
    }

    pub(crate) fn set_size(&mut self, bytes: u64) {
        self.size = bytes.min(MOST_SIZE);
    }

    /// Puts a file there that is on the disk, whatever was.
    pub(crate) fn place(&mut self, path: &Path, bytes: &[u8], now: Duration) -> Result<()> {
        if let Some(folder) = path.parent() {
            self.make_folders(folder, now)?;
        }
        let opening = Opening {
            writes: true,
            creates: true,
            mode: 0o644,
            ..Opening::default()
        };
        let number = self.number_to_open(path, opening, now)?;
        let before = self.content(number)?.shown().len() as u64;
        self.used = self.used - before + bytes.len() as u64;
        *self.content(number)? = Content::of_old(bytes);
        let mut at = ROOT;
        for name in names(path)? {
            let Kind::Folder(folder) = &mut self.node_mut(at)?.kind else {
                return Err(Errno::NOTDIR);
            };
            at = *folder.shown.get(name).ok_or(Errno::NOENT)?;
            folder.kept.insert(name.to_owned(), at);
        }
        Ok(())
    }

    /// All that a file has, as programs read it; as they would, if the host is down.
    pub(crate) fn whole(&self, path: &Path) -> Result<Vec<u8>> {
        match &self.node(self.find(path)?)?.kind {
            Kind::File(content) => Ok(content.shown().to_vec()),
            Kind::Folder(_) => Err(Errno::ISDIR),
        }
    }

    pub(crate) fn open(
        &mut self,
        path: &Path,
        opening: Opening,
        means: &Means<'_>,
    ) -> Result<Opened> {
        self.check_on()?;
        let number = self.number_to_open(path, opening, means.now)?;
        if opening.truncates {
            self.set_length_of(number, 0, means.now)?;
        }
        self.node_mut(number)?.opened += 1;
        Ok(Opened {
            number,
            power: self.power,
        })
    }

    fn number_to_open(&mut self, path: &Path, opening: Opening, now: Duration) -> Result<Number> {
        let number = match self.find(path) {
            Ok(_) if opening.only_new => return Err(Errno::EXIST),
            Ok(number) => number,
            Err(Errno::NOENT) if opening.creates || opening.only_new => {
                let (folder, name) = self.place_of(path)?;
                let node = Node {
                    kind: Kind::File(Content::default()),
                    mode: IS_FILE | (opening.mode & 0o777),
                    modified: now,
                    names: 0,
                    opened: 0,
                };
                self.add(folder, &name, node, now)?
            }
            Err(error) => return Err(error),
        };
        match self.node(number)?.kind {
            Kind::Folder(_) if opening.writes => Err(Errno::ISDIR),
            _ => Ok(number),
        }
    }

    pub(crate) fn close(&mut self, opened: &Opened) {
        if opened.power == self.power
            && let Some(node) = self.nodes.get_mut(&opened.number)
        {
            node.opened -= 1;
            self.release(opened.number);
        }
    }

    pub(crate) fn read_at(&self, opened: &Opened, at: u64, most: usize) -> Result<&[u8]> {
        match &self.opened(opened)?.kind {
            Kind::File(content) => {
                let shown = content.shown();
                let from = usize::try_from(at).unwrap_or(usize::MAX).min(shown.len());
                let until = from.saturating_add(most).min(shown.len());
                Ok(&shown[from..until])
            }
            Kind::Folder(_) => Err(Errno::ISDIR),
        }
    }

    /// At its end, if no place is given. How much was written, and where; less than all if the disk is full then.
    pub(crate) fn write_at(
        &mut self,
        opened: &Opened,
        at: Option<u64>,
        bytes: &[u8],
        means: &Means<'_>,
    ) -> Result<(u64, usize)> {
        self.opened(opened)?;
        let free = self.size.saturating_sub(self.used);
        let content = self.content(opened.number)?;
        let length = content.shown().len() as u64;
        let at = at.unwrap_or(length);
        if bytes.is_empty() {
            return Ok((at, 0));
        }
        // A hole takes room, too.
        let room = (length + free).saturating_sub(at);
        let count = bytes.len().min(usize::try_from(room).unwrap_or(usize::MAX));
        if count == 0 {
            return Err(Errno::NOSPC);
        }
        content.write(at as usize, &bytes[..count]);
        self.used += (at + count as u64).saturating_sub(length);
        self.node_mut(opened.number)?.modified = means.now;
        Ok((at, count))
    }

    pub(crate) fn set_length(
        &mut self,
        opened: &Opened,
        length: u64,
        means: &Means<'_>,
    ) -> Result<()> {
        self.opened(opened)?;
        self.set_length_of(opened.number, length, means.now)
    }

    fn set_length_of(&mut self, number: Number, length: u64, now: Duration) -> Result<()> {
        let free = self.size.saturating_sub(self.used);
        let content = self.content(number)?;
        let before = content.shown().len() as u64;
        if length.saturating_sub(before) > free {
            return Err(Errno::NOSPC);
        }
        content.set_length(length as usize);
        self.used = self.used - before + length;
        self.node_mut(number)?.modified = now;
        Ok(())
    }

    /// Has a file, or the names in a directory, be on the disk.
    pub(crate) fn sync(&mut self, opened: &Opened) -> Result<()> {
        self.opened(opened)?;
        match &mut self.node_mut(opened.number)?.kind {
            Kind::File(content) => content.sync(),
            Kind::Folder(_) => {
                let changes = self.unsynced.take_of(opened.number);
                self.write_back(&changes);
                self.sweep();
            }
        }
        Ok(())
    }

    /// The disk fails to: what was not synced is there or lost, and no later sync will have it written.
    pub(crate) fn fail_to_sync(&mut self, opened: &Opened, dice: &mut Dice) -> Result<()> {
        self.opened(opened)?;
        if let Kind::File(content) = &mut self.node_mut(opened.number)?.kind {
            let before = content.shown().len() as u64;
            content.fail_to_sync(dice);
            let after = content.shown().len() as u64;
            self.used = self.used - before + after;
        }
        Ok(())
    }

    pub(crate) fn facts(&self, opened: &Opened) -> Result<Facts> {
        Ok(self.opened(opened)?.facts(opened.number))
    }

    pub(crate) fn facts_of(&self, path: &Path) -> Result<Facts> {
        self.check_on()?;
        let number = self.find(path)?;
        Ok(self.node(number)?.facts(number))
    }

    /// What is in a directory, and whether each is one, in an order that the dice say.
    pub(crate) fn list(
        &self,
        path: &Path,
        means: &mut Means<'_>,
    ) -> Result<Vec<(OsString, Facts)>> {
        self.check_on()?;
        let mut all = Vec::new();
        for (name, &number) in &self.folder(self.find(path)?)?.shown {
            all.push((name.clone(), self.node(number)?.facts(number)));
        }
        for last in (1..all.len()).rev() {
            all.swap(last, means.dice.below(last as u64 + 1) as usize);
        }
        Ok(all)
    }

    pub(crate) fn make_folder(&mut self, path: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        if self.find(path).is_ok() {
            return Err(Errno::EXIST);
        }
        let (folder, name) = self.place_of(path)?;
        self.add(folder, &name, Node::folder(means.now), means.now)?;
        Ok(())
    }

    /// And those above it that are missing.
    pub(crate) fn make_all_folders(&mut self, path: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        self.make_folders(path, means.now)
    }

    fn make_folders(&mut self, path: &Path, now: Duration) -> Result<()> {
        let mut folder = ROOT;
        for name in names(path)? {
            folder = match self.folder(folder)?.shown.get(name) {
                Some(&number) => number,
                None => self.add(folder, name, Node::folder(now), now)?,
            };
        }
        match self.node(folder)?.kind {
            Kind::Folder(_) => Ok(()),
            Kind::File(_) => Err(Errno::EXIST),
        }
    }

    pub(crate) fn remove_file(&mut self, path: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        let number = self.find(path)?;
        if let Kind::Folder(_) = self.node(number)?.kind {
            return Err(Errno::ISDIR);
        }
        let (folder, name) = self.place_of(path)?;
        self.change(vec![Step::remove(folder, &name, number)], means.now)
    }

    pub(crate) fn remove_folder(&mut self, path: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        let number = self.find(path)?;
        if number == ROOT {
            return Err(Errno::BUSY);
        }
        if !self.folder(number)?.shown.is_empty() {
            return Err(Errno::NOTEMPTY);
        }
        let (folder, name) = self.place_of(path)?;
        self.change(vec![Step::remove(folder, &name, number)], means.now)
    }

    pub(crate) fn rename(&mut self, from: &Path, to: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        let number = self.find(from)?;
        let (from_folder, from_name) = self.place_of(from)?;
        let (to_folder, to_name) = self.place_of(to)?;
        let is_folder = matches!(self.node(number)?.kind, Kind::Folder(_));
        // Nothing leads anywhere but downwards.
        if is_folder && names(from)? != names(to)? && names(to)?.starts_with(&names(from)?) {
            return Err(Errno::INVAL);
        }
        let mut steps = vec![Step::remove(from_folder, &from_name, number)];
        if let Some(&there) = self.folder(to_folder)?.shown.get(&to_name) {
            if there == number {
                return Ok(());
            }
            match (&self.node(there)?.kind, is_folder) {
                (Kind::Folder(_), false) => return Err(Errno::ISDIR),
                (Kind::File(_), true) => return Err(Errno::NOTDIR),
                (Kind::Folder(folder), true) if !folder.shown.is_empty() => {
                    return Err(Errno::NOTEMPTY);
                }
                _ => steps.push(Step::remove(to_folder, &to_name, there)),
            }
        }
        steps.push(Step::add(to_folder, &to_name, number));
        self.change(steps, means.now)
    }

    pub(crate) fn link(&mut self, from: &Path, to: &Path, means: &Means<'_>) -> Result<()> {
        self.check_on()?;
        let number = self.find(from)?;
        if let Kind::Folder(_) = self.node(number)?.kind {
            return Err(Errno::PERM);
        }
        if self.find(to).is_ok() {
            return Err(Errno::EXIST);
        }
        let (folder, name) = self.place_of(to)?;
        self.change(vec![Step::add(folder, &name, number)], means.now)
    }

    fn lose_power(&mut self, dice: &mut Dice) {
        for node in self.nodes.values_mut() {
            if let Kind::File(content) = &mut node.kind {
                content.lose_power(dice);
            }
            (node.names, node.opened) = (0, 0);
        }
        let changes = self.unsynced.take_some(dice);
        self.write_back(&changes);
        let mut names = Vec::new();
        for node in self.nodes.values_mut() {
            if let Kind::Folder(folder) = &mut node.kind {
                folder.shown.clone_from(&folder.kept);
            }
        }
        // From the root, since what a lost directory had is lost as well.
        let mut folders = vec![ROOT];
        let mut found = BTreeSet::from([ROOT]);
        while let Some(Ok(folder)) = folders.pop().map(|number| self.folder(number)) {
            for &number in folder.shown.values() {
                names.push(number);
                if found.insert(number) && self.folder(number).is_ok() {
                    folders.push(number);
                }
            }
        }
        self.nodes.retain(|number, _| found.contains(number));
        for number in names {
            if let Some(node) = self.nodes.get_mut(&number) {
                node.names += 1;
            }
        }
        self.used = (self.nodes.values().map(Node::length)).sum();
        self.power += 1;
        self.is_on = false;
    }

    fn add(&mut self, folder: Number, name: &OsStr, node: Node, now: Duration) -> Result<Number> {
        self.made += 1;
        let number = self.made;
        self.nodes.insert(number, node);
        let added = self.change(vec![Step::add(folder, name, number)], now);
        added.map(|()| number)
    }

    /// Changes names, which shows at once.
    fn change(&mut self, steps: Vec<Step>, now: Duration) -> Result<()> {
        for step in &steps {
            let node = self.node_mut(step.folder)?;
            node.modified = now;
            let Kind::Folder(folder) = &mut node.kind else {
                return Err(Errno::NOTDIR);
            };
            step.apply(&mut folder.shown);
            let node = self.node_mut(step.number)?;
            match step.is_added {
                true => node.names += 1,
                false => node.names -= 1,
            }
        }
        let removed: Vec<_> = steps.iter().map(|step| step.number).collect();
        let written_back = self.unsynced.add(steps);
        for number in removed {
            self.release(number);
        }
        if !written_back.is_empty() {
            self.write_back(&written_back);
            self.sweep();
        }
        Ok(())
    }

    fn write_back(&mut self, changes: &[Vec<Step>]) {
        for step in changes.iter().flatten() {
            if let Ok(Node {
                kind: Kind::Folder(folder),
                ..
            }) = self.node_mut(step.folder)
            {
                step.apply(&mut folder.kept);
            }
        }
    }

    fn sync_everything(&mut self) {
        let changes = std::mem::take(&mut self.unsynced).into_all();
        self.write_back(&changes);
    }

    /// Lets a file go that has no name any more and is not open.
    fn release(&mut self, number: Number) {
        if let Some(node) = self.nodes.get_mut(&number)
            && (node.names, node.opened) == (0, 0)
            && let Kind::File(content) = &mut node.kind
        {
            self.used -= content.shown().len() as u64;
            content.release();
        }
    }

    /// Forgets what no program and no name can reach, now or after a loss of power.
    fn sweep(&mut self) {
        let mut reached: BTreeSet<_> = self.unsynced.numbers().collect();
        for node in self.nodes.values() {
            if let Kind::Folder(folder) = &node.kind {
                reached.extend(folder.kept.values());
            }
        }
        self.nodes.retain(|number, node| {
            *number == ROOT || node.names > 0 || node.opened > 0 || reached.contains(number)
        });
    }

    fn find(&self, path: &Path) -> Result<Number> {
        let mut at = ROOT;
        for name in names(path)? {
            at = *self.folder(at)?.shown.get(name).ok_or(Errno::NOENT)?;
        }
        Ok(at)
    }

    /// The directory that a path's last name is in, and that name.
    fn place_of(&self, path: &Path) -> Result<(Number, OsString)> {
        let mut names = names(path)?;
        let name = names.pop().ok_or(Errno::BUSY)?.to_owned();
        let mut at = ROOT;
        for name in names {
            at = *self.folder(at)?.shown.get(name).ok_or(Errno::NOENT)?;
        }
        self.folder(at)?;
        Ok((at, name))
    }

    fn check_on(&self) -> Result<()> {
        match self.is_on {
            true => Ok(()),
            false => Err(Errno::IO),
        }
    }

    fn opened(&self, opened: &Opened) -> Result<&Node> {
        self.check_on()?;
        match opened.power == self.power {
            true => self.node(opened.number),
            false => Err(Errno::STALE),
        }
    }

    fn node(&self, number: Number) -> Result<&Node> {
        self.nodes.get(&number).ok_or(Errno::STALE)
    }

    fn node_mut(&mut self, number: Number) -> Result<&mut Node> {
        self.nodes.get_mut(&number).ok_or(Errno::STALE)
    }

    fn content(&mut self, number: Number) -> Result<&mut Content> {
        match &mut self.node_mut(number)?.kind {
            Kind::File(content) => Ok(content),
            Kind::Folder(_) => Err(Errno::ISDIR),
        }
    }

    fn folder(&self, number: Number) -> Result<&Folder> {
        match &self.node(number)?.kind {
            Kind::Folder(folder) => Ok(folder),
            Kind::File(_) => Err(Errno::NOTDIR),
        }
    }
}

impl Node {
    fn folder(now: Duration) -> Self {
        Self {
            kind: Kind::Folder(Folder::default()),
            mode: IS_FOLDER | FOLDER_MODE,
            modified: now,
            names: 0,
            opened: 0,
        }
    }

    fn length(&self) -> u64 {
        match &self.kind {
            Kind::File(content) => content.shown().len() as u64,
            Kind::Folder(_) => 0,
        }
    }

    fn facts(&self, number: Number) -> Facts {
        Facts {
            number,
            is_folder: matches!(self.kind, Kind::Folder(_)),
            length: self.length(),
            mode: self.mode,
            modified: self.modified,
            names: self.names,
        }
    }
}

/// The names on the way to a path, from the root, where each host's programs are.
fn names(path: &Path) -> Result<Vec<&OsStr>> {
    if path.as_os_str().is_empty() {
        return Err(Errno::NOENT);
    }
    if path.as_os_str().len() >= LONGEST_PATH {
        return Err(Errno::NAMETOOLONG);
    }
    let mut names = Vec::new();
    for component in path.components() {
        match component {
            Component::Normal(name) if name.len() > LONGEST_NAME => {
                return Err(Errno::NAMETOOLONG);
            }
            Component::Normal(name) => names.push(name),
            Component::ParentDir => _ = names.pop(),
            Component::RootDir | Component::CurDir | Component::Prefix(_) => {}
        }
    }
    Ok(names)
}
