//! tokio's sets of tasks, barrier and notifications.

use std::{hint::black_box, sync::Arc};

use tokio::{
    spawn,
    sync::{Barrier, Notify},
    task::JoinSet,
};

use super::{
    super::{Clock, Measured, row::COUNTS},
    join,
};

pub(super) async fn groups() -> Measured {
    let clock = Clock::start();
    for _ in 0..COUNTS.groups {
        let mut children = JoinSet::new();
        for number in [1, 2, 3] {
            children.spawn(async move { black_box(number) });
        }
        let mut sum = 0;
        while let Some(number) = children.join_next().await {
            sum += number.expect("joined");
        }
        assert_eq!(sum, 6);
    }
    clock.per(COUNTS.groups)
}

pub(super) async fn barrier() -> Measured {
    let barrier = Arc::new(Barrier::new(2));
    let clock = Clock::start();
    let tasks = [(); 2].map(|()| {
        let barrier = barrier.clone();
        spawn(async move {
            for _ in 0..COUNTS.meetings {
                barrier.wait().await;
            }
        })
    });
    join(tasks).await;
    clock.per(COUNTS.meetings)
}

pub(super) async fn notify() -> Measured {
    let both = Arc::new([Notify::new(), Notify::new()]);
    let clock = Clock::start();
    let tasks = [0, 1].map(|own| {
        let both = both.clone();
        spawn(async move {
            for _ in 0..COUNTS.messages / 2 {
                both[own].notified().await;
                both[1 - own].notify_one();
            }
        })
    });
    both[0].notify_one();
    join(tasks).await;
    clock.per(COUNTS.messages)
}
