//! A simulated world for tests: services as they ship, in time, order and a network that are drawn from a seed.
//!
//! [`check`] runs a scenario once for each seed. Inside, ordinary code runs on ordinary coroutines; what differs is
//! below it:
//!
//! - **Time** moves only when nothing can run, and then straight to what comes next: a timer, or the network. A sleep
//!   of an hour takes no time. [`time::now`](crate::time::now) tells the world's time; [`std::time::Instant::now`] does
//!   not.
//! - **Order**: which of the coroutines that can run has the next turn, and after how many operations it gives way, is
//!   drawn.
//! - **Network**: [`TcpListener`](crate::net::TcpListener) and [`TcpStream`](crate::net::TcpStream) connect
//!   [hosts](World::host) of the world, by name or address, over links with latency, loss and partitions. Bytes come in
//!   other portions than they were sent in.
//! - **The end**: if everything waits and nothing will come, that is a deadlock; the seed fails with a
//!   [dump](crate::inspect::dump) of all coroutines.
//!
//! The same seed gives the same order of events, so a failure comes again as often as it is looked at. A failing seed
//! is named, with the line that runs it alone.
//!
//! ```
//! use maniple::{net::{TcpListener, TcpStream}, sim};
//! use std::{io::{Read, Write}, time::Duration};
//!
//! fn serve() {
//!     let listener = TcpListener::bind("0.0.0.0:80").unwrap();
//!     for stream in listener.incoming() {
//!         let mut stream = stream.unwrap();
//!         maniple::spawn(move || stream.write_all(b"hello"));
//!     }
//! }
//!
//! sim::check(0..20, |world| {
//!     let server = world.host("server", serve);
//!     world.link("scenario", "server").latency(Duration::from_millis(1)..Duration::from_millis(20));
//!     world.settle();
//!     let mut stream = TcpStream::connect("server:80").unwrap();
//!     let mut text = String::new();
//!     stream.read_to_string(&mut text).unwrap();
//!     sim::always!(text == "hello");
//!     sim::sometimes!(world.now() > Duration::from_millis(20));
//!
//!     server.crash();
//!     let refused = maniple::timeout(Duration::from_secs(5), || TcpStream::connect("server:80"));
//!     assert!(refused.unwrap().is_err());
//!     server.restart();
//! });
//! ```
//!
//! # What a scenario must keep to
//!
//! Its order follows from the seed as long as nothing else does: no [`Instant::now`](std::time::Instant::now), no
//! iteration over a `HashMap` with its own random keys, no threads that send something in, and no loop that spins on
//! [`yield_now`](crate::yield_now) until time has passed, for it does not. UDP, Unix-domain sockets with addresses,
//! files and child processes are the real world's: to use them panics. [`offload`](crate::offload()) runs its job
//! without a thread, at a later time. No other [`Runtime`](crate::Runtime) begins inside.
//!
//! # How it works
//!
//! Each seed has a thread of its own, with a runtime of one worker, so that nothing is left from the seed before.
//! Sockets are Unix-domain ones that spell internet addresses, whose other ends the world has; so a connection takes
//! four descriptors of the process.

mod sweep;
mod world;

use std::{
    fmt,
    sync::{Arc, mpsc},
    thread,
    time::Duration,
};

pub use crate::{sim_always as always, sim_sometimes as sometimes};
use sweep::{Course, Sweep};
#[doc(hidden)]
pub use sweep::{held, sometimes};
pub use world::{Host, Link, Partition, World};

use crate::{
    config::Config,
    coroutine::Name,
    driver::sim,
    inspect,
    scheduler::{Scheduler, simulated::Outcome},
    sys::later,
    task,
};

/// Names the one seed that [`check`] is to run, in place of its own.
pub const SEED_VARIABLE: &str = "MANIPLE_SIM_SEED";

/// Says how many [`seeds`] there are, in place of what the test says.
pub const SEEDS_VARIABLE: &str = "MANIPLE_SIM_SEEDS";

/// If it is set, each turn of a coroutine is written to standard error.
pub const TRACE_VARIABLE: &str = "MANIPLE_SIM_TRACE";

