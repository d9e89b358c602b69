//! Retries, budgets and breakers, around services that fail.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::Duration,
};

use maniple::{group, time};
use maniple_parts::endpoints::{Balance, Endpoints, Picked};
use maniple_parts::resilience::{
    Again, BreakerError, BreakerState, CircuitBreaker, Retry, RetryBudget, SingleFlight, Stages,
};

use super::{in_world, on};

const LONG: Duration = Duration::from_secs(60);

fn at_once() -> Retry {
    Retry::new().backoff(Duration::ZERO..=Duration::ZERO)
}

#[test]
fn attempts_end_with_success_or_with_the_last_error() {
    on(2, || {
        for (succeeds, outcome) in [(1, Ok(1)), (3, Ok(3)), (4, Err(3))] {
            let attempt = |number| match number >= succeeds {
                true => Ok(number),
                false => Err(number),
            };
            assert_eq!(at_once().run(|_| true, attempt), outcome);
        }
        let asked = AtomicU32::new(0);
        let hopeless = at_once().run(
            |_| false,
            |_| {
                asked.fetch_add(1, Relaxed);
                Err::<(), _>("bad request")
            },
        );
        assert_eq!((hopeless, asked.into_inner()), (Err("bad request"), 1));
    });
}

#[test]
fn a_pause_is_as_long_as_the_service_says_and_never_passes_the_deadline() {
    in_world(|| {
        let patient = Retry::new().backoff(Duration::ZERO..=3 * LONG);
        let least = Duration::from_millis(30);
        let began = time::now();
        let outcome = patient.clone().attempts(2).run(
            |_| Again::After(least),
            |number| if number == 2 { Ok(()) } else { Err("busy") },
        );
        assert!(outcome.is_ok() && time::now() - began >= least);

        let began = time::now();
        let outcome = maniple::timeout(LONG, || {
            patient.run(|_| Again::After(2 * LONG), |_| Err::<(), _>("busy"))
        });
        assert_eq!(outcome.unwrap(), Err("busy"));
        assert!(time::now() - began < LONG, "nobody waits in vain");

        // A number from the wire, and no deadline.
        let began = time::now();
        let outcome = patient.run(|_| Again::After(Duration::MAX), |_| Err::<(), _>("busy"));
        assert_eq!(outcome, Err("busy"));
        assert!(time::now() - began < LONG);
    });
}

#[test]
fn a_cancelled_caller_makes_no_further_attempt() {
    on(2, || {
        let asked = std::sync::Arc::new(AtomicU32::new(0));
        let calling = maniple::spawn({
            let asked = asked.clone();
            move || {
                at_once().attempts(u32::MAX).run(
                    |_| true,
                    |_| {
                        asked.fetch_add(1, Relaxed);
                        maniple::sleep(LONG);
                        Err::<(), _>("cut short")
                    },
                )
            }
        });
        while asked.load(Relaxed) == 0 {
            maniple::yield_now();
        }
        calling.cancel();
        let _ended = calling.join();
        assert_eq!(asked.load(Relaxed), 1);
    });
}

/// Three layers of which each tries three times: a service that is down gets 27 calls for one.
#[test]
fn a_budget_holds_back_the_storm() {
    on(2, || {
        let load = |budgets: Option<[RetryBudget; 3]>| {
            let calls = AtomicU32::new(0);
            let retry = |layer: usize| match &budgets {
                Some(budgets) => at_once().budget(&budgets[layer]),
                None => at_once(),
            };
            let layers = [retry(0), retry(1), retry(2)];
            let down = |_| {
                calls.fetch_add(1, Relaxed);
                Err::<(), _>("overloaded")
            };
            for _ in 0..1000 {
                let middle = |_| layers[1].run(|_| true, |_| layers[2].run(|_| true, down));
                assert!(layers[0].run(|_| true, middle).is_err());
            }
            calls.into_inner()
        };
        assert_eq!(load(None), 27_000);
        let budgets = [0; 3].map(|_| RetryBudget::with(20, 0, 100));
        let held = load(Some(budgets.clone()));
        assert!(held <= 1728, "1.2 x 1.2 x 1.2: {held}");
        let stats = budgets[0].stats();
        assert_eq!((stats.calls, stats.retries), (1000, 200));
        assert!(stats.refused >= 800);
    });
}

