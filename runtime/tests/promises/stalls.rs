//! Workers that are held: who holds them is told, and being looked at does nobody harm.

use std::{
    io::{self, Read},
    sync::{
        Arc, Once,
        atomic::{AtomicBool, Ordering},
    },
    time::{Duration, Instant},
};

use maniple::{Runtime, inspect, task::Builder};

use crate::{LONG, passes_as_child};

#[test]
fn stall_limits_below_a_millisecond_are_refused() {
    for limit in [Duration::ZERO, Duration::from_micros(10)] {
        let refused = inspect::watch_stalls(limit).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::InvalidInput);
    }
}

/// Keeps what was logged.
struct Log(std::sync::Mutex<Vec<String>>);

impl log::Log for Log {
    fn enabled(&self, metadata: &log::Metadata<'_>) -> bool {
        metadata.target() == "maniple::stall"
    }

    fn log(&self, record: &log::Record<'_>) {
        if self.enabled(record.metadata()) {
            self.0.lock().unwrap().push(record.args().to_string());
        }
    }

    fn flush(&self) {}
}

fn logged() -> &'static Log {
    static LOG: Log = Log(std::sync::Mutex::new(Vec::new()));
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        log::set_logger(&LOG).unwrap();
        log::set_max_level(log::LevelFilter::Warn);
    });
    &LOG
}

/// Waits for the report with all of these words in it.
fn report(words: &[&str]) -> String {
    let begun = Instant::now();
    loop {
        let found = {
            let reports = logged().0.lock().unwrap();
            let mut reports = reports.iter();
            let all = |report: &&String| words.iter().all(|word| report.contains(word));
            reports.find(all).cloned()
        };
        if let Some(found) = found {
            return found;
        }
        assert!(begun.elapsed() < LONG, "no report");
        std::thread::yield_now();
    }
}

fn watched() -> (Runtime, inspect::StallWatch) {
    logged();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let watch = inspect::watch_stalls(Duration::from_millis(20)).unwrap();
    (runtime, watch)
}

#[inline(never)]
fn computes_in_here(free: &AtomicBool) {
    while !free.load(Ordering::Acquire) {
        std::hint::spin_loop();
    }
}

#[test]
fn a_coroutine_that_keeps_its_worker_is_named_with_where_it_is() {
    let (runtime, _watch) = watched();
    let free = Arc::new(AtomicBool::new(false));
    let theirs = free.clone();
    let builder = Builder::new().name("seen-stalling");
    let holder = runtime
        .spawn_with(builder, move || computes_in_here(&theirs))
        .unwrap();
    let report = report(&["seen-stalling"]);
    free.store(true, Ordering::Release);
    holder.join().unwrap();
    assert!(
        report.contains("spawned at runtime/tests/promises/stalls.rs"),
        "{report}"
    );
    assert!(report.contains("computes_in_here"), "{report}");
}

#[test]
fn a_coroutine_that_waits_for_a_lock_of_std_is_named_with_where_it_is() {
    let (runtime, _watch) = watched();
    let lock = Arc::new(std::sync::Mutex::new(()));
    let (theirs, held) = (lock.clone(), lock.lock().unwrap());
    let builder = Builder::new().name("seen-locked");
    let holder = runtime
        .spawn_with(builder, move || {
            drop(theirs.lock().unwrap());
            std::hint::black_box(());
        })
        .unwrap();
    let report = report(&["seen-locked"]);
    drop(held);
    holder.join().unwrap();
    assert!(
        report.contains("at runtime/tests/promises/stalls.rs")
            || report.contains("at ./tests/promises/stalls.rs"),
        "{report}"
    );
}

