//! maniple's groups, barrier and notifications.

use std::{hint::black_box, sync::Arc};

use maniple::{
    JoinError, group, spawn,
    sync::{Barrier, Notify},
};

use super::{
    super::{Measured, row::COUNTS, time},
    join,
};

pub(super) fn groups() -> Measured {
    let numbers = [1, 2, 3];
    time(COUNTS.groups, || {
        for _ in 0..COUNTS.groups {
            let sum = group(|g| {
                let children = numbers
                    .each_ref()
                    .map(|number| g.spawn(move || *black_box(number)));
                let [one, two, three] = children;
                Ok::<_, JoinError>(one.join()? + two.join()? + three.join()?)
            });
            assert_eq!(sum.expect("joined"), 6);
        }
    })
}

pub(super) fn barrier() -> Measured {
    let barrier = Arc::new(Barrier::new(2));
    time(COUNTS.meetings, || {
        let tasks = [(); 2].map(|()| {
            let barrier = barrier.clone();
            spawn(move || {
                for _ in 0..COUNTS.meetings {
                    barrier.wait();
                }
            })
        });
        join(tasks);
    })
}

pub(super) fn notify() -> Measured {
    let both = Arc::new([Notify::new(), Notify::new()]);
    time(COUNTS.messages, || {
        let tasks = [0, 1].map(|own| {
            let both = both.clone();
            spawn(move || {
                for _ in 0..COUNTS.messages / 2 {
                    both[own].notified();
                    both[1 - own].notify_one();
                }
            })
        });
        both[0].notify_one();
        join(tasks);
    })
}
