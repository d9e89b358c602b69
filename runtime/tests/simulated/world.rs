//! Time, order, settling and the end of a world.

use std::{
    collections::BTreeSet,
    io::Write,
    sync::{
        Arc, Mutex as StdMutex,
        atomic::{AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{sim, sync::Semaphore, time};

const HOUR: Duration = Duration::from_secs(3600);

/// Several coroutines that sleep, yield and meet, so that their order can be told.
fn mingle(world: &sim::World) {
    let permits = Arc::new(Semaphore::new(2));
    let crowd: Vec<_> = (0..6)
        .map(|_| {
            let (permits, world) = (permits.clone(), world.clone());
            maniple::spawn(move || {
                for _ in 0..4 {
                    let _permit = permits.acquire();
                    match world.draw(0..3) {
                        0 => maniple::yield_now(),
                        1 => maniple::sleep(Duration::from_micros(world.draw(1..50))),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    crowd.into_iter().for_each(|each| each.join().unwrap());
}

#[test]
fn the_same_seed_gives_the_same_trace_and_others_give_others() {
    let traces = |()| -> Vec<u64> {
        let trace = |seed| sim::run(seed, mingle).unwrap().trace();
        (0..200).map(trace).collect()
    };
    let (first, second) = (traces(()), traces(()));
    assert_eq!(first, second);
    let different: BTreeSet<u64> = first.into_iter().collect();
    assert_eq!(different.len(), 200);
}

#[test]
fn time_passes_only_while_nothing_can_run_and_then_to_the_next_timer_exactly() {
    let begun = Instant::now();
    let run = sim::run(3, |world| {
        let early = maniple::spawn(|| {
            let begun = time::now();
            maniple::sleep(HOUR);
            time::now() - begun
        });
        maniple::sleep(2 * HOUR);
        assert_eq!(early.join().unwrap(), HOUR);
        assert_eq!(world.now(), 2 * HOUR);
        world.advance(Duration::from_nanos(1));
        assert_eq!(world.now(), 2 * HOUR + Duration::from_nanos(1));
    });
    assert_eq!(run.unwrap().lasted(), 2 * HOUR + Duration::from_nanos(1));
    assert!(begun.elapsed() < Duration::from_secs(60));
}

#[test]
fn timeouts_and_deadlines_go_by_the_worlds_time() {
    sim::check(0..50, |world| {
        let cut = maniple::timeout(HOUR, || maniple::sleep(2 * HOUR));
        assert!(cut.is_err());
        assert_eq!(world.now(), HOUR);
        let left = maniple::timeout(HOUR, time::remaining).unwrap();
        assert_eq!(left, Some(HOUR));
    });
}

#[test]
fn which_of_those_that_can_run_is_next_is_drawn() {
    let orders = Arc::new(StdMutex::new(BTreeSet::new()));
    let theirs = orders.clone();
    sim::check(0..200, move |_| {
        let order = Arc::new(StdMutex::new(Vec::new()));
        maniple::group(|g| {
            for number in 0..3 {
                let order = order.clone();
                g.spawn(move || order.lock().unwrap().push(number));
            }
            Ok::<_, ()>(())
        })
        .unwrap();
        theirs.lock().unwrap().insert(order.lock().unwrap().clone());
    });
    assert_eq!(orders.lock().unwrap().len(), 6, "each order of three");
}

#[test]
fn a_world_in_which_everything_waits_for_ever_is_a_deadlock_and_says_who_waits() {
    let failure = sim::run(0, |_| {
        let permits = Arc::new(Semaphore::new(0));
        let theirs = permits.clone();
        let other = maniple::task::Builder::new()
            .name("starved")
            .spawn(move || {
                let _never = theirs.acquire();
            });
        other.unwrap().join().unwrap();
    });
    let failure = failure.unwrap_err().to_string();
    assert!(failure.contains("deadlock"), "{failure}");
    assert!(
        failure.contains("\"starved\"") && failure.contains("simulated/world.rs"),
        "{failure}"
    );
}

#[test]
fn a_loop_that_spins_while_time_stands_still_is_found() {
    let failure = sim::run(0, |_| {
        let until = time::now() + Duration::from_millis(1);
        while time::now() < until {
            maniple::yield_now();
        }
    });
    assert!(failure.unwrap_err().what().contains("standstill"));
}

#[test]
fn a_world_that_goes_on_for_more_than_a_day_has_failed() {
    let failure = sim::run(0, |_| {
        loop {
            maniple::sleep(HOUR);
        }
    });
    assert!(
        failure
            .unwrap_err()
            .what()
            .contains("has not ended within 86400s")
    );
}

#[test]
fn what_does_not_end_when_it_is_cancelled_is_named() {
    let failure = sim::run(0, |world| {
        let stubborn = || maniple::cancel::shield(maniple::park);
        let builder = maniple::task::Builder::new().name("stubborn");
        drop(builder.spawn(stubborn).unwrap());
        world.settle();
    });
    let failure = failure.unwrap_err();
    assert!(failure.what().contains("\"stubborn\""), "{failure}");
}

#[test]
fn what_a_scenario_leaves_behind_is_cancelled_and_its_destructors_run() {
    struct Told(Arc<AtomicU64>);
    impl Drop for Told {
        fn drop(&mut self) {
            maniple::cancel::shield(|| maniple::sleep(Duration::from_secs(1)));
            self.0.fetch_add(1, Ordering::Relaxed);
        }
    }
    let dropped = Arc::new(AtomicU64::new(0));
    let theirs = dropped.clone();
    sim::check(0..50, move |world| {
        let told = Told(theirs.clone());
        drop(maniple::spawn(move || {
            let _told = told;
            maniple::park();
        }));
        if world.draw(0..2) == 0 {
            world.settle();
        }
    });
    assert_eq!(dropped.load(Ordering::Relaxed), 50);
}

#[test]
fn a_failing_seed_is_named_with_the_line_that_runs_it_again() {
    let failed = std::panic::catch_unwind(|| {
        sim::check(10..20, |world| assert_ne!(world.seed(), 13, "unlucky"));
    });
    let text = maniple::panics::message(&*failed.unwrap_err())
        .unwrap()
        .to_owned();
    assert!(
        text.contains("seed 13 failed") && text.contains("unlucky"),
        "{text}"
    );
    assert!(
        text.contains("MANIPLE_SIM_SEED=13 cargo test world::a_failing_seed"),
        "{text}"
    );
}

#[test]
fn what_holds_sometimes_must_hold_in_some_seed() {
    sim::check(0..20, |world| sim::sometimes!(world.seed() == 7));
    let failed = std::panic::catch_unwind(|| {
        sim::check(0..20, |world| sim::sometimes!(world.seed() == 77));
    });
    let text = maniple::panics::message(&*failed.unwrap_err())
        .unwrap()
        .to_owned();
    assert!(
        text.contains("world.seed() == 77") && text.contains("world.rs"),
        "{text}"
    );
}

#[test]
fn what_must_always_hold_fails_the_seed_wherever_it_does_not() {
    let failure = sim::run(0, |_| {
        drop(maniple::spawn(|| {
            sim::always!(false, "found by {}", "nobody's child")
        }));
        maniple::park();
    });
    assert!(
        failure
            .unwrap_err()
            .what()
            .contains("found by nobody's child")
    );
}

#[test]
fn offloaded_jobs_run_later_in_the_worlds_time_and_on_its_thread() {
    sim::check(0..50, |world| {
        let here = std::thread::current().id();
        let there = maniple::offload(|| std::thread::current().id()).unwrap();
        assert_eq!(here, there);
        assert!(world.now() < Duration::from_millis(1));
        sim::sometimes!(world.now() > Duration::from_micros(500));
        let cut = maniple::timeout(Duration::ZERO, || maniple::offload(|| ()));
        assert!(cut.unwrap().is_err());
    });
}

#[test]
fn what_is_on_standby_begins_at_its_deadline_or_when_bytes_come() {
    sim::check(0..30, |world| {
        let listener = maniple::net::TcpListener::bind("0.0.0.0:7").unwrap();
        let client = maniple::net::TcpStream::connect("scenario:7").unwrap();
        let (stream, _) = listener.accept().unwrap();
        let comes = world.draw(0..2) == 0;
        let begun = maniple::task::spawn_when_readable(stream, time::now() + HOUR, |_| time::now());
        let since = time::now();
        if comes {
            (&client).write_all(b"now").unwrap();
        }
        let took = begun.join().unwrap() - since;
        assert_eq!(took < Duration::from_secs(1), comes, "{took:?}");
        assert!(took < HOUR + Duration::from_secs(1));
    });
}

#[test]
fn what_is_real_is_refused_and_says_so() {
    let failing: [(&str, fn()); 2] = [
        ("a file", || {
            drop(maniple::fs::reading(|| std::fs::read("/proc/version")))
        }),
        ("child process", || {
            drop(maniple::process::Command::new("true").status())
        }),
    ];
    for (what, attempt) in failing {
        let failure = sim::run(0, move |_| attempt()).unwrap_err();
        assert!(failure.what().contains(what), "{failure}");
    }
    sim::check(0..1, |_| {
        let refused = maniple::Runtime::new().unwrap_err();
        assert_eq!(refused.kind(), std::io::ErrorKind::Unsupported);
    });
}
