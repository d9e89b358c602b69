//! The network of a world: hosts with names and addresses, links between them, and TCP connections.
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
    collections::{BTreeMap, BTreeSet, VecDeque},
    hash::{BuildHasher, RandomState},
    io,
    net::{IpAddr, Ipv4Addr, SocketAddr},
    ops::Range,
    os::fd::{BorrowedFd, OwnedFd},
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
    time::Duration,
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::Errno,
    net::{
        AddressFamily, RecvFlags, SendFlags, Shutdown, SocketAddrAny, SocketAddrUnix, SocketFlags,
        SocketType, acceptfrom_with, bind, connect, getpeername, listen, recv, send, shutdown,
        socket_with, sockopt,
    },
};

use super::plan::{Call, Plan as PlanOf};
use crate::sys::event::{refused, timespec};

/// Which host; 0 is where the scenario itself runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct HostId(pub(crate) u32);

/// How a link behaves, one way.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    /// In nanoseconds.
    pub(crate) latency: Range<u64>,
    /// How many packets of one are lost; TCP sends them again.
    pub(crate) loss: f64,
}

pub(crate) type Answer = Box<dyn FnOnce(io::Result<OwnedFd>) + Send>;

type Plan = PlanOf<Event>;

/// What happens in the network at some time.
pub(crate) enum Event {
    /// A request for a connection arrives.
    Syn(Attempt),
    /// Its answer arrives.
    Answered(Attempt, io::Result<OwnedFd>),
    /// Something that this end has sent is due.
    Due(u64),
    /// The connection is broken, as this end learns now.
    Broken(u64, Errno),
    /// Something is to be called.
    Call(Call),
    /// Something on standby has its deadline.
    Alarm,
}

pub(crate) struct Attempt {
    from: HostId,
    client: SocketAddr,
    to: SocketAddr,
    tries: u32,
    answer: Answer,
}

pub(crate) struct Network {
    /// Tells worlds of a process apart, in the names of sockets.
    number: u64,
    hosts: Vec<Host>,
    links: BTreeMap<(HostId, HostId), Link>,
    usual: LinkSettings,
    ends: BTreeMap<u64, End>,
    /// What broke connections, as the ends see it whose hosts have them still, for as long as the world lasts.
    fates: BTreeMap<u64, Errno>,
    made: u64,
    /// What is taken out of sockets comes by here.
    buffer: Box<[u8]>,
    /// Listeners that ignore new connections.
    deaf: BTreeSet<(String, SocketAddr)>,
    watch: OwnedFd,
    cuts: u64,
}

struct Host {
    name: String,
    is_up: bool,
    next_port: u16,
}

#[derive(Default)]
struct Link {
    settings: Option<LinkSettings>,
    /// Partitions in force, by number.
    cuts: BTreeSet<u64>,
}

/// The world's side of one end of a connection.
struct End {
    host: HostId,
    peer: u64,
    peer_host: HostId,
    far: OwnedFd,
    is_readable: bool,
    /// Its end is to be found behind what can be read.
    is_ending: bool,
    /// The host sends no more.
    has_ended: bool,
    /// The host neither sends nor receives any more.
    is_gone: bool,
    resets_on_close: bool,
    /// What the host has sent and the peer does not have yet, by the time at which it is due.
    flight: VecDeque<Segment>,
    bytes_in_flight: usize,
    /// Bytes that may be in flight.
    window: usize,
}

struct Segment {
    due: u64,
    what: What,
}

