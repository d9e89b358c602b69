//! One loop per thread: as many event loops as cores, each with its own clients; one thread
//! accepts and deals them out.
//!
//! A client stays with its loop for as long as it is connected. So what belongs to a
//! session, and to the connections to the backends, is touched by one thread only and needs
//! no lock. A loop waits in one place, as with `epoll`; the accepting thread waits for
//! nothing but clients.

use std::{
    convert::Infallible,
    io,
    net::{SocketAddr, TcpStream},
    process,
    sync::Arc,
    thread::Builder,
};

use super::{
    Client, Model, Service,
    multiplex::{
        LISTENER, Sessions,
        epoll::{EVENTS_AT_ONCE, Epoll},
        inbox::Inbox,
    },
};
use crate::{
    site::{Site, after_failed_accept},
    work::backend::COUNT,
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    let loops = (0..site.cores)
        .map(|_| start(site.backends))
        .collect::<io::Result<Vec<_>>>()?;
    // ① Round robin: each loop gets as many clients as the others, whatever the kernel
    // thinks of their addresses.
    for inbox in loops.iter().cycle() {
        match listener.accept() {
            Ok((stream, _)) => inbox.put(stream),
            // This thread may sleep: those who are connected do not depend on it.
            Err(error) => after_failed_accept(&error),
        }
    }
    unreachable!("there is at least one core, and no end to a circle")
}

/// A loop on a thread of its own, and where its clients are left for it. Nothing bounds
/// that list but the number of descriptors: to accept is less work than to serve, but who
/// waits there holds a descriptor.
fn start(backends: [SocketAddr; COUNT]) -> io::Result<Arc<Inbox<TcpStream>>> {
    let inbox = Arc::new(Inbox::new()?);
    // ② The bell of the list is one more thing to wait for.
    let sessions = Sessions::new(backends, Epoll::new(&*inbox)?);
    let newcomers = Arc::clone(&inbox);
    Builder::new().spawn(move || {
        let Err(error) = run(sessions, &newcomers);
        // Half of the clients would wait for ever.
        eprintln!("a loop has ended: {error}");
        process::exit(1);
    })?;
    Ok(inbox)
}

fn run(mut sessions: Sessions<Epoll>, newcomers: &Inbox<TcpStream>) -> io::Result<Infallible> {
    let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        let more = sessions.turn();
        // ③ Each thread waits here for its share of the clients.
        sessions.host.wait(&mut ready, more)?;
        for event in ready.drain(..) {
            match event.data.u64() {
                LISTENER => newcomers
                    .take()
                    .into_iter()
                    .for_each(|client| sessions.take(client)),
                whose => sessions.on_event(whose),
            }
        }
    }
}

pub(super) const MODEL: Model = Model {
    number: 17,
    name: "loop-per-thread",
    title: "One loop per thread",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[
        include_str!("loop_per_thread.rs"),
        include_str!("multiplex/mod.rs"),
        include_str!("multiplex/epoll.rs"),
        include_str!("multiplex/inbox.rs"),
    ],
    serve,
};
