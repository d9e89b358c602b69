//! Who carries calls out: coroutines of a connection, each of which answers one call after the other.
//!
//! Calls that came with one read are queued. A coroutine takes them; another begins only if the reader has its turn while
//! some are left, which is when a method waits. So what is answered at once shares one warm stack, and what waits has one
//! of its own.

use std::{collections::VecDeque, sync::Arc};

use maniple::{
    JoinHandle,
    cancel::{self, Cause},
    sync::{Mutex, Notify},
};

use crate::{
    rare::rarely,
    service::{Method, Underway},
    slot::Runner,
};

#[derive(Default)]
pub(crate) struct Crew {
    state: Mutex<State>,
    /// The last coroutine has ended.
    ended: Notify,
}

#[derive(Default)]
struct State {
    /// Calls that no coroutine has taken. Only the reader adds to them, and starts coroutines until they are gone.
    waiting: VecDeque<Job>,
    places: Vec<Place>,
    free: Vec<Runner>,
    /// Coroutines that have not ended.
    running: u32,
    is_waited_for: bool,
}

/// Where a coroutine is known, as long as there is one.
enum Place {
    Free,
    /// It was spawned, and its handle is not here yet.
    Starting,
    Running(JoinHandle<()>),
    /// It has ended before its handle was here.
    Gone,
}

/// A call that has come, and what carries it out.
pub(crate) struct Job {
    pub(crate) method: Arc<Method>,
    pub(crate) underway: Underway,
}

/// Calls that a coroutine carries out before others have their turn.
const AT_A_TIME: u32 = 32;

impl Crew {
    pub(crate) fn push(&self, job: Job) {
        self.state.lock().waiting.push_back(job);
    }

    /// Has one more coroutine take what waits. Whether some may be left once it has had its turn.
    pub(crate) fn start(self: &Arc<Self>) -> bool {
        let mut state = self.state.lock();
        let count = state.waiting.len();
        if count == 0 {
            return false;
        }
        let runner = state
            .free
            .pop()
            .unwrap_or(Runner(state.places.len() as u32));
        let at = runner.0 as usize;
        match state.places.get_mut(at) {
            Some(place) => *place = Place::Starting,
            None => state.places.push(Place::Starting),
        }
        state.running += 1;
        drop(state);
        let mut present = Present {
            crew: self.clone(),
            runner,
            has_begun: false,
        };
        let handle = maniple::spawn(move || {
            present.has_begun = true;
            present.crew.work(runner);
        });
        let mut state = self.state.lock();
        let late = match state.places[at] {
            Place::Starting => {
                state.places[at] = Place::Running(handle);
                None
            }
            _ => {
                state.places[at] = Place::Free;
                state.free.push(runner);
                Some(handle)
            }
        };
        drop(state);
        drop(late);
        count > 1
    }

    /// Cancels what carries a call out. Its caller has the state of that call locked.
    pub(crate) fn cancel(&self, runner: Runner) {
        let state = self.state.lock();
        if let Some(Place::Running(handle)) = state.places.get(runner.0 as usize) {
            handle.cancel_because(Cause::Disconnected);
        }
    }

    /// Drops what no coroutine has taken.
    pub(crate) fn refuse_waiting(&self) {
        let refused = std::mem::take(&mut self.state.lock().waiting);
        drop(refused);
    }

    /// Waits until all coroutines have ended.
    pub(crate) fn wait_for_all(&self) {
        let is_over = || {
            let mut state = self.state.lock();
            state.is_waited_for = true;
            state.running == 0
        };
        while !is_over() {
            self.ended.notified();
        }
    }

    fn work(&self, runner: Runner) {
        for turn in 1_u32.. {
            // Moved out of the lock's scope at once: the method waits.
            let job = self.state.lock().waiting.pop_front();
            let Some(job) = job else {
                return;
            };
            let Job {
                method,
                mut underway,
            } = job;
            if underway.answering.begin(runner) {
                (method.run)(underway);
            }
            if turn.is_multiple_of(AT_A_TIME)
                || rarely!("one coroutine gives way between two calls")
            {
                cancel::shield(maniple::yield_now);
            }
            // On account of that call: nobody cancels a coroutine that has none.
            if cancel::is_cancelled() {
                return;
            }
        }
    }
}

/// A coroutine, until it ends in whichever way.
struct Present {
    crew: Arc<Crew>,
    runner: Runner,
    has_begun: bool,
}

impl Drop for Present {
    fn drop(&mut self) {
        if !self.has_begun {
            // There was no stack for it.
            self.crew.refuse_waiting();
        }
        let mut locked = self.crew.state.lock();
        let state = &mut *locked;
        let place = &mut state.places[self.runner.0 as usize];
        let ended = match place {
            Place::Starting => std::mem::replace(place, Place::Gone),
            _ => {
                state.free.push(self.runner);
                std::mem::replace(place, Place::Free)
            }
        };
        state.running -= 1;
        let is_news = state.is_waited_for && state.running == 0;
        drop(locked);
        drop(ended);
        if is_news {
            self.crew.ended.notify_one();
        }
    }
}