enum What {
    Bytes { bytes: Vec<u8>, given: usize },
    Fin,
    Reset,
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

/// Between hosts whose link nobody has set.
const USUAL_LATENCY: Range<u64> = 100 * MICROSECOND..MILLISECOND;

/// Within a host.
const LOOPBACK_LATENCY: Range<u64> = 5 * MICROSECOND..50 * MICROSECOND;

/// The least that TCP waits before it sends something again (`TCP_RTO_MIN`, Linux); doubled each time.
const FIRST_RETRANSMISSION: u64 = 200 * MILLISECOND;
const MOST_RETRANSMISSIONS: u32 = 8;

/// A request for a connection is repeated after one second, then two, and so on (`tcp_syn_retries`, tcp(7)).
const FIRST_SYN_RETRY: u64 = 1_000 * MILLISECOND;
const MOST_SYN_RETRIES: u32 = 6;

/// Most that is taken out of a socket at once.
const MOST_BYTES: usize = 16 * 1024;

const EVENTS_AT_ONCE: usize = 128;

const WINDOWS: Range<u64> = 2 * 1024..64 * 1024;

const FIRST_EPHEMERAL_PORT: u16 = 49_152;

const FLAGS: SocketFlags = SocketFlags::NONBLOCK.union(SocketFlags::CLOEXEC);

const NAME: &str = "maniple-sim";

/// The internet address that a socket's name stands for, if the socket is one of a world.
pub(crate) fn decode_address(name: &SocketAddrAny) -> Option<SocketAddr> {
    decode(name).map(|(_, address)| address)
}

/// Whether that socket is one of a world.
pub(crate) fn is_simulated(fd: BorrowedFd<'_>) -> bool {
    let name = rustix::net::getsockname(fd);
    name.is_ok_and(|name| decode(&name).is_some())
}

fn decode(name: &SocketAddrAny) -> Option<(String, SocketAddr)> {
    let name = SocketAddrUnix::try_from(name.clone()).ok()?;
    let text = str::from_utf8(name.abstract_name()?).ok()?;
    let mut parts = text.split('/');
    if parts.next() != Some(NAME) {
        return None;
    }
    let (_process, _world, tag) = (parts.next()?, parts.next()?, parts.next()?);
    Some((tag.to_owned(), parts.next()?.parse().ok()?))
}

/// Which end that socket belongs to: the name of its far end says so.
fn own_end(socket: BorrowedFd<'_>) -> Option<u64> {
    let (tag, _) = decode(&getpeername(socket).ok()??)?;
    tag.strip_prefix('e')?.parse().ok()
}

fn listener_tag(host: HostId) -> String {
    format!("l{}", host.0)
}

fn address_of(host: HostId) -> IpAddr {
    let [_, high, middle, low] = (host.0 + 1).to_be_bytes();
    Ipv4Addr::new(10, high, middle, low).into()
}

/// The host of that address, as seen from `from`; there may be none of that number.
fn host_of(from: HostId, ip: IpAddr) -> HostId {
    match ip {
        IpAddr::V4(v4) if !v4.is_loopback() && v4.octets()[0] == 10 => {
            let [_, high, middle, low] = v4.octets();
            HostId(u32::from_be_bytes([0, high, middle, low]).wrapping_sub(1))
        }
        ip if ip.is_loopback() => from,
        _ => HostId(u32::MAX),
    }
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
    fn new(name: &str) -> Self {
        Self {
            name: name.to_owned(),
            is_up: true,
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
        let hosts = &mut self.hosts;
        assert!(
            !hosts.iter().any(|host| host.name == name),
            "there is a host {name:?} already"
        );
        hosts.push(Host::new(name));
        HostId(hosts.len() as u32 - 1)
    }

    /// The host of that name.
    pub(crate) fn host_named(&self, name: &str) -> Option<HostId> {
        let at = (self.hosts.iter()).position(|host| host.name == name);
        at.map(|at| HostId(at as u32))
    }

    pub(crate) fn name_of(&self, host: HostId) -> String {
        self.hosts[host.0 as usize].name.clone()
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
        for pair in [(a, b), (b, a)] {
            let mut settings = self.settings(pair.0, pair.1);
            set(&mut settings);
            self.links.entry(pair).or_default().settings = Some(settings);
        }
    }

    /// Lets nothing through from each of these to each of those, until it is [healed](Self::heal).
    pub(crate) fn cut(&mut self, pairs: &[(HostId, HostId)]) -> u64 {
        self.cuts += 1;
        for pair in pairs {
            let link = self.links.entry(*pair).or_default();
            link.cuts.insert(self.cuts);
        }
        self.cuts
    }

    pub(crate) fn heal(&mut self, plan: &mut Plan, cut: u64) {
        for link in self.links.values_mut() {
            link.cuts.remove(&cut);
        }
        self.send_again(plan);
    }

    /// The host stops, like a machine without power: its connections are forgotten, and nobody is told.
    pub(crate) fn power_off(&mut self, host: HostId) {
        self.hosts[host.0 as usize].is_up = false;
        self.ends.retain(|_, end| end.host != host);
    }

    /// The host is there again. Who sends to one of its former connections is told that there is none.
    pub(crate) fn power_on(&mut self, plan: &mut Plan, host: HostId) {
        self.hosts[host.0 as usize].is_up = true;
        self.send_again(plan);
    }

    /// A listening socket.
    pub(crate) fn listen(
        &mut self,
        host: HostId,
        address: &SocketAddr,
        backlog: i32,
    ) -> io::Result<OwnedFd> {
        let ip = match address.ip() {
            ip if ip.is_unspecified() => address_of(host),
            ip => ip,
        };
        if !ip.is_loopback() && ip != address_of(host) {
            return Err(Errno::ADDRNOTAVAIL.into());
        }
        let port = match address.port() {
            0 => self.hosts[host.0 as usize].take_port(),
            port => port,
        };
        let fd = socket()?;
        let name = self.name(&listener_tag(host), SocketAddr::new(ip, port))?;
        bind(&fd, &name)?;
        listen(&fd, backlog)?;
        self.deaf
            .remove(&(listener_tag(host), SocketAddr::new(ip, port)));
        Ok(fd)
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
        };
        let delay = self.delay(plan, from, host_of(from, to.ip()));
        plan.after(delay, Event::Syn(attempt));
    }

    /// What ended the connection of that socket, if more than its peer's own end did.
    pub(crate) fn fate(&self, socket: BorrowedFd<'_>) -> Option<Errno> {
        let id = own_end(socket)?;
        self.fates.get(&id).copied()
    }

    /// Has the connection of that socket be reset once its host closes it.
    pub(crate) fn reset_on_close(&mut self, socket: BorrowedFd<'_>) {
        let Some(id) = own_end(socket) else { return };
        if let Some(end) = self.ends.get_mut(&id) {
            end.resets_on_close = true;
        }
    }
}

impl Network {
    pub(super) fn new() -> io::Result<Self> {
        static WORLDS: AtomicU64 = AtomicU64::new(0);
        let watch = epoll::create(CreateFlags::CLOEXEC);
        Ok(Self {
            number: WORLDS.fetch_add(1, Ordering::Relaxed),
            hosts: vec![Host::new("scenario")],
            links: BTreeMap::new(),
            usual: LinkSettings {
                latency: USUAL_LATENCY,
                loss: 0.0,
            },
            ends: BTreeMap::new(),
            fates: BTreeMap::new(),
            made: 0,
            buffer: vec![0; MOST_BYTES].into(),
            deaf: BTreeSet::new(),
            watch: watch.map_err(|errno| refused("epoll_create1", errno))?,
            cuts: 0,
        })
    }