#[test]
fn while_a_third_of_the_servers_fails_a_budget_bounds_what_the_others_get() {
    on(2, || {
        let load = |retry: Retry| {
            let list = ["a:1", "b:1", "c:1"];
            let builder = Endpoints::builder("test").balance(Balance::RoundRobin);
            let servers = builder.without_ejection().build(list).unwrap();
            let ask = |picked: &Picked| match picked.address() {
                "a:1" => Err("down"),
                _ => Ok(()),
            };
            for _ in 0..3000 {
                let _served = retry.run(|_| true, |_| servers.call(ask));
            }
            servers.stats().iter().map(|stats| stats.calls).sum::<u64>()
        };
        let storm = load(at_once());
        assert!(storm > 4000, "without a budget: {storm}");
        let held = load(at_once().budget(&RetryBudget::with(20, 0, 100)));
        assert!(held <= 3600, "1.2 x: {held}");
    });
}

/// A third of the attempts fails, which a retry is good for.
#[test]
fn a_budget_is_enough_for_what_goes_wrong_now_and_then() {
    on(2, || {
        let (calls, failed) = (AtomicU32::new(0), AtomicU32::new(0));
        let budget = RetryBudget::with(20, 0, 100);
        let retry = at_once().budget(&budget);
        for _ in 0..3000 {
            let outcome = retry.run(
                |_| true,
                |_| match calls.fetch_add(1, Relaxed) % 10 {
                    0 => Err("reset"),
                    _ => Ok(()),
                },
            );
            failed.fetch_add(u32::from(outcome.is_err()), Relaxed);
        }
        assert!(calls.into_inner() <= 3600, "1.2 x");
        assert!(
            failed.into_inner() <= 5,
            "but the first, before there was a budget"
        );
    });
}

