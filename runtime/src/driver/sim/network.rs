//! The network of a world: hosts with names and addresses, who listens there, and who connects.
//!
//! A host's socket is a Unix-domain socket whose name spells the internet address that it stands for. What is at its
//! other end is the world's, as is the other end of the peer's socket. The world takes out what a host has sent, keeps
//! it for as long as the link takes, and puts it in on the other side:
//!
//! ```text
//!     host a              the world                 host b
//!     socket ═══ far end ─► flight ─► far end ═══ socket
//! ```
//!
//! So bytes, ends and full buffers are the kernel's, and calls on sockets are what they are in service. What the kernel
//! would do between two machines is done here: latency, handshakes, resets, retransmissions as delay, partitions.

use std::{
    collections::BTreeSet,
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    os::fd::{BorrowedFd, OwnedFd},
};

use rustix::{
    io::Errno,
    net::{
        AddressFamily, SocketAddrUnix, SocketType, acceptfrom_with, bind, connect, listen,
        socket_with,
    },
};

use super::{
    chronicle::Moment,
    datagram::{Datagrams, own},
    event::{Answer, Attempt, Event, Happened},
    host::HostId,
    link::{LinkSettings, Links, PacketKind, Rule, Way},
    local::Locals,
    name::{FLAGS, Names, address_of, decode, host_of, own_end},
    plan::Plan as PlanOf,
    stream::{Around, Streams},
};

type Plan = PlanOf<Event>;

pub(crate) struct Network {
    names: Names,
    hosts: Vec<Host>,
    /// Which hosts are up.
    up: Vec<bool>,
    links: Links,
    streams: Streams,
    datagrams: Datagrams,
    locals: Locals,
    /// Listeners that ignore new connections.
    deaf: BTreeSet<(String, SocketAddr)>,
}

struct Host {
    next_port: u16,
}

const MILLISECOND: u64 = 1_000_000;

/// A request for a connection is repeated after one second, then two, and so on (`tcp_syn_retries`, tcp(7)).
const FIRST_SYN_RETRY: u64 = 1_000 * MILLISECOND;
const MOST_SYN_RETRIES: u32 = 6;

const FIRST_EPHEMERAL_PORT: u16 = 49_152;

fn listener_tag(host: HostId) -> String {
    format!("l{}", host.0)
}

fn socket() -> io::Result<OwnedFd> {
    Ok(socket_with(
        AddressFamily::UNIX,
        SocketType::STREAM,
        FLAGS,
        None,
    )?)
}

impl Host {
    fn new() -> Self {
        Self {
            next_port: FIRST_EPHEMERAL_PORT,
        }
    }

    fn take_port(&mut self) -> u16 {
        let port = self.next_port;
        self.next_port = port.checked_add(1).unwrap_or(FIRST_EPHEMERAL_PORT);
        port
    }
}

/// What is asked of it.
impl Network {
    /// Adds a host.
    pub(crate) fn add_host(&mut self, name: &str) -> HostId {
        assert!(
            self.links.host_named(name).is_none(),
            "there is a host {name:?} already"
        );
        self.links.add_host(name);
        self.hosts.push(Host::new());
        self.up.push(true);
        HostId(self.hosts.len() as u32 - 1)
    }

    /// The host of that name.
    pub(crate) fn host_named(&self, name: &str) -> Option<HostId> {
        self.links.host_named(name)
    }

    /// The names of all hosts.
    pub(crate) fn names(&self) -> Vec<String> {
        self.links.names().to_vec()
    }

    pub(crate) fn name_of(&self, host: HostId) -> String {
        self.links.name_of(host).to_owned()
    }

    /// The address that a name stands for, to one who asks on `host`.
    pub(crate) fn look_up(&self, name: &str) -> Option<IpAddr> {
        match name {
            "localhost" => Some(Ipv4Addr::LOCALHOST.into()),
            _ => self.host_named(name).map(address_of),
        }
    }

