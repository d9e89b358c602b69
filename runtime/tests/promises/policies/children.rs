//! Children of groups: who may spawn them, and their names.

use std::sync::atomic::{AtomicUsize, Ordering};

use maniple::group;

use super::{Inside, cancelled_at_any_moment, never, yields};
use crate::on;

#[test]
fn children_spawn_into_their_group_and_all_are_waited_for() {
    fn spread<'scope>(
        g: &'scope group::Group<'scope, '_, ()>,
        left: usize,
        seen: &'scope AtomicUsize,
    ) {
        seen.fetch_add(1, Ordering::SeqCst);
        yields(left);
        for _ in 0..left {
            drop(g.spawn(move || spread(g, left - 1, seen)));
        }
    }
    for workers in [1, 2] {
        on(workers, || {
            let seen = AtomicUsize::new(0);
            let done = maniple::group(|g| {
                drop(g.spawn(|| spread(g, 4, &seen)));
                Ok(())
            });
            assert_eq!((done, seen.load(Ordering::SeqCst)), (Ok(()), 65));
            let inside = AtomicUsize::new(0);
            let failed: Result<(), _> = maniple::group(|g| {
                drop(g.spawn(|| {
                    drop(g.spawn(|| never::<()>(&inside)));
                    drop(g.try_spawn(|| Err::<(), _>("a grandchild's")));
                    never::<()>(&inside);
                }));
                Ok(())
            });
            assert_eq!(failed, Err("a grandchild's"));
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        });
    }
    cancelled_at_any_moment(|inside| {
        let seen = AtomicUsize::new(0);
        let done = maniple::group(|g| {
            let _inside = Inside::enter(inside);
            spread(g, 3, &seen);
            Ok(())
        });
        assert_eq!(done, Ok(()));
    });
}

#[test]
fn a_group_prefixes_the_names_of_its_children() {
    on(1, || {
        let done: Result<(), ()> = maniple::group(|g| {
            assert_eq!(g.spawn(|| ()).name(), None);
            g.name_children("page");
            g.name_children("too late");
            assert_eq!(g.spawn(|| ()).name().as_deref(), Some("page"));
            assert_eq!(g.supervise(|| ()).name().as_deref(), Some("page"));
            assert_eq!(g.try_spawn(|| Ok(())).name().as_deref(), Some("page"));
            assert_eq!(
                g.spawn_named("ads", || ()).name().as_deref(),
                Some("page/ads")
            );
            let large = g.builder().name("large").stack_size(1 << 20);
            assert_eq!(
                large.spawn(|| ()).unwrap().name().as_deref(),
                Some("page/large")
            );
            Ok(())
        });
        assert_eq!(done, Ok(()));
    });
}
