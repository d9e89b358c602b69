//! Sets of servers: who gets a call, who is left out, and where lists come from.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    fs, io,
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::{net::TcpListener, sync::Notify};
use maniple_parts::endpoints::{
    Balance, CallError, Checks, Ejection, Endpoint, EndpointState, Endpoints, ListError, PickError,
    Want, connects, source,
};

use super::{in_world, on};

const LONG: Duration = Duration::from_secs(60);

fn set(balance: Balance, list: &[&str]) -> Endpoints {
    let list = list.iter().map(|text| text.parse::<Endpoint>().unwrap());
    Endpoints::builder("test")
        .balance(balance)
        .seed(1)
        .build(list)
        .unwrap()
}

/// How often each is picked, one call after the other.
fn shares(endpoints: &Endpoints, calls: usize) -> BTreeMap<String, usize> {
    let mut shares = BTreeMap::new();
    for _ in 0..calls {
        let picked = endpoints.pick().unwrap();
        *shares.entry(picked.address().to_owned()).or_default() += 1;
        picked.succeeded();
    }
    shares
}

fn state(endpoints: &Endpoints, address: &str) -> EndpointState {
    let stats = endpoints.stats();
    let of = stats
        .iter()
        .find(|stats| stats.endpoint.address() == address);
    of.expect("it is in the list").state
}

/// Waits for what another coroutine brings about.
fn until(what: &str, condition: impl Fn() -> bool) {
    let began = maniple::time::now();
    while !condition() {
        assert!(maniple::time::now() - began < LONG, "{what}");
        maniple::sleep(Duration::from_millis(1));
    }
}

#[test]
fn turns_go_by_weight_and_are_spread_evenly() {
    let endpoints = set(
        Balance::RoundRobin,
        &["a:1 weight=3", "b:1", "c:1 weight=0"],
    );
    let turns: Vec<_> = (0..8)
        .map(|_| endpoints.pick().unwrap().address().to_owned())
        .collect();
    assert_eq!(
        turns,
        ["a:1", "a:1", "b:1", "a:1", "a:1", "a:1", "b:1", "a:1"]
    );
    assert_eq!(state(&endpoints, "c:1"), EndpointState::Draining);
}

#[test]
fn the_least_loaded_is_the_one_with_the_fewest_calls_for_its_weight() {
    let endpoints = set(Balance::LeastLoaded, &["a:1 weight=2", "b:1", "c:1"]);
    let held: Vec<_> = (0..8).map(|_| endpoints.pick().unwrap()).collect();
    let of = |address| {
        held.iter()
            .filter(|picked| picked.address() == address)
            .count()
    };
    assert_eq!([of("a:1"), of("b:1"), of("c:1")], [4, 2, 2]);
}

#[test]
fn a_key_has_one_server_and_another_only_while_that_cannot_have_it() {
    for balance in [Balance::Ring, Balance::Maglev] {
        let list = ["a:1", "b:1", "c:1"];
        let endpoints = set(balance, &list);
        // Another process with the same list, in another order.
        let other = set(balance, &["c:1", "a:1", "b:1"]);
        let mut owners = BTreeMap::new();
        for key in 0..300_u32 {
            let key = key.to_le_bytes();
            let owner = endpoints.pick_as(&Want::new().key(key)).unwrap();
            if balance == Balance::Ring {
                let theirs = other.pick_as(&Want::new().key(key)).unwrap();
                assert_eq!(owner.address(), theirs.address());
            }
            *owners.entry(owner.address().to_owned()).or_insert(0) += 1;
            let again = Want::new().key(key);
            let (first, second) = (endpoints.pick_as(&again), endpoints.pick_as(&again));
            let (first, second) = (first.unwrap(), second.unwrap());
            assert_eq!(first.address(), owner.address());
            assert_ne!(second.address(), owner.address(), "it was tried");
        }
        assert!(owners.values().all(|count| *count > 50), "{owners:?}");
    }
}

