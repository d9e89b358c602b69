//! As many requests at a time as are good for what answers them, found out while they are answered.

use std::{
    fmt,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{cancel, sync::SemaphorePermit};
use maniple_parts::adaptive::{Bounds, Controller, Outcome, Sample};

use super::{
    chain::{Middleware, Next},
    line::Line,
};
use crate::{request::Request, response::Response};

/// Lets as many requests be answered at a time as are good for what answers them; further ones wait, so many and so long,
/// and are then answered with 503 and `Retry-After`.
///
/// It is a [`ConcurrencyLimit`](super::ConcurrencyLimit) that finds its number by itself: how long handlers take without a
/// queue behind them, and how long they take now. While that is the same the limit grows as far as it is used; once
/// handlers take more than half as long again, what they wait for (a database, another service, a disk) has its own queue,
/// and the limit falls. It settles at about one and a half times what is served without a queue, follows a service that
/// becomes slower or faster within some windows, each of 100 ms and 20 answers at least, and stays while it is not used.
///
/// Now and then, where the limit is used up, it lets a third as many through for a window, to see how long they take without
/// a queue: after one second at first, then ever more seldom, down to every 30 s. So set the [queue](Self::queue) to no
/// less than what comes in the time of a window.
///
/// Answers of 4xx are not looked at, and failures (5xx, panics, waits that were cut, clients that went away) count only if
/// they took longer than an answer may: a handler that fails fast does not raise the limit, and one whose time runs out
/// lowers it. So put [`Timeout`](super::Timeout) inside of it.
///
/// Requests around which one stands should be alike: put one around each group of routes that wait for the same, and none
/// around what waits for its client, such as uploads and long polls. A body that is made while it is sent is not in
/// the time. Nor is a handler's wait for its worker: what computes without waiting needs a fixed limit.
///
/// Clones limit together, so that one can be kept to ask.
///
/// # Examples
/// ```
/// use maniple_server::{Request, Router, middleware::{AdaptiveLimit, Metrics}};
///
/// let limit = AdaptiveLimit::new().max(200).queue(100);
/// let metrics = Metrics::new();
/// metrics.collect({
///     let limit = limit.clone();
///     move |out| out.gauge("orders_limit", "Requests at a time.", limit.current() as f64)
/// });
/// let orders = Router::new().with(limit).get("/", |_: &mut Request| "asked of the database");
/// let router = Router::new().nest("/orders", orders).get("/metrics", metrics.handler());
///
/// let told = router.answer(&mut Request::for_test("GET", "/metrics")).into_text().unwrap();
/// assert!(told.contains("\norders_limit 20\n"));
/// ```
#[derive(Clone)]
pub struct AdaptiveLimit {
    shared: Arc<Shared>,
}

struct Shared {
    line: Line,
    bounds: Bounds,
    /// Held for some instructions.
    controller: Mutex<Controller>,
    /// The limit, without the lock.
    current: AtomicUsize,
    in_flight: AtomicUsize,
    /// Places that are there beyond the limit, since they were taken when it fell.
    surplus: AtomicUsize,
    /// From which instants are counted.
    epoch: Instant,
}

#[derive(Clone, Copy)]
struct Settings {
    bounds: Bounds,
    line: super::line::Settings,
}

impl AdaptiveLimit {
    /// One that begins at 20 requests at a time.
    pub fn new() -> Self {
        Self::with(Settings {
            bounds: Bounds::default(),
            line: super::line::Settings {
                length: 100,
                patience: Duration::from_secs(1),
                retry_after: Duration::from_secs(1),
            },
        })
    }

    /// Never fewer at a time, but in the windows in which a third are let through. Default: 4.
    ///
    /// As all settings here it makes a limit of its own: what was cloned before goes on as it was.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn min(self, at_a_time: usize) -> Self {
        assert!(at_a_time > 0, "a limit of 0 requests at a time");
        self.bounded(|bounds| {
            bounds.least = at_a_time;
            bounds.most = bounds.most.max(at_a_time);
        })
    }

    /// Never more at a time. Default: 1000.
    ///
    /// # Panics
    /// If it is 0.
    #[track_caller]
    pub fn max(self, at_a_time: usize) -> Self {
        assert!(at_a_time > 0, "a limit of 0 requests at a time");
        self.bounded(|bounds| {
            bounds.most = at_a_time;
            bounds.least = bounds.least.min(at_a_time);
        })
    }

    /// How many at a time to begin with, within the bounds. Default: 20.
    pub fn initial(self, at_a_time: usize) -> Self {
        self.bounded(|bounds| bounds.initial = at_a_time)
    }

    /// How many may wait. Default: 100. With 0, none waits.
    pub fn queue(self, length: usize) -> Self {
        self.lined(|line| line.length = length)
    }

    /// How long one may wait. Default: a second. More than its client waits is wasted.
    pub fn patience(self, patience: Duration) -> Self {
        self.lined(|line| line.patience = patience)
    }

    /// What `Retry-After` says, in whole seconds, rounded up. Default: a second.
    pub fn retry_after(self, after: Duration) -> Self {
        self.lined(|line| line.retry_after = after)
    }

    /// How many requests at a time it lets through now.
    pub fn current(&self) -> usize {
        self.shared.current.load(Ordering::Relaxed)
    }

    /// How many requests are being answered now.
    pub fn in_flight(&self) -> usize {
        self.shared.in_flight.load(Ordering::Relaxed)
    }

    /// How many requests wait for their turn now.
    pub fn waiting(&self) -> usize {
        self.shared.line.waiting()
    }

    fn bounded(self, change: impl FnOnce(&mut Bounds)) -> Self {
        let mut settings = self.settings();
        change(&mut settings.bounds);
        Self::with(settings)
    }

    fn lined(self, change: impl FnOnce(&mut super::line::Settings)) -> Self {
        let mut settings = self.settings();
        change(&mut settings.line);
        Self::with(settings)
    }

    fn settings(&self) -> Settings {
        Settings {
            bounds: self.shared.bounds,
            line: self.shared.line.settings,
        }
    }

    fn with(settings: Settings) -> Self {
        let bounds = settings.bounds;
        let initial = bounds.initial.clamp(bounds.least, bounds.most);
        let mut line = Line::new(initial, 0);
        line.settings = settings.line;
        Self {
            shared: Arc::new(Shared {
                line,
                bounds,
                controller: Mutex::new(Controller::new(Bounds { initial, ..bounds })),
                current: AtomicUsize::new(initial),
                in_flight: AtomicUsize::new(0),
                surplus: AtomicUsize::new(0),
                epoch: maniple::time::now(),
            }),
        }
    }
}

