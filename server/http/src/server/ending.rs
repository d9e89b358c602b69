//! How a connection ends whose peer may still have something to read, or to send.

use std::time::Duration;

use maniple::{net::Shutdown, time::coarse_now};

use super::{
    out::{Patience, is_own_timeout},
    state::Connection,
};

/// After an error answer, so long is what the peer still sends read away, that the answer may reach it.
const LINGER: Duration = Duration::from_secs(1);
const MAX_LINGER_BYTES: usize = 16 * 1024 * 1024;

/// Says that nothing more will come and reads what the peer still sends: closing with unread bytes
/// would reset the connection and may take the answer away from the peer (RFC 9112, 9.6). One that takes
/// the answer slowly has its time for that.
#[cold]
pub(super) fn linger(connection: &Connection, stall: Duration) {
    let transport = &connection.transport;
    if transport.shutdown(Shutdown::Write).is_err() {
        return;
    }
    let mut patience = Patience::with(connection, stall);
    let until = coarse_now() + LINGER;
    let _ = transport.set_read_timeout(Some(Patience::period(stall).min(LINGER)));
    let mut buffer = vec![0; 8 * 1024];
    let mut discarded = 0;
    while discarded < MAX_LINGER_BYTES {
        match transport.read(&mut buffer) {
            Ok(0) => return,
            Ok(count) => discarded += count,
            Err(error) if is_own_timeout(&error) => {}
            Err(_) => return,
        }
        if coarse_now() >= until && (patience.is_over(connection) || patience.is_done()) {
            return;
        }
    }
}

/// Sees to it that closing resets the connection, once the peer has taken what was sent, or takes nothing.
#[cold]
pub(super) fn reset(connection: &Connection, stall: Duration) {
    connection.transport.reset_on_close();
    let mut patience = Patience::with(connection, stall);
    while !patience.is_done() && !patience.is_over(connection) {
        maniple::sleep(Patience::period(stall).min(LOOK));
    }
}

/// How soon to look again whether the peer has taken all.
const LOOK: Duration = Duration::from_millis(10);
