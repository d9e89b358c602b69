//! A pool bounds what runs and what waits, and a job hurts nobody but its ticket.

use std::{
    panic::AssertUnwindSafe,
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    Runtime,
    cancel::CancelToken,
    sync::channel::{Receiver, Sender, unbounded},
    time, yield_now,
};
use maniple_parts::pool::{JobError, MAX_RUN_HERE, Pool, Stats, SubmitError, Ticket, WhenFull};

use super::{on, turn};

fn pool(workers: usize, queue: usize, when_full: WhenFull) -> Pool {
    let builder = Pool::builder("tested").workers(workers).queue(queue);
    builder.when_full(when_full).build().unwrap()
}

/// Jobs that wait until the test lets them go.
struct Gate {
    open: Sender<()>,
    opened: Receiver<()>,
}

impl Gate {
    fn new() -> Self {
        let (open, opened) = unbounded();
        Self { open, opened }
    }

    fn job(&self) -> impl FnOnce() -> bool + Send + use<> {
        let opened = self.opened.clone();
        move || opened.recv().is_ok()
    }

    fn let_go(&self, jobs: usize) {
        (0..jobs).for_each(|_| self.open.send(()).unwrap());
    }
}

fn wait_until(pool: &Pool, holds: impl Fn(&Stats) -> bool) {
    let until = time::now() + Duration::from_secs(30);
    while !holds(&pool.stats()) {
        assert!(time::now() < until, "{:?}", pool.stats());
        turn();
    }
}

/// One job that runs and, behind it, as many as the queue holds: none can be on its way to a worker, since
/// the dispatcher takes a worker first.
fn fill(pool: &Pool, gate: &Gate, queue: usize) -> Vec<Ticket<bool>> {
    let mut tickets = vec![pool.submit(gate.job()).unwrap()];
    wait_until(pool, |stats| stats.running == 1);
    tickets.extend((0..queue).map(|_| pool.submit(gate.job()).unwrap()));
    tickets
}

fn sum(stats: &Stats) -> u64 {
    let ended = stats.done + stats.panicked + stats.cancelled + stats.expired + stats.dropped;
    ended + stats.queued + stats.running
}

#[test]
fn every_job_runs_once_and_no_more_at_a_time_than_there_are_workers() {
    for workers in [1, 2] {
        on(workers, || {
            let pool = pool(3, 4, WhenFull::Wait);
            let (now, most, ran) = (
                Arc::new(AtomicUsize::new(0)),
                Arc::new(AtomicUsize::new(0)),
                Arc::new(AtomicUsize::new(0)),
            );
            let handler = pool.handler({
                let (now, most, ran) = (now.clone(), most.clone(), ran.clone());
                move |n: u64| {
                    most.fetch_max(now.fetch_add(1, SeqCst) + 1, SeqCst);
                    yield_now();
                    now.fetch_sub(1, SeqCst);
                    ran.fetch_add(1, SeqCst);
                    n * 2
                }
            });
            let submitters: Vec<_> = (0..4_u64)
                .map(|k| {
                    let handler = handler.clone();
                    maniple::spawn(move || {
                        let tickets = (0..50).map(|n| handler.submit(k * 50 + n).unwrap());
                        let tickets: Vec<_> = tickets.collect();
                        tickets.into_iter().map(|t| t.join().unwrap()).sum::<u64>()
                    })
                })
                .collect();
            let total: u64 = submitters.into_iter().map(|s| s.join().unwrap()).sum();
            assert_eq!(total, (0..200).sum::<u64>() * 2);
            assert_eq!(ran.load(SeqCst), 200);
            assert!(most.load(SeqCst) <= 3);
            let report = pool.drain(Duration::from_secs(10));
            assert_eq!((report.withdrawn, report.cancelled, report.left), (0, 0, 0));
            let stats = pool.stats();
            assert_eq!((stats.done, stats.submitted, stats.queued), (200, 200, 0));
            assert_eq!(stats.per_worker.iter().sum::<u64>(), 200);
        });
    }
}