/// Runs `scenario` in a new world for each seed.
///
/// When it returns, all that is left in its world is cancelled, and has five seconds of the world's time to end.
///
/// With the variable [`MANIPLE_SIM_SEED`](SEED_VARIABLE) set, that seed alone is run; with
/// [`MANIPLE_SIM_TRACE`](TRACE_VARIABLE), each turn is told.
///
/// # Panics
/// With the first seed that fails, what failed, and the line that runs it again. A seed fails if the scenario or a
/// [host](World::host) panics, an [`always!`] does not hold anywhere in the world, everything waits for ever (a
/// deadlock), coroutines take turns without end while time stands still, the scenario takes longer than a day of the
/// world's time, or something does not end when it is cancelled. If a [`sometimes!`] was come by and held in none of
/// the seeds.
///
/// # Examples
/// See [the module](self).
#[track_caller]
pub fn check(
    seeds: impl IntoIterator<Item = u64>,
    scenario: impl Fn(&World) + Send + Sync + 'static,
) {
    let scenario = Arc::new(scenario);
    let sweep = Arc::new(Sweep::default());
    let one = |seed| {
        let scenario = scenario.clone();
        let ended = simulate(seed, Some(sweep.clone()), move |world| scenario(world));
        if let Err(failure) = ended {
            panic!("{failure}\n{}", replay(seed));
        }
    };
    match number_in(SEED_VARIABLE) {
        Some(seed) => one(seed),
        None => {
            seeds.into_iter().for_each(one);
            sweep.check();
        }
    }
}

/// Runs `scenario` in a new world, for that seed, and tells what came of it.
///
/// [`check`] does this for each of its seeds. Here a [`sometimes!`] means nothing.
///
/// # Errors
/// If the seed fails, as [`check`] tells.
///
/// # Examples
/// ```
/// use maniple::sim;
/// use std::time::Duration;
///
/// let run = sim::run(7, |_| maniple::sleep(Duration::from_secs(3600))).unwrap();
/// assert_eq!(run.lasted(), Duration::from_secs(3600));
/// let again = sim::run(7, |_| maniple::sleep(Duration::from_secs(3600))).unwrap();
/// assert_eq!(run.trace(), again.trace());
///
/// let failure = sim::run(7, |_| maniple::park()).unwrap_err();
/// assert!(failure.to_string().contains("deadlock"));
/// ```
pub fn run(seed: u64, scenario: impl FnOnce(&World) + Send + 'static) -> Result<Run, Failure> {
    simulate(seed, None, scenario)
}

/// The seeds from 0 on, as many as the variable [`MANIPLE_SIM_SEEDS`](SEEDS_VARIABLE) says, or else `usual`: few where
/// many tests run, many at night.
///
/// # Examples
/// ```
/// # if std::env::var_os("MANIPLE_SIM_SEEDS").is_some() { return }
/// assert_eq!(maniple::sim::seeds(200), 0..200);
/// ```
pub fn seeds(usual: u64) -> std::ops::Range<u64> {
    0..number_in(SEEDS_VARIABLE).unwrap_or(usual)
}

fn number_in(variable: &str) -> Option<u64> {
    let text = std::env::var(variable).ok()?;
    match text.parse() {
        Ok(number) => Some(number),
        Err(_) => panic!("{variable} is {text:?}, and must be a number"),
    }
}

/// The line that runs a seed again.
fn replay(seed: u64) -> String {
    // The test harness names its threads after tests.
    let test = thread::current().name().unwrap_or("main").to_owned();
    let test = if test == "main" { String::new() } else { test };
    format!("to see it again: {SEED_VARIABLE}={seed} cargo test {test}")
}

/// What a world has come to whose scenario has ended well.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Run {
    seed: u64,
    lasted: Duration,
    trace: u64,
    turns: u64,
}

impl Run {
    /// Of which seed.
    pub fn seed(&self) -> u64 {
        self.seed
    }

    /// How long the scenario took, by the world's clock.
    pub fn lasted(&self) -> Duration {
        self.lasted
    }

    /// A hash of who had a turn when, in which order: the same for the same seed of the same program.
    pub fn trace(&self) -> u64 {
        self.trace
    }

    /// How many turns of coroutines that were.
    pub fn turns(&self) -> u64 {
        self.turns
    }
}

