//! One world, from its beginning to its end, on a thread of its own.

use std::{
    collections::BTreeMap,
    io,
    panic::resume_unwind,
    sync::{
        Arc, OnceLock, Weak,
        mpsc::{self, RecvTimeoutError},
    },
    thread,
    time::Duration,
};

use super::{
    World,
    diagram::Record,
    environment::TRACE_VARIABLE,
    outcome::{Failure, Run},
    setting::{Setting, Without},
    shrink,
    sweep::{Course, Sweep},
};
use crate::{
    config::Config,
    coroutine::Name,
    driver::sim,
    inspect,
    net::simulated,
    scheduler::{Scheduler, Stuck, current_scheduler, simulated::Outcome},
    sync::oneshot,
    sys::later,
    task,
};

/// What a world is made of.
pub(super) struct Trial {
    pub(super) seed: u64,
    pub(super) decides: sim::Order,
    /// Whether [`buggify!`](super::buggify) ever says yes.
    pub(super) chances: bool,
    /// What of the scenario's setting is left out.
    pub(super) without: Without,
    /// Whether what happens is kept.
    pub(super) records: bool,
    /// Turns after which it has lasted too long.
    pub(super) most_turns: u64,
}

/// What came of it.
pub(super) struct Ended {
    pub(super) result: Result<Run, Failure>,
    /// What was decided, where that is kept.
    pub(super) path: Option<sim::Path>,
    /// What the scenario had set up.
    pub(super) set_up: BTreeMap<String, String>,
    pub(super) record: Record,
}

/// What a world runs. In a box, so that what runs it is compiled once, and not for each scenario of a test program.
pub(super) type Scenario = Box<dyn FnOnce(&World) + Send>;

/// The name of a world's worker, without its number.
const THREAD_NAME: &str = "maniple-sim";

/// Runs the scenario in a new world.
pub(super) fn simulate(trial: Trial, sweep: Option<Arc<Sweep>>, scenario: Scenario) -> Ended {
    let (tell, told) = mpsc::channel();
    let (seed, is_muted) = (trial.seed, shrink::is_muted());
    let lives = Arc::new(OnceLock::new());
    let theirs = lives.clone();
    let name = thread::current().name().unwrap_or(THREAD_NAME).to_owned();
    // Not joined: where something does not end, neither does its thread, since others may borrow from its stack.
    let begun = thread::Builder::new().name(name).spawn(move || {
        shrink::mute(is_muted);
        let outcome = on_own_thread(trial, sweep, scenario, &tell, &theirs);
        if let Err(error) = outcome {
            let run = Run {
                seed,
                lasted: Duration::ZERO,
                trace: 0,
                turns: 0,
            };
            let what = format!("the world could not begin: {error}");
            _ = tell.send(Ended {
                result: Err(Failure {
                    run,
                    what,
                    is_endless: false,
                }),
                path: None,
                set_up: BTreeMap::new(),
                record: Record::new(Vec::new(), Vec::new()),
            });
        }
    });
    if let Err(error) = begun {
        panic!("a simulated world takes a thread: {error}");
    }
    let ended = await_end(&told, &lives);
    later::say_all();
    ended
}

/// What a world is watched by while it lives.
struct Lives {
    world: Weak<sim::World>,
    scheduler: Arc<Scheduler>,
    course: Arc<Course>,
}

/// Waits for the end of a world, as long as something goes on there.
fn await_end(told: &mpsc::Receiver<Ended>, lives: &OnceLock<Lives>) -> Ended {
    let (mut beats, mut still_for) = (0, Duration::ZERO);
    let mut patience = Duration::MAX;
    loop {
        match told.recv_timeout(LOOK) {
            Ok(ended) => return ended,
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => {
                panic!("a world tells how it ended, or ends the process")
            }
        }
        let Some(lives) = lives.get() else { continue };
        let Some(world) = lives.world.upgrade() else {
            continue;
        };
        still_for += LOOK;
        // One that is in the middle of something for so long does not go on either.
        if let Some((now, bound)) = world.pulse() {
            patience = bound;
            if now != beats {
                (beats, still_for) = (now, Duration::ZERO);
            }
        }
        if still_for < patience {
            continue;
        }
        let what = match lives.scheduler.who_holds(0) {
            Some(stuck) => format!(
                "{} has held the world for {still_for:?} of real time: it neither waits nor ends",
                name_of(&stuck)
            ),
            None => format!("nothing has gone on for {still_for:?} of real time"),
        };
        return endless(&world, &lives.course, what);
    }
}

/// How often a world is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// What has become of a world that comes to no end; its thread is left to it.
fn endless(world: &sim::World, course: &Course, what: String) -> Ended {
    // All else that is known of it is behind its lock, which it may hold.
    let run = Run {
        seed: world.seed(),
        lasted: world.elapsed(),
        trace: 0,
        turns: 0,
    };
    Ended {
        result: Err(Failure {
            run,
            what,
            is_endless: true,
        }),
        path: None,
        set_up: course.setting.take_set_up(),
        record: Record::new(Vec::new(), Vec::new()),
    }
}

fn name_of(stuck: &Stuck) -> String {
    let name = stuck.name.as_deref().unwrap_or("unnamed");
    format!("coroutine {name:?}, spawned at {},", stuck.spawned_at)
}

