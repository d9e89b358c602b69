//! Links between hosts: how long a packet takes on them, and which come to nothing.

use std::{
    cell::{Cell, RefCell},
    collections::{BTreeMap, BTreeSet},
    net::SocketAddr,
    ops::Range,
    time::Duration,
};

use super::{dice::Dice, host::HostId, plan::Plan};

/// How a link behaves, one way.
#[derive(Clone, Debug)]
pub(crate) struct LinkSettings {
    /// In nanoseconds.
    pub(crate) latency: Range<u64>,
    /// How many packets of one are lost; TCP sends them again.
    pub(crate) loss: f64,
    /// How many datagrams of one come twice.
    pub(crate) duplicates: f64,
    /// How many packets of one have the connection that they are of be reset.
    pub(crate) resets: f64,
    /// Bytes in a second, if that is bounded.
    pub(crate) bandwidth: Option<u64>,
}

/// What a packet is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum PacketKind {
    /// A client asks for a TCP connection.
    Syn,
    /// The answer to that.
    SynAck,
    /// Bytes of a connection.
    Data,
    /// Word that bytes, or an end, have come.
    Ack,
    /// The end of what one side sends.
    Fin,
    /// The connection is broken off.
    Reset,
    /// A datagram of UDP.
    Datagram,
}

/// What becomes of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Verdict {
    /// What would become of it anyhow.
    Pass,
    /// It is lost.
    Drop,
    /// It takes so much longer.
    Delay(Duration),
    /// The connection that it is of is reset, as firewalls do. A datagram, or a request for a connection, is lost.
    Reset,
    /// A datagram comes twice; others pass.
    Duplicate,
}

/// A packet, as rules see it.
pub(crate) struct Packet<'a> {
    pub(crate) from: HostId,
    pub(crate) to: HostId,
    pub(crate) source: SocketAddr,
    pub(crate) destination: SocketAddr,
    pub(crate) kind: PacketKind,
    pub(crate) bytes: &'a [u8],
}

/// A packet and the dice that its rule has.
pub(crate) struct Judged<'a> {
    pub(crate) packet: Packet<'a>,
    names: &'a [String],
    dice: RefCell<Dice>,
}

impl<'a> Judged<'a> {
    pub(crate) fn name_of(&self, host: HostId) -> &'a str {
        self.names.get(host.0 as usize).map_or("", String::as_str)
    }

    pub(crate) fn host_named(&self, name: &str) -> Option<HostId> {
        named(self.names, name)
    }

    pub(crate) fn chance(&self, of_one: f64) -> bool {
        self.dice.borrow_mut().chance(of_one)
    }
}

