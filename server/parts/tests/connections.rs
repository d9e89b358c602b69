//! What a pool of connections promises.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, Ordering},
    },
    time::Duration,
};

use maniple::{
    cancel::{self, CancelToken},
    inspect, panics,
    sim::{self, Order},
    spawn,
    sync::Notify,
    timeout,
};
use maniple_parts::connections::{Builder, Connections, GetError, Manage};

const LONG: Duration = Duration::from_secs(60);
const SHORT: Duration = Duration::from_millis(20);

/// The other side: hands out numbers, and can be told to refuse, or to take its time.
#[derive(Default)]
struct Peer {
    made: AtomicU32,
    refuses: AtomicBool,
    /// Connecting waits for this if it is told to.
    is_slow: AtomicBool,
    goes_on: Notify,
    /// Checks find connections dead.
    is_dead: AtomicBool,
    /// Checks get no answer.
    is_silent: AtomicBool,
}

struct To(Arc<Peer>);

struct Connection {
    number: u32,
    is_broken: bool,
    /// Its end is a panic.
    ends_badly: bool,
}

impl Drop for Connection {
    fn drop(&mut self) {
        assert!(!self.ends_badly, "as the test wants it");
    }
}

impl Manage for To {
    type Connection = Connection;
    type Error = io::Error;

    fn connect(&self) -> io::Result<Connection> {
        if self.0.is_slow.load(Ordering::Relaxed) {
            self.0.goes_on.notified();
        }
        if self.0.refuses.load(Ordering::Relaxed) {
            return Err(io::Error::other("refused"));
        }
        let number = self.0.made.fetch_add(1, Ordering::Relaxed);
        Ok(Connection {
            number,
            is_broken: false,
            ends_badly: false,
        })
    }

    fn check(&self, _: &mut Connection) -> io::Result<()> {
        if self.0.is_silent.load(Ordering::Relaxed) {
            maniple::park();
        }
        match self.0.is_dead.load(Ordering::Relaxed) {
            true => Err(io::Error::other("dead")),
            false => Ok(()),
        }
    }

    fn is_broken(&self, connection: &mut Connection) -> bool {
        connection.is_broken
    }
}

fn with_pool(
    settings: impl FnOnce(Builder<To>) -> Builder<To> + Send,
    test: impl FnOnce(Connections<To>, Arc<Peer>) + Send,
) {
    // In a simulated world: a busy machine does not mix up what takes which time there.
    sim::run_here(Order::InTurn, 0, || {
        let peer = Arc::new(Peer::default());
        let pool = settings(Connections::builder(To(peer.clone())))
            .build()
            .unwrap();
        timeout(LONG, || test(pool, peer)).expect("it does not hang");
    });
}

#[test]
fn what_comes_back_is_lent_again_the_latest_first() {
    with_pool(
        |it| it,
        |pool, _| {
            let (first, second) = (pool.get().unwrap(), pool.get().unwrap());
            assert_eq!((first.number, second.number), (0, 1));
            drop(first);
            drop(second);
            assert_eq!(pool.get().unwrap().number, 1);
            let stats = pool.stats();
            assert_eq!(
                (stats.open, stats.idle, stats.connects, stats.discarded),
                (2, 2, 2, 0)
            );
        },
    );
}

#[test]
fn there_are_no_more_than_so_many_and_those_who_wait_have_their_turn() {
    with_pool(
        |it| it.max(2),
        |pool, _| {
            let held = [pool.get().unwrap(), pool.get().unwrap()];
            let order = Arc::new(std::sync::Mutex::new(Vec::new()));
            let waiters: Vec<_> = (0..5)
                .map(|n| {
                    let (pool, order) = (pool.clone(), order.clone());
                    spawn(move || {
                        let lent = pool.get().unwrap();
                        order.lock().unwrap().push(n);
                        maniple::yield_now();
                        drop(lent);
                    })
                })
                .collect();
            while pool.stats().waiting < 5 {
                maniple::yield_now();
            }
            drop(held);
            for waiter in waiters {
                waiter.join().unwrap();
            }
            assert_eq!(*order.lock().unwrap(), [0, 1, 2, 3, 4]);
            assert_eq!((pool.stats().open, pool.stats().waiting), (2, 0));
        },
    );
}