#[test]
fn all_workers_work_at_the_same_time() {
    on(1, || {
        let (pool, gate) = (pool(3, 1, WhenFull::Wait), Gate::new());
        let tickets: Vec<_> = (0..4).map(|_| pool.submit(gate.job()).unwrap()).collect();
        wait_until(&pool, |stats| stats.running == 3);
        assert_eq!(pool.stats().queued, 1);
        assert_eq!(pool.stats().per_worker, [1, 1, 1]);
        gate.let_go(4);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
    });
}

#[test]
fn it_serves_plain_threads_too() {
    let pool = pool(1, 1, WhenFull::Wait);
    let tickets: Vec<_> = (0..5).map(|n| pool.submit(move || n).unwrap()).collect();
    let sum: i32 = tickets.into_iter().map(|t| t.join().unwrap()).sum();
    assert_eq!(sum, 10);
}

#[test]
fn a_panic_reaches_its_ticket_alone_and_the_worker_goes_on() {
    on(1, || {
        let pool = pool(1, 8, WhenFull::Wait);
        let bad = pool.submit(|| -> u8 { panic!("intended") }).unwrap();
        let good = pool.submit(|| 7).unwrap();
        let error = bad.join().unwrap_err();
        assert_eq!(
            error.to_string(),
            "a job of pool `tested` panicked: intended"
        );
        let JobError::Panicked { panic, .. } = error else {
            panic!("{error}");
        };
        assert!(panic.into_payload().is::<&str>());
        assert_eq!(good.join().unwrap(), 7);
        assert_eq!(pool.stats().panicked, 1);
    });
}

#[test]
fn a_panic_of_what_a_job_leaves_behind_does_not_end_the_worker() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("intended");
        }
    }
    on(1, || {
        let pool = pool(1, 8, WhenFull::Wait);
        drop(pool.submit(|| Bomb).unwrap());
        assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
        assert_eq!(sum(&pool.stats()), 2);
    });
}

#[test]
fn panics_without_end_do_not_end_the_worker() {
    struct Mine;
    impl Drop for Mine {
        fn drop(&mut self) {
            std::panic::panic_any(Mine);
        }
    }
    on(1, || {
        let pool = pool(1, 8, WhenFull::Wait);
        drop(pool.submit(|| -> u8 { std::panic::panic_any(Mine) }));
        drop(pool.submit(|| Mine));
        let bomb = Mine;
        drop(pool.submit(move || -> u8 {
            let _bomb = bomb;
            7
        }));
        let last = maniple::timeout(Duration::from_secs(30), || {
            pool.submit(|| 7).unwrap().join()
        });
        assert_eq!(last.unwrap().unwrap(), 7);
        let stats = pool.stats();
        assert_eq!((sum(&stats), stats.running), (4, 0));
    });
}

#[test]
fn a_panic_of_a_refused_jobs_remains_leaves_the_numbers_right() {
    struct Bomb;
    impl Drop for Bomb {
        fn drop(&mut self) {
            panic!("intended");
        }
    }
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::Reject), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let bomb = Bomb;
        let refused = std::panic::catch_unwind(AssertUnwindSafe(|| {
            pool.submit(move || drop(bomb)).map(drop)
        }));
        assert!(refused.is_err());
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        let stats = pool.stats();
        assert_eq!((stats.submitted, stats.queued, stats.rejected), (2, 0, 1));
    });
}

#[test]
fn a_job_run_by_its_submitter_ends_with_the_submitters_deadline() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::RunHere), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let sleep = || maniple::sleep(Duration::from_secs(60));
        let cut = maniple::timeout(Duration::from_millis(5), || pool.submit(sleep).unwrap());
        assert!(matches!(cut.unwrap().join(), Err(JobError::Elapsed { .. })));
        assert_eq!(pool.stats().expired, 1);
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
    });
}

