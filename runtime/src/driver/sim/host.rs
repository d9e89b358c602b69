//! Hosts of a world, by number.

/// Which host; 0 is where the scenario itself runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(crate) u32);
