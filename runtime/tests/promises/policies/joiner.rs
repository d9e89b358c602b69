//! Policies of a caller's own.

use std::{
    ops::ControlFlow,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::atomic::{AtomicUsize, Ordering},
    time::Duration,
};

use maniple::{
    cancel::{self, Interrupt},
    group::{self, Ended, Ending, Fate, Joiner, Member},
};

use super::{Call, Inside, cancelled_at_any_moment, never, yields};
use crate::{SHORT, on};

/// Notes what it is asked and told.
struct Noting<'a> {
    log: &'a mut Vec<String>,
    stops_at: usize,
}

impl Joiner<usize> for Noting<'_> {
    type Output = Ended;

    fn forks(&mut self, index: usize) -> bool {
        self.log.push(format!("fork {index}"));
        index != 1
    }

    fn completed(&mut self, member: Member<usize>) -> ControlFlow<()> {
        assert_eq!(member.index, member.value);
        self.log.push(format!("completed {}", member.index));
        match member.index == self.stops_at {
            true => ControlFlow::Break(()),
            false => ControlFlow::Continue(()),
        }
    }

    fn cut(&mut self, index: usize, _: Duration) {
        self.log.push(format!("cut {index}"));
    }

    fn finish(self, end: Ended) -> Option<Ended> {
        self.log.push("finish".to_owned());
        (end != Ended::Cut(Interrupt::Cancelled)).then_some(end)
    }
}

#[test]
fn a_joiner_is_asked_before_each_call_and_told_of_each_until_it_decides() {
    on(1, || {
        let inside = AtomicUsize::new(0);
        let mut log = Vec::new();
        let call = |index: usize| {
            let inside = &inside;
            move || match index {
                3 => never(inside),
                _ => {
                    yields(index);
                    index
                }
            }
        };
        let joiner = Noting {
            log: &mut log,
            stops_at: 2,
        };
        let end = group::join_with(joiner, (0..4).map(call));
        assert_eq!(end, Ended::Decided);
        let asked = ["fork 0", "fork 1", "fork 2", "fork 3"];
        assert_eq!(log[..4], asked);
        assert_eq!(log[4..], ["completed 0", "completed 2", "cut 3", "finish"]);
        assert_eq!(inside.load(Ordering::SeqCst), 0);

        log.clear();
        let joiner = Noting {
            log: &mut log,
            stops_at: 9,
        };
        assert_eq!(group::join_with(joiner, (0..3).map(call)), Ended::All);
        assert_eq!(log[3..], ["completed 0", "completed 2", "finish"]);
    });
}

#[test]
fn a_joiner_makes_a_partial_result_at_a_deadline_or_unwinds_where_it_has_none() {
    for workers in [1, 2] {
        on(workers, || {
            let inside = AtomicUsize::new(0);
            let mut log = Vec::new();
            let calls = |index: usize| {
                let inside = &inside;
                move || match index {
                    0 => index,
                    _ => never(inside),
                }
            };
            let mut run = || {
                let joiner = Noting {
                    log: &mut log,
                    stops_at: 9,
                };
                group::join_with(joiner, (0..3).map(calls))
            };
            let end = maniple::timeout(SHORT, &mut run);
            assert_eq!(end, Ok(Ended::Cut(Interrupt::Elapsed)));
            let token = cancel::CancelToken::new();
            token.cancel();
            assert!(token.run(&mut run).is_err(), "there is nothing to return");
            assert_eq!(log.last().unwrap(), "finish");
        });
    }
}

#[test]
fn a_joiner_that_panics_ends_its_group_and_so_does_one_that_has_nothing_to_say() {
    struct Bad(bool);
    impl Joiner<()> for Bad {
        type Output = ();
        fn completed(&mut self, _: Member<()>) -> ControlFlow<()> {
            assert!(!self.0, "a bad joiner");
            ControlFlow::Continue(())
        }
        fn finish(self, _: Ended) -> Option<()> {
            None
        }
    }
    on(1, || {
        for panics in [false, true] {
            let inside = AtomicUsize::new(0);
            let calls: [Call<'_, ()>; 2] = [
                Box::new(|| ()),
                Box::new(|| {
                    if panics {
                        never(&inside)
                    }
                }),
            ];
            let run = || group::join_with(Bad(panics), calls);
            assert!(catch_unwind(AssertUnwindSafe(run)).is_err());
            assert_eq!(inside.load(Ordering::SeqCst), 0);
        }
    });
}

#[test]
fn a_joined_group_that_is_cancelled_at_any_moment_leaves_nothing_behind() {
    cancelled_at_any_moment(|inside| {
        let calls = (0..3).map(|index| {
            Some(move || {
                let _inside = Inside::enter(inside);
                yields(2 + index);
                Ok::<_, ()>(index)
            })
        });
        let sum = |sum: &mut usize, _, value| {
            *sum += value;
            ControlFlow::Continue(())
        };
        let gathered = group::Parallel::new().run(calls, 0, sum);
        let done = |fate: &&Fate<()>| matches!(fate, Fate::Done { .. });
        assert_eq!(
            gathered.end == Ending::All,
            gathered.members.iter().filter(done).count() == 3
        );
    });
}
