//! All values, or the first error: `try_join` and its macro.

use std::{
    cell::Cell,
    error::Error,
    sync::atomic::{AtomicUsize, Ordering},
};

use maniple::{cancel, group, sync::channel, time::Elapsed};

use super::{Call, Inside, cancelled_at_any_moment, caught, never, yields};
use crate::{SHORT, on};

#[test]
fn an_error_of_the_leader_comes_before_those_that_its_cancellation_causes() {
    on(1, || {
        let failed: Result<(), &str> = maniple::group(|g| {
            drop(g.try_spawn(|| {
                let (_keep, nothing) = channel::bounded::<()>(0);
                nothing.recv().map_err(|_| "caused by the cancellation")
            }));
            maniple::yield_now();
            Err("the cause")
        });
        assert_eq!(failed, Err("the cause"));
    });
}

#[test]
fn try_join_returns_all_values_in_order() {
    for workers in [1, 2] {
        on(workers, || {
            let words = ["three", "small", "words"];
            let lengths = group::try_join(words.iter().enumerate().map(|(at, word)| {
                move || {
                    yields(3 - at);
                    Ok::<_, ()>(word.len() + at)
                }
            }));
            assert_eq!(lengths, Ok(vec![5, 6, 7]));
            let none = group::try_join(Vec::<fn() -> Result<(), ()>>::new());
            assert_eq!(none, Ok(vec![]));
        });
    }
}

#[test]
fn try_join_cancels_the_others_at_the_first_error_and_waits_for_their_end() {
    let try_it = || {
        let inside = AtomicUsize::new(0);
        let calls: [Call<'_, Result<(), &str>>; 3] = [
            Box::new(|| never(&inside)),
            Box::new(|| Err("the first")),
            Box::new(|| never(&inside)),
        ];
        assert_eq!(group::try_join(calls), Err("the first"));
        assert_eq!(inside.load(Ordering::SeqCst), 0);
        assert_eq!(cancel::check(), Ok(()));
    };
    on(1, try_it);
    on(2, try_it);
    try_it();
}

#[test]
fn try_join_resumes_a_panic_and_is_cut_by_a_deadline() {
    on(2, || {
        let inside = AtomicUsize::new(0);
        let message = caught(|| {
            let calls: [Call<'_, Result<(), ()>>; 2] =
                [Box::new(|| never(&inside)), Box::new(|| panic!("a call's"))];
            group::try_join(calls)
        });
        assert_eq!(message, "a call's");
        let endless = || Ok::<u8, ()>(never(&inside));
        let cut = maniple::timeout(SHORT, || group::try_join([endless, endless]));
        assert_eq!(cut, Err(Elapsed));
        // What the calls say of the deadline is kept.
        let (_keep, nothing) = channel::bounded::<()>(0);
        let cut = maniple::timeout(SHORT, || group::try_join([|| nothing.recv()]));
        assert!(cut.unwrap().is_err());
        assert_eq!(inside.load(Ordering::SeqCst), 0);
    });
}

#[test]
fn the_try_join_macro_takes_different_values_of_one_error() {
    on(2, || {
        let (mut left, reached) = (vec![1], Cell::new(false));
        let both = maniple::try_join!(Ok::<_, &str>("value"), {
            left.push(2);
            Ok(left.len())
        });
        assert_eq!(both, Ok(("value", 2)));
        assert_eq!(maniple::try_join!(Err::<(), _>(1)), Err(1));
        let inside = AtomicUsize::new(0);
        let of_child = maniple::try_join!(
            {
                never::<u8>(&inside);
                reached.set(true);
                Ok(())
            },
            Err::<(), _>("the child's"),
        );
        assert_eq!((of_child, reached.get()), (Err("the child's"), false));
        let of_leader = maniple::try_join!(
            Err::<(), _>("the leader's"),
            Ok(never::<u8>(&inside)),
            Ok(never::<u8>(&inside))
        );
        assert_eq!(of_leader, Err("the leader's"));
        let cut = maniple::timeout(SHORT, || {
            maniple::try_join!(Ok::<_, ()>(1), Ok(never::<u8>(&inside)))
        });
        assert_eq!((cut, inside.load(Ordering::SeqCst)), (Err(Elapsed), 0));
    });
}

#[test]
fn the_try_join_macro_takes_boxed_errors_of_calls_that_borrow() {
    type Boxed = Box<dyn Error + Send + Sync>;
    struct Store(String);
    impl Store {
        fn number(&self, of: &str) -> Result<usize, Boxed> {
            maniple::yield_now();
            Ok(self.0.len() + of.parse::<usize>()?)
        }

        fn name<'a>(&'a self, of: &'a str) -> Result<&'a str, Boxed> {
            self.0.get(of.len()..).ok_or_else(|| "too long".into())
        }

        fn all(&self, of: &str) -> Result<(usize, &str, usize), Boxed> {
            let last = of.to_owned();
            let name = |of| maniple::try_join!(self.name(of), self.name(of)).map(|both| both.0);
            maniple::try_join!(
                self.number(of),
                { Ok(name("xx")?.trim_end()) },
                self.number(&last)
            )
        }
    }
    for workers in [1, 2] {
        on(workers, || {
            let store = Store("maniple".to_owned());
            assert_eq!(store.all("1").unwrap(), (8, "niple", 8));
            let error = store.all("one").unwrap_err();
            assert_eq!(error.to_string(), "invalid digit found in string");
        });
    }
}

#[test]
fn an_error_that_panics_when_dropped_leaves_the_panic_of_a_call_alone() {
    #[derive(Debug)]
    struct Bad;
    impl Drop for Bad {
        fn drop(&mut self) {
            panic!("the error's");
        }
    }
    fn panics_once_cancelled<E>(began: &AtomicUsize) -> Result<(), E> {
        began.fetch_add(1, Ordering::SeqCst);
        while cancel::check().is_ok() {
            maniple::yield_now();
        }
        panic!("a call's")
    }
    fn fails_later(began: &AtomicUsize) -> Result<(), Bad> {
        while began.load(Ordering::SeqCst) == 0 {
            maniple::yield_now();
        }
        Err(Bad)
    }
    for workers in [1, 2] {
        on(workers, || {
            let began = &AtomicUsize::new(0);
            let both = || maniple::try_join!(panics_once_cancelled(began), fails_later(began));
            assert_eq!(caught(both), "a call's");
            let began = &AtomicUsize::new(0);
            let both = || maniple::try_join!(fails_later(began), panics_once_cancelled(began));
            assert_eq!(caught(both), "a call's");
        });
    }
}

#[test]
fn try_join_leaves_nothing_behind_when_cancelled_at_any_moment() {
    cancelled_at_any_moment(|inside| {
        let call = || {
            let _inside = Inside::enter(inside);
            yields(5);
            Ok::<(), ()>(())
        };
        assert!(group::try_join([call; 3]).is_ok());
    });
}
