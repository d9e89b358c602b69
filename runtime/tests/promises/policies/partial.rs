//! What is done at the deadline: partial results.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::{
    cancel::{self, Interrupt},
    group::{self, Part},
    sync::channel,
};

use super::{Call, caught, never, yields};
use crate::{LONG, SHORT, on};

#[test]
fn at_a_deadline_what_is_done_is_returned_in_order_and_the_rest_is_cut() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let (_keep, nothing) = channel::bounded::<()>(0);
        let calls: [Call<'_, Result<u8, bool>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Ok(1)),
            Box::new(|| {
                yields(3);
                Err(false)
            }),
            Box::new(|| nothing.recv().map(|()| 4).map_err(|_| true)),
        ];
        let began = std::time::Instant::now();
        let parts = group::partial_timeout(SHORT, calls);
        assert!(began.elapsed() >= SHORT, "never early");
        assert_eq!(
            parts,
            [
                Part::Cut(Interrupt::Elapsed),
                Part::Done(Ok(1)),
                Part::Done(Err(false)),
                Part::Done(Err(true))
            ]
        );
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(
            (cancel::check(), maniple::time::remaining()),
            (Ok(()), None)
        );
        let all = group::partial_timeout(std::time::Duration::MAX, [|| 1, || 2]);
        assert_eq!(all, [Part::Done(1), Part::Done(2)]);
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn partial_results_are_kept_whatever_cuts_the_rest_but_a_panic() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls = || -> [Call<'_, u8>; 2] { [Box::new(|| 1), Box::new(|| never(&inside))] };
        // An outer deadline is earlier.
        let parts = maniple::timeout(SHORT, || group::partial_timeout(LONG, calls()));
        let cut = Part::Cut(Interrupt::Elapsed);
        assert_eq!(parts, Ok(vec![Part::Done(1), cut]));
        let (begin, begun) = channel::bounded(0);
        let token = cancel::CancelToken::new();
        let (parts, ()) = maniple::join!(
            token.run(|| {
                let calls: [Call<'_, u8>; 2] = [
                    Box::new(|| 1),
                    Box::new(|| {
                        begin.send(()).unwrap();
                        never(&inside)
                    }),
                ];
                group::partial_deadline(std::time::Instant::now() + LONG, calls)
            }),
            {
                begun.recv().unwrap();
                token.cancel();
            }
        );
        assert_eq!(parts.unwrap()[1], Part::Cut(Interrupt::Cancelled));
        let falls: [Call<'_, u8>; 2] = [Box::new(|| never(&inside)), Box::new(|| panic!("apart"))];
        assert_eq!(caught(|| group::partial_timeout(LONG, falls)), "apart");
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}
