//! Settings of a set of servers.

use std::{sync::Arc, time::Duration};

use super::{
    balance::Balance,
    endpoint::Endpoint,
    error::ListError,
    health::Ejection,
    member::Limit,
    set::{Endpoints, Settings, Shared, enlist},
};
use crate::adaptive::Bounds;

/// Settings of [`Endpoints`]; made by [`Endpoints::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    settings: Settings,
    seed: Option<u64>,
}

impl Builder {
    pub(super) fn new(name: String) -> Self {
        Self {
            settings: Settings {
                name,
                balance: Balance::default(),
                zone: None,
                ejection: Some(Ejection::new()),
                recovery: None,
                limit: None,
                queue: None,
            },
            seed: None,
        }
    }

    /// How calls are given to servers. Default: [`Balance::PeakEwma`].
    pub fn balance(mut self, balance: Balance) -> Self {
        self.settings.balance = balance;
        self
    }

    /// Where the caller stands: servers of the same zone are preferred. As long as seven of ten of these are fit all calls
    /// stay in the zone; with fewer a part goes to the others, so that those that are left are not flooded. Default: none.
    pub fn zone(mut self, zone: impl Into<Arc<str>>) -> Self {
        self.settings.zone = Some(zone.into());
        self
    }

    /// When a server whose calls fail is left out for a while; see [`Ejection`]. Default: [`Ejection::new`].
    pub fn ejection(mut self, ejection: Ejection) -> Self {
        self.settings.ejection = Some(ejection);
        self
    }

    /// Leaves out no server for what its calls come to.
    pub fn without_ejection(mut self) -> Self {
        self.settings.ejection = None;
        self
    }

    /// Once no server was fit, those that come back first are not to be flooded by the calls for all: until so many are fit,
    /// and have been for so long, only the share of calls that they are of that number is made; the others end with
    /// [`PickError::Recovering`](super::PickError::Recovering) at once. brpc's `min_working_instances` and
    /// `hold_seconds`. Default: none, and all calls are made.
    ///
    /// While no server is fit at all no call is made, so have [checks](Endpoints::check), or an [`Ejection`] that ends.
    pub fn recovery(mut self, least: usize, hold: Duration) -> Self {
        self.settings.recovery = (least > 0).then_some((least, hold));
        self
    }

    /// How many calls each server may have at a time; calls beyond that go to others, [wait](Self::queue), or end with
    /// [`PickError::Full`](super::PickError::Full) at once. Default: no limit.
    ///
    /// # Panics
    /// If it is 0.
    pub fn limit(mut self, calls: usize) -> Self {
        assert!(calls > 0, "a server that may have no call");
        self.settings.limit = Some(Limit::Fixed(calls));
        self
    }

    /// The same, where the limit of each server is found out while it is called: it grows while its calls take no longer than without
    /// a queue, and falls once they do. See [`Controller`](crate::adaptive::Controller). In place of [`limit`](Self::limit);
    /// [`EndpointStats::limit`](super::EndpointStats::limit) has what it is now.
    ///
    /// For calls that are alike: a set for each kind of call that takes another time.
    pub fn adaptive_limit(mut self, bounds: Bounds) -> Self {
        self.settings.limit = Some(Limit::Adaptive(bounds));
        self
    }

    /// How many calls may wait at a time where all servers are at their [limit](Self::limit), and how long each. They are served in the
    /// order in which they came. Beyond that they end with [`PickError::Full`](super::PickError::Full), those whose time or
    /// deadline has passed with [`TimedOut`](super::PickError::TimedOut). Default: none waits.
    pub fn queue(mut self, calls: usize, patience: Duration) -> Self {
        self.settings.queue = (calls > 0).then_some((calls, patience));
        self
    }

    /// Has chance go the same way each time, for tests and simulated worlds. Default: it differs from process to process.
    pub fn seed(mut self, seed: u64) -> Self {
        self.seed = Some(seed);
        self
    }

    pub(crate) fn seed_of(&self) -> Option<u64> {
        self.seed
    }

    /// The set, of these servers. There may be 10,000; one that is in the list twice is in the set once, as it is named
    /// first.
    ///
    /// # Errors
    /// If there are too many.
    pub fn build<E: Into<Endpoint>>(
        self,
        endpoints: impl IntoIterator<Item = E>,
    ) -> Result<Endpoints, ListError> {
        let endpoints = endpoints.into_iter().map(Into::into).collect();
        let shared = Arc::new(Shared::new(self.settings, self.seed, endpoints)?);
        enlist(&shared);
        Ok(Endpoints { shared })
    }
}
