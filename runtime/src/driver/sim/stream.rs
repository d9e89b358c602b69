//! TCP connections of a world: what is on its way between their ends, and what becomes of it.
//!
//! What a host sends goes straight into the flight of its end, as far as its window lets it. What the kernel was given
//! all the same, be it for want of room there, is [taken out](Streams::take_from) of the socket. A lost segment is sent
//! again as the kernel does (tcp(7)), with those behind it waiting at the peer, and after as many times the
//! connection is given up.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    io,
    net::SocketAddr,
    ops::Range,
    os::fd::OwnedFd,
    time::Duration,
};

use rustix::{
    event::epoll::{self, CreateFlags, EventData, EventFlags},
    io::Errno,
    net::{RecvFlags, SendFlags, Shutdown, recv, send, shutdown, sockopt},
};

use super::{
    chronicle::glimpse,
    event::Event,
    host::HostId,
    link::{Links, Packet, PacketKind, Way},
    plan::Plan as PlanOf,
};
use crate::sys::event::{refused, timespec};

type Plan = PlanOf<Event>;

/// What ends of connections need to know of the network.
pub(super) struct Around<'a> {
    pub(super) plan: &'a mut Plan,
    pub(super) links: &'a mut Links,
    /// Which hosts are up.
    pub(super) up: &'a [bool],
}

impl Around<'_> {
    pub(super) fn lets_through(&self, from: HostId, to: HostId) -> bool {
        let is_up = |host: HostId| self.up.get(host.0 as usize) == Some(&true);
        is_up(from) && is_up(to) && !self.links.is_cut(from, to)
    }
}

pub(crate) struct Streams {
    /// By number; none is used twice.
    ends: Vec<Option<Box<End>>>,
    /// What broke connections, as the ends see it whose hosts have them still, for as long as the world lasts.
    fates: BTreeMap<u32, Errno>,
    /// What is taken out of sockets comes by here.
    buffer: Box<[u8]>,
    watch: OwnedFd,
    /// Ends that wait for room at their peer, of which the kernel tells.
    waiting: usize,
    /// Whether a host has the kernel do something that it may tell of.
    is_asked: bool,
    /// Whether that cannot be known any more.
    is_always_asked: bool,
}

/// The world's side of one end of a connection.
struct End {
    host: HostId,
    near: SocketAddr,
    away: SocketAddr,
    peer: u32,
    peer_host: HostId,
    far: OwnedFd,
    is_readable: bool,
    /// Its end is to be found behind what can be read.
    is_ending: bool,
    /// The host sends no more.
    has_ended: bool,
    /// The host has told the kernel that it sends no more.
    is_shut: bool,
    /// The host wants nothing more of what comes, and is there still.
    reads_no_more: bool,
    /// The host neither sends nor receives any more.
    is_gone: bool,
    resets_on_close: bool,
    /// What the host has sent last is with the kernel, and what it sends next comes behind that.
    is_with_kernel: bool,
    /// Its peer has no room, and the kernel tells when it has.
    waits: bool,
    /// Bytes that its host may find in its socket: no fewer than there are.
    unread: usize,
    /// What the host has sent and the peer does not have yet, in order.
    flight: VecDeque<Segment>,
    bytes_in_flight: usize,
    /// Bytes that may be in flight.
    window: usize,
    /// Of the first in flight.
    patience: Patience,
    /// While the peer has got something, and no word of that comes back.
    unheard: Option<Patience>,
}

/// How often something was sent again, and how long is waited before the next time.
struct Patience {
    tries: u32,
    wait: u64,
}

struct Segment {
    sent: u64,
    due: u64,
    noted: u64,
    /// To be sent again once it is due.
    is_lost: bool,
    what: What,
}

enum What {
    Bytes { bytes: Vec<u8>, given: usize },
    Fin,
    Reset,
}

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

