//! Which server gets a call, among those that may have it.

use std::{
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use super::{chance::Chance, endpoint::Endpoint, maglev::Maglev, member::Member, ring::Ring};

/// How calls are given to servers. All go by [weight](Endpoint::weight).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Balance {
    /// In turn, the heavier ones more often, spread evenly between the others: nginx's smooth weighted round robin. For
    /// calls that are alike, to servers that are alike.
    RoundRobin,
    /// To who has the fewest calls for its weight; by chance where several have as few. For calls that differ. HAProxy's
    /// `leastconn`.
    LeastLoaded,
    /// Of two by chance, to who has the smaller product of latency and calls under way ("power of two choices with peak
    /// EWMA"). A server that becomes slow is left alone by all callers within one answer, and they do not all run to the
    /// quickest one. Finagle's and Linkerd's choice, and the default.
    #[default]
    PeakEwma,
    /// By the call's [key](super::Want::key), on a ring of points: the same key goes to the same server, as long as that is
    /// there, and few keys move when servers come and go. For caches. Without a key by chance.
    Ring,
    /// The same by a table, as Google's Maglev has it: keys are divided more evenly, and a few more of them move.
    Maglev,
}

/// A server as it stands in a list.
#[derive(Debug)]
pub(super) struct Row {
    pub(super) endpoint: Endpoint,
    pub(super) member: Arc<Member>,
}

impl Row {
    fn weight(&self, ramp: Duration, now: Duration) -> f64 {
        f64::from(self.endpoint.weight_of()) * self.member.share(ramp, now)
    }
}

/// A list, and what choosing among its rows needs. Made anew for each list.
#[derive(Debug)]
pub(super) struct Table {
    pub(super) rows: Vec<Arc<Row>>,
    chooser: Chooser,
}

#[derive(Debug)]
enum Chooser {
    /// What each row has saved up for its turn.
    RoundRobin(Mutex<Vec<f64>>),
    LeastLoaded,
    PeakEwma,
    Ring(Ring),
    Maglev(Maglev),
}

/// A call, to be given to a row.
pub(super) struct Call<'a> {
    pub(super) now: Duration,
    pub(super) ramp: Duration,
    pub(super) key: Option<u64>,
    pub(super) chance: &'a Chance,
}

/// What two servers without a known latency are told apart by: who has a call to find it out gets no second one if there is
/// another.
const UNKNOWN: f64 = 1.0;
/// Rows that are looked at by chance before all are.
const DRAWS: usize = 8;

impl Table {
    pub(super) fn new(balance: Balance, rows: Vec<Arc<Row>>) -> Self {
        let servers = rows
            .iter()
            .map(|row| (row.endpoint.address(), row.endpoint.weight_of()));
        let chooser = match balance {
            Balance::RoundRobin => Chooser::RoundRobin(Mutex::new(vec![0.0; rows.len()])),
            Balance::LeastLoaded => Chooser::LeastLoaded,
            Balance::PeakEwma => Chooser::PeakEwma,
            Balance::Ring => Chooser::Ring(Ring::new(servers)),
            Balance::Maglev => Chooser::Maglev(Maglev::new(servers)),
        };
        Self { rows, chooser }
    }

    /// One of the rows that may have the call.
    pub(super) fn choose(&self, call: &Call<'_>, may: impl Fn(&Row) -> bool) -> Option<&Arc<Row>> {
        let may =
            |index: &usize| self.rows[*index].endpoint.weight_of() > 0 && may(&self.rows[*index]);
        let index = match &self.chooser {
            Chooser::RoundRobin(turns) => self.in_turn(turns, call, may),
            Chooser::LeastLoaded => {
                self.least(call, self.all_from_anywhere(call).filter(may), |row| {
                    (row.member.in_flight() + 1) as f64
                })
            }
            Chooser::PeakEwma => {
                let two = self.two(call, may);
                self.least(call, two.into_iter().flatten(), |row| {
                    let (latency, others) = (row.member.latency(call.now), row.member.in_flight());
                    match latency > 0.0 {
                        true => latency * (others + 1) as f64,
                        false => UNKNOWN * others as f64,
                    }
                })
            }
            Chooser::Ring(ring) => self.on_the_way(call, ring.way_of(call.key()), may),
            Chooser::Maglev(table) => self.on_the_way(call, table.way_of(call.key()), may),
        };
        Some(&self.rows[index?])
    }

    fn in_turn(
        &self,
        turns: &Mutex<Vec<f64>>,
        call: &Call<'_>,
        may: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        let mut turns = turns.lock().unwrap_or_else(PoisonError::into_inner);
        let (mut total, mut next) = (0.0, None);
        for index in (0..self.rows.len()).filter(may) {
            let weight = self.rows[index].weight(call.ramp, call.now);
            total += weight;
            turns[index] += weight;
            if next.is_none_or(|next: usize| turns[index] > turns[next]) {
                next = Some(index);
            }
        }
        turns[next?] -= total;
        next
    }

    fn least(
        &self,
        call: &Call<'_>,
        among: impl Iterator<Item = usize>,
        load: impl Fn(&Row) -> f64,
    ) -> Option<usize> {
        let loads = among.map(|index| {
            let row = &self.rows[index];
            (index, load(row) / row.weight(call.ramp, call.now))
        });
        let least = loads.min_by(|(_, one), (_, other)| one.total_cmp(other));
        least.map(|(index, _)| index)
    }

    /// All rows, from one by chance on.
    fn all_from_anywhere(&self, call: &Call<'_>) -> impl Iterator<Item = usize> + use<> {
        let count = self.rows.len();
        let first = call.chance.below(count);
        (first..count).chain(0..first)
    }

    /// Two by chance, or all that there are if there are fewer.
    fn two(&self, call: &Call<'_>, may: impl Fn(&usize) -> bool) -> [Option<usize>; 2] {
        let count = self.rows.len();
        let mut two = [None; 2];
        for _ in 0..DRAWS {
            let drawn = call.chance.below(count);
            if two[0] == Some(drawn) || count == 0 || !may(&drawn) {
                continue;
            }
            if two[0].is_none() {
                two[0] = Some(drawn);
            } else {
                two[1] = Some(drawn);
                return two;
            }
        }
        // Few may have it, or chance was unkind.
        let mut others = self
            .all_from_anywhere(call)
            .filter(may)
            .filter(|index| two[0] != Some(*index));
        match two[0] {
            Some(_) => [two[0], others.next()],
            None => [others.next(), others.next()],
        }
    }

    /// The first that may have it. Who has just come back has a part of its keys.
    fn on_the_way(
        &self,
        call: &Call<'_>,
        mut way: impl Iterator<Item = usize>,
        may: impl Fn(&usize) -> bool,
    ) -> Option<usize> {
        let takes = |index: &usize| {
            let share = self.rows[*index].member.share(call.ramp, call.now);
            may(index) && (share >= 1.0 || call.chance.happens(share))
        };
        // A way may leave some out.
        way.find(takes)
            .or_else(|| self.all_from_anywhere(call).find(|index| may(index)))
    }
}

impl Call<'_> {
    fn key(&self) -> u64 {
        self.key.unwrap_or_else(|| self.chance.bits())
    }
}
