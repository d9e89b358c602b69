//! What a scenario claims: always, sometimes, eventually, in the end; and places that take a rare way on purpose.

use std::{
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use maniple::{
    panics,
    sim::{self, World},
};

const SECOND: Duration = Duration::from_secs(1);

fn message_of(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let failed = std::panic::catch_unwind(check).expect_err("the check fails");
    panics::message(&*failed).unwrap().to_owned()
}

fn claims_at_seed_seven(world: &World) {
    if world.seed() == 7 {
        sim::sometimes!(true);
    }
}

fn claims_beyond_all_seeds(world: &World) {
    if world.seed() > 1_000_000 {
        sim::sometimes!(true);
    }
}

#[test]
fn what_holds_sometimes_and_no_seed_comes_by_is_noticed() {
    sim::check(0..10, |world| {
        if world.seed() == 3 {
            sim::sometimes!(true);
        }
    });
    let text = message_of(|| {
        sim::check(0..10, |world| {
            if world.seed() == 30 {
                sim::sometimes!(true);
            }
        });
    });
    assert!(
        text.contains("come by in no seed") && text.contains("claims.rs:"),
        "{text}"
    );
}

#[test]
fn it_is_noticed_also_where_the_claim_is_in_a_function_that_the_scenario_calls() {
    sim::check(0..10, claims_at_seed_seven);
    sim::check(0..10, |world| {
        maniple::yield_now();
        claims_at_seed_seven(world);
    });
    let text = message_of(|| sim::check(0..10, claims_beyond_all_seeds));
    assert!(text.contains("come by in no seed"), "{text}");
    let text = message_of(|| {
        sim::check_orders(0, claims_beyond_all_seeds);
    });
    assert!(text.contains("come by in no seed"), "{text}");
}

/// Counts each second up to ten.
fn count(count: &Arc<AtomicU64>) {
    let count = count.clone();
    drop(maniple::spawn(move || {
        for _ in 0..10 {
            maniple::sleep(SECOND);
            count.fetch_add(1, Ordering::Relaxed);
        }
    }));
}

#[test]
fn what_comes_to_hold_ends_the_wait_for_it_at_that_very_time() {
    sim::check(sim::seeds(50), |world| {
        let counted = Arc::new(AtomicU64::new(0));
        count(&counted);
        world.eventually(10 * SECOND, || counted.load(Ordering::Relaxed) == 4);
        assert_eq!(world.now(), 4 * SECOND);
        // At the last moment, too, and at once.
        world.eventually(6 * SECOND, || counted.load(Ordering::Relaxed) == 10);
        world.eventually(Duration::ZERO, || counted.load(Ordering::Relaxed) == 10);
        assert_eq!(world.now(), 10 * SECOND);
    });
}

#[test]
fn what_does_not_come_to_hold_fails_the_seed_once_its_time_is_over() {
    let failure = sim::run(0, |world| {
        let counted = Arc::new(AtomicU64::new(0));
        count(&counted);
        world.eventually(3 * SECOND, || counted.load(Ordering::Relaxed) == 4);
    });
    let failure = failure.unwrap_err();
    assert!(failure.what().contains("within 3s"), "{failure}");
    assert!(failure.what().contains("claims.rs:"), "{failure}");
    assert_eq!(failure.run().lasted(), 3 * SECOND);
}

#[test]
fn a_world_is_quiet_once_nobody_has_had_a_turn_for_so_long() {
    sim::check(sim::seeds(50), |world| {
        let counted = Arc::new(AtomicU64::new(0));
        count(&counted);
        world.quiet_for(5 * SECOND, 60 * SECOND);
        assert_eq!(world.now(), 15 * SECOND);
        // Nothing was going on.
        world.quiet_for(SECOND, Duration::ZERO);
        assert_eq!(world.now(), 16 * SECOND);
    });
}

#[test]
fn a_world_that_does_not_come_to_rest_fails_the_seed() {
    let failure = sim::run(0, |world| {
        drop(maniple::spawn(|| {
            loop {
                maniple::sleep(SECOND);
            }
        }));
        world.quiet_for(5 * SECOND, 60 * SECOND);
    });
    let failure = failure.unwrap_err();
    assert!(failure.what().contains("quiet for 5s"), "{failure}");
    assert_eq!(failure.run().lasted(), 61 * SECOND);
}

#[test]
fn what_waits_for_a_claim_can_be_cut_short() {
    sim::check(0..20, |world| {
        let cut = maniple::timeout(SECOND, || world.eventually(60 * SECOND, || false));
        assert!(cut.is_err());
        let cut = maniple::timeout(SECOND, || world.quiet_for(60 * SECOND, SECOND));
        assert!(cut.is_err());
        assert_eq!(world.now(), 2 * SECOND);
    });
}

fn rare() -> bool {
    sim::buggify!()
}

#[test]
fn a_rare_way_is_taken_in_some_worlds_now_and_then_and_never_outside() {
    assert!((0..1000).all(|_| !rare()));
    sim::check(0..100, |world| {
        let taken = (0..100).filter(|_| rare()).count();
        sim::sometimes!(taken == 0);
        sim::sometimes!(taken > 10);
        assert!(taken < 60, "in {} not always", world.seed());
    });
    // There every order is met, and nothing else is left to chance.
    sim::check_orders(0, |_| assert!((0..100).all(|_| !rare())));
}
