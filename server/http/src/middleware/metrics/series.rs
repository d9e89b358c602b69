//! What is counted of the requests of one route and method, on one thread.
//!
//! A thread writes to its own series alone, so that a count is a load and a store. A request is counted where it begins and
//! where it ends, which may be two threads: what is in flight is the difference of the sums.

use std::{
    cell::RefCell,
    collections::HashMap,
    hash::{BuildHasherDefault, Hasher},
    mem::ManuallyDrop,
    ops::Deref,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Instant,
};

use http::Method;
use maniple::time::now;

/// Upper ends of the buckets for times, in seconds.
pub(super) const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

/// Upper ends of the buckets for sizes, in bytes.
pub(super) const BYTES: [f64; 8] = [
    256.0, 1024.0, 4096.0, 16384.0, 65536.0, 262144.0, 1048576.0, 16777216.0,
];

/// How often a number lay below each of `N` ends, or above all, and their sum.
#[derive(Debug)]
pub(super) struct Histogram<const N: usize> {
    pub(super) below: [AtomicU64; N],
    pub(super) above: AtomicU64,
    pub(super) sum: AtomicU64,
}

impl<const N: usize> Histogram<N> {
    fn new() -> Self {
        Self {
            below: [const { AtomicU64::new(0) }; N],
            above: AtomicU64::new(0),
            sum: AtomicU64::new(0),
        }
    }

    /// One of that size in the unit of the ends, which adds so much to the sum.
    fn observe(&self, ends: &[f64; N], size: f64, adds: u64) {
        let at = ends.iter().position(|&end| size <= end);
        add(at.map_or(&self.above, |at| &self.below[at]), 1);
        add(&self.sum, adds);
    }
}

/// Adds to a number that this thread alone writes.
#[inline]
fn add(number: &AtomicU64, adds: u64) {
    number.store(number.load(Relaxed).wrapping_add(adds), Relaxed);
}

/// How requests can end: by the first digit of the status, or without an answer.
pub(super) const ENDS: [&str; 6] = ["none", "1xx", "2xx", "3xx", "4xx", "5xx"];

#[derive(Debug)]
pub(super) struct Series {
    pub(super) route: &'static str,
    pub(super) method: &'static str,
    pub(super) begun: AtomicU64,
    pub(super) ended: [AtomicU64; ENDS.len()],
    /// Answers that broke off.
    pub(super) cut: AtomicU64,
    /// In nanoseconds.
    pub(super) took: Histogram<{ SECONDS.len() }>,
    pub(super) received: Histogram<{ BYTES.len() }>,
    pub(super) sent: Histogram<{ BYTES.len() }>,
}

/// Whose they are, the route's address, and the method's place.
type Key = (u64, usize, usize);

type Kept = HashMap<Key, Arc<Series>, BuildHasherDefault<Mix>>;

thread_local! {
    static OF_THIS_THREAD: RefCell<Kept> = RefCell::default();
}

/// Nobody outside has a say in the keys, and there are few.
#[derive(Default)]
struct Mix(u64);

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.write_u64(byte.into()));
    }

    #[inline]
    fn write_u64(&mut self, word: u64) {
        // The golden ratio's, whose high bits depend on all of the word's.
        self.0 = (self.0.rotate_left(29) ^ word).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }

    #[inline]
    fn write_usize(&mut self, word: usize) {
        self.write_u64(word as u64);
    }

    #[inline]
    fn finish(&self) -> u64 {
        self.0 ^ (self.0 >> 32)
    }
}

/// Whose series they are.
pub(super) trait Owner {
    /// No other has it.
    fn id(&self) -> u64;

    /// Keeps a thread's series, which is new.
    fn keep(&self, series: Arc<Series>);
}

/// A closed set, since anybody may ask with any method.
const METHODS: [(&str, Method); 9] = [
    ("GET", Method::GET),
    ("POST", Method::POST),
    ("PUT", Method::PUT),
    ("DELETE", Method::DELETE),
    ("HEAD", Method::HEAD),
    ("PATCH", Method::PATCH),
    ("OPTIONS", Method::OPTIONS),
    ("CONNECT", Method::CONNECT),
    ("TRACE", Method::TRACE),
];

