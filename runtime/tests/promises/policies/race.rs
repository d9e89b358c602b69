//! The first success counts: `race`.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::{cancel, group, time::Elapsed};

use super::{Call, Inside, cancelled_at_any_moment, caught, never, yields};
use crate::{SHORT, on};

#[test]
fn race_returns_the_first_success_and_cancels_the_others() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<&str, &str>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("fails early")),
            Box::new(|| {
                yields(3);
                Ok("the winner")
            }),
            Box::new(|| never(&inside)),
        ];
        assert_eq!(group::race(calls), Ok("the winner"));
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(cancel::check(), Ok(()));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn race_returns_all_errors_in_the_order_of_the_calls() {
    on(2, || {
        let failed = group::race([3, 2, 1].map(|turns| {
            move || {
                yields(turns);
                Err::<(), _>(turns)
            }
        }));
        assert_eq!(failed, Err(vec![3, 2, 1]));
        assert_eq!(
            group::race([(); 0].map(|()| || Ok::<(), ()>(()))),
            Err(vec![])
        );
    });
}

#[test]
fn race_is_cut_where_nobody_can_win_any_more_and_resumes_panics() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls = || -> [Call<'_, Result<u8, u8>>; 2] {
            [Box::new(|| never(&inside)), Box::new(|| Err(1))]
        };
        let cut = maniple::timeout(SHORT, || group::race(calls()));
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
        let token = cancel::CancelToken::new();
        token.cancel();
        assert!(token.run(|| group::race(calls())).is_err());
        let falls: [fn() -> Result<(), ()>; 2] = [|| Err(()), || panic!("a runner's")];
        assert_eq!(caught(|| group::race(falls)), "a runner's");
    });
}

#[test]
fn a_race_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let call = |turns| {
            move || {
                let _inside = Inside::enter(inside);
                yields(turns);
                if turns == 4 { Err(()) } else { Ok(turns) }
            }
        };
        assert_eq!(group::race([call(4), call(8)]), Ok(8));
    });
}
