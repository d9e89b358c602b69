//! Checks: a scenario in a world for each seed; one world alone, and what happened there.

use std::{
    fs,
    panic::{Location, resume_unwind},
    sync::Arc,
};

use super::{
    World,
    diagram::Record,
    environment::{
        self, CHANGES_VARIABLE, DIAGRAM_VARIABLE, SEED_VARIABLE, WITHOUT_VARIABLE, number_in,
        to_see_again,
    },
    orders::Order,
    outcome::{Failure, Run},
    setting::{CHANCES, TURNS, Without},
    shrink::{self, Tried},
    sweep::Sweep,
    trial::{Trial, simulate, simulate_here},
};

/// Runs `scenario` in a new world for each seed.
///
/// When it returns, all that is left in its world is cancelled, and has five seconds of the world's time to end.
///
/// With the variable [`MANIPLE_SIM_SEED`](SEED_VARIABLE) set, that seed alone is run; with
/// [`MANIPLE_SIM_CHANGES`](CHANGES_VARIABLE), turns go by priorities; with
/// [`MANIPLE_SIM_TRACE`](super::TRACE_VARIABLE), each turn is told; [`MANIPLE_SIM_DIAGRAM`](DIAGRAM_VARIABLE) names a
/// file for a picture of the seed that failed.
///
/// # Panics
/// With the first seed that fails, what failed, and the line that runs it again; also with a smaller world in which it
/// fails as well, if one is found in ten seconds: hosts, settings of links, partitions, crashes and shortages are left
/// out for that, drawn turns, and what [`buggify!`](super::buggify) has happen. A seed fails if the scenario or a
/// [host](World::host) panics, an [`always!`](super::always) does not hold anywhere in the world, everything waits
/// for ever (a deadlock), coroutines take turns without end while time stands still, one neither waits nor ends, the
/// scenario takes longer than a day of the world's time, or something does not end when it is cancelled, be it that it
/// goes on over errors; [`World::bound`] sets how far it may go. If a `sometimes!`
/// held in none of the seeds, or was come by in none.
///
/// # Examples
/// See [the module](super).
#[track_caller]
pub fn check(
    seeds: impl IntoIterator<Item = u64>,
    scenario: impl Fn(&World) + Send + Sync + 'static,
) {
    check_in(Order::Drawn, &mut seeds.into_iter(), Arc::new(scenario));
}

#[track_caller]
fn check_in(
    order: Order,
    seeds: &mut dyn Iterator<Item = u64>,
    scenario: Arc<dyn Fn(&World) + Send + Sync>,
) {
    let call = Location::caller();
    let order = match number_in(CHANGES_VARIABLE) {
        Some(changes) if order == Order::Drawn => Order::Priorities {
            changes: u32::try_from(changes).unwrap_or(u32::MAX),
        },
        _ => order,
    };
    let sweep = Arc::new(Sweep::default());
    let run = |seed, without: &Without, sweep: Option<Arc<Sweep>>| {
        let scenario = scenario.clone();
        let trial = trial(seed, order, without);
        simulate(trial, sweep, Box::new(move |world| scenario(world)))
    };
    let draw = |seed, without: &Without| {
        let Some(path) = std::env::var_os(DIAGRAM_VARIABLE) else {
            return;
        };
        let (trial, scenario) = (trial(seed, order, without), scenario.clone());
        let trial = Trial {
            records: true,
            ..trial
        };
        let ended = simulate(trial, None, Box::new(move |world| scenario(world)));
        if let Err(error) = fs::write(&path, ended.record.svg()) {
            panic!("{DIAGRAM_VARIABLE}: write {}: {error}", path.display());
        }
    };
    let without = environment::without();
    if let Some(seed) = number_in(SEED_VARIABLE) {
        draw(seed, &without);
        if let Err(failure) = run(seed, &without, None).result {
            panic!("{failure}\n{}", again(seed, &without));
        }
        return;
    }
    for seed in seeds {
        let Err(failure) = run(seed, &without, Some(sweep.clone())).result else {
            continue;
        };
        if failure.is_endless {
            // Each further one would take as long, and a processor.
            panic!("{failure}\n{}", again(seed, &without));
        }
        draw(seed, &without);
        let smaller = shrink::smaller(seed, &failure, again, |seed, without| {
            // One that goes on for long without failing alike would use up the search's time.
            let (trial, scenario) = (trial(seed, order, without), scenario.clone());
            let trial = Trial {
                most_turns: failure.run().turns().saturating_mul(10).max(10_000),
                ..trial
            };
            let ended = simulate(trial, None, Box::new(move |world| scenario(world)));
            Tried {
                failure: ended.result.err(),
                set_up: ended.set_up,
            }
        });
        panic!("{failure}\n{}\n{smaller}", again(seed, &without));
    }
    sweep.check(call);
}