#[test]
fn a_panic_is_one_though_who_runs_the_job_is_cancelled_meanwhile() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::RunHere), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let (token, never) = (CancelToken::new(), Gate::new());
        let (theirs, busy, job) = (token.clone(), pool.clone(), never.job());
        let here = maniple::spawn(move || {
            let panics = move || panic!("intended: {}", job());
            theirs.run(|| busy.submit(panics).unwrap()).unwrap()
        });
        wait_until(&pool, |stats| stats.run_by_submitters == 1);
        token.cancel();
        let panicked: Result<(), _> = here.join().unwrap().join();
        assert!(matches!(panicked, Err(JobError::Panicked { .. })));
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        let stats = pool.stats();
        assert_eq!((stats.panicked, stats.cancelled), (1, 0));
    });
}

#[test]
fn a_drain_waits_for_what_submitters_run_themselves() {
    on(1, || {
        let (pool, gate, theirs) = (pool(1, 1, WhenFull::RunHere), Gate::new(), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let (busy, job) = (pool.clone(), theirs.job());
        let here = maniple::spawn(move || busy.submit(job).unwrap().join());
        wait_until(&pool, |stats| stats.run_by_submitters == 1);
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        let draining = pool.clone();
        let drain = maniple::spawn(move || draining.drain(Duration::from_secs(30)));
        while !pool.is_closed() {
            turn();
        }
        (0..20).for_each(|_| yield_now());
        assert!(!drain.is_finished());
        theirs.let_go(1);
        let report = drain.join().unwrap();
        assert_eq!((report.finished, report.left), (1, 0));
        assert!(here.join().unwrap().unwrap());
    });
}

#[test]
fn a_full_queue_rejects_by_name_and_limit() {
    on(1, || {
        let (pool, gate) = (pool(1, 2, WhenFull::Reject), Gate::new());
        let tickets = fill(&pool, &gate, 2);
        let error = pool.submit(|| ()).unwrap_err();
        assert!(matches!(error, SubmitError::Full { limit: 2, .. }));
        assert!(error.to_string().contains("`tested`"), "{error}");
        gate.let_go(3);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        let stats = pool.stats();
        assert_eq!((stats.rejected, stats.submitted, stats.done), (1, 3, 3));
    });
}

#[test]
fn a_full_queue_drops_its_oldest_job() {
    on(1, || {
        let (pool, gate) = (pool(1, 2, WhenFull::DropOldest), Gate::new());
        let mut tickets = fill(&pool, &gate, 2);
        tickets.push(pool.submit(gate.job()).unwrap());
        gate.let_go(3);
        let ends: Vec<_> = tickets.into_iter().map(Ticket::join).collect();
        assert!(matches!(ends[1], Err(JobError::Dropped { .. })));
        assert!([0, 2, 3].iter().all(|&n| matches!(ends[n], Ok(true))));
        assert_eq!((pool.stats().dropped, sum(&pool.stats())), (1, 4));
    });
}

maniple::coroutine_local! {
    static MARK: std::cell::Cell<u32> = const { std::cell::Cell::new(0) };
}

#[test]
fn a_job_finds_the_local_values_of_who_runs_it() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::RunHere), Gate::new());
        MARK.set(1);
        let mark = || MARK.replace(2);
        let of_two = [(); 2].map(|()| pool.submit(mark).unwrap().join().unwrap());
        assert_eq!(of_two, [0, 2]);
        let tickets = fill(&pool, &gate, 1);
        assert_eq!(pool.submit(mark).unwrap().join().unwrap(), 1);
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
    });
}

#[test]
fn a_full_queue_has_the_submitter_run_the_job() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::RunHere), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let me = maniple::current().unwrap().id();
        let here = pool.submit(|| maniple::current().unwrap().id()).unwrap();
        assert!(here.is_finished());
        assert_eq!(here.join().unwrap(), me);
        let panicked = pool.submit(|| panic!("intended")).unwrap();
        assert!(matches!(panicked.join(), Err(JobError::Panicked { .. })));
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        assert_eq!(pool.stats().run_by_submitters, 2);
    });
}

