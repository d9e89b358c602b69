//! A whole that is divided over servers: each part has some of them, and a call goes to all parts.

use std::{
    collections::BTreeMap,
    fmt,
    ops::ControlFlow,
    sync::{Mutex, PoisonError},
};

use maniple::group::{Gathered, Parallel};

use crate::endpoints::{Builder, CallError, Chance, Endpoint, Endpoints, ListError, Part, Picked};

/// Servers that have a [part](Endpoint::part) of a whole each: shards. A call goes to one server of each part, at once.
///
/// While a whole is divided anew, the old division and the new one stand in the list side by side: `0/3`, `1/3`, `2/3` and
/// `0/4` to `3/4`. Each call takes one of the two as a whole, the one with more servers that are fit more often. A division
/// of which a part has no server that is fit gets no calls. So a service is divided over more machines without a stop:
/// start these, and end the others once they have nothing to do.
///
/// # Examples
/// ```
/// use maniple::group::{Ending, Parallel};
/// use maniple_parts::{combined::Partitions, endpoints::{Endpoint, Endpoints}};
/// use std::{convert::Infallible, ops::ControlFlow};
///
/// maniple::run(|| {
///     let list = ["10.0.0.1:80 part=0/2", "10.0.0.2:80 part=1/2", "10.0.0.3:80 part=1/2"];
///     let list = list.map(|line| line.parse::<Endpoint>().unwrap());
///     let shards = Partitions::new(Endpoints::builder("search"), list).unwrap();
///     let found = shards.scheme().expect("each part has a server").run(
///         Parallel::new().give_up_at(1),
///         |part, picked| Ok::<_, Infallible>(format!("{part} at {}", picked.address())),
///         Vec::new(),
///         |all, _part, hits| {
///             all.push(hits);
///             ControlFlow::Continue(())
///         },
///     );
///     assert_eq!(found.end, Ending::All);
///     assert!(found.value.contains(&"0/2 at 10.0.0.1:80".to_owned()));
/// });
/// ```
pub struct Partitions {
    settings: Builder,
    chance: Chance,
    parts: Mutex<BTreeMap<Part, Endpoints>>,
}

/// One division of the whole, all of whose parts have servers; from [`Partitions::scheme`].
#[derive(Clone)]
pub struct Scheme {
    parts: Vec<(Part, Endpoints)>,
}

impl Partitions {
    /// The servers of a list that have a part; others are left out. The settings are those of each part's servers.
    ///
    /// # Errors
    /// If there are too many.
    pub fn new(
        settings: Builder,
        list: impl IntoIterator<Item = Endpoint>,
    ) -> Result<Self, ListError> {
        let partitions = Self {
            chance: Chance::new(settings.seed_of()),
            settings,
            parts: Mutex::default(),
        };
        partitions.set(list)?;
        Ok(partitions)
    }

    /// Takes a new list. What is known of servers that keep their part stays.
    ///
    /// # Errors
    /// If a part has too many. Then some parts may have the new list, and others that before.
    pub fn set(&self, list: impl IntoIterator<Item = Endpoint>) -> Result<(), ListError> {
        let mut lists: BTreeMap<Part, Vec<Endpoint>> = BTreeMap::new();
        for endpoint in list {
            if let Some(part) = endpoint.part_of() {
                lists.entry(part).or_default().push(endpoint);
            }
        }
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        let mut next = BTreeMap::new();
        for (part, list) in lists {
            let endpoints = match parts.get(&part) {
                Some(known) => known.set(list).map(|_| known.clone())?,
                None => self.settings.clone().build(list)?,
            };
            next.insert(part, endpoints);
        }
        let before = std::mem::replace(&mut *parts, next);
        drop(parts);
        drop(before);
        Ok(())
    }

    /// A division for one call: by chance, in proportion to the servers that are fit. `None` if none is whole.
    pub fn scheme(&self) -> Option<Scheme> {
        let mut schemes: BTreeMap<u32, (u64, Vec<(Part, Endpoints)>)> = BTreeMap::new();
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        for (part, endpoints) in &*parts {
            let capacity = endpoints.capacity();
            if capacity > 0 {
                let (sum, fit) = schemes.entry(part.of()).or_default();
                *sum += capacity;
                fit.push((*part, endpoints.clone()));
            }
        }
        drop(parts);
        // Of each of its parts there is one entry, so a number tells that none is missing.
        schemes.retain(|of, (_, fit)| fit.len() == *of as usize);
        let total: u64 = schemes.values().map(|(sum, _)| sum).sum();
        let mut drawn = self
            .chance
            .below(usize::try_from(total).unwrap_or(usize::MAX)) as u64;
        for (sum, parts) in schemes.into_values() {
            if drawn < sum {
                return Some(Scheme { parts });
            }
            drawn -= sum;
        }
        None
    }

    /// The servers of each part, in the order of the divisions.
    pub fn parts(&self) -> Vec<(Part, Endpoints)> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .map(|(part, set)| (*part, set.clone()))
            .collect()
    }
}

impl Scheme {
    /// The parts, in their order, with their servers.
    pub fn parts(&self) -> &[(Part, Endpoints)] {
        &self.parts
    }

    /// Calls a server of each part at once, notes what that came to, and folds what succeeds as
    /// [`Parallel::run`] does; the index of a member is that of its part.
    ///
    /// # Panics
    /// With the panic of a call or of `fold`; the other calls are cancelled.
    pub fn run<T, E, A>(
        &self,
        parallel: Parallel,
        call: impl Fn(Part, &Picked) -> Result<T, E> + Sync,
        first: A,
        fold: impl FnMut(&mut A, usize, T) -> ControlFlow<()> + Send,
    ) -> Gathered<A, CallError<E>>
    where
        T: Send,
        E: Send,
        A: Send,
    {
        let call = &call;
        let calls = self
            .parts
            .iter()
            .map(|(part, endpoints)| Some(move || endpoints.call(|picked| call(*part, picked))));
        parallel.run(calls, first, fold)
    }
}

impl fmt::Debug for Partitions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_map().entries(self.parts()).finish()
    }
}

impl fmt::Debug for Scheme {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let parts = self.parts.iter().map(|(part, set)| (part, set));
        f.debug_map().entries(parts).finish()
    }
}
