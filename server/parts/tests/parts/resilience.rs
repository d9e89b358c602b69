//! Retries, budgets and breakers, around services that fail.

use std::{
    sync::atomic::{AtomicU32, Ordering::Relaxed},
    time::{Duration, Instant},
};

use maniple::group;
use maniple_parts::resilience::{
    Again, BreakerError, BreakerState, CircuitBreaker, Retry, RetryBudget,
};

const LONG: Duration = Duration::from_secs(60);

fn at_once() -> Retry {
    Retry::new().backoff(Duration::ZERO..=Duration::ZERO)
}

#[test]
fn attempts_end_with_success_or_with_the_last_error() {
    maniple::run(|| {
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
    maniple::run(|| {
        let patient = Retry::new().backoff(Duration::ZERO..=3 * LONG);
        let least = Duration::from_millis(30);
        let began = Instant::now();
        let outcome = patient.clone().attempts(2).run(
            |_| Again::After(least),
            |number| if number == 2 { Ok(()) } else { Err("busy") },
        );
        assert!(outcome.is_ok() && began.elapsed() >= least);

        let began = Instant::now();
        let outcome = maniple::timeout(LONG, || {
            patient.run(|_| Again::After(2 * LONG), |_| Err::<(), _>("busy"))
        });
        assert_eq!(outcome.unwrap(), Err("busy"));
        assert!(began.elapsed() < LONG, "nobody waits in vain");

        // A number from the wire, and no deadline.
        let began = Instant::now();
        let outcome = patient.run(|_| Again::After(Duration::MAX), |_| Err::<(), _>("busy"));
        assert_eq!(outcome, Err("busy"));
        assert!(began.elapsed() < LONG);
    });
}

#[test]
fn a_cancelled_caller_makes_no_further_attempt() {
    maniple::run(|| {
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
    maniple::run(|| {
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

/// A third of the attempts fails, which a retry is good for.
#[test]
fn a_budget_is_enough_for_what_goes_wrong_now_and_then() {
    maniple::run(|| {
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
    maniple::run(|| {
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
        let began = Instant::now();
        while call().is_err() {
            assert!(began.elapsed() < LONG);
            maniple::sleep(Duration::from_millis(1));
        }
        assert_eq!(breaker.state(), BreakerState::Closed);
        assert_eq!(asked.load(Relaxed), 11, "and nothing in between");
    });
}

#[test]
fn one_probe_goes_through_while_many_call() {
    maniple::run(|| {
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
    maniple::run(|| {
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
