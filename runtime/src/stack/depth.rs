//! How deep stacks are used: what was measured, by where coroutines were spawned and what they were doing.
//!
//! Each worker adds to a shelf that is mostly its own; reading goes over all shelves. What is counted is kept in
//! arrays, and the rows are limited, so that measuring a service for days takes no more memory.

use std::{
    collections::HashMap,
    panic::Location,
    sync::{
        LazyLock, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
};

/// How often each of some numbers of bytes was seen, to about an eighth of the number.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Buckets {
    counts: [u64; BUCKETS],
    pub(crate) count: u64,
    pub(crate) max: usize,
}

/// Eight to each power of two.
const STEPS: usize = 8;
const STEPS_LOG2: u32 = STEPS.ilog2();

/// Enough for the largest stack.
const BUCKETS: usize = STEPS * (30 - STEPS_LOG2 as usize + 2);

impl Buckets {
    pub(crate) const fn new() -> Self {
        Self {
            counts: [0; BUCKETS],
            count: 0,
            max: 0,
        }
    }

    pub(crate) fn note(&mut self, bytes: usize) {
        self.counts[bucket(bytes)] += 1;
        self.count += 1;
        self.max = self.max.max(bytes);
    }

    fn add(&mut self, other: &Self) {
        for (own, others) in self.counts.iter_mut().zip(other.counts) {
            *own += others;
        }
        self.count += other.count;
        self.max = self.max.max(other.max);
    }

    /// The most that so large a share, from 0 to 1, does not exceed.
    pub(crate) fn quantile(&self, share: f64) -> usize {
        let rank = (share.clamp(0.0, 1.0) * self.count as f64).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (most, count) in self.filled() {
            seen += count;
            if seen >= rank {
                return most;
            }
        }
        self.max
    }

    /// What was seen: up to so many bytes, so often.
    pub(crate) fn filled(&self) -> impl Iterator<Item = (usize, u64)> {
        let counts = self.counts.iter().enumerate();
        counts
            .filter(|(_, count)| **count > 0)
            .map(|(index, count)| (largest_in(index).min(self.max), *count))
    }
}

fn bucket(bytes: usize) -> usize {
    if bytes < STEPS {
        return bytes;
    }
    let power = bytes.ilog2() - STEPS_LOG2;
    let index = STEPS * power as usize + (bytes >> power);
    index.min(BUCKETS - 1)
}

fn largest_in(bucket: usize) -> usize {
    if bucket < STEPS {
        return bucket;
    }
    let power = bucket / STEPS - 1;
    ((STEPS + bucket % STEPS + 1) << power) - 1
}

/// What was measured of the coroutines of one place and label.
#[derive(Clone, Debug)]
pub(crate) struct Tally {
    pub(crate) ended: u64,
    /// Depth at each suspension.
    pub(crate) suspended: Buckets,
    /// The deepest page that each touched.
    pub(crate) resident: Buckets,
    /// Of those that ended, how many came no deeper than the user of the stack before.
    pub(crate) unknown: u64,
    /// The deepest byte that each wrote between two labels.
    pub(crate) painted: Buckets,
    /// Of those, how many wrote below the paint.
    pub(crate) beyond_paint: u64,
}

impl Tally {
    const fn new() -> Self {
        Self {
            ended: 0,
            suspended: Buckets::new(),
            resident: Buckets::new(),
            unknown: 0,
            painted: Buckets::new(),
            beyond_paint: 0,
        }
    }

    fn add(&mut self, other: &Self) {
        self.ended += other.ended;
        self.suspended.add(&other.suspended);
        self.resident.add(&other.resident);
        self.unknown += other.unknown;
        self.painted.add(&other.painted);
        self.beyond_paint += other.beyond_paint;
    }
}

/// How deep a coroutine came: what its worker remembers of it while depths are measured.
#[derive(Debug, Default)]
pub(crate) struct Watermark {
    /// Which measurement it belongs to.
    pub(crate) session: u32,
    /// Whether that had begun before the coroutine.
    pub(crate) from_begin: bool,
    pub(crate) row: Row,
    /// The lowest address that is painted, or 0.
    pub(crate) paint: usize,
    /// Deepest of the painted bytes that were written since the label was set, and in all.
    pub(crate) since_label: usize,
    pub(crate) written: usize,
    /// Whether it came below the paint since the label was set.
    pub(crate) beyond: bool,
    /// Whether it did, and it is not known how deep.
    pub(crate) lost: bool,
    /// The lowest page that was backed when it began, or 0.
    pub(crate) backed_before: usize,
    /// As deep as pages were touched that have been given back since.
    pub(crate) given_back: usize,
}

/// A place and a label, by their numbers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(crate) struct Row {
    place: u32,
    label: u32,
}

/// Where coroutines come from, as far as they are told apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(crate) struct Place {
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) name: Option<String>,
}

/// Names that have numbers from 1; 0 is for none, or for what came when there were too many.
struct Names<T> {
    numbers: HashMap<T, u32>,
    names: Vec<T>,
}

/// Places, and labels, that are told apart; rows on a shelf. A row takes 6 KiB.
const MOST_NAMES: usize = 1024;
const MOST_ROWS: usize = 2048;

static PLACES: LazyLock<Mutex<Names<Place>>> = LazyLock::new(|| Mutex::new(Names::new()));
static LABELS: LazyLock<Mutex<Names<String>>> = LazyLock::new(|| Mutex::new(Names::new()));

type Shelf = Mutex<HashMap<Row, Box<Tally>>>;

static SHELVES: LazyLock<[Shelf; 16]> = LazyLock::new(Default::default);

