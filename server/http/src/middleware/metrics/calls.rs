//! Numbers of the sets of servers and the pools of connections that there are in the process, and of clients' calls.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    sync::{
        Arc, Mutex, PoisonError, Weak,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
};

use maniple_parts::{
    connections::{self, Stats},
    endpoints::{EndpointState, EndpointStats, Endpoints},
    resilience::{BreakerState, BreakerStats, BudgetStats, CircuitBreaker, RetryBudget},
};

use super::exposition::{Exposition, Kind};

/// What a client counts of a service.
#[derive(Debug)]
pub(crate) struct CallCounts {
    service: String,
    calls: AtomicU64,
    retries: AtomicU64,
    hedges: AtomicU64,
}

/// Those that there are, and some that have gone.
static ALL: Mutex<Vec<Weak<CallCounts>>> = Mutex::new(Vec::new());

impl CallCounts {
    pub(crate) fn new(service: &str) -> Arc<Self> {
        let counts = Arc::new(Self {
            service: service.to_owned(),
            calls: AtomicU64::new(0),
            retries: AtomicU64::new(0),
            hedges: AtomicU64::new(0),
        });
        let mut all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|one| one.strong_count() > 0);
        all.push(Arc::downgrade(&counts));
        counts
    }

    pub(crate) fn call(&self) {
        self.calls.fetch_add(1, Relaxed);
    }

    /// The first is the call itself.
    pub(crate) fn attempt(&self, number: u32) {
        if number > 1 {
            self.retries.fetch_add(1, Relaxed);
        }
    }

    /// The one of index 0 is an attempt itself.
    pub(crate) fn hedge(&self, index: usize) {
        if index > 0 {
            self.hedges.fetch_add(1, Relaxed);
        }
    }
}

/// Tells of all that there are.
pub(super) fn tell(out: &mut Exposition) {
    sets(out);
    services(out);
    breakers(out);
    budgets(out);
    pools(out);
}

fn pools(out: &mut Exposition) {
    let mut named: BTreeMap<String, Stats> = BTreeMap::new();
    for (name, stats) in connections::all() {
        match named.entry(name) {
            Entry::Vacant(place) => drop(place.insert(stats)),
            // Pools of one name are one series.
            Entry::Occupied(mut one) => {
                let one = one.get_mut();
                one.open += stats.open;
                one.idle += stats.idle;
                one.waiting += stats.waiting;
                one.lent += stats.lent;
                one.waited += stats.waited;
                one.connects += stats.connects;
                one.connect_failures += stats.connect_failures;
                one.discarded += stats.discarded;
                one.late += stats.late;
            }
        }
    }
    if named.is_empty() {
        return;
    }
    let name = "connection_pool_waited_seconds_total";
    let help = "How long all who asked for a connection have waited.";
    out.begin(name, help, Kind::Counter);
    for (pool, stats) in &named {
        out.sample("", &[("pool", pool)], stats.waited.as_secs_f64());
    }
    type Number = fn(&Stats) -> u64;
    let families: [(&str, &str, Kind, Number); 8] = [
        (
            "connection_pool_open",
            "Connections that there are, lent or free.",
            Kind::Gauge,
            |stats| stats.open as u64,
        ),
        (
            "connection_pool_idle",
            "Connections that are free.",
            Kind::Gauge,
            |stats| stats.idle as u64,
        ),
        (
            "connection_pool_waiting",
            "Who waits for a connection.",
            Kind::Gauge,
            |stats| stats.waiting as u64,
        ),
        (
            "connection_pool_lent_total",
            "Connections that were lent.",
            Kind::Counter,
            |stats| stats.lent,
        ),
        (
            "connection_pool_late_total",
            "Who got none in time.",
            Kind::Counter,
            |stats| stats.late,
        ),
        (
            "connection_pool_connects_total",
            "Connections that were made.",
            Kind::Counter,
            |stats| stats.connects,
        ),
        (
            "connection_pool_connect_failures_total",
            "Connections that could not be made.",
            Kind::Counter,
            |stats| stats.connect_failures,
        ),
        (
            "connection_pool_discarded_total",
            "Connections that were dropped: too old, broken, or cut.",
            Kind::Counter,
            |stats| stats.discarded,
        ),
    ];
    for (name, help, kind, number) in families {
        out.begin(name, help, kind);
        for (pool, stats) in &named {
            out.sample("", &[("pool", pool)], number(stats));
        }
    }
}

