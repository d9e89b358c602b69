//! Calls whose ends are data, and calls that begin again.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::{
    group::{self, FailedAttempt, Restart},
    sync::channel,
    time::Elapsed,
};

use super::{Call, Inside, cancelled_at_any_moment, never, yields};
use crate::{LONG, SHORT, on};

#[test]
fn what_supervised_calls_end_with_is_data_and_touches_no_sibling() {
    let try_it = || {
        let calls: [Call<'_, Result<u8, &str>>; 4] = [
            Box::new(|| panic!("this one")),
            Box::new(|| Err("an error")),
            Box::new(|| std::panic::panic_any(42_u32)),
            Box::new(|| {
                yields(9);
                Ok(1)
            }),
        ];
        let mut ended = group::supervised(calls).into_iter();
        let panic = ended.next().unwrap().unwrap_err().into_panic();
        assert_eq!(*panic.downcast::<&str>().unwrap(), "this one");
        assert_eq!(ended.next().unwrap().unwrap(), Err("an error"));
        let panic = ended.next().unwrap().unwrap_err().into_panic();
        assert_eq!(*panic.downcast::<u32>().unwrap(), 42);
        assert_eq!(ended.next().unwrap().unwrap(), Ok(1));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn supervised_calls_are_cut_with_their_leader_and_say_so() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, u8>; 2] = [Box::new(|| never(&inside)), Box::new(|| 1)];
        let ended = maniple::timeout(SHORT, || group::supervised(calls)).unwrap();
        assert!(ended[0].as_ref().unwrap_err().is_elapsed());
        assert_eq!(*ended[1].as_ref().unwrap(), 1);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
    cancelled_at_any_moment(|inside| {
        let call = || {
            let _inside = Inside::enter(inside);
            yields(3);
        };
        for end in group::supervised([call; 2]) {
            assert!(end.is_ok() || end.unwrap_err().is_cancelled());
        }
    });
}

#[test]
fn a_supervised_childs_panic_is_not_its_groups() {
    on(2, || {
        let sum: Result<u32, maniple::JoinError> = maniple::group(|g| {
            let falls = g.supervise(|| -> u32 { panic!("alone") });
            drop(g.supervise(|| panic!("and nobody asks")));
            let steady = g.spawn(|| {
                yields(9);
                40
            });
            let error = falls.join().unwrap_err();
            assert!(error.is_panic() && !g.is_cancelled());
            Ok(steady.join()? + 2)
        });
        assert_eq!(sum.unwrap(), 42);
        let cancelled = AtomicUsize::new(0);
        let failed: Result<(), &str> = maniple::group(|g| {
            drop(g.supervise(|| never::<()>(&cancelled)));
            Err("but its leader's end is its own")
        });
        assert!(failed.is_err() && cancelled.load(Ordering::SeqCst) == 0);
    });
}

#[test]
fn a_restart_tries_again_after_errors_and_panics_and_gives_up_at_its_limit() {
    let quick = Restart {
        max: 3,
        backoff: SHORT / 5..=SHORT,
        ..Restart::default()
    };
    on(1, || {
        let began = std::time::Instant::now();
        let served = quick.run(|attempt| match attempt {
            0 => Err("an error"),
            1 => panic!("a panic"),
            _ => Ok(attempt),
        });
        assert_eq!(served.unwrap(), 2);
        assert!(began.elapsed() >= 3 * SHORT / 5, "pauses of one and two");
        let mut attempts = 0;
        let gave_up = quick.run(|attempt| {
            attempts += 1;
            Err::<(), _>(attempt)
        });
        let gave_up = gave_up.unwrap_err();
        assert_eq!((attempts, gave_up.failures), (4, 4));
        assert_eq!(gave_up.to_string(), "gave up after 4 failures, the last: 3");
        assert!(matches!(gave_up.last, FailedAttempt::Error(3)));
        let none = Restart {
            max: 0,
            ..quick.clone()
        };
        let gave_up = none.run(|_| -> Result<(), ()> { panic!("at once") });
        let FailedAttempt::Panic(panic) = gave_up.unwrap_err().last else {
            panic!("it was a panic");
        };
        assert_eq!(*panic.into_panic().downcast::<&str>().unwrap(), "at once");
    });
}

#[test]
fn a_restart_forgets_failures_and_begins_nothing_when_it_is_cut() {
    let forgetful = Restart {
        max: 1,
        within: SHORT / 5,
        backoff: SHORT / 5..=SHORT / 5,
    };
    on(1, || {
        let rare = forgetful.run(|attempt| if attempt < 4 { Err(()) } else { Ok(attempt) });
        assert_eq!(rare.unwrap(), 4);
        let patient = Restart {
            backoff: LONG..=LONG,
            ..Restart::default()
        };
        let cut = maniple::timeout(SHORT, || patient.run(|_| Err::<(), _>(())).is_ok());
        assert_eq!(cut, Err(Elapsed));
        let (_keep, nothing) = channel::bounded::<()>(0);
        let cut = maniple::timeout(SHORT, || patient.run(|_| nothing.recv()));
        assert_eq!(cut.unwrap().unwrap_err().failures, 1);
        let inside = AtomicUsize::new(0);
        let cut = maniple::timeout(SHORT, || {
            patient.run(|_| Ok::<u8, ()>(never(&inside))).is_ok()
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}
