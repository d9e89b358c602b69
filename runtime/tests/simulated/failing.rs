//! What is said of a seed that fails: a smaller world, and what happened in it, as text and as a picture.

use std::{
    io::{Read, Write},
    process::Command,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    time::Duration,
};

use maniple::{
    net::{TcpListener, TcpStream},
    panics,
    sim::{self, Bounds, PacketKind, Verdict, World},
};

const MILLI: Duration = Duration::from_millis(1);

fn echo() {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    while let Ok((mut stream, _)) = listener.accept() {
        drop(maniple::spawn(move || {
            let mut bytes = [0; 64];
            while let Ok(count @ 1..) = stream.read(&mut bytes) {
                if stream.write_all(&bytes[..count]).is_err() {
                    break;
                }
            }
        }));
    }
}

/// Fails where a partition outlasts the patience of who asks; all else has nothing to do with that.
fn fails_because_of_a_partition(world: &World) {
    let _server = world.host("server", echo);
    let other = world.host("other", echo);
    world
        .link("scenario", "server")
        .latency(MILLI..2 * MILLI)
        .loss(0.01);
    world.link("scenario", "other").latency(MILLI..20 * MILLI);
    world.settle();
    let mut stream = TcpStream::connect("server:7").unwrap();
    other.crash();
    let cut = world.partition(&["scenario"], &["server"]);
    let healer = world.clone();
    drop(maniple::spawn(move || {
        maniple::sleep(Duration::from_millis(healer.draw(1..1000)));
        drop(cut);
    }));
    stream.write_all(b"hello").unwrap();
    stream.set_read_timeout(Some(500 * MILLI)).unwrap();
    let answer = stream.read_exact(&mut [0; 5]);
    assert!(answer.is_ok(), "no answer in time");
    other.restart();
}

fn message_of(check: impl FnOnce() + std::panic::UnwindSafe) -> String {
    let failed = std::panic::catch_unwind(check).expect_err("the check fails");
    panics::message(&*failed).unwrap().to_owned()
}

#[test]
fn a_smaller_world_has_only_what_the_failure_takes() {
    let text = message_of(|| sim::check(0..100, fails_because_of_a_partition));
    println!("{text}");
    let smaller = text.split("smaller world").nth(1).unwrap();
    let (without, with) = smaller.split_once("  with\n").unwrap();
    assert!(without.contains("turns that are drawn"), "{text}");
    assert!(with.contains("a partition between"), "{text}");
    for needless in ["latency", "loss", "crash", "\"other\""] {
        assert!(!with.contains(needless), "{needless}: {text}");
    }
    assert!(
        with.contains("MANIPLE_SIM_WITHOUT='") && with.contains("MANIPLE_SIM_SEED="),
        "{text}"
    );
}

/// Where the rule stands that the failure takes.
static LOSES: AtomicU32 = AtomicU32::new(0);

/// Fails where a rule drops a request, which comes again too late; another rule has nothing to do with that.
fn fails_because_of_a_rule(world: &World) {
    let _server = world.host("server", echo);
    let _slow = world.rule(|packet| packet.of(PacketKind::Syn).then_delay(MILLI));
    world.settle();
    let mut stream = TcpStream::connect("server:7").unwrap();
    LOSES.store(line!() + 1, Ordering::Relaxed);
    let _loses = world.rule(|packet| match packet.chance(0.3) {
        true => packet.goes("scenario", "server").then_drop(),
        false => Verdict::Pass,
    });
    stream.write_all(b"hello").unwrap();
    stream.set_read_timeout(Some(150 * MILLI)).unwrap();
    let answer = stream.read_exact(&mut [0; 5]);
    assert!(answer.is_ok(), "no answer in time");
}

#[test]
fn a_smaller_world_keeps_the_rule_that_the_failure_takes_and_no_other() {
    let text = message_of(|| sim::check(0..100, fails_because_of_a_rule));
    let smaller = text.split("smaller world").nth(1).unwrap();
    let (_, with) = smaller.split_once("  with\n").unwrap();
    let rules: Vec<_> = with
        .lines()
        .filter(|line| line.contains("a rule for packets"))
        .collect();
    assert_eq!(rules.len(), 1, "{text}");
    let place = format!("failing.rs:{}:", LOSES.load(Ordering::Relaxed));
    assert!(rules[0].contains(&place), "{place}: {text}");
    // The same draws decide which packet it drops, so that the line fails again.
    let without = with.split("MANIPLE_SIM_WITHOUT='").nth(1).unwrap();
    let (without, rest) = without.split_once("' MANIPLE_SIM_SEED=").unwrap();
    let seed = rest.split_whitespace().next().unwrap();
    let environment = [(sim::WITHOUT_VARIABLE, without), (sim::SEED_VARIABLE, seed)];
    let (passed, again) = run("failing::a_check_with_a_rule_that_fails", &environment);
    assert!(!passed && again.contains("no answer in time"), "{again}");
}

