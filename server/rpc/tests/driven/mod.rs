//! Tests over the kernel, as they stand, or each in a simulated world of its own: `MANIPLE_DRIVER=sim cargo test`.

use std::{sync::mpsc, thread, time::Duration};

use maniple::sim::{self, Order};

/// Which driver [`run`] has: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// How long a test may take over the kernel.
const LONG: Duration = Duration::from_secs(60);

/// Tests that need the real kernel, below why they do.
const NEED_THE_KERNEL: &[(&str, &[&str])] = &[
    (
        "plain threads",
        &["plain_threads_share_a_channel_with_coroutines"],
    ),
    (
        "sockets in a folder of the kernel's",
        &[
            "a_client_meets_the_next_process_on_a_path",
            "a_path_is_the_guard_of_a_single_instance_and_what_a_dead_process_left_is_replaced",
            "calls_go_over_a_unix_socket_by_its_path_or_its_name",
        ],
    ),
];

/// Whether the test that runs here does so in a simulated world.
fn is_simulated() -> bool {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    let thread = thread::current();
    let test = thread.name().unwrap_or_default();
    let mut kept = NEED_THE_KERNEL.iter().flat_map(|(_, names)| *names);
    match driver.as_str() {
        "epoll" => false,
        "sim" => !kept.any(|name| *name == test),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    }
}

/// Runs a test in a runtime, and fails it if it takes longer than any should; or in a world, which ends what hangs.
pub fn run(test: impl FnOnce() + Send + 'static) {
    if is_simulated() {
        return sim::run_here(Order::InTurn, 0, test);
    }
    let (done, ended) = mpsc::channel();
    let thread = thread::spawn(move || {
        maniple::run(test);
        _ = done.send(());
    });
    match ended.recv_timeout(LONG) {
        Err(mpsc::RecvTimeoutError::Timeout) => panic!("it hangs"),
        _ => thread.join().unwrap(),
    }
}
