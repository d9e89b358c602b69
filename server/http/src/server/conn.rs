//! One connection: the loop that reads requests, calls handlers and writes answers. Read this first.
//!
//! ```text
//!          ┌────────────────────────── nothing left to answer ◄───────────────┐
//!          ▼                                                                  │
//!   idle, no buffer ──readable──► borrow buffers ──► parse ──► handle ──► append answer
//!     │    ▲    │                     ▲                │ incomplete           │ more requests
//!     │    │    │ idle for 2 s        └── read ◄── flush answers              │ in the buffer:
//!     │    │    ▼                                      │ malformed            └► parse
//!     │    │  on standby, no coroutine                 ▼
//!     │    └──── readable      close ◄── lingering ◄── flush ◄── append error
//!     │ idle timeout, drain      ▲
//!     └──────────────────────────┘
//! ```
//!
//! A connection that is idle for long is given up by its coroutine, and so costs no stack; a new one serves
//! it once there is something to read. That one may be on another worker, so while some workers have more to
//! do than others, connections wait like that between any two requests.
//!
//! Requests that arrive together are answered by one write, unless a handler keeps the others waiting: see
//! [`out`](super::out).

use std::{io, rc::Rc, sync::Arc};

use maniple::{task::is_imbalanced, time::coarse_now};

use super::{
    buffers::Scratch,
    dialogue::{Dialogue, Flow},
    exchange::{Begun, Exchange},
    left::Left,
    lookout::Post,
    out::{Out, Patience},
    service::Service,
    standby::Standby,
    state::Connection,
};
use crate::transport::Peer;

/// Serves a connection until either side ends it, it is handed over, or it has to wait for the next request where no
/// coroutine should.
pub(crate) fn serve(
    service: &Arc<Service>,
    connection: Arc<Connection>,
    peer: Peer,
    waited: Option<Standby>,
) -> Left {
    // A first request is due as soon as a header is; later ones when the client has more to ask.
    let wait = waited.unwrap_or_else(|| {
        connection.transport.set_nodelay();
        let _ = connection
            .transport
            .set_write_timeout(Some(Patience::period(service.body_limits.stall)));
        Standby::of_new(service)
    });
    let is_rare = wait.is_long();
    let mut conn = Conn {
        post: Post::take(&connection, service.disconnects),
        rested: connection.has_rested(),
        stands_by: connection.transport.has_descriptor(),
        dialogue: Dialogue::new(
            service,
            Exchange::new(connection, peer, service.body_limits),
        ),
        out: None,
        wait,
    };
    let mut asked = conn.wait.requests();
    let mut flow = match waited {
        None => conn.turn(),
        Some(_) => conn.turn_after_standby(),
    };
    loop {
        match flow {
            Ok(Flow::Keep) => {
                // Empty lines ask for nothing, and earn no time.
                if conn.wait.requests() != asked {
                    asked = conn.wait.requests();
                    conn.wait.renew(service.timeouts.idle);
                }
                if (is_rare || is_imbalanced()) && conn.may_stand_by() {
                    return Left::Waits(conn.wait);
                }
                flow = conn.turn();
            }
            flow => return Left::by(flow, &mut conn.dialogue, conn.wait),
        }
    }
}

struct Conn<'a> {
    post: Post,
    dialogue: Dialogue<'a>,
    /// Whether it can be waited for without a coroutine.
    stands_by: bool,
    /// There while it is busy.
    out: Option<Rc<Out>>,
    /// When the next request must have begun.
    wait: Standby,
    /// Whether a first request has been waited for.
    rested: bool,
}

impl Drop for Conn<'_> {
    fn drop(&mut self) {
        // It unwinds: the courier is not to send for it any more.
        if let Some(out) = &self.out {
            out.clear();
        }
    }
}

