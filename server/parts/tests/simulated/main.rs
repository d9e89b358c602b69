//! A hall of chatters, a pool of workers and sets of servers in simulated worlds.

mod connections;
mod hall;
mod hub;
#[cfg(feature = "fault-injection")]
mod planted;
mod seeded;

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple::{
    group::Hedger,
    net::{TcpListener, TcpStream},
    sim,
    sync::Semaphore,
};
use maniple_parts::{
    adaptive::Bounds,
    endpoints::{
        Balance, Checks, Ejection, EndpointState, EndpointStats, Endpoints, PickError, Picked, Want,
    },
    pool::Pool,
    resilience::Retry,
};

#[test]
fn a_pool_does_each_job_that_it_took_once_and_its_drain_ends() {
    sim::check(sim::seeds(200), |world| {
        let pool = Pool::builder("jobs").workers(2).build().unwrap();
        let done = Arc::new(AtomicUsize::new(0));
        let mut taken = 0;
        for _ in 0..world.draw(1..20) {
            let (done, time) = (done.clone(), Duration::from_micros(world.draw(0..500)));
            let job = move || {
                maniple::sleep(time);
                done.fetch_add(1, Ordering::Relaxed);
            };
            taken += usize::from(pool.submit(job).is_ok());
            maniple::sleep(Duration::from_micros(world.draw(0..300)));
        }
        let begun = world.now();
        pool.drain(Duration::from_secs(60));
        assert!(world.now() - begun < Duration::from_secs(1));
        assert_eq!(done.load(Ordering::Relaxed), taken);
    });
}

/// A service that takes so long for each connection, then answers with a byte.
fn slow_service(takes: Duration) -> impl Fn() + Send + Sync + 'static {
    move || {
        let listener = TcpListener::bind("0.0.0.0:7").unwrap();
        while let Ok((mut stream, _)) = listener.accept() {
            maniple::spawn(move || {
                maniple::sleep(takes);
                _ = stream.write_all(b".");
            });
        }
    }
}

fn ask(picked: &Picked) -> std::io::Result<()> {
    let mut stream = TcpStream::connect(picked.address())?;
    stream.read_exact(&mut [0])
}

#[test]
fn a_server_that_becomes_slow_gets_few_calls() {
    sim::check(sim::seeds(8), |world| {
        let quick = Duration::from_millis(2);
        let _quick = ["a", "b"].map(|name| world.host(name, slow_service(quick)));
        let _slow = world.host("c", slow_service(50 * quick));
        world.settle();
        let endpoints = Endpoints::builder("test").seed(world.draw(0..u64::MAX));
        let endpoints = endpoints.build(["a:7", "b:7", "c:7"]).unwrap();
        maniple::group::map(8, 0..300, |_| endpoints.call(ask).unwrap());
        let calls = Vec::from_iter(endpoints.stats().iter().map(|stats| stats.calls));
        assert!(
            calls[2] <= 15 && calls[0] > 80 && calls[1] > 80,
            "{calls:?}"
        );
    });
}