#[test]
#[ignore = "run by another, with an environment of its own"]
fn a_check_with_a_rule_that_fails() {
    sim::check(0..100, fails_because_of_a_rule);
}

#[test]
#[ignore = "run by others, with an environment of theirs"]
fn a_check_that_fails() {
    sim::check(0..100, fails_because_of_a_partition);
}

fn run_with(environment: &[(&str, &str)]) -> (bool, String) {
    run("failing::a_check_that_fails", environment)
}

fn run(test: &str, environment: &[(&str, &str)]) -> (bool, String) {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args([test, "--exact", "--ignored"]);
    let output = command.envs(environment.iter().copied()).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.success(),
        text + &String::from_utf8_lossy(&output.stderr),
    )
}

#[test]
fn the_line_of_the_smaller_world_runs_that_again() {
    let (_, text) = run_with(&[]);
    let line = text.rsplit("MANIPLE_SIM_WITHOUT='").next().unwrap();
    let (without, rest) = line.split_once("' MANIPLE_SIM_SEED=").unwrap();
    let seed = rest.split_whitespace().next().unwrap();
    let (passed, again) = run_with(&[(sim::WITHOUT_VARIABLE, without), (sim::SEED_VARIABLE, seed)]);
    assert!(!passed && again.contains("no answer in time"), "{again}");
    // And without the partition nothing fails.
    let partition = text
        .lines()
        .find(|line| line.contains("a partition between"));
    let place = partition.unwrap().rsplit('(').next().unwrap();
    let place = place.trim_end_matches(')');
    let all = format!("{without},{place}");
    let (passed, again) = run_with(&[(sim::WITHOUT_VARIABLE, &all), (sim::SEED_VARIABLE, seed)]);
    assert!(passed, "{again}");
}

#[test]
fn a_scenario_that_fails_by_something_else_than_its_seed_is_told_so() {
    static RUNS: AtomicU32 = AtomicU32::new(0);
    let text = message_of(|| {
        sim::check(0..10, |_| {
            assert!(RUNS.fetch_add(1, Ordering::Relaxed) != 5)
        });
    });
    assert!(text.contains("does not follow from the seed"), "{text}");
}

#[test]
fn a_record_says_who_sent_what_when_and_what_became_of_it() {
    let (ended, record) = sim::record(3, |world| {
        let server = world.host("server", echo);
        world.settle();
        world.note("greets & waits");
        let mut stream = TcpStream::connect("server:7").unwrap();
        stream.write_all(b"GET <all>\r\nthe rest").unwrap();
        stream.read_exact(&mut [0; 19]).unwrap();
        server.crash();
        let refused = maniple::timeout(3000 * MILLI, || TcpStream::connect("server:7"));
        assert!(refused.unwrap().is_err());
        server.restart();
    });
    ended.unwrap();
    let text = record.text();
    for expected in [
        "scenario -> server #1: connect to 10.0.0.2:7",
        "arrived #1",
        "server -> scenario #2: connected",
        "bytes GET <all>…",
        "server stops",
        "connect to 10.0.0.2:7, again",
        "lost #",
        "server is back",
        "scenario: greets & waits",
        "after: its first turn",
    ] {
        assert!(text.contains(expected), "{expected:?} in\n{text}");
    }
    let svg = record.svg();
    assert!(svg.starts_with("<svg ") && svg.trim_end().ends_with("</svg>"));
    for expected in [
        "GET &lt;all&gt;…",
        "greets &amp; waits",
        "stops",
        "is back",
        "✕",
        ">server<",
    ] {
        assert!(svg.contains(expected), "{expected:?} in\n{svg}");
    }
    assert_eq!(svg.matches('<').count(), svg.matches('>').count());
    let again = sim::record(3, |_| ()).1;
    assert!(!again.text().contains("server"));
}

