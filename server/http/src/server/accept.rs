//! Accepting: each worker for itself while the server runs, and what has arrived when it drains.

use std::{
    cell::Cell,
    io,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

use http::StatusCode;
use maniple::{
    cancel::{is_cancelled, is_cancelled_error},
    log_limit::LogLimit,
    log_within, panics, sim,
    sync::WaitGroup,
    task,
    time::coarse_now,
};
use rustix::process::{Resource, getrlimit};

use super::{
    arrival::read_proxy_header, conn, dialogue::Handover, drain::Seat, ending::linger,
    faults::report_takeover_panic, http2, left::Left, out, refusal::Refusals, service::Service,
    shared::Shared, standby::Standby, state::Connection, upgrade::Upgraded,
};
use crate::{
    middleware::Refused,
    transport::{Address, Listener, Peer, Policy, Transport},
};

/// An acceptor's token while it has not begun. None accepts before all have begun, or the connections of one could
/// take the stack of the next. Who gets no stack drops its token, too.
#[derive(Default)]
pub(super) struct Unbegun(Cell<Option<WaitGroup>>);

impl Clone for Unbegun {
    fn clone(&self) -> Self {
        let token = self.0.take().unwrap_or_default();
        self.0.set(Some(token.clone()));
        Self(Cell::new(Some(token)))
    }
}

impl Unbegun {
    /// Begins, and waits for the others, though not for a worker that is busy for long.
    pub(super) fn begin(&self) {
        if let Some(token) = self.0.take() {
            let _ = maniple::timeout(LONGEST_BEGINNING, || token.wait());
        }
    }
}

/// How long a worker may take to begin to accept before the others do.
const LONGEST_BEGINNING: Duration = Duration::from_millis(100);

/// Accepts until the server drains, on a descriptor of its own, which may be as hard to get as those of connections.
pub(super) fn accept_all(
    shared: &Arc<Shared>,
    listener: &Listener,
    address: &Address,
    max_connections: usize,
) -> io::Result<()> {
    let registry = &shared.service.registry;
    let mut pause = SHORTEST_PAUSE;
    let mut own = None;
    while !registry.is_draining() {
        let accepted = shared.stop.run(|| {
            let listener = match &mut own {
                Some(own) => own,
                none => none.insert(listener.try_clone()?),
            };
            let place = registry.reserve(max_connections);
            Ok((listener.accept()?, place))
        });
        match accepted {
            Ok(Ok(((transport, peer), place))) => {
                pause = SHORTEST_PAUSE;
                begin(shared, listener.policy(), transport, peer);
                drop(place);
            }
            Err(_) => break,
            Ok(Err(error)) if is_cancelled_error(&error) => break,
            Ok(Err(error)) if is_final(&error) => {
                let text = format!("accept on {address}: {error}");
                return Err(io::Error::new(error.kind(), text));
            }
            Ok(Err(error)) => {
                // Out of descriptors or memory, most likely: those in use must be given back first. Each
                // pauses by itself: they would go on waking one another.
                let hint = hint(&error);
                log_within!(
                    shared.failed_accepts,
                    warn,
                    "accept on {address}: {error}{hint}"
                );
                if shared.stop.run(|| maniple::sleep(pause)).is_err() {
                    break;
                }
                pause = (pause * 2).min(LONGEST_PAUSE);
            }
        }
    }
    Ok(())
}

/// What to do about an accept that failed, if that is known.
#[cold]
fn hint(error: &io::Error) -> String {
    const ENFILE: i32 = 23;
    const EMFILE: i32 = 24;
    match error.raw_os_error() {
        Some(EMFILE) => {
            let limit = getrlimit(Resource::Nofile).current;
            let limit = limit.map_or_else(String::new, |limit| format!(" ({limit})"));
            format!("; raise `ulimit -n`{limit}, or set max_connections below it")
        }
        Some(ENFILE) => "; raise fs.file-max".to_owned(),
        _ => String::new(),
    }
}

/// How long to leave an accept alone that failed; doubled while it goes on failing, which ends unnoticed.
const SHORTEST_PAUSE: Duration = Duration::from_millis(5);
const LONGEST_PAUSE: Duration = Duration::from_millis(200);

/// Accepts what has arrived by now, handshakes under way included: as the listener is closed, the kernel resets
/// what was not accepted. Nothing in a hand-over: the others accept it.
pub(super) fn accept_last(shared: &Arc<Shared>, listener: &Listener, grace: Duration) {
    if shared.departure.handed_over.load(Ordering::SeqCst) {
        return;
    }
    if listener.is_shared() || listener.ignore_new().is_err() || !listener.has_handshakes() {
        // Others may go on connecting: as many as can have been waiting.
        for _ in 0..MOST_WAITING {
            let Ok((transport, peer)) = listener.try_accept() else {
                break;
            };
            begin(shared, listener.policy(), transport, peer);
        }
        return;
    }
    let until = coarse_now() + LAST_HANDSHAKES.min(grace);
    let _ = maniple::deadline(until, || {
        loop {
            match listener.accept() {
                Ok((transport, peer)) => begin(shared, listener.policy(), transport, peer),
                Err(error) if error.kind() == io::ErrorKind::TimedOut => return,
                Err(error) if is_final(&error) => return,
                Err(_) => maniple::sleep(SHORTEST_PAUSE),
            }
        }
    });
}

/// How long handshakes that are under way may take to come to an end when no other can begin.
const LAST_HANDSHAKES: Duration = Duration::from_millis(100);

/// Connections that the kernel keeps for a listener, at the most that is usual.
const MOST_WAITING: usize = 4096;

/// Whether the listener itself is unusable, so that no later accept can succeed (accept(2)).
fn is_final(error: &io::Error) -> bool {
    const EBADF: i32 = 9;
    const EINVAL: i32 = 22;
    const ENOTSOCK: i32 = 88;
    const EOPNOTSUPP: i32 = 95;
    matches!(
        error.raw_os_error(),
        Some(EBADF | EINVAL | ENOTSOCK | EOPNOTSUPP)
    ) || error.kind() == io::ErrorKind::ConnectionAborted && error.raw_os_error().is_none()
}

fn begin(shared: &Shared, policy: Option<&Arc<Policy>>, transport: Transport, peer: Peer) {
    // A drain may begin in between.
    sim::dawdle();
    let service = shared.service.clone();
    let connection = Connection::new(transport, service.slowest_answer);
    let connection = Arc::new(connection.under(policy.cloned()));
    // Those who are trusted are connected for many.
    let is_one = policy.is_none_or(|policy| !policy.trusts(&peer));
    let seat = service.registry.enter(connection.clone(), &peer, is_one);
    if seat.is_none() {
        return turn_away(shared, connection, peer);
    }
    let open = Open {
        service,
        refusals: shared.refusals.clone(),
        seat,
        connection: connection.clone(),
        unbegun: true,
    };
    let unbegun = connection.entrust(|| {
        let serving = named_for(peer).spawn_least_loaded(move || serve(open, peer, None));
        serving.expect(OWN_SIZE)
    });
    if let Some(coroutine) = unbegun {
        shared.refusals.note(coroutine);
    }
}

/// Answers a connection that is one too many of its peer's, unless many are being answered so.
#[cold]
fn turn_away(shared: &Shared, connection: Arc<Connection>, peer: Peer) {
    let turned_away = shared.turned_away.clone();
    if Arc::strong_count(&turned_away) > MOST_TURNED_AWAY {
        return;
    }
    let service = shared.service.clone();
    let answering = task::Builder::new()
        .name("maniple-server too many")
        .spawn(move || {
            let _place = turned_away;
            let stall = service.body_limits.stall;
            let (status, reason) = (
                StatusCode::TOO_MANY_REQUESTS,
                "too many connections of a peer",
            );
            let refused = Refused::new(&peer, status, reason, &[]);
            service.router.hear_of(&refused);
            if out::send(&connection, TOO_MANY, stall).is_ok() {
                linger(&connection, stall);
            }
        });
    // Without a stack it is closed without an answer.
    drop(answering);
}

/// Connections that are answered, at a time, that they are too many.
const MOST_TURNED_AWAY: usize = 64;

/// To a connection that is one too many of its peer's (RFC 6585, 4).
const TOO_MANY: &[u8] =
    b"HTTP/1.1 429 Too Many Requests\r\nconnection: close\r\ncontent-length: 0\r\n\r\n";

/// A coroutine for a connection, named without an allocation.
fn named_for(peer: Peer) -> task::Builder {
    let builder = task::Builder::new();
    match peer {
        Peer::Tcp(peer) => builder.connection_from(peer),
        Peer::Unix => builder.name("connection from unix"),
        Peer::Memory => builder.name("connection from memory"),
    }
}

/// Why such a spawn cannot fail: only a stack size that was asked for can be out of range.
pub(super) const OWN_SIZE: &str = "it has the runtime's stack size";

/// Serves a connection, from coroutine to coroutine where it has to wait for long.
fn serve(mut open: Open, peer: Peer, waited: Option<Standby>) {
    open.unbegun = false;
    let connection = open.connection.clone();
    if waited.is_none()
        && let Some(policy) = connection.policy()
    {
        let until = coarse_now() + open.service.timeouts.header;
        if let Err(error) = read_proxy_header(&connection, policy, &peer, until) {
            return tell_of_arrival(&peer, &error);
        }
    }
    let left = conn::serve(&open.service, connection.clone(), peer, waited);
    if let Left::HandedOver(handover) = left {
        return hand_over(open, connection, peer, handover);
    }
    if let Left::Http2(opening) = left {
        return http2::serve(&open.service, &connection, peer, opening);
    }
    if let Left::Waits(wait) = left {
        connection.transport.unwatch();
        let refusals = open.refusals.clone();
        let unbegun = connection.entrust(|| {
            open.unbegun = true;
            let serve = move |_| serve(open, peer, Some(wait));
            let serving =
                named_for(peer).spawn_when_readable(connection.clone(), wait.until, serve);
            serving.expect(OWN_SIZE)
        });
        if let Some(coroutine) = unbegun {
            refusals.note(coroutine);
        }
    }
}

/// Those who are misconfigured are so for long.
static UNSERVED: LogLimit = LogLimit::new(1);

#[cold]
fn tell_of_arrival(peer: &Peer, error: &io::Error) {
    if error.kind() == io::ErrorKind::InvalidData {
        log_within!(UNSERVED, warn, "{peer} is trusted, and not served: {error}");
    } else {
        panics::catch(|| log::debug!("connection from {peer}: {error}"));
    }
}

/// Calls who takes the connection over. Neither buffers nor settings are kept for it meanwhile.
#[cold]
fn hand_over(mut open: Open, connection: Arc<Connection>, peer: Peer, handover: Handover) {
    let Handover {
        takeover,
        protocol,
        ahead,
    } = handover;
    let Some(seat) = open.seat.take() else {
        return;
    };
    connection.hand_over();
    // Who has it closes it by dropping it.
    drop(open);
    let upgraded = Upgraded::new(connection, peer, seat, protocol, ahead);
    if let Err(panic) = catch_unwind(AssertUnwindSafe(|| takeover(upgraded))) {
        if !is_cancelled() {
            report_takeover_panic(&peer, &*panic);
        }
        panics::discard(panic);
    }
}

/// A connection's place in the registry, left whichever way the connection ends.
struct Open {
    service: Arc<Service>,
    refusals: Arc<Refusals>,
    connection: Arc<Connection>,
    /// Whether the coroutine that shall serve it next has yet to begin.
    unbegun: bool,
    /// Last: the server may end with its last connection.
    seat: Option<Seat>,
}

impl Drop for Open {
    fn drop(&mut self) {
        if self.unbegun
            && let Some(coroutine) = self.connection.disown()
        {
            self.refusals.note(coroutine);
        }
    }
}