#[test]
fn patience_deadlines_and_cancellations_end_the_wait() {
    with_pool(
        |it| it.max(1).patience(SHORT),
        |pool, _| {
            let held = pool.get().unwrap();
            assert!(matches!(pool.get(), Err(GetError::Elapsed)));
            assert!(matches!(
                timeout(SHORT / 4, || pool.get()).unwrap(),
                Err(GetError::Elapsed)
            ));
            let token = CancelToken::new();
            token.cancel();
            assert!(matches!(
                token.run(|| pool.get()).unwrap(),
                Err(GetError::Cancelled)
            ));
            assert_eq!((pool.stats().late, pool.stats().waiting), (2, 0));
            drop(held);
            pool.get().unwrap();
        },
    );
}

#[test]
fn a_connection_that_nobody_waits_for_any_more_is_the_pools() {
    with_pool(
        |it| it.max(1).patience(SHORT),
        |pool, peer| {
            peer.is_slow.store(true, Ordering::Relaxed);
            assert!(matches!(pool.get(), Err(GetError::Elapsed)));
            peer.goes_on.notify_one();
            while pool.stats().idle == 0 {
                maniple::yield_now();
            }
            assert_eq!(pool.get().unwrap().number, 0);
            assert_eq!(pool.stats().connects, 1);
        },
    );
}

#[test]
fn connecting_ends_after_its_time_and_has_its_error() {
    with_pool(
        |it| it.max(1).connect_timeout(SHORT),
        |pool, peer| {
            peer.refuses.store(true, Ordering::Relaxed);
            let error = pool.get().unwrap_err();
            assert_eq!(error.to_string(), "connect: refused");
            peer.is_slow.store(true, Ordering::Relaxed);
            assert!(matches!(pool.get(), Err(GetError::Connect(_))));
            // Its place is free again.
            peer.is_slow.store(false, Ordering::Relaxed);
            peer.refuses.store(false, Ordering::Relaxed);
            pool.get().unwrap();
            assert_eq!(pool.stats().connect_failures, 2);
        },
    );
}

#[test]
fn what_is_broken_or_comes_from_where_a_call_was_cut_is_not_lent_again() {
    with_pool(
        |it| it.max(1),
        |pool, _| {
            pool.get().unwrap().is_broken = true;
            assert_eq!(pool.get().unwrap().number, 1);
            // Given back in a scope whose time is over.
            _ = timeout(SHORT, || {
                let lent = pool.get().unwrap();
                assert_eq!(lent.number, 1);
                maniple::sleep(LONG);
            });
            assert_eq!(pool.get().unwrap().number, 2);
            let token = CancelToken::new();
            _ = token.run(|| {
                let _lent = pool.get().unwrap();
                token.cancel();
            });
            assert_eq!(pool.get().unwrap().number, 3);
            let panicked = spawn({
                let pool = pool.clone();
                move || {
                    let _lent = pool.get().unwrap();
                    std::panic::resume_unwind(Box::new("intended"));
                }
            });
            assert!(panicked.join().is_err());
            assert_eq!(pool.get().unwrap().number, 4);
            pool.get().unwrap().discard();
            assert_eq!(pool.get().unwrap().number, 5);
            let stats = pool.stats();
            assert_eq!((stats.open, stats.discarded), (1, 5));
        },
    );
}

