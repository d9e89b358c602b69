//! Coroutines that get no stack, or no time: what they own is dropped where it may wait, and nobody else stands
//! still for it.

use std::{
    io::ErrorKind,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering::SeqCst},
        mpsc,
    },
    thread,
    time::{Duration, Instant},
};

use maniple::{
    JoinError, JoinHandle, Runtime, coroutine_local, group,
    inspect::{self, Worker},
    net::UdpSocket,
    sync::{Mutex, WaitGroup, channel},
    task::{Builder, spawn_when_readable},
    yield_now,
};

use super::{LONG, passes_as_child};

/// Calls what it holds when it is dropped.
struct OnDrop<F: FnMut()>(F);

impl<F: FnMut()> Drop for OnDrop<F> {
    fn drop(&mut self) {
        (self.0)();
    }
}

/// So few coroutines, and a shutdown that waits for as long as anything here takes.
fn small(workers: usize, coroutines: usize) -> Runtime {
    let builder = Runtime::builder()
        .workers(workers)
        .max_coroutines(coroutines);
    builder.shutdown_grace(LONG).build().unwrap()
}

/// One whose shutdown leaves behind what does not end.
fn impatient(coroutines: usize) -> Runtime {
    let builder = Runtime::builder().workers(1).max_coroutines(coroutines);
    let builder = builder.shutdown_grace(Duration::from_millis(300));
    builder.build().unwrap()
}

/// Gives others their turns until one on the caller's worker that was spawned in this file waits for a lock.
fn until_one_waits_for_a_lock() {
    let (begun, own) = (Instant::now(), maniple::current().unwrap().id());
    loop {
        // Of all runtimes: those of other tests as well.
        let seen = inspect::snapshot();
        let is_own = |worker: &&Worker| worker.coroutines().iter().any(|each| each.id() == own);
        let worker = seen.workers().iter().find(is_own);
        let mut of_here = worker
            .into_iter()
            .flat_map(Worker::coroutines)
            .filter(|each| each.spawned_at().file() == file!());
        if of_here.any(|each| each.waits_for().as_deref() == Some("lock")) {
            return;
        }
        assert!(begun.elapsed() < LONG, "{}", inspect::dump());
        yield_now();
    }
}

