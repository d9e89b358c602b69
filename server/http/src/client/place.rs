//! A connection's place among those that may be open.

use std::sync::{Arc, Weak};

/// Where places are counted.
pub(super) trait Places: std::fmt::Debug + Send + Sync {
    /// One of that host's is free again.
    fn give_back(self: Arc<Self>, host: &Arc<str>);
}

/// A connection's place among those that may be open; free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    host: Arc<str>,
    places: Option<Weak<dyn Places>>,
}

impl Place {
    pub(super) fn of(places: Weak<dyn Places>, host: Arc<str>) -> Self {
        Self {
            host,
            places: Some(places),
        }
    }

    /// Gives it up without a word, to who has taken it out of the count.
    pub(super) fn forgo(mut self) -> Arc<str> {
        self.places = None;
        self.host.clone()
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let places = self.places.take().and_then(|places| places.upgrade());
        if let Some(places) = places {
            places.give_back(&self.host);
        }
    }
}
