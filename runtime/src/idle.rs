//! Idle workers: how they go to sleep, and how others that have work for them wake them.
//!
//! # Steps
//!
//! A worker that has found nothing to run, to begin or to steal
//!
//! 1. *spins*, if its last sleeps were short: looks at its inbox for some ten microseconds ([`Sleeper::spin`]);
//! 2. is *counted* among the parked, and *announces* its sleep in its inbox, whose word goes from empty to parked.
//!    It does not get there if something came ([`Idle::sleep`]);
//! 3. *looks once more* at all queues that it may take from, its requests, and whether the runtime ends;
//! 4. *waits* in the kernel, for its descriptors, its timers and its bell. If it has to *search* again by itself,
//!    this wait has a limit, and it is counted among the searching;
//! 5. is counted no more, and *takes* its inbox, which makes the word empty: it is awake ([`Sleeper::take`]).
//!
//! A waker, who has work for it, publishes that first, and then
//!
//! * [sends](Parker::send) it a coroutine that was woken and is its own: a push onto the word itself;
//! * [wakes](Parker::wake) it, for what this worker alone can do;
//! * [wakes one](Idle::wake_one) of all, for what anybody can do, if anybody is parked;
//! * [offers](Idle::offer) what some worker that is awake will most likely come to itself: see *Searching*.
//!
//! # Why no wake-up is lost
//!
//! A push and an announcement change the same word, so one of them comes first and the other sees it: the worker
//! does not park, or the pusher rings. Everything else lies in other places than the word, and so each side stores
//! in one place and then loads from the other:
//!
//! ```text
//!      the worker                            a waker
//!      parked += 1, word = PARKED            queue = work
//!      fence                                 fence
//!      is there work in the queue?           is parked > 0, is the word PARKED?
//! ```
//!
//! Without the fences both could load before the other's store arrives, each find nothing, and the work would lie
//! there beside a worker that sleeps. Both fences are sequentially consistent, so one comes before the other, and
//! the side of the later one sees what was stored before the earlier. What lies behind a lock would need none: of
//! two who lock it one comes first. No other access needs to be more than relaxed, but for those of the word, which
//! hand over nodes. Models leave out either fence and find the
//! work lost.
//!
//! # Who may skip the bell
//!
//! To ring is a system call, and so is the wait that it ends. So nobody rings for a worker that is awake, and of all
//! who come to one that is parked, only the one that changes its word from parked. Nor does anybody look at the words
//! while the count of the parked is zero. A runtime with one worker keeps no count: nobody can take from another.
//!
//! # Searching
//!
//! A coroutine that is spawned on a worker with nothing else to begin is nearly always begun there, at its spawner's
//! next wait, so nobody is woken for it. But its spawner may compute for seconds. Therefore a worker that parks while
//! another is awake does so for 1 ms, then 2, and so on up to 16 ms, and searches all queues in between. If all that
//! are parked do so for good, as after a quiet spell, the offer tells one of them to search: it is woken, and
//! does not park for longer than 16 ms before it has looked once more. If two tell the same one at a time, the flag
//! of one may be lost and its ring is not: the other has looked then, as it was to, and may be told again.
//!
//! # Rings that are owed
//!
//! A waker that has to ring looks at the bell after it has changed the word, when the worker may have run what was
//! pushed, and ended. So the worker counts: each sleep that somebody ended owes it a ring, as it learns when it takes
//! the inbox. It lets inbox and bell go only when it has heard as many rings as it is owed
//! ([`Sleeper::hear_rings`]): ringing is the last that anybody does with either.
//!
//! # Rejected
//!
//! * *To wake somebody for each new coroutine.* Most are begun by their spawner before another thread could be awake,
//!   and the system calls cost more than most coroutines run for.
//! * *Nobody who searches.* A child then waited for as long as its spawner computed.
//! * *A time until which a sleeper promises to look again.* The spawner would have to read the clock to compare it;
//!   to count those who search costs it a load.
//! * *Always to park at once.* Two coroutines on different workers that answer each other put both workers to sleep
//!   at each message, at some five microseconds a time.
//! * *One bell for all.* Each ring would wake everybody, of whom one finds something.
//! * *A mutex and a condition variable.* A worker waits for its descriptors too, which no condition variable knows.

use std::{
    cell::Cell,
    hint::spin_loop,
    io,
    sync::atomic::AtomicBool,
    time::{Duration, Instant},
};

use crate::{
    inbox::Inbox,
    loom::{AtomicUsize, Ordering, fence},
    sys::{event::Bell, list::Handle},
};

/// Looks at the inbox before a worker parks after all; about ten microseconds.
const LOOKS: u32 = 300;

/// After so many spins in vain a worker parks at once, until a short sleep lets it spin again.
const MOST_SPINS: u32 = 3;

