//! What a kernel may do with a call, and the one below a world seldom does: move a part of it, or wake for nothing.

use super::dice::Dice;

/// Draws both, where a world draws at all.
pub(super) struct Kernel {
    dice: Dice,
    draws: bool,
    loses_races: bool,
}

/// Keeps these dice apart from the others.
const SALT: u64 = 0x6B65_726E_656C_0001;

/// How often, of one, a call moves a part.
const PARTS: f64 = 0.25;

/// In how many worlds, of one, races are lost; all others go as fast as they can.
const LOSING: f64 = 0.25;

/// How often there, of one, a wait ends for nothing when others have ended for something.
const LOST_RACES: f64 = 0.25;

impl Kernel {
    pub(super) fn new(seed: u64, draws: bool) -> Self {
        let mut dice = Dice::new(seed ^ SALT);
        Self {
            loses_races: draws && dice.chance(LOSING),
            dice,
            draws,
        }
    }

    /// How many of these bytes a call moves: all, or a part that is no less than `least`. Small parts are as likely as
    /// large ones, since a buffer is often larger than what comes.
    pub(super) fn part(&mut self, bytes: usize, least: usize) -> usize {
        if !self.draws || bytes <= least || !self.dice.chance(PARTS) {
            return bytes;
        }
        let beyond = (bytes - least) as u64;
        let most = 1 << self.dice.below(u64::from(beyond.ilog2()) + 1);
        least + self.dice.below(most) as usize
    }

    /// Whether a wait ends now whose race for what has come was lost: a number to choose it by.
    pub(super) fn lost_race(&mut self) -> Option<u64> {
        (self.loses_races && self.dice.chance(LOST_RACES)).then(|| self.dice.number())
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn parts_are_of_any_size_from_the_least_on() {
        let mut kernel = Kernel::new(7, true);
        let parts: Vec<_> = (0..10_000).map(|_| kernel.part(1000, 10)).collect();
        assert!(parts.iter().all(|part| (10..=1000).contains(part)));
        let share = |of: &dyn Fn(usize) -> bool| parts.iter().filter(|part| of(**part)).count();
        assert!(share(&|part| part == 10) > 100);
        assert!(share(&|part| (300..1000).contains(&part)) > 100);
        assert!(share(&|part| part == 1000) > 7000);
    }

    #[test]
    fn what_is_no_more_than_the_least_goes_at_once() {
        let mut kernel = Kernel::new(7, true);
        assert!((0..1000).all(|_| kernel.part(10, 10) == 10 && kernel.part(0, 1) == 0));
    }

    #[test]
    fn races_are_lost_in_some_worlds_now_and_then() {
        let lost = |seed| {
            let mut kernel = Kernel::new(seed, true);
            (0..1000).filter_map(|_| kernel.lost_race()).count()
        };
        let losing: Vec<_> = (0..1000).map(lost).filter(|lost| *lost > 0).collect();
        assert!((200..300).contains(&losing.len()), "{}", losing.len());
        assert!(losing.iter().all(|lost| (150..350).contains(lost)));
    }

    #[test]
    fn without_dice_calls_move_all_and_no_race_is_lost() {
        let mut kernel = Kernel::new(7, false);
        assert!((0..1000).all(|_| kernel.part(1000, 1) == 1000 && kernel.lost_race().is_none()));
    }
}
