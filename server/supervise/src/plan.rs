//! What is to be done when: which processes there are, what is to become of them, and when to look again.
//!
//! It starts and ends nothing itself. It is told what happened and at what time, and says what to do; so each case is a
//! test without a process.
//!
//! ```text
//!  start ──► starting ──ready──► ready ──replaced, or the service ends──► ending ──► gone
//!               │                  │                                        │
//!               └── ends, or is late: a crash ──► gone                      └── late: killed
//! ```
//!
//! A slot is a worker's place. It has one process that serves or is to serve. In a reload it has a second one, which is
//! to follow: the first is told to end only when that is ready.

use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use crate::message::End;

/// Settings that decide what is done when.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Terms {
    pub(crate) workers: usize,
    /// How long a process may take until it is ready.
    pub(crate) start_timeout: Duration,
    /// How long a process may take to end once it has been told to.
    pub(crate) end_timeout: Duration,
    /// Before a crashed process is followed by another: at first, and at the most.
    pub(crate) first_pause: Duration,
    pub(crate) longest_pause: Duration,
    /// After how long a silence a process is taken to hang; zero for never.
    pub(crate) watchdog: Duration,
}

/// A process, by the order in which they were started.
pub(crate) type Id = u64;

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Start {
        id: Id,
        slot: usize,
        generation: u64,
    },
    Tell(Id, End),
    Kill(Id, How),
    /// All are ready, for the first time or again.
    Serving,
    /// A reload has begun.
    Reloading,
    /// A reload is over; why it failed if it did.
    Reloaded(Result<(), String>),
    /// The service ends.
    Stopping,
    /// Nothing is left. Why the service could not be started, if that is so.
    Exit(Result<(), String>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum How {
    /// It has nothing to finish yet.
    Term,
    /// It hangs, and its memory may tell where.
    Abort,
    Kill,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    Starting,
    Ready,
    Ending,
}

#[derive(Clone, Debug)]
pub(crate) struct Process {
    pub(crate) slot: usize,
    pub(crate) generation: u64,
    pub(crate) state: State,
    /// When the state began.
    pub(crate) since: Instant,
    /// When it last said that it is alive.
    heard: Instant,
    /// When it is killed.
    deadline: Option<Instant>,
    /// Why it was killed.
    killed: Option<&'static str>,
    pub(crate) says: String,
}

#[derive(Clone, Debug, Default)]
pub(crate) struct Slot {
    /// Who serves here, or is to.
    serving: Option<Id>,
    /// Crashes one after the other.
    failures: u32,
    restart_at: Option<Instant>,
    pub(crate) crashes: u64,
    pub(crate) last_crash: Option<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    Starting,
    Serving,
    Stopping,
}

#[derive(Clone, Copy, Debug)]
struct Reload {
    slot: usize,
    follower: Id,
}

#[derive(Debug)]
pub(crate) struct Plan {
    terms: Terms,
    pub(crate) processes: BTreeMap<Id, Process>,
    pub(crate) slots: Vec<Slot>,
    pub(crate) phase: Phase,
    reload: Option<Reload>,
    /// A reload was asked for that has yet to begin.
    again: bool,
    pub(crate) generation: u64,
    next: Id,
    /// Why the service could not be started.
    failure: Option<String>,
    exited: bool,
    actions: Vec<Action>,
}

impl Plan {
    pub(crate) fn new(terms: Terms) -> Self {
        Self {
            terms,
            processes: BTreeMap::new(),
            slots: vec![Slot::default(); terms.workers],
            phase: Phase::Starting,
            reload: None,
            again: false,
            generation: 1,
            next: 0,
            failure: None,
            exited: false,
            actions: Vec::new(),
        }
    }

    /// What is to be done by now.
    pub(crate) fn actions(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    pub(crate) fn begin(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            let id = self.start(slot, now);
            self.slots[slot].serving = Some(id);
        }
    }

    fn start(&mut self, slot: usize, now: Instant) -> Id {
        let (id, generation) = (self.next, self.generation);
        self.next += 1;
        self.slots[slot].restart_at = None;
        let process = Process {
            slot,
            generation,
            state: State::Starting,
            since: now,
            heard: now,
            deadline: now.checked_add(self.terms.start_timeout),
            killed: None,
            says: String::new(),
        };
        self.processes.insert(id, process);
        self.actions.push(Action::Start {
            id,
            slot,
            generation,
        });
        id
    }

    /// A process serves.
    pub(crate) fn ready(&mut self, id: Id, now: Instant) {
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        if process.state != State::Starting {
            return;
        }
        process.state = State::Ready;
        process.since = now;
        process.heard = now;
        process.deadline = None;
        let slot = process.slot;
        if self.reload.is_some_and(|reload| reload.follower == id) {
            if let Some(former) = self.slots[slot].serving.replace(id) {
                self.tell(former, End::Replaced, now);
            }
            self.slots[slot].failures = 0;
            self.reload_from(slot + 1, now);
        }
        if self.phase == Phase::Starting && self.all_ready() {
            self.phase = Phase::Serving;
            self.actions.push(Action::Serving);
            self.begin_reload(now);
        }
    }

    /// It said that it is alive.
    pub(crate) fn heard(&mut self, id: Id, now: Instant) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.heard = now;
        }
    }

    /// It said what it is doing.
    pub(crate) fn says(&mut self, id: Id, text: String) {
        if let Some(process) = self.processes.get_mut(&id) {
            process.says = text;
        }
    }

    /// A process has ended, or could not be started.
    pub(crate) fn ended(&mut self, id: Id, how: &str, now: Instant) {
        let Some(process) = self.processes.remove(&id) else {
            return;
        };
        let how = match process.killed {
            Some(why) => format!("{why}, {how}"),
            None => how.to_owned(),
        };
        let slot = process.slot;
        let serves = self.slots[slot].serving == Some(id);
        if serves {
            self.slots[slot].serving = None;
        }
        if self.phase == Phase::Stopping {
            self.exit_if_empty();
            return;
        }
        if process.state == State::Ending {
            return;
        }
        self.slots[slot].crashes += 1;
        let why = match process.state {
            State::Starting => format!("worker {slot} was never ready: {how}"),
            _ => format!("worker {slot}: {how}"),
        };
        self.slots[slot].last_crash = Some(why.clone());
        if self.phase == Phase::Starting && process.state == State::Starting {
            // A service that never began: its starter is to know.
            self.failure = Some(why);
            self.stop(now);
            return;
        }
        match self.reload {
            Some(reload) if reload.follower == id => {
                self.reload = None;
                self.again = false;
                self.actions.push(Action::Reloaded(Err(why)));
                if self.slots[slot].serving.is_none() {
                    self.restart_later(slot, process.since, process.state, now);
                }
            }
            // Who is to follow is on its way.
            Some(reload) if reload.slot == slot => {}
            _ if serves => self.restart_later(slot, process.since, process.state, now),
            _ => {}
        }
    }

    fn restart_later(&mut self, slot: usize, since: Instant, state: State, now: Instant) {
        let terms = self.terms;
        let slot = &mut self.slots[slot];
        // One that did well for that long has nothing to do with the crashes before.
        if state == State::Ready && now.saturating_duration_since(since) >= terms.longest_pause {
            slot.failures = 0;
        }
        let doublings = slot.failures.min(20);
        slot.failures = slot.failures.saturating_add(1);
        let pause = terms.first_pause.saturating_mul(1 << doublings);
        slot.restart_at = now.checked_add(pause.min(terms.longest_pause));
    }

    /// Replaces all processes, one after the other. A reload that is under way is followed by another: what it starts
    /// may have begun before what this one is for.
    pub(crate) fn reload(&mut self, now: Instant) {
        if self.phase == Phase::Stopping {
            let why = "the service ends".to_owned();
            self.actions.push(Action::Reloaded(Err(why)));
            return;
        }
        self.again = true;
        self.begin_reload(now);
    }

    fn begin_reload(&mut self, now: Instant) {
        if !self.again || self.reload.is_some() || self.phase != Phase::Serving {
            return;
        }
        self.again = false;
        self.generation += 1;
        self.actions.push(Action::Reloading);
        self.reload_from(0, now);
    }

    fn reload_from(&mut self, slot: usize, now: Instant) {
        if slot < self.slots.len() {
            let follower = self.start(slot, now);
            self.reload = Some(Reload { slot, follower });
        } else {
            self.reload = None;
            self.actions.push(Action::Reloaded(Ok(())));
            self.begin_reload(now);
        }
    }

    /// Ends the service: at first in order, asked again at once.
    pub(crate) fn stop(&mut self, now: Instant) {
        let ids: Vec<Id> = self.processes.keys().copied().collect();
        if self.phase == Phase::Stopping {
            for id in ids {
                self.actions.push(Action::Kill(id, How::Kill));
            }
            return;
        }
        self.phase = Phase::Stopping;
        self.actions.push(Action::Stopping);
        if self.reload.take().is_some() || std::mem::take(&mut self.again) {
            let why = "the service ends".to_owned();
            self.actions.push(Action::Reloaded(Err(why)));
        }
        for slot in &mut self.slots {
            slot.restart_at = None;
        }
        for id in ids {
            self.tell(id, End::Stopped, now);
        }
        self.exit_if_empty();
    }

    fn tell(&mut self, id: Id, why: End, now: Instant) {
        let until = now.checked_add(self.terms.end_timeout);
        let Some(process) = self.processes.get_mut(&id) else {
            return;
        };
        match process.state {
            // It has nothing to finish, and does not listen yet.
            State::Starting => self.actions.push(Action::Kill(id, How::Term)),
            State::Ready => self.actions.push(Action::Tell(id, why)),
            // Told that it is replaced; that the service ends makes no difference to it.
            State::Ending => return,
        }
        process.state = State::Ending;
        process.since = now;
        process.deadline = until;
    }

    fn exit_if_empty(&mut self) {
        if self.processes.is_empty() && !self.exited {
            self.exited = true;
            let result = self.failure.take().map_or(Ok(()), Err);
            self.actions.push(Action::Exit(result));
        }
    }

    fn all_ready(&self) -> bool {
        self.ready_count() == self.slots.len()
    }

    /// Slots that are served.
    pub(crate) fn ready_count(&self) -> usize {
        let serving = self.slots.iter().filter_map(|slot| slot.serving);
        serving
            .filter(|id| {
                let process = self.processes.get(id);
                process.is_some_and(|process| process.state == State::Ready)
            })
            .count()
    }

    pub(crate) fn is_reloading(&self) -> bool {
        self.reload.is_some()
    }

    /// When a crashed slot is started again, if it is to be.
    pub(crate) fn restarts_at(&self, slot: usize) -> Option<Instant> {
        self.slots[slot].restart_at
    }

    fn silent_at(&self, process: &Process) -> Option<Instant> {
        let watched = process.state == State::Ready && !self.terms.watchdog.is_zero();
        (watched && process.killed.is_none())
            .then(|| process.heard.checked_add(self.terms.watchdog))
            .flatten()
    }

    /// When [`tick`](Self::tick) has something to do.
    pub(crate) fn next(&self) -> Option<Instant> {
        let restarts = self.slots.iter().filter_map(|slot| slot.restart_at);
        let processes = self.processes.values();
        let times = processes.flat_map(|process| [process.deadline, self.silent_at(process)]);
        restarts.chain(times.flatten()).min()
    }

    /// Does what is due.
    pub(crate) fn tick(&mut self, now: Instant) {
        for slot in 0..self.slots.len() {
            if self.slots[slot].restart_at.is_some_and(|at| at <= now) {
                let id = self.start(slot, now);
                self.slots[slot].serving = Some(id);
            }
        }
        let ids: Vec<Id> = self.processes.keys().copied().collect();
        for id in ids {
            let process = &self.processes[&id];
            let silent = self.silent_at(process).is_some_and(|at| at <= now);
            let late = process.deadline.is_some_and(|at| at <= now);
            let (how, why, deadline) = match process.state {
                _ if late => match process.state {
                    State::Starting => (How::Kill, "it was not ready in time", None),
                    State::Ready => (How::Kill, "it did not answer the watchdog", None),
                    State::Ending => (How::Kill, "it did not end in time", None),
                },
                _ if silent => {
                    let until = now.checked_add(AFTER_ABORT);
                    (How::Abort, "it did not answer the watchdog", until)
                }
                _ => continue,
            };
            let process = self.processes.get_mut(&id).expect("it was there just now");
            process.killed = Some(why);
            process.deadline = deadline;
            self.actions.push(Action::Kill(id, how));
        }
    }
}