#[test]
fn waiting_for_room_ends_with_the_deadline_or_by_cancellation_and_counts_nothing() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::Wait), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let late = maniple::timeout(Duration::from_millis(5), || pool.submit(|| ()));
        assert!(matches!(
            late.unwrap().unwrap_err(),
            SubmitError::Elapsed { .. }
        ));
        let token = CancelToken::new();
        let (theirs, busy) = (token.clone(), pool.clone());
        let waiter = maniple::spawn(move || theirs.run(|| busy.submit(|| ()).map(drop)));
        wait_until(&pool, |stats| stats.submitted == 3);
        token.cancel();
        let cut = waiter.join().unwrap().unwrap();
        assert!(matches!(cut, Err(SubmitError::Cancelled { .. })));
        assert_eq!(pool.stats().submitted, 2);
        gate.let_go(2);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
    });
}

#[test]
fn a_job_has_its_submitters_deadline_queued_or_running() {
    on(1, || {
        let (pool, gate) = (pool(1, 4, WhenFull::Wait), Gate::new());
        let (running, queued) = maniple::timeout(Duration::from_millis(10), || {
            (
                pool.submit(|| maniple::sleep(Duration::from_secs(60)))
                    .unwrap(),
                pool.submit(gate.job()).unwrap(),
            )
        })
        .unwrap();
        assert!(matches!(running.join(), Err(JobError::Elapsed { .. })));
        assert!(matches!(queued.join(), Err(JobError::Elapsed { .. })));
        assert_eq!(pool.stats().expired, 2);
        let free = maniple::timeout(Duration::from_secs(9), || {
            maniple::cancel::shield(|| pool.submit(maniple::time::remaining).unwrap())
        });
        assert_eq!(free.unwrap().join().unwrap(), None);
    });
}

#[test]
fn a_cut_join_cancels_the_job_and_a_dropped_ticket_does_not() {
    on(1, || {
        let (pool, gate) = (pool(1, 4, WhenFull::Wait), Gate::new());
        let (tell, told) = unbounded();
        let job = move || {
            let cut = maniple::cancel::check().is_err();
            maniple::cancel::shield(|| tell.send(cut)).unwrap();
        };
        let wait_then_tell = |gate: &Gate| {
            let (wait, job) = (gate.job(), job.clone());
            move || {
                wait();
                job();
            }
        };
        let joined = pool.submit(wait_then_tell(&gate)).unwrap();
        let cut = maniple::timeout(Duration::from_millis(5), || joined.join());
        assert!(matches!(cut.unwrap(), Err(JobError::Elapsed { .. })));
        assert_eq!(told.recv(), Ok(true));
        drop(pool.submit(wait_then_tell(&gate)).unwrap());
        gate.let_go(1);
        assert_eq!(told.recv(), Ok(false));
    });
}

#[test]
fn a_cancelled_job_is_withdrawn_from_the_queue_or_cut_short() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::Wait), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        tickets.iter().for_each(Ticket::cancel);
        let ends: Vec<_> = tickets.into_iter().map(Ticket::join).collect();
        assert!(matches!(ends[0], Ok(false)), "its own wait was cut");
        assert!(matches!(ends[1], Err(JobError::Cancelled { .. })));
        let sleeper = pool.submit(|| maniple::sleep(Duration::from_secs(60)));
        let sleeper = sleeper.unwrap();
        wait_until(&pool, |stats| stats.running == 1);
        sleeper.cancel();
        assert!(matches!(sleeper.join(), Err(JobError::Cancelled { .. })));
        assert_eq!(pool.submit(|| 7).unwrap().join().unwrap(), 7);
    });
}

#[test]
fn a_drain_finishes_what_is_queued_and_refuses_what_comes() {
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::Wait), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        let busy = pool.clone();
        let wait = gate.job();
        let blocked = maniple::spawn(move || busy.submit(wait).unwrap().join());
        wait_until(&pool, |stats| stats.submitted == 3);
        let draining = pool.clone();
        let drain = maniple::spawn(move || draining.drain(Duration::from_secs(30)));
        while !pool.is_closed() {
            turn();
        }
        let refused = pool.submit(|| ()).unwrap_err();
        assert_eq!(refused.to_string(), "pool `tested` is closed");
        gate.let_go(3);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
        assert!(blocked.join().unwrap().unwrap());
        let report = drain.join().unwrap();
        assert_eq!((report.finished, report.withdrawn), (3, 0));
        assert_eq!((report.cancelled, report.left), (0, 0));
    });
}

