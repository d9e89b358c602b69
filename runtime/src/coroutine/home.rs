//! Home: a worker's own side of its coroutines: how they begin, have their turns and end, on its thread.

use std::{io, ops::Deref, sync::Arc, sync::atomic::Ordering};

use super::{
    begun::{Ended, Here, Ready, Rest, Still, Timed},
    ending,
    gate::Looks,
    remote::Remote,
    task::{OwnStage, Won},
    timed::take_timer_back,
    unstarted::{Refused, Unstarted},
};
use crate::{idle::Sleeper, stack::Stack, waiter::Claimed, wheel::Key};

/// This file, by which its frames are known in a backtrace.
pub(super) const FILE: &str = file!();

/// A worker's own side: what other threads see of it, and the coroutines that have begun here and not ended.
pub(crate) struct Home(Here);

/// What a home's worker does around a turn.
pub(crate) trait Host {
    /// Notes what is wanted of a turn that is over.
    fn look(&self, task: &Still<'_>, looks: Looks, ended: bool);
    /// Takes the stack of a coroutine that has ended.
    fn take_stack(&self, stack: Stack);
    /// Takes a timer out.
    fn disarm(&self, timer: Key) -> Option<Timed>;
    /// Puts a claimed waiter where it will be resumed.
    fn ready(&self, claimed: Claimed);
}

impl Deref for Home {
    type Target = Remote;

    #[inline]
    fn deref(&self) -> &Remote {
        self.0.remote()
    }
}

impl Home {
    /// # Panics
    /// If this thread is a home already, or the remote that of another.
    pub(crate) fn new(remote: Arc<Remote>) -> Self {
        Self(Here::new(remote))
    }

    pub(crate) fn remote(&self) -> &Arc<Remote> {
        self.0.remote()
    }

    /// Binds a task to this thread, and to the stack that was reserved for it or else to this.
    #[inline]
    pub(crate) fn begin(&self, task: Unstarted, stack: Option<Stack>) -> Ready {
        let reserved = task.header().engine.take_reserved();
        let stack = reserved.or(stack).expect("a task is started with a stack");
        self.bind(task, stack, |stage| ending::run(&stage))
    }

    /// Begins a coroutine, like [`begin`](Self::begin), that drops its closure and its locals and then ends. `told`
    /// gets an error that nobody will ask for, on that coroutine.
    pub(crate) fn begin_refused(&self, task: Refused, stack: Stack, told: fn(io::Error)) -> Ready {
        let (task, failure) = task.into_parts();
        task.header().is_refused.set(true);
        self.bind(task, stack, move |stage| {
            stage.fail(failure);
            ending::finish(&stage, told);
        })
    }

    #[inline(always)]
    fn bind(&self, task: Unstarted, stack: Stack, body: impl FnOnce(OwnStage) + 'static) -> Ready {
        let begun = self.0.begin(task, stack, body);
        let count = &self.live;
        count.store(count.load(Ordering::Relaxed) + 1, Ordering::Relaxed);
        begun
    }

    /// Runs a coroutine until it suspends or ends. If it has ended, publishes that: wakes who joins it, leaves its
    /// group, drops the runtime's reference.
    ///
    /// Always inlined, for the reason that `scheduler::suspend` gives.
    #[inline(always)]
    pub(crate) fn resume(&self, next: Ready, host: &impl Host) {
        let look = move |task: &Still<'_>, looks, ended| host.look(task, looks, ended);
        if let Some(ended) = self.0.turn(next, look) {
            self.end(ended, host);
        }
    }

    /// The end of a coroutine, after its last turn.
    #[inline]
    fn end(&self, ended: Ended<'_>, host: &impl Host) {
        if let Some(stack) = ended.take_stack() {
            host.take_stack(stack);
        }
        let over = ended.go(|task| take_timer_back(task, |key| host.disarm(key)));
        let count = &self.live;
        count.store(count.load(Ordering::Relaxed) - 1, Ordering::Relaxed);
        ending::complete(over, |claimed| host.ready(claimed));
    }

