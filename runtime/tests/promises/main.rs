//! The runtime's promises, held over real coroutines, threads and sockets: one module for each subject.

mod cancel;
mod clock;
mod coroutines;
mod fenced;
mod futures;
mod groups;
mod hook;
mod inspecting;
mod io;
mod kernel;
mod lingering;
mod locals;
mod measuring;
mod meeting;
mod million;
mod net;
mod offloading;
mod once;
mod oneshot;
mod overflow;
mod permits;
mod pipes;
mod policies;
mod processes;
mod rwlock;
mod select;
mod select_cut;
mod select_list;
mod shutdown;
mod spreading;
mod stalls;
mod standby;
mod strays;
mod stress;
mod sync;
mod time;
mod trimming;
mod trying;
mod udp;
mod unbegun;
mod unix;
mod unwinding;
mod urgent;

use std::{
    process::{Command, Output},
    sync::mpsc,
    thread,
    time::Duration,
};

use maniple::{
    Runtime,
    sim::{self, Order},
};

/// Bounds a wait that must end, so that a failure does not hang.
const LONG: Duration = Duration::from_secs(60);
/// Short enough to be waited out.
const SHORT: Duration = Duration::from_millis(5);

/// Runs `body` in simulated worlds, in an order of each seed: sleeps take no time, a hang is told as the deadlock
/// that it is, and what is left must end when it is cancelled.
fn in_world(body: impl Fn() + Send + Sync + 'static) {
    sim::check(sim::seeds(50), move |_| body());
}

/// Runs `body` in a simulated world where all have their turns in order. Time passes there only while all wait, so that no
/// limit is over before its time because the machine was busy.
fn in_turn_in_world<T: Send>(body: impl FnOnce() -> T + Send) -> T {
    sim::run_here(Order::InTurn, 0, body)
}

/// Which driver [`on`] has: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// Whether the test of that name runs in a simulated world, as it does if that is asked for and nothing says why not.
fn is_simulated(test: &str) -> bool {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    match driver.as_str() {
        "epoll" => false,
        "sim" => !kernel::is_needed(test),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    }
}

/// A thread of the test's own. No world knows that it can end a wait, so the list says that the test has one.
fn plain_thread<T: Send + 'static>(
    body: impl FnOnce() -> T + Send + 'static,
) -> thread::JoinHandle<T> {
    no_world();
    thread::spawn(body)
}

/// Holds that the test does not run in a simulated world.
fn no_world() {
    let thread = thread::current();
    // Workers and threads of pools have names of another form.
    let test = thread.name().filter(|name| name.contains("::"));
    if let Some(test) = test.filter(|test| is_simulated(test)) {
        panic!("{test} has plain threads, and must be in the list of those that need the kernel");
    }
}

/// Runs `body` on so many workers and holds that no coroutine is left. A hang, which may be one that nothing
/// can cut, ends the process with the test's name.
fn on<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    let mut value = None;
    run_on(workers, Box::new(|| value = Some(body())));
    value.unwrap()
}

/// In a box, so that it is compiled once and not for each test.
fn run_on(workers: usize, body: Box<dyn FnOnce() + Send + '_>) {
    let name = thread::current().name().unwrap_or("a test").to_owned();
    let is_simulated = is_simulated(&name);
    let (done, ended) = mpsc::channel::<()>();
    thread::spawn(move || {
        if ended.recv_timeout(2 * LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    match is_simulated {
        true => sim::run_here(Order::InTurn, 0, body),
        false => {
            let runtime = Runtime::builder().workers(workers).build().unwrap();
            runtime.run(body);
            assert!(runtime.shutdown().is_clean(), "coroutines are left");
        }
    }
    drop(done);
}

/// Runs `body` from a plain thread and from a coroutine.
fn anywhere(body: impl Fn() + Send + Sync) {
    body();
    on(1, &body);
}

/// Runs an ignored test, named with its module, in a process of its own: it dies, or it measures what all threads
/// of a process share.
fn child(test: &str) -> Output {
    Command::new(std::env::current_exe().unwrap())
        .args([test, "--exact", "--ignored", "--nocapture"])
        .arg("--test-threads=1")
        .output()
        .unwrap()
}

/// Runs such a test and holds that it passes.
fn passes_as_child(test: &str) {
    let output = child(test);
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success() && text.contains("1 passed"),
        "{}\n{text}\n{errors}",
        output.status
    );
}
