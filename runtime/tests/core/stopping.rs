//! The end of a runtime.

use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{JoinError, Runtime, group, sleep, sync::Mutex};

const LONG: Duration = Duration::from_secs(600);

fn brief() -> Runtime {
    let grace = Duration::from_millis(100);
    Runtime::builder()
        .workers(2)
        .shutdown_grace(grace)
        .build()
        .unwrap()
}

#[test]
fn children_end_before_their_leaders() {
    let runtime = brief();
    let order = Arc::new(std::sync::Mutex::new(Vec::new()));
    struct Ends(Arc<std::sync::Mutex<Vec<&'static str>>>, &'static str);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.lock().unwrap().push(self.1);
        }
    }
    let (began, wait) = std::sync::mpsc::channel();
    let theirs = order.clone();
    let leader = runtime.spawn(move || {
        let _ends = Ends(theirs.clone(), "leader");
        let _: Result<(), JoinError> = group(|g| {
            g.spawn(|| {
                let _ends = Ends(theirs.clone(), "child");
                began.send(()).unwrap();
                sleep(LONG);
            });
            Ok(())
        });
    });
    wait.recv().unwrap();
    assert!(runtime.shutdown().is_clean());
    assert!(leader.is_finished());
    assert_eq!(*order.lock().unwrap(), ["child", "leader"]);
}

#[test]
fn what_does_not_end_is_named() {
    let runtime = brief();
    let (began, wait) = std::sync::mpsc::channel();
    let (release, held) = (Arc::new(AtomicBool::new(false)), Arc::new(Mutex::new(())));
    let guard = held.lock();
    let waits = {
        let (began, held) = (began.clone(), held.clone());
        runtime.spawn_with(maniple::Builder::new().name("waits"), move || {
            began.send(()).unwrap();
            drop(held.lock());
        })
    };
    wait.recv().unwrap();
    let spins = {
        let release = release.clone();
        runtime.spawn_with(maniple::Builder::new().name("spins"), move || {
            began.send(()).unwrap();
            while !release.load(Ordering::SeqCst) {
                std::hint::spin_loop();
            }
        })
    };
    wait.recv().unwrap();
    let report = runtime.shutdown();
    release.store(true, Ordering::SeqCst);
    let named: Vec<_> = report
        .stuck()
        .iter()
        .filter_map(|stuck| stuck.name())
        .collect();
    assert!(named.contains(&"spins"), "{report:?}");
    assert!(!report.is_clean());
    drop((waits, spins, guard));
}

#[test]
fn nothing_begins_after_the_end() {
    let runtime = brief();
    let pending: Vec<_> = (0..100).map(|_| runtime.spawn(|| sleep(LONG))).collect();
    assert!(runtime.shutdown().is_clean());
    for handle in pending {
        assert!(handle.join().unwrap_err().is_cancelled());
    }
}

#[test]
fn idle_workers_use_no_cpu() {
    let clock = || rustix::time::clock_gettime(rustix::time::ClockId::ProcessCPUTime);
    let runtime = Runtime::builder().workers(4).build().unwrap();
    runtime.run(|| ());
    // Other tests run beside this one: the least of several looks counts.
    let least = (0..20)
        .map(|_| {
            let before = clock();
            std::thread::park_timeout(Duration::from_millis(50));
            let after = clock();
            (after.tv_sec - before.tv_sec) * 1_000_000_000 + after.tv_nsec - before.tv_nsec
        })
        .min();
    // Reported rather than bounded tightly, since the process does other work meanwhile.
    assert!(least.unwrap() < 200_000_000, "{least:?} ns in 50 ms");
}
