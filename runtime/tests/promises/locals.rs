//! Coroutine-local values: one for each coroutine, from its first use to its end, inherited on demand.

use std::{
    cell::{Cell, RefCell},
    panic::{AssertUnwindSafe, catch_unwind},
    rc::Rc,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
};

use maniple::{
    JoinError, Runtime, coroutine_local, group, spawn,
    sync::channel::{self, Sender},
    task::spawn_on_workers,
    yield_now,
};

use super::{LONG, on, plain_thread};

coroutine_local! {
    static COUNT: Cell<u32> = Cell::new(7);
    static NAMES: RefCell<Vec<u32>> = RefCell::default(), inherited;
    /// Need not be `Send`: it never leaves its coroutine.
    static SHARED: RefCell<Option<Rc<OnDrop>>> = const { RefCell::new(None) };
    static GUARD: RefCell<Option<OnDrop>> = const { RefCell::new(None) };
    static LATER: RefCell<Option<OnDrop>> = const { RefCell::new(None) }
}

/// Calls what it holds when it is dropped.
struct OnDrop(Box<dyn Fn()>);

impl Drop for OnDrop {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn each_coroutine_has_its_own_value_on_whichever_worker() {
    on(2, || {
        COUNT.set(1);
        let count = |_| {
            (0..50).for_each(|_| {
                COUNT.set(COUNT.get() + 1);
                yield_now();
            });
            COUNT.get()
        };
        let mut counters = spawn_on_workers(count);
        counters.extend((0..20).map(|index| maniple::spawn(move || count(index))));
        for counter in counters {
            assert_eq!(counter.join().unwrap(), 57);
        }
        assert_eq!(COUNT.replace(3), 1);
        assert_eq!((COUNT.take(), COUNT.get()), (3, 0));
    });
}

#[test]
fn each_plain_thread_has_its_own_value_and_drops_it_at_its_end() {
    COUNT.set(1);
    let (dropped, seen) = mpsc::channel();
    plain_thread(move || {
        assert_eq!(COUNT.get(), 7);
        GUARD.set(Some(OnDrop(Box::new(move || {
            dropped.send(COUNT.try_with(Cell::get).is_err()).unwrap();
        }))));
    })
    .join()
    .unwrap();
    assert!(seen.recv().unwrap(), "the others are going as well");
    assert_eq!(COUNT.get(), 1);
}

#[test]
fn a_value_is_made_at_its_first_use_and_not_where_it_is_only_set() {
    static MADE: AtomicUsize = AtomicUsize::new(0);
    coroutine_local! {
        static COUNTED: Cell<usize> = Cell::new(MADE.fetch_add(1, SeqCst));
    }
    on(1, || {
        maniple::spawn(|| ()).join().unwrap();
        maniple::spawn(|| COUNTED.set(5)).join().unwrap();
        assert_eq!(MADE.load(SeqCst), 0);
        assert_eq!((COUNTED.get(), COUNTED.get()), (0, 0));
        assert_eq!(MADE.load(SeqCst), 1);
    });
}

#[test]
fn an_inherited_value_is_the_spawners_as_it_was_when_it_spawned() {
    on(2, || {
        NAMES.with_borrow_mut(|names| names.push(1));
        let local = maniple::spawn_local(|| NAMES.take());
        let spawned = maniple::spawn(|| {
            NAMES.with_borrow_mut(|names| names.push(2));
            let grandchild = maniple::spawn(|| NAMES.take());
            (grandchild.join().unwrap(), NAMES.take())
        });
        NAMES.with_borrow_mut(|names| names.push(3));
        let child: Result<_, JoinError> = group(|g| g.spawn(|| NAMES.take()).join());
        assert_eq!(local.join().unwrap(), [1]);
        assert_eq!(spawned.join().unwrap(), (vec![1, 2], vec![1, 2]));
        assert_eq!(child.unwrap(), [1, 3]);
        assert_eq!(NAMES.take(), [1, 3]);
    });
}

#[test]
fn a_plain_thread_bequeaths_its_value_too() {
    NAMES.set(vec![4]);
    assert_eq!(on(1, || NAMES.take()), [4]);
    assert_eq!(NAMES.take(), [4]);
}

#[test]
fn a_clone_that_panics_does_so_in_the_spawner() {
    on(1, || {
        let spawning = maniple::spawn(|| {
            NAMES.with_borrow_mut(|_| drop(maniple::spawn(|| ())));
        });
        assert!(spawning.join().is_err_and(|error| error.is_panic()));
    });
}

#[test]
fn destructors_wait_on_the_coroutines_own_stack_before_it_ends() {
    on(1, || {
        let (sender, receiver) = channel::bounded::<u32>(1);
        let dropped = Arc::new(AtomicBool::new(false));
        let theirs = dropped.clone();
        let ending = maniple::spawn(move || {
            let me = maniple::current().unwrap().id();
            SHARED.set(Some(Rc::new(OnDrop(Box::new(move || {
                assert_eq!(maniple::current().unwrap().id(), me);
                assert_eq!(receiver.recv(), Ok(9));
                theirs.store(true, SeqCst);
            })))));
        });
        yield_now();
        yield_now();
        assert!(!ending.is_finished());
        sender.send(9).unwrap();
        ending.join().unwrap();
        assert!(dropped.load(SeqCst));
    });
}

#[test]
fn a_cancelled_or_panicked_coroutine_drops_its_values_and_their_waits_are_cut() {
    on(1, || {
        for cancelled in [true, false] {
            let dropped = Arc::new(AtomicUsize::new(0));
            let count = |waits: bool| {
                let dropped = dropped.clone();
                move || {
                    dropped.fetch_add(1, SeqCst);
                    if waits {
                        maniple::sleep(LONG);
                        dropped.fetch_add(10, SeqCst);
                    }
                }
            };
            let (waiting, plain) = (count(cancelled), count(false));
            let ending = maniple::spawn(move || {
                GUARD.set(Some(OnDrop(Box::new(plain))));
                LATER.set(Some(OnDrop(Box::new(waiting))));
                if cancelled {
                    maniple::park();
                }
                std::panic::resume_unwind(Box::new("on purpose"));
            });
            yield_now();
            ending.cancel();
            let error = ending.join().unwrap_err();
            assert_eq!(error.is_cancelled(), cancelled);
            assert_eq!(dropped.load(SeqCst), 2);
        }
    });
}

#[test]
fn a_destructors_panic_costs_neither_the_result_nor_the_other_values() {
    on(1, || {
        let (sender, receiver) = channel::bounded(1);
        let ending = maniple::spawn(move || {
            GUARD.set(Some(OnDrop(Box::new(move || sender.send(()).unwrap()))));
            LATER.set(Some(OnDrop(Box::new(|| {
                std::panic::resume_unwind(Box::new("on purpose"));
            }))));
            "kept"
        });
        assert_eq!(ending.join().unwrap(), "kept");
        assert_eq!(receiver.recv(), Ok(()));
    });
}

#[test]
fn destructors_reach_what_is_left_and_what_they_make_is_dropped_too() {
    on(1, || {
        let (sender, receiver) = channel::bounded(8);
        let say = |what: &'static str, sender: &Sender<&'static str>| {
            let sender = sender.clone();
            move || sender.send(what).unwrap()
        };
        let (made, sender) = (say("made while ending", &sender), sender);
        maniple::spawn(move || {
            COUNT.set(5);
            GUARD.set(Some(OnDrop(Box::new(move || {
                sender.send("first made").unwrap();
                assert!(LATER.try_with(|_| ()).is_err(), "dropped before");
                assert_eq!(COUNT.get(), 5);
                let made = made.clone();
                SHARED.set(Some(Rc::new(OnDrop(Box::new(made)))));
            }))));
            LATER.set(None);
        })
        .join()
        .unwrap();
        assert_eq!(
            receiver.iter().collect::<Vec<_>>(),
            ["first made", "made while ending"]
        );
    });
}

#[test]
fn what_was_inherited_goes_with_a_coroutine_that_never_ran() {
    coroutine_local! {
        static HELD: Arc<()> = Arc::new(()), inherited;
    }
    on(1, || {
        let held = HELD.with(Arc::clone);
        let unstarted = maniple::spawn(|| ());
        assert_eq!(Arc::strong_count(&held), 3);
        unstarted.cancel();
        assert!(unstarted.join().is_err());
        assert_eq!(Arc::strong_count(&held), 2);
    });
}

#[test]
fn who_is_spawned_without_locals_keeps_nothing_of_its_spawner() {
    coroutine_local! {
        static HELD: Arc<()> = Arc::new(()), inherited;
    }
    on(1, || {
        let held = HELD.with(Arc::clone);
        let builder = || maniple::task::Builder::new().without_locals();
        let own = |held: &Arc<()>| HELD.with(|own| !Arc::ptr_eq(own, held));
        let (first, second) = (held.clone(), held.clone());
        let services = [
            builder().spawn(move || own(&first)).unwrap(),
            builder().spawn_local(move || own(&second)).unwrap(),
        ];
        assert_eq!(Arc::strong_count(&held), 4);
        assert_eq!(services.map(|service| service.join().unwrap()), [true; 2]);
        assert_eq!(Arc::strong_count(&held), 2);
    });
}

#[test]
fn a_value_that_an_unjoined_result_makes_belongs_to_the_last_of_coroutine_and_handle() {
    on(2, || {
        for ends_first in [true, false] {
            let (dropped, seen) = channel::bounded(1);
            let (go, wait) = channel::bounded::<()>(1);
            let tell = move || {
                let me = maniple::current().map(|me| me.id());
                dropped.send(me).unwrap();
            };
            let detached = maniple::spawn(move || {
                wait.recv().unwrap();
                OnDropSend(Box::new(move || {
                    let tell = tell.clone();
                    SHARED.set(Some(Rc::new(OnDrop(Box::new(tell)))));
                }))
            });
            let id = detached.id();
            if ends_first {
                go.send(()).unwrap();
                while !detached.is_finished() {
                    yield_now();
                }
                let dropper = maniple::spawn(move || drop(detached));
                let its_own = dropper.id();
                dropper.join().unwrap();
                assert_eq!(seen.recv(), Ok(Some(its_own)));
            } else {
                drop(detached);
                go.send(()).unwrap();
                assert_eq!(seen.recv(), Ok(Some(id)));
            }
        }
    });
}

struct OnDropSend(Box<dyn Fn() + Send>);

impl Drop for OnDropSend {
    fn drop(&mut self) {
        (self.0)();
    }
}

#[test]
fn a_spawn_that_cannot_clone_what_is_inherited_leaves_its_stack() {
    /// Is not to be cloned.
    struct Single;
    impl Clone for Single {
        fn clone(&self) -> Self {
            panic!("there is one");
        }
    }
    coroutine_local! { static SINGLE: Single = Single, inherited; }
    const STACKS: usize = 4;

    let runtime = Runtime::builder()
        .workers(1)
        .max_coroutines(STACKS)
        .build()
        .unwrap();
    runtime.run(|| {
        for _ in 0..2 * STACKS {
            spawn(|| {
                SINGLE.with(|_| ());
                let fails = |spawn: &dyn Fn()| {
                    let caught = catch_unwind(AssertUnwindSafe(spawn));
                    assert_eq!(caught.unwrap_err().downcast_ref(), Some(&"there is one"));
                };
                let builder = maniple::task::Builder::new;
                fails(&|| drop(builder().spawn(|| ())));
                fails(&|| drop(builder().spawn_local(|| ())));
                fails(&|| {
                    let _: Result<(), ()> = maniple::group(|g| {
                        drop(g.builder().spawn(|| ()));
                        Ok(())
                    });
                });
            })
            .join()
            .unwrap();
        }
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_look_makes_no_value_and_leaves_none_to_children() {
    coroutine_local! {
        static MADE: RefCell<u32> = { MAKINGS.fetch_add(1, SeqCst); RefCell::new(7) }, inherited;
    }
    static MAKINGS: AtomicUsize = AtomicUsize::new(0);
    let look = || MADE.with_made(|value| *value.borrow());
    on(1, || {
        assert_eq!(look(), None);
        assert_eq!(spawn(look).join().unwrap(), None);
        assert_eq!(MAKINGS.load(SeqCst), 0);
        MADE.set(8);
        assert_eq!((look(), spawn(look).join().unwrap()), (Some(8), Some(8)));
        assert_eq!(MAKINGS.load(SeqCst), 0, "it was set");
    });
}

#[test]
fn a_look_after_the_end_finds_nothing() {
    coroutine_local! {
        static FIRST: Cell<u32> = Cell::new(1);
    }
    let seen = Arc::new(AtomicUsize::new(9));
    let told = seen.clone();
    on(1, || {
        spawn(move || {
            // The youngest is dropped first: this one when the other is gone.
            GUARD.with_borrow_mut(|guard| {
                *guard = Some(OnDrop(Box::new(move || {
                    told.store(FIRST.with_made(Cell::get).map_or(0, |n| n as usize), SeqCst);
                })));
            });
            FIRST.set(3);
        })
        .join()
        .unwrap();
    });
    assert_eq!(seen.load(SeqCst), 0);
}