/// The least that TCP waits before it sends something again (`TCP_RTO_MIN`, Linux); doubled each time, up to the most
/// (`TCP_RTO_MAX`).
const FIRST_WAIT: u64 = 200 * MILLISECOND;
const LONGEST_WAIT: u64 = 120_000 * MILLISECOND;

/// How often it does so before it gives the connection up (`tcp_retries2`, tcp(7)): a quarter of an hour in all.
const MOST_TRIES: u32 = 15;

/// Most that is taken out of a socket at once, or goes in one segment.
const MOST_BYTES: usize = 16 * 1024;

/// Less is not sent while more is on its way; half of the smallest window.
const LEAST_ROOM: usize = 1024;

const EVENTS_AT_ONCE: usize = 128;

const WINDOWS: Range<u64> = 2 * 1024..64 * 1024;

/// The kernel is to say what there is, for good.
const UNKNOWN: usize = usize::MAX;

/// What the kernel is to tell of an end.
const WATCHED: EventFlags = EventFlags::IN
    .union(EventFlags::RDHUP)
    .union(EventFlags::ET);

impl Patience {
    const fn new() -> Self {
        Self {
            tries: 0,
            wait: FIRST_WAIT,
        }
    }

    /// One time more; how long to wait after it, unless there were enough.
    fn next(&mut self) -> Option<u64> {
        if self.tries == MOST_TRIES {
            return None;
        }
        self.tries += 1;
        self.wait = (self.wait * 2).min(LONGEST_WAIT);
        Some(self.wait)
    }
}

/// What is asked of it.
impl Streams {
    pub(super) fn new() -> io::Result<Self> {
        let watch = epoll::create(CreateFlags::CLOEXEC);
        Ok(Self {
            // None is number 0.
            ends: vec![None],
            fates: BTreeMap::new(),
            buffer: vec![0; MOST_BYTES].into(),
            watch: watch.map_err(|errno| refused("epoll_create1", errno))?,
            waiting: 0,
            is_asked: false,
            is_always_asked: false,
        })
    }

    /// The number that the next end will have.
    pub(super) fn next_number(&self) -> u32 {
        self.ends.len() as u32
    }

    /// Adds an end, with the number that was [next](Self::next_number).
    pub(super) fn add(
        &mut self,
        plan: &mut Plan,
        (host, near): (HostId, SocketAddr),
        (peer, peer_host, away): (u32, HostId, SocketAddr),
        far: OwnedFd,
    ) -> io::Result<()> {
        let buffer = plan.dice.within(&WINDOWS) as usize;
        sockopt::set_socket_send_buffer_size(&far, buffer)?;
        let id = u64::from(self.next_number());
        epoll::add(&self.watch, &far, EventData::new_u64(id), WATCHED)?;
        self.ends.push(Some(Box::new(End {
            host,
            near,
            away,
            peer,
            peer_host,
            far,
            is_readable: false,
            is_ending: false,
            has_ended: false,
            is_shut: false,
            reads_no_more: false,
            is_gone: false,
            resets_on_close: false,
            is_with_kernel: false,
            waits: false,
            unread: 0,
            flight: VecDeque::new(),
            bytes_in_flight: 0,
            window: plan.dice.within(&WINDOWS) as usize,
            patience: Patience::new(),
            unheard: None,
        })));
        Ok(())
    }

    /// Forgets the ends of a host, without a word.
    pub(super) fn forget_those_of(&mut self, host: HostId) {
        for id in 1..self.ends.len() as u32 {
            if self.end(id).is_some_and(|end| end.host == host) {
                self.remove(id);
            }
        }
    }

    pub(super) fn fate(&self, id: u32) -> Option<Errno> {
        self.fates.get(&id).copied()
    }

    /// Has the connection be reset once its host closes it.
    pub(super) fn reset_on_close(&mut self, id: u32) {
        if let Some(end) = self.end_mut(id) {
            end.resets_on_close = true;
        }
    }

