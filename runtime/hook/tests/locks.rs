//! A lock of std's that is held over a hooked wait, and wanted by a neighbour, stops their worker for good. That does not
//! pass in silence.

use std::{
    io::Read,
    os::unix::net::UnixStream,
    sync::{
        Arc, Mutex,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use maniple::{Runtime, inspect, task::Builder, yield_now};

/// Longer than a report takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_waits_for_a_lock_is_reported_and_who_may_hold_it_is_in_the_dump() {
    maniple_hook::install!();
    let told = listen_to_the_watch();
    let _watch = inspect::watch_stalls(Duration::from_millis(50)).unwrap();
    // It never ends, and neither do they: the process does.
    std::thread::spawn(|| {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (mut near, _far) = UnixStream::pair().unwrap();
            let lock = Arc::new(Mutex::new(()));
            let theirs = lock.clone();
            let asks = move || {
                let _held = theirs.lock().unwrap();
                near.read_exact(&mut [0])
            };
            let asks = Builder::new().name("asks").spawn(asks).unwrap();
            yield_now();
            let wants = move || drop(lock.lock().unwrap());
            Builder::new().name("wants").spawn(wants).unwrap();
            asks.join()
        })
    });
    let report = loop {
        let line = told.recv_timeout(LONG).expect("a report");
        if line.contains("\"wants\"") {
            break line;
        }
    };
    assert!(report.contains("has kept worker maniple-0"), "{report}");
    assert!(report.contains("tests/locks.rs"), "the place: {report}");
    let dump = inspect::dump();
    let asks = dump.lines().find(|line| line.contains("\"asks\""));
    let asks = asks.unwrap_or_else(|| panic!("not there: {dump}"));
    assert!(asks.contains("to be readable"), "{asks}");
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