fn breakers(out: &mut Exposition) {
    let mut named: BTreeMap<String, BreakerStats> = BTreeMap::new();
    for (name, stats) in CircuitBreaker::all() {
        match named.entry(name) {
            Entry::Vacant(place) => drop(place.insert(stats)),
            // Breakers of one name are one series.
            Entry::Occupied(mut one) => {
                let one = one.get_mut();
                one.opened += stats.opened;
                one.refused += stats.refused;
                // The worse of the two, which is what is looked for.
                if rank(stats.state) > rank(one.state) {
                    one.state = stats.state;
                }
            }
        }
    }
    if named.is_empty() {
        return;
    }
    let name = "circuit_breaker_state";
    out.begin(name, "The state that a breaker has.", Kind::Gauge);
    for (breaker, stats) in &named {
        let state = ["closed", "half_open", "open"][rank(stats.state)];
        out.sample("", &[("breaker", breaker), ("state", state)], 1);
    }
    type Number = fn(&BreakerStats) -> u64;
    let families: [(&str, &str, Number); 2] = [
        (
            "circuit_breaker_opened_total",
            "How often breakers opened.",
            |stats| stats.opened,
        ),
        (
            "circuit_breaker_refused_total",
            "Calls that were not made.",
            |stats| stats.refused,
        ),
    ];
    for (name, help, number) in families {
        out.begin(name, help, Kind::Counter);
        for (breaker, stats) in &named {
            out.sample("", &[("breaker", breaker)], number(stats));
        }
    }
}

fn rank(state: BreakerState) -> usize {
    match state {
        BreakerState::Closed => 0,
        BreakerState::HalfOpen => 1,
        BreakerState::Open => 2,
    }
}

fn budgets(out: &mut Exposition) {
    let mut named: BTreeMap<String, BudgetStats> = BTreeMap::new();
    for (name, stats) in RetryBudget::all() {
        match named.entry(name) {
            Entry::Vacant(place) => drop(place.insert(stats)),
            // Budgets of one name are one series.
            Entry::Occupied(mut one) => {
                let one = one.get_mut();
                one.calls += stats.calls;
                one.retries += stats.retries;
                one.refused += stats.refused;
                one.left += stats.left;
            }
        }
    }
    if named.is_empty() {
        return;
    }
    type Number = fn(&BudgetStats) -> u64;
    let families: [(&str, &str, Kind, Number); 4] = [
        (
            "retry_budget_left",
            "Retries that may be made at once.",
            Kind::Gauge,
            |stats| stats.left,
        ),
        (
            "retry_budget_calls_total",
            "Calls, each counted once.",
            Kind::Counter,
            |stats| stats.calls,
        ),
        (
            "retry_budget_retries_total",
            "Retries that were made.",
            Kind::Counter,
            |stats| stats.retries,
        ),
        (
            "retry_budget_refused_total",
            "Retries that were not made for want of budget.",
            Kind::Counter,
            |stats| stats.refused,
        ),
    ];
    for (name, help, kind, number) in families {
        out.begin(name, help, kind);
        for (budget, stats) in &named {
            out.sample("", &[("budget", budget)], number(stats));
        }
    }
}

fn services(out: &mut Exposition) {
    let all = ALL.lock().unwrap_or_else(PoisonError::into_inner);
    let all: Vec<Arc<CallCounts>> = all.iter().filter_map(Weak::upgrade).collect();
    // Several clients may have a service of one name, which is one series.
    let mut sums: BTreeMap<&str, [u64; 3]> = BTreeMap::new();
    for one in &all {
        let sum = sums.entry(&one.service).or_default();
        let counts = [&one.calls, &one.retries, &one.hedges];
        for (sum, count) in sum.iter_mut().zip(counts) {
            *sum += count.load(Relaxed);
        }
    }
    if sums.is_empty() {
        return;
    }
    let families = [
        ("http_client_calls_total", "Calls to services."),
        ("http_client_retries_total", "Further attempts."),
        ("http_client_hedges_total", "Second calls at the same time."),
    ];
    for (at, (name, help)) in families.into_iter().enumerate() {
        out.begin(name, help, Kind::Counter);
        for (service, counts) in &sums {
            out.sample("", &[("service", service)], counts[at]);
        }
    }
}