    /// Sets a link, in both directions.
    pub(crate) fn set_link(&mut self, a: HostId, b: HostId, set: impl Fn(&mut LinkSettings)) {
        self.links.set(a, b, set);
    }

    /// Lets nothing through from each of these to each of those, until it is [healed](Self::heal).
    pub(crate) fn cut(&mut self, pairs: &[(HostId, HostId)]) -> u64 {
        self.links.cut(pairs)
    }

    pub(crate) fn heal(&mut self, cut: u64) {
        self.links.heal(cut);
    }

    /// Has each packet be judged by that rule, too, unless it is left out.
    pub(crate) fn add_rule(&mut self, rule: Option<Rule>) -> u64 {
        self.links.add_rule(rule)
    }

    /// The rule, for the caller to drop once it has let go of the world.
    pub(crate) fn remove_rule(&mut self, number: u64) -> Option<Rule> {
        self.links.remove_rule(number)
    }

    /// The host stops, like a machine without power: its connections are forgotten, and nobody is told.
    pub(crate) fn power_off(&mut self, plan: &mut Plan, host: HostId) {
        plan.note(Moment::Power { host, is_on: false });
        self.up[host.0 as usize] = false;
        self.streams.forget_those_of(host);
        self.streams.ask();
        self.datagrams.forget_those_of(host);
    }

    /// The host is there again. Who sends to one of its former connections is told that there is none.
    pub(crate) fn power_on(&mut self, plan: &mut Plan, host: HostId) {
        plan.note(Moment::Power { host, is_on: true });
        self.up[host.0 as usize] = true;
    }

    /// A listening socket.
    pub(crate) fn listen(
        &mut self,
        host: HostId,
        address: &SocketAddr,
        backlog: i32,
    ) -> io::Result<OwnedFd> {
        let address = self.take_address(host, address)?;
        let fd = socket()?;
        let name = self.names.of(&listener_tag(host), address)?;
        bind(&fd, &name)?;
        listen(&fd, backlog)?;
        self.deaf.remove(&(listener_tag(host), address));
        Ok(fd)
    }

    /// A socket for datagrams.
    pub(crate) fn bind(&mut self, host: HostId, address: &SocketAddr) -> io::Result<OwnedFd> {
        let address = self.take_address(host, address)?;
        self.datagrams.bind(&self.names, host, address)
    }

    /// Has a socket for datagrams receive from that address alone, and send there.
    pub(crate) fn connect_datagrams(
        &mut self,
        host: HostId,
        socket: BorrowedFd<'_>,
        to: SocketAddr,
    ) -> io::Result<()> {
        self.datagrams.connect(&self.names, host, socket, to)
    }

    /// Sends a datagram, to where the socket is connected if nothing else is said.
    pub(crate) fn send_datagram(
        &mut self,
        plan: &mut Plan,
        host: HostId,
        socket: BorrowedFd<'_>,
        to: Option<SocketAddr>,
        bytes: &[u8],
    ) -> rustix::io::Result<usize> {
        let mut around = Around {
            plan,
            links: &mut self.links,
            up: &self.up,
        };
        self.datagrams.send(&mut around, host, socket, to, bytes)
    }

    /// What the kernel knows a Unix-domain address of a host by, which is bound now, or else is to be reached. An
    /// abstract one begins with a zero.
    pub(crate) fn local_name(
        &mut self,
        host: HostId,
        address: &[u8],
        is_bound: bool,
    ) -> io::Result<SocketAddrUnix> {
        match is_bound {
            true => self.locals.bind(&self.names, host, address),
            false => self.locals.reach(&self.names, host, address),
        }
    }

    /// The Unix-domain address of that number.
    pub(crate) fn local_address(&self, number: usize) -> Option<Vec<u8>> {
        self.locals.address(number).map(<[u8]>::to_vec)
    }

    /// Removes a socket file of a host; false if there is none.
    pub(crate) fn remove_socket_file(&mut self, host: HostId, path: &[u8]) -> bool {
        self.locals.remove(host, path)
    }

