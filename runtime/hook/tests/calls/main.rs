//! What std and the C library promise of calls, kept while they suspend.

mod bytes;
mod connections;
mod cuts;
mod ends;
mod forms;
mod midway;
mod numbers;
mod readiness;

use std::{
    io::{self, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::AsRawFd,
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use maniple::{Runtime, spawn, timeout};

/// How long something takes that would be over at once.
const WHILE: Duration = Duration::from_millis(50);

/// Longer than any test takes that does not hang.
const LONG: Duration = Duration::from_secs(60);

/// Runs `test` on one worker, and bounds it.
fn on_one_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    maniple_hook::install!();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    runtime.run(|| timeout(LONG, test).expect("it does not hang"))
}

/// The right to have children, which a wait for any child would take from others.
fn alone_with_children() -> MutexGuard<'static, ()> {
    static CHILDREN: Mutex<()> = Mutex::new(());
    CHILDREN.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A connection of std's, and its other end.
fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let near = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (near, listener.accept().unwrap().0)
}

fn sleep(time: Duration) {
    #[allow(clippy::disallowed_methods, reason = "it is what is tested")]
    std::thread::sleep(time);
}

fn poll(of: &impl AsRawFd, events: libc::c_short) -> io::Result<usize> {
    let mut of = libc::pollfd {
        fd: of.as_raw_fd(),
        events,
        revents: 0,
    };
    // SAFETY: one entry, of ours.
    match unsafe { libc::poll(&raw mut of, 1, -1) } {
        -1 => Err(io::Error::last_os_error()),
        found => Ok(found as usize),
    }
}

#[test]
fn a_client_and_its_server_of_std_share_a_worker() {
    on_one_worker(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || {
            for _ in 0..20 {
                let (mut stream, _) = listener.accept().unwrap();
                spawn(move || {
                    let mut asked = [0; 4];
                    stream.read_exact(&mut asked).unwrap();
                    sleep(Duration::from_millis(5));
                    stream.write_all(&asked).unwrap();
                });
            }
        });
        let clients: Vec<_> = (0..20_u32)
            .map(|n| {
                spawn(move || {
                    let mut stream = TcpStream::connect(address).unwrap();
                    stream.write_all(&n.to_be_bytes()).unwrap();
                    let mut told = Vec::new();
                    stream.read_to_end(&mut told).unwrap();
                    assert_eq!(told, n.to_be_bytes());
                })
            })
            .collect();
        for client in clients {
            client.join().unwrap();
        }
        server.join().unwrap();
    });
}

#[test]
fn a_plain_thread_and_an_offload_thread_block() {
    maniple_hook::install!();
    let wait = || {
        let (mut near, mut far) = pair();
        let writer = std::thread::spawn(move || {
            sleep(WHILE);
            far.write_all(b"x").unwrap();
        });
        near.read_exact(&mut [0]).unwrap();
        writer.join().unwrap();
    };
    wait();
    on_one_worker(|| maniple::offload(wait).unwrap());
}
