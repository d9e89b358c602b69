//! Leader and followers: threads take turns at waiting, and the one that an event wakes
//! hands on the lead before it works.
//!
//! All threads share one epoll set. One of them, the leader, waits in it; the followers
//! sleep. An event makes the leader promote a follower and then handle the event itself,
//! from the first byte to the last: there is no queue, and a request is never handed from
//! thread to thread. While all threads work there is no leader, and events wait in the
//! kernel.

use std::{
    collections::HashMap,
    io::{self, ErrorKind},
    net::TcpListener,
    os::fd::OwnedFd,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
    thread::{self, Builder, Thread, ThreadId},
};

use rustix::event::epoll::{self, CreateFlags, Event, EventData, EventFlags};

use super::{Client, Model, Service};
use crate::{
    site::{Site, after_failed_accept},
    work::{Backends, Wire},
};

fn serve(site: &Site) -> io::Result<()> {
    let listener = site.listen()?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    epoll::add(&epoll, &listener, EventData::new_u64(LISTENER), ONCE)?;
    let server = Arc::new(Server {
        epoll,
        listener,
        lead: Lead::default(),
        clients: Mutex::default(),
        last: AtomicU64::new(LISTENER),
    });
    for _ in 1..site.workers {
        let (server, backends) = (Arc::clone(&server), site.backends());
        Builder::new().spawn(move || server.take_part(backends))?;
    }
    server.take_part(site.backends())
}

/// Who leads, and who may be promoted.
#[derive(Debug, Default)]
struct Lead {
    turn: Mutex<Turn>,
}

#[derive(Debug, Default)]
struct Turn {
    leader: Option<ThreadId>,
    followers: Vec<Thread>,
}

impl Lead {
    /// ① Returns when the calling thread is the leader: at once if there is none, otherwise
    /// when it is promoted.
    fn follow(&self) {
        let me = thread::current();
        let mut turn = lock(&self.turn);
        if turn.leader.is_none() {
            turn.leader = Some(me.id());
            return;
        }
        turn.followers.push(me.clone());
        while turn.leader != Some(me.id()) {
            drop(turn);
            thread::park();
            turn = lock(&self.turn);
        }
    }

    /// ② The leader steps back and names its successor: who came last, since its caches are
    /// the warmest. If all others are at work, the first of them to come back will lead.
    fn promote(&self) {
        let mut turn = lock(&self.turn);
        let next = turn.followers.pop();
        turn.leader = next.as_ref().map(Thread::id);
        drop(turn);
        if let Some(next) = next {
            next.unpark();
        }
    }
}

struct Server {
    epoll: OwnedFd,
    listener: TcpListener,
    lead: Lead,
    /// Those that wait for an event. The thread that handles one has taken the client out.
    clients: Mutex<HashMap<u64, Wire>>,
    last: AtomicU64,
}

impl Server {
    /// ③ The life of every thread: follow, lead, promote, work.
    fn take_part(&self, mut backends: Backends) -> io::Result<()> {
        loop {
            self.lead.follow();
            let event = self.next_event();
            self.lead.promote();
            match event? {
                LISTENER => self.accept()?,
                client => self.attend_to(client, &mut backends),
            }
        }
    }

    /// ④ A single event, for the others are the successor's. Its handle is disarmed with
    /// it, so that no successor is told of the same.
    fn next_event(&self) -> io::Result<u64> {
        let data = EventData::new_u64(LISTENER);
        let flags = EventFlags::empty();
        let mut events = [Event { flags, data }];
        loop {
            match epoll::wait(&self.epoll, &mut events, None) {
                Ok(0) | Err(rustix::io::Errno::INTR) => {}
                Ok(_) => return Ok(events[0].data.u64()),
                Err(error) => return Err(error.into()),
            }
        }
    }

    fn accept(&self) -> io::Result<()> {
        loop {
            match self.listener.accept() {
                Ok((stream, _)) => {
                    let id = self.last.fetch_add(1, Ordering::Relaxed) + 1;
                    if let Ok(wire) = Wire::new(stream) {
                        self.watch(id, wire, true);
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    after_failed_accept(&error);
                    break;
                }
            }
        }
        let data = EventData::new_u64(LISTENER);
        Ok(epoll::modify(&self.epoll, &self.listener, data, ONCE)?)
    }

    fn attend_to(&self, client: u64, backends: &mut Backends) {
        let wire = lock(&self.clients).remove(&client);
        let Some(mut wire) = wire else { return };
        // ⑤ Back into the set only now: until here nobody else could be told of this client.
        if let Ok(true) = converse(&mut wire, backends) {
            self.watch(client, wire, false);
        }
    }

    /// Arms the client's socket for one event: that it can be read, or, while it takes no
    /// more of an answer, written. The lock is held so that the thread which is told finds
    /// the client.
    fn watch(&self, client: u64, wire: Wire, anew: bool) {
        let ready = if wire.wants_write() {
            EventFlags::OUT
        } else {
            EventFlags::IN
        };
        let (once, data) = (ready | EventFlags::ONESHOT, EventData::new_u64(client));
        let mut clients = lock(&self.clients);
        let armed = if anew {
            epoll::add(&self.epoll, &wire, data, once)
        } else {
            epoll::modify(&self.epoll, &wire, data, once)
        };
        if armed.is_ok() {
            clients.insert(client, wire);
        }
    }
}

/// Reads, works and writes; the thread waits for backends, but never for the client. False
/// if the client is done with.
fn converse(wire: &mut Wire, backends: &mut Backends) -> io::Result<bool> {
    wire.write()?;
    wire.read()?;
    // Who does not read its answers gets no more of them.
    while !wire.wants_write()
        && let Some(request) = wire.request()
    {
        wire.answer(&request.ask.answer_in_turn(backends));
        wire.write()?;
    }
    Ok(!wire.finished())
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Told once, to one thread, and not again before it is armed anew.
const ONCE: EventFlags = EventFlags::IN.union(EventFlags::ONESHOT);

/// What an event's number stands for: the listener, or else a client.
const LISTENER: u64 = 0;

pub(super) const MODEL: Model = Model {
    number: 14,
    name: "leader-followers",
    title: "Leader and followers",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("leader_followers.rs")],
    serve,
};