/// Each call is a turn of its own, and so has a report of its own: where a busy machine is late with one, the next
/// counts.
#[test]
fn a_call_with_a_time_limit_is_reported_and_not_cut_short() {
    let (runtime, _watch) = watched();
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let builder = Builder::new().name("seen-receiving");
    let limit = Duration::from_millis(500);
    let reported = Arc::new(AtomicBool::new(false));
    let told = reported.clone();
    let receiver = runtime
        .spawn_with(builder, move || {
            let mut socket = std::net::TcpStream::connect(address).unwrap();
            socket.set_read_timeout(Some(limit)).unwrap();
            loop {
                let begun = Instant::now();
                let error = socket.read(&mut [0]).unwrap_err();
                let after = begun.elapsed();
                assert_eq!(error.kind(), io::ErrorKind::WouldBlock);
                assert!(after >= limit, "{after:?}");
                if told.load(Ordering::Acquire) {
                    return;
                }
                maniple::yield_now();
            }
        })
        .unwrap();
    report(&["seen-receiving", "recv"]);
    reported.store(true, Ordering::Release);
    receiver.join().unwrap();
}

/// Turns that end about when the watch asks, and switches of stacks without end after them.
#[test]
#[ignore = "would crash the process: a child of the test below"]
fn switching_child() {
    let _watch = inspect::watch_stalls(Duration::from_millis(1)).unwrap();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let until = Instant::now() + Duration::from_secs(10);
    runtime.run(|| {
        for round in 0.. {
            if Instant::now() >= until {
                return;
            }
            let (begun, some) = (
                Instant::now(),
                Duration::from_micros(1000 + round * 7 % 700),
            );
            while begun.elapsed() < some {
                std::hint::spin_loop();
            }
            let turns = || (0..2000).for_each(|_| maniple::yield_now());
            let ((), ()) = maniple::join!(turns(), turns());
        }
    });
}

#[test]
fn a_watch_does_not_crash_who_switches_stacks() {
    passes_as_child("stalls::switching_child");
}

/// Two locks, taken in two orders, while the test looks on.
#[test]
#[ignore = "leaves a deadlock behind: a child of the test below"]
fn deadlock_child() {
    let (runtime, _watch) = watched();
    let locks = Arc::new([maniple::sync::Mutex::new(()), maniple::sync::Mutex::new(())]);
    let take = move |first: usize| {
        let locks = locks.clone();
        let named = Builder::new().name(format!("takes {first} first"));
        let take = move || {
            let _one = locks[first].lock();
            maniple::yield_now();
            let _other = locks[1 - first].lock();
        };
        named.spawn(take).unwrap()
    };
    // Never ends.
    std::thread::spawn(move || {
        runtime.run(|| {
            for handle in [take(0), take(1)] {
                handle.join().unwrap();
            }
        });
    });
    let told = report(&["deadlock?"]);
    assert!(told.contains("\"takes 0 first\""), "{told}");
    assert!(told.contains("\"takes 1 first\""), "{told}");
    assert!(told.contains("stalls.rs:"), "{told}");
    assert!(told.contains("waits for lock"), "{told}");
    // Longer than one silence, and the watch says no more.
    maniple::sleep(Duration::from_millis(2500));
    let reports = logged().0.lock().unwrap();
    let told = reports.iter().filter(|text| text.contains("deadlock?"));
    assert_eq!(told.count(), 1);
}

#[test]
fn a_deadlock_of_all_is_told_of_once() {
    passes_as_child("stalls::deadlock_child");
}

#[test]
#[ignore = "watches all coroutines of its process: a child of the test below"]
fn silence_child() {
    let (runtime, _watch) = watched();
    runtime.run(|| {
        let (sender, receiver) = maniple::sync::channel::bounded::<()>(0);
        let waits = maniple::spawn(move || receiver.recv().is_err());
        maniple::sleep(Duration::from_millis(2500)); // more than what is taken for silence
        drop(sender);
        assert!(waits.join().unwrap());
    });
    let reports = logged().0.lock().unwrap();
    assert!(
        !reports.iter().any(|text| text.contains("deadlock?")),
        "{reports:?}"
    );
}

#[test]
fn who_only_sleeps_is_in_no_deadlock() {
    passes_as_child("stalls::silence_child");
}
