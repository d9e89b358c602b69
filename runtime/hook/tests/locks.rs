//! A lock of others that is held over a hooked wait, and wanted by a neighbour, stops their worker for good. That does
//! not pass in silence: the neighbour is told of by its name.

use std::{
    convert::Infallible,
    io::Read,
    os::unix::net::UnixStream,
    sync::{
        Arc, Condvar, Mutex, RwLock,
        mpsc::{Receiver, Sender, channel},
    },
    time::Duration,
};

use maniple::{Runtime, inspect, task::Builder, yield_now};

/// Longer than a report takes.
const LONG: Duration = Duration::from_secs(60);

#[test]
fn who_waits_for_a_lock_of_others_is_reported_and_who_may_hold_it_is_in_the_dump() {
    maniple_hook::install!();
    let told = listen_to_the_watch();
    let _watch = inspect::watch_stalls(Duration::from_millis(50)).unwrap();

    let lock = Arc::new(Mutex::new(()));
    let (theirs, ours) = (lock.clone(), lock);
    let hold = move |wait: Wait| {
        let _held = theirs.lock().unwrap();
        wait();
    };
    stand_still("a Mutex", hold, move || drop(ours.lock().unwrap()));

    let lock = Arc::new(RwLock::new(()));
    let (theirs, ours) = (lock.clone(), lock);
    let hold = move |wait: Wait| {
        let _held = theirs.read().unwrap();
        wait();
    };
    stand_still("a RwLock", hold, move || drop(ours.write().unwrap()));

    let shared = Arc::new((Mutex::new(false), Condvar::new()));
    let (theirs, ours) = (shared.clone(), shared);
    let hold = move |wait: Wait| {
        wait();
        *theirs.0.lock().unwrap() = true;
        theirs.1.notify_all();
    };
    let want = move || {
        let is_done = |done: &mut bool| !*done;
        drop(ours.1.wait_while(ours.0.lock().unwrap(), is_done).unwrap());
    };
    stand_still("a Condvar", hold, want);

    let lock = Arc::new(parking_lot::Mutex::new(()));
    let (theirs, ours) = (lock.clone(), lock);
    let hold = move |wait: Wait| {
        let _held = theirs.lock();
        wait();
    };
    stand_still("parking_lot's", hold, move || drop(ours.lock()));

    let pool = r2d2::Pool::builder().max_size(1);
    let pool = pool.connection_timeout(LONG).build(Numbers).unwrap();
    let (theirs, ours) = (pool.clone(), pool);
    let hold = move |wait: Wait| {
        let _held = theirs.get().unwrap();
        wait();
    };
    stand_still("r2d2's pool", hold, move || drop(ours.get()));

    let mut missing = vec![
        "a Mutex",
        "a RwLock",
        "a Condvar",
        "parking_lot's",
        "r2d2's pool",
    ];
    while !missing.is_empty() {
        let report = told.recv_timeout(LONG).expect("a report");
        let about = missing
            .iter()
            .position(|lock| report.contains(&format!("\"wants {lock}\"")));
        let Some(at) = about else { continue };
        missing.remove(at);
        assert!(report.contains("has kept worker maniple-0"), "{report}");
        assert!(report.contains("tests/locks.rs"), "the place: {report}");
    }
    let dump = inspect::dump();
    let holds = dump.lines().filter(|line| line.contains("\"holds "));
    let holds: Vec<_> = holds.collect();
    assert_eq!(holds.len(), 5, "{dump}");
    assert!(
        holds.iter().all(|line| line.contains("to be readable")),
        "{holds:#?}"
    );
}

/// What a coroutine does while it holds a lock: a hooked call that nobody answers.
type Wait = Box<dyn FnOnce() + Send>;

/// Has one coroutine wait while it holds `lock`, and its neighbour want it. It never ends, and neither do they: the
/// process does.
fn stand_still(
    lock: &'static str,
    hold: impl FnOnce(Wait) + Send + 'static,
    want: impl FnOnce() + Send + 'static,
) {
    std::thread::spawn(move || {
        let runtime = Runtime::builder().workers(1).build().unwrap();
        runtime.run(|| {
            let (mut near, _far) = UnixStream::pair().unwrap();
            let wait = Box::new(move || near.read_exact(&mut [0]).unwrap());
            let spawn = |what, call: Box<dyn FnOnce() + Send>| {
                Builder::new()
                    .name(format!("{what} {lock}"))
                    .spawn(call)
                    .unwrap()
            };
            let holds = spawn("holds", Box::new(|| hold(wait)));
            yield_now();
            spawn("wants", Box::new(want));
            holds.join()
        })
    });
}

/// Connections of a pool.
struct Numbers;

impl r2d2::ManageConnection for Numbers {
    type Connection = u32;
    type Error = Infallible;

    fn connect(&self) -> Result<u32, Infallible> {
        Ok(7)
    }

    fn is_valid(&self, _of: &mut u32) -> Result<(), Infallible> {
        Ok(())
    }

    fn has_broken(&self, _of: &mut u32) -> bool {
        false
    }
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
