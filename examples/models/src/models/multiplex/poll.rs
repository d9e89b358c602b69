//! One thread, many connections: `poll` says which of them are ready.
//!
//! Before each wait the whole list of what is watched goes to the kernel, and comes back
//! marked. There is no limit to its length; but a wait costs time for each connection,
//! silent or not.

use std::{io, os::fd::BorrowedFd};

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::{
    super::{Client, Model, Service},
    Host, LISTENER, Sessions,
};
use crate::site::{Door, Site};

fn serve(site: &Site) -> io::Result<()> {
    let mut door = Door::new(site.listen()?)?;
    let mut sessions = Sessions::new(site.backends, Poll);
    loop {
        let at_once = sessions.turn().then(Timespec::default);
        // ① The list is made anew for each wait, since what a session waits for changes.
        let mut whose = vec![LISTENER];
        let mut list = vec![PollFd::new(&door, PollFlags::IN)];
        for watched in sessions.watched() {
            let mut interest = PollFlags::empty();
            interest.set(PollFlags::IN, watched.reads);
            interest.set(PollFlags::OUT, watched.writes);
            whose.push(watched.whose);
            list.push(PollFd::from_borrowed_fd(watched.connection, interest));
        }
        match poll(&mut list, at_once.as_ref()) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error.into()),
        }
        // ② And the whole list is gone through after each wait, to find the few that are ready.
        let marked = list
            .iter()
            .zip(whose)
            .filter(|(entry, _)| !entry.revents().is_empty());
        let ready: Vec<u64> = marked.map(|(_, whose)| whose).collect();
        for whose in ready {
            match whose {
                LISTENER => sessions.accept(&mut door),
                whose => sessions.on_event(whose),
            }
        }
    }
}

struct Poll;

impl Host for Poll {
    /// ③ There is nothing to tell the kernel: each that is there is on the next list.
    fn watch(&mut self, _: BorrowedFd<'_>, _: u64) -> io::Result<()> {
        Ok(())
    }
}

pub(in super::super) const MODEL: Model = Model {
    number: 9,
    name: "poll",
    title: "Multiplexing with poll",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("poll.rs"), include_str!("mod.rs")],
    serve,
};
