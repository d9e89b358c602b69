//! One thread, many connections: `epoll` says which of them have become ready.
//!
//! The thread waits in one place for everything. What is watched is told to the kernel
//! once, when a connection begins, and a wait costs what is ready, however many connections
//! there are. Nothing bounds their number but descriptors and memory; the one thread bounds
//! what is done for them.

use std::{
    io,
    os::fd::{AsFd, BorrowedFd, OwnedFd},
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, Event, EventData, EventFlags},
};

use super::{
    super::{Client, Model, Service},
    Host, LISTENER, Sessions,
};
use crate::site::{Door, Site};

fn serve(site: &Site) -> io::Result<()> {
    let mut door = Door::new(site.listen()?)?;
    let mut sessions = Sessions::new(site.backends, Epoll::new(&door)?);
    let mut ready = Vec::with_capacity(EVENTS_AT_ONCE);
    loop {
        let more = sessions.turn();
        // ⑤ The only place where this process waits.
        sessions.host.wait(&mut ready, more)?;
        for event in ready.drain(..) {
            match event.data.u64() {
                LISTENER => sessions.accept(&mut door),
                whose => sessions.on_event(whose),
            }
        }
    }
}

/// How many events are taken with one call. Those left over come with the next.
pub(in super::super) const EVENTS_AT_ONCE: usize = 256;

/// What the kernel keeps for us: which connections are watched, and which of them are ready.
pub(in super::super) struct Epoll(OwnedFd);

impl Epoll {
    /// Watches `source` for input, for as long as it is ready: what stands for [`LISTENER`].
    pub fn new(source: impl AsFd) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        epoll::add(&epoll, source, EventData::new_u64(LISTENER), EventFlags::IN)?;
        Ok(Self(epoll))
    }

    /// Waits until something is ready, or only looks if there is more to do.
    pub fn wait(&self, ready: &mut Vec<Event>, more: bool) -> io::Result<()> {
        let at_once = more.then(Timespec::default);
        match epoll::wait(
            &self.0,
            rustix::buffer::spare_capacity(ready),
            at_once.as_ref(),
        ) {
            Ok(_) | Err(rustix::io::Errno::INTR) => Ok(()),
            Err(error) => Err(error.into()),
        }
    }
}

impl Host for Epoll {
    /// ⑥ Edge-triggered, in and out: told once when a connection becomes ready, so that
    /// what is watched never changes. The price: a reader that stops before the kernel has
    /// said "no more" must come back by itself, which is what the agenda is for.
    fn watch(&mut self, connection: BorrowedFd<'_>, whose: u64) -> io::Result<()> {
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::ET;
        // Closing the connection ends this; nothing is to be undone.
        Ok(epoll::add(
            &self.0,
            connection,
            EventData::new_u64(whose),
            flags,
        )?)
    }
}

pub(in super::super) const MODEL: Model = Model {
    number: 9,
    name: "epoll",
    title: "Multiplexing with epoll",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("epoll.rs"), include_str!("mod.rs")],
    serve,
};