#[test]
fn one_call_goes_through_all_servers_before_it_comes_to_one_again() {
    for balance in [
        Balance::RoundRobin,
        Balance::LeastLoaded,
        Balance::PeakEwma,
        Balance::Ring,
        Balance::Maglev,
    ] {
        let endpoints = set(balance, &["a:1", "b:1", "c:1", "d:1"]);
        let want = Want::new();
        let mut seen: Vec<_> = (0..4)
            .map(|_| endpoints.pick_as(&want).unwrap().address().to_owned())
            .collect();
        seen.sort_unstable();
        assert_eq!(seen, ["a:1", "b:1", "c:1", "d:1"], "{balance:?}");
        endpoints.pick_as(&want).unwrap().succeeded();
        assert_eq!(want.attempts(), 5);
    }
}

#[test]
fn calls_stay_in_their_zone_while_enough_of_it_is_fit() {
    let near_and_far = ["a:1 zone=x", "b:1 zone=x", "c:1 zone=y", "d:1"];
    let list = near_and_far.map(|text| text.parse::<Endpoint>().unwrap());
    let build = Endpoints::builder("test").zone("x").seed(3);
    let endpoints = build.balance(Balance::RoundRobin).build(list).unwrap();
    let all = shares(&endpoints, 100);
    assert_eq!((all["a:1"], all["b:1"]), (50, 50));
    // One of the two is left out: half of seven tenths stays.
    while state(&endpoints, "a:1") == EndpointState::Serving {
        let picked = endpoints.pick().unwrap();
        match picked.address() {
            "a:1" => picked.failed(),
            _ => picked.succeeded(),
        }
    }
    let some = shares(&endpoints, 1000);
    assert!((600..820).contains(&some["b:1"]), "{some:?}");
    assert!(
        some["c:1"] > 50 && some["d:1"] > 50 && !some.contains_key("a:1"),
        "{some:?}"
    );
    // Nobody near: all go far.
    endpoints.set(["c:1", "d:1"]).unwrap();
    assert_eq!(shares(&endpoints, 10).values().sum::<usize>(), 10);
}

#[test]
fn a_limit_sends_calls_elsewhere_and_then_refuses_them() {
    for balance in [Balance::RoundRobin, Balance::PeakEwma, Balance::Ring] {
        let builder = Endpoints::builder("test").balance(balance).limit(3);
        let endpoints = builder.build(["a:1", "b:1"]).unwrap();
        let mut held: Vec<_> = (0..6).map(|_| endpoints.pick().unwrap()).collect();
        assert_eq!(endpoints.pick().unwrap_err(), PickError::Full);
        assert!(endpoints.stats().iter().all(|stats| stats.in_flight == 3));
        let freed = held.pop().unwrap();
        let address = freed.address().to_owned();
        freed.succeeded();
        assert_eq!(endpoints.pick().unwrap().address(), address);
    }
}

#[test]
fn who_fails_is_left_out_but_never_all_of_them() {
    let endpoints = set(Balance::RoundRobin, &["a:1", "b:1", "c:1", "d:1"]);
    for _ in 0..100 {
        endpoints.pick().unwrap().failed();
    }
    let stats = endpoints.stats();
    let out = |stats: &&maniple_parts::endpoints::EndpointStats| {
        matches!(stats.state, EndpointState::Ejected { .. })
    };
    assert_eq!(stats.iter().filter(out).count(), 2);
    assert_eq!(stats.iter().map(|stats| stats.failed).sum::<u64>(), 100);
    assert_eq!(endpoints.capacity(), 2);
    let one = set(Balance::RoundRobin, &["a:1"]);
    for _ in 0..100 {
        one.pick().unwrap().failed();
    }
    assert_eq!(state(&one, "a:1"), EndpointState::Serving);
    assert_eq!(
        set(Balance::PeakEwma, &[]).pick().unwrap_err(),
        PickError::Empty
    );
    assert_eq!(
        set(Balance::Ring, &["a:1 weight=0"]).pick().unwrap_err(),
        PickError::Empty
    );
}