#[test]
fn one_that_crashes_is_left_out_and_comes_back_and_no_call_fails() {
    sim::check(sim::seeds(15), |world| {
        let milli = Duration::from_millis(1);
        let hosts = ["a", "b", "c"].map(|name| world.host(name, slow_service(2 * milli)));
        world.settle();
        let ejection = Ejection::new().in_a_row(2);
        let endpoints = Endpoints::builder("test").seed(world.draw(0..u64::MAX));
        let endpoints = endpoints
            .ejection(ejection)
            .build(["a:7", "b:7", "c:7"])
            .unwrap();
        let retry = Retry::new()
            .attempts(3)
            .backoff(Duration::ZERO..=Duration::ZERO);
        let call = || {
            let want = Want::new();
            // A host that is gone says nothing: a call to it ends by its time alone.
            let attempt = |_| {
                maniple::timeout(50 * milli, || endpoints.call_as(&want, ask).map_err(|_| ()))
                    .unwrap_or(Err(()))
            };
            retry.run(|()| true, attempt).expect("another answers");
        };
        maniple::group::map(4, 0..50, |_| call());
        hosts[1].crash();
        maniple::group::map(4, 0..200, |_| call());
        let out = |of: &EndpointStats| matches!(of.state, EndpointState::Ejected { .. });
        let stats = endpoints.stats();
        // After its first failure it may be so slow that it gets no second call.
        assert!(stats[1].ejections > 0 || stats[1].failed < 2, "{stats:?}");
        sim::sometimes!(stats[1].ejections > 0);
        assert!(stats[1].failed <= 20, "{stats:?}");
        assert!(!out(&stats[0]) && !out(&stats[2]), "{stats:?}");
        hosts[1].restart();
        world.advance(Duration::from_secs(60));
        let before = endpoints.stats()[1].succeeded;
        maniple::group::map(4, 0..100, |_| call());
        let back = &endpoints.stats()[1];
        assert!(back.succeeded > before + 10, "{back:?}");
        assert_eq!(back.state, EndpointState::Serving);
    });
}

#[test]
fn who_comes_back_has_a_small_share_at_first() {
    sim::check(sim::seeds(200), |world| {
        let ejection = Ejection::new().in_a_row(1).ramp(Duration::from_secs(10));
        let endpoints = Endpoints::builder("test").ejection(ejection).seed(7);
        let endpoints = endpoints
            .balance(Balance::RoundRobin)
            .build(["a:1", "b:1"])
            .unwrap();
        let share = |calls: u32| {
            let picked = (0..calls).filter(|_| {
                let picked = endpoints.pick().unwrap();
                let is_first = picked.address() == "a:1";
                picked.succeeded();
                is_first
            });
            picked.count()
        };
        assert_eq!(share(100), 50);
        while endpoints.stats()[0].ejections == 0 {
            let picked = endpoints.pick().unwrap();
            match picked.address() {
                "a:1" => picked.failed(),
                _ => picked.succeeded(),
            }
        }
        assert_eq!(share(100), 0);
        world.advance(Duration::from_secs(1));
        assert!((5..=15).contains(&share(110)), "a tenth of the other's");
        world.advance(Duration::from_secs(5));
        assert!((30..=40).contains(&share(100)), "a half of the other's");
        world.advance(Duration::from_secs(5));
        assert_eq!(share(100), 50);
    });
}

#[test]
fn after_an_outage_the_first_ones_back_are_not_flooded() {
    sim::check(sim::seeds(10), |world| {
        let up = Arc::new(AtomicUsize::new(4));
        let endpoints = Endpoints::builder("test").seed(world.draw(0..u64::MAX));
        let hold = Duration::from_secs(3);
        let endpoints = endpoints.recovery(4, hold);
        let endpoints = endpoints.build(["h0:1", "h1:1", "h2:1", "h3:1"]).unwrap();
        let theirs = up.clone();
        let checks = Checks::every(Duration::from_millis(10)).fall(1).rise(1);
        let _checking = endpoints.check(checks, move |address: &str| {
            let number = address[1..2].parse::<usize>().unwrap();
            match number < theirs.load(Ordering::Relaxed) {
                true => Ok(()),
                false => Err("down"),
            }
        });
        let served = |count| (0..count).filter(|_| endpoints.pick().is_ok()).count();
        let second = Duration::from_secs(1);
        world.advance(second);
        assert_eq!(served(100), 100);
        up.store(0, Ordering::Relaxed);
        world.advance(second);
        assert_eq!(served(100), 0);
        assert_eq!(endpoints.pick().unwrap_err(), PickError::Recovering);
        up.store(1, Ordering::Relaxed);
        world.advance(second);
        // Within six deviations of what is drawn call by call.
        assert!((150..350).contains(&served(1000)), "a quarter of the calls");
        up.store(4, Ordering::Relaxed);
        world.advance(second);
        assert_eq!(served(100), 100);
        // For as long as it is to hold, a relapse is a relapse.
        up.store(2, Ordering::Relaxed);
        world.advance(second);
        assert!((400..600).contains(&served(1000)), "half of the calls");
        up.store(4, Ordering::Relaxed);
        world.advance(second);
        assert_eq!(served(10), 10);
        world.advance(hold);
        assert_eq!(served(10), 10);
        up.store(2, Ordering::Relaxed);
        world.advance(second);
        assert_eq!(served(100), 100, "it is over");
    });
}