#[test]
fn a_breaker_spares_a_service_that_fails_and_finds_out_when_it_works() {
    in_world(|| {
        let (asked, works) = (AtomicU32::new(0), AtomicU32::new(0));
        let breaker = CircuitBreaker::new()
            .opens_at(50, 10, LONG)
            .pause(Duration::from_millis(20)..=Duration::from_millis(20));
        let call = || {
            breaker.call(|| {
                asked.fetch_add(1, Relaxed);
                match works.load(Relaxed) {
                    0 => Err("down"),
                    _ => Ok("up"),
                }
            })
        };
        for _ in 0..10 {
            assert_eq!(call(), Err(BreakerError::Call("down")));
        }
        let Err(BreakerError::Open { after }) = call() else {
            panic!("it is open");
        };
        assert!(after <= Duration::from_millis(20));
        assert_eq!(breaker.clone().state(), BreakerState::Open);
        works.store(1, Relaxed);
        let began = time::now();
        while call().is_err() {
            assert!(time::now() - began < LONG);
            maniple::sleep(Duration::from_millis(1));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(asked.load(Relaxed), 11, "and nothing in between");
    });
}

#[test]
fn breakers_and_budgets_that_have_a_name_are_told_of_while_they_are_there() {
    let breaker_of = |name: &str| {
        let all = CircuitBreaker::all();
        all.into_iter().find(|one| one.0 == name).map(|one| one.1)
    };
    let budget_of = |name: &str| {
        let all = RetryBudget::all();
        all.into_iter().find(|one| one.0 == name).map(|one| one.1)
    };
    maniple::run(|| {
        let breaker = CircuitBreaker::new().name("told of").opens_at(50, 2, LONG);
        let clone = breaker.clone().pause(LONG..=LONG).name("another name");
        assert!(breaker_of("another name").is_none(), "the first stays");
        for _ in 0..5 {
            let _ = clone.call(|| Err::<(), _>("down"));
        }
        let told = breaker_of("told of").unwrap();
        assert_eq!(told, breaker.stats());
        let seen = (told.state, told.opened, told.refused);
        assert_eq!(seen, (BreakerState::Open, 1, 3));
        drop(breaker);
        assert!(breaker_of("told of").is_some(), "a clone is there");
        let dump = maniple::inspect::dump();
        let line = "\n  told of: open, opened 1 times, 3 calls not made\n";
        assert!(
            dump.contains("\ncircuit breakers\n") && dump.contains(line),
            "{dump}"
        );
        drop(clone);
        assert!(breaker_of("told of").is_none());

        let budget = RetryBudget::with(0, 0, 5).name("told of");
        assert_eq!(budget_of("told of").unwrap().left, 0);
        drop(budget);
        let budget = RetryBudget::with(100, 0, 5).name("told of");
        let retry = at_once().attempts(3).budget(&budget);
        let _ = retry.run(|_| true, |_| Err::<(), _>("down"));
        let told = budget_of("told of").unwrap();
        assert_eq!((told.calls, told.retries, told.refused), (1, 1, 1));
        assert_eq!(told.left, 0);
        let dump = maniple::inspect::dump();
        let line = "\n  told of: 0 left; 1 made for 1 calls, 1 refused\n";
        assert!(
            dump.contains("\nretry budgets\n") && dump.contains(line),
            "{dump}"
        );
        drop((budget, retry));
        assert!(budget_of("told of").is_none());
    });
}

#[test]
fn one_probe_goes_through_while_many_call() {
    // They begin in order.
    maniple::sim::run_here(maniple::sim::Order::InTurn, 0, || {
        // A probe may take as long before another is let through.
        let pause = Duration::from_secs(1);
        let breaker = CircuitBreaker::new()
            .opens_at(1, 1, LONG)
            .pause(pause..=pause);
        let _ = breaker.call(|| Err::<(), _>("down"));
        while breaker.state() == BreakerState::Open {
            maniple::sleep(Duration::from_millis(1));
        }
        let asked = AtomicU32::new(0);
        let outcomes = group::map(100, 0..100, |_| {
            breaker.call(|| {
                asked.fetch_add(1, Relaxed);
                maniple::sleep(Duration::from_millis(50));
                Ok::<_, &str>(())
            })
        });
        let served = outcomes.iter().filter(|outcome| outcome.is_ok()).count();
        assert_eq!(served as u32, asked.load(Relaxed));
        assert!(outcomes[0].is_ok(), "the first is the probe");
        assert!(matches!(outcomes[1], Err(BreakerError::Open { .. })));
    });
}

#[test]
fn a_caller_that_unwinds_or_is_to_blame_opens_nothing() {
    in_world(|| {
        let breaker = CircuitBreaker::new().opens_at(1, 1, LONG);
        let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            breaker.call(|| -> Result<(), ()> { panic!("on purpose") })
        }));
        assert!(panicked.is_err());
        let cut = maniple::timeout(Duration::from_millis(1), || {
            breaker.call(|| {
                maniple::sleep(LONG);
                Ok::<_, ()>(())
            })
        });
        drop(cut);
        let blamed = breaker.call_if(
            |error| *error != "bad request",
            || Err::<(), _>("bad request"),
        );
        assert_eq!(blamed, Err(BreakerError::Call("bad request")));
        assert_eq!(breaker.state(), BreakerState::Closed);
    });
}

/// Waits until so many have joined a flight.
fn until_joined<V: Clone>(flights: &SingleFlight<u32, V>, joined: u64) {
    let began = time::now();
    while flights.stats().joined < joined {
        assert!(time::now() - began < LONG, "{flights:?}");
        maniple::sleep(Duration::from_millis(1));
    }
}