#[test]
fn without_ejection_everybody_stays() {
    let builder = Endpoints::builder("test").without_ejection();
    let endpoints = builder.build(["a:1", "b:1"]).unwrap();
    for _ in 0..100 {
        endpoints.pick().unwrap().failed();
    }
    assert_eq!(state(&endpoints, "a:1"), EndpointState::Serving);
}

#[test]
fn who_answers_nobody_in_time_has_failed_and_who_is_cancelled_has_not() {
    in_world(|| {
        let endpoints = set(Balance::RoundRobin, &["a:1"]);
        let late = maniple::timeout(Duration::from_millis(5), || {
            endpoints.call(|_| {
                maniple::sleep(LONG);
                Ok::<_, Infallible>(())
            })
        });
        assert!(late.is_err());
        assert_eq!(endpoints.stats()[0].failed, 1);

        let never = maniple::sync::channel::bounded::<()>(1);
        for unwinds in [false, true] {
            let begun = Notify::new();
            let cancelled = maniple::group(|g| {
                let call = g.spawn(|| {
                    endpoints.call(|_| {
                        begun.notify_one();
                        match unwinds {
                            true => maniple::sleep(LONG),
                            false => drop(never.1.recv()),
                        }
                        Err::<(), _>("cancelled")
                    })
                });
                begun.notified();
                call.cancel();
                drop(call.join());
                Ok::<_, Infallible>(())
            });
            assert!(cancelled.is_ok());
        }
        let stats = &endpoints.stats()[0];
        assert_eq!((stats.failed, stats.succeeded, stats.in_flight), (1, 0, 0));
    });
}

#[test]
fn an_error_that_the_caller_is_to_blame_for_is_no_failure() {
    let endpoints = set(Balance::RoundRobin, &["a:1"]);
    let call = |error: &'static str| {
        let fails = |error: &&str| *error != "bad request";
        endpoints.call_if(&Want::new(), fails, |_| Err::<(), _>(error))
    };
    assert_eq!(call("bad request"), Err(CallError::Call("bad request")));
    assert_eq!(call("broken"), Err(CallError::Call("broken")));
    let stats = &endpoints.stats()[0];
    assert_eq!((stats.succeeded, stats.failed, stats.calls), (1, 1, 2));
    let panicked = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        endpoints.call(|_| -> Result<(), ()> { panic!("on purpose") })
    }));
    assert!(panicked.is_err());
    assert_eq!(endpoints.stats()[0].in_flight, 0);
}

#[test]
fn a_new_list_keeps_what_is_known_and_lets_calls_go_on() {
    let ejection = Ejection::new().in_a_row(1).pause(LONG, LONG);
    let builder = Endpoints::builder("test").balance(Balance::RoundRobin);
    let endpoints = builder.ejection(ejection).build(["a:1", "b:1"]).unwrap();
    let (held, failing) = (endpoints.pick().unwrap(), endpoints.pick().unwrap());
    let (kept, failed) = (held.address().to_owned(), failing.address().to_owned());
    failing.failed();
    let mut list = endpoints.list();
    assert!(!endpoints.set(list.clone()).unwrap(), "it is the same");
    list.reverse();
    list.push("c:1 weight=2".parse().unwrap());
    list.push("c:1".parse().unwrap());
    assert!(endpoints.set(list).unwrap());
    assert_eq!(endpoints.list().len(), 3);
    assert!(matches!(
        state(&endpoints, &failed),
        EndpointState::Ejected { .. }
    ));
    assert_eq!(
        state(&endpoints, "c:1"),
        EndpointState::Returning,
        "it is new"
    );
    assert!(
        shares(&endpoints, 20)[&kept] > 10,
        "and has few calls at first"
    );
    endpoints.set(["d:1"]).unwrap();
    held.succeeded();
    let many = (0..10_001).map(|number| format!("h{number}:1"));
    let refused = endpoints.set(many).unwrap_err();
    assert_eq!(
        refused,
        ListError::TooMany {
            given: 10_001,
            most: 10_000
        }
    );
    assert_eq!(endpoints.list()[0].address(), "d:1");
}

