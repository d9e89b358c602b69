//! Deadlines, cancellation, and the end of a runtime within its grace time.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, shield},
    sim,
    sync::{Mutex, channel},
    time,
};

const MILLI: Duration = Duration::from_millis(1);

#[test]
fn the_earlier_of_two_deadlines_ends_a_wait_at_its_very_time() {
    sim::check(sim::seeds(200), |world| {
        let outer = world.draw(1..2000) as u32 * MILLI / 100;
        let inner = world.draw(1..2000) as u32 * MILLI / 100;
        let begun = world.now();
        let ended = maniple::timeout(outer, || maniple::timeout(inner, maniple::park));
        assert_eq!(world.now() - begun, outer.min(inner));
        match inner < outer {
            true => assert!(matches!(ended, Ok(Err(_)))),
            false => assert!(ended.is_err() || outer == inner),
        }
    });
}

#[test]
fn a_cancelled_token_ends_all_that_wait_under_it_at_once_but_for_shields() {
    sim::check(sim::seeds(200), |world| {
        let token = CancelToken::new();
        let late = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..4)
            .map(|number| {
                let (token, late) = (token.clone(), late.clone());
                maniple::spawn(move || {
                    token.run(|| {
                        if number == 0 {
                            shield(|| maniple::sleep(10 * MILLI));
                            late.fetch_add(1, Ordering::Relaxed);
                        }
                        let (_sender, receiver) = channel::bounded::<()>(0);
                        match number % 2 {
                            0 => maniple::sleep(100 * MILLI),
                            _ => assert!(receiver.recv().is_err()),
                        }
                    })
                })
            })
            .collect();
        maniple::sleep(Duration::from_micros(world.draw(1..9000)));
        token.cancel();
        all.into_iter().for_each(|each| drop(each.join()));
        assert!(world.now() <= 10 * MILLI);
        sim::sometimes!(world.now() == 10 * MILLI);
        assert!(late.load(Ordering::Relaxed) <= 1);
    });
}

#[test]
fn a_lock_is_free_again_whenever_its_holder_is_cut_short() {
    sim::check(sim::seeds(200), |world| {
        let count = Arc::new(Mutex::new(0));
        let all: Vec<_> = (0..4)
            .map(|_| {
                let (count, world) = (count.clone(), world.clone());
                let patience = Duration::from_micros(world.draw(1..300));
                maniple::spawn(move || {
                    maniple::timeout(patience, || {
                        let mut count = count.lock();
                        maniple::sleep(Duration::from_micros(world.draw(1..200)));
                        *count += 1;
                    })
                    .is_ok()
                })
            })
            .collect();
        let whole = all
            .into_iter()
            .filter_map(|each| each.join().ok())
            .filter(|done| *done);
        assert_eq!(whole.count(), *count.try_lock().expect("nobody holds it"));
    });
}

#[test]
fn at_the_end_children_end_before_leaders_and_within_the_grace_time() {
    let ends = Arc::new(AtomicUsize::new(0));
    let theirs = ends.clone();
    sim::check(sim::seeds(200), move |world| {
        struct Last(Arc<AtomicUsize>, Arc<AtomicUsize>);
        impl Drop for Last {
            fn drop(&mut self) {
                assert_eq!(self.0.load(Ordering::Relaxed), 0, "children are gone");
                self.1.fetch_add(1, Ordering::Relaxed);
            }
        }
        let children = Arc::new(AtomicUsize::new(0));
        let last = Last(children.clone(), theirs.clone());
        let own = world.clone();
        drop(maniple::spawn(move || {
            let _last = last;
            maniple::group(|g| {
                for _ in 0..3 {
                    g.spawn(|| {
                        struct Child<'a>(&'a AtomicUsize, Duration);
                        impl Drop for Child<'_> {
                            fn drop(&mut self) {
                                shield(|| maniple::sleep(self.1));
                                self.0.fetch_sub(1, Ordering::Relaxed);
                            }
                        }
                        children.fetch_add(1, Ordering::Relaxed);
                        let slow = Duration::from_millis(own.draw(1..4000));
                        let _child = Child(&children, slow);
                        maniple::park();
                    });
                }
                Ok::<_, ()>(())
            })
        }));
        maniple::sleep(Duration::from_micros(world.draw(0..2)));
    });
    let seeds = std::env::var(sim::SEED_VARIABLE).map_or(sim::seeds(200).end as usize, |_| 1);
    assert_eq!(ends.load(Ordering::Relaxed), seeds);
}

#[test]
fn what_is_left_of_a_deadline_is_what_the_worlds_clock_says() {
    sim::check(sim::seeds(50), |world| {
        let whole = Duration::from_secs(world.draw(2..3600));
        maniple::timeout(whole, || {
            let gone = Duration::from_millis(world.draw(1..2000));
            maniple::sleep(gone);
            assert_eq!(time::remaining(), Some(whole - gone));
        })
        .unwrap();
    });
}
