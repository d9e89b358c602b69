//! Processes that are there before the clients: one that dies is replaced.

use std::{
    collections::BTreeSet,
    fs,
    time::{Duration, Instant},
};

use rustix::process::{Pid, Signal, kill_process};

use super::{http::ask, process::Running};

const WORKERS: usize = 3;

#[test]
fn workers_that_are_killed_are_replaced() {
    let backends = Running::start(&["backends"]);
    for model in [
        "prefork",
        "prefork-reuseport",
        "process-threads",
        "process-coroutines",
    ] {
        let mut server = Running::start(&[
            model,
            "--listen=127.0.0.1:0",
            "--workers",
            &WORKERS.to_string(),
            "--backends",
            backends.said(),
        ]);
        let at = server.address();
        let old = workers(&server, &BTreeSet::new());
        for &worker in &old {
            let worker = Pid::from_raw(worker).unwrap();
            kill_process(worker, Signal::KILL).unwrap();
        }
        let new = workers(&server, &old);
        assert_eq!(new.intersection(&old).next(), None, "{model}");
        for id in 0..8 {
            assert_eq!(ask(at, &format!("/aggregate/{id}")).status, 200, "{model}");
        }
        assert!(server.lives(), "{model}");
    }
}

/// The children of a server, once there are all of them and none of these.
fn workers(server: &Running, dead: &BTreeSet<i32>) -> BTreeSet<i32> {
    let id = server.id();
    let until = Instant::now() + Duration::from_secs(20);
    loop {
        let listed = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
        let children: BTreeSet<i32> = listed
            .split_whitespace()
            .map(|child| child.parse().unwrap())
            .collect();
        if children.len() == WORKERS && children.is_disjoint(dead) {
            return children;
        }
        assert!(
            Instant::now() < until,
            "of {children:?}, {dead:?} were killed"
        );
        std::thread::yield_now();
    }
}