#[test]
fn what_is_recorded_is_what_happens_anyhow() {
    let scenario = |world: &World| {
        let _server = world.host("server", echo);
        world.settle();
        let mut stream = TcpStream::connect("server:7").unwrap();
        stream.write_all(b"hello").unwrap();
        stream.read_exact(&mut [0; 5]).unwrap();
    };
    for seed in 0..20 {
        let run = sim::run(seed, scenario).unwrap();
        let (recorded, record) = sim::record(seed, scenario);
        assert_eq!(run, recorded.unwrap());
        assert!(!record.text().is_empty());
    }
}

#[test]
fn a_failing_seed_is_drawn_into_the_file_that_the_environment_names() {
    let folder = std::env::temp_dir().join(format!("maniple-sim-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let file = folder.join("failing.svg");
    let (passed, text) = run_with(&[(sim::DIAGRAM_VARIABLE, file.to_str().unwrap())]);
    let svg = std::fs::read_to_string(&file);
    std::fs::remove_dir_all(&folder).unwrap();
    assert!(
        !passed && svg.is_ok_and(|svg| svg.contains("</svg>")),
        "{text}"
    );
}

/// Takes no error for an end.
fn goes_on_over_errors() {
    let listener = TcpListener::bind("0.0.0.0:7").unwrap();
    listener.incoming().for_each(drop);
}

#[test]
fn a_service_that_goes_on_over_errors_when_it_is_to_end_is_named() {
    let failure = sim::run(0, |world| {
        let _server = world.host("server", goes_on_over_errors);
        world.settle();
        assert!(TcpStream::connect("server:7").is_ok());
    });
    let text = failure.unwrap_err().to_string();
    assert!(text.contains("\"server\", spawned at"), "{text}");
    assert!(
        text.contains(file!()) && text.contains("while time stood still"),
        "{text}"
    );
}

#[test]
fn a_service_that_goes_on_over_errors_in_a_crash_is_named_in_the_dump() {
    let failure = sim::run(0, |world| {
        world.bound(Bounds::default().turns_at_once(10_000));
        let server = world.host("server", goes_on_over_errors);
        world.settle();
        server.crash();
    });
    let text = failure.unwrap_err().to_string();
    assert!(
        text.contains("standstill") && text.contains("10000 turns"),
        "{text}"
    );
    assert!(text.contains("server"), "{text}");
}

#[test]
fn a_coroutine_that_yields_for_ever_when_it_is_to_end_is_named() {
    let failure = sim::run(0, |_| {
        let spins = || {
            maniple::cancel::shield(|| {
                loop {
                    maniple::yield_now()
                }
            })
        };
        drop(maniple::task::Builder::new().name("spinner").spawn(spins));
        (0..100).for_each(|_| maniple::yield_now());
    });
    let text = failure.unwrap_err().to_string();
    assert!(text.contains("\"spinner\", spawned at"), "{text}");
    assert!(text.contains("while time stood still"), "{text}");
}

#[test]
fn a_coroutine_that_neither_waits_nor_ends_is_named_after_the_patience_that_was_set() {
    static OVER: AtomicBool = AtomicBool::new(false);
    let message = message_of(|| {
        sim::check(0..1, |world| {
            world.bound(Bounds::default().patience(Duration::from_secs(1)));
            let _host = world.host("computer", || {
                while !OVER.load(Ordering::Relaxed) {
                    std::hint::spin_loop();
                }
            });
            world.settle();
        });
    });
    OVER.store(true, Ordering::Relaxed);
    assert!(message.contains("\"computer\", spawned at"), "{message}");
    assert!(message.contains("neither waits nor ends"), "{message}");
}

#[test]
fn a_scenario_has_the_time_and_the_turns_that_it_was_given() {
    let outcome = |bounds: Bounds, body: fn()| {
        sim::run(0, move |world| {
            world.bound(bounds);
            body();
        })
    };
    let hours = || maniple::sleep(Duration::from_secs(3 * 3600));
    let short = Bounds::default().longest(Duration::from_secs(3600));
    let text = outcome(short, hours).unwrap_err().to_string();
    assert!(text.contains("has not ended within 3600s"), "{text}");
    let days = || maniple::sleep(Duration::from_secs(3 * 24 * 3600));
    let long = Bounds::default().longest(Duration::from_secs(4 * 24 * 3600));
    assert!(outcome(long, days).is_ok());
    assert!(outcome(Bounds::default(), days).is_err());
    let turns = || (0..2000).for_each(|_| maniple::yield_now());
    assert!(outcome(Bounds::default().turns_at_once(1000), turns).is_err());
    assert!(outcome(Bounds::default().turns_at_once(3000), turns).is_ok());
}
