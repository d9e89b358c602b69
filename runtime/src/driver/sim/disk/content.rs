//! The bytes of one file: as programs read them, as they are on the disk, and the writes in between.

use std::collections::BTreeMap;

use super::super::dice::Dice;

/// What a disk writes wholly or not at all.
pub(super) const SECTOR: usize = 512;

/// Changes that wait to be synced. Beyond these the older half is written back, as a kernel does after some time.
const MOST_UNSYNCED: usize = 4096;

#[derive(Default)]
pub(super) struct Content {
    shown: Vec<u8>,
    kept: Vec<u8>,
    unsynced: Vec<Change>,
}

enum Change {
    Write { at: usize, bytes: Vec<u8> },
    Length(usize),
}

impl Change {
    /// The sectors that it touches, in a file that has been so long at most.
    fn sectors(&self, longest: usize) -> std::ops::Range<usize> {
        match self {
            Self::Write { at, bytes } => at / SECTOR..(at + bytes.len()).div_ceil(SECTOR),
            Self::Length(length) => length / SECTOR..longest.div_ceil(SECTOR),
        }
    }

    fn length_after(&self, before: usize) -> usize {
        match self {
            Self::Write { at, bytes } if !bytes.is_empty() => before.max(at + bytes.len()),
            Self::Write { .. } => before,
            Self::Length(length) => *length,
        }
    }

    fn apply(&self, to: &mut Vec<u8>) {
        match self {
            Self::Write { bytes, .. } if bytes.is_empty() => {}
            Self::Write { at, bytes } => {
                let end = at + bytes.len();
                if to.len() < end {
                    to.resize(end, 0);
                }
                to[*at..end].copy_from_slice(bytes);
            }
            Self::Length(length) => to.resize(*length, 0),
        }
    }

    /// Does to one sector of `to` what it does to that sector.
    fn apply_to_sector(&self, to: &mut [u8], sector: usize) {
        let (start, end) = (sector * SECTOR, ((sector + 1) * SECTOR).min(to.len()));
        match self {
            Self::Write { at, bytes } => {
                let from = start.max(*at);
                let until = end.min(at + bytes.len());
                if from < until {
                    to[from..until].copy_from_slice(&bytes[from - at..until - at]);
                }
            }
            Self::Length(length) => {
                let from = start.max(*length);
                if from < end {
                    to[from..end].fill(0);
                }
            }
        }
    }
}

/// How much of what was not synced has reached the disk.
enum Fate {
    Nothing,
    Everything,
    /// What came before this change, and some sectors of that one.
    Until(usize),
    /// Each sector as it was at some time.
    Scattered,
}

impl Content {
    /// What is on the disk from the beginning.
    pub(super) fn of_old(bytes: &[u8]) -> Self {
        Self {
            shown: bytes.to_vec(),
            kept: bytes.to_vec(),
            unsynced: Vec::new(),
        }
    }

    pub(super) fn shown(&self) -> &[u8] {
        &self.shown
    }

    pub(super) fn write(&mut self, at: usize, bytes: &[u8]) {
        self.change(Change::Write {
            at,
            bytes: bytes.to_vec(),
        });
    }

    pub(super) fn set_length(&mut self, length: usize) {
        if length != self.shown.len() {
            self.change(Change::Length(length));
        }
    }

    fn change(&mut self, change: Change) {
        change.apply(&mut self.shown);
        self.unsynced.push(change);
        if self.unsynced.len() > MOST_UNSYNCED {
            let written_back = self.unsynced.drain(..MOST_UNSYNCED / 2);
            for change in written_back {
                change.apply(&mut self.kept);
            }
        }
    }

    /// All of it is on the disk.
    pub(super) fn sync(&mut self) {
        for change in std::mem::take(&mut self.unsynced) {
            change.apply(&mut self.kept);
        }
    }

    /// The disk refused some of it. The kernel takes those pages for clean from then on, so that no later call has
    /// them written; what programs read is what they have written, or what is on the disk.
    pub(super) fn fail_to_sync(&mut self, dice: &mut Dice) {
        self.settle(dice);
        if dice.below(2) == 0 {
            self.shown.clone_from(&self.kept);
        }
    }

    /// Whatever was not synced may have been lost.
    pub(super) fn lose_power(&mut self, dice: &mut Dice) {
        self.settle(dice);
        self.shown.clone_from(&self.kept);
    }

    /// Nobody can have it any more but from the disk.
    pub(super) fn release(&mut self) {
        self.shown = Vec::new();
    }

