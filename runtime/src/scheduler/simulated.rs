//! A runtime in a simulated world: one worker, whose order of turns is drawn, and which ends with its scenario.
//!
//! What differs from a worker in service is its [loop](Worker::live_in) and its driver. Coroutines, waits, timers and
//! what is built on them are the same code.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use rustix::io::Errno;

use super::{
    Scheduler, Worker, now,
    refusal::REFUSED_PATIENCE,
    run_queue::Drawn,
    shutdown::Stuck,
    snapshot::{self, WorkerView},
    wind_down::shut_down,
    worker::sooner,
};
use crate::{
    config::Config,
    coroutine::Header,
    driver::sim::{Candidates, HostId, Scarce, Turn, World},
    stack::{StackError, pool::Ration},
    sys::fenced,
    waiter::Reason,
};

/// How a scenario has ended.
pub(crate) struct Outcome {
    /// What was left when the world ended by itself, before the scenario did.
    pub(crate) left: Option<WorkerView>,
    /// What did not end when it was cancelled. Its worker's thread never ends then, for the sake of their stacks.
    pub(crate) stuck: Vec<Stuck>,
}

impl Scheduler {
    /// Runs what `begin` spawns, in `world`, on the calling thread, which is in that world and is no worker's, until
    /// `is_over`. Then everything is cancelled; `told` gets the outcome. `host_of` says where a coroutine runs.
    ///
    /// # Errors
    /// If the system refuses what a runtime takes.
    pub(crate) fn simulate(
        world: &Arc<World>,
        config: Config,
        is_over: &AtomicBool,
        host_of: fn(&Header) -> HostId,
        begin: impl FnOnce(&Arc<Scheduler>),
        told: impl FnOnce(Outcome),
    ) -> io::Result<()> {
        let (scheduler, mut seeds) = Self::make(Config {
            workers: 1,
            idle_trim: None,
            ..config
        })?;
        let mut seed = seeds.pop().expect("one worker");
        seed.ration(ration(world, &scheduler));
        begin(&scheduler);
        let own = scheduler.clone();
        let live = |worker: &Worker| worker.live_in(world, is_over, host_of);
        let told = |left, _| {
            let stuck = own.ending.take_stuck();
            told(Outcome { left, stuck });
        };
        fenced::or_abort("a worker's loop", || {
            Worker::work(scheduler, 0, seed, live, told);
        });
        own.refuse_injected();
        super::refusal::tell_rest();
        Ok(())
    }
}

// A loop of the worker's, apart from the one in service, whose parts it calls.
impl Worker {
    /// Goes on until the scenario is over or the world ends by itself; what was left then.
    fn live_in(
        &self,
        world: &World,
        is_over: &AtomicBool,
        host_of: fn(&Header) -> HostId,
    ) -> Option<WorkerView> {
        while !is_over.load(Ordering::Relaxed) && !world.is_over() {
            self.drawn_round(world, host_of);
        }
        let left = world
            .is_over()
            .then(|| snapshot::of_worker(self, true, true));
        world.wind_down();
        let scheduler = &self.scheduler;
        scheduler.begin_end(now() + scheduler.config.shutdown_grace);
        left
    }

    /// A round of one turn: anybody's who can run.
    fn drawn_round(&self, world: &World, host_of: fn(&Header) -> HostId) {
        self.timers.begin_round();
        self.take_inbox();
        self.run_requests();
        while let Some(task) = self.take_from_others() {
            self.spawn_local(task);
        }
        world.cut_due();
        let gave_way = self.gave_way.take();
        let (mut budget, mut polls) = (0, true);
        let drawn = self.queue.draw(|count, look_at| {
            let at = |nth: usize| {
                let mut found = (0, false);
                look_at(nth, &mut |task| {
                    let yielded = task.reason.get() == Reason::Yield;
                    found = (task.origin.id, yielded);
                });
                found
            };
            let decision = world.decide(&Candidates { count, at: &at }, gave_way);
            (budget, polls) = (decision.budget, decision.polls);
            decision.next
        });
        match drawn {
            Some((Drawn::Ready(task), of, drawn)) => {
                note(world, &task, host_of(&task), of, drawn);
                self.resume_within(task, budget);
            }
            Some((Drawn::Unstarted(task), of, drawn)) => {
                let header = task.header();
                note(world, header, host_of(header), of, drawn);
                self.begin_within(task, budget);
            }
            None => return self.rest_in_world(),
        }
        self.begin_refused();
        if polls {
            self.poll(Some(Duration::ZERO));
        }
    }

    /// Nothing can run: the driver finds what is next.
    fn rest_in_world(&self) {
        self.begin_refused();
        if self.home.parker.announce() {
            let refused = self.has_refused.get().then_some(REFUSED_PATIENCE);
            let next = self.timers.next();
            let next = next.map(|at| at.saturating_duration_since(now()));
            self.poll(sooner(next, refused));
        }
        self.take_inbox();
    }

    /// Cancels those of its coroutines that are meant, begun or not; how many there are.
    pub(crate) fn cancel_those(&self, are_meant: &dyn Fn(&Header) -> bool) -> usize {
        let mut count = 0;
        let mut cancel = |task: &Header| {
            if are_meant(task) {
                count += 1;
                shut_down(task);
            }
        };
        self.home.rest(|rest| rest.for_each(|task| cancel(task)));
        self.queue.each_unstarted(&mut cancel);
        count
    }
}

/// Has the seed say who gets no stack: for one of the reasons that there are in service.
fn ration(world: &Arc<World>, scheduler: &Scheduler) -> Ration {
    let world = world.clone();
    let limit = scheduler.config.max_coroutines;
    let size = scheduler.default_class.size();
    Ration(Box::new(move || {
        if !world.lacks(world.host(), Scarce::Stacks) {
            return Ok(());
        }
        Err(match world.draw(2) {
            0 => StackError::TooMany { limit },
            _ => StackError::Reserve {
                size,
                source: Errno::NOMEM.into(),
            },
        })
    }))
}

fn note(world: &World, task: &Header, host: HostId, of: usize, drawn: usize) {
    let name = task.origin.name.as_ref();
    world.note_turn(&Turn {
        id: task.origin.id,
        of,
        drawn,
        host,
        spawned_at: task.origin.spawned_at,
        name: name.map(|name| name as _),
        waited_for: &task.reason.get(),
    });
}