    /// The host sends or receives no more, as the kernel is told.
    pub(crate) fn shut(&mut self, id: u32, reading: bool, writing: bool) {
        self.is_asked = true;
        if let Some(end) = self.end_mut(id) {
            end.is_shut |= writing;
            end.reads_no_more |= reading;
            if reading {
                end.unread = UNKNOWN;
            }
        }
    }

    /// Whether the host would find nothing to receive, not even an end.
    pub(crate) fn has_nothing(&self, id: u32) -> bool {
        self.end(id).is_some_and(|end| end.unread == 0)
    }

    /// The host has received so many bytes.
    pub(crate) fn took(&mut self, id: u32, bytes: usize) {
        if let Some(end) = self.end_mut(id)
            && end.unread != UNKNOWN
        {
            end.unread = end.unread.saturating_sub(bytes);
        }
    }

    /// The host has had the kernel do something that concerns its connections.
    pub(crate) fn ask(&mut self) {
        self.is_asked = true;
    }

    /// Hosts have the kernel do what is not told here.
    pub(crate) fn ask_always(&mut self) {
        self.is_always_asked = true;
    }

    /// Bytes that the host has sent and its peer does not have yet, apart from those that are with the kernel.
    pub(crate) fn in_flight(&self, id: u32) -> usize {
        self.end(id).map_or(0, |end| end.bytes_in_flight)
    }

    /// Takes what a host sends; how much that is, unless the kernel is to have it.
    pub(super) fn send_now(
        &mut self,
        around: &mut Around<'_>,
        id: u32,
        bytes: &[u8],
    ) -> Option<usize> {
        let end = self.end_mut(id);
        let taken = end.and_then(|end| {
            let is_open = !(end.has_ended || end.is_shut || end.is_with_kernel || end.is_gone);
            let room = end.room();
            let taken = bytes.len().min(room).min(MOST_BYTES);
            (is_open && taken > 0).then_some(taken)
        });
        match taken {
            Some(taken) => self.push_bytes(around, id, &bytes[..taken]),
            None => {
                self.is_asked = true;
                if let Some(end) = self.end_mut(id) {
                    end.is_with_kernel = true;
                }
            }
        }
        taken
    }

    /// Whether the kernel may have something to tell.
    pub(super) fn is_asked(&self) -> bool {
        self.is_asked || self.is_always_asked || self.waiting > 0
    }

    /// Takes up what hosts have sent by the kernel, or made room for; whether that was anything.
    pub(super) fn collect(&mut self, around: &mut Around<'_>) -> bool {
        self.is_asked = false;
        let mut events = [epoll::Event {
            flags: EventFlags::empty(),
            data: EventData::new_u64(0),
        }; EVENTS_AT_ONCE];
        let no_wait = timespec(Duration::ZERO);
        // An interruption, too, leaves what there is to be found the next time.
        let count = epoll::wait(&self.watch, &mut events, Some(&no_wait)).unwrap_or(0);
        // All at once, or there may be more.
        self.is_asked = count == EVENTS_AT_ONCE;
        let mut stirred = BTreeSet::new();
        for event in &events[..count] {
            let (id, flags) = (event.data.u64() as u32, event.flags);
            let Some(end) = self.end_mut(id) else {
                continue;
            };
            let is_over = flags.intersects(EventFlags::HUP | EventFlags::ERR);
            end.is_readable |= is_over || flags.intersects(EventFlags::IN | EventFlags::RDHUP);
            end.is_ending |= is_over || flags.contains(EventFlags::RDHUP);
            end.is_gone |= is_over;
            stirred.insert(id);
        }
        for id in stirred {
            self.take_from(around, id);
            if let Some(end) = self.end(id) {
                let peer = end.peer;
                self.hand_over(around, peer);
            }
            self.forget_if_over(id);
        }
        count > 0
    }
}

impl Streams {
    fn end(&self, id: u32) -> Option<&End> {
        self.ends.get(id as usize)?.as_deref()
    }

