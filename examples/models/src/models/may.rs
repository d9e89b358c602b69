//! Stackful coroutines on another runtime, for reference: the leader with its children, on
//! `may`.
//!
//! Line by line it is `leader.rs`. What differs is under it: may resumes a coroutine on
//! whichever of its threads is free, so what runs in one must not rely on a thread-local
//! across a wait. That the compiler cannot check. Hence starting a coroutine is unsafe in
//! may, and its macro `go!`, which hides that, is a promise.

use std::{
    io,
    net::{Shutdown, SocketAddr},
    os::fd::{FromRawFd, IntoRawFd},
    time::Duration,
};

use may::{
    coroutine::{scope, sleep},
    go,
    net::{TcpListener, TcpStream},
};

use super::{Client, Model, Service};
use crate::{
    site::{Site, pause_after_failed_accept},
    work::{
        Answer, Backends, Conversation, Gathering, Unavailable,
        backend::{self, Stream},
    },
};

fn serve(site: &Site) -> io::Result<()> {
    may::config()
        .set_workers(site.cores)
        .set_stack_size(STACK / size_of::<usize>());
    let listener = site.listen()?.into_raw_fd();
    // SAFETY: the descriptor is a socket that listens, given away here. (may's own `bind`
    // would take a port that is in use.)
    let listener = unsafe { TcpListener::from_raw_fd(listener) };
    let backends = site.backends;
    let accepting = go!(move || {
        loop {
            match listener.accept() {
                // ① A stack of its own for each client, and no thread.
                Ok((stream, _)) => {
                    drop(go!(move || converse(stream, Backends::new(backends))));
                }
                Err(error) => {
                    if let Some(pause) = pause_after_failed_accept(&error) {
                        sleep(pause);
                    }
                }
            }
        }
    });
    accepting
        .join()
        .map_err(|_| io::Error::other("the coroutine that accepts has panicked"))
}

fn converse(stream: TcpStream, mut backends: Backends<TcpStream>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    // ② Deadlines are settings of the socket, for each read and each write.
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let mut client = Conversation::over(stream);
    while let Some(request) = client.request()? {
        let answer = request.ask.answer(|id| ask_side_by_side(&mut backends, id));
        client.answer(&answer)?;
    }
    Ok(())
}

/// The leader waits here until all three have answered, and may lend them what it owns.
fn ask_side_by_side(backends: &mut Backends<TcpStream>, id: u64) -> Result<Answer, Unavailable> {
    let [a, b, c] = &mut backends.each;
    // ③ Two children and the leader itself make the calls. Which threads they run on is the
    // scheduler's choice.
    let [a, b, c] = scope(|scope| {
        let a = go!(scope, || a.ask(id));
        let b = go!(scope, || b.ask(id));
        let c = c.ask(id);
        [a.join(), b.join(), c]
    });
    Ok(Gathering::merged(id, [a?, b?, c?]))
}

/// ④ may's stream, as the code that blocks knows streams.
impl Stream for TcpStream {
    fn connect(address: SocketAddr) -> io::Result<Self> {
        let stream = Self::connect(address)?;
        stream.set_nodelay(true)?;
        stream.set_read_timeout(Some(backend::PATIENCE))?;
        Ok(stream)
    }

    fn end_output(&self) -> io::Result<()> {
        self.shutdown(Shutdown::Write)
    }
}

/// A client may be silent for so long.
const PATIENCE: Duration = Duration::from_secs(10);

/// may's own default of 32 KiB would do for what is written here, with little to spare.
const STACK: usize = 64 * 1024;

pub(super) const MODEL: Model = Model {
    number: 25,
    name: "may",
    title: "Leader with children, on may",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("may.rs")],
    serve,
};
