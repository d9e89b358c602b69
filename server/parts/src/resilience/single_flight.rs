//! Who asks for what another is asking for already waits for that one's answer.

use std::{
    collections::BTreeMap,
    fmt,
    sync::{
        Arc, PoisonError,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use maniple::{
    cancel,
    sync::{Condvar, Mutex},
};

/// Collapses calls for the same key at the same time into one: the first makes it, the others get a clone of its value. So a
/// key of a cache that a thousand clients miss at once costs the service behind one call.
///
/// It remembers nothing: who comes when the value is there makes a call of its own. Each waits with its own deadline. If who
/// makes the call panics, is cancelled or runs out of time, that is its own affair: one of those that wait makes the call
/// in its turn.
///
/// # Examples
/// ```
/// use maniple_parts::resilience::SingleFlight;
/// use std::{sync::atomic::{AtomicU32, Ordering}, time::Duration};
///
/// maniple::run(|| {
///     let prices = SingleFlight::new();
///     let asked = AtomicU32::new(0);
///     let price = |item: u32| prices.run(item, || {
///         asked.fetch_add(1, Ordering::Relaxed);
///         maniple::sleep(Duration::from_millis(5)); // a call
///         item * 10
///     });
///     let seen = maniple::group::map(100, 0..100, |_| price(7));
///     assert!(seen.iter().all(|price| *price == 70));
///     assert_eq!(asked.into_inner(), 1);
/// });
/// ```
pub struct SingleFlight<K, V> {
    /// Held for some instructions; nothing waits under it.
    flights: std::sync::Mutex<BTreeMap<K, Arc<Flight<V>>>>,
    calls: AtomicU64,
    joined: AtomicU64,
}

/// What a [`SingleFlight`] has seen.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FlightStats {
    /// Calls that were made.
    pub calls: u64,
    /// How often somebody waited for another's call.
    pub joined: u64,
}

struct Flight<V> {
    state: Mutex<State<V>>,
    over: Condvar,
}

enum State<V> {
    UnderWay,
    Landed(V),
    /// The one who made the call has no value for others.
    GivenUp,
}

impl<K: Ord + Clone, V: Clone> SingleFlight<K, V> {
    /// With nothing under way.
    pub fn new() -> Self {
        Self {
            flights: std::sync::Mutex::default(),
            calls: AtomicU64::new(0),
            joined: AtomicU64::new(0),
        }
    }

    /// The value of the call for `key`: that of `call`, or of a call that is under way.
    ///
    /// `call` must not ask for its own key here: it would wait for itself. A value that comes when its caller is already
    /// cancelled or out of time is for that one alone, since it may say no more than that.
    ///
    /// # Panics
    /// If `call` does.
    pub fn run(&self, key: K, call: impl FnOnce() -> V) -> V {
        loop {
            let (flight, is_first) = self.board(&key);
            if is_first {
                return self.lead(key, flight, call);
            }
            self.joined.fetch_add(1, Relaxed);
            let mut state = flight.state.lock();
            flight
                .over
                .wait_while(&mut state, |state| matches!(state, State::UnderWay));
            if let State::Landed(value) = &*state {
                return value.clone();
            }
        }
    }

    /// What it has seen so far.
    pub fn stats(&self) -> FlightStats {
        FlightStats {
            calls: self.calls.load(Relaxed),
            joined: self.joined.load(Relaxed),
        }
    }

    /// The flight of that key, and whether it is new.
    fn board(&self, key: &K) -> (Arc<Flight<V>>, bool) {
        let mut flights = self.flights.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(flight) = flights.get(key) {
            return (flight.clone(), false);
        }
        let flight = Arc::new(Flight {
            state: Mutex::new(State::UnderWay),
            over: Condvar::new(),
        });
        flights.insert(key.clone(), flight.clone());
        (flight, true)
    }

    fn lead(&self, key: K, flight: Arc<Flight<V>>, call: impl FnOnce() -> V) -> V {
        self.calls.fetch_add(1, Relaxed);
        let mut landing = Landing {
            of: self,
            key,
            flight,
            state: State::GivenUp,
        };
        let value = call();
        if cancel::check().is_ok() {
            landing.state = State::Landed(value.clone());
        }
        value
    }
}

impl<K: Ord + Clone, V: Clone> Default for SingleFlight<K, V> {
    fn default() -> Self {
        Self::new()
    }
}

/// Ends a flight on every way out.
struct Landing<'a, K: Ord + Clone, V: Clone> {
    of: &'a SingleFlight<K, V>,
    key: K,
    flight: Arc<Flight<V>>,
    state: State<V>,
}

impl<K: Ord + Clone, V: Clone> Drop for Landing<'_, K, V> {
    fn drop(&mut self) {
        // First of all, so that who was told of it makes a flight of its own.
        let mut flights = self
            .of
            .flights
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        let ended = flights.remove(&self.key);
        drop(flights);
        *self.flight.state.lock() = std::mem::replace(&mut self.state, State::GivenUp);
        self.flight.over.notify_all();
        drop(ended);
    }
}

impl<K, V> fmt::Debug for SingleFlight<K, V> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SingleFlight")
            .field("calls", &self.calls)
            .field("joined", &self.joined)
            .finish_non_exhaustive()
    }
}
