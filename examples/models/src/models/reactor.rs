//! A reactor with callbacks: who wants to hear of events on a connection registers a
//! handler, and the reactor calls it.
//!
//! One thread waits, in the reactor, and nobody else calls the handlers: an acceptor, a
//! session for each client, and one for each backend. What a handler would wait for it
//! leaves behind as a closure, to be called when it is there. The reactor knows nothing of
//! the service; memory and descriptors bound how many handlers there are.

use std::{
    cell::{Cell, RefCell},
    collections::HashMap,
    io,
    os::fd::{AsFd, OwnedFd},
    rc::{Rc, Weak},
};

use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};

use super::{Client, Model, Service};
use crate::{
    site::{Door, Site},
    work::{Ask, Gathering, Unavailable, Upstream, Wire, backend::COUNT, burn},
};

fn serve(site: &Site) -> io::Result<()> {
    let reactor = Reactor::new()?;
    let acceptor = Rc::new(Acceptor {
        door: RefCell::new(Door::new(site.listen()?)?),
        backends: std::array::from_fn(|which| Backend::new(which, site)),
    });
    // ① What is registered is called from now on: control is handed to the reactor, and
    // never comes back.
    reactor.register(&*acceptor.door.borrow(), EventFlags::IN, acceptor.clone())?;
    reactor.run()
}

/// ② What the reactor knows of those that it calls.
trait Handler {
    fn on_ready(self: Rc<Self>, reactor: &Reactor);
}

type Later = Box<dyn FnOnce(&Reactor)>;

struct Reactor {
    epoll: OwnedFd,
    handlers: RefCell<HashMap<u64, Rc<dyn Handler>>>,
    last: Cell<u64>,
    later: RefCell<Vec<Later>>,
}

impl Reactor {
    fn new() -> io::Result<Self> {
        Ok(Self {
            epoll: epoll::create(CreateFlags::CLOEXEC)?,
            handlers: RefCell::default(),
            last: Cell::new(0),
            later: RefCell::default(),
        })
    }

    /// Has `handler` called whenever there are such events on `source`, until it is removed
    /// by the number returned.
    fn register(
        &self,
        source: impl AsFd,
        events: EventFlags,
        handler: Rc<dyn Handler>,
    ) -> io::Result<u64> {
        let number = self.last.get() + 1;
        epoll::add(&self.epoll, source, EventData::new_u64(number), events)?;
        self.last.set(number);
        self.handlers.borrow_mut().insert(number, handler);
        Ok(number)
    }

    fn remove(&self, number: u64) {
        self.handlers.borrow_mut().remove(&number);
    }

    /// ③ Has `call` called with the next turn. A handler that called another from within
    /// its own call could be called itself before it has returned, and so on, until the
    /// stack is full.
    fn call_later(&self, call: impl FnOnce(&Reactor) + 'static) {
        self.later.borrow_mut().push(Box::new(call));
    }

    /// ④ The loop: wait, find who is meant, call.
    fn run(&self) -> io::Result<()> {
        let mut events = Vec::with_capacity(256);
        loop {
            let at_once = (!self.later.borrow().is_empty()).then(Timespec::default);
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, at_once.as_ref()) {
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error.into()),
            }
            for event in events.drain(..) {
                // A handler may remove handlers and register others: the table is not held
                // while one is called.
                let handler = self.handlers.borrow().get(&event.data.u64()).cloned();
                if let Some(handler) = handler {
                    handler.on_ready(self);
                }
            }
            for call in self.later.take() {
                call(self);
            }
        }
    }
}

struct Acceptor {
    door: RefCell<Door>,
    backends: [Rc<Backend>; COUNT],
}

impl Handler for Acceptor {
    fn on_ready(self: Rc<Self>, reactor: &Reactor) {
        while let Some(stream) = self.door.borrow_mut().accept() {
            // A client that cannot be registered is dropped, and with it its connection.
            let _ = Wire::new(stream)
                .and_then(|wire| Session::new(wire, &self.backends).register(reactor));
        }
    }
}

struct Session {
    wire: RefCell<Wire>,
    backends: [Rc<Backend>; COUNT],
    /// By which the reactor knows it.
    number: Cell<u64>,
}

impl Session {
    fn new(wire: Wire, backends: &[Rc<Backend>; COUNT]) -> Rc<Self> {
        Rc::new(Self {
            wire: RefCell::new(wire),
            backends: backends.clone(),
            number: Cell::new(0),
        })
    }

