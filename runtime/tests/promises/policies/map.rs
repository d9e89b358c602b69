//! A call for each item, so many at a time: `map` and its kin.

use std::{
    cell::Cell,
    sync::atomic::{AtomicUsize, Ordering},
};

use maniple::{cancel, group, sync::channel, time::Elapsed};

use super::{Inside, cancelled_at_any_moment, caught, never, yields};
use crate::{SHORT, on};

#[test]
fn map_keeps_the_order_of_the_items_and_the_bound() {
    for workers in [1, 2] {
        on(workers, || {
            for limit in [1, 3, 100] {
                let (inside, most) = (AtomicUsize::new(0), AtomicUsize::new(0));
                let doubled = group::map(limit, 0..20, |item| {
                    let _inside = Inside::enter(&inside);
                    most.fetch_max(inside.load(Ordering::SeqCst), Ordering::SeqCst);
                    yields((item * 7) % 5);
                    2 * item
                });
                assert!(doubled.into_iter().eq((0..20).map(|item| 2 * item)));
                assert!(most.load(Ordering::SeqCst) <= limit);
                assert!(workers > 1 || limit == 1 || most.load(Ordering::SeqCst) > 1);
            }
            assert!(group::map(1, [(); 0], |()| ()).is_empty());
        });
    }
    let lengths = group::map(2, ["on", "a", "plain thread"], str::len);
    assert_eq!(lengths, [2, 1, 12]);
}

#[test]
fn map_takes_the_next_item_only_once_a_call_has_ended() {
    on(1, || {
        let (taken, ended) = (Cell::new(0), AtomicUsize::new(0));
        let items = (0..10).inspect(|_| {
            taken.set(taken.get() + 1);
            assert!(taken.get() <= ended.load(Ordering::SeqCst) + 2);
        });
        group::map(2, items, |_| {
            yields(2);
            ended.fetch_add(1, Ordering::SeqCst);
        });
        assert_eq!(taken.get(), 10);
    });
}

#[test]
fn map_as_completed_hands_over_each_result_when_it_is_there() {
    on(2, || {
        let turn = AtomicUsize::new(3);
        let mut order = Vec::new();
        group::map_as_completed(
            4,
            0..4,
            |item| {
                while turn.load(Ordering::SeqCst) > item {
                    maniple::yield_now();
                }
                item * 10
            },
            |index, value| {
                order.push((index, value));
                turn.store(index.saturating_sub(1), Ordering::SeqCst);
            },
        );
        assert_eq!(order, [(3, 30), (2, 20), (1, 10), (0, 0)]);
    });
}

#[test]
fn try_map_stops_at_the_first_error() {
    for workers in [1, 2] {
        on(workers, || {
            let (inside, begun) = (AtomicUsize::new(0), AtomicUsize::new(0));
            let failed = group::try_map(2, 0..1000, |item| {
                begun.fetch_add(1, Ordering::SeqCst);
                match item {
                    0 => never(&inside),
                    7 => Err("the seventh"),
                    _ => Ok(item),
                }
            });
            assert_eq!(failed, Err("the seventh"));
            assert_eq!(inside.load(Ordering::SeqCst), 0);
            assert!(begun.load(Ordering::SeqCst) < 20);
            assert_eq!(cancel::check(), Ok(()));
            let all: Result<Vec<_>, ()> = group::try_map(3, [1, 2], Ok);
            assert_eq!(all, Ok(vec![1, 2]));
        });
    }
}

#[test]
fn a_panic_of_a_call_the_iterator_or_the_receiver_ends_a_map() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let of_call = |item| {
            if item == 2 {
                panic!("a call's");
            }
            never::<()>(&inside);
        };
        assert_eq!(caught(|| group::map(3, 0..9, of_call)), "a call's");
        let items = (0..9).inspect(|&item| assert!(item < 2, "the iterator's"));
        let of_iterator = caught(|| group::map(9, items, |_| never::<()>(&inside)));
        assert_eq!(of_iterator, "the iterator's");
        let call = |item| {
            if item > 0 {
                never(&inside)
            }
        };
        let receive = |_, ()| panic!("the receiver's");
        let of_receiver = caught(|| group::map_as_completed(2, 0..9, call, receive));
        assert_eq!(of_receiver, "the receiver's");
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn a_map_is_cut_by_a_deadline_unless_its_calls_return_all_the_same() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let cut = maniple::timeout(SHORT, || group::map(2, 0..9, |_| never::<u8>(&inside)));
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
        let (_keep, nothing) = channel::bounded::<()>(0);
        let wait = |_| nothing.recv().is_err();
        // Where a busy machine begins one of them too late, there is another try.
        let kept = loop {
            let begun = AtomicUsize::new(0);
            let wait = |item| {
                begun.fetch_add(1, Ordering::SeqCst);
                wait(item)
            };
            let kept = maniple::timeout(SHORT, || group::map(2, 0..2, wait));
            if begun.load(Ordering::SeqCst) == 2 {
                break kept;
            }
        };
        assert_eq!(kept, Ok(vec![true, true]));
        let cut = maniple::timeout(SHORT, || group::map(2, 0..3, wait));
        assert_eq!(cut, Err(Elapsed), "the third is not begun");
        let said = maniple::timeout(SHORT, || group::try_map(2, 0.., |_| nothing.recv()));
        assert!(said.unwrap().is_err());
    });
}

#[test]
fn a_map_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let mapped = group::map(2, 0..5, |item| {
            let _inside = Inside::enter(inside);
            yields(2);
            item
        });
        assert_eq!(mapped, [0, 1, 2, 3, 4]);
    });
}