/// A sleep that another thread ended within this would better not have begun: to park and to be woken takes some
/// five microseconds of each side.
const SHORT_SLEEP: Duration = Duration::from_micros(20);

/// How soon a parked worker searches for work that its spawner does not come to, while others are awake; doubled
/// each time it finds none, up to sixteen times this.
const FIRST_SEARCH: Duration = Duration::from_millis(1);
const MOST_DOUBLINGS: u32 = 4;

/// A worker's bed as others see it: where they leave woken coroutines, and what they ring.
pub(crate) struct Parker<H: Handle> {
    inbox: Inbox<H>,
    bell: Bell,
    /// Whether it was woken to search for work that others may not come to.
    must_search: AtomicBool,
}

impl<H: Handle> Parker<H> {
    pub(crate) fn new() -> io::Result<Self> {
        Ok(Self {
            inbox: Inbox::new(),
            bell: Bell::new()?,
            must_search: AtomicBool::new(false),
        })
    }

    pub(crate) fn bell(&self) -> &Bell {
        &self.bell
    }

    /// Gives the worker a node, which it does not end before it has taken.
    pub(crate) fn send(&self, handle: H) {
        if self.inbox.push(handle) {
            // Still there: see "Rings that are owed".
            self.bell.ring();
        }
    }

    /// Wakes the worker, for what the caller has published before; false if it is awake, or about to be.
    pub(crate) fn wake(&self) -> bool {
        order_work_before_look();
        self.unpark()
    }

    /// Ends the worker's sleep; false if it is awake, or about to be.
    fn unpark(&self) -> bool {
        let was_parked = self.inbox.nudge();
        if was_parked {
            self.bell.ring();
        }
        was_parked
    }

    /// Has the worker search once it is awake; false if it is not parked.
    fn send_to_search(&self) -> bool {
        self.must_search.store(true, Ordering::Relaxed);
        let was_parked = self.unpark();
        if !was_parked {
            self.must_search.store(false, Ordering::Relaxed);
        }
        was_parked
    }

    /// Owner: whether nobody has sent it anything, at a glance.
    #[inline]
    pub(crate) fn looks_empty(&self) -> bool {
        self.inbox.looks_empty()
    }

    /// Owner: from here on it has to be woken; false if there is something to take first. Of what is published where it
    /// looks after this, it sees the work, or the publisher sees the announcement.
    pub(crate) fn announce(&self) -> bool {
        let announced = self.inbox.park();
        order_announcement_before_look();
        announced
    }
}

/// Between the announcement of a sleep and the last look for work.
fn order_announcement_before_look() {
    #[cfg(all(test, loom))]
    if loom_models::leaves_out(loom_models::Side::Worker) {
        return;
    }
    fence(Ordering::SeqCst);
}

/// Between the publication of work and the look for sleepers.
#[inline]
fn order_work_before_look() {
    #[cfg(all(test, loom))]
    if loom_models::leaves_out(loom_models::Side::Waker) {
        return;
    }
    fence(Ordering::SeqCst);
}

/// What a worker itself remembers of its sleeps; for its thread alone.
#[derive(Default)]
pub(crate) struct Sleeper {
    /// How often in a row it has searched in vain.
    searches: Cell<u32>,
    /// How often it may spin before it parks.
    spins: Cell<u32>,
    /// Sleeps that another thread has ended, each of which rings the bell once.
    rings_owed: Cell<u64>,
}

impl Sleeper {
    /// Takes all that was sent, oldest first. The worker is awake from here on.
    pub(crate) fn take<H: Handle>(&self, parker: &Parker<H>, each: impl FnMut(H)) {
        if parker.inbox.take(each) {
            self.rings_owed.set(self.rings_owed.get() + 1);
        }
    }

    /// Waits for something to be sent, without a system call, where it has come that fast lately: two coroutines
    /// on different workers that answer each other need none then. True if something came.
    pub(crate) fn spin<H: Handle>(&self, parker: &Parker<H>) -> bool {
        let spins = self.spins.get();
        if spins == 0 {
            return false;
        }
        for _ in 0..LOOKS {
            if !parker.looks_empty() {
                self.spins.set(MOST_SPINS);
                return true;
            }
            spin_loop();
        }
        self.spins.set(spins - 1);
        false
    }

    /// Notes how long it slept before something was sent.
    pub(crate) fn note_sleep(&self, slept: Duration) {
        if slept < SHORT_SLEEP {
            self.spins.set(MOST_SPINS);
        }
    }

    /// Notes that it has found something to steal.
    pub(crate) fn note_found(&self) {
        self.searches.set(0);
    }

    /// Whether it has slept since it last found something to steal: what others were offered they have had time
    /// to come to.
    pub(crate) fn has_searched(&self) -> bool {
        self.searches.get() != 0
    }