impl Shared {
    fn age(&self) -> Duration {
        maniple::time::now().saturating_duration_since(self.epoch)
    }
}

/// A request that is being answered; its end is told when it is dropped.
struct InFlight<'a> {
    shared: &'a Shared,
    place: Option<SemaphorePermit<'a>>,
    /// If it is looked at.
    member: Option<Sample>,
    outcome: Outcome,
}

impl<'a> InFlight<'a> {
    fn begin(shared: &'a Shared, place: SemaphorePermit<'a>) -> Self {
        let at_a_time = shared.in_flight.fetch_add(1, Ordering::Relaxed) + 1;
        // Where several come together one is looked at.
        let controller = shared.controller.try_lock();
        let member = controller.ok().and_then(|mut controller| {
            let member = controller.begin(shared.age(), at_a_time);
            shared.settle(controller);
            member
        });
        Self {
            shared,
            place: Some(place),
            member,
            // Unless it comes to an answer.
            outcome: Outcome::Failed,
        }
    }
}

impl Drop for InFlight<'_> {
    fn drop(&mut self) {
        let shared = self.shared;
        shared.in_flight.fetch_sub(1, Ordering::Relaxed);
        shared.leave(self.place.take());
        if let Some(member) = self.member {
            let controller = shared.controller.lock();
            let mut controller = controller.unwrap_or_else(PoisonError::into_inner);
            controller.end(member, shared.age(), self.outcome);
            shared.settle(controller);
        }
    }
}

impl Shared {
    /// Gives a place back, or takes it away if there are too many.
    fn leave(&self, place: Option<SemaphorePermit<'_>>) {
        if self.take_surplus(1) == 1
            && let Some(place) = place
        {
            place.forget();
        }
    }

    /// Has so many fewer to take away, if there are so many; how many there were.
    fn take_surplus(&self, most: usize) -> usize {
        // Mostly there is none, and the line is not to be fetched for that.
        if self.surplus.load(Ordering::Relaxed) == 0 {
            return 0;
        }
        let take = |surplus: usize| Some(surplus - surplus.min(most));
        let before = self
            .surplus
            .fetch_update(Ordering::Relaxed, Ordering::Relaxed, take);
        before.unwrap_or(0).min(most)
    }

    /// Does what the controller has decided.
    fn settle(&self, controller: MutexGuard<'_, Controller>) {
        let limit = controller.limit();
        let before = self.current.load(Ordering::Relaxed);
        if limit == before {
            return;
        }
        self.current.store(limit, Ordering::Relaxed);
        // Waking others, and looking for places, may take a turn.
        drop(controller);
        self.resize(before, limit);
    }

    /// Has the line have other places. Changes may overtake each other, since what each adds or takes away is the same.
    #[cold]
    fn resize(&self, before: usize, limit: usize) {
        if let Some(more) = limit.checked_sub(before) {
            match more - self.take_surplus(more) {
                0 => {}
                new => self.line.add(new),
            }
            return;
        }
        self.surplus.fetch_add(before - limit, Ordering::Relaxed);
        // Those that nobody has now.
        while self.take_surplus(1) == 1 {
            if !self.line.remove_one() {
                self.surplus.fetch_add(1, Ordering::Relaxed);
                break;
            }
        }
    }
}

impl Middleware for AdaptiveLimit {
    fn handle(&self, request: &mut Request, next: Next<'_>) -> Response {
        let place = match self.shared.line.enter() {
            Ok(place) => place,
            Err(refusal) => return refusal,
        };
        let mut in_flight = InFlight::begin(&self.shared, place);
        let response = next.run(request);
        in_flight.outcome = match response.status().as_u16() / 100 {
            // What a handler makes of it when its waits are cut is no answer to anybody.
            _ if cancel::cause().is_some() => Outcome::Failed,
            5 => Outcome::Failed,
            4 => Outcome::Refused,
            _ => Outcome::Answered,
        };
        response
    }
}

impl Default for AdaptiveLimit {
    fn default() -> Self {
        Self::new()
    }
}

impl fmt::Debug for AdaptiveLimit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let controller = self.shared.controller.try_lock();
        let baseline = controller.ok().and_then(|controller| controller.baseline());
        f.debug_struct("AdaptiveLimit")
            .field("current", &self.current())
            .field("in_flight", &self.in_flight())
            .field("waiting", &self.waiting())
            .field("baseline", &baseline)
            .finish_non_exhaustive()
    }
}
