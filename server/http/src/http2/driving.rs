//! The coroutine of a connection: it reads, writes and waits for all who make requests over it.

use std::{future::Future, io, pin::Pin, time::Duration};

use bytes::Bytes;
use h2::client::{Connection, SendRequest};
use maniple::{cancel, future::Poller, sync::oneshot, time::now};

use super::{heads::Bounded, keep_alive::Pings, load::Load, settings::LinkSettings};
use crate::transport::{Dialed, Polled};

/// What the first words came to.
pub(super) type Shaken = io::Result<SendRequest<Bytes>>;

/// Runs a connection until its end. It ends with the last who could make a request over it.
pub(super) fn drive(
    dialed: Dialed,
    settings: &LinkSettings,
    load: &Load,
    ready: oneshot::Sender<Shaken>,
) {
    let (wire, poller) = (Polled::new(dialed), Poller::new());
    let Some(mut connection) = shake_hands(&wire, &poller, settings, ready) else {
        return;
    };
    let interest = || wire.interest();
    let pings = settings.keep_alive.zip(connection.ping_pong());
    let mut pings = pings.map(|(settings, ping_pong)| Pings::new(settings, ping_pong));
    let ended = loop {
        let due = pings.as_ref().map(Pings::due);
        let idle = settings.idle_timeout;
        let idle = idle.and_then(|timeout| load.idle_until(timeout.max(LEAST_PAUSE)));
        let until = due.into_iter().chain(idle).min();
        let polled = poller.wait_beside(until, interest, |context| {
            let ended = Pin::new(&mut *connection).poll(context);
            match &mut pings {
                Some(pings) if ended.is_pending() => pings.poll(context).map_ok(|()| None),
                _ => ended.map(|ended| Ok(Some(ended))),
            }
        });
        match polled {
            Ok(Ok(Some(ended))) => break ended.map_err(|error| error.to_string()),
            Ok(Ok(None)) => {}
            Ok(Err(error)) => break Err(error.to_string()),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && cancel::check().is_ok() => {
                let is_idle = |timeout| load.close_if_idle(timeout);
                if settings.idle_timeout.is_some_and(is_idle) {
                    break Ok(());
                }
                let is_calling = load.requests() > 0;
                if pings
                    .as_mut()
                    .is_some_and(|pings| pings.is_late(is_calling))
                {
                    break Err("the server does not answer a PING".to_owned());
                }
            }
            // All that is under way ends with the connection.
            Err(error) => break Err(error.to_string()),
        }
    };
    if let Err(error) = ended {
        maniple::panics::catch(|| log::debug!("{}: {error}", settings.name));
    }
}

/// Tells `ready` what came of it. A frame of its own, and boxes, so that little is left on the stack of who waits for hours.
#[inline(never)]
fn shake_hands(
    wire: &Polled,
    poller: &Poller,
    settings: &LinkSettings,
    ready: oneshot::Sender<Shaken>,
) -> Option<Box<Connection<Bounded, Bytes>>> {
    let mut builder = h2::client::Builder::new();
    builder
        .enable_push(false)
        // Before the server has said how many it takes no more go than one: some end the connection over a second.
        .initial_max_send_streams(1)
        .initial_window_size(settings.stream_window)
        .initial_connection_window_size(settings.connection_window)
        .max_header_list_size(settings.max_head_bytes);
    let mut handshake = Box::pin(builder.handshake(Bounded::new(wire.clone())));
    let until = now().checked_add(settings.handshake_timeout.min(LONG));
    let interest = || wire.interest();
    let shaken = poller.wait_beside(until, interest, |context| handshake.as_mut().poll(context));
    let (told, connection) = match shaken {
        Ok(Ok((send, connection))) => (Ok(send), Some(Box::new(connection))),
        Ok(Err(error)) => (Err(io::Error::other(error)), None),
        Err(error) => (Err(error), None),
    };
    ready.send(told).ok().and(connection)
}

/// How often it is looked at the most whether the connection is idle.
const LEAST_PAUSE: Duration = Duration::from_millis(10);

/// In place of a time that never comes.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);