impl Series {
    fn new(route: &'static str, method: &'static str) -> Self {
        Self {
            route,
            method,
            begun: AtomicU64::new(0),
            ended: [const { AtomicU64::new(0) }; ENDS.len()],
            cut: AtomicU64::new(0),
            took: Histogram::new(),
            received: Histogram::new(),
            sent: Histogram::new(),
        }
    }
}

/// Whose requests are counted together, beside their owner's.
#[derive(Clone, Copy, Debug)]
struct Family {
    route: &'static str,
    /// A place in `METHODS`, or behind them.
    method: usize,
}

impl Family {
    /// Counts in this thread's series.
    fn count<O: Owner + ?Sized>(self, owner: &O, count: impl Fn(&Series)) {
        let key = (owner.id(), self.route.as_ptr().addr(), self.method);
        let counted = OF_THIS_THREAD.try_with(|all| {
            let all = &mut *all.borrow_mut();
            match all.get(&key) {
                Some(series) => count(series),
                None => count(&self.add_to(all, key, owner)),
            }
        });
        if counted.is_err() {
            // The thread's own are dropped already: some destructor is late.
            count(&self.add_to(&mut Kept::default(), key, owner));
        }
    }

    /// A new series for this thread.
    #[cold]
    fn add_to(self, all: &mut Kept, key: Key, owner: &(impl Owner + ?Sized)) -> Arc<Series> {
        // Those of metrics that are gone.
        all.retain(|_, series| Arc::strong_count(series) > 1);
        let method = METHODS.get(self.method).map_or("other", |(name, _)| name);
        let series = Arc::new(Series::new(self.route, method));
        all.insert(key, series.clone());
        owner.keep(series.clone());
        series
    }
}

/// A request that is being answered; counted when it is dropped, and its body with it.
#[derive(Debug)]
pub(super) struct Counted<O: Deref<Target: Owner>> {
    owner: O,
    family: Family,
    began: Instant,
    /// What was answered, as a place in `ENDS`.
    end: usize,
    pub(super) sent: u64,
    pub(super) is_cut: bool,
}

impl<O: Deref<Target: Owner>> Counted<O> {
    pub(super) fn begin(
        owner: O,
        route: &'static str,
        method: &Method,
        received: Option<u64>,
    ) -> Self {
        let method = METHODS.iter().position(|(_, one)| one == method);
        let family = Family {
            route,
            method: method.unwrap_or(METHODS.len()),
        };
        family.count(&*owner, |series| {
            add(&series.begun, 1);
            if let Some(bytes) = received {
                series.received.observe(&BYTES, bytes as f64, bytes);
            }
        });
        Self {
            owner,
            family,
            began: now(),
            end: 0,
            sent: 0,
            is_cut: false,
        }
    }

    pub(super) fn answered(&mut self, status: u16) {
        self.end = usize::from(status / 100).min(ENDS.len() - 1);
    }
}

impl<O: Owner> Counted<&O> {
    /// The same request, for as long as it takes.
    pub(super) fn held_by(self, owner: Arc<O>) -> Counted<Arc<O>> {
        // A reference is all that is not dropped.
        let this = ManuallyDrop::new(self);
        Counted {
            owner,
            family: this.family,
            began: this.began,
            end: this.end,
            sent: this.sent,
            is_cut: this.is_cut,
        }
    }
}

impl<O: Deref<Target: Owner>> Drop for Counted<O> {
    fn drop(&mut self) {
        let took = now().saturating_duration_since(self.began);
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        self.family.count(&*self.owner, |series| {
            let seconds = nanoseconds as f64 / 1e9;
            series.took.observe(&SECONDS, seconds, nanoseconds);
            series.sent.observe(&BYTES, self.sent as f64, self.sent);
            if self.is_cut {
                add(&series.cut, 1);
            }
            add(&series.ended[self.end], 1);
        });
    }
}