    /// The address that a host's socket gets which asks for that one.
    fn take_address(&mut self, host: HostId, wanted: &SocketAddr) -> io::Result<SocketAddr> {
        let ip = own(host, wanted.ip()).ok_or(Errno::ADDRNOTAVAIL)?;
        let port = match wanted.port() {
            0 => self.hosts[host.0 as usize].take_port(),
            port => port,
        };
        Ok(SocketAddr::new(ip, port))
    }

    /// Has what a listener is asked from now on be lost on the way; false if it is not of a world.
    pub(crate) fn ignore_new(&mut self, listener: BorrowedFd<'_>) -> bool {
        let name = rustix::net::getsockname(listener).ok();
        let name = name.and_then(|name| decode(&name));
        let is_ours = name.is_some();
        self.deaf.extend(name);
        is_ours
    }

    /// Asks for a connection; the answer comes by itself, with a socket.
    pub(crate) fn connect(
        &mut self,
        plan: &mut Plan,
        from: HostId,
        to: SocketAddr,
        answer: Answer,
    ) {
        let ip = match to.ip().is_loopback() {
            true => to.ip(),
            false => address_of(from),
        };
        let port = self.hosts[from.0 as usize].take_port();
        let attempt = Attempt {
            from,
            client: SocketAddr::new(ip, port),
            to,
            tries: 0,
            answer,
            noted: 0,
        };
        // Not here, where a coroutine runs: rules may be asked.
        plan.after(0, Event::Asks(attempt));
    }

    /// What ended the connection of that socket, if more than its peer's own end did.
    pub(crate) fn fate(&self, socket: BorrowedFd<'_>) -> Option<Errno> {
        self.streams.fate(own_end(socket)?)
    }

    /// Has the connection of that socket be reset once its host closes it.
    pub(crate) fn reset_on_close(&mut self, socket: BorrowedFd<'_>) {
        if let Some(id) = own_end(socket) {
            self.streams.reset_on_close(id);
        }
    }

    /// Takes what that end's host sends; how much that is, unless the kernel is to have it.
    pub(crate) fn send_now(&mut self, plan: &mut Plan, id: u32, bytes: &[u8]) -> Option<usize> {
        let (streams, mut around) = self.parts(plan);
        streams.send_now(&mut around, id, bytes)
    }

    pub(crate) fn streams(&mut self) -> &mut Streams {
        &mut self.streams
    }
}

impl Network {
    pub(super) fn new(seed: u64) -> io::Result<Self> {
        let mut network = Self {
            names: Names::new(),
            hosts: Vec::new(),
            up: Vec::new(),
            links: Links::new(seed),
            streams: Streams::new()?,
            datagrams: Datagrams::default(),
            locals: Locals::default(),
            deaf: BTreeSet::new(),
        };
        network.add_host("scenario");
        Ok(network)
    }

