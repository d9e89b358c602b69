//! Which server has a key, so that most keys stay where they are when servers come and go: points on a ring.

use super::chance;

/// The points of all servers, in their order around the ring.
///
/// Each server has 100 points for each unit of its weight (fewer where that would be too many in all), at places that
/// depend on its address alone. A key belongs to the next point. So a server that goes leaves its keys to all others in
/// equal parts, and takes none along. Karger and others, 1997; ketama, Envoy's `RING_HASH`.
#[derive(Debug)]
pub(super) struct Ring {
    points: Vec<(u64, u32)>,
}

const POINTS_FOR_WEIGHT: u64 = 100;
const MOST_POINTS: u64 = 1 << 18;

impl Ring {
    /// Of servers by address and weight.
    pub(super) fn new<'a>(servers: impl Iterator<Item = (&'a str, u32)> + Clone) -> Self {
        let weights: u64 = servers.clone().map(|(_, weight)| u64::from(weight)).sum();
        // Weights go up to 1,000: their sum times the bound is no number that does not fit.
        let for_server = |weight: u32| match u64::from(weight) {
            0 => 0,
            weight => (weight * POINTS_FOR_WEIGHT)
                .min(weight * MOST_POINTS / weights)
                .max(1),
        };
        let mut points = Vec::new();
        for (index, (address, weight)) in servers.enumerate() {
            let own = chance::hash(address.as_bytes());
            points.extend(
                (0..for_server(weight))
                    .map(|number| (chance::mixed(own ^ chance::mixed(number)), index as u32)),
            );
        }
        points.sort_unstable();
        Self { points }
    }

    /// The servers from the key's place on; each may come more than once.
    pub(super) fn way_of(&self, key: u64) -> impl Iterator<Item = usize> + '_ {
        let begin = self.points.partition_point(|(point, _)| *point < key);
        let (before, behind) = self.points.split_at(begin);
        behind
            .iter()
            .chain(before)
            .map(|(_, index)| *index as usize)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEYS: u64 = 20_000;

    fn owners(servers: &[(&'static str, u32)]) -> Vec<&'static str> {
        let ring = Ring::new(servers.iter().copied());
        let owner = |key| servers[ring.way_of(chance::mixed(key)).next().unwrap()].0;
        (0..KEYS).map(owner).collect()
    }

    #[test]
    fn keys_are_divided_by_weight() {
        let owners = owners(&[("a:1", 1), ("b:1", 1), ("c:1", 2)]);
        let share =
            |name| owners.iter().filter(|owner| **owner == name).count() as f64 / KEYS as f64;
        for (name, right) in [("a:1", 0.25), ("b:1", 0.25), ("c:1", 0.5)] {
            assert!(
                (share(name) - right).abs() < 0.08,
                "{name}: {}",
                share(name)
            );
        }
    }

    #[test]
    fn who_goes_leaves_its_keys_and_moves_no_other() {
        let all = owners(&[("a:1", 1), ("b:1", 1), ("c:1", 1), ("d:1", 1)]);
        let fewer = owners(&[("a:1", 1), ("c:1", 1), ("d:1", 1)]);
        for (before, after) in all.iter().zip(&fewer) {
            assert!(before == after || *before == "b:1");
        }
    }

    #[test]
    fn it_ends_and_has_a_bound() {
        assert_eq!(Ring::new([].into_iter()).way_of(7).count(), 0);
        let large = Ring::new((0..5000).map(|index| ("a:1", 1 + index % 1000)));
        assert!(large.points.len() as u64 <= MOST_POINTS + 5000);
        let two = Ring::new([("a:1", 1), ("b:1", 1)].into_iter());
        assert_eq!(two.way_of(u64::MAX).count(), 200);
    }
}
