//! Packets of a world's network, as rules see them.

use std::{fmt, net::SocketAddr, sync::Arc, time::Duration};

use crate::driver::sim::{self, HostId, Judged, Rule};
pub use crate::driver::sim::{PacketKind, Verdict};

/// A packet that leaves a host, as a [rule](super::World::rule) sees it.
///
/// A packet of TCP carries up to 16 KiB here. What was lost leaves again, and is judged again.
#[derive(Clone, Copy)]
pub struct Packet<'a> {
    judged: &'a Judged<'a>,
}

impl<'a> Packet<'a> {
    pub(super) fn new(judged: &'a Judged<'a>) -> Self {
        Self { judged }
    }

    /// The name of the host that it leaves.
    pub fn from(&self) -> &'a str {
        self.judged.name_of(self.judged.packet.from)
    }

    /// The name of the host that it goes to; empty if there is none of its address.
    pub fn to(&self) -> &'a str {
        self.judged.name_of(self.judged.packet.to)
    }

    /// The address that it comes from.
    pub fn source(&self) -> SocketAddr {
        self.judged.packet.source
    }

    /// The address that it goes to.
    pub fn destination(&self) -> SocketAddr {
        self.judged.packet.destination
    }

    /// What it is for.
    pub fn kind(&self) -> PacketKind {
        self.judged.packet.kind
    }

    /// What it carries.
    pub fn bytes(&self) -> &'a [u8] {
        self.judged.packet.bytes
    }

    /// True so often, of one: drawn from the seed.
    pub fn chance(&self, of_one: f64) -> bool {
        self.judged.chance(of_one)
    }

    /// Whether it goes between these two hosts, in either direction.
    ///
    /// # Panics
    /// If there is no such host, which fails the seed.
    pub fn between(&self, a: &str, b: &str) -> Matched<'a> {
        self.all().between(a, b)
    }

    /// Whether it goes from the one host to the other.
    ///
    /// # Panics
    /// If there is no such host, which fails the seed.
    pub fn goes(&self, from: &str, to: &str) -> Matched<'a> {
        self.all().goes(from, to)
    }

    /// Whether it is of that kind.
    pub fn of(&self, kind: PacketKind) -> Matched<'a> {
        self.all().of(kind)
    }

    fn all(&self) -> Matched<'a> {
        Matched {
            packet: *self,
            holds: true,
        }
    }

    fn host(&self, name: &str) -> HostId {
        let host = self.judged.host_named(name);
        host.unwrap_or_else(|| panic!("the world has no host {name:?}"))
    }
}

impl fmt::Debug for Packet<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Packet")
            .field("from", &self.from())
            .field("to", &self.to())
            .field("kind", &self.kind())
            .field("bytes", &self.bytes().len())
            .finish_non_exhaustive()
    }
}

/// Whether a packet is one of those that a rule is about, from the methods of [`Packet`].
#[derive(Clone, Copy, Debug)]
#[must_use = "it says what happens to the packet once it is asked"]
pub struct Matched<'a> {
    packet: Packet<'a>,
    holds: bool,
}

impl Matched<'_> {
    /// And it goes between these two hosts, in either direction.
    ///
    /// # Panics
    /// If there is no such host, which fails the seed.
    pub fn between(self, a: &str, b: &str) -> Self {
        let (a, b) = (self.packet.host(a), self.packet.host(b));
        let packet = &self.packet.judged.packet;
        let ends = (packet.from, packet.to);
        self.and(ends == (a, b) || ends == (b, a))
    }

    /// And it goes from the one host to the other.
    ///
    /// # Panics
    /// If there is no such host, which fails the seed.
    pub fn goes(self, from: &str, to: &str) -> Self {
        let (from, to) = (self.packet.host(from), self.packet.host(to));
        let packet = &self.packet.judged.packet;
        self.and((packet.from, packet.to) == (from, to))
    }

    /// And it is of that kind.
    pub fn of(self, kind: PacketKind) -> Self {
        self.and(self.packet.kind() == kind)
    }

    /// And that holds, too.
    pub fn and(mut self, holds: bool) -> Self {
        self.holds &= holds;
        self
    }

    /// And a draw says so, so often of one.
    pub fn sometimes(self, of_one: f64) -> Self {
        let drawn = self.holds && self.packet.chance(of_one);
        self.and(drawn)
    }

    /// Then that becomes of it.
    pub fn then(self, verdict: Verdict) -> Verdict {
        match self.holds {
            true => verdict,
            false => Verdict::Pass,
        }
    }

    /// Then it is lost.
    pub fn then_drop(self) -> Verdict {
        self.then(Verdict::Drop)
    }

    /// Then it takes so much longer.
    pub fn then_delay(self, time: Duration) -> Verdict {
        self.then(Verdict::Delay(time))
    }

    /// Then its connection is reset.
    pub fn then_reset(self) -> Verdict {
        self.then(Verdict::Reset)
    }
}

/// A rule for packets, from [`World::rule`](super::World::rule); dropping it ends it.
#[must_use = "it ends when it is dropped"]
pub struct ActiveRule {
    world: Arc<sim::World>,
    number: u64,
}

impl ActiveRule {
    /// One that is left out is none.
    pub(super) fn begin(world: Arc<sim::World>, rule: Option<Rule>) -> Self {
        Self {
            number: world.on_network(|network, _| network.add_rule(rule)),
            world,
        }
    }
}

impl Drop for ActiveRule {
    fn drop(&mut self) {
        // What the rule owns is dropped once the world is let go of.
        drop((self.world).on_network(|network, _| network.remove_rule(self.number)));
    }
}

impl fmt::Debug for ActiveRule {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ActiveRule").finish_non_exhaustive()
    }
}