/// The measurement under way, or the last one.
static SESSION: AtomicU32 = AtomicU32::new(0);
static FRESH: AtomicBool = AtomicBool::new(false);

/// Forgets what was measured before.
pub(crate) fn start_over(fresh: bool) {
    FRESH.store(fresh, Ordering::Relaxed);
    SESSION.fetch_add(1, Ordering::Relaxed);
    SHELVES.iter().for_each(|shelf| open(shelf).clear());
}

pub(crate) fn session() -> u32 {
    SESSION.load(Ordering::Relaxed)
}

/// Whether stacks are to have no pages from earlier coroutines.
pub(crate) fn wants_fresh_stacks() -> bool {
    FRESH.load(Ordering::Relaxed)
}

impl Row {
    pub(crate) fn of(spawned_at: &'static Location<'static>, name: Option<&str>) -> Self {
        let name = name.and_then(prefix).map(str::to_owned);
        Self {
            place: open(&PLACES).number(Place { spawned_at, name }),
            label: 0,
        }
    }

    pub(crate) fn with_label(self, label: &str) -> Self {
        let mut labels = open(&LABELS);
        let known = labels.numbers.get(label).copied();
        let label = known.unwrap_or_else(|| labels.number(label.to_owned()));
        Self { label, ..self }
    }
}

/// Adds to what is known of a row; `worker` chooses the shelf.
pub(crate) fn note(worker: u32, row: Row, note: impl FnOnce(&mut Tally)) {
    let mut shelf = open(&SHELVES[worker as usize % SHELVES.len()]);
    let row = match shelf.len() < MOST_ROWS || shelf.contains_key(&row) {
        true => row,
        false => Row::default(),
    };
    note(shelf.entry(row).or_insert_with(|| Box::new(Tally::new())));
}

/// All rows, with their places and labels where these are told apart.
pub(crate) fn all() -> Vec<(Option<Place>, Option<String>, Tally)> {
    let mut all: HashMap<Row, Box<Tally>> = HashMap::new();
    for shelf in SHELVES.iter() {
        for (row, tally) in open(shelf).iter() {
            all.entry(*row)
                .or_insert_with(|| Box::new(Tally::new()))
                .add(tally);
        }
    }
    let (places, labels) = (open(&PLACES), open(&LABELS));
    let named =
        |(row, tally): (Row, Box<Tally>)| (places.name(row.place), labels.name(row.label), *tally);
    all.into_iter().map(named).collect()
}

impl<T: Clone + Eq + std::hash::Hash> Names<T> {
    fn new() -> Self {
        Self {
            numbers: HashMap::new(),
            names: Vec::new(),
        }
    }

    fn number(&mut self, name: T) -> u32 {
        if let Some(number) = self.numbers.get(&name) {
            return *number;
        }
        if self.names.len() == MOST_NAMES {
            return 0;
        }
        self.names.push(name.clone());
        let number = self.names.len() as u32;
        self.numbers.insert(name, number);
        number
    }

    fn name(&self, number: u32) -> Option<T> {
        self.names.get((number as usize).checked_sub(1)?).cloned()
    }
}

/// What names with a number in them have in common: `conn` of `conn-17`.
fn prefix(name: &str) -> Option<&str> {
    let end = name
        .find(|c: char| c.is_ascii_digit())
        .unwrap_or(name.len());
    let prefix = name[..end].trim_end_matches(|c: char| !c.is_alphanumeric());
    (!prefix.is_empty()).then_some(prefix)
}

/// A thread that panicked while it held one had counted or not.
fn open<T>(shelf: &Mutex<T>) -> MutexGuard<'_, T> {
    shelf.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_no_wider_than_an_eighth_of_what_it_holds() {
        for bytes in (0..4096).chain((12..=30).flat_map(|power| {
            let at = 1_usize << power;
            [at - 1, at, at + at / 3]
        })) {
            let index = bucket(bytes);
            let most = largest_in(index);
            assert!(most >= bytes, "{bytes}: {most}");
            assert!(most - bytes <= bytes / STEPS, "{bytes}: {most}");
            assert!(bytes == 0 || bucket(bytes - 1) <= index, "{bytes}");
        }
        assert_eq!(bucket(usize::MAX), BUCKETS - 1);
    }

    #[test]
    fn quantiles_are_never_above_the_most_that_was_seen() {
        let mut seen = Buckets::new();
        assert_eq!((seen.quantile(0.5), seen.max), (0, 0));
        (1..=1000).for_each(|bytes| seen.note(bytes * 100));
        for (share, exact) in [(0.5, 50_000), (0.99, 99_000), (0.0, 100)] {
            let found = seen.quantile(share);
            assert!((exact..=exact + exact / STEPS).contains(&found), "{found}");
        }
        assert_eq!((seen.quantile(1.0), seen.max), (100_000, 100_000));
        assert_eq!(seen.filled().map(|(_, count)| count).sum::<u64>(), 1000);
    }

    #[test]
    fn names_that_differ_by_a_number_are_one() {
        for (name, common) in [
            ("conn-17", Some("conn")),
            ("conn 10.0.0.1:80", Some("conn")),
            ("sweeper", Some("sweeper")),
            ("42", None),
            ("", None),
        ] {
            assert_eq!(prefix(name), common, "{name}");
        }
    }

    #[test]
    fn what_comes_when_there_are_too_many_names_has_none() {
        let mut names = Names::new();
        for name in 0..MOST_NAMES {
            assert_eq!(names.number(name), name as u32 + 1);
        }
        assert_eq!(names.number(MOST_NAMES), 0);
        assert_eq!(names.number(0), 1);
        assert_eq!((names.name(0), names.name(1)), (None, Some(0)));
    }
}