/// The line that runs a seed again, alone, in a world without that.
fn again(seed: u64, without: &Without) -> String {
    let line = to_see_again(SEED_VARIABLE, &seed.to_string());
    let line = match number_in(CHANGES_VARIABLE) {
        Some(changes) => {
            let named = format!("{CHANGES_VARIABLE}={changes} {SEED_VARIABLE}");
            line.replacen(SEED_VARIABLE, &named, 1)
        }
        None => line,
    };
    if without.is_empty() {
        return line;
    }
    let names: Vec<&str> = without.iter().map(String::as_str).collect();
    let named = format!("{WITHOUT_VARIABLE}='{}' {SEED_VARIABLE}", names.join(","));
    line.replacen(SEED_VARIABLE, &named, 1)
}

/// Runs `scenario` in a new world, for that seed, and keeps what happened: as text, or as a picture.
///
/// # Examples
/// ```
/// use maniple::{net::{TcpListener, TcpStream}, sim};
/// use std::io::{Read, Write};
///
/// let (ended, record) = sim::record(7, |world| {
///     let _server = world.host("server", || {
///         let listener = TcpListener::bind("0.0.0.0:80").unwrap();
///         let (mut stream, _) = listener.accept().unwrap();
///         stream.write_all(b"hello").unwrap();
///     });
///     world.settle();
///     world.note("asks");
///     let mut stream = TcpStream::connect("server:80").unwrap();
///     stream.read_to_string(&mut String::new()).unwrap();
/// });
/// ended.unwrap();
/// assert!(record.text().contains("server -> scenario") && record.text().contains("5 bytes hello"));
/// // For a browser:
/// let picture = record.svg();
/// # assert!(picture.starts_with("<svg") && picture.contains("asks") && picture.trim_end().ends_with("</svg>"));
/// ```
pub fn record(
    seed: u64,
    scenario: impl FnOnce(&World) + Send + 'static,
) -> (Result<Run, Failure>, Record) {
    let trial = Trial {
        records: true,
        ..trial(seed, Order::Drawn, &environment::without())
    };
    let ended = simulate(trial, None, Box::new(scenario));
    (ended.result, ended.record)
}

/// What [`check`] does, in another order of turns.
///
/// # Panics
/// Where [`check`] does.
///
/// # Examples
/// ```
/// use maniple::sim::{self, Order};
/// use std::sync::{Arc, atomic::{AtomicU32, Ordering}};
///
/// sim::check_by(Order::Priorities { changes: 2 }, 0..50, |_| {
///     let count = Arc::new(AtomicU32::new(0));
///     let each = || {
///         let count = count.clone();
///         maniple::spawn(move || count.fetch_add(1, Ordering::Relaxed))
///     };
///     let all: Vec<_> = (0..3).map(|_| each()).collect();
///     all.into_iter().for_each(|each| drop(each.join()));
///     assert_eq!(count.load(Ordering::Relaxed), 3);
/// });
/// ```
#[track_caller]
pub fn check_by(
    order: Order,
    seeds: impl IntoIterator<Item = u64>,
    scenario: impl Fn(&World) + Send + Sync + 'static,
) {
    check_in(order, &mut seeds.into_iter(), Arc::new(scenario));
}

/// What [`run`] does, in another order of turns.
///
/// # Errors
/// If the seed fails.
pub fn run_by(
    order: Order,
    seed: u64,
    scenario: impl FnOnce(&World) + Send + 'static,
) -> Result<Run, Failure> {
    let trial = trial(seed, order, &environment::without());
    simulate(trial, None, Box::new(scenario)).result
}

/// Runs `scenario` in a new world, for that seed, and tells what came of it.
///
/// [`check`] does this for each of its seeds. Here a `sometimes!` means nothing.
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
    run_by(Order::Drawn, seed, scenario)
}

/// A trial of that seed.
fn trial(seed: u64, order: Order, without: &Without) -> Trial {
    let order = match without.contains(TURNS) {
        true => Order::InTurn,
        false => order,
    };
    Trial {
        seed,
        decides: order.decides(seed),
        chances: !without.contains(CHANCES),
        without: without.clone(),
        records: false,
        most_turns: u64::MAX,
    }
}

/// Runs `body`, which may borrow, in a new world of that seed, and returns what it does: for tests that are run over
/// several drivers. Its plain threads are in no world. With [`Order::InTurn`], what is rare does not happen, either
/// ([`buggify!`](crate::sim::buggify)): all is as in service.
///
/// # Panics
/// With the panic of `body`; or if the world failed, as [`check`] tells.
#[doc(hidden)]
pub fn run_here<T: Send>(order: Order, seed: u64, body: impl FnOnce() -> T + Send) -> T {
    let (mut body, mut value) = (Some(body), None);
    let mut run = || value = body.take().map(|body| body());
    let mut trial = trial(seed, order, &environment::without());
    trial.chances &= order != Order::InTurn;
    let (ended, result) = simulate_here(trial, &mut run);
    match (ended, result) {
        (Ok(_), Ok(())) => value.expect("it has returned"),
        (Ok(_), Err(panic)) => resume_unwind(panic),
        (Err(failure), _) => panic!("{failure}"),
    }
}