#[test]
fn one_that_lay_idle_is_looked_at_and_one_that_is_old_is_not_kept() {
    with_pool(
        |it| it.check_after(Duration::ZERO),
        |pool, peer| {
            drop((pool.get().unwrap(), pool.get().unwrap()));
            peer.is_dead.store(true, Ordering::Relaxed);
            assert_eq!(pool.get().unwrap().number, 2);
            assert_eq!((pool.stats().open, pool.stats().discarded), (1, 2));
        },
    );
    with_pool(
        |it| it.max_idle(SHORT),
        |pool, _| {
            drop(pool.get().unwrap());
            maniple::sleep(2 * SHORT);
            assert_eq!(pool.get().unwrap().number, 1);
        },
    );
    with_pool(
        |it| it.max_age(Duration::ZERO),
        |pool, _| {
            drop(pool.get().unwrap());
            assert_eq!((pool.stats().open, pool.stats().idle), (0, 0));
        },
    );
}

fn keepers() -> usize {
    // One that has not begun is not seen.
    maniple::yield_now();
    let seen = inspect::snapshot();
    let named = seen
        .coroutines()
        .filter(|each| each.name() == Some("maniple-pool"));
    named.count()
}

#[test]
fn one_that_nobody_asks_for_is_dropped_in_its_time() {
    with_pool(
        |builder| builder.max_idle(LONG / 6).max_age(LONG / 3),
        |pool, _| {
            assert_eq!(keepers(), 0);
            let (old, first, second) = (pool.get(), pool.get(), pool.get());
            drop(first);
            maniple::sleep(LONG / 12);
            drop(second);
            assert_eq!((pool.stats().open, keepers()), (3, 1));
            maniple::sleep(LONG / 12 - SHORT);
            assert_eq!(pool.stats().idle, 2);
            maniple::sleep(2 * SHORT);
            assert_eq!((pool.stats().idle, pool.stats().open), (1, 2));
            maniple::sleep(LONG / 12);
            assert_eq!((pool.stats().idle, pool.stats().open), (0, 1));
            assert_eq!((pool.stats().discarded, keepers()), (2, 0));
            // It is young, and would go in ten seconds; the old one, which comes back after it, before that.
            drop(pool.get());
            drop(old);
            assert_eq!((pool.stats().idle, keepers()), (2, 1));
            maniple::sleep(LONG / 12);
            assert_eq!(pool.stats().idle, 1);
            drop(pool);
            maniple::sleep(SHORT);
            assert_eq!(keepers(), 0);
        },
    );
}

#[test]
fn one_whose_end_is_a_panic_keeps_no_other() {
    with_pool(
        |builder| builder.max_idle(LONG / 6),
        |pool, _| {
            let (mut first, second) = (pool.get().unwrap(), pool.get().unwrap());
            first.ends_badly = true;
            drop(first);
            drop(second);
            maniple::sleep(LONG / 6 + SHORT);
            assert_eq!((pool.stats().open, keepers()), (0, 0));
            drop(pool.get().unwrap());
            assert_eq!((pool.stats().idle, keepers()), (1, 1));
        },
    );
}

#[test]
fn a_runtime_that_ends_waits_for_no_keeper_and_the_next_has_its_own() {
    let builder = Connections::builder(To(Arc::default()));
    let pool = builder.max_idle(2 * SHORT).build().unwrap();
    let (kept, given) = (that_keeps_for_hours(), pool.clone());
    let first = maniple::Runtime::builder().workers(1).build().unwrap();
    first.run(|| drop(kept.get().unwrap()));
    let begun = std::time::Instant::now();
    assert!(first.shutdown().is_clean());
    assert!(begun.elapsed() < LONG / 2, "it waits for hours");
    assert_eq!(kept.stats().idle, 1);
    let second = maniple::Runtime::builder().workers(2).build().unwrap();
    second.run(move || {
        drop(kept.get().unwrap());
        assert_eq!(kept.stats().connects, 1);
        drop(given.get().unwrap());
        timeout(LONG, || {
            while given.stats().open > 0 {
                maniple::sleep(SHORT / 10);
            }
        })
        .expect("it is dropped in its time");
    });
    assert!(second.shutdown().is_clean());
}

/// A pool whose connections stay.
fn that_keeps_for_hours() -> Connections<To> {
    let builder = Connections::builder(To(Arc::default()));
    builder
        .check_after(LONG)
        .max_idle(100 * LONG)
        .build()
        .unwrap()
}