#[test]
fn a_drain_cancels_the_rest_when_its_bound_is_over_and_counts_it() {
    on(2, || {
        let (pool, gate) = (pool(1, 2, WhenFull::Wait), Gate::new());
        let sleeper = pool.submit(|| maniple::sleep(Duration::from_secs(60)));
        wait_until(&pool, |stats| stats.running == 1);
        let queued: Vec<_> = (0..2).map(|_| pool.submit(gate.job()).unwrap()).collect();
        let busy = pool.clone();
        let blocked = maniple::spawn(move || busy.submit(|| ()).unwrap().join());
        wait_until(&pool, |stats| stats.submitted == 4);
        let report = pool.drain(Duration::from_millis(5));
        assert_eq!((report.finished, report.left), (0, 0));
        assert_eq!((report.withdrawn, report.cancelled), (3, 1));
        let is_cancelled = |end| matches!(end, Err(JobError::Cancelled { .. }));
        assert!(is_cancelled(sleeper.unwrap().join()));
        assert!(queued.into_iter().all(|t| is_cancelled(t.join().map(drop))));
        assert!(is_cancelled(blocked.join().unwrap()));
        assert_eq!(pool.drain(Duration::ZERO), Default::default());
    });
}

#[test]
fn a_job_that_does_not_heed_its_cancellation_is_reported_as_left() {
    on(2, || {
        let (pool, gate) = (pool(1, 2, WhenFull::Wait), Gate::new());
        let job = gate.job();
        let deaf = pool.submit(move || maniple::cancel::shield(job)).unwrap();
        wait_until(&pool, |stats| stats.running == 1);
        let report = pool.drain(Duration::ZERO);
        assert_eq!((report.left, report.is_clean()), (1, false), "{report:?}");
        gate.let_go(1);
        let _ = deaf.join();
        assert_eq!(pool.drain(Duration::from_secs(60)).left, 0);
    });
}

#[test]
fn dropping_the_pool_lets_what_is_queued_run() {
    on(1, || {
        let (pool, gate) = (pool(1, 2, WhenFull::Wait), Gate::new());
        let tickets = fill(&pool, &gate, 2);
        drop(pool);
        gate.let_go(3);
        assert!(tickets.into_iter().all(|ticket| ticket.join().unwrap()));
    });
}

#[test]
fn the_end_of_its_runtime_leaves_no_ticket_waiting() {
    let gate = Gate::new();
    let (pool, tickets) = on(1, || {
        let pool = pool(1, 2, WhenFull::Wait);
        let tickets = fill(&pool, &gate, 2);
        (pool, tickets)
    });
    let ends: Vec<_> = tickets.into_iter().map(Ticket::join).collect();
    assert!(matches!(
        ends[0],
        Ok(false) | Err(JobError::Cancelled { .. })
    ));
    assert!(matches!(
        ends[1..],
        [
            Err(JobError::Cancelled { .. }),
            Err(JobError::Cancelled { .. })
        ]
    ));
    assert!(matches!(
        pool.submit(|| ()),
        Err(SubmitError::Closed { .. })
    ));
}

#[test]
fn the_end_of_its_runtime_frees_threads_that_wait_for_room() {
    let gate = Gate::new();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (pool, _tickets) = runtime.run(|| {
        let pool = pool(1, 1, WhenFull::Wait);
        let tickets = fill(&pool, &gate, 1);
        (pool, tickets)
    });
    let submitters: Vec<_> = (0..4)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || match pool.submit(|| ()) {
                Ok(ticket) => matches!(ticket.join(), Err(JobError::Cancelled { .. })),
                Err(error) => matches!(error, SubmitError::Closed { .. }),
            })
        })
        .collect();
    while pool.stats().submitted < 6 {
        std::thread::yield_now();
    }
    assert!(runtime.shutdown().is_clean());
    assert!(submitters.into_iter().all(|s| s.join().unwrap()));
}

