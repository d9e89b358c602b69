//! What one call wants of the choice: a key, and other servers than those that it has tried.

use std::sync::{Arc, Mutex, PoisonError};

use super::chance;

/// What one call wants of the choice of its servers, over all its attempts. Attempts at the same time may share it.
///
/// Servers that were tried are left out as long as there are others: see [`Endpoints::pick_as`](super::Endpoints::pick_as).
#[derive(Debug, Default)]
pub struct Want {
    key: Option<u64>,
    /// Addresses.
    tried: Mutex<Vec<Arc<str>>>,
}

impl Want {
    /// Any server.
    pub fn new() -> Self {
        Self::default()
    }

    /// The server of that key, for [`Balance::Ring`](super::Balance::Ring) and [`Maglev`](super::Balance::Maglev). In all
    /// processes with the same list it is the same server.
    pub fn key(mut self, key: impl AsRef<[u8]>) -> Self {
        self.key = Some(chance::hash(key.as_ref()));
        self
    }

    /// How many attempts have got a server.
    pub fn attempts(&self) -> usize {
        self.with_tried(|tried| tried.len())
    }

    pub(super) fn hash(&self) -> Option<u64> {
        self.key
    }

    pub(super) fn has_tried(&self, address: &Arc<str>) -> bool {
        self.with_tried(|tried| tried.contains(address))
    }

    pub(super) fn note(&self, address: &Arc<str>) {
        self.with_tried(|tried| {
            // A call that goes on for ever keeps no endless list: by then all were tried, most likely.
            if tried.len() < MOST {
                tried.push(address.clone());
            }
        });
    }

    /// Nothing waits while it is held.
    fn with_tried<T>(&self, f: impl FnOnce(&mut Vec<Arc<str>>) -> T) -> T {
        f(&mut self.tried.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

const MOST: usize = 1000;