#[test]
fn who_asks_for_what_is_asked_for_already_gets_that_answer() {
    on(2, || {
        let flights = SingleFlight::new();
        let (goes, gone) = maniple::sync::channel::bounded::<()>(0);
        let made = AtomicU32::new(0);
        let ask = |key| {
            flights.run(key, || {
                made.fetch_add(1, Relaxed);
                if key == 7 {
                    gone.recv().unwrap();
                }
                key * 10
            })
        };
        let ask = &ask;
        let same = group::map(100, (0..12).map(|_| 7).chain([8, 9]), |key| {
            if key == 9 {
                until_joined(&flights, 11);
                goes.send(()).unwrap();
            }
            ask(key)
        });
        assert_eq!(same[..12], [70; 12]);
        assert_eq!(same[12..], [80, 90], "another key waits for nobody");
        assert_eq!((flights.stats().calls, flights.stats().joined), (3, 11));
        assert_eq!(ask(8), 80);
        assert_eq!(made.load(Relaxed), 4, "nothing is remembered");
    });
}

#[test]
fn one_that_panics_or_is_cut_leaves_the_call_to_one_of_those_that_wait() {
    on(2, || {
        for panics in [false, true] {
            let flights = SingleFlight::new();
            let (goes, gone) = maniple::sync::channel::bounded::<()>(0);
            let first = || {
                flights.run(1, || {
                    let _cut = gone.recv();
                    assert!(!panics, "on purpose");
                    "of one who is cancelled"
                })
            };
            let value = maniple::group(|g| {
                let leads = g.supervise(first);
                while flights.stats().calls == 0 {
                    maniple::yield_now();
                }
                let follow = [(); 5].map(|()| g.spawn(|| flights.run(1, || "second")));
                until_joined(&flights, 5);
                match panics {
                    true => goes.send(()).unwrap(),
                    false => leads.cancel(),
                }
                Ok::<_, ()>(follow.map(|each| each.join().unwrap()))
            });
            assert_eq!(value, Ok(["second"; 5]));
            assert!((2..=6).contains(&flights.stats().calls), "{flights:?}");
        }
    });
}

#[test]
fn who_waits_for_anothers_call_keeps_its_own_deadline() {
    in_world(|| {
        let flights = SingleFlight::new();
        let (goes, gone) = maniple::sync::channel::bounded::<()>(0);
        maniple::group(|g| {
            let leads = g.spawn(|| flights.run(1, || gone.recv().is_ok()));
            while flights.stats().calls == 0 {
                maniple::yield_now();
            }
            let late = maniple::timeout(Duration::from_millis(5), || flights.run(1, || false));
            assert!(late.is_err());
            goes.send(()).unwrap();
            assert!(leads.join().unwrap());
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}

#[test]
fn stages_divide_what_is_left_and_pass_on_what_they_do_not_need() {
    in_world(|| {
        let minute = Duration::from_secs(60);
        let near = |budget: Option<Duration>, wanted: Duration| {
            let budget = budget.unwrap();
            assert!(
                budget <= wanted && budget + minute / 60 > wanted,
                "{budget:?}"
            );
        };
        let mut stages = Stages::within(minute, [3, 2, 1]);
        near(stages.budget(), minute / 2);
        stages
            .run(|| near(maniple::time::remaining(), minute / 2))
            .unwrap();
        near(stages.budget(), minute * 2 / 3);
        let shorter = maniple::timeout(minute / 10, || {
            near(Stages::new([1, 1]).budget(), minute / 20);
            near(Stages::within(minute, [1]).budget(), minute / 10);
        });
        shorter.unwrap();
        stages.run(|| ()).unwrap();
        stages.run(|| ()).unwrap();
        near(stages.budget(), minute);
        assert!(
            Stages::new([1, 2]).budget().is_none(),
            "there is no deadline"
        );
        near(Stages::within(minute, [0, 0]).budget(), minute);
        let mut cut = Stages::within(Duration::from_millis(10), [1, 1]);
        assert!(cut.run(|| maniple::sleep(LONG)).is_err());
        assert!(cut.run(|| maniple::sleep(LONG)).is_err());
        near(
            Stages::within(Duration::MAX, [1]).budget().or(Some(minute)),
            minute.max(LONG),
        );
    });
}
