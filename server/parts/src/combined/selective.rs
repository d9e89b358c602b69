//! One of several groups for each call.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use crate::endpoints::{
    Builder, CallError, Endpoint, EndpointStats, Endpoints, ListError, PickError, Want,
};

/// Balances between groups: data centres, clusters, services that can do the same. What a group is, is yours: a set of
/// servers with a client, or such a choice again.
///
/// A group is chosen, judged and left out as a server of [`Endpoints`] is, and a call that fails in one is tried again in
/// another, if it keeps its [`Want`].
///
/// # Examples
/// ```
/// use maniple_parts::{combined::Selective, endpoints::{Endpoint, Endpoints, Want}};
///
/// let group = |list: [&str; 2]| Endpoints::builder("group").build(list).unwrap();
/// let east = group(["10.0.0.1:80", "10.0.0.2:80"]);
/// let west = group(["10.1.0.1:80", "10.1.0.2:80"]);
/// let both = [(Endpoint::new("east").weight(9), east), (Endpoint::new("west"), west)];
/// let prices = Selective::new(Endpoints::builder("prices"), both).unwrap();
///
/// let want = Want::new();
/// let mut asked = Vec::new();
/// for _attempt in 0..2 {
///     let failed = prices.call(&want, |group| {
///         asked.push(group.list()[0].address().to_owned());
///         Err::<(), _>("down")
///     });
///     assert!(failed.is_err());
/// }
/// assert_ne!(asked[0], asked[1], "another group");
/// ```
pub struct Selective<G> {
    choice: Endpoints,
    groups: Mutex<Groups<G>>,
}

/// By name.
type Groups<G> = BTreeMap<Arc<str>, (Endpoint, Arc<G>)>;

impl<G> Selective<G> {
    /// Groups by name, which takes the place of an address. The settings are those of the choice between them.
    ///
    /// # Errors
    /// If there are too many.
    pub fn new(
        settings: Builder,
        groups: impl IntoIterator<Item = (Endpoint, G)>,
    ) -> Result<Self, ListError> {
        let named = groups.into_iter().map(|(endpoint, group)| {
            let name = endpoint.shared_address().clone();
            (name, (endpoint, Arc::new(group)))
        });
        let groups: BTreeMap<_, _> = named.collect();
        let list = groups.values().map(|(endpoint, _)| endpoint.clone());
        Ok(Self {
            choice: settings.build(list)?,
            groups: Mutex::new(groups),
        })
    }

    /// Adds a group, or takes another in the place of one with that name.
    ///
    /// # Errors
    /// If there are too many.
    pub fn insert(&self, name: impl Into<Endpoint>, group: G) -> Result<(), ListError> {
        let name = name.into();
        let mut groups = self.groups();
        let others = groups.values().map(|(endpoint, _)| endpoint);
        let others = others.filter(|other| other.address() != name.address());
        let list: Vec<_> = others.cloned().chain([name.clone()]).collect();
        self.choice.set(list)?;
        let before = groups.insert(name.shared_address().clone(), (name, Arc::new(group)));
        drop(groups);
        drop(before);
        Ok(())
    }

    /// Takes a group out. Calls that it has go on.
    pub fn remove(&self, name: &str) -> Option<Arc<G>> {
        let mut groups = self.groups();
        let (_, group) = groups.remove(name)?;
        // Fewer than before are not too many.
        let list = groups.values().map(|(endpoint, _)| endpoint.clone());
        let _changed = self.choice.set(list.collect::<Vec<_>>());
        Some(group)
    }

    /// Chooses a group, calls `f` with it, and notes what it came to.
    ///
    /// # Errors
    /// [`CallError::Pick`] if `f` was not called, else what it returned.
    ///
    /// # Panics
    /// If `f` does; that counts as cut short.
    pub fn call<T, E>(
        &self,
        want: &Want,
        f: impl FnOnce(&G) -> Result<T, E>,
    ) -> Result<T, CallError<E>> {
        let picked = self.choice.pick_as(want)?;
        let group = self.groups().get(picked.address()).cloned();
        let Some((_, group)) = group else {
            // It was taken out in between.
            return Err(CallError::Pick(PickError::Empty));
        };
        let outcome = f(&group);
        match &outcome {
            Ok(_) => picked.succeeded(),
            Err(_) => picked.failed(),
        }
        outcome.map_err(CallError::Call)
    }

    /// Each group as it is now; its name is the endpoint's address.
    pub fn stats(&self) -> Vec<EndpointStats> {
        self.choice.stats()
    }

    /// Nothing waits while it is held.
    fn groups(&self) -> MutexGuard<'_, Groups<G>> {
        self.groups.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<G> fmt::Debug for Selective<G> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Selective").field(&self.choice).finish()
    }
}