    fn settings(&self, from: HostId, to: HostId) -> LinkSettings {
        let set = self.links.get(&(from, to));
        match set.and_then(|link| link.settings.clone()) {
            Some(settings) => settings,
            None if from == to => LinkSettings {
                latency: LOOPBACK_LATENCY,
                loss: 0.0,
            },
            None => self.usual.clone(),
        }
    }

    /// How long a packet takes, with those that are sent again because it was lost.
    fn delay(&self, plan: &mut Plan, from: HostId, to: HostId) -> u64 {
        let settings = self.settings(from, to);
        let mut delay = plan.dice.within(&settings.latency);
        let mut patience = FIRST_RETRANSMISSION;
        for _ in 0..MOST_RETRANSMISSIONS {
            if settings.loss <= 0.0 || !plan.dice.chance(settings.loss) {
                break;
            }
            delay += patience;
            patience *= 2;
        }
        delay
    }

    fn lets_through(&self, from: HostId, to: HostId) -> bool {
        let is_up = |host: HostId| (self.hosts.get(host.0 as usize)).is_some_and(|host| host.is_up);
        let is_cut = (self.links.get(&(from, to))).is_some_and(|link| !link.cuts.is_empty());
        is_up(from) && is_up(to) && !is_cut
    }

    fn name(&self, tag: &str, address: SocketAddr) -> io::Result<SocketAddrUnix> {
        /// Processes have the same id in different namespaces, and these names in common.
        static PROCESS: LazyLock<u64> = LazyLock::new(|| RandomState::new().hash_one(()));
        let name = format!("{NAME}/{:x}/{}/{tag}/{address}", *PROCESS, self.number);
        Ok(SocketAddrUnix::new_abstract_name(name.as_bytes())?)
    }

