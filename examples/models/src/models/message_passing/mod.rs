//! Message passing without state: a request is a frame that travels from S to A, B, C and
//! back to S, and carries all that there is of it.
//!
//! No node remembers a request that it has passed on, none waits for an answer. S knows
//! connections, not requests: the frame says whose it is. A, B and C are threads here, each
//! with a listening socket of its own, and stand for processes on other machines: they
//! share nothing but frames over TCP. A node holds frames only while they are its turn, so
//! many at most; then it reads no more, and the one before it waits. S has at most one
//! frame under way for each connection.

use std::{
    fs::File,
    io::{self, ErrorKind, Read, Write},
    net::{Ipv4Addr, TcpListener, TcpStream},
    os::fd::OwnedFd,
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};

use self::frame::Frame;
use super::{Client, Model, Service};
use crate::{
    site::Site,
    work::{Ask, Wire, backend::COUNT, burn},
};

mod frame;
mod node;

fn serve(site: &Site) -> io::Result<()> {
    let end_of_ring = TcpListener::bind(LOOPBACK)?;
    // The last first, since each is told at its start where to pass its frames on to.
    let mut next = end_of_ring.local_addr()?;
    for which in (0..COUNT).rev() {
        next = node::start(which, next)?;
    }
    let to_a = TcpStream::connect(next)?;
    let (from_c, _) = end_of_ring.accept()?;
    Front::new(to_a, from_c)?.serve(&site.listen()?)
}

/// S, the front: a loop that waits for clients and for the ring at one place.
struct Front {
    epoll: OwnedFd,
    slots: Vec<Slot>,
    free: Vec<u32>,
    to_a: TcpStream,
    unsent: Vec<u8>,
    from_c: TcpStream,
    received: Vec<u8>,
    /// Clients who have sent more than was read.
    agenda: Vec<u64>,
    /// Given up for a moment when there are no descriptors left, so that a client can be
    /// turned away.
    spare: Option<File>,
}

/// A place for a client's connection. Of who had it before, the generation tells.
struct Slot {
    generation: u32,
    wire: Option<Wire>,
}

