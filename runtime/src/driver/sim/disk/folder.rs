//! The names in directories: as programs see them, as they are on the disk, and the changes in between.

use std::{
    collections::{BTreeMap, BTreeSet},
    ffi::{OsStr, OsString},
};

use super::super::dice::Dice;

/// What a file or directory is known by, whatever its names are.
pub(crate) type Number = u64;

/// The names of one directory.
#[derive(Default)]
pub(super) struct Folder {
    pub(super) shown: BTreeMap<OsString, Number>,
    pub(super) kept: BTreeMap<OsString, Number>,
}

/// A name that comes or goes.
pub(super) struct Step {
    pub(super) folder: Number,
    pub(super) name: OsString,
    pub(super) number: Number,
    pub(super) is_added: bool,
}

impl Step {
    pub(super) fn add(folder: Number, name: &OsStr, number: Number) -> Self {
        Self {
            folder,
            name: name.to_owned(),
            number,
            is_added: true,
        }
    }

    pub(super) fn remove(folder: Number, name: &OsStr, number: Number) -> Self {
        Self {
            is_added: false,
            ..Self::add(folder, name, number)
        }
    }

    pub(super) fn apply(&self, names: &mut BTreeMap<OsString, Number>) {
        if self.is_added {
            names.insert(self.name.clone(), self.number);
        } else if names.get(&self.name) == Some(&self.number) {
            names.remove(&self.name);
        }
    }
}

/// Changes of directories that are not on the disk yet, in their order. What one has done together is on the disk
/// together, or not.
#[derive(Default)]
pub(super) struct Unsynced(Vec<Vec<Step>>);

/// Beyond these the older half is written back, as a kernel does after some time.
const MOST_UNSYNCED: usize = 4096;

impl Unsynced {
    /// Adds a change; what comes to the disk by that.
    pub(super) fn add(&mut self, change: Vec<Step>) -> Vec<Vec<Step>> {
        self.0.push(change);
        match self.0.len() > MOST_UNSYNCED {
            true => self.0.drain(..MOST_UNSYNCED / 2).collect(),
            false => Vec::new(),
        }
    }

    /// What syncing that directory brings to the disk: its own changes, and what came before them in other directories
    /// that these concern as well.
    pub(super) fn take_of(&mut self, folder: Number) -> Vec<Vec<Step>> {
        let mut folders = BTreeSet::from([folder]);
        let (mut taken, mut left) = (Vec::new(), Vec::new());
        for change in std::mem::take(&mut self.0).into_iter().rev() {
            if change.iter().any(|step| folders.contains(&step.folder)) {
                folders.extend(change.iter().map(|step| step.folder));
                taken.push(change);
            } else {
                left.push(change);
            }
        }
        left.reverse();
        self.0 = left;
        taken.reverse();
        taken
    }

    /// What of it is on the disk when the power goes: nothing, all, what came first, or some of it, as file systems
    /// without an order have it.
    pub(super) fn take_some(&mut self, dice: &mut Dice) -> Vec<Vec<Step>> {
        let mut changes = std::mem::take(&mut self.0);
        if changes.is_empty() {
            return changes;
        }
        match dice.below(4) {
            0 => Vec::new(),
            1 => changes,
            2 => {
                changes.truncate(dice.below(changes.len() as u64 + 1) as usize);
                changes
            }
            _ => {
                changes.retain(|_| dice.below(2) == 0);
                changes
            }
        }
    }

    pub(super) fn into_all(self) -> Vec<Vec<Step>> {
        self.0
    }

    pub(super) fn numbers(&self) -> impl Iterator<Item = Number> {
        self.0.iter().flatten().map(|step| step.number)
    }
}
