//! What all that hold a set of servers share: the list, and who of it gets a call.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt::{self, Write},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    time::{Duration, Instant},
};

use maniple::{log_limit::LogLimit, log_within, time};

use super::{
    balance::{Balance, Call, Row, Table},
    chance::Chance,
    endpoint::Endpoint,
    error::{ListError, PickError},
    health::Ejection,
    line::Line,
    listeners::Listeners,
    member::{EndpointStats, Limit, Member, Outcome},
    want::Want,
};
use crate::{adaptive::Sample, enlisted::Enlisted, lines::MOST_LINES};

/// The servers that calls may go to; clones are the same set.
#[derive(Clone)]
pub struct Endpoints {
    pub(super) shared: Arc<Shared>,
}

impl fmt::Debug for Endpoints {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Endpoints")
            .field("name", &self.shared.settings.name)
            .field("servers", &self.shared.stats())
            .finish()
    }
}

#[derive(Clone, Debug)]
pub(super) struct Settings {
    pub(super) name: String,
    pub(super) balance: Balance,
    pub(super) zone: Option<Arc<str>>,
    pub(super) ejection: Option<Ejection>,
    /// How many are to be fit, and for how long.
    pub(super) recovery: Option<(usize, Duration)>,
    pub(super) limit: Option<Limit>,
    /// How many calls may wait for a place, and how long.
    pub(super) queue: Option<(usize, Duration)>,
}

/// A server that has a call, and what is to be told of it where limits adapt.
type Place = (Arc<Row>, Option<Sample>);

/// A set has at most so many servers.
pub(super) const MOST_ENDPOINTS: usize = 10_000;
/// Calls stay in their zone as long as this share of its servers is fit.
const ENOUGH_OF_A_ZONE: f64 = 0.7;

static CHANGES: LogLimit = LogLimit::new(MOST_LINES);

#[derive(Debug)]
pub(super) struct Shared {
    pub(super) settings: Settings,
    began: Instant,
    pub(super) chance: Chance,
    /// Cloned for each pick, so that nobody chooses under the lock.
    table: Mutex<Arc<Table>>,
    recovery: Mutex<Recovery>,
    /// Held by who leaves a server out, so that two do not do it at once and it is one too many.
    ejecting: Mutex<()>,
    pub(super) line: Line,
    pub(super) listeners: Listeners,
}

static ALL: Enlisted<Shared> = Enlisted::new("sets of servers", tell);
/// A dump has so many servers of each at most.
const MOST_TOLD: usize = 100;

fn tell() -> String {
    let mut out = String::new();
    for set in all() {
        let (stats, waiting) = (set.stats(), set.line.waiting());
        let name = set.settings.name.escape_debug();
        // Writing to a string does not fail.
        let _ = writeln!(
            out,
            "  {name}: {} servers, {waiting} calls wait",
            stats.len()
        );
        for one in stats.iter().take(MOST_TOLD) {
            let _ = writeln!(out, "    {one}");
        }
        if let Some(more @ 1..) = stats.len().checked_sub(MOST_TOLD) {
            let _ = writeln!(out, "    and {more} more");
        }
    }
    out
}

/// All sets of the process, in the order in which they were built.
pub(super) fn all() -> Vec<Arc<Shared>> {
    ALL.all()
}

/// Has [`all`] know it.
pub(super) fn enlist(shared: &Arc<Shared>) {
    ALL.add(shared);
}

/// How far a set is after an outage.
#[derive(Clone, Copy, Debug)]
enum Recovery {
    /// There was none.
    Whole,
    /// Too few are fit, or have not been for long enough: since when there are enough.
    Under(Option<Duration>),
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    pub(super) fn new(
        settings: Settings,
        seed: Option<u64>,
        endpoints: Vec<Endpoint>,
    ) -> Result<Self, ListError> {
        let empty = Table::new(settings.balance, Vec::new());
        let shared = Self {
            settings,
            began: time::now(),
            chance: Chance::new(seed),
            table: Mutex::new(Arc::new(empty)),
            recovery: Mutex::new(Recovery::Whole),
            ejecting: Mutex::new(()),
            line: Line::new(),
            listeners: Listeners::default(),
        };
        shared.take(endpoints, Duration::ZERO)?;
        Ok(shared)
    }

    pub(super) fn now(&self) -> Duration {
        time::now().saturating_duration_since(self.began)
    }

    fn ramp(&self) -> Duration {
        let ejection = self.settings.ejection.as_ref();
        ejection.map_or(Duration::ZERO, |settings| settings.ramp)
    }