    fn register(self: Rc<Self>, reactor: &Reactor) -> io::Result<()> {
        let number = reactor.register(&*self.wire.borrow(), BOTH, self.clone())?;
        self.number.set(number);
        Ok(())
    }

    /// Does what can be done without waiting; false if the client is done with.
    fn proceed(self: &Rc<Self>, reactor: &Reactor) -> io::Result<bool> {
        let mut wire = self.wire.borrow_mut();
        let more = wire.read()?;
        while let Some(request) = wire.request() {
            match request.ask {
                Ask::Aggregate(id) => self.ask_backends(id, reactor),
                Ask::Cpu(time) => wire.answer(&burn(time)),
                Ask::Refused(answer) => wire.answer(&answer),
            }
        }
        wire.write()?;
        if more && wire.wants_read() {
            let session = Rc::clone(self);
            reactor.call_later(move |reactor| session.on_ready(reactor));
        }
        Ok(!wire.finished())
    }

    /// ⑤ Where a thread would wait for three answers, here three closures are left behind.
    /// The rest of the request is what the last of them does. They hold the client weakly:
    /// if it goes, nothing is left to be called.
    fn ask_backends(self: &Rc<Self>, id: u64, reactor: &Reactor) {
        let gathering = Rc::new(RefCell::new(Gathering::new(id)));
        for (which, backend) in self.backends.iter().enumerate() {
            let (session, gathering) = (Rc::downgrade(self), Rc::clone(&gathering));
            let then = move |said, reactor: &Reactor| {
                let gathered = gathering.borrow_mut().put(which, said);
                if let (Some(answer), Some(session)) = (gathered, Weak::upgrade(&session)) {
                    session.wire.borrow_mut().answer(&answer);
                    session.on_ready(reactor);
                }
            };
            backend.ask(id, Rc::new(then), reactor);
        }
    }
}

impl Handler for Session {
    fn on_ready(self: Rc<Self>, reactor: &Reactor) {
        if !self.proceed(reactor).unwrap_or(false) {
            reactor.remove(self.number.get());
        }
    }
}

type Then = Rc<dyn Fn(Result<u64, Unavailable>, &Reactor)>;

/// ⑥ A backend is a handler like any other; for whom an answer is, it knows as something to call.
struct Backend {
    upstream: RefCell<Upstream<Then>>,
    number: Cell<u64>,
    sends_later: Cell<bool>,
}

impl Backend {
    fn new(which: usize, site: &Site) -> Rc<Self> {
        Rc::new(Self {
            upstream: RefCell::new(Upstream::new(which, site.backends[which])),
            number: Cell::new(0),
            sends_later: Cell::new(false),
        })
    }

    /// Has `then` called with what this backend says, but never before this call returns.
    fn ask(self: &Rc<Self>, id: u64, then: Then, reactor: &Reactor) {
        let mut upstream = self.upstream.borrow_mut();
        let failed = match (upstream.ask(id, Rc::clone(&then)), upstream.connection()) {
            (Err(unavailable), _) => vec![(then, Err(unavailable))],
            (Ok(true), Some(connection)) => {
                reactor.remove(self.number.get());
                match reactor.register(connection, BOTH, self.clone()) {
                    Ok(number) => {
                        self.number.set(number);
                        vec![]
                    }
                    Err(error) => upstream.fail(&error),
                }
            }
            (Ok(_), _) => vec![],
        };
        for (then, said) in failed {
            reactor.call_later(move |reactor| then(said, reactor));
        }
        // What many clients ask within a turn goes out in one write.
        if !self.sends_later.replace(true) {
            let backend = Rc::clone(self);
            reactor.call_later(move |reactor| backend.on_ready(reactor));
        }
    }
}

impl Handler for Backend {
    fn on_ready(self: Rc<Self>, reactor: &Reactor) {
        self.sends_later.set(false);
        let answers = self.upstream.borrow_mut().answers();
        for (then, said) in answers {
            then(said, reactor);
        }
    }
}

/// Edge-triggered, in and out: called once when a connection becomes ready.
const BOTH: EventFlags = EventFlags::IN.union(EventFlags::OUT).union(EventFlags::ET);

pub(super) const MODEL: Model = Model {
    number: 10,
    name: "reactor",
    title: "Reactor with callbacks",
    service: Service::Http,
    silent_client: Client::CostsMemory,
    keeps_connections: true,
    sources: &[include_str!("reactor.rs")],
    serve,
};
