//! Faults that there once were, put in again: a simulated world finds each within a thousand seeds.

use std::{sync::Arc, time::Duration};

use maniple::{
    cancel::{CancelToken, shield},
    sim::{self, Planted, World},
    sync::{Mutex, Notify, Semaphore},
};

const SEEDS: u64 = 1000;

/// The first seed that fails with the fault.
fn first_failure(
    fault: Planted,
    scenario: impl Fn(&World) + Copy + Send + 'static,
) -> Option<sim::Failure> {
    let with_fault = |seed| {
        let planted = move |world: &World| {
            sim::plant(fault);
            scenario(world);
        };
        sim::run(seed, planted).err()
    };
    (0..SEEDS).find_map(with_fault)
}

/// How the first seed fails with the fault; without it none does.
fn found(fault: Planted, scenario: impl Fn(&World) + Copy + Send + Sync + 'static) -> String {
    let failure = first_failure(fault, scenario);
    let failure = failure.expect("the fault is found");
    println!("found by {failure}");
    sim::check(0..SEEDS, scenario);
    failure.what().to_owned()
}

fn micros(world: &World) -> Duration {
    Duration::from_micros(world.draw(1..100))
}

/// One waits in a destructor, while a cancellation unwinds it; meanwhile another's sleep is to be cut short.
fn cut_short_beside_one_that_unwinds(world: &World) {
    struct Waits(Duration);
    impl Drop for Waits {
        fn drop(&mut self) {
            shield(|| maniple::sleep(self.0));
        }
    }
    let [cleans_up, patience, longer] = [(); 3].map(|()| micros(world));
    let token = CancelToken::new();
    let cut = token.clone();
    let unwinds = maniple::spawn(move || {
        _ = cut.run(|| {
            let _waits = Waits(cleans_up);
            maniple::park();
        });
    });
    maniple::sleep(micros(world));
    token.cancel();
    let neighbour = maniple::spawn(move || {
        // What would be asserted in here would be a second panic, with the fault.
        maniple::timeout(patience, || maniple::sleep(patience + longer)).is_err()
    });
    let was_cut = neighbour.join();
    unwinds.join().unwrap();
    assert!(was_cut.unwrap(), "a sleep that is too long is cut short");
}

#[test]
fn a_neighbour_that_is_taken_for_unwinding_is_found() {
    let what = found(
        Planted::PanicsStayWithTheThread,
        cut_short_beside_one_that_unwinds,
    );
    assert!(what.contains("is cut short"), "{what}");
}

/// Who looks, and then waits to be told, is told in between.
fn look_and_wait(world: &World) {
    let (letters, news) = (Mutex::new(0), Notify::new());
    let takes_one = || {
        let mut letters = letters.lock();
        let is_there = *letters > 0;
        *letters -= u32::from(is_there);
        is_there
    };
    maniple::join!(
        for _ in 0..3 {
            while !takes_one() {
                sim::point();
                news.notified();
            }
        },
        for _ in 0..3 {
            match world.draw(0..2) {
                0 => maniple::sleep(micros(world)),
                _ => sim::point(),
            }
            *letters.lock() += 1;
            news.notify_one();
        }
    );
}

#[test]
fn a_wake_up_that_is_lost_is_found() {
    let what = found(Planted::ForgetsNotifications, look_and_wait);
    assert!(what.contains("deadlock"), "{what}");
}

/// A closure that gets no stack owns what locks a mutex when it is dropped, and that is held meanwhile.
fn drop_what_got_no_stack(world: &World) {
    struct Locks(Arc<Mutex<u32>>);
    impl Drop for Locks {
        fn drop(&mut self) {
            *self.0.lock() += 1;
        }
    }
    let count = Arc::new(Mutex::new(0));
    let theirs = count.clone();
    let time = micros(world);
    let holds = maniple::spawn(move || {
        let _count = theirs.lock();
        maniple::sleep(time);
    });
    maniple::sleep(micros(world));
    let shortage = world.shortage("scenario").stacks(0.3);
    let owned = Locks(count.clone());
    let ran = maniple::spawn(move || drop(owned)).join();
    sim::sometimes!(ran.is_err());
    drop(shortage);
    holds.join().unwrap();
    assert_eq!(*count.lock(), 1);
}

#[test]
fn what_waits_on_the_worker_itself_is_found() {
    let what = found(Planted::DropsOnTheWorker, drop_what_got_no_stack);
    assert!(what.contains("on the worker"), "{what}");
}

/// A large request waits, a small one waits behind it, and the large one may be given up.
fn give_up(cuts: bool) -> impl Fn(&World) + Copy + Send + Sync + 'static {
    move |world| {
        let hour = Duration::from_secs(3600);
        let permits = Semaphore::new(2);
        let held = permits.acquire();
        let large = || drop(permits.acquire_many(2));
        let (was_cut, waited, ()) = maniple::join!(
            match cuts {
                true => sim::cut(large).is_err() || world.now() < hour,
                false => (large(), false).1,
            },
            {
                drop(permits.acquire());
                world.now()
            },
            {
                maniple::sleep(hour);
                drop(held);
            }
        );
        sim::sometimes!(was_cut || !cuts);
        sim::always!(
            !was_cut || waited < hour,
            "a small request waits for nobody"
        );
    }
}

#[test]
fn a_queue_that_is_left_without_a_word_is_found_by_cuts_alone() {
    let fault = Planted::LeavesWithoutAWord;
    assert!(first_failure(fault, give_up(false)).is_none());
    let what = found(fault, give_up(true));
    assert!(what.contains("waits for nobody"), "{what}");
}
