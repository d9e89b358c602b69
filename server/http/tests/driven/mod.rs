//! Tests over the kernel, as they stand, or each in a simulated world of its own: `MANIPLE_DRIVER=sim cargo test`.
//!
//! A test program that has this module and `#[macro_use] extern crate maniple_driven;` at its root runs all its tests so.
//! They take runtimes and threads from here, and sockets and the time from `maniple`; then the same lines are right in
//! both. `kernel` has those that stay with the kernel, and those that are in a world in any case.

#![allow(dead_code, reason = "each program uses some of it")]

mod kernel;
pub mod thread;

use std::{cell::Cell, io, net::SocketAddr, os::fd::OwnedFd, sync::mpsc, time::Duration};

use maniple::{
    JoinHandle, net, runtime,
    sim::{self, Order},
};
use rustix::net::{AddressFamily, SocketFlags, SocketType};

/// Which driver tests run over: `epoll`, if it is not set, or `sim`.
const DRIVER: &str = "MANIPLE_DRIVER";

/// How long a test may take in its world, as clocks on walls tell.
const LONG: Duration = Duration::from_secs(100);

thread_local! {
    /// Whether this thread is a world's.
    static IS_WORLD: Cell<bool> = const { Cell::new(false) };
}

/// What was answered to a client that has ended its sending, without the `100 Continue` by which the server finds out
/// whether such a client is still there, where its handler takes its time: on a machine that does much else, any may.
pub fn without_questions(asked: &[u8], answer: String) -> String {
    let asked = asked.to_ascii_lowercase();
    match asked.windows(12).any(|word| word == b"100-continue") {
        true => answer,
        false => answer.replace("HTTP/1.1 100 Continue\r\n\r\n", ""),
    }
}

/// Runs the body of the test of that name, which begins with the program's and the module's.
///
/// In a world everything has an end: what waits for nothing is told as a deadlock, and what goes on and on as a
/// standstill.
pub fn test<T: Send>(name: &str, body: impl FnOnce() -> T + Send) -> T {
    let driver = std::env::var(DRIVER).unwrap_or_else(|_| "epoll".to_owned());
    let is_simulated = match driver.as_str() {
        "epoll" => kernel::is_timed(name),
        "sim" => !kernel::is_needed(name),
        other => panic!("{DRIVER} is {other:?}, and must be epoll or sim"),
    };
    match is_simulated {
        false => body(),
        true => {
            let _patience = Patience::with(name);
            sim::run_here(Order::InTurn, 0, || {
                IS_WORLD.set(true);
                body()
            })
        }
    }
}

/// What ends the process with the test's name if that holds its world's thread for too long: then it waits for what is
/// in no world.
struct Patience(mpsc::Sender<()>);

impl Patience {
    fn with(test: &str) -> Self {
        let (done, ended) = mpsc::channel();
        let test = test.to_owned();
        std::thread::spawn(move || {
            if ended.recv_timeout(LONG) == Err(mpsc::RecvTimeoutError::Timeout) {
                eprintln!("{test} hangs in its world");
                std::process::abort();
            }
        });
        Self(done)
    }
}

/// Whether the caller is in a world.
pub fn is_simulated() -> bool {
    IS_WORLD.get()
}

/// What a world has not: who asks for it there is to be in the list.
#[track_caller]
pub fn needs_the_kernel(what: &str) {
    assert!(
        !is_simulated(),
        "{what} in a simulated world: the test belongs into `driven/kernel.rs`"
    );
}

/// An address of this machine's at which nobody listens, and that nobody is given who asks for any. Who is told of it can
/// listen there, and be followed by others.
pub struct Reserved {
    address: SocketAddr,
    /// In a world, whose tests are alone in it, none is needed.
    _bound: Option<OwnedFd>,
}

impl Reserved {
    pub fn new() -> Self {
        if is_simulated() {
            let bound = net::TcpListener::bind("127.0.0.1:0").unwrap();
            let (address, _bound) = (bound.local_addr().unwrap(), None);
            return Self { address, _bound };
        }
        let socket = rustix::net::socket_with(
            AddressFamily::INET,
            SocketType::STREAM,
            SocketFlags::CLOEXEC,
            None,
        )
        .unwrap();
        // Others that are bound so may listen while this one does not.
        rustix::net::sockopt::set_socket_reuseaddr(&socket, true).unwrap();
        rustix::net::bind(&socket, &SocketAddr::from(([127, 0, 0, 1], 0))).unwrap();
        let address = rustix::net::getsockname(&socket).unwrap();
        Self {
            address: address.try_into().unwrap(),
            _bound: Some(socket),
        }
    }

    pub fn address(&self) -> SocketAddr {
        self.address
    }
}

/// A runtime; in a world that world, which has one worker.
pub struct Runtime(Option<maniple::Runtime>);

/// What is set of it.
pub struct Builder(runtime::Builder);

impl Runtime {
    pub fn builder() -> Builder {
        Builder(maniple::Runtime::builder())
    }

    pub fn run<T: Send>(&self, main: impl FnOnce() -> T + Send) -> T {
        match &self.0 {
            Some(runtime) => runtime.run(main),
            None => main(),
        }
    }

    /// Holds that nothing is left; a world holds that of itself.
    pub fn shut_down(self) {
        if let Some(runtime) = self.0 {
            assert!(runtime.shutdown().is_clean());
        }
    }

    #[track_caller]
    pub fn spawn<T: Send + 'static>(
        &self,
        body: impl FnOnce() -> T + Send + 'static,
    ) -> JoinHandle<T> {
        match &self.0 {
            Some(runtime) => runtime.spawn(body),
            None => maniple::spawn(body),
        }
    }
}

impl Builder {
    pub fn workers(self, workers: usize) -> Self {
        Self(self.0.workers(workers))
    }

    pub fn build(self) -> io::Result<Runtime> {
        match is_simulated() {
            true => Ok(Runtime(None)),
            false => self.0.build().map(|runtime| Runtime(Some(runtime))),
        }
    }
}

/// Like [`maniple::run`]; in a world it is done as it stands.
pub fn run<T: Send>(main: impl FnOnce() -> T + Send) -> T {
    match is_simulated() {
        true => main(),
        false => maniple::run(main),
    }
}
