//! A simulated world: its clock, its dice, what is to happen when, and the trace of what has.
//!
//! A world is on one thread: the one that has [entered](World::enter) it. There the runtime's clock is the world's, and
//! a runtime that starts there has its driver. Handles of a world may be on any thread, so its state is behind a lock,
//! which nothing waits for and which is not held while users' code runs.

use std::{
    cell::RefCell,
    fmt,
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    network::{Event, Network},
    plan::{Call, Plan},
};

/// Worlds that some thread is in. While there is none, nobody looks for one.
static ENTERED: AtomicUsize = AtomicUsize::new(0);

thread_local! {
    static CURRENT: RefCell<Option<Arc<World>>> = const { RefCell::new(None) };
}

/// Whether any thread is in a world.
#[inline]
pub(crate) fn is_any() -> bool {
    // Relaxed: what counts was done by this very thread.
    ENTERED.load(Ordering::Relaxed) != 0
}

/// The world that this thread is in, if it is in one.
#[inline]
pub(crate) fn current() -> Option<Arc<World>> {
    match is_any() {
        false => None,
        true => entered(),
    }
}

#[cold]
fn entered() -> Option<Arc<World>> {
    // None, too, while the thread's values are being dropped.
    CURRENT
        .try_with(|current| current.borrow().clone())
        .ok()
        .flatten()
}

/// The time in the world that this thread is in, if it is in one.
pub(crate) fn now() -> Option<Instant> {
    current().map(|world| world.now())
}

/// Panics in a world: what is wanted there would reach out of it.
#[track_caller]
pub(crate) fn refuse(what: &str) {
    if current().is_some() {
        reaches_out(what);
    }
}

#[cold]
#[track_caller]
fn reaches_out(what: &str) -> ! {
    panic!(
        "{what} is real and this is a simulated world, which has none: its order and time would not be the seed's"
    );
}

pub(crate) struct World {
    seed: u64,
    began: Instant,
    nanos: AtomicU64,
    /// Whether each turn is written to standard error.
    is_told: bool,
    state: Mutex<State>,
}

struct State {
    plan: Plan<Event>,
    network: Network,
    trace: Trace,
    /// Told once nothing can run at the present time.
    settling: Vec<Call>,
    /// Turns since time has moved.
    turns_at_once: u64,
    /// Why it has ended by itself.
    end: Option<End>,
    /// When the scenario ended, after which what is left is to end.
    wound_down_at: Option<u64>,
}

/// Why a world has ended by itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Everything waits, and nothing will come.
    Deadlock,
    /// Coroutines take turns without end, and time stands still.
    Standstill,
    /// Time has passed beyond its limit.
    TooLong,
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            End::Deadlock => "deadlock: everything waits, and neither a timer nor the network will end that",
            End::Standstill => {
                "standstill: coroutines took a million turns while time stood still; a loop that waits for something \
                 must sleep, or wait for the event itself"
            }
            End::TooLong => "the scenario has not ended within the longest time that a world lasts",
        })
    }
}

/// What [`World::stir`] has come to.
pub(crate) enum Called {
    /// Something may have become ready, or not.
    Nobody,
    /// Some code of others was called, or a timer is due.
    Somebody,
    /// Something on standby has its deadline.
    Alarm,
    /// Nothing will happen any more.
    Over,
}

/// A turn of a coroutine, for the trace.
pub(crate) struct Turn<'a> {
    pub(crate) of: usize,
    pub(crate) drawn: usize,
    pub(crate) spawned_at: &'static Location<'static>,
    pub(crate) name: Option<&'a dyn fmt::Display>,
    pub(crate) waited_for: &'a dyn fmt::Display,
}

/// What has happened, as a number.
struct Trace {
    hash: u64,
    turns: u64,
}

impl Trace {
    /// FNV-1a, a word at a time.
    fn add(&mut self, word: u64) {
        self.hash = (self.hash ^ word)
            .wrapping_mul(0x0000_0100_0000_01B3)
            .rotate_left(23);
    }
}

/// Turns at one and the same time before it counts as a standstill.
const MOST_TURNS_AT_ONCE: u64 = 1_000_000;

/// How long a world lasts at most, by its own clock.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