    /// What is on its way, and was held up, comes a little later.
    fn send_again(&mut self, plan: &mut Plan) {
        let waiting: Vec<u64> = self.ends.keys().copied().collect();
        for id in waiting {
            let end = &self.ends[&id];
            if end
                .flight
                .front()
                .is_some_and(|first| first.due <= plan.now)
            {
                let delay = self.delay(plan, end.host, end.peer_host);
                plan.after(delay, Event::Due(id));
            }
        }
    }

    /// Takes up what hosts have sent or made room for; whether that was anything.
    pub(super) fn collect(&mut self, plan: &mut Plan) -> bool {
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; EVENTS_AT_ONCE];
        let no_wait = timespec(Duration::ZERO);
        // An interruption, too, leaves what there is to be found the next time.
        let count = epoll::wait(&self.watch, &mut events, Some(&no_wait)).unwrap_or(0);
        let mut stirred = BTreeSet::new();
        for event in &events[..count] {
            let (id, flags) = (event.data.u64(), event.flags);
            let Some(end) = self.ends.get_mut(&id) else {
                continue;
            };
            let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            end.is_readable |= is_over || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
            end.is_ending |= is_over || flags.contains(EventFlags::RDHUP);
            end.is_gone |= is_over;
            stirred.insert(id);
        }
        for id in stirred {
            self.take_from(plan, id);
            if let Some(end) = self.ends.get(&id) {
                let peer = end.peer;
                self.hand_over(plan, peer);
            }
            self.forget_if_over(id);
        }
        count > 0
    }

    /// Does what is due; hands back what is to be called.
    pub(super) fn happen(&mut self, plan: &mut Plan, event: Event) -> Option<Call> {
        match event {
            Event::Syn(attempt) => self.arrive(plan, attempt),
            Event::Answered(attempt, socket) => {
                let to = host_of(attempt.from, attempt.to.ip());
                if !self.lets_through(to, attempt.from) {
                    plan.after(FIRST_SYN_RETRY, Event::Answered(attempt, socket));
                    return None;
                }
                return Some(Box::new(move || (attempt.answer)(socket)));
            }
            Event::Due(id) => self.hand_over(plan, id),
            Event::Broken(id, errno) => self.break_off(id, errno),
            Event::Call(call) => return Some(call),
            // The world's, and not the network's.
            Event::Alarm => {}
        }
        None
    }

