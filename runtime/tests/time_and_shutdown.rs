//! Sleeps and timers, what an idle runtime costs, and how a runtime ends.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
        mpsc,
    },
    time::{Duration, Instant},
};

use maniple::{
    Runtime,
    sync::{Mutex, channel},
};

/// Bounds a wait that must end, so that a failure does not hang.
const LONG: Duration = Duration::from_secs(60);
const GRACE: Duration = Duration::from_millis(200);

fn on<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    let runtime = Runtime::builder().workers(workers).build().unwrap();
    let value = runtime.run(body);
    assert!(runtime.shutdown().is_clean());
    value
}

fn impatient(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .shutdown_grace(GRACE)
        .build()
        .unwrap()
}

#[test]
fn a_sleep_is_never_too_short() {
    let spans = [0, 1, 50, 999, 1000, 1001, 3333, 20_000].map(Duration::from_micros);
    let sleep = |span| {
        let begun = Instant::now();
        maniple::sleep(span);
        assert!(begun.elapsed() >= span, "{span:?}");
        let until = Instant::now() + span;
        maniple::sleep_until(until);
        assert!(Instant::now() >= until, "{span:?}");
    };
    on(2, || {
        let handles: Vec<_> = (0..20)
            .map(|_| maniple::spawn(move || spans.into_iter().for_each(sleep)))
            .collect();
        for handle in handles {
            handle.join().unwrap();
        }
    });
    spans.into_iter().for_each(sleep);
}

#[test]
fn sleepers_wake_in_the_order_of_their_times() {
    let order = on(1, || {
        let (tell, told) = channel::unbounded();
        let start = Instant::now() + Duration::from_millis(20);
        for number in [7, 2, 9, 4, 0, 5, 8, 1, 6, 3_u32] {
            let tell = tell.clone();
            maniple::spawn(move || {
                maniple::sleep_until(start + Duration::from_millis(5) * number);
                tell.send(number).unwrap();
            });
        }
        drop(tell);
        told.iter().collect::<Vec<_>>()
    });
    assert_eq!(order, (0..10).collect::<Vec<_>>());
}

#[test]
fn a_hundred_thousand_sleepers_all_wake_and_none_too_early() {
    on(2, || {
        let handles: Vec<_> = (0..100_000_u64)
            .map(|i| {
                maniple::spawn(move || {
                    let span = Duration::from_micros(i * 7919 % 200_000);
                    let begun = Instant::now();
                    maniple::sleep(span);
                    begun.elapsed() >= span
                })
            })
            .collect();
        assert!(handles.into_iter().all(|handle| handle.join().unwrap()));
    });
}

