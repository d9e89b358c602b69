//! What is counted of the requests of one route and method, on one thread.

use std::{
    cell::RefCell,
    collections::HashMap,
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

use http::Method;

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
        at.map_or(&self.above, |at| &self.below[at])
            .fetch_add(1, Relaxed);
        self.sum.fetch_add(adds, Relaxed);
    }
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

thread_local! {
    static OF_THIS_THREAD: RefCell<HashMap<Key, Arc<Series>>> = RefCell::default();
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

    /// That of this thread; a new one is handed to `keep`.
    pub(super) fn of(
        owner: u64,
        route: &'static str,
        method: &Method,
        keep: impl FnOnce(Arc<Series>),
    ) -> Arc<Series> {
        let at = METHODS.iter().position(|(_, one)| one == method);
        let key = (owner, route.as_ptr().addr(), at.unwrap_or(METHODS.len()));
        OF_THIS_THREAD.with_borrow_mut(|all| {
            if let Some(series) = all.get(&key) {
                return series.clone();
            }
            // Those of metrics that are gone.
            all.retain(|_, series| Arc::strong_count(series) > 1);
            let method = at.map_or("other", |at| METHODS[at].0);
            let series = Arc::new(Series::new(route, method));
            all.insert(key, series.clone());
            keep(series.clone());
            series
        })
    }
}

/// A request that is being answered; counted when it is dropped, and its body with it.
#[derive(Debug)]
pub(super) struct Counted {
    series: Arc<Series>,
    began: Instant,
    /// What was answered, as a place in `ENDS`.
    end: usize,
    pub(super) sent: u64,
    pub(super) is_cut: bool,
}

impl Counted {
    pub(super) fn begin(series: Arc<Series>, received: Option<u64>) -> Self {
        series.begun.fetch_add(1, Relaxed);
        if let Some(bytes) = received {
            series.received.observe(&BYTES, bytes as f64, bytes);
        }
        Self {
            series,
            began: Instant::now(),
            end: 0,
            sent: 0,
            is_cut: false,
        }
    }

    pub(super) fn answered(&mut self, status: u16) {
        self.end = usize::from(status / 100).min(ENDS.len() - 1);
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        let series = &self.series;
        let took: Duration = self.began.elapsed();
        let nanoseconds = u64::try_from(took.as_nanos()).unwrap_or(u64::MAX);
        series
            .took
            .observe(&SECONDS, took.as_secs_f64(), nanoseconds);
        series.sent.observe(&BYTES, self.sent as f64, self.sent);
        series.cut.fetch_add(u64::from(self.is_cut), Relaxed);
        series.ended[self.end].fetch_add(1, Relaxed);
    }
}