#[test]
fn a_file_is_followed_and_one_that_is_wrong_changes_nothing() {
    on(2, || {
        let folder = std::env::temp_dir().join(format!("maniple-endpoints-{}", std::process::id()));
        fs::create_dir_all(&folder).unwrap();
        let (path, next) = (folder.join("list"), folder.join("next"));
        let write = |text: &str| {
            fs::write(&next, text).unwrap();
            fs::rename(&next, &path).unwrap();
        };
        write("# two of them\na:1\n\nb:1 weight=2 # heavy\n");
        let endpoints = set(Balance::RoundRobin, &[]);
        let following = endpoints
            .follow(Duration::from_millis(1), source::file(&path))
            .unwrap();
        let list = || Vec::from_iter(endpoints.list().iter().map(Endpoint::to_string));
        assert_eq!(list(), ["a:1", "b:1 weight=2"], "at once");
        write("c:1\n");
        until("it is read again", || list() == ["c:1"]);
        let mut wrong = source::file(&path);
        write("d:1\ne:1 heavy\n");
        let error = wrong().unwrap_err().to_string();
        assert!(error.contains("list: line 2: \"e:1 heavy\""), "{error}");
        write("# none\n");
        assert_eq!(wrong().unwrap(), []);
        fs::remove_file(&path).unwrap();
        assert_eq!(wrong().unwrap_err().kind(), io::ErrorKind::NotFound);
        assert_eq!(list(), ["c:1"], "and none of it was taken");
        write("f:1\n");
        until("it goes on", || list() == ["f:1"]);
        drop(following);
        fs::remove_dir_all(&folder).unwrap();
    });
}

#[test]
fn a_name_is_all_its_addresses_and_a_source_that_panics_is_asked_again() {
    on(2, || {
        let endpoints = set(Balance::RoundRobin, &[]);
        let mut localhost = source::name("localhost:80");
        let mut asked = 0;
        let _following = endpoints.follow(Duration::from_millis(1), move || {
            asked += 1;
            match asked {
                1 => panic!("on purpose"),
                2 => Ok(Vec::new()),
                _ => localhost(),
            }
        });
        let is_local = |endpoint: &Endpoint| endpoint.address() == "127.0.0.1:80";
        until("it is asked again", || {
            endpoints.list().iter().any(is_local)
        });
        assert!(source::name("no port")().is_err());
    });
}

#[test]
fn checks_take_a_server_out_and_bring_it_back() {
    in_world(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let endpoints = Endpoints::builder("test").build([address]).unwrap();
        let checks = Checks::every(Duration::from_millis(1)).fall(2).rise(2);
        let checking = endpoints.check(checks.clone(), connects).unwrap();
        let is = |wanted| state(&endpoints, &address.to_string()) == wanted;
        drop(listener);
        until("it is down", || is(EndpointState::Down));
        endpoints.pick().expect("better than nothing").succeeded();
        let _listener = TcpListener::bind(address).unwrap();
        until("it is up again", || is(EndpointState::Returning));
        drop(checking);
        let slow = checks.timeout(Duration::from_millis(1));
        let _checking = endpoints.check(slow, |_: &str| -> io::Result<()> {
            maniple::sleep(LONG);
            Ok(())
        });
        until("it takes too long", || is(EndpointState::Down));
    });
}

#[test]
fn what_follows_a_set_ends_with_it() {
    on(2, || {
        let ended = std::sync::Arc::new(());
        let held = ended.clone();
        let endpoints = set(Balance::RoundRobin, &["a:1"]);
        let following = endpoints.follow(Duration::from_millis(1), move || {
            let _held = &held;
            Ok(vec![Endpoint::new("a:1")])
        });
        let held = ended.clone();
        let checking = endpoints.check(Checks::every(Duration::from_millis(1)), move |_: &str| {
            let _held = &held;
            Ok::<_, Infallible>(())
        });
        assert!(std::sync::Arc::strong_count(&ended) == 3);
        drop(endpoints);
        until("both are gone", || {
            std::sync::Arc::strong_count(&ended) == 1
        });
        drop((following, checking));
    });
}