/// A server of a set, by the names of both.
type Server = (String, String);

fn sets(out: &mut Exposition) {
    let mut waiting: BTreeMap<String, u64> = BTreeMap::new();
    let mut servers: BTreeMap<Server, EndpointStats> = BTreeMap::new();
    for set in Endpoints::all() {
        *waiting.entry(set.name().to_owned()).or_default() += set.waiting() as u64;
        for stats in set.stats() {
            let of = (set.name().to_owned(), stats.endpoint.address().to_owned());
            match servers.entry(of) {
                Entry::Vacant(place) => drop(place.insert(stats)),
                // Sets of one name are one series.
                Entry::Occupied(mut one) => add(one.get_mut(), &stats),
            }
        }
    }
    if waiting.is_empty() {
        return;
    }
    let name = "endpoints_waiting";
    out.begin(name, "Calls that wait for a place.", Kind::Gauge);
    for (set, count) in &waiting {
        out.sample("", &[("set", set)], count);
    }
    let name = "endpoints_calls_total";
    out.begin(name, "Calls that have ended.", Kind::Counter);
    for ((set, server), stats) in &servers {
        for (result, count) in [("succeeded", stats.succeeded), ("failed", stats.failed)] {
            let labels = [("set", &**set), ("server", server), ("result", result)];
            out.sample("", &labels, count);
        }
    }
    let name = "endpoints_ejections_total";
    out.begin(name, "How often servers were left out.", Kind::Counter);
    for ((set, server), stats) in &servers {
        out.sample("", &[("set", set), ("server", server)], stats.ejections);
    }
    let name = "endpoints_in_flight";
    out.begin(name, "Calls under way.", Kind::Gauge);
    for ((set, server), stats) in &servers {
        out.sample("", &[("set", set), ("server", server)], stats.in_flight);
    }
    let name = "endpoints_limit";
    out.begin(name, "How many there may be at a time.", Kind::Gauge);
    for ((set, server), stats) in &servers {
        if let Some(limit) = stats.limit {
            out.sample("", &[("set", set), ("server", server)], limit);
        }
    }
    let name = "endpoints_weight";
    let help = "How much servers can take beside the others.";
    out.begin(name, help, Kind::Gauge);
    for ((set, server), stats) in &servers {
        let weight = stats.endpoint.weight_of();
        out.sample("", &[("set", set), ("server", server)], weight);
    }
    let name = "endpoints_latency_seconds";
    out.begin(name, "How slow servers are of late.", Kind::Gauge);
    for ((set, server), stats) in &servers {
        let seconds = stats.latency.as_secs_f64();
        out.sample("", &[("set", set), ("server", server)], seconds);
    }
    let name = "endpoints_state";
    out.begin(name, "The state that a server has.", Kind::Gauge);
    for ((set, server), stats) in &servers {
        let labels = [("set", &**set), ("server", server), ("state", state(stats))];
        out.sample("", &labels, 1);
    }
}

fn add(one: &mut EndpointStats, other: &EndpointStats) {
    one.in_flight += other.in_flight;
    one.succeeded += other.succeeded;
    one.failed += other.failed;
    one.ejections += other.ejections;
    one.latency = one.latency.max(other.latency);
    one.limit = one.limit.zip(other.limit).map(|(one, other)| one + other);
    // The worse of the two, which is what is looked for.
    if one.state == EndpointState::Serving {
        one.state = other.state;
    }
}

fn state(stats: &EndpointStats) -> &'static str {
    match stats.state {
        EndpointState::Serving => "serving",
        EndpointState::Returning => "returning",
        EndpointState::Ejected { .. } => "ejected",
        EndpointState::Down => "down",
        EndpointState::Draining => "draining",
        _ => "other",
    }
}
