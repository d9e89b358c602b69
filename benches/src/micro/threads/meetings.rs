//! Scopes, barrier and parking of the standard library.

use std::{
    hint::black_box,
    sync::{
        Arc, Barrier,
        atomic::{
            AtomicU64,
            Ordering::{Acquire, Release},
        },
    },
    thread::{current, park, scope},
};

use super::{
    super::{Measured, row::THREAD_COUNTS as COUNTS, time},
    builder, join, spawn,
};

pub(super) fn groups() -> Measured {
    let numbers = [1, 2, 3];
    time(COUNTS.groups, || {
        for _ in 0..COUNTS.groups {
            let sum = scope(|scope| {
                let children = numbers.each_ref().map(|number| {
                    let body = move || *black_box(number);
                    builder()
                        .spawn_scoped(scope, body)
                        .expect("a thread can be started")
                });
                children
                    .map(|child| child.join().expect("joined"))
                    .iter()
                    .sum::<i32>()
            });
            assert_eq!(sum, 6);
        }
    })
}

pub(super) fn barrier() -> Measured {
    let barrier = Arc::new(Barrier::new(2));
    time(COUNTS.meetings, || {
        let threads = [(); 2].map(|()| {
            let barrier = barrier.clone();
            spawn(move || {
                for _ in 0..COUNTS.meetings {
                    barrier.wait();
                }
            })
        });
        join(threads);
    })
}

/// Each waits for its turn in a loop: a park may end without a cause.
pub(super) fn turns() -> Measured {
    time(COUNTS.messages, || {
        let turn = Arc::new(AtomicU64::new(0));
        let (player, seen) = (current(), turn.clone());
        let echo = spawn(move || {
            for round in 0..COUNTS.messages / 2 {
                while seen.load(Acquire) != 2 * round + 1 {
                    park();
                }
                seen.store(2 * round + 2, Release);
                player.unpark();
            }
        });
        for round in 0..COUNTS.messages / 2 {
            turn.store(2 * round + 1, Release);
            echo.thread().unpark();
            while turn.load(Acquire) != 2 * round + 2 {
                park();
            }
        }
        echo.join().expect("joined");
    })
}
