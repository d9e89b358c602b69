//! A request is answered over a link, if its server speaks HTTP/2, which the first connection to it shows.
//!
//! What a link did not take, or the server says that it did not look at, goes over the next: nothing has been done.

use std::sync::Arc;

use super::{
    call::Call,
    connection::Failed,
    error::ClientError,
    head::Outgoing,
    http2::{Asked, Bounds, Kept, Known, Origin},
    phase::Phase,
    pool::Given,
    reach::Speaks,
    servers::To,
    shared::Shared,
    source::Source,
};
use crate::{http1::reply::Reply, response::Body};

/// What came of it.
pub(super) enum Linked {
    Answer((Reply, Source)),
    /// The server speaks HTTP/1.1; with a connection that was made, or kept.
    Http1(Option<Given>),
}

/// What there is to a server.
enum Way {
    Link(Arc<Kept>),
    Http1(Option<Given>),
}

/// A request is made again after so many links that ended before they looked at it, or at any other. Those that answer others do
/// not count: where servers take few requests over each connection, many who wait get on from one to the next.
const MOST_GONE: usize = 8;

/// So often it is made again on one link, whose server refuses some and takes others.
const MOST_REFUSALS: usize = 3;

impl Shared {
    pub(super) fn exchange_by_link(
        &self,
        to: &To<'_>,
        call: &mut Option<Box<Call>>,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
    ) -> Result<Linked, Failed> {
        self.check(request).map_err(Failed::before)?;
        let origin = self.links.of(&to.origin);
        let bounds = Bounds {
            manner: &self.straight,
            timeout: self.timeout,
            queue: self.limits.queue,
        };
        let (mut gone, mut refusals, mut has_lost) = (Vec::new(), 0, false);
        loop {
            let way = self.way(&origin, to, request);
            let (kept, is_fresh) = match way {
                Ok((Way::Link(kept), is_fresh)) => (kept, is_fresh),
                Ok((Way::Http1(given), _)) => return Ok(Linked::Http1(given)),
                Err(error) => {
                    if let Some(call) = call.take() {
                        call.failed(&error);
                    }
                    return Err(Failed::before(error));
                }
            };
            let begun = Asked::begin(&kept, &to.origin, request, &bounds);
            let (failed, taken) = match begun {
                Err(failed) => (failed, call.take()),
                Ok(mut asked) => {
                    asked.call = call.take();
                    match asked.exchange(request, body) {
                        Ok(reply) => {
                            kept.answered();
                            let source = Source::Http2(Box::new(asked));
                            return Ok(Linked::Answer((reply, source)));
                        }
                        Err(failed) => (failed, asked.call.take()),
                    }
                }
            };
            let is_whole = body.is_some() || request.streamed.is_none();
            let is_open = kept.link.is_open();
            if !is_open {
                origin.forget(&kept);
            }
            let again = if failed.unsent {
                match is_open {
                    true => refusals += 1,
                    false => gone.push(kept),
                }
                gone.retain(|kept| !kept.is_of_use());
                gone.len() <= MOST_GONE && refusals <= MOST_REFUSALS
            } else {
                // The server closed it just before: nothing was lost that may not be repeated.
                let may_repeat = request.method.is_idempotent() && !is_fresh;
                failed.unheard && may_repeat && !std::mem::replace(&mut has_lost, true)
            };
            if again && is_whole {
                *call = taken;
                continue;
            }
            if let Some(call) = taken {
                call.failed(&failed.error);
            }
            return Err(failed);
        }
    }

    /// A link to that server, or that it speaks HTTP/1.1; and whether that was found out just now.
    fn way(
        &self,
        origin: &Arc<Origin>,
        to: &To<'_>,
        request: &Outgoing<'_>,
    ) -> Result<(Way, bool), ClientError> {
        if let Some(way) = self.known_way(origin) {
            return Ok((way, false));
        }
        let failures = origin.failures();
        let Ok(turn) = origin.connecting.acquire() else {
            return Err(ClientError::cut_short(&to.origin, Phase::Queue));
        };
        // Who has waited for an attempt that failed does not wait for another's.
        let _turn = (origin.failures() == failures).then_some(turn);
        if let Some(way) = self.known_way(origin) {
            return Ok((way, false));
        }
        if !self.pool.has_room(&to.origin) {
            self.links.close_idle();
        }
        let place = match self.obtain(to, request)? {
            Given::Leave(place) => place,
            kept => return Ok((Way::Http1(Some(kept)), true)),
        };
        let reached = self.reach_to(to, &request.url, Speaks::Http2);
        let (stream, forwards) = reached.inspect_err(|_| origin.failed())?;
        if !self.links.is_for(&stream) {
            origin.speaks_http1();
            let made = self.connection(to, stream, forwards, place);
            return Ok((Way::Http1(Some(Given::Kept(made))), true));
        }
        let opened = self.links.open(origin, stream, place);
        let kept = opened.map_err(|error| {
            origin.failed();
            ClientError::connect(&to.origin, error)
        })?;
        Ok((Way::Link(kept), true))
    }

    fn known_way(&self, origin: &Origin) -> Option<Way> {
        match self.links.now(origin) {
            Known::Nothing => None,
            Known::Http1 => Some(Way::Http1(None)),
            Known::Link(kept) => Some(Way::Link(kept)),
        }
    }
}
