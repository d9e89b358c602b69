//! How a runtime ends: what waits is cut, what is stuck is named, nothing begins any more.

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

use super::{LONG, plain_thread};

const GRACE: Duration = Duration::from_millis(200);

fn impatient(workers: usize) -> Runtime {
    Runtime::builder()
        .workers(workers)
        .shutdown_grace(GRACE)
        .build()
        .unwrap()
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
fn what_has_not_begun_when_the_shutdown_begins_is_cancelled_too() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let sleepers: Vec<_> = (0..100)
        .map(|_| runtime.spawn(|| maniple::sleep(LONG)))
        .collect();
    assert!(runtime.shutdown().is_clean());
    for sleeper in sleepers {
        assert!(sleeper.join().unwrap_err().is_cancelled());
    }
}

#[test]
fn a_coroutine_that_waits_for_a_lock_for_ever_is_reported_by_name() {
    let runtime = impatient(2);
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock();
    let (begin, begun) = channel::bounded(1);
    let theirs = lock.clone();
    let named = maniple::task::Builder::new().name("stuck on a lock");
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

/// How long the kernel keeps the worker's thread from running, as on a machine with too much to do: well beyond what
/// a worker may take to notice that its runtime ends.
const STARVED: Duration = Duration::from_secs(1);

#[test]
fn what_waits_on_a_worker_that_gets_no_processor_is_reported_too() {
    extern "C" fn starve(_: libc::c_int) {
        // SAFETY: always allowed, in a signal handler too.
        unsafe { libc::poll(std::ptr::null_mut(), 0, STARVED.as_millis() as libc::c_int) };
    }
    let runtime = impatient(1);
    let (tell, told) = mpsc::channel();
    let named = maniple::task::Builder::new().name("shielded");
    drop(runtime.spawn_with(named, move || {
        // SAFETY: both are always allowed.
        let thread = unsafe { (libc::pthread_self(), libc::gettid()) };
        tell.send(thread).unwrap();
        maniple::cancel::shield(|| maniple::sleep(LONG));
    }));
    let (thread, id) = told.recv_timeout(LONG).unwrap();
    let waits = || {
        let stat = std::fs::read_to_string(format!("/proc/self/task/{id}/stat")).unwrap();
        stat.rsplit(')')
            .next()
            .unwrap()
            .trim_start()
            .starts_with('S')
    };
    while !waits() {
        std::thread::yield_now();
    }
    // SAFETY: the handler only sleeps, nothing else in this process uses the signal, and the thread lives until its
    // runtime is shut down.
    unsafe {
        libc::signal(libc::SIGVTALRM, starve as *const () as libc::sighandler_t);
        assert_eq!(libc::pthread_kill(thread, libc::SIGVTALRM), 0);
    }
    let report = runtime.shutdown();
    let [stuck] = report.stuck() else {
        panic!("{report:?}")
    };
    assert_eq!(stuck.name(), Some("shielded"));
    assert!(stuck.waits_for().is_some());
}

#[test]
fn a_coroutine_that_holds_its_worker_is_reported_and_may_end_later() {
    let runtime = impatient(1);
    let release = Arc::new(AtomicBool::new(false));
    let (tell, told) = mpsc::channel();
    let theirs = release.clone();
    let named = maniple::task::Builder::new().name("computes");
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
            let refused = maniple::task::Builder::new().spawn(|| ()).is_err();
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

#[test]
fn what_a_stuck_coroutine_has_lent_stays() {
    struct Mine(AtomicUsize);
    impl Drop for Mine {
        fn drop(&mut self) {
            self.0.store(0xdead, Ordering::SeqCst);
        }
    }
    thread_local! { static MINE: Mine = const { Mine(AtomicUsize::new(7)) }; }

    let runtime = impatient(2);
    let (tell, told) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let (both, both_begun) = mpsc::channel();
    runtime.spawn(move || {
        MINE.with(|mine| {
            maniple::group(|g| {
                let (begin, begun) = mpsc::channel();
                g.spawn(move || {
                    begin.send(()).unwrap();
                    // Ignores its cancellation, and holds its worker.
                    released.recv_timeout(LONG).unwrap();
                    // The leader's worker has given up by now.
                    let late = g.spawn(|| ()).join();
                    let read = mine.0.load(Ordering::SeqCst);
                    tell.send((late.is_err(), read)).unwrap();
                });
                // This worker stands still until the other has taken the child.
                begun.recv_timeout(LONG).unwrap();
                both.send(()).unwrap();
                Ok::<_, ()>(())
            })
        })
    });
    both_begun.recv_timeout(LONG).unwrap();
    let report = runtime.shutdown();
    assert_eq!(report.stuck().len(), 2, "{report:?}");
    release.send(()).unwrap();
    assert_eq!(told.recv_timeout(LONG), Ok((true, 7)));
}

#[test]
fn a_shutdown_does_not_wait_for_the_thread_of_what_is_stuck() {
    let runtime = impatient(1);
    let (begin, begun) = channel::bounded(1);
    runtime.spawn(move || {
        begin.send(()).unwrap();
        maniple::cancel::shield(maniple::park);
    });
    begun.recv().unwrap();
    let (tell, told) = mpsc::channel();
    plain_thread(move || tell.send(runtime.shutdown().stuck().len()));
    assert_eq!(told.recv_timeout(LONG), Ok(1));
}

#[test]
fn who_wakes_a_coroutine_may_be_slower_than_the_end_of_its_runtime() {
    let (wake, to_wake) = mpsc::channel::<maniple::Current>();
    let waker = plain_thread(move || to_wake.iter().for_each(|parked| parked.unpark()));
    for _ in 0..ROUNDS {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            wake.send(maniple::current().unwrap()).unwrap();
            maniple::park_timeout(Duration::from_micros(50));
        });
        assert!(runtime.shutdown().is_clean());
    }
    drop(wake);
    waker.join().unwrap();
}

/// As many as take about a second.
const ROUNDS: usize = 2000;

#[test]
fn a_grace_time_beyond_all_clocks_is_one_without_end() {
    for workers in [1, 2] {
        let runtime = Runtime::builder()
            .workers(workers)
            .shutdown_grace(Duration::MAX)
            .build()
            .unwrap();
        let sleeper = runtime.spawn(|| maniple::sleep(LONG));
        assert!(runtime.shutdown().is_clean());
        assert!(sleeper.join().unwrap_err().is_cancelled());
    }
}
