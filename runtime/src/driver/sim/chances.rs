//! Places in code that take a rare way on purpose, in some worlds.

use std::{collections::BTreeMap, panic::Location};

use super::dice::Dice;

/// Which of these places do so in a world, and how often. After FoundationDB's `BUGGIFY`.
pub(super) struct Chances {
    dice: Dice,
    are_on: bool,
    places: BTreeMap<&'static Location<'static>, bool>,
}

/// What tells these dice from the others.
const SALT: u64 = 0x6368_616E_6365_0002;

/// A place is in use in so many worlds of one.
const IN_USE: f64 = 0.25;

/// One that is in use says yes so often, of one.
const YES: f64 = 0.25;

impl Chances {
    pub(super) fn new(seed: u64, are_on: bool) -> Self {
        Self {
            dice: Dice::new(seed ^ SALT),
            are_on,
            places: BTreeMap::new(),
        }
    }

    pub(super) fn strikes(&mut self, at: &'static Location<'static>) -> bool {
        if !self.are_on {
            return false;
        }
        let dice = &mut self.dice;
        let is_in_use = *(self.places.entry(at)).or_insert_with(|| dice.chance(IN_USE));
        is_in_use && self.dice.chance(YES)
    }
}