/// Runs `body` on so few coroutines; a hang ends the process.
fn scarce<T: Send>(
    workers: usize,
    coroutines: usize,
    body: impl FnOnce() -> T + Send,
) -> (T, Runtime) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let (done, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(2 * LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let runtime = small(workers, coroutines);
    let value = runtime.run(body);
    drop(done);
    (value, runtime)
}

/// Spawns what will get no stack and owns something that calls `drops` in the end.
fn refused(drops: impl FnMut() + Send + 'static) -> JoinHandle<()> {
    let owned = OnDrop(drops);
    maniple::spawn(move || _ = &owned)
}

/// Takes the last stack but the caller's, until the value is dropped.
fn fill() -> (channel::Sender<()>, JoinHandle<()>) {
    let (hold, held) = channel::bounded::<()>(0);
    let filling = Builder::new()
        .spawn(move || _ = held.recv())
        .expect("there is a stack left");
    (hold, filling)
}

fn got_no_stack(error: JoinError) -> bool {
    !error.is_panic()
        && !error.is_cancelled()
        && std::io::Error::from(error).kind() == ErrorKind::QuotaExceeded
}

#[test]
fn what_it_owns_may_wait_for_a_lock_while_the_worker_goes_on() {
    let ((), runtime) = scarce(1, 2, || {
        let lock = Arc::new(Mutex::new(0));
        let (theirs, entered) = (lock.clone(), channel::bounded(1));
        let holder = maniple::spawn(move || {
            let mut guard = theirs.lock();
            entered.0.send(()).unwrap();
            until_one_waits_for_a_lock();
            *guard += 1;
        });
        entered.1.recv().unwrap();
        let locks = lock.clone();
        let refused = refused(move || *locks.lock() += 10);
        assert!(got_no_stack(refused.join().unwrap_err()));
        assert_eq!(*lock.lock(), 11, "dropped before the join returned");
        holder.join().unwrap();
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn one_that_waits_is_seen_by_its_own_name_and_holds_up_no_other_when_stacks_come_back() {
    let ((), runtime) = scarce(1, 2, || {
        let filled = fill();
        let (last, first) = channel::bounded::<()>(1);
        let waits = refused(move || first.recv().unwrap());
        // Has nobody to wait for but the one before it, and lets that one go on.
        let then = refused(move || last.send(()).unwrap());
        yield_now();
        yield_now();
        let seen = inspect::snapshot();
        let seen = seen.coroutines().find(|each| each.id() == waits.id());
        assert_eq!(seen.unwrap().waits_for().unwrap(), "channel receive");
        assert!(!then.is_finished());
        drop(filled.0);
        filled.1.join().unwrap();
        assert!(got_no_stack(then.join().unwrap_err()));
        assert!(got_no_stack(waits.join().unwrap_err()));
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn one_that_waits_for_the_next_gets_it_from_the_stacks_of_another_worker() {
    let ((), runtime) = scarce(2, 3, || {
        let spare = fill();
        let filled = fill();
        // Both are refused on this worker, whose own coroutines do not end.
        let (last, first) = channel::bounded::<()>(1);
        let owned = OnDrop(move || first.recv().unwrap());
        let waits = maniple::spawn_local(move || _ = &owned);
        let owned = OnDrop(move || last.send(()).unwrap());
        let then = maniple::spawn_local(move || _ = &owned);
        yield_now();
        drop(spare);
        assert!(got_no_stack(then.join().unwrap_err()));
        assert!(got_no_stack(waits.join().unwrap_err()));
        drop(filled);
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn thousands_at_once_are_dropped_one_by_one_and_the_limit_stays_what_it_is() {
    const MANY: usize = 5000;
    let ((), runtime) = scarce(2, 3, || {
        let (first, second) = (fill(), fill());
        let lock = Arc::new(Mutex::new(0));
        let all: Vec<_> = (0..MANY)
            .map(|_| {
                let lock = lock.clone();
                refused(move || *lock.lock() += 1)
            })
            .collect();
        for handle in all {
            assert!(got_no_stack(handle.join().unwrap_err()));
        }
        assert_eq!(*lock.lock(), MANY);
        assert!(Builder::new().spawn(|| ()).is_err());
        for (hold, filling) in [first, second] {
            drop(hold);
            filling.join().unwrap();
        }
        let both: Vec<_> = (0..2)
            .map(|_| Builder::new().spawn(|| ()).unwrap())
            .collect();
        both.into_iter().for_each(|handle| handle.join().unwrap());
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_destructor_that_panics_or_spawns_costs_nothing_more() {
    let ((), runtime) = scarce(1, 2, || {
        let filled = fill();
        let panics = refused(|| std::panic::resume_unwind(Box::new("on purpose")));
        assert!(got_no_stack(panics.join().unwrap_err()));
        let (tell, told) = channel::bounded(1);
        let spawns = refused(move || {
            let inner = refused(|| ()).join().unwrap_err();
            tell.send(inner.to_string()).unwrap();
        });
        // What it spawned stands behind it, until a stack comes back.
        yield_now();
        drop(filled.0);
        filled.1.join().unwrap();
        assert!(got_no_stack(spawns.join().unwrap_err()));
        // By the time the inner one was to begin there may have been a stack for it: then it was told of that.
        assert!(told.recv().unwrap().contains("could not begin"));
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn it_drops_what_it_owns_as_itself_with_what_it_inherited() {
    coroutine_local! {
        static REQUEST: std::cell::Cell<u32> = std::cell::Cell::new(0), inherited;
    }
    let ((), runtime) = scarce(1, 2, || {
        let _filled = fill();
        REQUEST.set(7);
        let (tell, told) = channel::bounded(1);
        let refused = refused(move || {
            let me = maniple::current().unwrap().id();
            tell.send((me, REQUEST.get())).unwrap();
        });
        REQUEST.set(8);
        let id = refused.id();
        assert!(refused.join().is_err());
        assert_eq!(told.recv(), Ok((id, 7)));
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn what_a_group_lends_to_a_child_that_never_began_outlives_it() {
    let ((), runtime) = scarce(1, 3, || {
        let filled = fill();
        let lock = Mutex::new(0);
        let caught = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            group(|g| -> Result<(), JoinError> {
                let (entered, enter) = channel::bounded(1);
                let lock = &lock;
                g.spawn(move || {
                    let mut guard = lock.lock();
                    entered.send(()).unwrap();
                    maniple::cancel::shield(until_one_waits_for_a_lock);
                    *guard += 1;
                });
                enter.recv().unwrap();
                let borrows = OnDrop(move || *lock.lock() += 10);
                g.spawn(move || _ = &borrows);
                Ok(())
            })
        }));
        assert!(caught.is_err(), "the group panics for want of a stack");
        assert_eq!(*lock.lock(), 11);
        drop(filled);
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn a_shutdown_names_those_that_wait_for_ever_and_keeps_to_its_time() {
    let lock = Arc::new(Mutex::new(()));
    let held = lock.lock();
    let runtime = impatient(2);
    let (go, handles) = (WaitGroup::new(), Arc::new(Mutex::new(Vec::new())));
    let (member, theirs, keep) = (go.clone(), lock.clone(), handles.clone());
    runtime.spawn(move || {
        let filled = fill();
        for _ in 0..2 {
            let lock = theirs.clone();
            keep.lock().push(refused(move || drop(lock.lock())));
        }
        yield_now();
        drop(member);
        maniple::cancel::shield(|| _ = filled.1.join());
    });
    go.wait();
    let begun = Instant::now();
    let report = runtime.shutdown();
    assert!(begun.elapsed() < LONG);
    let stuck = report.stuck();
    assert!(!stuck.is_empty() && stuck.len() <= 2, "{report:?}");
    for each in stuck {
        assert_eq!(each.spawned_at().file(), file!());
    }
    assert!(stuck.iter().any(|each| each.waits_for() == Some("lock")));
    assert!(!handles.lock()[0].is_finished());
    drop(held);
}

#[test]
fn a_destructor_that_spawns_without_end_does_not_hold_up_the_shutdown() {
    fn again(ended: Arc<AtomicBool>) {
        if !ended.load(SeqCst) {
            let owned = OnDrop(move || again(ended.clone()));
            maniple::spawn(move || _ = &owned);
        }
    }
    let runtime = impatient(100);
    let (tell, told) = mpsc::channel();
    let ended = Arc::new(AtomicBool::new(false));
    let theirs = ended.clone();
    runtime.spawn(move || {
        again(theirs);
        tell.send(()).unwrap();
        maniple::park();
    });
    told.recv_timeout(LONG).unwrap();
    let begun = Instant::now();
    let _report = runtime.shutdown();
    assert!(begun.elapsed() < LONG / 2);
    ended.store(true, SeqCst);
}

#[test]
fn one_on_standby_drops_what_it_owns_in_a_coroutine_too() {
    let runtime = small(1, 100);
    let lock = Arc::new(Mutex::new(0));
    let (theirs, entered) = (lock.clone(), channel::bounded(1));
    runtime.spawn(move || {
        let guard = theirs.lock();
        entered.0.send(()).unwrap();
        maniple::cancel::shield(until_one_waits_for_a_lock);
        drop(guard);
    });
    entered.1.recv().unwrap();
    let (theirs, seen) = (lock.clone(), Arc::new(AtomicUsize::new(0)));
    let counts = seen.clone();
    runtime.run(move || {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let owned = OnDrop(move || {
            *theirs.lock() += 1;
            counts.fetch_add(1 + usize::from(maniple::current().is_some()), SeqCst);
        });
        drop(spawn_when_readable(
            socket,
            Instant::now() + LONG,
            move |_| {
                _ = &owned;
            },
        ));
    });
    assert!(runtime.shutdown().is_clean());
    assert_eq!((*lock.lock(), seen.load(SeqCst)), (1, 2));
}

#[test]
fn another_executors_waker_may_wait_and_does_so_on_the_coroutine() {
    use std::{
        future::Future,
        pin::pin,
        task::{Context, Poll, Wake, Waker},
    };
    struct Locks(Arc<Mutex<u32>>, Mutex<bool>);
    impl Wake for Locks {
        fn wake(self: Arc<Self>) {
            *self.0.lock() += 1;
            *self.1.lock() = maniple::current().is_some();
        }
    }
    let ((), runtime) = scarce(1, 3, || {
        let lock = Arc::new(Mutex::new(0));
        let (theirs, entered) = (lock.clone(), channel::bounded(1));
        let holder = maniple::spawn(move || {
            let _guard = theirs.lock();
            entered.0.send(()).unwrap();
            until_one_waits_for_a_lock();
        });
        entered.1.recv().unwrap();
        let locks = Arc::new(Locks(lock.clone(), Mutex::new(false)));
        let waker = Waker::from(locks.clone());
        let mut context = Context::from_waker(&waker);
        let mut future = pin!(std::future::IntoFuture::into_future(maniple::spawn(|| 5)));
        assert!(future.as_mut().poll(&mut context).is_pending());
        holder.join().unwrap();
        while !*locks.1.lock() {
            yield_now();
        }
        assert_eq!(*lock.lock(), 1);
        match future.poll(&mut context) {
            Poll::Ready(result) => assert_eq!(result.unwrap(), 5),
            Poll::Pending => panic!("woken for nothing"),
        }
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn without_address_space_what_is_refused_may_wait_as_well() {
    passes_as_child("unbegun::short_of_address_space");
}

#[test]
#[ignore = "limits the whole process, run by the test before it"]
fn short_of_address_space() {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| {
        let lock = Arc::new(Mutex::new(0));
        let (theirs, entered) = (lock.clone(), channel::bounded(1));
        let holder = maniple::spawn(move || {
            let _guard = theirs.lock();
            entered.0.send(()).unwrap();
            until_one_waits_for_a_lock();
        });
        entered.1.recv().unwrap();
        let pages = std::fs::read_to_string("/proc/self/statm").unwrap();
        let pages: u64 = pages.split(' ').next().unwrap().parse().unwrap();
        let limit = rustix::process::Rlimit {
            current: Some(pages * rustix::param::page_size() as u64 + (48 << 20)),
            maximum: None,
        };
        rustix::process::setrlimit(rustix::process::Resource::As, limit).unwrap();
        let all: Vec<_> = (0..2000)
            .map(|_| {
                let lock = lock.clone();
                let owned = OnDrop(move || *lock.lock() += 1);
                maniple::spawn(move || {
                    _ = &owned;
                    maniple::park();
                })
            })
            .collect();
        let begun = Instant::now();
        while inspect::stacks()[0].refused() < 1500 {
            assert!(begun.elapsed() < LONG, "{:?}", inspect::stacks());
            yield_now();
        }
        holder.join().unwrap();
        all.iter().for_each(JoinHandle::cancel);
        let errors = all.into_iter().map(|handle| handle.join().unwrap_err());
        let refused = errors.filter(|error| !error.is_cancelled()).count();
        assert!((1000..2000).contains(&refused), "{refused}");
        assert_eq!(*lock.lock(), 2000);
        let stacks = inspect::stacks();
        assert_eq!(stacks[0].refused(), refused as u64);
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
fn those_that_nobody_joins_are_told_to_the_log_once_and_then_with_their_number() {
    passes_as_child("unbegun::logging_child");
}

#[test]
#[ignore = "sets the process's logger, run by the test before it"]
fn logging_child() {
    static LINES: std::sync::Mutex<Vec<String>> = std::sync::Mutex::new(Vec::new());
    struct Kept;
    impl log::Log for Kept {
        fn enabled(&self, _: &log::Metadata<'_>) -> bool {
            true
        }
        fn log(&self, record: &log::Record<'_>) {
            // A logger may wait: it is called on a coroutine.
            maniple::sleep(Duration::from_millis(1));
            let line = format!("{}: {}", record.level(), record.args());
            LINES.lock().unwrap().push(line);
        }
        fn flush(&self) {}
    }
    log::set_logger(&Kept).unwrap();
    log::set_max_level(log::LevelFilter::Info);
    let lines = || LINES.lock().unwrap().clone();

    let ((), runtime) = scarce(1, 2, || {
        let _filled = fill();
        let joined = refused(|| ());
        assert!(got_no_stack(joined.join().unwrap_err()));
        assert!(lines().is_empty(), "its joiner was told: {:?}", lines());
        let group = WaitGroup::new();
        for _ in 0..1000 {
            let member = group.clone();
            drop(refused(move || _ = &member));
        }
        let given_up_later = refused(|| ());
        group.wait();
        while !given_up_later.is_finished() {
            yield_now();
        }
        drop(given_up_later);
    });
    let [first] = &lines()[..] else {
        panic!("{:?}", lines())
    };
    assert_eq!(
        *first,
        "ERROR: 1 coroutine that nobody joins got no stack and did not run, 1 so far: limit of 2 stacks \
         reached: raise runtime::Builder::max_coroutines, or let coroutines end before more begin"
    );
    assert!(runtime.shutdown().is_clean());
    assert_eq!(lines().len(), 2);
    assert_eq!(
        lines()[1],
        "ERROR: 1000 coroutines that nobody joins got no stack and did not run, 1001 so far"
    );
}

#[test]
fn what_it_owns_may_lead_groups_though_no_stack_is_left() {
    let ((), runtime) = scarce(1, 3, || {
        let filled = [fill(), fill()];
        let done = Arc::new(AtomicUsize::new(0));
        let all: Vec<_> = (0..20)
            .map(|_| {
                let done = done.clone();
                refused(move || {
                    yield_now();
                    let squares = group::map(2, 0..5_usize, |n| n * n);
                    let (one, two) = maniple::join!(1, 2);
                    done.fetch_add(squares[4] + one + two, SeqCst);
                })
            })
            .collect();
        for handle in all {
            assert!(got_no_stack(handle.join().unwrap_err()));
        }
        assert_eq!(done.load(SeqCst), 20 * 19);
        drop(filled);
    });
    assert!(runtime.shutdown().is_clean());
}

#[test]
#[ignore = "leaves its process without descriptors: a child of the test below"]
fn descriptors_child() {
    use rustix::process::{Resource, getrlimit, setrlimit};
    let mut none = getrlimit(Resource::Nofile);
    none.current = Some(3);
    setrlimit(Resource::Nofile, none).unwrap();
    let error = Runtime::builder()
        .workers(1)
        .build()
        .unwrap_err()
        .to_string();
    assert!(error.starts_with("begin a runtime: "), "{error}");
    assert!(error.contains("Too many open files"), "{error}");
    assert!(error.contains("ulimit -n"), "{error}");
}

#[test]
fn a_runtime_that_cannot_begin_says_what_was_refused_and_what_to_do() {
    passes_as_child("unbegun::descriptors_child");
}
