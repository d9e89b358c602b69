//! The reusable parts of servers keep their promises: the worker pool, the hub, the actor, and what is around calls.

mod actor;
mod chat;
mod combined;
mod endpoints;
mod harm;
mod hub;
mod pool;
mod resilience;

use std::time::Duration;

use maniple::{
    Runtime,
    sim::{self, Order},
};

/// Which driver [`on`] has: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// Tests that need the real kernel, below why they do.
const NEED_THE_KERNEL: &[(&str, &[&str])] = &[
    (
        "a file of the kernel's",
        &["endpoints::a_file_is_followed_and_one_that_is_wrong_changes_nothing"],
    ),
    (
        "who is woken has had its turn before who woke it goes on",
        &["hub::who_does_not_wait_is_judged_at_once_though_another_waits"],
    ),
];

/// Whether the test that runs here does so in a simulated world.
fn is_simulated() -> bool {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    let thread = std::thread::current();
    let test = thread.name().unwrap_or_default();
    let mut kept = NEED_THE_KERNEL.iter().flat_map(|(_, names)| *names);
    match driver.as_str() {
        "epoll" => false,
        "sim" => !kept.any(|name| *name == test),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    }
}

/// Gives others their turn: to be called in a loop until something is so. In a world it lets time pass, too.
fn turn() {
    match sim::is_inside() {
        true => maniple::sleep(Duration::from_millis(1)),
        false => maniple::yield_now(),
    }
}

/// Runs it on so many workers; or in a world, which has one.
fn on<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    match is_simulated() {
        true => sim::run_here(Order::InTurn, 0, body),
        false => {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(body)
        }
    }
}

/// Runs it in simulated worlds, where time passes only while all wait: what takes which time is as it is written there,
/// however busy the machine is.
fn in_world(body: impl Fn() + Send + Sync + 'static) {
    sim::check(sim::seeds(20), move |_| body());
}
