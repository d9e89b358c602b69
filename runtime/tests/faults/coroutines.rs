//! Coroutines and who waits for them.

use std::{
    cell::Cell,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::Relaxed},
    },
    time::Duration,
};

use maniple::{
    cancel::{CancelToken, Cause, cancel_at, is_cancelled_error},
    offload::OffloadPool,
    sync::channel,
};

use super::{Finally, at_every_suspension};

#[test]
fn destructors_run_wherever_the_cut_is() {
    struct Counted<'a>(&'a Cell<i32>);
    impl Drop for Counted<'_> {
        fn drop(&mut self) {
            self.0.set(self.0.get() - 1);
        }
    }
    let points = at_every_suspension(|after| {
        let inside = Cell::new(0);
        let (_, struck) = cancel_at(after, || {
            for _ in 0..3 {
                inside.set(inside.get() + 1);
                let _counted = Counted(&inside);
                maniple::sleep(Duration::from_micros(10));
                maniple::park_timeout(Duration::from_micros(10));
            }
        });
        assert_eq!(inside.get(), 0);
        struck
    });
    assert_eq!(points, 6);
}

#[test]
fn a_coroutine_whose_join_was_cut_goes_on_detached() {
    let points = at_every_suspension(|after| {
        let (tell, told) = channel::unbounded();
        let body = move || {
            for turn in 0..3 {
                maniple::yield_now();
                tell.send(turn).unwrap();
            }
            "done"
        };
        let handle = maniple::spawn(body);
        let (joined, struck) = cancel_at(after, || handle.join());
        match joined {
            Ok(Ok(value)) => assert_eq!(value, "done"),
            Ok(Err(error)) => assert!(struck && error.is_cancelled()),
            Err(cut) => panic!("a join returns errors: {cut}"),
        }
        assert_eq!(told.iter().collect::<Vec<_>>(), [0, 1, 2]);
        struck
    });
    assert!(points >= 3, "{points}");
}

#[test]
fn a_coroutine_that_is_cancelled_anywhere_ends_once_and_its_joiner_hears_of_it() {
    let points = at_every_suspension(|after| {
        let token = CancelToken::new();
        let under = token.clone();
        let (begin, begun) = channel::bounded(0);
        let handle = maniple::spawn(move || {
            under.run(|| begin.send(())).ok();
            maniple::park_timeout(Duration::from_micros(10));
            "done"
        });
        // The cut reaches this scope, which hands it on: to the coroutine, and to what it waits for.
        let (_, struck) = cancel_at(after, || {
            let _hands_on = Finally(|| {
                token.cancel();
                handle.cancel();
            });
            begun.recv().ok();
            maniple::yield_now();
        });
        assert!(token.is_cancelled());
        match handle.join() {
            Ok(value) => assert_eq!(value, "done"),
            Err(error) => assert_eq!(error.cause(), Some(Cause::Handle)),
        }
        struck
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn a_future_whose_wait_was_cut_is_dropped_and_what_it_awaited_goes_on() {
    let points = at_every_suspension(|after| {
        let (tell, told) = channel::unbounded();
        let alive = Cell::new(0);
        let inner = maniple::spawn(move || {
            maniple::yield_now();
            maniple::sleep(Duration::from_micros(10));
            tell.send("inner").unwrap();
            42
        });
        let (answer, struck) = cancel_at(after, || {
            maniple::block_on(async {
                alive.set(1);
                let _future = Finally(|| alive.set(0));
                let answer = inner.await.unwrap();
                maniple::spawn(maniple::yield_now).await.unwrap();
                answer
            })
        });
        assert_eq!(alive.get(), 0);
        assert!(answer == Ok(42) || struck && answer.is_err());
        assert_eq!(told.iter().collect::<Vec<_>>(), ["inner"]);
        assert_eq!(maniple::block_on(async { 1 }), 1);
        struck
    });
    assert!(points >= 2, "{points}");
}

#[test]
fn a_job_whose_caller_was_cut_is_run_or_withdrawn_and_the_pool_serves_on() {
    let points = at_every_suspension(|after| {
        let pool = OffloadPool::builder().max_threads(1).build().unwrap();
        // Nobody opens before the caller waits, since it is on the same worker.
        let (open, gate) = channel::bounded(0);
        let opener = maniple::spawn(move || while open.send(()).is_ok() {});
        let (held, gone) = channel::bounded::<()>(1);
        let (ran, mut done) = (Arc::new(AtomicUsize::new(0)), 0);
        let (result, struck) = cancel_at(after, || {
            for turn in 0..3 {
                let (held, ran, gate) = (held.clone(), ran.clone(), gate.clone());
                done = pool.run(move || {
                    let _held = held;
                    // Cut with the caller, if it has begun.
                    let _opened = gate.recv();
                    ran.fetch_add(1, Relaxed);
                    turn + 1
                })?;
            }
            Ok::<_, std::io::Error>(())
        });
        match result {
            Ok(Ok(())) => assert_eq!(done, 3),
            Ok(Err(error)) => assert!(struck && is_cancelled_error(&error), "{error}"),
            Err(cut) => panic!("offloading returns errors: {cut}"),
        }
        drop((held, gate));
        opener.join().unwrap();
        assert!(gone.recv().is_err(), "no job is held any more");
        // The one that was cut may have run, or not.
        assert!((done..=done + 1).contains(&ran.load(Relaxed)));
        assert_eq!(pool.run(|| "still here").unwrap(), "still here");
        assert_eq!(maniple::offload(|| 1).unwrap(), 1);
        struck
    });
    assert!(points >= 1, "{points}");
}