/// Why a seed has failed.
#[derive(Clone, Debug)]
pub struct Failure {
    run: Run,
    what: String,
}

impl Failure {
    /// How far it came.
    pub fn run(&self) -> &Run {
        &self.run
    }

    /// What failed: the message of a panic, or how the world ended, with the dump.
    pub fn what(&self) -> &str {
        &self.what
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Run {
            seed,
            lasted,
            trace,
            ..
        } = self.run;
        write!(
            f,
            "seed {seed} failed at {lasted:?} of its world's time (trace {trace:016x}): {}",
            self.what
        )
    }
}

impl std::error::Error for Failure {}

/// The name of a world's worker, without its number.
const THREAD_NAME: &str = "maniple-sim";

fn simulate(
    seed: u64,
    sweep: Option<Arc<Sweep>>,
    scenario: impl FnOnce(&World) + Send + 'static,
) -> Result<Run, Failure> {
    let (tell, told) = mpsc::channel();
    let name = thread::current().name().unwrap_or(THREAD_NAME).to_owned();
    // Not joined: where something does not end, neither does its thread, since others may borrow from its stack.
    let begun = thread::Builder::new().name(name).spawn(move || {
        let outcome = on_own_thread(seed, sweep, scenario, &tell);
        if let Err(error) = outcome {
            let run = Run {
                seed,
                lasted: Duration::ZERO,
                trace: 0,
                turns: 0,
            };
            let what = format!("the world could not begin: {error}");
            _ = tell.send(Err(Failure { run, what }));
        }
    });
    if let Err(error) = begun {
        panic!("a simulated world takes a thread: {error}");
    }
    let ended = told.recv();
    later::say_all();
    ended.expect("a world tells how it ended, or ends the process")
}

fn on_own_thread(
    seed: u64,
    sweep: Option<Arc<Sweep>>,
    scenario: impl FnOnce(&World) + Send + 'static,
    tell: &mpsc::Sender<Result<Run, Failure>>,
) -> std::io::Result<()> {
    let is_told = std::env::var_os(TRACE_VARIABLE).is_some();
    let inner = sim::World::new(seed, is_told)?;
    let _inside = inner.enter();
    let course = Arc::new(Course::new(sweep));
    let _followed = course.clone().follow();
    let begin = |scheduler: &Arc<Scheduler>| {
        let world = World::new(inner.clone(), course.clone());
        let course = course.clone();
        let name = Some(Name::Text("scenario".into()));
        // Its end is the course's to tell.
        drop(task::spawn_on(scheduler, name, move || {
            course.run(|| scenario(&world));
            course.finish();
        }));
    };
    let told = |outcome: Outcome| {
        let (trace, turns) = inner.trace();
        let run = Run {
            seed,
            lasted: inner.lasted(),
            trace,
            turns,
        };
        _ = tell.send(match what_failed(&course, &inner, outcome) {
            None => Ok(run),
            Some(what) => Err(Failure { run, what }),
        });
    };
    let config = Config {
        thread_name: THREAD_NAME.to_owned(),
        ..Config::default()
    };
    Scheduler::simulate(&inner, config, &course.is_over, begin, told)
}

fn what_failed(course: &Course, world: &sim::World, outcome: Outcome) -> Option<String> {
    if let Some(failure) = course.failure() {
        return Some(failure);
    }
    if let Some(end) = world.end() {
        let left = outcome.left.unwrap_or_default();
        let dump = inspect::text_of(format!("{THREAD_NAME}-0"), left);
        return Some(format!("{end}\n{dump}"));
    }
    if let Some(stuck) = outcome.stuck.first() {
        let name = stuck.name.as_deref().unwrap_or("unnamed");
        let waits = stuck
            .waits_for
            .as_deref()
            .unwrap_or("nothing, and holds its worker");
        let others = match outcome.stuck.len() - 1 {
            0 => String::new(),
            others => format!(", as do {others} others"),
        };
        return Some(format!(
            "coroutine {name:?}, spawned at {}, was cancelled and does not end, waits for {waits}{others}",
            stuck.spawned_at
        ));
    }
    match course.has_finished() {
        true => None,
        false => Some("the scenario was cancelled by itself".to_owned()),
    }
}