/// Most answers take some 10 ms, one of twenty 300 ms by accident.
#[test]
fn hedging_cuts_the_tail_to_a_half_and_less_for_a_tenth_more_calls() {
    // It is about shares of many calls: a few seeds are enough.
    sim::check(0..3, |world| {
        let made = AtomicUsize::new(0);
        let milli = Duration::from_millis(1);
        let p99 = |hedger: Option<Hedger>| {
            let mut took = maniple::group::map(8, 0..2000, |_| {
                let begun = maniple::time::now();
                let attempt = |_| {
                    made.fetch_add(1, Ordering::Relaxed);
                    maniple::sleep(match world.draw(0..20) {
                        0 => 300 * milli,
                        _ => Duration::from_micros(world.draw(8000..12_000)),
                    });
                    Ok::<_, ()>(())
                };
                match &hedger {
                    Some(hedger) => hedger.run(attempt).unwrap(),
                    None => attempt(0).unwrap(),
                }
                maniple::time::now() - begun
            });
            took.sort_unstable();
            (took[1980], made.swap(0, Ordering::Relaxed))
        };
        let (without, calls) = p99(None);
        assert!(without >= 300 * milli && calls == 2000, "{without:?}");
        let window = Duration::from_secs(10);
        let hedger = Hedger::new(100 * milli).percentile(93);
        let (with, calls) = p99(Some(hedger.at_most(10, window)));
        assert!(
            with * 2 <= without && calls <= 2200,
            "{with:?}, {calls} calls"
        );
    });
}

#[test]
fn limits_that_adapt_find_what_each_server_can_do_and_others_wait() {
    const TAKES: Duration = Duration::from_millis(10);
    sim::check(sim::seeds(5), |world| {
        let builder = Endpoints::builder("test").seed(world.draw(0..u64::MAX));
        let builder = builder.adaptive_limit(Bounds {
            least: 2,
            most: 200,
            initial: 20,
        });
        let builder = builder.queue(1000, Duration::from_secs(60));
        let endpoints = builder.build(["small:1", "large:1"]).unwrap();
        let servers = Arc::new([Semaphore::new(4), Semaphore::new(16)]);
        for _ in 0..100 {
            let (endpoints, servers) = (endpoints.clone(), servers.clone());
            maniple::spawn(move || {
                loop {
                    let Ok(picked) = endpoints.pick() else {
                        // By the world's end alone.
                        assert!(maniple::cancel::is_cancelled());
                        return;
                    };
                    let server = &servers[usize::from(picked.address() == "large:1")];
                    let Ok(place) = server.acquire() else { return };
                    maniple::sleep(TAKES);
                    drop(place);
                    picked.succeeded();
                }
            });
        }
        let second = Duration::from_secs(1);
        world.advance(20 * second);
        let before = endpoints.stats();
        // Now and then one is probed with a third of what it may have.
        let (mut small, mut large) = (0, 0);
        for _ in 0..20 {
            world.advance(second);
            let stats = endpoints.stats();
            small = small.max(stats[0].limit.unwrap());
            large = large.max(stats[1].limit.unwrap());
        }
        assert!((4..=16).contains(&small), "{small} for 4 at a time");
        assert!((16..=48).contains(&large), "{large} for 16 at a time");
        let after = endpoints.stats();
        let served: u64 = (0..2)
            .map(|at| after[at].succeeded - before[at].succeeded)
            .sum();
        // Together they serve 2000 a second.
        assert!(served > 20 * 1600, "{served} in 20 s");
        assert!(endpoints.waiting() > 0);
    });
}
