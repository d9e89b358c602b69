//! The two loads of HTTP models: a closed loop, in which each connection asks again when it is answered, and an open one,
//! in which requests fall due at a rate whatever becomes of those before.

use std::{
    collections::VecDeque,
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Result, anyhow};
use fastrand::Rng;

use super::{
    clients::{Clients, Done},
    question::Question,
    server::Server,
    tally::{Failure, Seen, Tally},
    tree::{Holdings, Snapshot, Used},
};
use crate::load::{Arrivals, Pace};

/// How long, and how patiently.
#[derive(Clone, Copy, Debug)]
pub(super) struct Window {
    pub(super) warm_up: Duration,
    pub(super) length: Duration,
    /// How long a request may wait.
    pub(super) patience: Duration,
}

/// What a load saw, and what the model used meanwhile, if it lived.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) seen: Seen,
    pub(super) used: Option<(Used, Holdings)>,
}

/// So many connections, each of which asks as soon as it is answered.
pub(super) fn closed(
    server: &Server,
    connections: usize,
    draw: impl FnMut(&mut Rng) -> Question,
    window: Window,
) -> Result<Measured> {
    let mut load = Closed {
        clients: Clients::new(server.address)?,
        tally: Tally::new()?,
        draw,
        rng: Rng::with_seed(SEED),
        resting: VecDeque::new(),
        patience: window.patience,
        expire_at: Instant::now(),
    };
    for _ in 0..connections {
        let client = load.clients.add();
        load.ask(client, Instant::now());
    }
    let warm_until = Instant::now() + window.warm_up;
    load.run(|now| now >= warm_until)?;
    let before = photograph(server);
    load.run(|_| before.is_finished())?;
    let from = Instant::now();
    load.tally.restart(from);
    load.run(|now| now >= from + window.length)?;
    let until = Instant::now();
    let mut starved = 0;
    for since in load.clients.waiting().filter(|since| *since <= from) {
        load.tally.waited(until - since);
        starved += 1;
    }
    let seen = Seen {
        starved,
        ..load.tally.seen((until - from).as_secs_f64())
    };
    let after = photograph(server);
    load.run(|_| after.is_finished())?;
    Ok(Measured {
        seen,
        used: between(before, after),
    })
}

struct Closed<D> {
    clients: Clients,
    tally: Tally,
    draw: D,
    rng: Rng,
    /// Clients whose last request failed, and when they ask again: a server that refuses is not to be asked in a tight loop.
    resting: VecDeque<(Instant, usize)>,
    patience: Duration,
    expire_at: Instant,
}

impl<D: FnMut(&mut Rng) -> Question> Closed<D> {
    fn ask(&mut self, client: usize, now: Instant) {
        let question = (self.draw)(&mut self.rng);
        if let Err(done) = self.clients.ask(client, question, now) {
            self.done(&done, now);
        }
    }

    fn done(&mut self, done: &Done, now: Instant) {
        match done.outcome {
            Ok(()) => {
                self.tally.answered(now - done.since);
                self.ask(done.client, now);
            }
            Err(failure) => {
                self.tally.failed(failure, now);
                self.resting.push_back((now + REST, done.client));
            }
        }
    }

    fn run(&mut self, stop: impl Fn(Instant) -> bool) -> Result<()> {
        let mut ended = Vec::new();
        while !stop(Instant::now()) {
            self.clients.wait(SLICE, &mut ended)?;
            let now = Instant::now();
            expire(
                &mut self.clients,
                &mut self.expire_at,
                self.patience,
                &mut ended,
            );
            for done in ended.drain(..) {
                self.done(&done, now);
            }
            while let Some((_, client)) = self.resting.pop_front_if(|(at, _)| *at <= now) {
                self.ask(client, now);
            }
        }
        Ok(())
    }
}

/// So many requests a second, which come independently of each other, over as many connections as are needed up to
/// `most`; beyond these a request waits in the load, and its latency counts from when it was due all the same.
pub(super) fn open(
    server: &Server,
    per_second: f64,
    most: usize,
    window: Window,
) -> Result<Measured> {
    let until = window.warm_up + window.length;
    let mut load = Open {
        clients: Clients::new(server.address)?,
        tally: Tally::new()?,
        rng: Rng::with_seed(SEED),
        idle: Vec::new(),
        most,
        line: VecDeque::new(),
        open: 0,
        patience: window.patience,
        counted_from: Instant::now() + window.warm_up,
        expire_at: Instant::now(),
    };
    let started = load.counted_from - window.warm_up;
    load.tally.restart(load.counted_from);
    let pace = Pace::Poisson { per_second };
    let mut arrivals = Arrivals::new(SEED, [(pace, 1)], until);
    let mut late = Tally::new()?;
    let (mut before, mut after) = (None, None);
    let mut ended = Vec::new();
    loop {
        let now = started.elapsed();
        if now >= window.warm_up && before.is_none() {
            before = Some(photograph(server));
        }
        if now >= until && after.is_none() {
            after = Some(photograph(server));
        }
        while let Some(arrival) = arrivals.next_until(now) {
            late.waited(now - arrival.due);
            load.fall_due(started + arrival.due);
        }
        let next = arrivals.next_due();
        if after.is_some() && next.is_none() && load.open == 0 {
            break;
        }
        let sleep = next.map_or(SLICE, |due| due.saturating_sub(started.elapsed()));
        load.clients.wait(sleep.min(SLICE), &mut ended)?;
        expire(
            &mut load.clients,
            &mut load.expire_at,
            load.patience,
            &mut ended,
        );
        load.give_up_in_line();
        for done in ended.drain(..) {
            load.done(&done);
        }
    }
    let seen = Seen {
        load_late_ms: late.seen(1.0).p99_ms,
        ..load.tally.seen(window.length.as_secs_f64())
    };
    Ok(Measured {
        seen,
        used: before
            .zip(after)
            .and_then(|(before, after)| between(before, after)),
    })
}