    /// When to search again; `None` if others can be relied on to wake it.
    fn search_in<H: Handle>(&self, parker: &Parker<H>, others_awake: bool) -> Option<Duration> {
        if parker.must_search.swap(false, Ordering::Relaxed) {
            self.searches.set(MOST_DOUBLINGS);
        } else if !others_awake {
            return None;
        }
        let searches = self.searches.get();
        self.searches.set((searches + 1).min(MOST_DOUBLINGS));
        Some(FIRST_SEARCH * 2u32.pow(searches))
    }

    /// Waits for those who have woken the worker and are about to ring its bell, which until then they look at.
    ///
    /// Between their push and their ring they may be held up for any time, by the kernel or a debugger: false if
    /// that is not over by `until`, and then the parker has to stay for good.
    pub(crate) fn hear_rings<H: Handle>(
        &self,
        parker: &Parker<H>,
        until: Instant,
        now: impl Fn() -> Instant,
    ) -> bool {
        let heard = parker.bell.has_rung(self.rings_owed.get(), until, now);
        heard.is_ok_and(|heard| heard)
    }
}

/// One runtime's idle workers, counted. Where there is but one worker nothing is.
pub(crate) struct Idle {
    workers: usize,
    /// Workers that are parked, or about to be.
    parked: AtomicUsize,
    /// Those of them that will search by themselves in milliseconds.
    searching: AtomicUsize,
}

impl Idle {
    pub(crate) fn new(workers: usize) -> Self {
        Self {
            workers,
            parked: AtomicUsize::new(0),
            searching: AtomicUsize::new(0),
        }
    }

    /// Whether anybody could be woken.
    #[inline]
    pub(crate) fn any_parked(&self) -> bool {
        self.parked.load(Ordering::Relaxed) > 0
    }

    /// Wakes a worker that is parked, if there is one, for what the caller has published before.
    #[inline]
    pub(crate) fn wake_one<'a, H: Handle + 'a>(
        &self,
        parkers: impl Iterator<Item = &'a Parker<H>>,
    ) {
        order_work_before_look();
        if self.workers == 1 || self.any_parked() {
            unpark_first(parkers);
        }
    }

    /// Tells of work that a worker which is awake will most likely come to itself: nobody is woken for it now, as by
    /// [`wake_one`](Self::wake_one), but another worker looks some milliseconds later, in case it is still there.
    #[inline]
    pub(crate) fn offer<'a, H: Handle + 'a>(&self, parkers: impl Iterator<Item = &'a Parker<H>>) {
        order_work_before_look();
        if self.any_parked() && self.searching.load(Ordering::Relaxed) == 0 {
            send_first_to_search(parkers);
        }
    }

    /// Sleeps, unless `has_work` finds something: `wait` waits in the kernel until the worker's bell rings, or
    /// whatever else it waits for comes, or the given time has passed.
    #[inline]
    pub(crate) fn sleep<H: Handle>(
        &self,
        parker: &Parker<H>,
        sleeper: &Sleeper,
        has_work: impl FnOnce() -> bool,
        wait: impl FnOnce(Option<Duration>),
    ) {
        if self.workers == 1 {
            if parker.announce() && !has_work() {
                wait(None);
            }
            return;
        }
        let parked = self.parked.fetch_add(1, Ordering::Relaxed) + 1;
        if parker.announce() && !has_work() {
            match sleeper.search_in(parker, parked < self.workers) {
                None => wait(None),
                within => {
                    self.searching.fetch_add(1, Ordering::Relaxed);
                    wait(within);
                    self.searching.fetch_sub(1, Ordering::Relaxed);
                }
            }
        }
        self.parked.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cold]
fn unpark_first<'a, H: Handle + 'a>(mut parkers: impl Iterator<Item = &'a Parker<H>>) {
    _ = parkers.any(Parker::unpark);
}

#[cold]
fn send_first_to_search<'a, H: Handle + 'a>(mut parkers: impl Iterator<Item = &'a Parker<H>>) {
    _ = parkers.any(Parker::send_to_search);
}

#[cfg(all(test, loom))]
mod loom_models {
    use loom::{sync::Arc, thread::spawn};

    use super::*;
    use crate::{
        loom::{AtomicBool, AtomicPtr, yield_now},
        scheduler::now,
        sys::list::Chained,
    };

    /// Whose fence a model leaves out, to see that it is missed.
    #[derive(Clone, Copy, PartialEq, Eq)]
    pub(super) enum Side {
        Worker,
        Waker,
    }

    std::thread_local! {
        // The threads of a model are coroutines of the test's.
        static LEFT_OUT: Cell<Option<Side>> = const { Cell::new(None) };
    }