    /// Draws how much of what was not synced is on the disk.
    fn settle(&mut self, dice: &mut Dice) {
        let changes = std::mem::take(&mut self.unsynced);
        if changes.is_empty() {
            return;
        }
        let count = changes.len();
        let fate = match dice.below(4) {
            0 => Fate::Nothing,
            1 => Fate::Everything,
            2 => Fate::Until(dice.below(count as u64) as usize),
            _ => Fate::Scattered,
        };
        let upto = |dice: &mut Dice| match fate {
            Fate::Nothing => 0,
            Fate::Everything => count,
            Fate::Until(nth) => nth + dice.below(2) as usize,
            Fate::Scattered => dice.below(count as u64 + 1) as usize,
        };
        // The length is metadata, which the disk gets apart from the bytes: these may be missing, and then are zeros.
        let changes_of_length = upto(dice);
        let (mut longest, mut length) = (self.kept.len(), self.kept.len());
        let mut final_length = length;
        for (nth, change) in changes.iter().enumerate() {
            length = change.length_after(length);
            longest = longest.max(length);
            if nth < changes_of_length {
                final_length = length;
            }
        }
        self.kept.resize(longest, 0);
        let mut changes_of = BTreeMap::new();
        for (nth, change) in changes.iter().enumerate() {
            for sector in change.sectors(longest) {
                let upto = *(changes_of.entry(sector)).or_insert_with(|| upto(dice));
                if nth < upto {
                    change.apply_to_sector(&mut self.kept, sector);
                }
            }
        }
        self.kept.truncate(final_length);
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    /// What may be on the disk after a loss of power, over many seeds.
    fn outcomes(make: impl Fn() -> Content) -> Vec<Vec<u8>> {
        let outcome = |seed| {
            let mut content = make();
            content.lose_power(&mut Dice::new(seed));
            assert_eq!(content.shown, content.kept);
            content.kept
        };
        let mut all: Vec<_> = (0..500).map(outcome).collect();
        all.sort();
        all.dedup();
        all
    }

    #[test]
    fn what_was_synced_is_there_and_what_was_not_is_there_wholly_or_not_within_a_sector() {
        let make = || {
            let mut content = Content::default();
            content.write(0, b"first");
            content.sync();
            content.write(5, b" second");
            content
        };
        let zeros = b"first\0\0\0\0\0\0\0".to_vec();
        // Its length may be there without its bytes, and the other way round.
        let expected = [zeros, b"first".to_vec(), b"first second".to_vec()];
        let mut expected = expected.to_vec();
        expected.sort();
        assert_eq!(outcomes(make), expected);
    }

    #[test]
    fn sectors_of_one_write_are_lost_apart() {
        let outcomes = outcomes(|| {
            let mut content = Content::of_old(&[b'a'; 3 * SECTOR]);
            content.write(0, &[b'b'; 3 * SECTOR]);
            content
        });
        assert_eq!(outcomes.len(), 8);
        for outcome in outcomes {
            for sector in outcome.chunks(SECTOR) {
                assert!(sector.iter().all(|&byte| byte == sector[0]));
            }
        }
    }

    #[test]
    fn a_sector_never_has_the_later_of_two_writes_without_the_earlier() {
        let outcomes = outcomes(|| {
            let mut content = Content::of_old(b"....");
            content.write(0, b"a");
            content.write(1, b"b");
            content
        });
        let expected = [&b"...."[..], b"a...", b"ab.."];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn bytes_that_were_cut_off_come_back_as_zeros_or_as_they_were() {
        let outcomes = outcomes(|| {
            let mut content = Content::of_old(b"abcd");
            content.set_length(2);
            content.set_length(4);
            content
        });
        let expected = [&b"ab"[..], b"ab\0\0", b"abcd"];
        assert_eq!(outcomes, expected);
    }

    #[test]
    fn what_a_failed_sync_has_lost_no_later_one_writes() {
        let lost = (0..100).filter(|&seed| {
            let mut content = Content::default();
            content.write(0, b"lost");
            content.fail_to_sync(&mut Dice::new(seed));
            content.sync();
            content.lose_power(&mut Dice::new(seed));
            content.shown != b"lost"
        });
        assert!(lost.count() > 20);
    }

    #[test]
    fn what_is_not_synced_is_written_back_in_the_end() {
        let mut content = Content::default();
        for nth in 0..3 * MOST_UNSYNCED {
            content.write(nth, b"x");
        }
        assert!(content.unsynced.len() <= MOST_UNSYNCED && content.kept.len() > MOST_UNSYNCED);
        assert_eq!(content.shown.len(), 3 * MOST_UNSYNCED);
    }
}