#[test]
fn a_hundred_thousand_timers_that_never_fire_are_disarmed() {
    on(1, || {
        let (send, receive) = channel::bounded(0);
        let sender = maniple::spawn_local(move || {
            for i in 1..=100_000_u64 {
                send.send(i).unwrap();
            }
        });
        for i in 1..=100_000_u64 {
            assert_eq!(receive.recv_timeout(Duration::from_secs(i)), Ok(i));
        }
        sender.join().unwrap();
        let cut: Vec<_> = (0..1000)
            .map(|_| {
                let handle = maniple::spawn_local(|| maniple::sleep(LONG));
                maniple::yield_now();
                handle.cancel();
                handle
            })
            .collect();
        for handle in cut {
            assert!(handle.join().unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_time_too_far_to_express_is_never_reached() {
    on(1, || {
        let (begin, begun) = channel::bounded(1);
        let forever = maniple::spawn(move || {
            begin.send(()).unwrap();
            maniple::timeout(Duration::MAX, || maniple::sleep(Duration::MAX))
        });
        let far = maniple::spawn(|| maniple::sleep(Duration::from_secs(100 * 365 * 86_400)));
        begun.recv().unwrap();
        maniple::sleep(Duration::from_millis(5));
        assert!(!forever.is_finished() && !far.is_finished());
        forever.cancel();
        far.cancel();
        assert!(forever.join().unwrap_err().is_cancelled());
        assert!(far.join().unwrap_err().is_cancelled());
    });
}

#[test]
fn shutdown_cancels_what_waits_and_runs_its_destructors() {
    struct Tally(Arc<AtomicUsize>);
    impl Drop for Tally {
        fn drop(&mut self) {
            self.0.fetch_add(1, Ordering::SeqCst);
        }
    }
    let ended = Arc::new(AtomicUsize::new(0));
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let (begin, begun) = channel::unbounded();
    for _ in 0..1000 {
        let (tally, begin) = (Tally(ended.clone()), begin.clone());
        runtime.spawn(move || {
            let _tally = tally;
            begin.send(()).unwrap();
            maniple::sleep(LONG);
        });
    }
    for _ in 0..1000 {
        begun.recv().unwrap();
    }
    assert!(runtime.shutdown().is_clean());
    assert_eq!(ended.load(Ordering::SeqCst), 1000);
}

#[test]
fn a_coroutine_that_waits_for_a_lock_for_ever_is_reported_by_name() {
    let runtime = impatient(2);
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock();
    let (begin, begun) = channel::bounded(1);
    let theirs = lock.clone();
    let named = maniple::Builder::new().name("stuck on a lock");
    let handle = runtime.spawn_with(named, move || {
        begin.send(()).unwrap();
        drop(theirs.lock());
    });
    begun.recv().unwrap();
    let (begins, report) = (Instant::now(), runtime.shutdown());
    assert!(begins.elapsed() >= GRACE);
    assert!(!report.is_clean());
    let [stuck] = report.stuck() else {
        panic!("{report:?}")
    };
    assert_eq!(stuck.name(), Some("stuck on a lock"));
    assert_eq!(stuck.spawned_at().file(), file!());
    assert!(stuck.waits_for().is_some());
    let line = stuck.to_string();
    assert!(
        line.contains("stuck on a lock") && line.contains("waits for"),
        "{line}"
    );
    assert!(!handle.unwrap().is_finished());
    // To be woken after the end harms nobody.
    drop(held);
}

#[test]
fn a_coroutine_that_holds_its_worker_is_reported_and_may_end_later() {
    let runtime = impatient(1);
    let release = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let theirs = release.clone();
    let named = maniple::Builder::new().name("computes");
    let handle = runtime
        .spawn_with(named, move || {
            tell.send("begun").unwrap();
            while !theirs.load(Ordering::Acquire) {
                std::hint::spin_loop();
            }
            tell.send("ended").unwrap();
        })
        .unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok("begun"));
    let report = runtime.shutdown();
    let [stuck] = report.stuck() else {
        panic!("{report:?}")
    };
    assert_eq!((stuck.name(), stuck.waits_for()), (Some("computes"), None));
    assert!(stuck.to_string().ends_with("it holds its worker"));
    release.store(true, Ordering::Release);
    assert_eq!(told.recv_timeout(LONG), Ok("ended"));
    handle.join().unwrap();
}

#[test]
fn nothing_begins_after_the_shutdown_has_begun() {
    struct SpawnsAtTheEnd(mpsc::Sender<(bool, bool)>);
    impl Drop for SpawnsAtTheEnd {
        fn drop(&mut self) {
            let late = maniple::cancel::shield(|| maniple::spawn(|| ()).join());
            let refused = maniple::Builder::new().spawn(|| ()).is_err();
            let cancelled = late.is_err_and(|error| error.is_cancelled());
            self.0.send((cancelled, refused)).unwrap();
        }
    }
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (tell, told) = mpsc::channel();
    let (begin, begun) = channel::bounded(1);
    runtime.spawn(move || {
        let _spawns = SpawnsAtTheEnd(tell);
        begin.send(()).unwrap();
        maniple::sleep(LONG);
    });
    begun.recv().unwrap();
    assert!(runtime.shutdown().is_clean());
    assert_eq!(told.recv_timeout(LONG), Ok((true, true)));
}

#[test]
fn handles_outlive_their_runtime() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (begin, begun) = channel::bounded(1);
    let ended = runtime.spawn(|| 7);
    let cut = runtime.spawn(move || {
        begin.send(()).unwrap();
        maniple::sleep(LONG);
    });
    begun.recv().unwrap();
    while !ended.is_finished() {
        std::thread::yield_now();
    }
    drop(runtime);
    assert_eq!(ended.join().unwrap(), 7);
    assert!(cut.join().unwrap_err().is_cancelled());
}

/// What this process has used of its processors.
fn cpu_time() -> Duration {
    let time = rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}

/// Measures in a process of its own, since the clock counts all threads of a process.
#[test]
fn idle_workers_use_no_processor_time() {
    if std::env::var_os(IDLE).is_none() {
        let child = std::process::Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "idle_workers_use_no_processor_time"])
            .env(IDLE, "1")
            .output()
            .unwrap();
        assert!(child.status.success(), "{child:?}");
        return;
    }
    let runtime = Runtime::builder().workers(4).build().unwrap();
    let sleeper = runtime.spawn(|| maniple::sleep(LONG));
    let idle = || {
        let (never, nothing) = (std::sync::Mutex::new(()), std::sync::Condvar::new());
        let span = Duration::from_millis(300);
        let guard = never.lock().unwrap();
        drop(nothing.wait_timeout_while(guard, span, |()| true).unwrap());
    };
    idle();
    let before = cpu_time();
    idle();
    let used = cpu_time() - before;
    assert!(used < Duration::from_millis(30), "{used:?} in 300 ms");
    sleeper.cancel();
    assert!(sleeper.join().is_err());
}

const IDLE: &str = "MANIPLE_TEST_IDLE";