pub(crate) type Rule = Box<dyn Fn(&Judged<'_>) -> Verdict + Send>;

thread_local! {
    static JUDGES: Cell<bool> = const { Cell::new(false) };
}

/// Whether a rule is being asked on this thread, under the world's lock.
pub(super) fn judges() -> bool {
    JUDGES.get()
}

/// How it goes with a packet.
pub(super) enum Way {
    /// It comes then.
    Comes(u64),
    /// It comes then, twice, if it is a datagram.
    ComesTwice(u64),
    Lost,
    /// Its connection is reset, as who would have got it learns then.
    Resets(u64),
}

pub(super) struct Links {
    /// Of the hosts.
    names: Vec<String>,
    links: BTreeMap<(HostId, HostId), Link>,
    usual: LinkSettings,
    loopback: LinkSettings,
    cuts: u64,
    /// The oldest first.
    rules: Vec<Judge>,
    rules_made: u64,
    seed: u64,
}

/// A rule in force.
struct Judge {
    number: u64,
    /// Its own, so that it draws the same whatever else there is.
    dice: RefCell<Dice>,
    rule: Rule,
}

#[derive(Default)]
struct Link {
    settings: Option<LinkSettings>,
    /// Partitions in force, by number.
    cuts: BTreeSet<u64>,
    /// When the last packet has left, where bandwidth is bounded.
    is_free_at: u64,
}

/// Keeps the dice of rules apart from the others.
const SALT: u64 = 0x7275_6C65_0000_0001;

const MICROSECOND: u64 = 1_000;
const MILLISECOND: u64 = 1_000_000;

/// Between hosts whose link nobody has set.
const USUAL_LATENCY: Range<u64> = 100 * MICROSECOND..MILLISECOND;

/// Within a host.
const LOOPBACK_LATENCY: Range<u64> = 5 * MICROSECOND..50 * MICROSECOND;

/// What a packet has beside what it carries: heads of Ethernet, IP and TCP, with the usual options.
const HEADS: u64 = 66;

/// Bytes that a packet carries at most; what is larger goes in several.
const MOST_CARRIED: u64 = 1448;

fn named(names: &[String], name: &str) -> Option<HostId> {
    let at = names.iter().position(|known| known == name)?;
    Some(HostId(at as u32))
}

impl LinkSettings {
    fn with_latency(latency: Range<u64>) -> Self {
        Self {
            latency,
            loss: 0.0,
            duplicates: 0.0,
            resets: 0.0,
            bandwidth: None,
        }
    }
}

impl Links {
    pub(super) fn new(seed: u64) -> Self {
        Self {
            names: Vec::new(),
            links: BTreeMap::new(),
            usual: LinkSettings::with_latency(USUAL_LATENCY),
            loopback: LinkSettings::with_latency(LOOPBACK_LATENCY),
            cuts: 0,
            rules: Vec::new(),
            rules_made: 0,
            seed,
        }
    }

    pub(super) fn add_host(&mut self, name: &str) {
        self.names.push(name.to_owned());
    }

    pub(super) fn host_named(&self, name: &str) -> Option<HostId> {
        named(&self.names, name)
    }

    /// Of all hosts.
    pub(super) fn names(&self) -> &[String] {
        &self.names
    }

    pub(super) fn name_of(&self, host: HostId) -> &str {
        &self.names[host.0 as usize]
    }

    /// Sets a link, in both directions.
    pub(super) fn set(&mut self, a: HostId, b: HostId, set: impl Fn(&mut LinkSettings)) {
        for pair in [(a, b), (b, a)] {
            let mut settings = self.settings(pair.0, pair.1).clone();
            set(&mut settings);
            self.links.entry(pair).or_default().settings = Some(settings);
        }
    }

    pub(super) fn cut(&mut self, pairs: &[(HostId, HostId)]) -> u64 {
        self.cuts += 1;
        for pair in pairs {
            let link = self.links.entry(*pair).or_default();
            link.cuts.insert(self.cuts);
        }
        self.cuts
    }

    pub(super) fn heal(&mut self, cut: u64) {
        for link in self.links.values_mut() {
            link.cuts.remove(&cut);
        }
    }

    pub(super) fn is_cut(&self, from: HostId, to: HostId) -> bool {
        (self.links.get(&(from, to))).is_some_and(|link| !link.cuts.is_empty())
    }

    /// One that is left out has a number all the same, by which the dice of the others are theirs.
    pub(super) fn add_rule(&mut self, rule: Option<Rule>) -> u64 {
        self.rules_made += 1;
        let number = self.rules_made;
        self.rules.extend(rule.map(|rule| Judge {
            number,
            dice: RefCell::new(Dice::new(Dice::new(self.seed ^ SALT ^ number).number())),
            rule,
        }));
        number
    }

    /// The rule, to be dropped where its destructor may do anything.
    pub(super) fn remove_rule(&mut self, number: u64) -> Option<Rule> {
        let at = self.rules.iter().position(|judge| judge.number == number)?;
        Some(self.rules.remove(at).rule)
    }

    fn settings(&self, from: HostId, to: HostId) -> &LinkSettings {
        let set = self.links.get(&(from, to));
        match set.and_then(|link| link.settings.as_ref()) {
            Some(settings) => settings,
            None if from == to => &self.loopback,
            None => &self.usual,
        }
    }

    /// Whether word of what came gets back: of that no chance is drawn, since the next word makes up for one that was
    /// lost.
    pub(super) fn lets_word_through(&self, word: Packet<'_>) -> bool {
        let is_cut = self.is_cut(word.from, word.to);
        !is_cut && self.ask(word) != Verdict::Drop
    }

    /// What becomes of a packet that leaves now, unless its link is cut or its host is down when it arrives.
    pub(super) fn send<E>(&mut self, plan: &mut Plan<E>, packet: Packet<'_>) -> Way {
        let (from, to, size) = (packet.from, packet.to, packet.bytes.len() as u64);
        let is_datagram = packet.kind == PacketKind::Datagram;
        let verdict = self.ask(packet);
        let leaves = self.departure(plan.now, (from, to), size);
        let settings = self.settings(from, to);
        let dice = &mut plan.dice;
        let mut comes = leaves.saturating_add(dice.within(&settings.latency));
        if settings.loss > 0.0 {
            // A datagram of several packets takes all of them; of a connection each is sent again by itself.
            let packets = match is_datagram {
                true => size.div_ceil(MOST_CARRIED).max(1),
                false => 1,
            };
            if (0..packets).any(|_| dice.chance(settings.loss)) {
                return Way::Lost;
            }
        }
        let is_reset = settings.resets > 0.0 && dice.chance(settings.resets);
        let is_twice = settings.duplicates > 0.0 && dice.chance(settings.duplicates);
        match verdict {
            Verdict::Drop => return Way::Lost,
            Verdict::Reset => return Way::Resets(comes),
            Verdict::Delay(delay) => {
                let nanos = u64::try_from(delay.as_nanos()).unwrap_or(u64::MAX);
                comes = comes.saturating_add(nanos);
            }
            Verdict::Duplicate => return Way::ComesTwice(comes),
            Verdict::Pass => {}
        }
        match (is_reset, is_twice) {
            (true, _) => Way::Resets(comes),
            (_, true) => Way::ComesTwice(comes),
            _ => Way::Comes(comes),
        }
    }

    /// Whether bytes take time to leave.
    pub(super) fn is_bounded(&self, from: HostId, to: HostId) -> bool {
        self.settings(from, to).bandwidth.is_some()
    }

    /// When the last byte of it has left: after those before it, where bandwidth is bounded.
    fn departure(&mut self, now: u64, link: (HostId, HostId), size: u64) -> u64 {
        let Some(link) = self.links.get_mut(&link) else {
            return now;
        };
        let bandwidth = (link.settings.as_ref()).and_then(|settings| settings.bandwidth);
        let Some(bandwidth) = bandwidth else {
            return now;
        };
        let bytes = size + HEADS * size.div_ceil(MOST_CARRIED).max(1);
        let nanos = u128::from(bytes) * 1_000_000_000 / u128::from(bandwidth.max(1));
        let nanos = u64::try_from(nanos).unwrap_or(u64::MAX);
        link.is_free_at = link.is_free_at.max(now).saturating_add(nanos);
        link.is_free_at
    }

    /// What the first rule says that has something to say.
    fn ask(&self, packet: Packet<'_>) -> Verdict {
        if self.rules.is_empty() {
            return Verdict::Pass;
        }
        let judged = Judged {
            packet,
            names: &self.names,
            dice: RefCell::new(Dice::new(0)),
        };
        struct Asked;
        impl Drop for Asked {
            fn drop(&mut self) {
                JUDGES.set(false);
            }
        }
        JUDGES.set(true);
        let _asked = Asked;
        let judge = |judge: &Judge| {
            judged.dice.swap(&judge.dice);
            let verdict = (judge.rule)(&judged);
            judged.dice.swap(&judge.dice);
            verdict
        };
        (self.rules.iter().map(judge))
            .find(|verdict| *verdict != Verdict::Pass)
            .unwrap_or(Verdict::Pass)
    }
}