    /// Takes a new list; whether it differs from the one before.
    pub(super) fn set(&self, endpoints: Vec<Endpoint>) -> Result<bool, ListError> {
        // What is there from the beginning is no newcomer.
        let since = match self.table().rows.is_empty() {
            true => Duration::ZERO,
            false => self.now().max(Duration::from_nanos(1)),
        };
        self.take(endpoints, since)
    }

    fn take(&self, mut endpoints: Vec<Endpoint>, since: Duration) -> Result<bool, ListError> {
        let mut seen = BTreeSet::new();
        endpoints.retain(|endpoint| seen.insert(endpoint.shared_address().clone()));
        if endpoints.len() > MOST_ENDPOINTS {
            return Err(ListError::TooMany {
                given: endpoints.len(),
                most: MOST_ENDPOINTS,
            });
        }
        let mut current = locked(&self.table);
        let same = current.rows.iter().map(|row| &row.endpoint).eq(&endpoints);
        if same {
            return Ok(false);
        }
        let known: BTreeMap<&str, &Arc<Member>> = current
            .rows
            .iter()
            .map(|row| (row.endpoint.address(), &row.member))
            .collect();
        let rows = endpoints.into_iter().map(|endpoint| {
            let member = known
                .get(endpoint.address())
                .map(|member| Arc::clone(member));
            let member =
                member.unwrap_or_else(|| Arc::new(Member::new(self.settings.limit, since)));
            Arc::new(Row { endpoint, member })
        });
        let table = Arc::new(Table::new(self.settings.balance, rows.collect()));
        let before = std::mem::replace(&mut *current, table.clone());
        drop(current);
        let left = self.take_leave(&before, &table);
        self.listeners.tell(&left);
        self.line.tell();
        Ok(true)
    }

    /// Marks those that are in the list no more.
    fn take_leave(&self, before: &Table, after: &Table) -> Vec<Endpoint> {
        let stay: BTreeSet<_> = after
            .rows
            .iter()
            .map(|row| row.endpoint.address())
            .collect();
        let rows = before.rows.iter();
        let left = rows.filter(|row| !stay.contains(row.endpoint.address()));
        let left = left.inspect(|row| row.member.remove());
        left.map(|row| row.endpoint.clone()).collect()
    }

    pub(super) fn table(&self) -> Arc<Table> {
        locked(&self.table).clone()
    }

    /// Gives a call to a server, whose place it has then. Waits for one where calls may.
    pub(super) fn pick(&self, want: Option<&Want>) -> Result<Place, PickError> {
        let Some(queue) = self.settings.queue else {
            return self.pick_now(want);
        };
        // Who comes new overtakes nobody.
        if self.line.waiting() == 0 {
            match self.pick_now(want) {
                Err(PickError::Full) => {}
                picked => return picked,
            }
        }
        self.line.wait(queue, || self.pick_now(want))
    }

    fn pick_now(&self, want: Option<&Want>) -> Result<Place, PickError> {
        let table = self.table();
        let now = self.now();
        self.admit(&table, now)?;
        let call = Call {
            now,
            ramp: self.ramp(),
            key: want.and_then(Want::hash),
            chance: &self.chance,
        };
        let is_new =
            |row: &Row| want.is_none_or(|want| !want.has_tried(row.endpoint.shared_address()));
        let (is_fit, has_room) = (
            |row: &Row| row.member.is_fit(now),
            |row: &Row| row.member.has_room(),
        );
        let stays = self.stays_in_zone(&table, now);
        let is_near = |row: &Row| row.endpoint.zone_of() == self.settings.zone.as_ref();
        // From what is best to what is better than nothing: servers that were left out, if all were.
        let tries: [&dyn Fn(&Row) -> bool; 4] = [
            &|row| stays == Some(is_near(row)) && is_new(row) && is_fit(row),
            &|row| is_new(row) && is_fit(row),
            &|row| is_fit(row),
            &|_| true,
        ];
        let first = if stays.is_some() { 0 } else { 1 };
        for may in &tries[first..] {
            // Another may take the place in between; each time there is one place less.
            while let Some(row) = table.choose(&call, |row| may(row) && has_room(row)) {
                if row.member.enter() {
                    if let Some(want) = want {
                        want.note(row.endpoint.shared_address());
                    }
                    return Ok((row.clone(), row.member.begin(now)));
                }
            }
        }
        Err(
            match table.rows.iter().any(|row| row.endpoint.weight_of() > 0) {
                true => PickError::Full,
                false => PickError::Empty,
            },
        )
    }

