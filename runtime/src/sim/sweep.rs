//! What is claimed of a world while it goes on: what must always hold, and what sometimes, over all seeds.

use std::{
    any::Any,
    cell::RefCell,
    collections::BTreeMap,
    panic::{AssertUnwindSafe, Location, catch_unwind, resume_unwind},
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use super::{setting::Setting, sources};
use crate::{cancel, driver::sim::now, error::Unwind, panics};

/// Claims that a condition holds, here and now; in a [simulated world](crate::sim), its seed fails if it does not.
///
/// Other than with [`assert!`], it does not matter whose coroutine finds out, and whether anybody joins that.
///
/// # Panics
/// If the condition does not hold.
///
/// # Examples
/// ```
/// use maniple::sim;
/// let failure = sim::run(0, |_| {
///     let other = maniple::spawn(|| sim::always!(1 + 1 == 3, "the sum is {}", 1 + 1));
///     assert!(other.join().is_err());
/// });
/// assert!(failure.unwrap_err().what().contains("the sum is 2"));
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! sim_always {
    ($condition:expr $(,)?) => {
        $crate::sim::held($condition, ::std::format_args!("{}", ::std::stringify!($condition)))
    };
    ($condition:expr, $($text:tt)+) => {
        $crate::sim::held($condition, ::std::format_args!($($text)+))
    };
}

/// Claims that a condition holds sometimes: [`sim::check`](crate::sim::check) fails if it held in none of the seeds
/// that came by here, or if none came by.
///
/// So a rare path that no seed takes any more is noticed. Outside of a check it means nothing. That none comes by is
/// noticed of claims that stand in the scenario itself, and in functions of the same file that are called there: the
/// check looks into the source, if that is still where it was.
///
/// # Examples
/// ```should_panic
/// use maniple::sim;
/// sim::check(0..10, |world| sim::sometimes!(world.seed() == 10));
/// ```
#[macro_export]
#[doc(hidden)]
macro_rules! sim_sometimes {
    ($condition:expr $(,)?) => {
        $crate::sim::sometimes($condition, ::std::stringify!($condition))
    };
}

/// What [`always!`](crate::sim::always) calls.
#[doc(hidden)]
#[track_caller]
pub fn held(condition: bool, what: std::fmt::Arguments<'_>) {
    if !condition {
        does_not_hold(what);
    }
}

#[cold]
#[track_caller]
fn does_not_hold(what: std::fmt::Arguments<'_>) -> ! {
    let at = Location::caller();
    if let Some(course) = course() {
        course.fail(format!("always! does not hold at {at}: {what}"));
    }
    panic!("does not hold: {what}");
}

/// What [`sometimes!`](crate::sim::sometimes) calls.
#[doc(hidden)]
#[track_caller]
pub fn sometimes(condition: bool, what: &'static str) {
    if let Some(sweep) = course().and_then(|course| course.sweep.clone()) {
        sweep.note(Location::caller(), condition, what);
    }
}

/// Over all seeds of a check.
#[derive(Default)]
pub(super) struct Sweep {
    claims: Mutex<BTreeMap<&'static Location<'static>, Claim>>,
}

struct Claim {
    what: &'static str,
    has_held: bool,
}

impl Sweep {
    fn note(&self, at: &'static Location<'static>, holds: bool, what: &'static str) {
        let mut claims = lock(&self.claims);
        let claim = claims.entry(at).or_insert(Claim {
            what,
            has_held: false,
        });
        claim.has_held |= holds;
    }

    /// # Panics
    /// If a claim has not held in any seed, or one of the check that was called there was not even come by.
    #[track_caller]
    pub(super) fn check(&self, call: &Location<'_>) {
        let claims = lock(&self.claims);
        for line in sources::claims_of(call) {
            let is_it = |at: &Location<'_>| (at.file(), at.line()) == (call.file(), line);
            assert!(
                claims.keys().any(|at| is_it(at)),
                "sometimes! was come by in no seed, at {}:{line}",
                call.file()
            );
        }
        for (at, claim) in &*claims {
            assert!(
                claim.has_held,
                "sometimes! has held in no seed, at {at}: {}",
                claim.what
            );
        }
    }
}

/// This thread's world ends with that, if it is in one, unless something has failed before.
pub(super) fn fail_here(what: String) {
    if let Some(course) = course() {
        course.fail(what);
    }
}

thread_local! {
    static COURSE: RefCell<Option<Arc<Course>>> = const { RefCell::new(None) };
}

/// That of this thread's world, if it is in one.
pub(super) fn course() -> Option<Arc<Course>> {
    now()?;
    COURSE.with_borrow(Clone::clone)
}

/// How it goes with one seed.
pub(super) struct Course {
    sweep: Option<Arc<Sweep>>,
    pub(super) setting: Setting,
    pub(super) is_over: AtomicBool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    failure: Option<String>,
    has_finished: bool,
}

impl Course {
    pub(super) fn new(sweep: Option<Arc<Sweep>>, setting: Setting) -> Self {
        Self {
            sweep,
            setting,
            is_over: AtomicBool::new(false),
            state: Mutex::default(),
        }
    }

    /// Makes it this thread's, for as long as the value lives.
    pub(super) fn follow(self: Arc<Self>) -> impl Drop {
        struct Followed;
        impl Drop for Followed {
            fn drop(&mut self) {
                COURSE.set(None);
            }
        }
        COURSE.set(Some(self));
        Followed
    }

    /// The scenario has come to its end.
    pub(super) fn finish(&self) {
        lock(&self.state).has_finished = true;
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn has_finished(&self) -> bool {
        lock(&self.state).has_finished
    }

    /// The world ends with this, unless something has failed before.
    pub(super) fn fail(&self, what: String) {
        lock(&self.state).failure.get_or_insert(what);
        self.is_over.store(true, Ordering::Relaxed);
    }

    pub(super) fn failure(&self) -> Option<String> {
        lock(&self.state).failure.clone()
    }

    /// Runs what must not panic. It may be cancelled.
    pub(super) fn run_host<R>(&self, f: impl FnOnce() -> R) -> R {
        catch_unwind(AssertUnwindSafe(f)).unwrap_or_else(|payload| {
            // What is cancelled, by a crash or the world's end, may find that it cannot go on.
            if !payload.is::<Unwind>() && !cancel::is_cancelled() {
                self.fail(said(&*payload));
            }
            resume_unwind(payload)
        })
    }

    /// Runs the scenario, with which the world ends, whatever ends it.
    pub(super) fn run(&self, scenario: impl FnOnce()) {
        struct Over<'a>(&'a Course);
        impl Drop for Over<'_> {
            fn drop(&mut self) {
                self.0.is_over.store(true, Ordering::Relaxed);
            }
        }
        let _over = Over(self);
        self.run_host(scenario);
    }
}

fn said(payload: &(dyn Any + Send)) -> String {
    let text = panics::message(payload).unwrap_or("a panic without a text");
    format!("panicked: {text}")
}

fn lock<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}