/// Long enough for anything, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn wait_until(what: impl Fn() -> bool) {
    let waits = || {
        while !what() {
            maniple::sleep(Duration::from_millis(1));
        }
    };
    maniple::timeout(PATIENCE, waits).expect("it comes to that");
}

#[test]
fn calls_that_find_no_place_wait_and_are_served_as_they_came() {
    on(2, || {
        let builder = Endpoints::builder("test").limit(1).queue(3, PATIENCE);
        let endpoints = builder.build(["a:1"]).unwrap();
        let held = endpoints.pick().unwrap();
        let served = Arc::new(Mutex::new(Vec::new()));
        let mut waiting = Vec::new();
        for number in 0..3 {
            let (set, served) = (endpoints.clone(), served.clone());
            waiting.push(maniple::spawn(move || {
                let picked = set.pick().unwrap();
                served.lock().unwrap().push(number);
                maniple::yield_now();
                picked.succeeded();
            }));
            wait_until(|| endpoints.waiting() == number + 1);
        }
        assert_eq!(endpoints.pick().unwrap_err(), PickError::Full, "a fourth");
        held.succeeded();
        for one in waiting {
            one.join().unwrap();
        }
        assert_eq!(*served.lock().unwrap(), [0, 1, 2]);
        assert_eq!(
            (endpoints.waiting(), endpoints.stats()[0].in_flight),
            (0, 0)
        );
    });
}

#[test]
fn who_waits_for_a_place_waits_no_longer_than_it_may() {
    on(2, || {
        let brief = Duration::from_millis(20);
        let build = |patience| {
            let builder = Endpoints::builder("test").limit(1).queue(9, patience);
            builder.build(["a:1"]).unwrap()
        };
        let endpoints = build(brief);
        let _held = endpoints.pick().unwrap();
        assert_eq!(endpoints.pick().unwrap_err(), PickError::TimedOut);

        let endpoints = build(Duration::MAX);
        let held = endpoints.pick().unwrap();
        let late = maniple::timeout(brief, || endpoints.pick().unwrap_err());
        assert_eq!(
            late.unwrap(),
            PickError::TimedOut,
            "by the caller's deadline"
        );
        let first = maniple::spawn({
            let set = endpoints.clone();
            move || set.pick().map(drop)
        });
        wait_until(|| endpoints.waiting() == 1);
        let second = maniple::spawn({
            let set = endpoints.clone();
            move || set.pick().map(drop)
        });
        wait_until(|| endpoints.waiting() == 2);
        // Who gives up in front hands its turn on.
        first.cancel();
        wait_until(|| endpoints.waiting() == 1);
        held.succeeded();
        second.join().unwrap().unwrap();
        assert!(!matches!(first.join(), Ok(Ok(()))));
        assert_eq!(
            (endpoints.waiting(), endpoints.stats()[0].in_flight),
            (0, 0)
        );
    });
}

#[test]
fn a_server_that_is_new_serves_who_waits() {
    on(2, || {
        let builder = Endpoints::builder("test").limit(1).queue(9, PATIENCE);
        let endpoints = builder.build(["a:1"]).unwrap();
        let _held = endpoints.pick().unwrap();
        let waits = maniple::spawn({
            let set = endpoints.clone();
            move || set.pick().unwrap().address().to_owned()
        });
        wait_until(|| endpoints.waiting() == 1);
        endpoints.set(["a:1", "b:1"]).unwrap();
        assert_eq!(waits.join().unwrap(), "b:1");
    });
}