    fn end_mut(&mut self, id: u32) -> Option<&mut End> {
        self.ends.get_mut(id as usize)?.as_deref_mut()
    }

    fn remove(&mut self, id: u32) {
        if let Some(end) = self.ends.get_mut(id as usize).and_then(Option::take) {
            self.waiting -= usize::from(end.waits);
        }
    }

    /// Takes what the host has left with the kernel, as far as the window lets it; whether there was any.
    fn take_from(&mut self, around: &mut Around<'_>, id: u32) -> bool {
        let mut any = false;
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let taken = self.end_mut(id).and_then(|end| end.take(&mut buffer));
            let is_over = taken.is_none();
            match taken {
                Some(Taken::Bytes(count)) => self.push_bytes(around, id, &buffer[..count]),
                Some(Taken::End(what)) => {
                    if let Some(end) = self.end_mut(id) {
                        end.has_ended = true;
                    }
                    self.push(around, id, what);
                }
                None => {}
            }
            self.buffer = buffer;
            if is_over {
                return any;
            }
            any = true;
        }
    }

    /// Has the bytes be on their way: with those before them, if these have left at this very time.
    fn push_bytes(&mut self, around: &mut Around<'_>, id: u32, bytes: &[u8]) {
        let Some(end) = self.end_mut(id) else { return };
        end.bytes_in_flight += bytes.len();
        if let Some(Segment {
            sent,
            is_lost: false,
            what: What::Bytes {
                bytes: last,
                given: 0,
            },
            ..
        }) = end.flight.back_mut()
            && *sent == around.plan.now
            && last.len() + bytes.len() <= MOST_BYTES
            && !around.links.is_bounded(end.host, end.peer_host)
        {
            last.extend_from_slice(bytes);
            return;
        }
        let bytes = bytes.to_vec();
        self.push(around, id, What::Bytes { bytes, given: 0 });
    }

    fn push(&mut self, around: &mut Around<'_>, id: u32, what: What) {
        let Some(end) = self.end_mut(id) else { return };
        let way = around.links.send(around.plan, end.packet(&what));
        let noted = end.note(around.plan, &what);
        let now = around.plan.now;
        let (due, is_lost) = match way {
            Way::Comes(at) | Way::ComesTwice(at) => (at, false),
            Way::Lost => (now.saturating_add(end.patience.wait), true),
            Way::Resets(at) => {
                around.plan.note_lost(noted);
                return self.reset_on_the_way(around, id, at);
            }
        };
        if is_lost {
            around.plan.note_lost(noted);
        }
        end.flight.push_back(Segment {
            sent: now,
            due,
            noted,
            is_lost,
            what,
        });
        around.plan.at(due, Event::Due(id));
    }

    /// Something between the hosts resets the connection, behind what is on its way.
    fn reset_on_the_way(&mut self, around: &mut Around<'_>, id: u32, at: u64) {
        let Some(end) = self.end_mut(id) else { return };
        end.has_ended = true;
        let noted = end.note(around.plan, &What::Reset);
        end.flight.push_back(Segment {
            sent: around.plan.now,
            due: at,
            noted,
            is_lost: false,
            what: What::Reset,
        });
        around.plan.at(at, Event::Due(id));
        around.plan.at(at, Event::Broken(id, Errno::CONNRESET));
    }

    /// Gives the peer what this end has sent and is due, as far as it takes it. Whether sockets were touched.
    pub(super) fn hand_over(&mut self, around: &mut Around<'_>, id: u32) -> bool {
        let mut touched = false;
        loop {
            let now = around.plan.now;
            let Some(end) = self.end_mut(id) else {
                return touched;
            };
            let (peer_id, from, to) = (end.peer, end.host, end.peer_host);
            let wait = end.patience.wait;
            let Some(first) = end.flight.front_mut().filter(|first| first.due <= now) else {
                break;
            };
            if !first.is_lost && !around.lets_through(from, to) {
                first.is_lost = true;
                first.due = now.saturating_add(wait);
                around.plan.note_lost(first.noted);
                around.plan.at(first.due, Event::Due(id));
                break;
            }
            if first.is_lost {
                match self.send_again(around, id) {
                    true => continue,
                    false => return true,
                }
            }
            let Some(mut end) = self.ends.get_mut(id as usize).and_then(Option::take) else {
                return touched;
            };
            let given = match self.end_mut(peer_id) {
                Some(peer) => give(around.plan, &mut end, peer, id),
                // Its host has lost it, and says so.
                None => Given::Refused,
            };
            end.patience = Patience::new();
            self.ends[id as usize] = Some(end);
            touched = true;
            if !matches!(given, Given::NoRoom) {
                self.wait_no_more(id);
            }
            match given {
                Given::All => self.acknowledge(around, id),
                Given::End => {
                    self.is_asked = true;
                    self.acknowledge(around, id);
                }
                Given::Part => {
                    self.acknowledge(around, id);
                    break;
                }
                Given::NoRoom => {
                    self.wait_for_room(id);
                    break;
                }
                Given::Refused => {
                    self.break_later(around, id);
                    return true;
                }
                Given::Reset => self.break_off(peer_id, Errno::CONNRESET),
            }
        }
        // There may be room again, for which the host may wait.
        touched |= self.take_from(around, id);
        self.forget_if_over(id);
        touched
    }

    /// Sends the first in flight again; false if that was done so often that the connection is given up.
    fn send_again(&mut self, around: &mut Around<'_>, id: u32) -> bool {
        let Some(end) = self.end_mut(id) else {
            return false;
        };
        let Some(wait) = end.patience.next() else {
            self.give_up(id);
            return false;
        };
        let now = around.plan.now;
        let Some(first) = end.flight.front() else {
            return false;
        };
        let way = around.links.send(around.plan, end.packet(&first.what));
        let noted = end.note(around.plan, &first.what);
        let Some(first) = end.flight.front_mut() else {
            return false;
        };
        (first.sent, first.noted) = (now, noted);
        match way {
            Way::Comes(at) | Way::ComesTwice(at) => (first.due, first.is_lost) = (at, false),
            Way::Lost => {
                first.due = now.saturating_add(wait);
                around.plan.note_lost(noted);
            }
            Way::Resets(at) => {
                (first.due, first.is_lost, first.what) = (at, false, What::Reset);
                around.plan.at(at, Event::Broken(id, Errno::CONNRESET));
            }
        }
        around.plan.at(first.due, Event::Due(id));
        true
    }

    /// The peer has got something, and says so; if word of that does not come, the host waits for it as it does for
    /// what was lost.
    fn acknowledge(&mut self, around: &mut Around<'_>, id: u32) {
        let Some(end) = self.end_mut(id) else { return };
        if end.unheard.is_some() {
            return;
        }
        if !end.is_heard(around) {
            end.unheard = Some(Patience::new());
            around.plan.after(FIRST_WAIT, Event::Unheard(id));
        }
    }

    /// Nothing was heard for so long of what the peer has got.
    pub(super) fn ask_again(&mut self, around: &mut Around<'_>, id: u32) {
        let Some(end) = self.end_mut(id) else { return };
        if end.is_heard(around) {
            end.unheard = None;
            return;
        }
        match end.unheard.as_mut().and_then(Patience::next) {
            Some(wait) => around.plan.after(wait, Event::Unheard(id)),
            None => self.give_up(id),
        }
    }

    /// The host's kernel ends the connection by itself, and tells nobody but the host. What comes for it is refused.
    fn give_up(&mut self, id: u32) {
        self.break_off(id, Errno::TIMEDOUT);
    }

    /// Has the kernel tell when the peer has room again.
    fn wait_for_room(&mut self, id: u32) {
        let Some(end) = self.end_mut(id) else { return };
        if !std::mem::replace(&mut end.waits, true) {
            self.waiting += 1;
            self.watch_for_room(id, WATCHED | EventFlags::OUT);
        }
    }

    fn wait_no_more(&mut self, id: u32) {
        let Some(end) = self.end_mut(id) else { return };
        if std::mem::replace(&mut end.waits, false) {
            self.waiting -= 1;
            self.watch_for_room(id, WATCHED);
        }
    }

    fn watch_for_room(&mut self, id: u32, flags: EventFlags) {
        // The kernel then tells once more of all that is so.
        self.is_asked = true;
        let peer = self.end(id).map(|end| end.peer);
        if let Some((peer, of)) = peer.and_then(|peer| Some((peer, self.end(peer)?))) {
            // It is watched already, so this takes no memory.
            let watched =
                epoll::modify(&self.watch, &of.far, EventData::new_u64(peer.into()), flags);
            debug_assert!(watched.is_ok(), "{watched:?}");
        }
    }

    /// The end learns, as soon as word of it can come, that its peer has no such connection.
    fn break_later(&mut self, around: &mut Around<'_>, id: u32) {
        self.wait_no_more(id);
        let Some(end) = self.end_mut(id) else { return };
        end.flight.clear();
        end.bytes_in_flight = 0;
        end.has_ended = true;
        let (source, destination) = (end.away, end.near);
        let word = Packet {
            from: end.peer_host,
            to: end.host,
            source,
            destination,
            kind: PacketKind::Reset,
            bytes: &[],
        };
        let at = match around.links.send(around.plan, word) {
            Way::Comes(at) | Way::ComesTwice(at) | Way::Resets(at) => at,
            // What it sends next, or again, is answered in the same way.
            Way::Lost => around.plan.now.saturating_add(FIRST_WAIT),
        };
        around.plan.at(at, Event::Broken(id, Errno::CONNRESET));
    }

    /// The connection is over, for one end.
    pub(super) fn break_off(&mut self, id: u32, errno: Errno) {
        self.wait_no_more(id);
        let Some(end) = self.end_mut(id) else { return };
        end.flight.clear();
        end.bytes_in_flight = 0;
        end.has_ended = true;
        end.unread = UNKNOWN;
        // The host finds the end, and asks what it means. Of this the kernel tells, too.
        _ = shutdown(&end.far, Shutdown::Both);
        self.is_asked = true;
        self.fates.entry(id).or_insert(errno);
        self.forget_if_over(id);
    }

    /// Lets a connection go that neither host has any use for.
    fn forget_if_over(&mut self, id: u32) {
        let is_over = |end: Option<&End>| {
            end.is_none_or(|end| end.is_gone && end.has_ended && end.flight.is_empty())
        };
        let Some(end) = self.end(id) else {
            return;
        };
        let peer = end.peer;
        if is_over(Some(end)) && is_over(self.end(peer)) {
            self.remove(id);
            self.remove(peer);
        }
    }
}

