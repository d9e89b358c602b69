//! Users' code that the runtime calls where nobody waits for it: what it throws ends nobody else.

use std::{
    mem::ManuallyDrop,
    panic::{AssertUnwindSafe, catch_unwind, panic_any},
    sync::{
        Arc, Mutex,
        atomic::{AtomicUsize, Ordering},
        mpsc,
    },
    task::{Wake, Waker},
};

use maniple::{
    Runtime, coroutine_local,
    offload::OffloadPool,
    spawn,
    sync::{
        broadcast::{self, Lag},
        channel,
    },
};

use super::{LONG, on, passes_as_child, plain_thread};

/// Panics when it is dropped, with another that does.
struct Bomb(u32);

impl Drop for Bomb {
    fn drop(&mut self) {
        if self.0 > 0 {
            panic_any(Bomb(self.0 - 1));
        }
    }
}

/// Long enough that a fence or two would not be enough if each caught one.
const LAYERS: u32 = 5;

#[test]
fn a_panic_with_a_payload_that_panics_when_dropped_ends_its_coroutine_alone() {
    on(1, || {
        let (said, hear) = mpsc::channel::<()>();
        drop(spawn(move || {
            let _said = said;
            panic_any(Bomb(LAYERS));
        }));
        while hear.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            maniple::yield_now();
        }
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_result_a_local_and_an_unused_closure_that_panic_when_dropped_end_nobody() {
    coroutine_local! { static MINE: Bomb = Bomb(LAYERS); }
    on(1, || {
        drop(spawn(|| Bomb(LAYERS)));
        spawn(|| MINE.with(|_| ())).join().unwrap();
        let bomb = Bomb(LAYERS);
        let unused = spawn(move || drop(bomb));
        unused.cancel();
        assert!(unused.join().unwrap_err().is_cancelled());
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

/// Counts itself, and panics when it is dropped.
struct Counted(Arc<AtomicUsize>);

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_add(1, Ordering::SeqCst);
        panic_any(Bomb(LAYERS));
    }
}

#[test]
fn messages_that_panic_when_dropped_are_all_dropped_with_the_receiver_who_sees_one_panic() {
    let dropped = Arc::new(AtomicUsize::new(0));
    let thrown = |receiver: Box<dyn Send>, expected| {
        dropped.store(0, Ordering::SeqCst);
        let thrown = catch_unwind(AssertUnwindSafe(|| drop(receiver)));
        let _kept = ManuallyDrop::new(thrown.expect_err("the first panic goes on"));
        assert_eq!(dropped.load(Ordering::SeqCst), expected);
    };
    on(1, || {
        let (sender, receiver) = channel::unbounded();
        (0..3).for_each(|_| sender.send(Counted(dropped.clone())).unwrap());
        thrown(Box::new(receiver), 3);
        for lag in [Lag::Block, Lag::DropOldest, Lag::Disconnect] {
            let (sender, receiver) = broadcast::channel(8, lag);
            (0..3).for_each(|_| sender.send(Arc::new(Counted(dropped.clone()))).unwrap());
            thrown(Box::new(receiver), 3);
        }
    });
}

#[test]
fn messages_that_panic_when_dropped_do_not_end_the_process_while_their_receiver_unwinds() {
    let dropped = Arc::new(AtomicUsize::new(0));
    on(1, || {
        let (sender, receiver) = channel::unbounded();
        (0..3).for_each(|_| sender.send(Counted(dropped.clone())).unwrap());
        let unwinds = spawn(move || {
            let _receiver = receiver;
            panic_any("on purpose");
        });
        let payload = unwinds.join().unwrap_err().into_panic();
        assert_eq!(payload.downcast_ref(), Some(&"on purpose"));
        assert_eq!(dropped.load(Ordering::SeqCst), 3);
    });
}

#[test]
fn a_group_resumes_its_first_panic_whatever_the_others_leave() {
    on(1, || {
        let caught = std::panic::catch_unwind(|| {
            maniple::group(|g| {
                g.spawn(|| panic!("the first"));
                g.spawn(|| panic_any(Bomb(LAYERS)));
                maniple::yield_now();
                Ok::<_, ()>(Bomb(LAYERS))
            })
        });
        let payload = caught.map(|_| ()).unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"the first"));
        let caught = std::panic::catch_unwind(|| {
            maniple::group(|g| {
                g.spawn(|| panic!("the child's"));
                maniple::yield_now();
                if g.is_cancelled() {
                    panic_any(Bomb(LAYERS));
                }
                Ok::<_, ()>(())
            })
        });
        let payload = caught.unwrap_err();
        assert_eq!(payload.downcast_ref(), Some(&"the child's"));
    });
}

#[test]
fn a_restart_goes_on_after_a_panic_that_leaves_a_bomb() {
    let restart = maniple::group::Restart {
        backoff: super::SHORT..=super::SHORT,
        ..Default::default()
    };
    let ended = restart.run(|attempt| match attempt {
        0 => panic_any(Bomb(LAYERS)),
        _ => Ok::<_, ()>(attempt),
    });
    assert_eq!(ended.unwrap(), 1);
}

#[test]
fn an_awaiters_waker_that_panics_ends_nobody() {
    struct Fragile(mpsc::SyncSender<()>);
    impl Wake for Fragile {
        fn wake(self: Arc<Self>) {
            self.0.send(()).unwrap();
            panic_any(Bomb(LAYERS));
        }
    }
    on(1, || {
        let (said, hear) = mpsc::sync_channel(1);
        let waker = Waker::from(Arc::new(Fragile(said)));
        let parked = spawn(maniple::park);
        let mut awaited = Box::pin(IntoFuture::into_future(parked));
        let mut context = std::task::Context::from_waker(&waker);
        assert!(awaited.as_mut().poll(&mut context).is_pending());
        awaited.cancel();
        while hear.try_recv().is_err() {
            maniple::yield_now();
        }
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
}

#[test]
fn a_pool_of_one_thread_survives_jobs_whose_remains_panic_when_dropped() {
    let pool = OffloadPool::builder().max_threads(1).build().unwrap();
    on(1, || {
        for _ in 0..3 {
            let (begun, has_begun) = mpsc::channel();
            let (release, released) = mpsc::channel::<()>();
            let left = maniple::timeout(super::SHORT, || {
                pool.run(move || {
                    begun.send(()).unwrap();
                    let _ = released.recv_timeout(LONG);
                    panic_any(Bomb(LAYERS));
                })
            });
            // Whether or not the thread has taken it up, the caller is gone.
            assert!(!matches!(left, Ok(Ok(()))));
            drop((has_begun, release));
        }
        while pool.queued() > 0 {
            maniple::yield_now();
        }
        assert_eq!(pool.run(|| 1).unwrap(), 1);
        assert_eq!(pool.threads(), 1);
    });
}

#[test]
fn a_logger_that_panics_ends_nobody() {
    passes_as_child("fenced::logger_child");
}

static LOGGED: AtomicUsize = AtomicUsize::new(0);

struct Fragile;

impl log::Log for Fragile {
    fn enabled(&self, _: &log::Metadata<'_>) -> bool {
        true
    }

    fn log(&self, _: &log::Record<'_>) {
        LOGGED.fetch_add(1, Ordering::SeqCst);
        panic_any(Bomb(LAYERS));
    }

    fn flush(&self) {}
}

#[test]
#[ignore = "sets the process's logger: a child of the test above"]
fn logger_child() {
    log::set_logger(&Fragile).unwrap();
    log::set_max_level(log::LevelFilter::Trace);
    on(1, || {
        drop(spawn(|| Bomb(LAYERS)));
        maniple::yield_now();
        maniple::yield_now();
        assert_eq!(spawn(|| 1).join().unwrap(), 1);
    });
    assert_ne!(LOGGED.load(Ordering::SeqCst), 0, "something was logged");
    // What does not end is logged when the runtime is dropped.
    let before = LOGGED.load(Ordering::SeqCst);
    let runtime = Runtime::builder()
        .workers(1)
        .shutdown_grace(super::SHORT)
        .build()
        .unwrap();
    let (begun, has_begun) = mpsc::channel();
    drop(runtime.spawn(move || {
        begun.send(()).unwrap();
        maniple::cancel::shield(|| maniple::sleep(LONG));
    }));
    has_begun.recv_timeout(LONG).unwrap();
    drop(runtime);
    assert_eq!(LOGGED.load(Ordering::SeqCst), before + 1);
}

/// Uses what can be used without a coroutine of one's own, and tells whether all went well.
fn use_everything() {
    assert!(maniple::current().is_none());
    let lock = maniple::sync::Mutex::new(1);
    *lock.lock() += 1;
    assert_eq!(*lock.lock(), 2);
    maniple::sleep(super::SHORT);
    maniple::yield_now();
    let (sender, receiver) = maniple::sync::channel::bounded(1);
    sender.send(3).unwrap();
    assert_eq!(receiver.recv(), Ok(3));
    assert_eq!(spawn(|| 4).join().unwrap(), 4);
    let five: Result<i32, maniple::JoinError> =
        maniple::group(|g| Ok(g.spawn(|| 5).join()? + g.spawn(|| 0).join()?));
    assert_eq!(five.unwrap(), 5);
    let cut = maniple::timeout(super::SHORT, || maniple::sleep(LONG));
    assert!(cut.is_err());
    coroutine_local! { static LATE: u32 = 6; }
    let _either = LATE.try_with(|six| assert_eq!(*six, 6));
}

struct AtThreadsEnd(Option<mpsc::SyncSender<()>>);

impl Drop for AtThreadsEnd {
    fn drop(&mut self) {
        use_everything();
        self.0.take().unwrap().send(()).unwrap();
    }
}

thread_local! {
    static EARLY: Mutex<Option<AtThreadsEnd>> = const { Mutex::new(None) };
    static LATE: Mutex<Option<AtThreadsEnd>> = const { Mutex::new(None) };
}

/// Has [`use_everything`] called by two destructors of the thread's: one that was registered before all of
/// the runtime's own, and one after.
fn use_everything_at_the_threads_end(said: &mpsc::SyncSender<()>) {
    EARLY.with(|at| *at.lock().unwrap() = Some(AtThreadsEnd(Some(said.clone()))));
    use_everything();
    LATE.with(|at| *at.lock().unwrap() = Some(AtThreadsEnd(Some(said.clone()))));
}

#[test]
fn a_plain_threads_destructors_may_use_everything() {
    let (said, hear) = mpsc::sync_channel(2);
    plain_thread(move || use_everything_at_the_threads_end(&said))
        .join()
        .unwrap();
    assert_eq!(hear.iter().count(), 2);
}

#[test]
fn an_offload_threads_destructors_may_use_everything() {
    let (said, hear) = mpsc::sync_channel(2);
    let pool = OffloadPool::builder().max_threads(1).build().unwrap();
    on(1, || {
        pool.run(move || use_everything_at_the_threads_end(&said))
            .unwrap();
    });
    drop(pool);
    assert_eq!(hear.iter().count(), 2);
}

#[test]
fn a_workers_threads_destructors_may_use_everything() {
    let (said, hear) = mpsc::sync_channel(2);
    on(2, || {
        for at in maniple::task::spawn_on_workers(move |index| {
            let said = said.clone();
            if index == 0 {
                EARLY.with(|at| *at.lock().unwrap() = Some(AtThreadsEnd(Some(said.clone()))));
                LATE.with(|at| *at.lock().unwrap() = Some(AtThreadsEnd(Some(said))));
            }
        }) {
            at.join().unwrap();
        }
    });
    assert_eq!(hear.iter().count(), 2);
}