impl Front {
    fn new(to_a: TcpStream, from_c: TcpStream) -> io::Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        to_a.set_nodelay(true)?;
        for end in [&to_a, &from_c] {
            end.set_nonblocking(true)?;
            epoll::add(&epoll, end, EventData::new_u64(RING), ALL)?;
        }
        Ok(Self {
            epoll,
            slots: Vec::new(),
            free: Vec::new(),
            to_a,
            unsent: Vec::new(),
            from_c,
            received: Vec::new(),
            agenda: Vec::new(),
            spare: File::open("/dev/null").ok(),
        })
    }

    fn serve(&mut self, listener: &TcpListener) -> io::Result<()> {
        listener.set_nonblocking(true)?;
        let data = EventData::new_u64(LISTENER);
        epoll::add(&self.epoll, listener, data, EventFlags::IN)?;
        let mut events = Vec::with_capacity(256);
        loop {
            let now = Timespec::default();
            let timeout = (!self.agenda.is_empty()).then_some(&now);
            match epoll::wait(
                &self.epoll,
                rustix::buffer::spare_capacity(&mut events),
                timeout,
            ) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                match event.data.u64() {
                    LISTENER => self.accept(listener),
                    RING => self.answer_what_came_round()?,
                    who => self.attend_to(who),
                }
            }
            // A client that sends without end gets its turn, and no more.
            let mut agenda = std::mem::take(&mut self.agenda);
            agenda.sort_unstable();
            agenda.dedup();
            agenda.into_iter().for_each(|who| self.attend_to(who));
            self.send()?;
        }
    }

    fn accept(&mut self, listener: &TcpListener) {
        loop {
            match listener.accept() {
                Ok((stream, _)) => {
                    // What cannot be watched is closed.
                    let _ = self.admit(stream);
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => {
                    if self.spare.take().is_some() {
                        drop(listener.accept());
                    }
                    self.spare = File::open("/dev/null").ok();
                    return;
                }
                Err(_) => return,
            }
        }
    }

    fn admit(&mut self, stream: TcpStream) -> io::Result<()> {
        let wire = Wire::new(stream)?;
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Slot {
                generation: 0,
                wire: None,
            });
            self.slots.len() as u32 - 1
        });
        let slot = &mut self.slots[index as usize];
        let who = u64::from(slot.generation) << 32 | u64::from(index);
        let added = epoll::add(&self.epoll, &wire, EventData::new_u64(who), ALL);
        match added {
            Ok(()) => slot.wire = Some(wire),
            Err(_) => self.free.push(index),
        }
        Ok(added?)
    }

    /// ④ The client of whom an event or a frame speaks, if it is still the same.
    fn client(&mut self, who: u64) -> Option<&mut Wire> {
        let slot = self.slots.get_mut(who as u32 as usize)?;
        let same = u64::from(slot.generation) == who >> 32;
        slot.wire.as_mut().filter(|_| same)
    }

    fn attend_to(&mut self, who: u64) {
        if self.client(who).is_some() && !self.advance(who).unwrap_or(false) {
            let slot = &mut self.slots[who as u32 as usize];
            slot.wire = None;
            slot.generation = slot.generation.wrapping_add(1);
            self.free.push(who as u32);
        }
    }

    /// False if the client is done with.
    fn advance(&mut self, who: u64) -> io::Result<bool> {
        let Some(wire) = self.client(who) else {
            return Ok(false);
        };
        let more = wire.read()?;
        let mut asked = None;
        while let Some(request) = wire.request() {
            match request.ask {
                Ask::Aggregate(id) => asked = Some(id),
                Ask::Cpu(time) => wire.answer(&burn(time)),
                Ask::Refused(answer) => wire.answer(&answer),
            }
        }
        wire.write()?;
        let (stays, more) = (!wire.finished(), more && wire.wants_read());
        if more {
            self.agenda.push(who);
        }
        if let Some(id) = asked {
            // ⑤ With that the front has forgotten what was asked.
            Frame::question(who, id).write_to(&mut self.unsent);
        }
        Ok(stays)
    }

    /// ⑥ Never waits for A: if the ring were full, C would wait for S, and nothing would
    /// move any more.
    fn send(&mut self) -> io::Result<()> {
        while !self.unsent.is_empty() {
            match self.to_a.write(&self.unsent) {
                Ok(count) => drop(self.unsent.drain(..count)),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    fn answer_what_came_round(&mut self) -> io::Result<()> {
        loop {
            let mut chunk = [0; 16 * 1024];
            match self.from_c.read(&mut chunk) {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => self.received.extend_from_slice(&chunk[..count]),
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(()),
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
            let mut taken = 0;
            loop {
                let mut rest = &self.received[taken..];
                let frame = match Frame::read_from(&mut rest) {
                    Ok(frame) => frame,
                    // The end of it is still under way.
                    Err(error) if error.kind() == ErrorKind::UnexpectedEof => break,
                    Err(error) => return Err(error),
                };
                taken = self.received.len() - rest.len();
                let (who, answer) = frame.outcome().ok_or(ErrorKind::InvalidData)?;
                if let Some(wire) = self.client(who) {
                    wire.answer(&answer);
                    self.attend_to(who);
                }
            }
            self.received.drain(..taken);
        }
    }
}

/// Edge-triggered, in and out: told once when a socket becomes ready, so that what is
/// watched never changes.
const ALL: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

/// What an event speaks of, where it is not a client: there are never so many slots.
const LISTENER: u64 = u64::MAX;
const RING: u64 = u64::MAX - 1;

/// Where the ring is, on a free port.
const LOOPBACK: (Ipv4Addr, u16) = (Ipv4Addr::LOCALHOST, 0);

pub(super) const MODEL: Model = Model {
    number: 22,
    name: "message-passing",
    title: "Message passing, no server keeps state",
    service: Service::HttpOfItsOwn,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[
        include_str!("mod.rs"),
        include_str!("frame.rs"),
        include_str!("node.rs"),
    ],
    serve,
};
