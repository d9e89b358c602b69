//! The driver of a simulation: the kernel is asked, never waited for, and time is the world's.
//!
//! Sockets of a simulation are ends of socket pairs whose other ends the [`World`] has, so their readiness is the
//! kernel's, and the calls on them are those that run in service. What differs is a wait: where nothing can run any
//! more, the world hands over what is due, and else moves its clock to what comes next. If nothing comes, everything
//! waits for ever, and the world has ended.

mod dice;
mod network;
mod plan;
mod world;

use std::{
    io,
    time::{Duration, Instant},
};

pub(crate) use network::{HostId, LinkSettings, decode_address, is_simulated};
use world::Called;
pub(crate) use world::{Turn, World, current, is_any, now, refuse};

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
    loop {
        let mut found = false;
        // Where a read was put off its reader is handed back if nothing else has come, without waiting.
        let ask = match ready.has_deferred() {
            true => timeout,
            false => Some(Duration::ZERO),
        };
        let polled = ready.poll(ask, now, |token| {
            found = true;
            wake(token);
        })?;
        if found || polled.standby || timeout == Some(Duration::ZERO) {
            return Ok(polled);
        }
        match world.stir(until) {
            Called::Nobody => {}
            Called::Somebody | Called::Over => return Ok(polled),
            Called::Alarm => return Ok(Polled { standby: true }),
        }
    }
}