impl Conn<'_> {
    /// Whether the connection can wait for its next request on standby, now that it has answered all.
    #[cold]
    fn may_stand_by(&self) -> bool {
        let connection = self.dialogue.exchange().connection();
        connection.rest();
        self.stands_by
            && !connection.transport.holds_input()
            && !self.dialogue.service.registry.is_draining()
    }

    /// Waits for requests and answers all that have come.
    #[inline]
    fn turn(&mut self) -> io::Result<Flow> {
        let connection = self.dialogue.exchange().connection();
        if self.rested {
            connection.rest();
            if self.dialogue.service.registry.is_draining() {
                // What arrived before is still answered; there is nothing more to wait for.
                self.dialogue.service.registry.end_idle(connection);
            }
        }
        let soon = self.wait.with_coroutine(self.stands_by);
        if let Err(error) = self.dialogue.exchange().await_readable(soon) {
            return match error.kind() {
                io::ErrorKind::TimedOut if self.wait.until <= soon => Ok(Flow::Close),
                io::ErrorKind::TimedOut => Ok(Flow::StandBy),
                _ => Err(error),
            };
        }
        self.read_and_answer(Exchange::fill)
    }

    /// The [`turn`](Self::turn) after a standby: there should be something to read, or it is too late for it.
    fn turn_after_standby(&mut self) -> io::Result<Flow> {
        match self.read_and_answer(Exchange::fill_with_what_is_there) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                match self.wait.until <= coarse_now() {
                    true => Ok(Flow::Close),
                    false => self.turn(),
                }
            }
            flow => flow,
        }
    }

    #[inline]
    fn read_and_answer(
        &mut self,
        read: impl FnOnce(&mut Exchange) -> io::Result<usize>,
    ) -> io::Result<Flow> {
        let (scratch, out) = Scratch::take();
        self.dialogue.exchange_mut().lend(scratch);
        self.post.begin(&out);
        let turn = out.busy.turn.get();
        self.dialogue.is_last = self.wait.is_last();
        self.out = Some(out);
        let flow = match read(self.dialogue.exchange_mut()) {
            Ok(0) => Ok(Flow::Close),
            Ok(_) => {
                self.dialogue.exchange().connection().work();
                self.rested = true;
                self.answer_all()
            }
            Err(error) => Err(error),
        };
        if let (Some(scratch), Some(out)) =
            (self.dialogue.exchange_mut().take_back(), self.out.take())
        {
            // Two for each request.
            let answered = u64::from(out.busy.turn.get().wrapping_sub(turn) / 2);
            self.wait.count(answered);
            scratch.put_back(out);
        }
        flow
    }

    #[inline]
    fn answer_all(&mut self) -> io::Result<Flow> {
        let mut deadline = None;
        let Self {
            dialogue,
            out,
            wait,
            ..
        } = self;
        let out = out.as_ref().expect("a busy connection has a buffer");
        let turn = out.busy.turn.get();
        loop {
            let scratch = dialogue.request.exchange.scratch_mut();
            match scratch.parse(&dialogue.service.limits) {
                Ok(true) => {
                    deadline = None;
                    match dialogue.exchange_mut().begin() {
                        Begun::AtOnce => {}
                        Begun::WhenAsked => dialogue.before_asking(out)?,
                        Begun::TooLong => {
                            if let Some(flow) = dialogue.begin_long(out)? {
                                return Ok(flow);
                            }
                        }
                    }
                    match dialogue.answer(out)? {
                        Flow::Keep => {}
                        flow => return Ok(flow),
                    }
                    let scratch = dialogue.exchange_mut().scratch_mut();
                    scratch.input.next_message();
                    if scratch.input.unused().is_empty() {
                        dialogue.way(out).flush()?;
                        return Ok(Flow::Keep);
                    }
                    dialogue.way(out).keep_back()?;
                    // What it was given may wait when it is dropped.
                    dialogue.exchange_mut().scratch_mut().forget_request();
                }
                Ok(false) => {
                    if scratch.input.drop_empty_lines() {
                        dialogue.way(out).flush()?;
                        return Ok(Flow::Keep);
                    }
                    let until = *deadline
                        .get_or_insert_with(|| coarse_now() + dialogue.service.timeouts.header);
                    if let Some(flow) = dialogue.complete_head(until, out)? {
                        return Ok(flow);
                    }
                }
                Err(reject) => {
                    let is_first = wait.requests() == dialogue.service.life.requests
                        && out.busy.turn.get() == turn;
                    return dialogue.switch_or_refuse(reject, is_first, out);
                }
            }
        }
    }
}
