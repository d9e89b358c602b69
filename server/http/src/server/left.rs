//! What becomes of a connection that its coroutine serves no more.

use std::io;

use http::StatusCode;
use maniple::panics;

use super::{
    dialogue::{Dialogue, Flow, Handover},
    ending::{linger, reset},
    http2::Opening,
    out::is_own_timeout,
    overrun::report_slow_reader,
    standby::Standby,
};
use crate::{middleware::Refused, transport::is_plain_http};

/// What becomes of a connection that a coroutine need not serve any more.
pub(crate) enum Left {
    Ended,
    /// It waits for the next request. What serves it on once there is something to read hands that in.
    Waits(Standby),
    HandedOver(Handover),
    /// HTTP/2 is spoken on it from now on.
    Http2(Opening),
}

impl Left {
    /// That of a connection which does not go on with another turn, ended as its last one says.
    pub(super) fn by(flow: io::Result<Flow>, dialogue: &mut Dialogue<'_>, wait: Standby) -> Self {
        let stall = dialogue.service.body_limits.stall;
        match flow {
            Ok(Flow::Keep | Flow::StandBy) => return Left::Waits(wait),
            Ok(Flow::HandOver) => {
                let handover = dialogue.take_handover();
                return handover.map_or(Left::Ended, Left::HandedOver);
            }
            Ok(Flow::Http2) => {
                return dialogue.take_opening().map_or(Left::Ended, Left::Http2);
            }
            Ok(Flow::Close) => {}
            Ok(Flow::Linger) => linger(dialogue.exchange().connection(), stall),
            Ok(Flow::Reset) => reset(dialogue.exchange().connection(), stall),
            Err(error) => {
                let peer = dialogue.exchange().peer();
                if is_own_timeout(&error) {
                    report_slow_reader(peer);
                }
                if is_plain_http(&error) {
                    let reason = "plain HTTP where TLS is spoken";
                    let refused = Refused::new(peer, StatusCode::BAD_REQUEST, reason, &[]);
                    dialogue.service.router.hear_of(&refused);
                }
                panics::catch(|| log::debug!("connection from {peer}: {error}"));
            }
        }
        Left::Ended
    }
}
