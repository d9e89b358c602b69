//! A program that installs the hook, and does not think of the stall watch.

use std::{
    sync::{
        Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use maniple::{Runtime, inspect, task::Builder};

/// Longer than a report takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_keeps_a_worker_is_told_of_unless_the_program_has_a_watch_of_its_own() {
    maniple_hook::install!();
    maniple_hook::install!();
    let told = listen_to_the_watch();
    // The hook's would speak sooner.
    let own = inspect::watch_stalls(Duration::from_secs(2)).unwrap();
    let report = stall(&told, "own");
    assert!(report.contains("\"own\""), "{report}");
    assert!(report.contains("for over 2s"), "{report}");
    drop(own);
    let report = stall(&told, "hook");
    assert!(report.contains("\"hook\""), "{report}");
    assert!(report.contains("for over 1s"), "{report}");
    assert!(report.contains("tests/watched.rs"), "the place: {report}");
}

/// The first that is heard of a coroutine that keeps its worker until then.
fn stall(told: &Receiver<String>, name: &'static str) -> String {
    let (over, wait) = channel::<()>();
    let thread = std::thread::spawn(move || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            // It parks the thread.
            let wait = move || wait.recv().unwrap();
            let waits = Builder::new().name(name).spawn(wait).unwrap();
            waits.join().unwrap();
        });
    });
    let report = told.recv_timeout(LONG).expect("a report");
    over.send(()).unwrap();
    thread.join().unwrap();
    report
}

fn listen_to_the_watch() -> Receiver<String> {
    struct Listener(Mutex<Sender<String>>);
    impl log::Log for Listener {
        fn enabled(&self, of: &log::Metadata<'_>) -> bool {
            of.target() == "maniple::stall"
        }
        fn log(&self, record: &log::Record<'_>) {
            if self.enabled(record.metadata()) {
                // Nobody listens any more once it has been heard.
                _ = self.0.lock().unwrap().send(record.args().to_string());
            }
        }
        fn flush(&self) {}
    }
    let (tell, told) = channel();
    log::set_boxed_logger(Box::new(Listener(Mutex::new(tell)))).unwrap();
    log::set_max_level(log::LevelFilter::Warn);
    told
}
