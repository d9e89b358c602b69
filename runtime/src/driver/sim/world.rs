//! A simulated world: its clock, who has its turn, and what is to happen when nobody can run.
//!
//! A world is on one thread: the one that has [entered](World::enter) it. There the runtime's clock is the world's, and
//! a runtime that starts there has its driver. Handles of a world may be on any thread, so its state is behind a lock,
//! which nothing waits for and which is not held while users' code runs.

use std::{
    panic::Location,
    sync::{
        Arc, Mutex, MutexGuard, OnceLock, PoisonError,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use super::{
    chances::Chances,
    chronicle::{Chronicle, Entry, Moment, Wanted},
    cuts::{Cut, Cuts, Due},
    dice::Dice,
    disk::{Disk, Disks, Means},
    end::{Bounds, End},
    event::{Event, Happened},
    host::HostId,
    kernel::Kernel,
    link::judges,
    network::Network,
    order::{Candidates, Decision, Order, Path},
    plan::{Call, Plan},
    shortage::{Scarce, Shortages},
    trace::{Trace, Turn},
    wall::Walls,
};

pub(crate) struct World {
    seed: u64,
    /// In the system's terms. Asked for within the world, whose time std may tell.
    began: OnceLock<Instant>,
    nanos: AtomicU64,
    walls: Walls,
    /// What the system's clock showed when it began.
    monotonic: Duration,
    /// Of what others' code draws, apart from all else, and without a lock.
    random: AtomicU64,
    /// On which host the one runs that has its turn.
    host: AtomicU32,
    /// Turns, and how often the driver was asked: the world goes on as long as these do.
    beats: AtomicU64,
    /// Calls that were refused since time has moved, because their scope is over.
    refused_at_once: AtomicU64,
    /// Something is watched since the kernel was asked that may have been ready before.
    is_touched: AtomicBool,
    /// Something is watched of which only the kernel knows when it is ready: no socket of the world's.
    is_opaque: AtomicBool,
    /// Some call may be cut short.
    has_cuts: AtomicBool,
    state: Mutex<State>,
}

struct State {
    plan: Plan<Event>,
    order: Order,
    chances: Chances,
    kernel: Kernel,
    cuts: Cuts,
    /// What the scenario itself leaves to chance.
    drawn: Dice,
    network: Network,
    disks: Disks,
    shortages: Shortages,
    trace: Trace,
    /// Told once nothing can run at the present time.
    settling: Vec<Call>,
    /// Told once time has moved.
    moving: Vec<Call>,
    /// Those whose turns do not count as something that happens, by id.
    watching: Vec<u64>,
    /// Turns of all others.
    turns_of_others: u64,
    /// Turns that there may be in all.
    most_turns: u64,
    /// Turns since time has moved.
    turns_at_once: u64,
    bounds: Bounds,
    /// What was told to end did not, while time stood still; so that was moved.
    was_pushed: bool,
    /// Why it has ended by itself.
    end: Option<End>,
    /// Told what went wrong in the runtime itself, so that the world stops for good.
    stopping: Option<Stop>,
    /// When the scenario ended, after which what is left is to end.
    wound_down_at: Option<u64>,
}

/// What is called when the runtime itself fails.
type Stop = Box<dyn FnOnce(String) + Send>;

/// What [`World::stir`] has come to.
pub(crate) enum Called {
    /// Nobody; something may have become ready if sockets were touched.
    Nobody { touched: bool },
    /// Some code of others was called, or a timer is due.
    Somebody,
    /// Something on standby has its deadline.
    Alarm,
    /// Nothing will happen any more.
    Over,
}

/// What tells the scenario's own dice from the others.
const SALT: u64 = 0x7363_656E_6172_696F;

/// Rounds of turns, or refused calls, at one time when all is to end.
const MOST_ROUNDS_AT_ONCE: u64 = 20_000;
const MOST_REFUSED_AT_ONCE: u64 = 1_000_000;

/// By how much time is then moved: more than anybody is given for ending.
const PUSH: u64 = 60_000_000_000;

impl World {
    pub(crate) fn new(
        seed: u64,
        order: Order,
        chances: bool,
        wanted: Wanted,
    ) -> std::io::Result<Arc<Self>> {
        Ok(Arc::new(Self {
            seed,
            began: OnceLock::new(),
            nanos: AtomicU64::new(0),
            walls: Walls::default(),
            monotonic: system_clock(),
            random: AtomicU64::new(seed ^ 0x5EED_0F0B_1EC7_0000),
            host: AtomicU32::new(0),
            beats: AtomicU64::new(0),
            refused_at_once: AtomicU64::new(0),
            is_touched: AtomicBool::new(true),
            is_opaque: AtomicBool::new(false),
            has_cuts: AtomicBool::new(false),
            state: Mutex::new(State {
                plan: Plan::new(seed, order.draws(), Chronicle::new(wanted)),
                chances: Chances::new(seed, chances),
                kernel: Kernel::new(seed, order.draws()),
                cuts: Cuts::new(seed),
                moving: Vec::new(),
                watching: Vec::new(),
                turns_of_others: 0,
                most_turns: u64::MAX,
                order,
                drawn: Dice::new(seed ^ SALT),
                network: Network::new(seed)?,
                disks: Disks::default(),
                shortages: Shortages::default(),
                trace: Trace {
                    hash: 0xCBF2_9CE4_8422_2325,
                    turns: 0,
                },
                settling: Vec::new(),
                turns_at_once: 0,
                bounds: Bounds::default(),
                was_pushed: false,
                end: None,
                stopping: None,
                wound_down_at: None,
            }),
        }))
    }

    #[allow(
        clippy::disallowed_methods,
        reason = "an instant to count from; which one it is makes no difference"
    )]
    pub(super) fn beginning(&self) -> Instant {
        *self.began.get_or_init(Instant::now)
    }

    pub(crate) fn seed(&self) -> u64 {
        self.seed
    }

    pub(crate) fn now(&self) -> Instant {
        self.beginning() + self.elapsed()
    }

    /// How long it has lasted, by its own clock.
    pub(crate) fn elapsed(&self) -> Duration {
        Duration::from_nanos(self.nanos.load(Ordering::Relaxed))
    }

    /// What the system's clock that nobody sets would show.
    pub(super) fn monotonic(&self) -> Duration {
        self.monotonic + self.elapsed()
    }

    /// What the clock of the host shows that runs now, since 1970.
    pub(super) fn wall(&self) -> Duration {
        self.walls
            .show(self.host(), self.nanos.load(Ordering::Relaxed))
    }

    /// One of the numbers below `bound`.
    pub(crate) fn draw(&self, bound: u64) -> u64 {
        self.lock().plan.dice.below(bound)
    }

    /// One of the numbers below `bound`, for what the scenario leaves to chance: a decision, where all are to be met.
    pub(crate) fn choose(&self, bound: u64) -> u64 {
        let mut state = self.lock();
        let State { order, drawn, .. } = &mut *state;
        match order {
            Order::Along(path) => path.choose(usize::try_from(bound).unwrap_or(usize::MAX)) as u64,
            _ => drawn.below(bound),
        }
    }

    /// Who has the next turn.
    pub(crate) fn decide(&self, candidates: &Candidates<'_>, gave_way: bool) -> Decision {
        self.lock().order.decide(candidates, gave_way)
    }

    /// What was decided, where every order is to be met.
    pub(crate) fn take_path(&self) -> Option<Path> {
        match &mut self.lock().order {
            Order::Along(path) => Some(std::mem::take(path)),
            _ => None,
        }
    }

    /// Why it has ended by itself, if it has.
    pub(crate) fn end(&self) -> Option<End> {
        self.lock().end
    }

    /// Calls `call` with what went wrong in the runtime itself, if that comes to pass.
    pub(crate) fn when_stopped(&self, call: Stop) {
        self.lock().stopping = Some(call);
    }

    /// Tells what went wrong, and never returns: nothing can go on, nor be taken back.
    pub(crate) fn stop(&self, what: String) -> ! {
        let call = self.lock().stopping.take();
        if let Some(call) = call {
            call(what);
        }
        loop {
            std::thread::park();
        }
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

    /// On which host the one runs that has its turn.
    pub(crate) fn host(&self) -> HostId {
        HostId(self.host.load(Ordering::Relaxed))
    }

    /// The one that has its turn has gone to that host.
    pub(crate) fn set_host(&self, host: HostId) {
        self.host.store(host.0, Ordering::Relaxed);
    }

    /// Ends it as one that lasts too long after so many turns.
    pub(crate) fn limit_turns(&self, most: u64) {
        self.lock().most_turns = most;
    }

    /// Notes that a coroutine has its turn.
    pub(crate) fn note_turn(&self, turn: &Turn<'_>) {
        self.beat();
        self.set_host(turn.host);
        let mut state = self.lock();
        let now = state.plan.now;
        let trace = &mut state.trace;
        trace.turns += 1;
        for word in [now, turn.of as u64, turn.drawn as u64] {
            trace.add(word);
        }
        let place = turn.spawned_at;
        trace.add(u64::from(place.line()) << 32 | u64::from(place.column()));
        if state.trace.turns > state.most_turns && state.wound_down_at.is_none() {
            state.end.get_or_insert(End::TooManyTurns);
        }
        state.turns_at_once += 1;
        if !state.watching.contains(&turn.id) {
            state.turns_of_others += 1;
        }
        let most = state.bounds.turns_at_once;
        if state.turns_at_once > most && state.wound_down_at.is_none() {
            state.end.get_or_insert(End::Standstill(most));
        }
        if state.plan.chronicle.is_wanted() {
            let text = turn.to_string();
            let host = turn.host;
            state.plan.note(Moment::Turn { host, text });
        }
    }

    /// Keeps what the one whose turn it is has to say.
    pub(crate) fn note(&self, text: String) {
        let host = self.host();
        self.lock().plan.note(Moment::Said { host, text });
    }

    /// What has happened, as far as that was kept.
    pub(crate) fn take_chronicle(&self) -> Vec<Entry> {
        self.lock().plan.chronicle.take()
    }

    /// Whether a place takes its rare way now.
    pub(super) fn strikes(&self, at: &'static Location<'static>) -> bool {
        let mut state = self.lock();
        state.wound_down_at.is_none() && state.chances.strikes(at)
    }

    /// How many of these bytes a call moves, but for TCP, whose network decides that; no less than `least` of them.
    pub(crate) fn part(&self, bytes: usize, least: usize) -> usize {
        self.lock().kernel.part(bytes, least)
    }

    /// Whether a wait ends for nothing now: a number to choose it by.
    pub(super) fn lost_race(&self) -> Option<u64> {
        self.lock().kernel.lost_race()
    }

    /// When a call is cut short that begins now; `None` if never.
    pub(crate) fn draw_cut(&self) -> Option<Due> {
        let mut state = self.lock();
        let State { cuts, order, .. } = &mut *state;
        cuts.draw(order)
    }

    /// Has `call` cut short what begins now, there, unless the value is dropped before that is due.
    pub(crate) fn open_cut(
        &self,
        due: Due,
        at: &'static Location<'static>,
        call: Call,
    ) -> OpenCut<'_> {
        let host = self.host();
        let mut state = self.lock();
        let number = state.cuts.open(due, Cut { at, host, call });
        self.has_cuts.store(true, Ordering::Relaxed);
        OpenCut {
            world: self,
            number,
        }
    }

    /// Cuts short what is due before the round of the worker's that begins.
    pub(crate) fn cut_due(&self) {
        if self.has_cuts.load(Ordering::Relaxed) {
            self.cut_before_round();
        }
    }

    #[cold]
    fn cut_before_round(&self) {
        let mut state = self.lock();
        let State {
            cuts,
            order,
            plan,
            trace,
            ..
        } = &mut *state;
        let due = cuts.before_round(order);
        for Cut { at, host, .. } in &due {
            trace.add(u64::from(at.line()) << 32 | u64::from(at.column()));
            if plan.chronicle.is_wanted() {
                let (host, text) = (*host, format!("cut short, in the call at {at}"));
                plan.note(Moment::Said { host, text });
            }
        }
        self.has_cuts.store(cuts.are_open(), Ordering::Relaxed);
        drop(state);
        due.into_iter().for_each(|cut| (cut.call)());
    }

    /// Has the turns of a coroutine not count as something that happens, for as long as the value lives.
    pub(crate) fn watch(&self, id: u64) -> Watch<'_> {
        self.lock().watching.push(id);
        Watch { world: self, id }
    }

    /// Calls `call` once time has moved.
    pub(crate) fn when_moved(&self, call: Call) {
        self.lock().moving.push(call);
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

    /// A descriptor is watched from here on, of which the world knows when it is ready or does not.
    pub(crate) fn note_registered(&self, is_known: bool) {
        self.is_touched.store(true, Ordering::Relaxed);
        if !is_known {
            self.is_opaque.store(true, Ordering::Relaxed);
        }
    }

    /// Whether the kernel may have something to tell, which it is then asked for.
    pub(super) fn may_be_told(&self) -> bool {
        let touched = self.is_touched.swap(false, Ordering::Relaxed);
        touched || self.is_opaque.load(Ordering::Relaxed) || self.lock().network.is_asked()
    }

    /// Nothing can run. Hands over what is due, or else moves time on, at most to `until`. `is_sure` says that the
    /// kernel has been asked and had nothing to tell.
    pub(super) fn stir(&self, until: Option<Duration>, is_sure: bool) -> Called {
        let mut state = self.lock();
        let State { plan, network, .. } = &mut *state;
        if network.collect(plan) {
            return Called::Nobody { touched: true };
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
                let State { plan, network, .. } = &mut *state;
                if network.collect_all(plan) || !is_sure {
                    return Called::Nobody { touched: true };
                }
                state.end.get_or_insert(End::Deadlock);
                return Called::Over;
            }
        };
        let longest = state.bounds.longest;
        if Duration::from_nanos(at) > longest && state.wound_down_at.is_none() {
            state.end = Some(End::TooLong(longest));
            return Called::Over;
        }
        self.move_to(&mut state, at);
        let is_tie = timer == next;
        if !state.moving.is_empty() {
            let moving = std::mem::take(&mut state.moving);
            drop(state);
            moving.into_iter().for_each(|call| call());
            return Called::Somebody;
        }
        let State { plan, order, .. } = &mut *state;
        if is_tie && order.puts_timers_first(&mut plan.dice) {
            return Called::Somebody;
        }
        // At once: nothing has come meanwhile that could run.
        match state.plan.take_due() {
            Some(event) => happen(state, event),
            None => Called::Somebody,
        }
    }

    /// A call was refused because its scope is over.
    pub(super) fn note_refused(&self) {
        self.refused_at_once.fetch_add(1, Ordering::Relaxed);
    }

    fn move_to(&self, state: &mut State, at: u64) {
        state.turns_at_once = 0;
        self.refused_at_once.store(0, Ordering::Relaxed);
        state.plan.now = at.max(state.plan.now);
        self.nanos.store(state.plan.now, Ordering::Relaxed);
    }

    /// Where all is to end, and something goes on instead, time is moved, so that its patience ends.
    pub(super) fn note_round(&self) {
        self.beat();
        let mut state = self.lock();
        if state.wound_down_at.is_none() {
            return;
        }
        state.turns_at_once += 1;
        let refused = self.refused_at_once.load(Ordering::Relaxed);
        if state.turns_at_once > MOST_ROUNDS_AT_ONCE || refused > MOST_REFUSED_AT_ONCE {
            state.was_pushed = true;
            let at = state.plan.now.saturating_add(PUSH);
            self.move_to(&mut state, at);
        }
    }

    /// Whether something went on without end when it was told to end.
    pub(crate) fn was_pushed(&self) -> bool {
        self.lock().was_pushed
    }

    pub(crate) fn set_bounds(&self, bounds: Bounds) {
        self.lock().bounds = bounds;
    }

    /// How far it has come, and for how long of real time it may stay there; `None` while it is in the middle of
    /// something.
    pub(crate) fn pulse(&self) -> Option<(u64, Duration)> {
        let state = self.state.try_lock().ok()?;
        Some((self.beats.load(Ordering::Relaxed), state.bounds.patience))
    }

    pub(super) fn beat(&self) {
        self.beats.fetch_add(1, Ordering::Relaxed);
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

    /// A number for others' code that wants one.
    pub(crate) fn random(&self) -> u64 {
        let step = 0x9E37_79B9_7F4A_7C15;
        let before = self.random.fetch_add(step, Ordering::Relaxed);
        Dice::new(before).number()
    }

    /// Sets a host's clock, which tells the time of day, so many nanoseconds ahead of the world's.
    pub(crate) fn set_wall(&self, host: HostId, ahead: i128) {
        self.walls
            .set(host, self.nanos.load(Ordering::Relaxed), ahead);
    }

    /// Has a host's clock gain so many nanoseconds in each second.
    pub(crate) fn drift_wall(&self, host: HostId, drift: i128) {
        self.walls
            .drift(host, self.nanos.load(Ordering::Relaxed), drift);
    }

    /// Has a host run short, as is [set](Self::set_shortage) next.
    pub(crate) fn begin_shortage(&self, host: HostId) -> u64 {
        self.lock().shortages.begin(host)
    }

    pub(crate) fn set_shortage(&self, number: u64, scarce: Scarce, of_one: f64) {
        self.lock().shortages.set(number, scarce, of_one);
    }

    pub(crate) fn end_shortage(&self, number: u64) {
        self.lock().shortages.end(number);
    }

    /// Whether a host lacks it this time, which is drawn.
    pub(crate) fn lacks(&self, host: HostId, scarce: Scarce) -> bool {
        let mut state = self.lock();
        let share = state.shortages.share(host, scarce);
        // Where nothing is short nothing is drawn.
        share > 0.0 && state.wound_down_at.is_none() && state.plan.dice.chance(share)
    }

    /// Does something with the network.
    pub(crate) fn on_network<R>(&self, act: impl FnOnce(&mut Network, &mut Plan<Event>) -> R) -> R {
        let mut state = self.lock();
        let State { plan, network, .. } = &mut *state;
        act(network, plan)
    }

    /// Does something with the disk of a host.
    pub(crate) fn on_disk<R>(
        &self,
        host: HostId,
        act: impl FnOnce(&mut Disk, &mut Means<'_>) -> R,
    ) -> R {
        let mut state = self.lock();
        let State { plan, disks, .. } = &mut *state;
        let now = self.walls.show(host, plan.now);
        let dice = &mut plan.dice;
        act(disks.of(host), &mut Means { now, dice })
    }

    /// Notes what came of a call on a file: in the trace these numbers, and for who reads it a text.
    pub(crate) fn note_call(&self, host: HostId, numbers: &[u64], text: impl FnOnce() -> String) {
        let mut state = self.lock();
        for &number in numbers {
            state.trace.add(number);
        }
        if state.plan.chronicle.is_wanted() {
            let text = text();
            state.plan.note(Moment::Said { host, text });
        }
    }

    /// A host loses its power: nothing comes to it or from it, and what it had not synced may be lost.
    pub(crate) fn power_off(&self, host: HostId) {
        let mut state = self.lock();
        let State {
            plan,
            network,
            disks,
            ..
        } = &mut *state;
        network.power_off(plan, host);
        disks.power_off(host, &mut plan.dice);
    }

    /// It is there again.
    pub(crate) fn power_on(&self, host: HostId) {
        let mut state = self.lock();
        let State {
            plan,
            network,
            disks,
            ..
        } = &mut *state;
        network.power_on(plan, host);
        disks.power_on(host);
    }

    /// # Panics
    /// In a rule for packets, which is asked under this very lock.
    fn lock(&self) -> MutexGuard<'_, State> {
        assert!(
            !judges(),
            "a rule for packets asks its packet alone, not the world, and does not wait"
        );
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The system's own clock, without the C library.
fn system_clock() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    Duration::new(time.tv_sec.unsigned_abs(), time.tv_nsec as u32)
}

/// Does what is due.
fn happen(mut state: MutexGuard<'_, State>, event: Event) -> Called {
    if matches!(event, Event::Alarm) {
        return Called::Alarm;
    }
    let State { plan, network, .. } = &mut *state;
    let happened = network.happen(plan, event);
    drop(state);
    match happened {
        Happened::Nothing => Called::Nobody { touched: false },
        Happened::Something => Called::Nobody { touched: true },
        Happened::Call(call) => {
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

/// A call is under way that may be cut short; dropping this says that it has returned.
pub(crate) struct OpenCut<'a> {
    world: &'a World,
    number: u64,
}

impl Drop for OpenCut<'_> {
    fn drop(&mut self) {
        self.world.lock().cuts.close(self.number);
    }
}

/// Somebody looks whether anything happens.
pub(crate) struct Watch<'a> {
    world: &'a World,
    id: u64,
}

impl Watch<'_> {
    /// Turns so far of those who do not look.
    pub(crate) fn turns_of_others(&self) -> u64 {
        self.world.lock().turns_of_others
    }
}

impl Drop for Watch<'_> {
    fn drop(&mut self) {
        let watching = &mut self.world.lock().watching;
        if let Some(at) = watching.iter().position(|&id| id == self.id) {
            watching.swap_remove(at);
        }
    }
}
