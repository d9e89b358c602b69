//! A smaller world in which a scenario fails as well: what it set up is left out, thing by thing, as long as it fails.
//!
//! To fail as well is to fail with the same words, whatever the numbers in them.

use std::{
    cell::Cell,
    collections::{BTreeMap, BTreeSet},
    fmt::Write,
    panic,
    sync::Once,
    time::{Duration, Instant},
};

use super::{
    outcome::Failure,
    setting::{CHANCES, TURNS, Without},
};

/// A world that was tried: how it failed, if it did, and what was set up in it.
pub(super) struct Tried {
    pub(super) failure: Option<Failure>,
    pub(super) set_up: BTreeMap<String, String>,
}

/// The real time that is spent on it.
const PATIENCE: Duration = Duration::from_secs(10);
const MOST_TRIES: u32 = 500;

/// Without something all draws are others: then a few more seeds are tried.
const FURTHER_SEEDS: u64 = 4;

/// What a failing seed's world does not need for failing, as text for the report.
pub(super) fn smaller(
    seed: u64,
    failure: &Failure,
    again: impl Fn(u64, &Without) -> String,
    run: impl Fn(u64, &Without) -> Tried,
) -> String {
    let _muted = Muted::begin();
    let words = words_of(failure);
    let fails =
        |tried: &Tried| (tried.failure.as_ref()).is_some_and(|failure| words_of(failure) == words);
    let mut smallest = Smaller {
        seed,
        without: Without::new(),
        tried: run(seed, &Without::new()),
    };
    if !fails(&smallest.tried) {
        return "a second time that seed does not fail so: something in the scenario does not follow from the seed, as \
                keys of a HashMap, Instant::now, or what is kept from one seed to the next\n"
            .to_owned();
    }
    let mut search = Search {
        until: now() + PATIENCE,
        tries: 0,
        run,
        fails,
    };
    // Whole places first, then single times.
    let place = |name: &String| {
        name.rsplit_once('#')
            .map_or(name.clone(), |(place, _)| place.to_owned())
    };
    search.leave_out(&mut smallest, &|set_up| {
        let places: BTreeSet<String> = set_up.keys().map(place).collect();
        let everywhere = [TURNS, CHANCES].map(str::to_owned);
        everywhere.into_iter().chain(places).collect()
    });
    search.leave_out(&mut smallest, &|set_up| set_up.keys().cloned().collect());
    smallest.told(seed, &again)
}

struct Smaller {
    seed: u64,
    without: Without,
    tried: Tried,
}

struct Search<R, F> {
    until: Instant,
    tries: u32,
    run: R,
    fails: F,
}

impl<R: Fn(u64, &Without) -> Tried, F: Fn(&Tried) -> bool> Search<R, F> {
    /// Leaves out each of these that need not be.
    fn leave_out(
        &mut self,
        smallest: &mut Smaller,
        candidates: &dyn Fn(&BTreeMap<String, String>) -> Vec<String>,
    ) {
        for name in candidates(&smallest.tried.set_up) {
            if smallest.without.contains(&name) {
                continue;
            }
            let mut without = smallest.without.clone();
            without.insert(name);
            let seeds = std::iter::once(smallest.seed).chain(0..FURTHER_SEEDS);
            for seed in seeds {
                if self.tries == MOST_TRIES || now() > self.until {
                    return;
                }
                self.tries += 1;
                let tried = (self.run)(seed, &without);
                if (self.fails)(&tried) {
                    *smallest = Smaller {
                        seed,
                        without,
                        tried,
                    };
                    break;
                }
            }
        }
    }
}

impl Smaller {
    fn told(&self, seed: u64, again: &dyn Fn(u64, &Without) -> String) -> String {
        if self.without.is_empty() {
            return String::new();
        }
        let mut text = format!("it fails as well in a smaller world: seed {}", self.seed);
        if let Some(failure) = &self.tried.failure {
            let run = failure.run();
            _ = write!(text, ", {:?}, {} turns", run.lasted(), run.turns());
        }
        if self.seed != seed {
            text.push_str(" (another one, since without something all draws are others)");
        }
        text.push_str("\n  without\n");
        for name in &self.without {
            let what = match name.as_str() {
                TURNS => "turns that are drawn: they go round",
                CHANCES => "what buggify! has happen",
                place => place,
            };
            _ = writeln!(text, "    {what}");
        }
        if !self.tried.set_up.is_empty() {
            text.push_str("  with\n");
        }
        for (name, what) in &self.tried.set_up {
            _ = writeln!(text, "    {what} ({name})");
        }
        text + &again(self.seed, &self.without) + "\n"
    }
}

/// The first line of what failed, without its numbers.
fn words_of(failure: &Failure) -> String {
    let line = failure.what().lines().next().unwrap_or_default();
    line.chars().filter(|c| !c.is_ascii_digit()).collect()
}

#[allow(
    clippy::disallowed_methods,
    reason = "how long is searched is a matter of real time"
)]
fn now() -> Instant {
    Instant::now()
}

thread_local! {
    static IS_MUTED: Cell<bool> = const { Cell::new(false) };
}

/// On this thread, and those of worlds that it begins, panics are not told: hundreds are searched through.
pub(super) struct Muted;

impl Muted {
    fn begin() -> Self {
        static ONCE: Once = Once::new();
        ONCE.call_once(|| {
            let told = panic::take_hook();
            panic::set_hook(Box::new(move |panic| {
                if !is_muted() {
                    told(panic);
                }
            }));
        });
        IS_MUTED.set(true);
        Self
    }
}

impl Drop for Muted {
    fn drop(&mut self) {
        IS_MUTED.set(false);
    }
}

pub(super) fn is_muted() -> bool {
    IS_MUTED.try_with(Cell::get).unwrap_or(false)
}

/// For a world's thread, which is as muted as the one that began it.
pub(super) fn mute(is_muted: bool) {
    IS_MUTED.set(is_muted);
}