#[test]
fn who_asked_for_it_is_told_of_servers_that_leave_and_of_no_others() {
    let endpoints = set(Balance::RoundRobin, &["a:1", "b:1"]);
    let told: Arc<Mutex<Vec<String>>> = Arc::default();
    let panics = endpoints.on_leave(|_| panic!("of who is told first"));
    let listening = endpoints.on_leave({
        let (told, endpoints) = (told.clone(), endpoints.clone());
        move |endpoint| {
            // It may ask the set.
            assert!(endpoints.list().iter().all(|one| one != endpoint));
            told.lock().unwrap().push(endpoint.address().to_owned());
        }
    });
    let picked = endpoints.pick().unwrap();
    assert!(!picked.has_left());
    endpoints.set(["b:1", "c:1"]).unwrap();
    assert_eq!((picked.address(), picked.has_left()), ("a:1", true));
    endpoints
        .set(["b:1 weight=3".parse::<Endpoint>().unwrap()])
        .unwrap();
    assert_eq!(*told.lock().unwrap(), ["a:1", "c:1"]);
    drop((listening, panics));
    endpoints.set(["d:1"]).unwrap();
    assert_eq!(told.lock().unwrap().len(), 2);
    // Who comes back is another one.
    endpoints.set(["a:1"]).unwrap();
    assert!(picked.has_left() && !endpoints.pick().unwrap().has_left());
}

#[test]
fn all_sets_that_there_are_can_be_asked() {
    let names = || {
        let all = Endpoints::all();
        let names = all.iter().map(|set| set.name().to_owned());
        names
            .filter(|name| name.starts_with("known"))
            .collect::<Vec<_>>()
    };
    let known = |name: &str| Endpoints::builder(name).build(["a:1"]).unwrap();
    let (one, other) = (known("known-1"), known("known-2"));
    assert_eq!(names(), ["known-1", "known-2"]);
    let clone = one.clone();
    drop((one, other));
    assert_eq!(names(), ["known-1"]);
    drop(clone);
    assert_eq!(names(), [""; 0]);
}

#[test]
fn what_follows_an_answer_is_not_in_how_long_it_took() {
    in_world(|| {
        let endpoints = set(Balance::RoundRobin, &["a:1"]);
        let mut picked = endpoints.pick().unwrap();
        picked.answered(true);
        let took = endpoints.stats();
        assert_eq!((took[0].in_flight, took[0].succeeded), (1, 0));
        maniple::sleep(Duration::from_millis(60));
        drop(picked);
        let stats = endpoints.stats();
        assert!(stats[0].latency < Duration::from_millis(50), "{stats:?}");
        assert_eq!((stats[0].in_flight, stats[0].succeeded), (0, 1));
        let mut broken = endpoints.pick().unwrap();
        broken.answered(true);
        broken.answered(false);
        drop(broken);
        assert_eq!(endpoints.stats()[0].failed, 1);
    });
}

#[test]
fn the_dump_tells_of_sets_while_they_are_there() {
    maniple::run(|| {
        let two = [
            Endpoint::new("told-a:1").weight(3).zone("x"),
            Endpoint::new("told-b:1\n").weight(0),
        ];
        let builder = Endpoints::builder("told\nof").limit(5);
        let set = builder.build(two).unwrap();
        let picked = set.pick().unwrap();
        let dump = maniple::inspect::dump();
        for line in [
            "\nsets of servers\n",
            "\n  told\\nof: 2 servers, 0 calls wait\n",
            "\n    told-a:1 weight=3 zone=x: serving, 1 of 5 under way, ",
            "; 1 calls, 0 failed, left out 0 times\n",
            "\n    told-b:1\\n weight=0: draining, 0 of 5 under way, ",
        ] {
            assert!(dump.contains(line), "{line:?} in {dump}");
        }
        drop((picked, set));
        assert!(!maniple::inspect::dump().contains("told-a"));
        // Of many some are told.
        let many = Endpoints::builder("told of many");
        let many = many.build((0..103).map(|n| format!("m{n}:1"))).unwrap();
        let dump = maniple::inspect::dump();
        assert!(
            dump.contains("\n    m99:1: ") && dump.contains("\n    and 3 more\n"),
            "{dump}"
        );
        drop(many);
    });
}