/// What was taken out of a socket.
enum Taken {
    Bytes(usize),
    End(What),
}

impl End {
    /// How much may be sent now: nothing where that would be little, and more has to wait anyhow (RFC 9293, section
    /// 3.8.6.2).
    fn room(&self) -> usize {
        let room = self.window.saturating_sub(self.bytes_in_flight);
        match room < LEAST_ROOM && self.bytes_in_flight > 0 {
            true => 0,
            false => room,
        }
    }

    fn take(&mut self, buffer: &mut [u8]) -> Option<Taken> {
        loop {
            let room = self.room();
            if !self.is_readable || self.has_ended || room == 0 {
                return None;
            }
            let buffer = &mut buffer[..room.min(MOST_BYTES)];
            let wanted = buffer.len();
            return Some(match recv(&self.far, &mut *buffer, RecvFlags::DONTWAIT) {
                Ok((0, _)) if self.resets_on_close && self.is_gone => Taken::End(What::Reset),
                Ok((0, _)) => Taken::End(What::Fin),
                Ok((count, _)) => {
                    // Less than it could be: there is no more, and what comes next is told of.
                    self.is_readable = count == wanted || self.is_ending;
                    self.is_with_kernel = self.is_readable;
                    Taken::Bytes(count)
                }
                Err(Errno::INTR) => continue,
                Err(Errno::AGAIN) => {
                    self.is_readable = false;
                    self.is_with_kernel = false;
                    return None;
                }
                // It was closed, and had not read all.
                Err(_) => Taken::End(What::Reset),
            });
        }
    }

