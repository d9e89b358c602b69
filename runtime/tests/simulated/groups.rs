//! Groups and their policies: no child outlives its leader, whatever ends first.

use std::{
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    group,
    sim::{self, World},
};

/// Counts who is there, and is there no more once it is dropped.
struct Present<'a>(&'a AtomicUsize);

impl<'a> Present<'a> {
    fn among(count: &'a AtomicUsize) -> Self {
        count.fetch_add(1, Ordering::Relaxed);
        Self(count)
    }
}

impl Drop for Present<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

fn drawn_sleep(world: &World) {
    maniple::sleep(Duration::from_micros(world.draw(1..1000)));
}

#[test]
fn no_child_outlives_its_group_whatever_ends_it() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let patience = Duration::from_micros(world.draw(1..1500));
        let how = world.draw(0..3);
        let ended = maniple::timeout(patience, || {
            maniple::group(|g| {
                for _ in 0..3 {
                    g.spawn(|| {
                        let _present = Present::among(&present);
                        let _ = maniple::group(|g| {
                            g.spawn(|| {
                                let _present = Present::among(&present);
                                drawn_sleep(world);
                                maniple::cancel::shield(|| drawn_sleep(world));
                            });
                            Ok::<_, ()>(())
                        });
                    });
                }
                drawn_sleep(world);
                match how {
                    0 => Err("the leader fails"),
                    _ => Ok(()),
                }
            })
        });
        sim::sometimes!(ended.is_err());
        sim::sometimes!(matches!(ended, Ok(Ok(()))));
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_race_is_won_by_the_first_success_and_ends_the_others() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let times: Vec<u64> = (0..4).map(|_| world.draw(1..1000)).collect();
        let runners = times.iter().map(|&time| {
            let present = &present;
            move || {
                let _present = Present::among(present);
                maniple::sleep(Duration::from_micros(time));
                Ok::<_, ()>(time)
            }
        });
        let won = group::race(runners).unwrap();
        assert_eq!(Some(&won), times.iter().min());
        assert_eq!(
            world.now(),
            Duration::from_micros(won),
            "nobody waits for the others"
        );
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_map_has_no_more_at_work_than_it_may_and_keeps_the_order() {
    sim::check(sim::seeds(200), |world| {
        let present = AtomicUsize::new(0);
        let most = world.draw(1..5) as usize;
        let doubled = group::map(most, 0..12, |number| {
            let _present = Present::among(&present);
            sim::always!(present.load(Ordering::Relaxed) <= most);
            drawn_sleep(world);
            2 * number
        });
        assert_eq!(
            doubled,
            (0..12).map(|number| 2 * number).collect::<Vec<_>>()
        );
        assert_eq!(present.load(Ordering::Relaxed), 0);
    });
}

#[test]
fn a_host_that_crashes_takes_all_its_groups_along() {
    sim::check(sim::seeds(200), |world| {
        let present = Arc::new(AtomicUsize::new(0));
        let (theirs, own) = (present.clone(), world.clone());
        let host = world.host("host", move || {
            maniple::group(|g| {
                for _ in 0..3 {
                    g.spawn(|| {
                        let _present = Present::among(&theirs);
                        let theirs = theirs.clone();
                        // Of its own, and on this host all the same.
                        drop(maniple::spawn(move || {
                            let _present = Present::among(&theirs);
                            maniple::park();
                        }));
                        drawn_sleep(&own);
                        maniple::cancel::shield(|| drawn_sleep(&own));
                        maniple::park();
                    });
                }
                Ok::<_, ()>(())
            })
            .unwrap();
        });
        drawn_sleep(world);
        let before = present.load(Ordering::Relaxed);
        host.crash();
        assert_eq!(present.load(Ordering::Relaxed), 0, "of {before}");
        host.restart();
        world.advance(Duration::from_secs(1));
        assert_eq!(present.load(Ordering::Relaxed), 6);
    });
}