    fn parts<'a>(&'a mut self, plan: &'a mut Plan) -> (&'a mut Streams, Around<'a>) {
        let around = Around {
            plan,
            links: &mut self.links,
            up: &self.up,
        };
        (&mut self.streams, around)
    }

    fn is_up(&self, host: HostId) -> bool {
        self.up.get(host.0 as usize) == Some(&true)
    }

    fn lets_through(&self, from: HostId, to: HostId) -> bool {
        self.is_up(from) && self.is_up(to) && !self.links.is_cut(from, to)
    }

    /// Whether hosts have had the kernel do something.
    pub(super) fn is_asked(&self) -> bool {
        self.streams.is_asked()
    }

    /// Takes up what hosts have had the kernel do, if that may be anything; whether it was.
    pub(super) fn collect(&mut self, plan: &mut Plan) -> bool {
        let given = self.datagrams.give_held(&self.names);
        let is_asked = self.streams.is_asked();
        // Tests look all the same, to find what was not told.
        if !is_asked && !cfg!(debug_assertions) {
            return given;
        }
        let (streams, mut around) = self.parts(plan);
        let collected = streams.collect(&mut around);
        debug_assert!(
            is_asked || !collected,
            "hosts did what the world was not told of"
        );
        collected || given
    }

    /// The same, whatever may be.
    pub(super) fn collect_all(&mut self, plan: &mut Plan) -> bool {
        let (streams, mut around) = self.parts(plan);
        streams.collect(&mut around)
    }

    /// Does what is due.
    pub(super) fn happen(&mut self, plan: &mut Plan, event: Event) -> Happened {
        match event {
            Event::Asks(attempt) => self.ask_for(plan, attempt),
            Event::Syn(attempt) => self.arrive(plan, attempt),
            Event::Tells(attempt, socket) => self.tell(plan, attempt, socket),
            Event::Answered(attempt, socket) => return self.answer(plan, attempt, socket),
            Event::Due(id) => {
                let (streams, mut around) = self.parts(plan);
                if !streams.hand_over(&mut around, id) {
                    return Happened::Nothing;
                }
            }
            Event::Broken(id, errno) => self.streams.break_off(id, errno),
            Event::Unheard(id) => {
                let (streams, mut around) = self.parts(plan);
                streams.ask_again(&mut around, id);
            }
            Event::Datagram(flying) => {
                let mut around = Around {
                    plan,
                    links: &mut self.links,
                    up: &self.up,
                };
                self.datagrams.arrive(&self.names, &mut around, flying);
            }
            Event::Call(call) => return Happened::Call(call),
            // The world's, and not the network's.
            Event::Alarm => {}
        }
        Happened::Something
    }

    /// Has a request for a connection be on its way.
    fn ask_for(&mut self, plan: &mut Plan, mut attempt: Attempt) {
        let to = host_of(attempt.from, attempt.to.ip());
        attempt.noted = plan.note_sent(attempt.from, to, || match attempt.tries {
            0 => format!("connect to {}", attempt.to),
            _ => format!("connect to {}, again", attempt.to),
        });
        let packet = attempt.packet(PacketKind::Syn, attempt.from, to);
        match self.links.send(plan, packet) {
            Way::Comes(at) | Way::ComesTwice(at) => plan.at(at, Event::Syn(attempt)),
            Way::Lost | Way::Resets(_) => ask_again(plan, attempt),
        }
    }

    /// Word of a request for a connection has come back to who asked.
    fn answer(
        &mut self,
        plan: &mut Plan,
        attempt: Attempt,
        socket: io::Result<OwnedFd>,
    ) -> Happened {
        let to = host_of(attempt.from, attempt.to.ip());
        if self.lets_through(to, attempt.from) {
            plan.note_came(attempt.noted);
            return Happened::Call(Box::new(move || (attempt.answer)(socket)));
        }
        self.tell_again(plan, attempt, socket);
        Happened::Nothing
    }

    /// Has the answer to a request for a connection be on its way.
    fn tell(&mut self, plan: &mut Plan, mut attempt: Attempt, socket: io::Result<OwnedFd>) {
        let to = host_of(attempt.from, attempt.to.ip());
        attempt.noted = plan.note_sent(to, attempt.from, || match socket.is_ok() {
            true => "connected".to_owned(),
            false => "refused".to_owned(),
        });
        let packet = attempt.packet(PacketKind::SynAck, to, attempt.from);
        match self.links.send(plan, packet) {
            Way::Comes(at) | Way::ComesTwice(at) => {
                plan.at(at, Event::Answered(attempt, socket));
            }
            Way::Lost | Way::Resets(_) => self.tell_again(plan, attempt, socket),
        }
    }

    /// The answer was lost, and is sent again after a while.
    fn tell_again(&mut self, plan: &mut Plan, mut attempt: Attempt, socket: io::Result<OwnedFd>) {
        plan.note_lost(attempt.noted);
        if attempt.tries == MOST_SYN_RETRIES {
            // With the client's socket, which nobody has ever had.
            self.streams.ask();
            return give_up(plan, attempt);
        }
        let patience = FIRST_SYN_RETRY << attempt.tries;
        attempt.tries += 1;
        plan.after(patience, Event::Tells(attempt, socket));
    }

    /// A request for a connection has come as far as the host that it is for, or has not.
    fn arrive(&mut self, plan: &mut Plan, attempt: Attempt) {
        let to = host_of(attempt.from, attempt.to.ip());
        let arrived = match self.lets_through(attempt.from, to) {
            true => self.accept(plan, &attempt, to),
            false => Err(Errno::AGAIN.into()),
        };
        match arrived {
            // Nobody answers: a partition, a host that is down, or a full backlog.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => ask_again(plan, attempt),
            answer => {
                plan.note_came(attempt.noted);
                self.tell(plan, attempt, answer);
            }
        }
    }

    /// Puts a connection into the backlog of who listens there; hands back the client's socket.
    fn accept(&mut self, plan: &mut Plan, attempt: &Attempt, to: HostId) -> io::Result<OwnedFd> {
        let of_client = self.streams.next_number();
        let of_server = of_client + 1;
        let tag = listener_tag(to);
        let listener = (tag.clone(), attempt.to);
        if self.deaf.contains(&listener) {
            // Others can have its name once it is closed.
            return match bind(&socket()?, &self.names.of(&tag, attempt.to)?) {
                Err(Errno::ADDRINUSE) => Err(Errno::AGAIN.into()),
                _ => {
                    self.deaf.remove(&listener);
                    Err(Errno::CONNREFUSED.into())
                }
            };
        }
        let far = socket()?;
        bind(
            &far,
            &self.names.of(&format!("e{of_server}"), attempt.client)?,
        )?;
        let asked = connect(&far, &self.names.of(&tag, attempt.to)?);
        // What listens on all addresses listens on the loopback as well.
        let asked = match asked {
            Err(Errno::CONNREFUSED) if attempt.to.ip().is_loopback() => {
                let any = SocketAddr::new(address_of(to), attempt.to.port());
                connect(&far, &self.names.of(&tag, any)?)
            }
            asked => asked,
        };
        asked?;
        let (client, far_client) = self.pair(of_client, attempt)?;
        let (client_end, server_end) = (
            (attempt.from, attempt.client),
            (to, SocketAddr::new(attempt.to.ip(), attempt.to.port())),
        );
        let as_peer = |id, (host, address)| (id, host, address);
        let streams = &mut self.streams;
        streams.add(plan, client_end, as_peer(of_server, server_end), far_client)?;
        streams.add(plan, server_end, as_peer(of_client, client_end), far)?;
        Ok(client)
    }

    /// A client's socket and its far end, whose name says where it is connected to.
    fn pair(&self, id: u32, attempt: &Attempt) -> io::Result<(OwnedFd, OwnedFd)> {
        let listener = socket()?;
        let name = self.names.of(&format!("e{id}"), attempt.to)?;
        bind(&listener, &name)?;
        listen(&listener, 1)?;
        let client = socket()?;
        bind(&client, &self.names.of(&format!("c{id}"), attempt.client)?)?;
        connect(&client, &name)?;
        let (far, _) = acceptfrom_with(&listener, FLAGS)?;
        Ok((client, far))
    }
}

/// Nobody has answered: the request is sent again after a while, or given up.
fn ask_again(plan: &mut Plan, mut attempt: Attempt) {
    plan.note_lost(attempt.noted);
    if attempt.tries == MOST_SYN_RETRIES {
        return give_up(plan, attempt);
    }
    let patience = FIRST_SYN_RETRY << attempt.tries;
    attempt.tries += 1;
    plan.after(patience, Event::Asks(attempt));
}

fn give_up(plan: &mut Plan, attempt: Attempt) {
    let call = || (attempt.answer)(Err(Errno::TIMEDOUT.into()));
    plan.after(0, Event::Call(Box::new(call)));
}