    /// A request for a connection has come as far as the host that it is for, or has not.
    fn arrive(&mut self, plan: &mut Plan, mut attempt: Attempt) {
        let to = host_of(attempt.from, attempt.to.ip());
        let arrived = match self.lets_through(attempt.from, to) {
            true => self.accept(plan, &attempt, to),
            false => Err(Errno::AGAIN.into()),
        };
        match arrived {
            // Nobody answers: a partition, a host that is down, or a full backlog.
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if attempt.tries == MOST_SYN_RETRIES {
                    let call = || (attempt.answer)(Err(Errno::TIMEDOUT.into()));
                    plan.after(0, Event::Call(Box::new(call)));
                    return;
                }
                let patience = FIRST_SYN_RETRY << attempt.tries;
                attempt.tries += 1;
                plan.after(patience, Event::Syn(attempt));
            }
            answer => {
                let delay = self.delay(plan, to, attempt.from);
                plan.after(delay, Event::Answered(attempt, answer));
            }
        }
    }

    /// Puts a connection into the backlog of who listens there; hands back the client's socket.
    fn accept(&mut self, plan: &mut Plan, attempt: &Attempt, to: HostId) -> io::Result<OwnedFd> {
        let (of_client, of_server) = (self.made + 1, self.made + 2);
        let tag = listener_tag(to);
        if self.deaf.contains(&(tag.clone(), attempt.to)) {
            return Err(Errno::AGAIN.into());
        }
        let far = socket()?;
        bind(&far, &self.name(&format!("e{of_server}"), attempt.client)?)?;
        let asked = connect(&far, &self.name(&tag, attempt.to)?);
        // What listens on all addresses listens on the loopback as well.
        let asked = match asked {
            Err(Errno::CONNREFUSED) if attempt.to.ip().is_loopback() => {
                let any = SocketAddr::new(address_of(to), attempt.to.port());
                connect(&far, &self.name(&tag, any)?)
            }
            asked => asked,
        };
        asked?;
        let (client, far_client) = self.pair(of_client, attempt)?;
        self.made += 2;
        self.add(plan, (of_server, to), (of_client, attempt.from), far)?;
        self.add(plan, (of_client, attempt.from), (of_server, to), far_client)?;
        Ok(client)
    }

    /// A client's socket and its far end, whose name says where it is connected to.
    fn pair(&self, id: u64, attempt: &Attempt) -> io::Result<(OwnedFd, OwnedFd)> {
        let listener = socket()?;
        let name = self.name(&format!("e{id}"), attempt.to)?;
        bind(&listener, &name)?;
        listen(&listener, 1)?;
        let client = socket()?;
        bind(&client, &self.name(&format!("c{id}"), attempt.client)?)?;
        connect(&client, &name)?;
        let (far, _) = acceptfrom_with(&listener, FLAGS)?;
        Ok((client, far))
    }

    fn add(
        &mut self,
        plan: &mut Plan,
        (id, host): (u64, HostId),
        (peer, peer_host): (u64, HostId),
        far: OwnedFd,
    ) -> io::Result<()> {
        let buffer = plan.dice.within(&WINDOWS) as usize;
        sockopt::set_socket_send_buffer_size(&far, buffer)?;
        let flags = EventFlags::IN | EventFlags::OUT | EventFlags::RDHUP | EventFlags::ET;
        epoll::add(&self.watch, &far, EventData::new_u64(id), flags)?;
        self.ends.insert(
            id,
            End {
                host,
                peer,
                peer_host,
                far,
                is_readable: false,
                is_ending: false,
                has_ended: false,
                is_gone: false,
                resets_on_close: false,
                flight: VecDeque::new(),
                bytes_in_flight: 0,
                window: plan.dice.within(&WINDOWS) as usize,
            },
        );
        Ok(())
    }

    /// Takes what the host has sent, as far as the window lets it.
    fn take_from(&mut self, plan: &mut Plan, id: u64) {
        loop {
            let Some(end) = self.ends.get_mut(&id) else {
                return;
            };
            let room = end.window.saturating_sub(end.bytes_in_flight);
            if !end.is_readable || end.has_ended || room == 0 {
                return;
            }
            let buffer = &mut self.buffer[..room.min(MOST_BYTES)];
            let what = match recv(&end.far, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) if end.resets_on_close && end.is_gone => What::Reset,
                Ok((0, _)) => What::Fin,
                Ok((count, _)) => {
                    // Less than it could be: there is no more, and what comes next is told of.
                    end.is_readable = count == buffer.len() || end.is_ending;
                    let bytes = buffer[..count].to_vec();
                    What::Bytes { bytes, given: 0 }
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    end.is_readable = false;
                    return;
                }
                // It was closed, and had not read all.
                Err(_) => What::Reset,
            };
            match &what {
                What::Bytes { bytes, .. } => end.bytes_in_flight += bytes.len(),
                What::Fin | What::Reset => end.has_ended = true,
            }
            let (from, to) = (end.host, end.peer_host);
            let due = plan.now + self.delay(plan, from, to);
            if let Some(end) = self.ends.get_mut(&id) {
                // In order, whatever each would have taken.
                let due = end.flight.back().map_or(due, |last| last.due.max(due));
                end.flight.push_back(Segment { due, what });
                plan.at(due, Event::Due(id));
            }
        }
    }

    /// Gives the peer what this end has sent and is due, as far as it takes it.
    fn hand_over(&mut self, plan: &mut Plan, id: u64) {
        loop {
            let Some(end) = self.ends.get(&id) else {
                return;
            };
            let peer_id = end.peer;
            if end.flight.front().is_none_or(|first| first.due > plan.now) {
                break;
            }
            if !self.lets_through(end.host, end.peer_host) {
                return;
            }
            let Some(mut end) = self.ends.remove(&id) else {
                return;
            };
            let given = match self.ends.get(&peer_id) {
                Some(peer) => give(plan, &mut end, peer, id),
                // Its host has lost it, and says so.
                None => Given::Refused,
            };
            self.ends.insert(id, end);
            match given {
                Given::All => {}
                Given::Some => break,
                Given::Refused => return self.break_later(plan, id),
                Given::Reset => self.break_off(peer_id, Errno::CONNRESET),
            }
        }
        // There may be room again.
        self.take_from(plan, id);
        self.forget_if_over(id);
    }

    /// The end learns, as soon as word of it can come, that its peer has no such connection.
    fn break_later(&mut self, plan: &mut Plan, id: u64) {
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        end.flight.clear();
        end.has_ended = true;
        let (from, to) = (end.peer_host, end.host);
        let delay = self.delay(plan, from, to);
        plan.after(delay, Event::Broken(id, Errno::CONNRESET));
    }

    /// The connection is over, for one end.
    fn break_off(&mut self, id: u64, errno: Errno) {
        let Some(end) = self.ends.get_mut(&id) else {
            return;
        };
        end.flight.clear();
        end.has_ended = true;
        self.fates.entry(id).or_insert(errno);
        // The host finds the end, and asks what it means.
        _ = shutdown(&end.far, Shutdown::Both);
        self.forget_if_over(id);
    }

    /// Lets a connection go that neither host has any use for.
    fn forget_if_over(&mut self, id: u64) {
        let is_over = |end: Option<&End>| {
            end.is_none_or(|end| end.is_gone && end.has_ended && end.flight.is_empty())
        };
        let Some(end) = self.ends.get(&id) else {
            return;
        };
        let peer = end.peer;
        if is_over(Some(end)) && is_over(self.ends.get(&peer)) {
            self.ends.remove(&id);
            self.ends.remove(&peer);
        }
    }
}