    /// Writes down that it sends that, if anybody wants to know.
    fn note(&self, plan: &mut Plan, what: &What) -> u64 {
        plan.note_sent(self.host, self.peer_host, || match what {
            What::Bytes { bytes, given } => glimpse(&bytes[*given..]),
            What::Fin => "end".to_owned(),
            What::Reset => "reset".to_owned(),
        })
    }

    /// As rules see it.
    fn packet<'a>(&self, what: &'a What) -> Packet<'a> {
        let (kind, bytes) = match what {
            What::Bytes { bytes, given } => (PacketKind::Data, &bytes[*given..]),
            What::Fin => (PacketKind::Fin, &[][..]),
            What::Reset => (PacketKind::Reset, &[][..]),
        };
        Packet {
            from: self.host,
            to: self.peer_host,
            source: self.near,
            destination: self.away,
            kind,
            bytes,
        }
    }

    /// Whether word of what the peer has got comes to the host.
    fn is_heard(&self, around: &Around<'_>) -> bool {
        let word = Packet {
            from: self.peer_host,
            to: self.host,
            source: self.away,
            destination: self.near,
            kind: PacketKind::Ack,
            bytes: &[],
        };
        around.lets_through(self.peer_host, self.host) && around.links.lets_word_through(word)
    }
}