struct Open {
    clients: Clients,
    tally: Tally,
    rng: Rng,
    /// Clients that ask nothing.
    idle: Vec<usize>,
    most: usize,
    /// When those were due that wait for a client.
    line: VecDeque<Instant>,
    /// Requests that were due and have not ended.
    open: usize,
    patience: Duration,
    counted_from: Instant,
    expire_at: Instant,
}

impl Open {
    fn fall_due(&mut self, due: Instant) {
        self.open += 1;
        match self.idle.pop() {
            Some(client) => self.ask(client, due),
            None if self.clients.count() < self.most => {
                let client = self.clients.add();
                self.ask(client, due);
            }
            None => self.line.push_back(due),
        }
    }

    fn ask(&mut self, client: usize, due: Instant) {
        let question = Question::some_aggregate(&mut self.rng);
        if let Err(done) = self.clients.ask(client, question, due) {
            self.ended(done.since, done.outcome);
            self.idle.push(done.client);
        }
    }

    fn done(&mut self, done: &Done) {
        self.ended(done.since, done.outcome);
        match self.line.pop_front() {
            Some(due) => self.ask(done.client, due),
            None => self.idle.push(done.client),
        }
    }

    fn give_up_in_line(&mut self) {
        let Some(then) = Instant::now().checked_sub(self.patience) else {
            return;
        };
        while let Some(due) = self.line.pop_front_if(|due| *due < then) {
            self.ended(due, Err(Failure::TimedOut));
        }
    }

    fn ended(&mut self, due: Instant, outcome: Result<(), Failure>) {
        self.open -= 1;
        if due < self.counted_from {
            return;
        }
        let now = Instant::now();
        let waited = now - due;
        match outcome {
            Ok(()) if waited <= self.patience => self.tally.answered(waited),
            Ok(()) => self.tally.failed(Failure::TimedOut, now),
            Err(failure) => self.tally.failed(failure, now),
        }
    }
}

/// Ends requests that have waited for too long; looks for them now and then.
fn expire(clients: &mut Clients, at: &mut Instant, patience: Duration, ended: &mut Vec<Done>) {
    let now = Instant::now();
    if now < *at {
        return;
    }
    *at = now + SLICE;
    if let Some(then) = now.checked_sub(patience) {
        clients.expire(then, ended);
    }
}

/// How long it takes until a server answers one request; `None` if it does not within `patience`.
pub(super) fn probe(server: &Server, patience: Duration) -> Result<Option<Duration>> {
    let started = Instant::now();
    let mut rng = Rng::with_seed(SEED);
    let mut clients = Clients::new(server.address)?;
    let client = clients.add();
    let mut ended = Vec::new();
    while started.elapsed() < patience {
        let asked = Instant::now();
        let question = Question::some_aggregate(&mut rng);
        ended.extend(clients.ask(client, question, asked).err());
        while ended.is_empty() {
            clients.wait(SLICE, &mut ended)?;
            let then = Instant::now().checked_sub(PROBE_PATIENCE.min(patience));
            clients.expire(then.unwrap_or(asked), &mut ended);
        }
        if ended.drain(..).all(|done| done.outcome.is_ok()) {
            return Ok(Some(started.elapsed()));
        }
        // Not to ask again at once one that refuses.
        clients.wait(REST, &mut ended)?;
    }
    Ok(None)
}

/// Looks at a model from another thread: that of a load has no time.
pub(super) fn photograph(server: &Server) -> JoinHandle<Result<Snapshot>> {
    let group = server.group();
    thread::spawn(move || Snapshot::of(group))
}

/// What was used between two looks, and held at the second.
pub(super) fn between(
    before: JoinHandle<Result<Snapshot>>,
    after: JoinHandle<Result<Snapshot>>,
) -> Option<(Used, Holdings)> {
    let developed = |look: JoinHandle<Result<Snapshot>>| {
        look.join()
            .unwrap_or_else(|_| Err(anyhow!("the look failed")))
            .ok()
    };
    let (before, after) = (developed(before), developed(after));
    let (before, after) = before.zip(after)?;
    Some((after - before, after.holdings))
}

/// The same questions for every model.
const SEED: u64 = 7;
/// How long a client whose request failed waits before the next.
const REST: Duration = Duration::from_millis(10);
/// How often a load looks at the clock at least.
const SLICE: Duration = Duration::from_millis(20);
const PROBE_PATIENCE: Duration = Duration::from_secs(1);