#[test]
fn who_asks_is_spared_the_panic_of_one_that_is_too_old() {
    sim::check(sim::seeds(50), |_| {
        let builder = Connections::builder(To(Arc::default()));
        let pool = builder.max_idle(LONG / 6).build().unwrap();
        let (mut first, second) = (pool.get().unwrap(), pool.get().unwrap());
        first.ends_badly = true;
        // In some worlds it is not kept at all.
        panics::catch(|| drop(first));
        drop(second);
        maniple::sleep(LONG / 6);
        let is_before_the_keeper = pool.stats().idle == 2;
        sim::sometimes!(is_before_the_keeper);
        let lent = pool.get().unwrap();
        assert_eq!((lent.number, pool.stats().open), (2, 1));
    });
}

#[test]
fn what_was_cut_in_a_scope_that_is_over_is_dropped() {
    with_pool(
        |it| it,
        |pool, _| {
            let (never, token) = (Notify::new(), CancelToken::new());
            let lent = pool.get().unwrap();
            assert!(timeout(SHORT, || never.notified()).is_err());
            drop(lent);
            assert_eq!(pool.get().unwrap().number, 1);

            let lent = pool.get().unwrap();
            token.cancel();
            assert!(token.run(|| maniple::sleep(SHORT)).is_err());
            drop(lent);
            assert_eq!(pool.get().unwrap().number, 2);

            // The cut was before this one was lent.
            assert_eq!(pool.get().unwrap().number, 2);
            // A wait that had its own time is whole, and so is one behind a shield.
            let lent = pool.get().unwrap();
            let (_sender, messages) = maniple::sync::channel::unbounded::<u32>();
            assert!(messages.recv_timeout(SHORT).is_err());
            let kept = token.run(|| cancel::shield(|| maniple::sleep(SHORT)));
            assert!(kept.is_ok());
            drop(lent);
            // So is what somebody else's cut has nothing to do with.
            let lent = pool.get().unwrap();
            let other = spawn(|| timeout(SHORT, || maniple::sleep(LONG)));
            assert!(other.join().unwrap().is_err());
            drop(lent);
            assert_eq!((pool.stats().connects, pool.stats().discarded), (3, 2));
        },
    );
}

#[test]
fn one_that_is_never_idle_for_long_is_asked_all_the_same() {
    with_pool(
        |it| it.check_after(4 * SHORT),
        |pool, peer| {
            drop(pool.get().unwrap());
            peer.is_dead.store(true, Ordering::Relaxed);
            let lent: Vec<_> = (0..6)
                .map(|_| {
                    maniple::sleep(SHORT);
                    pool.get().unwrap().number
                })
                .collect();
            assert_eq!(lent, [0, 0, 0, 1, 1, 1]);
        },
    );
}

#[test]
fn who_says_nothing_when_asked_is_given_up_in_time() {
    with_pool(
        |it| it.check_after(Duration::ZERO).check_timeout(SHORT),
        |pool, peer| {
            drop((pool.get().unwrap(), pool.get().unwrap()));
            peer.is_silent.store(true, Ordering::Relaxed);
            let begun = maniple::time::now();
            assert_eq!(pool.get().unwrap().number, 2);
            assert!(maniple::time::now() - begun < 3 * SHORT);
            assert_eq!((pool.stats().open, pool.stats().discarded), (1, 2));
        },
    );
    with_pool(
        |it| it.check_after(Duration::ZERO).patience(SHORT),
        |pool, peer| {
            drop(pool.get().unwrap());
            peer.is_silent.store(true, Ordering::Relaxed);
            assert!(matches!(pool.get(), Err(GetError::Elapsed)));
            assert_eq!((pool.stats().open, pool.stats().late), (0, 1));
        },
    );
}

#[test]
fn a_pool_of_none_is_refused() {
    let peer = Arc::new(Peer::default());
    let none = Connections::builder(To(peer)).max(0).build();
    assert_eq!(none.unwrap_err().kind(), io::ErrorKind::InvalidInput);
}