/// How long an abort may take, to write what the memory holds.
const AFTER_ABORT: Duration = Duration::from_secs(10);

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    struct Told {
        plan: Plan,
        now: Instant,
    }

    impl Told {
        fn workers(workers: usize) -> Self {
            let mut plan = Plan::new(Terms {
                workers,
                start_timeout: 60 * SECOND,
                end_timeout: 60 * SECOND,
                first_pause: SECOND,
                longest_pause: 30 * SECOND,
                watchdog: Duration::ZERO,
            });
            let now = maniple::time::coarse_now();
            plan.begin(now);
            Self { plan, now }
        }

        /// That many, which all are ready.
        fn serving(workers: usize) -> Self {
            let mut told = Self::workers(workers);
            let started = told.started();
            assert_eq!(started.len(), workers);
            for id in started {
                told.plan.ready(id, told.now);
            }
            assert_eq!(told.plan.actions(), [Action::Serving]);
            told
        }

        fn started(&mut self) -> Vec<Id> {
            let actions = self.plan.actions();
            let ids = actions.into_iter().map(|action| match action {
                Action::Start { id, .. } => id,
                other => panic!("{other:?} in place of a start"),
            });
            ids.collect()
        }

        fn wait(&mut self, time: Duration) -> Vec<Action> {
            self.now += time;
            self.plan.tick(self.now);
            self.plan.actions()
        }

        fn ready(&mut self, id: Id) -> Vec<Action> {
            self.plan.ready(id, self.now);
            self.plan.actions()
        }

        fn ended(&mut self, id: Id) -> Vec<Action> {
            self.plan.ended(id, "exit status: 1", self.now);
            self.plan.actions()
        }

        fn reload(&mut self) -> Vec<Action> {
            self.plan.reload(self.now);
            self.plan.actions()
        }

        fn stop(&mut self) -> Vec<Action> {
            self.plan.stop(self.now);
            self.plan.actions()
        }
    }

    fn start(id: Id, slot: usize, generation: u64) -> Action {
        Action::Start {
            id,
            slot,
            generation,
        }
    }

    #[test]
    fn a_crash_is_followed_by_a_start_of_that_slot_alone() {
        let mut told = Told::serving(3);
        assert_eq!(told.ended(1), []);
        assert_eq!(told.plan.next(), Some(told.now + SECOND));
        assert_eq!(told.wait(SECOND), [start(3, 1, 1)]);
        assert_eq!(told.plan.ready_count(), 2);
        assert_eq!(told.ready(3), []);
        assert_eq!(told.plan.ready_count(), 3);
    }

    #[test]
    fn each_crash_doubles_the_pause_up_to_the_longest_and_a_good_time_ends_that() {
        let mut told = Told::serving(1);
        let mut id = 0;
        for pause in [1, 2, 4, 8, 16, 30, 30] {
            told.ended(id);
            assert_eq!(told.plan.next(), Some(told.now + pause * SECOND));
            told.wait(pause * SECOND);
            id += 1;
            told.ready(id);
        }
        told.wait(30 * SECOND);
        told.ended(id);
        assert_eq!(told.plan.next(), Some(told.now + SECOND));
    }

    #[test]
    fn one_that_is_not_ready_in_time_is_killed_and_counts_as_a_crash() {
        let mut told = Told::serving(1);
        told.ended(0);
        told.wait(SECOND);
        assert_eq!(told.wait(60 * SECOND), [Action::Kill(1, How::Kill)]);
        assert_eq!(told.ended(1), []);
        let said = told.plan.slots[0].last_crash.as_deref().unwrap();
        let expected = "worker 0 was never ready: it was not ready in time, exit status: 1";
        assert_eq!(said, expected);
        assert_eq!(told.plan.next(), Some(told.now + 2 * SECOND));
    }

    #[test]
    fn a_service_that_cannot_start_ends_and_says_why() {
        let mut told = Told::workers(2);
        told.started();
        told.ready(0);
        let actions = told.ended(1);
        assert_eq!(actions, [Action::Stopping, Action::Tell(0, End::Stopped)]);
        let why = "worker 1 was never ready: exit status: 1".to_owned();
        assert_eq!(told.ended(0), [Action::Exit(Err(why))]);
    }

    #[test]
    fn a_crash_before_all_are_ready_is_no_failure_to_start_once_that_one_was() {
        let mut told = Told::workers(2);
        told.started();
        told.ready(0);
        assert_eq!(told.ended(0), []);
        assert_eq!(told.ready(1), []);
        assert_eq!(told.wait(SECOND), [start(2, 0, 1)]);
        assert_eq!(told.ready(2), [Action::Serving]);
    }

    #[test]
    fn a_reload_ends_each_process_only_when_its_follower_is_ready() {
        let mut told = Told::serving(2);
        assert_eq!(told.reload(), [Action::Reloading, start(2, 0, 2)]);
        let actions = told.ready(2);
        assert_eq!(actions, [Action::Tell(0, End::Replaced), start(3, 1, 2)]);
        let actions = told.ready(3);
        let expected = [Action::Tell(1, End::Replaced), Action::Reloaded(Ok(()))];
        assert_eq!(actions, expected);
        assert_eq!(told.ended(0), []);
        assert_eq!(told.ended(1), []);
        assert_eq!((told.plan.ready_count(), told.plan.next()), (2, None));
    }

    #[test]
    fn a_reload_whose_first_process_fails_leaves_all_as_it_was() {
        let mut told = Told::serving(2);
        told.reload();
        let why = "worker 0 was never ready: exit status: 1".to_owned();
        assert_eq!(told.ended(2), [Action::Reloaded(Err(why))]);
        assert_eq!((told.plan.ready_count(), told.plan.next()), (2, None));
    }

    #[test]
    fn a_crash_in_the_slot_that_is_reloaded_is_left_to_the_follower() {
        let mut told = Told::serving(1);
        told.reload();
        assert_eq!(told.ended(0), []);
        assert_eq!(told.ready(1), [Action::Reloaded(Ok(()))]);
        // And where the follower fails, too, the slot is started again.
        told.reload();
        told.ended(1);
        assert!(matches!(told.ended(2)[..], [Action::Reloaded(Err(_))]));
        assert!(told.plan.next().is_some());
    }

    #[test]
    fn a_reload_that_is_asked_for_in_a_reload_follows_it_once() {
        let mut told = Told::serving(1);
        told.reload();
        assert_eq!(told.reload(), []);
        assert_eq!(told.reload(), []);
        let expected = [
            Action::Tell(0, End::Replaced),
            Action::Reloaded(Ok(())),
            Action::Reloading,
            start(2, 0, 3),
        ];
        assert_eq!(told.ready(1), expected);
        let expected = [Action::Tell(1, End::Replaced), Action::Reloaded(Ok(()))];
        assert_eq!(told.ready(2), expected);
    }

    #[test]
    fn a_reload_starts_what_waits_after_a_crash() {
        let mut told = Told::serving(1);
        told.ended(0);
        assert_eq!(told.reload(), [Action::Reloading, start(1, 0, 2)]);
        assert_eq!(told.ready(1), [Action::Reloaded(Ok(()))]);
        assert_eq!(told.plan.next(), None);
    }

    #[test]
    fn a_reload_before_all_are_ready_waits_for_that() {
        let mut told = Told::workers(1);
        told.started();
        assert_eq!(told.reload(), []);
        let expected = [Action::Serving, Action::Reloading, start(1, 0, 2)];
        assert_eq!(told.ready(0), expected);
    }

    #[test]
    fn a_stop_tells_all_and_exits_with_the_last() {
        let mut told = Told::serving(2);
        let expected = [
            Action::Stopping,
            Action::Tell(0, End::Stopped),
            Action::Tell(1, End::Stopped),
        ];
        assert_eq!(told.stop(), expected);
        assert_eq!(told.ended(1), []);
        assert_eq!(told.wait(60 * SECOND), [Action::Kill(0, How::Kill)]);
        assert_eq!(told.ended(0), [Action::Exit(Ok(()))]);
    }

    #[test]
    fn a_second_stop_kills_and_a_stop_in_a_reload_fails_that() {
        let mut told = Told::serving(1);
        told.reload();
        let actions = told.stop();
        let why = Err("the service ends".to_owned());
        let expected = [
            Action::Stopping,
            Action::Reloaded(why.clone()),
            Action::Tell(0, End::Stopped),
            Action::Kill(1, How::Term),
        ];
        assert_eq!(actions, expected);
        assert_eq!(told.reload(), [Action::Reloaded(why)]);
        let expected = [Action::Kill(0, How::Kill), Action::Kill(1, How::Kill)];
        assert_eq!(told.stop(), expected);
    }

    #[test]
    fn one_that_falls_silent_is_aborted_then_killed_and_followed() {
        let mut told = Told::serving(1);
        told.plan.terms.watchdog = 10 * SECOND;
        assert_eq!(told.wait(9 * SECOND), []);
        told.plan.heard(0, told.now);
        assert_eq!(told.wait(9 * SECOND), []);
        assert_eq!(told.wait(SECOND), [Action::Kill(0, How::Abort)]);
        assert_eq!(told.wait(9 * SECOND), []);
        assert_eq!(told.wait(SECOND), [Action::Kill(0, How::Kill)]);
        assert_eq!(told.ended(0), []);
        assert_eq!(told.wait(SECOND), [start(1, 0, 1)]);
    }
}