    /// Whether this call stays in its zone, or is to leave it; `None` if it does not matter.
    fn stays_in_zone(&self, table: &Table, now: Duration) -> Option<bool> {
        let zone = self.settings.zone.as_ref()?;
        let near = || {
            let rows = table.rows.iter();
            rows.filter(|row| row.endpoint.zone_of() == Some(zone) && row.endpoint.weight_of() > 0)
        };
        let fit = near().filter(|row| row.member.is_fit(now)).count();
        let enough = ENOUGH_OF_A_ZONE * near().count() as f64;
        match fit {
            0 => None,
            fit => Some(self.chance.happens(fit as f64 / enough)),
        }
    }

    /// After an outage, holds off what those that are back could not take.
    fn admit(&self, table: &Table, now: Duration) -> Result<(), PickError> {
        let Some((least, hold)) = self.settings.recovery else {
            return Ok(());
        };
        let fit = table
            .rows
            .iter()
            .filter(|row| row.member.is_fit(now))
            .count();
        let mut recovery = locked(&self.recovery);
        let share = match &mut *recovery {
            Recovery::Whole if fit > 0 || table.rows.is_empty() => return Ok(()),
            Recovery::Whole => {
                *recovery = Recovery::Under(None);
                0.0
            }
            Recovery::Under(since) => {
                if fit < least.min(table.rows.len()) {
                    *since = None;
                    fit as f64 / least as f64
                } else {
                    let began = *since.get_or_insert(now);
                    if now.saturating_sub(began) >= hold {
                        *recovery = Recovery::Whole;
                    }
                    return Ok(());
                }
            }
        };
        drop(recovery);
        match self.chance.happens(share) {
            true => Ok(()),
            false => Err(PickError::Recovering),
        }
    }

    /// A call by which the limit is found out has its answer, or will have none.
    pub(super) fn end(&self, row: &Row, sample: Sample, outcome: Outcome) {
        row.member.end(sample, self.now(), outcome);
    }

    /// The call of a server has ended. `took` is set where its answer began before.
    pub(super) fn leave(
        &self,
        row: &Row,
        began: Instant,
        took: Option<Duration>,
        outcome: Outcome,
    ) {
        let now = time::now();
        let took = took.unwrap_or_else(|| now.saturating_duration_since(began));
        let now = now.saturating_duration_since(self.began);
        let settings = self.settings.ejection.as_ref();
        let is_enough = row.member.leave(settings, now, took, outcome);
        if self.settings.queue.is_some() {
            self.line.tell();
        }
        if let (true, Some(settings)) = (is_enough, settings) {
            self.eject(row, settings, now);
        }
    }

    fn eject(&self, row: &Row, settings: &Ejection, now: Duration) {
        let table = self.table();
        let ejecting = locked(&self.ejecting);
        let out = table
            .rows
            .iter()
            .filter(|row| row.member.is_out(now))
            .count();
        if row.member.is_out(now) || out >= settings.most(table.rows.len()) {
            return;
        }
        let pause = row.member.eject(settings, now);
        drop(ejecting);
        let (name, address) = (&self.settings.name, row.endpoint.address());
        log_within!(
            CHANGES,
            warn,
            "{name}: {address} fails, and is left out for {pause:?}"
        );
    }

    /// What a check of a server says.
    pub(super) fn note_check(&self, row: &Row, is_down: bool, why: &str) {
        if row.member.set_down(is_down, self.now()) {
            self.line.tell();
            let (name, address) = (&self.settings.name, row.endpoint.address());
            match is_down {
                true => log_within!(CHANGES, warn, "{name}: {address} is down: {why}"),
                false => log_within!(CHANGES, info, "{name}: {address} is up again"),
            }
        }
    }

    pub(super) fn stats(&self) -> Vec<EndpointStats> {
        let (now, ramp) = (self.now(), self.ramp());
        let table = self.table();
        let rows = table.rows.iter();
        rows.map(|row| row.member.stats(&row.endpoint, ramp, now))
            .collect()
    }

    /// How much those that are fit can take, of what all can.
    pub(super) fn capacity(&self) -> u64 {
        let now = self.now();
        let table = self.table();
        let fit = table.rows.iter().filter(|row| row.member.is_fit(now));
        fit.map(|row| u64::from(row.endpoint.weight_of())).sum()
    }
}
