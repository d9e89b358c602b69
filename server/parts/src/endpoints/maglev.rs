//! Which server has a key: a table in which each server has its share of places, as even as can be.

use super::chance;

/// Google's Maglev (Eisenbud and others, 2016): each server goes through the places in an order of its own, and in turn
/// each takes its next one that is free. More even than a ring, and one look for a key; when a server goes, a few more keys
/// change their place.
#[derive(Debug)]
pub(super) struct Maglev {
    places: Vec<u32>,
}

/// Sizes of tables: primes, so that every step goes through all places. A hundred places for each server, as the paper has
/// it, or what the largest gives.
const SIZES: [usize; 5] = [1009, 4099, 16_411, 65_537, 262_147];
const PLACES_FOR_SERVER: usize = 100;

impl Maglev {
    /// Of servers by address and weight.
    pub(super) fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)>) -> Self {
        let servers: Vec<_> = servers
            .enumerate()
            .filter(|(_, (_, weight))| *weight > 0)
            .map(|(index, (address, weight))| (index as u32, address, u64::from(weight)))
            .collect();
        let Some(heaviest) = servers.iter().map(|(.., weight)| *weight).max() else {
            return Self { places: Vec::new() };
        };
        let wanted = servers.len() * PLACES_FOR_SERVER;
        let size = SIZES.into_iter().find(|size| *size >= wanted);
        let size = size.unwrap_or(SIZES[SIZES.len() - 1]);

        let mut places = vec![u32::MAX; size];
        // Where each goes next, by which step, and what it has saved up for its next turn.
        let mut walks: Vec<_> = servers
            .iter()
            .map(|(_, address, _)| {
                let own = chance::hash(address.as_bytes());
                let step = 1 + (chance::mixed(own) % (size as u64 - 1)) as usize;
                ((own % size as u64) as usize, step, 0)
            })
            .collect();
        let mut free = size;
        'turns: loop {
            for ((index, _, weight), (at, step, saved)) in servers.iter().zip(&mut walks) {
                *saved += weight;
                if *saved < heaviest {
                    continue;
                }
                *saved -= heaviest;
                while places[*at] != u32::MAX {
                    *at = (*at + *step) % size;
                }
                places[*at] = *index;
                free -= 1;
                if free == 0 {
                    break 'turns;
                }
            }
        }
        Self { places }
    }

    /// The servers for a key, the right one first; each may come more than once, and not all need come.
    pub(super) fn way_of(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let count = self.places.len();
        (0..count as u64).map(move |attempt| {
            let place = match attempt {
                0 => key,
                _ => chance::mixed(key.wrapping_add(attempt)),
            };
            self.places[(place % count as u64) as usize] as usize
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shares(servers: &[(&'static str, u32)]) -> Vec<usize> {
        let table = Maglev::new(servers.iter().copied());
        let mut shares = vec![0; servers.len()];
        table
            .places
            .iter()
            .for_each(|index| shares[*index as usize] += 1);
        shares
    }

    #[test]
    fn places_are_divided_evenly_and_by_weight() {
        assert_eq!(shares(&[("a:1", 1), ("b:1", 1)]), [505, 504]);
        let shares = shares(&[("a:1", 3), ("b:1", 0), ("c:1", 1), ("d:1", 2)]);
        assert_eq!(shares.iter().sum::<usize>(), 1009);
        for (share, right) in shares.iter().zip([504, 0, 168, 336]) {
            assert!(share.abs_diff(right) <= 2, "{shares:?}");
        }
    }

    #[test]
    fn who_goes_moves_few_keys_of_others() {
        let all = ["a:1", "b:1", "c:1", "d:1"];
        let table = |names: &[&'static str]| Maglev::new(names.iter().map(|name| (*name, 1)));
        let (before, after) = (table(&all), table(&[all[0], all[2], all[3]]));
        let kept = [0, 2, 3];
        let moved = before.places.iter().zip(&after.places);
        let moved = moved
            .filter(|(before, after)| **before != 1 && **before != kept[**after as usize] as u32);
        assert!(moved.count() < 1009 / 8);
    }

    #[test]
    fn none_and_very_many_have_a_table() {
        assert_eq!(Maglev::new([].into_iter()).way_of(7).count(), 0);
        assert_eq!(Maglev::new([("a:1", 0)].into_iter()).way_of(7).count(), 0);
        let many: Vec<String> = (0..5000).map(|number| format!("h{number}:1")).collect();
        let table = Maglev::new(many.iter().map(|name| (&**name, 1)));
        assert_eq!(table.places.len(), 262_147);
    }
}