/// How a segment was given to the peer.
enum Given {
    All,
    /// The rest waits for its time, or for room.
    Some,
    /// The peer takes no more.
    Refused,
    Reset,
}

/// How often, of one, the peer gets a part of a segment first.
const PARTS: f64 = 0.25;

/// How much later it gets the rest.
const PART_DELAY: Range<u64> = 1..200 * MICROSECOND;

/// Gives the peer the first segment that an end has in flight.
fn give(plan: &mut Plan, end: &mut End, peer: &End, id: u64) -> Given {
    let Some(first) = end.flight.front_mut() else {
        return Given::Some;
    };
    match &mut first.what {
        What::Bytes { bytes, given } => {
            let left = &bytes[*given..];
            let mut count = left.len();
            if count > 1 && plan.dice.chance(PARTS) {
                count = plan.dice.within(&(1..count as u64)) as usize;
            }
            let is_part = count < left.len();
            let flags = SendFlags::NOSIGNAL | SendFlags::DONTWAIT;
            match send(&peer.far, &left[..count], flags) {
                Ok(sent) => {
                    *given += sent;
                    end.bytes_in_flight -= sent;
                    if *given == bytes.len() {
                        end.flight.pop_front();
                        return Given::All;
                    }
                    if is_part {
                        first.due = plan.now + plan.dice.within(&PART_DELAY);
                        plan.at(first.due, Event::Due(id));
                    }
                    Given::Some
                }
                // The peer's becoming writable goes on with it.
                Err(Errno::AGAIN | Errno::INTR) => Given::Some,
                Err(_) => Given::Refused,
            }
        }
        What::Fin => {
            _ = shutdown(&peer.far, Shutdown::Write);
            end.flight.pop_front();
            Given::All
        }
        What::Reset => {
            end.flight.pop_front();
            Given::Reset
        }
    }
}
