//! The driver of a simulation: the kernel is asked, never waited for, and time is the world's.
//!
//! Sockets of a simulation are ends of socket pairs whose other ends the [`World`] has, so their readiness is the
//! kernel's, and the calls on them are those that run in service. What differs is a wait: where nothing can run any
//! more, the world hands over what is due, and else moves its clock to what comes next. If nothing comes, everything
//! waits for ever, and the world has ended.

mod chances;
mod chronicle;
mod cuts;
mod datagram;
mod dice;
mod disk;
mod end;
mod event;
mod host;
mod inside;
mod kernel;
mod link;
mod local;
mod name;
mod network;
mod order;
mod plan;
mod shortage;
mod stream;
mod trace;
mod wall;
mod world;

use std::{
    io,
    time::{Duration, Instant},
};

pub(crate) use chronicle::{Entry, Moment, Wanted};
pub(crate) use disk::{Disk, Facts, Means, Opened, Opening};
pub(crate) use end::Bounds;
pub(crate) use host::HostId;
pub(crate) use inside::{
    current, is_any, monotonic, note_refused, note_round, now, refuse, strikes, wall,
};
pub use inside::{is_inside, random};
pub(crate) use link::{Judged, LinkSettings, Rule};
pub use link::{PacketKind, Verdict};
pub(crate) use name::{decode_address, decode_local, is_simulated, own_end};
pub(crate) use order::{Candidates, Order, Path, Queue};
pub(crate) use shortage::Scarce;
pub(crate) use trace::Turn;
use world::Called;
pub(crate) use world::World;

use super::{Epoll, Polled, Token};

/// As the driver's contract says, but for time: it passes only here, and only if nothing was found.
#[cold]
pub(super) fn poll(
    ready: &mut Epoll,
    world: &World,
    timeout: Option<Duration>,
    now: &dyn Fn() -> Instant,
    wake: &mut dyn FnMut(Token),
) -> io::Result<Polled> {
    let until = (timeout.filter(|timeout| !timeout.is_zero()))
        .map(|timeout| world.elapsed().saturating_add(timeout));
    // What hosts send goes to the world, so mostly the kernel has nothing to tell. Tests look all the same, to find
    // what was not told.
    let mut is_told = world.may_be_told();
    let mut is_sure = is_told;
    world.beat();
    loop {
        let mut found = false;
        let is_put_off = ready.has_deferred();
        let looks = is_told || is_put_off || cfg!(debug_assertions);
        // Where a read was put off its reader is handed back if nothing else has come, without waiting.
        let ask = match ready.has_deferred() {
            true => timeout,
            false => Some(Duration::ZERO),
        };
        let polled = match looks {
            true => ready.poll(ask, now, |token| {
                found = true;
                wake(token);
            })?,
            // Nothing has happened since then that the kernel could tell of.
            false => Polled::default(),
        };
        debug_assert!(
            is_told || is_put_off || !found,
            "sockets became ready that the world was not told of"
        );
        if polled.standby {
            // More may be due there than is taken at once.
            world.note_registered(true);
        }
        if found && let Some(drawn) = world.lost_race() {
            ready.wake_for_nothing(drawn, wake);
        }
        if found || polled.standby || timeout == Some(Duration::ZERO) {
            return Ok(polled);
        }
        is_sure |= is_told;
        match world.stir(until, is_sure) {
            Called::Nobody { touched } => is_told = touched,
            Called::Somebody | Called::Over => return Ok(polled),
            Called::Alarm => return Ok(Polled { standby: true }),
        }
    }
}
