//! The runtime's promises, held over real coroutines, threads and sockets.

mod cancelling;
mod channels;
mod coroutines;
mod grouping;
mod networking;
mod overflowing;
mod stopping;
mod stress;

use std::time::Duration;

/// Runs `body` on a runtime of so many workers; a hang ends the process with the test's name.
fn on<T: Send>(workers: usize, body: impl FnOnce() -> T + Send) -> T {
    let (done, ended) = std::sync::mpsc::channel::<()>();
    let name = std::thread::current().name().unwrap_or("?").to_owned();
    std::thread::spawn(move || {
        if ended.recv_timeout(Duration::from_secs(120))
            == Err(std::sync::mpsc::RecvTimeoutError::Timeout)
        {
            eprintln!("{name} hangs");
            std::process::abort();
        }
    });
    let runtime = maniple::Runtime::builder()
        .workers(workers)
        .build()
        .expect("a runtime can be had");
    let value = runtime.run(body);
    assert!(runtime.shutdown().is_clean(), "coroutines were left behind");
    drop(done);
    value
}