#[test]
fn a_job_may_drop_the_pools_last_handle_and_what_is_queued_still_runs() {
    on(1, || {
        let (pool, gate) = (pool(1, 2, WhenFull::Wait), Gate::new());
        let (own, wait) = (pool.clone(), gate.job());
        let first = pool.submit(move || {
            wait();
            drop(own);
        });
        let second = pool.submit(|| 7).unwrap();
        drop(pool);
        gate.let_go(1);
        first.unwrap().join().unwrap();
        assert_eq!(second.join().unwrap(), 7);
    });
}

#[test]
fn cancelling_submitters_at_any_moment_loses_and_doubles_no_job() {
    for workers in [1, 2] {
        on(workers, || {
            let pool = pool(2, 1, WhenFull::Wait);
            let ran = Arc::new(AtomicUsize::new(0));
            let mut accepted = 0;
            for yields in 0..200 {
                let token = CancelToken::new();
                let (theirs, busy, ran) = (token.clone(), pool.clone(), ran.clone());
                let submitter = maniple::spawn(move || {
                    let mut accepted = 0;
                    let _ = theirs.run(|| {
                        for _ in 0..5 {
                            let ran = ran.clone();
                            let job = move || ran.fetch_add(1, SeqCst);
                            match busy.submit(job) {
                                Ok(ticket) => drop(ticket),
                                Err(_) => break,
                            }
                            accepted += 1;
                        }
                    });
                    accepted
                });
                (0..yields % 20).for_each(|_| yield_now());
                token.cancel();
                accepted += submitter.join().unwrap();
            }
            pool.drain(Duration::from_secs(30));
            assert_eq!(ran.load(SeqCst), accepted);
            assert_eq!(pool.stats().submitted, accepted as u64);
        });
    }
}

#[test]
fn settings_out_of_range_are_refused_by_name() {
    let none = Pool::builder("idle").workers(0).build().unwrap_err();
    assert_eq!(
        none.to_string(),
        "pool `idle`: workers is 0, must be from 1 to 65536"
    );
    assert!(Pool::builder("idle").queue(0).build().is_err());
}

/// Submits a job that submits a job, and so on, until one is refused; how many ran.
fn chain(pool: &Pool, ran: &Arc<AtomicUsize>) {
    let next = {
        let (pool, ran) = (pool.clone(), ran.clone());
        move || {
            ran.fetch_add(1, SeqCst);
            chain(&pool, &ran);
        }
    };
    match pool.submit(next) {
        Ok(ticket) => ticket.join().unwrap(),
        Err(error) => assert!(matches!(error, SubmitError::Full { .. }), "{error}"),
    }
}

#[test]
fn jobs_that_run_in_their_submitter_submit_others_so_deep_and_no_deeper() {
    let check = |pool: &Pool| {
        // What ran is counted no more.
        for _ in 0..3 {
            let ran = Arc::new(AtomicUsize::new(0));
            chain(pool, &ran);
            assert_eq!(ran.load(SeqCst), MAX_RUN_HERE);
        }
        let panicked = pool.submit(|| panic!("intended")).unwrap();
        assert!(matches!(panicked.join(), Err(JobError::Panicked { .. })));
        let ran = Arc::new(AtomicUsize::new(0));
        chain(pool, &ran);
        assert_eq!(ran.load(SeqCst), MAX_RUN_HERE);
    };
    on(1, || {
        let (pool, gate) = (pool(1, 1, WhenFull::RunHere), Gate::new());
        let tickets = fill(&pool, &gate, 1);
        check(&pool);
        // From a plain thread too.
        std::thread::scope(|scope| _ = scope.spawn(|| check(&pool)));
        gate.let_go(2);
        tickets
            .into_iter()
            .for_each(|ticket| assert!(ticket.join().unwrap()));
    });
}