    /// Whether nothing that has begun here is left.
    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Calls `look` while nothing runs; meanwhile nothing can be resumed.
    ///
    /// # Panics
    /// If it is called by a coroutine, or within such a call.
    pub(crate) fn rest<R>(&self, look: impl FnOnce(&Rest<'_>) -> R) -> R {
        self.0.rest(look)
    }

    /// The coroutine whose wait was won, if it is one of these; others are sent to their homes, and threads woken.
    #[inline]
    pub(crate) fn take_in(&self, claimed: Claimed) -> Option<Ready> {
        self.0.take_in(Won::of(claimed)?).map_err(Won::send).ok()
    }

    /// Takes all that others have sent here.
    pub(crate) fn take_sent(&self, sleeper: &Sleeper, each: impl FnMut(Ready)) {
        self.0.take_sent(sleeper, each);
    }
}

/// Wakes the one whose wait was won, from a thread that is no worker.
pub(crate) fn send_home(claimed: Claimed) {
    if let Some(task) = Won::of(claimed) {
        task.send();
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use std::{
        cell::{Cell, RefCell},
        mem::ManuallyDrop,
        panic::{AssertUnwindSafe, Location, catch_unwind},
        rc::Rc,
    };

    use super::{
        super::{
            begun::on_running,
            origin::{Origin, next_id},
            task::stage::make,
            timed::set_alarm,
        },
        *,
    };
    use crate::{
        config::Config,
        driver::{Registrar, Standby},
        idle::Parker,
        scheduler::now,
        stack::{child, slab::Slabs},
        waiter::Locals,
        wheel::Wheel,
    };

    /// What a home needs of its worker, for coroutines that never wait.
    struct Nobody;

    impl Host for Nobody {
        fn look(&self, _: &Still<'_>, _: Looks, _: bool) {}
        fn take_stack(&self, stack: Stack) {
            let _kept = ManuallyDrop::new(stack);
        }
        fn disarm(&self, _: Key) -> Option<Timed> {
            None
        }
        fn ready(&self, _: Claimed) {}
    }

    fn home() -> Home {
        let parker = Parker::new().unwrap();
        let standby = Standby::<Unstarted>::new(now).unwrap();
        let registrar = Registrar::new(parker.bell(), &standby).unwrap();
        Home::new(Arc::new(Remote::new(parker, registrar)))
    }

    fn begin(home: &Home, body: impl FnOnce() + 'static) -> Ready {
        let slabs = Slabs::new(Config::default().stack_limits()).unwrap();
        let class = slabs.default_class();
        let origin = Origin {
            id: next_id(),
            name: None,
            spawned_at: Location::caller(),
            class,
        };
        // SAFETY: it borrows nothing, and stays on this thread.
        let (task, handle) = unsafe { make(body, origin, None, None, Locals::new()) };
        assert!(handle.detach().is_none());
        home.begin(task, Some(slabs.acquire(class).unwrap()))
    }

    #[test]
    fn a_thread_is_one_home_and_free_again_after_it() {
        let first = home();
        assert!(catch_unwind(home).is_err(), "there is one");
        first.resume(begin(&first, || ()), &Nobody);
        drop(first);
        drop(home());
    }

    #[test]
    fn who_looks_at_coroutines_is_none_and_does_so_once_at_a_time() {
        let home = Rc::new(home());
        let rests = |home: &Home| catch_unwind(AssertUnwindSafe(|| home.rest(|_| ()))).is_ok();
        assert!(home.rest(|_| !rests(&home)) && rests(&home));
        let (theirs, seen) = (home.clone(), Rc::new(Cell::new(true)));
        let saw = seen.clone();
        home.resume(begin(&home, move || saw.set(rests(&theirs))), &Nobody);
        assert!(!seen.get() && rests(&home));
    }

    fn ends_the_process(test: &str, why: &str, body: fn(Home)) {
        let said = child::run(module_path!(), test, || body(home())).by_signal(libc::SIGABRT);
        assert!(said.contains(why), "{said}");
    }

    /// Two would then run on one thread, and the wrong one be suspended.
    #[test]
    fn to_resume_one_in_the_turn_of_another_ends_the_process() {
        let test = "to_resume_one_in_the_turn_of_another_ends_the_process";
        ends_the_process(test, "was to be resumed by another", |home| {
            let home = Rc::new(home);
            let (theirs, second) = (home.clone(), begin(&home, || ()));
            let first = begin(&home, move || theirs.resume(second, &Nobody));
            home.resume(first, &Nobody);
        });
    }

    #[test]
    fn to_resume_one_while_they_are_looked_at_ends_the_process() {
        let test = "to_resume_one_while_they_are_looked_at_ends_the_process";
        ends_the_process(test, "while its worker looks at them", |home| {
            let next = begin(&home, || ());
            home.rest(|_| home.resume(next, &Nobody));
        });
    }

    #[test]
    fn a_home_that_goes_before_its_coroutines_ends_the_process() {
        let test = "a_home_that_goes_before_its_coroutines_ends_the_process";
        ends_the_process(test, "before its coroutines", |home| {
            let _never = begin(&home, || ());
        });
    }

    /// A coroutine that waits until these ticks in turn, for which its timer is armed for those beside them.
    fn arms(
        home: &Home,
        wheel: &Rc<RefCell<Wheel<Timed>>>,
        ticks: &'static [(u64, u64)],
        done: Rc<Cell<bool>>,
    ) -> Ready {
        let wheel = wheel.clone();
        begin(home, move || {
            for &(due, armed_for) in ticks {
                let insert = |due, timed| wheel.borrow_mut().insert(due, timed);
                let remove = |key| wheel.borrow_mut().remove(key);
                on_running(|own| {
                    let own = own.unwrap();
                    set_alarm(own, due, insert, remove);
                    let alarm = (own.alarm.due.get(), own.alarm.armed_for.get());
                    assert_eq!(alarm, (due, armed_for));
                });
                assert_eq!(wheel.borrow().len(), 1);
            }
            done.set(true);
        })
    }

    struct Keeper(Rc<RefCell<Wheel<Timed>>>);

    impl Host for Keeper {
        fn look(&self, _: &Still<'_>, _: Looks, _: bool) {}
        fn take_stack(&self, stack: Stack) {
            let _kept = ManuallyDrop::new(stack);
        }
        fn disarm(&self, key: Key) -> Option<Timed> {
            self.0.borrow_mut().remove(key)
        }
        fn ready(&self, _: Claimed) {}
    }

    #[test]
    fn a_timer_is_armed_anew_for_what_is_sooner_alone_and_goes_with_its_coroutine() {
        let (home, wheel) = (home(), Rc::new(RefCell::new(Wheel::new(0))));
        let done = Rc::new(Cell::new(false));
        let next = arms(&home, &wheel, &[(7, 7), (9, 7), (5, 5)], done.clone());
        home.resume(next, &Keeper(wheel.clone()));
        assert!(done.get() && home.is_empty() && wheel.borrow().is_empty());
    }

    /// Its turn could be queued all the same, and come after its end.
    #[test]
    fn a_coroutine_whose_next_turn_cannot_be_queued_ends_the_process() {
        let test = "a_coroutine_whose_next_turn_cannot_be_queued_ends_the_process";
        ends_the_process(test, "next turn was not queued", |home| {
            let next = begin(&home, || {
                on_running(|own| own.unwrap().give_way(|_next| panic!("no room")));
            });
            home.resume(next, &Nobody);
        });
    }

    /// Two would be known of one coroutine, and one of them taken back at its end.
    #[test]
    fn to_have_a_second_timer_ends_the_process() {
        let test = "to_have_a_second_timer_ends_the_process";
        ends_the_process(test, "timer is not where it was put", |home| {
            let next = begin(&home, || {
                on_running(|own| {
                    let _both = own.map(|own| (own.timer(), own.timer()));
                });
            });
            home.resume(next, &Nobody);
        });
    }

    /// Else it could fire for a coroutine that is gone.
    #[test]
    fn a_timer_that_its_coroutine_does_not_get_back_at_its_end_ends_the_process() {
        let test = "a_timer_that_its_coroutine_does_not_get_back_at_its_end_ends_the_process";
        ends_the_process(test, "timer is not where it was put", |home| {
            let next = begin(&home, || {
                let mut wheel = Wheel::new(0);
                let insert = |due, timed| wheel.insert(due, timed);
                on_running(|own| set_alarm(own.unwrap(), 7, insert, |_| None));
            });
            home.resume(next, &Nobody);
        });
    }
}