/// How a segment was given to the peer.
enum Given {
    All,
    /// All, and it was the end.
    End,
    /// The rest waits for its time.
    Part,
    /// The rest waits for room.
    NoRoom,
    /// The peer takes no more.
    Refused,
    Reset,
}

/// How often, of one, the peer gets a part of a segment first.
const PARTS: f64 = 0.25;

/// How much later it gets the rest.
const PART_DELAY: Range<u64> = 1..200 * MICROSECOND;

/// Gives the peer the first segment that an end has in flight.
fn give(plan: &mut Plan, end: &mut End, peer: &mut End, id: u32) -> Given {
    let Some(first) = end.flight.front_mut() else {
        return Given::Part;
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
            let sent = match send(&peer.far, &left[..count], flags) {
                Ok(sent) => sent,
                // Its kernel takes it, and nobody will read it.
                Err(Errno::PIPE) if peer.reads_no_more && !peer.is_shut && !peer.is_gone => count,
                Err(Errno::AGAIN | Errno::INTR) => return Given::NoRoom,
                Err(_) => return Given::Refused,
            };
            if peer.unread != UNKNOWN {
                peer.unread += sent;
            }
            *given += sent;
            end.bytes_in_flight -= sent;
            if *given == bytes.len() {
                plan.note_came(first.noted);
                end.flight.pop_front();
                return Given::All;
            }
            if sent < count {
                return Given::NoRoom;
            }
            debug_assert!(is_part);
            first.due = plan.now + plan.dice.within(&PART_DELAY);
            plan.at(first.due, Event::Due(id));
            Given::Part
        }
        What::Fin => {
            _ = shutdown(&peer.far, Shutdown::Write);
            peer.unread = UNKNOWN;
            plan.note_came(first.noted);
            end.flight.pop_front();
            Given::End
        }
        What::Reset => {
            plan.note_came(first.noted);
            end.flight.pop_front();
            Given::Reset
        }
    }
}