/// Runs `body`, which may borrow, in a new world whose scenario it is; and whether it panicked.
pub(super) fn simulate_here(
    trial: Trial,
    body: &mut (dyn FnMut() + Send),
) -> (Result<Run, Failure>, thread::Result<()>) {
    let (tell_scheduler, scheduler) = mpsc::channel();
    let (tell_spawned, spawned) = mpsc::channel();
    let (tell_over, over) = oneshot::channel::<()>();
    let scenario = move |_: &World| {
        // Nothing goes on in the world until the body is there.
        if tell_scheduler.send(current_scheduler()).is_ok() && spawned.recv().is_ok() {
            // An error says that it has ended, too.
            _ = over.recv();
        }
    };
    let name = thread::current().name().unwrap_or(THREAD_NAME).to_owned();
    let world = thread::Builder::new()
        .name(name)
        .spawn(|| simulate(trial, None, Box::new(scenario)).result);
    let world = match world {
        Ok(world) => world,
        Err(error) => panic!("a simulated world takes a thread: {error}"),
    };
    let result = match scheduler.recv() {
        Err(_) => Err(Box::new("the world did not begin") as _),
        Ok(scheduler) => {
            let mut told_when_dropped = Some(tell_over);
            let mut body = || {
                let _told = told_when_dropped.take();
                body();
            };
            let mut spawned = || _ = tell_spawned.send(());
            match task::call_on_and(scheduler, "main", &mut body, &mut spawned) {
                Ok(()) => Ok(()),
                Err(error) if error.is_panic() => Err(error.into_panic()),
                Err(error) => Err(Box::new(format!("main {error}")) as _),
            }
        }
    };
    let ended = world.join().unwrap_or_else(|panic| resume_unwind(panic));
    (ended, result)
}

fn on_own_thread(
    trial: Trial,
    sweep: Option<Arc<Sweep>>,
    scenario: Scenario,
    tell: &mpsc::Sender<Ended>,
    lives: &OnceLock<Lives>,
) -> io::Result<()> {
    let wanted = sim::Wanted {
        told: std::env::var_os(TRACE_VARIABLE).is_some() && !shrink::is_muted(),
        kept: trial.records,
    };
    let seed = trial.seed;
    let inner = sim::World::new(seed, trial.decides, trial.chances, wanted)?;
    inner.limit_turns(trial.most_turns);
    let _inside = inner.enter();
    let course = Arc::new(Course::new(sweep, Setting::without(trial.without)));
    let _followed = course.clone().follow();
    let begin = |scheduler: &Arc<Scheduler>| {
        let world = World::new(inner.clone(), course.clone());
        let course = course.clone();
        let alive = Lives {
            world: Arc::downgrade(&inner),
            scheduler: scheduler.clone(),
            course: course.clone(),
        };
        // Nobody else has set it.
        _ = lives.set(alive);
        let name = Some(Name::Text("scenario".into()));
        // Its end is the course's to tell.
        drop(task::spawn_on(scheduler, name, move || {
            course.run(|| scenario(&world));
            course.finish();
        }));
    };
    let told = |outcome: Outcome| {
        let failure = what_failed(&course, &inner, outcome);
        _ = tell.send(ended(seed, &inner, &course, failure));
    };
    // Weakly: the world has it.
    let (stopped, theirs, tell_stop) = (Arc::downgrade(&inner), course.clone(), tell.clone());
    inner.when_stopped(Box::new(move |what| {
        if let Some(world) = stopped.upgrade() {
            _ = tell_stop.send(ended(seed, &world, &theirs, Some(what)));
        }
    }));
    let config = Config {
        thread_name: THREAD_NAME.to_owned(),
        ..Config::default()
    };
    let is_over = &course.is_over;
    Scheduler::simulate(&inner, config, is_over, simulated::host_of, begin, told)
}

fn ended(seed: u64, world: &sim::World, course: &Course, failure: Option<String>) -> Ended {
    let (trace, turns) = world.trace();
    let run = Run {
        seed,
        lasted: world.lasted(),
        trace,
        turns,
    };
    let hosts = world.on_network(|network, _| network.names());
    Ended {
        result: match failure {
            None => Ok(run),
            Some(what) => Err(Failure {
                run,
                what,
                is_endless: false,
            }),
        },
        path: world.take_path(),
        set_up: course.setting.take_set_up(),
        record: Record::new(hosts, world.take_chronicle()),
    }
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
        let others = match outcome.stuck.len() - 1 {
            0 => String::new(),
            others => format!(", as do {others} others"),
        };
        let name = name_of(stuck);
        if world.was_pushed() {
            return Some(format!(
                "{name} was cancelled and goes on for ever while time stood still{others}: a loop over calls that fail \
                 must end at an error, and one that yields must look whether it is cancelled"
            ));
        }
        let waits = stuck.waits_for.as_deref();
        let waits = waits.unwrap_or("nothing, and holds its worker");
        return Some(format!(
            "{name} was cancelled and does not end, waits for {waits}{others}"
        ));
    }
    match course.has_finished() {
        true => None,
        false => Some("the scenario was cancelled by itself".to_owned()),
    }
}
