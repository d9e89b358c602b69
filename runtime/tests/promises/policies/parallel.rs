//! Calls at once, until it is enough or too much.

use std::{
    ops::ControlFlow,
    sync::atomic::{AtomicUsize, Ordering},
};

use maniple::{
    cancel::Interrupt,
    group::{self, Ending, Fate},
};

use super::{Call, never};
use crate::{SHORT, on};

#[test]
fn parallel_calls_end_at_so_many_failures_or_successes_and_keep_what_became_of_each() {
    for workers in [1, 2] {
        on(workers, || {
            let inside = AtomicUsize::new(0);
            let calls = || {
                let call = |index: usize| {
                    let inside = &inside;
                    Some(move || match index {
                        0 | 2 => Ok(index),
                        1 | 3 => Err(index),
                        _ => never(inside),
                    })
                };
                (0..5).map(call).chain([None])
            };
            let all = |_: &mut Vec<usize>, _, _| ControlFlow::Continue(());
            let given_up = group::Parallel::new()
                .give_up_at(2)
                .run(calls(), Vec::new(), all);
            assert_eq!(given_up.end, Ending::GivenUp);
            assert!(matches!(given_up.members[1], Fate::Failed { error: 1, .. }));
            assert!(matches!(given_up.members[3], Fate::Failed { error: 3, .. }));
            assert!(matches!(given_up.members[4], Fate::Cut { .. }));
            assert_eq!(given_up.members[5], Fate::Skipped);

            let keep = |kept: &mut Vec<usize>, index, value| {
                assert_eq!(index, value);
                kept.push(value);
                ControlFlow::Continue(())
            };
            let enough = group::Parallel::new()
                .enough_at(2)
                .run(calls(), Vec::new(), keep);
            assert_eq!((enough.end, enough.value.len()), (Ending::Enough, 2));

            let first = |kept: &mut Vec<usize>, _, value| {
                kept.push(value);
                ControlFlow::Break(())
            };
            let folded = group::Parallel::new().run(calls(), Vec::new(), first);
            assert_eq!((folded.end, folded.value.len()), (Ending::Folded, 1));

            let late = maniple::timeout(SHORT, || {
                group::Parallel::new().run(calls(), Vec::new(), keep)
            });
            let late = late.unwrap();
            assert_eq!(late.end, Ending::Cut(Interrupt::Elapsed));
            assert_eq!(late.value.len(), 2, "what came in time is kept");
            let Fate::Cut { took } = late.members[4] else {
                panic!("{late:?}");
            };
            assert!(took >= SHORT);
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        });
    }
}

#[test]
fn parallel_groups_may_be_calls_of_one() {
    on(2, || {
        let add = |sum: &mut usize, _, value| {
            *sum += value;
            ControlFlow::Continue(())
        };
        let inner = |of: usize| {
            let calls = (0..of).map(|value| Some(move || Ok::<_, ()>(value)));
            Ok::<_, ()>(group::Parallel::new().run(calls, 0, add).value)
        };
        let calls = (0..4).map(|of| Some(move || inner(of)));
        let outer = group::Parallel::new().run(calls, 0, add);
        assert_eq!((outer.value, outer.end), (1 + 3, Ending::All));
        let none = [None::<Call<'_, Result<usize, ()>>>];
        let nobody = group::Parallel::new().run(none, 7, add);
        assert_eq!((nobody.value, nobody.end), (7, Ending::All));
    });
}