    pub(super) fn leaves_out(side: Side) -> bool {
        LEFT_OUT.get() == Some(side)
    }

    /// Nobody is sent here.
    enum Nobody {}

    impl Chained for Nobody {
        fn next(&self) -> &AtomicPtr<Self> {
            match *self {}
        }
    }

    /// Two workers, one of which goes to sleep, and a queue.
    struct Two {
        idle: Idle,
        parkers: [Parker<Box<Nobody>>; 2],
        queue: AtomicBool,
        /// Each that had to wake a sleeper has done so.
        is_over: AtomicBool,
    }

    /// How the one that went to sleep fared.
    #[derive(Clone, Copy, PartialEq, Eq)]
    enum Slept {
        /// It found the work.
        Not,
        /// Until it is woken, or for so long.
        Waits(Option<Duration>),
    }

    impl Two {
        fn new() -> Arc<Self> {
            Arc::new(Self {
                idle: Idle::new(2),
                parkers: [Parker::new().unwrap(), Parker::new().unwrap()],
                queue: AtomicBool::new(false),
                is_over: AtomicBool::new(false),
            })
        }

        /// The first worker's way to bed.
        fn sleep(&self) -> Slept {
            let mut slept = Slept::Not;
            self.idle.sleep(
                &self.parkers[0],
                &Sleeper::default(),
                || self.queue.load(Ordering::Relaxed),
                |within| {
                    slept = Slept::Waits(within);
                    while !self.is_over.load(Ordering::Acquire) {
                        yield_now();
                    }
                },
            );
            slept
        }

        fn has_rung(&self) -> bool {
            self.parkers[0].bell.has_rung(1, now(), now).unwrap()
        }
    }

    /// Runs `publish` on the other worker meanwhile; what became of the first, and whether its bell rang.
    fn beside(publish: fn(&Two), holds: impl Fn(Slept, bool) + Send + Sync + Copy + 'static) {
        loom::model(move || {
            let two = Two::new();
            let theirs = two.clone();
            let sleeper = spawn(move || theirs.sleep());
            two.queue.store(true, Ordering::Relaxed);
            publish(&two);
            two.is_over.store(true, Ordering::Release);
            let slept = sleeper.join().unwrap();
            holds(slept, two.has_rung());
        });
    }

    fn wake_one(two: &Two) {
        two.idle.wake_one(two.parkers.iter());
    }

    fn wake(two: &Two) {
        two.parkers[0].wake();
    }

    fn finds_it_or_is_woken(slept: Slept, rung: bool) {
        assert!(slept == Slept::Not || rung);
    }

    #[test]
    fn loom_work_for_anybody_is_found_by_the_one_that_goes_to_sleep_or_wakes_it() {
        beside(wake_one, finds_it_or_is_woken);
    }

    #[test]
    fn loom_work_for_one_worker_is_found_as_it_goes_to_sleep_or_wakes_it() {
        beside(wake, finds_it_or_is_woken);
    }

    #[test]
    #[should_panic(expected = "slept == Slept::Not")]
    fn loom_without_the_workers_fence_work_for_one_is_lost() {
        LEFT_OUT.set(Some(Side::Worker));
        beside(wake, finds_it_or_is_woken);
    }

    #[test]
    #[should_panic(expected = "slept == Slept::Not")]
    fn loom_without_the_wakers_fence_work_for_one_is_lost() {
        LEFT_OUT.set(Some(Side::Waker));
        beside(wake, finds_it_or_is_woken);
    }

    #[test]
    #[should_panic(expected = "slept == Slept::Not")]
    fn loom_without_the_workers_fence_work_for_anybody_is_lost() {
        LEFT_OUT.set(Some(Side::Worker));
        beside(wake_one, finds_it_or_is_woken);
    }

    #[test]
    #[should_panic(expected = "slept == Slept::Not")]
    fn loom_without_the_wakers_fence_work_for_anybody_is_lost() {
        LEFT_OUT.set(Some(Side::Waker));
        beside(wake_one, finds_it_or_is_woken);
    }

    /// The spawner was asleep too, and may have been counted when the other fell asleep.
    #[test]
    fn loom_of_all_who_sleep_when_something_is_offered_one_will_search() {
        loom::model(|| {
            let two = Two::new();
            two.idle.parked.store(1, Ordering::Relaxed);
            let theirs = two.clone();
            let sleeper = spawn(move || theirs.sleep());
            two.idle.parked.fetch_sub(1, Ordering::Relaxed);
            two.queue.store(true, Ordering::Relaxed);
            two.idle.offer(two.parkers.iter());
            two.is_over.store(true, Ordering::Release);
            let slept = sleeper.join().unwrap();
            assert!(slept != Slept::Waits(None) || two.has_rung());
        });
    }
}
