//! So many successes are enough: `quorum`.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::{group, sync::channel, time::Elapsed};

use super::{Call, Inside, cancelled_at_any_moment, never, yields};
use crate::{SHORT, on};

#[test]
fn a_quorum_is_the_first_successes_with_their_indices() {
    for workers in [1, 2] {
        on(workers, || {
            let (inside, (permit, permitted)) = (AtomicUsize::new(0), channel::bounded(1));
            let calls: [Call<'_, Result<&str, &str>>; 5] = [
                Box::new(|| never(&inside)),
                Box::new(|| {
                    permitted.recv().unwrap();
                    Ok("second")
                }),
                Box::new(|| Err("does not count")),
                Box::new(|| {
                    permit.send(()).unwrap();
                    Ok("first")
                }),
                Box::new(|| never(&inside)),
            ];
            let won = group::quorum(2, calls).unwrap();
            if workers == 1 {
                assert_eq!(won, [(3, "first"), (1, "second")]);
            }
            assert_eq!((won.len(), inside.load(Ordering::SeqCst)), (2, 0));
        });
    }
}

#[test]
fn a_quorum_gives_up_once_it_cannot_be_reached() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<u8, &str>>; 4] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("one")),
            Box::new(|| Ok(1)),
            Box::new(|| Err("two")),
        ];
        let mut lost = group::quorum(3, calls).unwrap_err();
        lost.sort_unstable();
        assert_eq!(lost, [(1, "one"), (3, "two")]);
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        let call = || -> Result<(), ()> { panic!("nobody is called") };
        assert_eq!(group::quorum(0, [call; 2]), Ok(vec![]));
        assert_eq!(group::quorum(3, [call; 2]), Err(vec![]));
        let cut = maniple::timeout(SHORT, || {
            group::quorum(1, [|| Ok::<u8, ()>(never(&inside))])
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}

#[test]
fn a_quorum_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let call = |turns| {
            move || {
                let _inside = Inside::enter(inside);
                yields(turns);
                Ok::<_, ()>(turns)
            }
        };
        let won = group::quorum(2, [call(2), call(9), call(5)]).unwrap();
        assert_eq!(won.len(), 2);
    });
}