impl World {
    #[allow(
        clippy::disallowed_methods,
        reason = "an instant to count from; which one it is makes no difference"
    )]
    pub(crate) fn new(seed: u64, is_told: bool) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            seed,
            began: Instant::now(),
            nanos: AtomicU64::new(0),
            is_told,
            state: Mutex::new(State {
                plan: Plan::new(seed),
                network: Network::new()?,
                trace: Trace {
                    hash: 0xCBF2_9CE4_8422_2325,
                    turns: 0,
                },
                settling: Vec::new(),
                turns_at_once: 0,
                end: None,
                wound_down_at: None,
            }),
        }))
    }

    /// Makes it this thread's, for as long as the value lives.
    pub(crate) fn enter(self: &Arc<Self>) -> Entered {
        ENTERED.fetch_add(1, Ordering::Relaxed);
        let outer = CURRENT.replace(Some(self.clone()));
        Entered { outer }
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn now(&self) -> Instant {
        self.began + self.elapsed()
    }

    /// How long it has lasted, by its own clock.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// One of the numbers below `bound`.
    pub(crate) fn draw(&self, bound: u64) -> u64 {
        self.lock().plan.dice.below(bound)
    }

    /// Why it has ended by itself, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.lock().end
    }

    /// The trace's hash, and how many turns it is of.
    pub(crate) fn trace(&self) -> (u64, u64) {
        let state = self.lock();
        (state.trace.hash, state.trace.turns)
    }

    /// How long it had lasted when the scenario ended.
    pub(crate) fn lasted(&self) -> Duration {
        let state = self.lock();
        Duration::from_nanos(state.wound_down_at.unwrap_or(state.plan.now))
    }

    /// Notes that a coroutine has its turn.
    pub(crate) fn note_turn(&self, turn: &Turn<'_>) {
        let mut state = self.lock();
        let now = state.plan.now;
        let trace = &mut state.trace;
        trace.turns += 1;
        for word in [now, turn.of as u64, turn.drawn as u64] {
            trace.add(word);
        }
        let place = turn.spawned_at;
        trace.add(u64::from(place.line()) << 32 | u64::from(place.column()));
        state.turns_at_once += 1;
        if state.turns_at_once > MOST_TURNS_AT_ONCE && state.wound_down_at.is_none() {
            state.end.get_or_insert(End::Standstill);
        }
        drop(state);
        if self.is_told {
            self.tell(turn);
        }
    }

    #[cold]
    fn tell(&self, turn: &Turn<'_>) {
        let name = turn
            .name
            .map_or_else(String::new, |name| format!("{name:#} "));
        eprintln!(
            "{:>14.6?}  1 of {:<3} {name}({}) after: {}",
            self.elapsed(),
            turn.of,
            turn.spawned_at,
            turn.waited_for
        );
    }

    /// Calls `call` once nothing can run at the present time: everything waits for time or for input.
    pub(crate) fn when_settled(&self, call: Call) {
        self.lock().settling.push(call);
    }

    /// Has what is on standby be looked at, so much later.
    pub(crate) fn set_alarm(&self, left: Duration) {
        let nanos = u64::try_from(left.as_nanos()).unwrap_or(u64::MAX);
        self.lock().plan.after(nanos, Event::Alarm);
    }

    /// Nothing can run. Hands over what is due, or else moves time on, at most to `until`.
    pub(super) fn stir(&self, until: Option<Duration>) -> Called {
        let mut state = self.lock();
        let State { plan, network, .. } = &mut *state;
        if network.collect(plan) {
            return Called::Nobody;
        }
        if let Some(event) = plan.take_due() {
            return happen(state, event);
        }
        if state.is_over() {
            return Called::Over;
        }
        if !state.settling.is_empty() {
            let drawn = state.settling.len() as u64;
            let drawn = state.plan.dice.below(drawn) as usize;
            let call = state.settling.swap_remove(drawn);
            drop(state);
            call();
            return Called::Somebody;
        }
        let timer = until.map(|until| u64::try_from(until.as_nanos()).unwrap_or(u64::MAX));
        let next = state.plan.next_at();
        let at = match (timer, next) {
            (Some(timer), Some(next)) => timer.min(next),
            (Some(at), None) | (None, Some(at)) => at,
            (None, None) => {
                state.end.get_or_insert(End::Deadlock);
                return Called::Over;
            }
        };
        if Duration::from_nanos(at) > LONGEST && state.wound_down_at.is_none() {
            state.end = Some(End::TooLong);
            return Called::Over;
        }
        state.turns_at_once = 0;
        state.plan.now = at.max(state.plan.now);
        self.nanos.store(state.plan.now, Ordering::Relaxed);
        // At once: nothing has come meanwhile that could run. Timers that are due at the same time are fired after it.
        match state.plan.take_due() {
            Some(event) => happen(state, event),
            None => Called::Somebody,
        }
    }

    /// Whether it has ended by itself.
    pub(crate) fn is_over(&self) -> bool {
        self.lock().is_over()
    }

    /// From here on the scenario has ended, and what is left is told to end: time goes on for that.
    pub(crate) fn wind_down(&self) {
        let mut state = self.lock();
        state.wound_down_at = Some(state.plan.now);
        state.turns_at_once = 0;
    }

    /// Does something with the network.
    pub(crate) fn on_network<R>(&self, act: impl FnOnce(&mut Network, &mut Plan<Event>) -> R) -> R {
        let mut state = self.lock();
        let State { plan, network, .. } = &mut *state;
        act(network, plan)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Does what is due.
fn happen(mut state: MutexGuard<'_, State>, event: Event) -> Called {
    if matches!(event, Event::Alarm) {
        return Called::Alarm;
    }
    let State { plan, network, .. } = &mut *state;
    let call = network.happen(plan, event);
    drop(state);
    match call {
        None => Called::Nobody,
        Some(call) => {
            call();
            Called::Somebody
        }
    }
}

impl State {
    fn is_over(&self) -> bool {
        self.end.is_some() && self.wound_down_at.is_none()
    }
}

/// A thread is in a world; dropping this leaves it.
pub(crate) struct Entered {
    outer: Option<Arc<World>>,
}

impl Drop for Entered {
    fn drop(&mut self) {
        ENTERED.fetch_sub(1, Ordering::Relaxed);
        _ = CURRENT.replace(self.outer.take());
    }
}
