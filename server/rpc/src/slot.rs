//! A call as the ends of its connection see it: whether it is open, and its streams with their windows.

use std::{
    collections::VecDeque,
    io,
    sync::atomic::AtomicU64,
    task::{Poll, Waker},
};

use bytes::Bytes;
use maniple::{future::Poller, sync::Mutex};
use prost::Message;

use crate::{
    frame::{self, CallId, END, Fault, Kind, Parts, Response},
    link::Link,
    rare::rarely,
    status::{Code, Status},
};

/// One of the calls that a connection has room for. It is used again, with another serial number.
pub(crate) struct Slot {
    /// Which request of its connection it was; 0 before that is known.
    pub(crate) number: AtomicU64,
    /// By which its messages, and its end, are waited for.
    pub(crate) poller: Poller,
    pub(crate) state: Mutex<State>,
}

#[derive(Default)]
pub(crate) struct State {
    pub(crate) serial: u32,
    pub(crate) phase: Phase,
    pub(crate) flow: Option<Box<Flow>>,
    /// Who waits for room in the peer's window.
    writer: Option<Waker>,
    /// Who carries it out, at a server.
    pub(crate) runner: Option<Runner>,
}

/// A coroutine that carries calls out, one after the other. It is cancelled only with the state of a call locked that has it
/// as its runner, so that it has not gone on to another.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Runner(pub(crate) u32);

#[derive(Debug, Default)]
pub(crate) enum Phase {
    /// Nobody's.
    #[default]
    Free,
    Open,
    /// It has ended, and who made it does not know yet.
    Done(Outcome),
    /// Nobody waits for it any more, but the peer has not answered.
    Abandoned,
}

/// What a call came to.
#[derive(Debug)]
pub(crate) enum Outcome {
    Answered(Response),
    /// Its connection has gone. `may_have_run`: whether the server may have looked at it.
    Lost {
        may_have_run: bool,
    },
}

/// The streams of a call.
#[derive(Debug)]
pub(crate) struct Flow {
    incoming: VecDeque<(Parts, u32)>,
    is_ended: bool,
    /// What the peer may still send, before it is granted more.
    allowance: i64,
    /// What was taken and not yet granted anew.
    taken: u32,
    whole: u32,
    /// What may still be sent to the peer.
    window: i64,
}

impl Flow {
    /// By the windows of this end and of the peer.
    pub(crate) fn new(ours: u32, theirs: u32) -> Box<Self> {
        Box::new(Self {
            incoming: VecDeque::new(),
            is_ended: false,
            allowance: ours.into(),
            taken: 0,
            whole: ours,
            window: theirs.into(),
        })
    }
}

impl Slot {
    pub(crate) fn new() -> Self {
        Self {
            number: AtomicU64::new(0),
            poller: Poller::new(),
            state: Mutex::new(State::default()),
        }
    }

    /// Wakes all who wait for it.
    pub(crate) fn wake(&self, state: &mut State) {
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
        self.poller.waker().wake_by_ref();
    }

    /// A message has come for the call, or the end of them.
    pub(crate) fn receive(&self, serial: u32, flags: u8, body: Bytes) -> Result<(), Fault> {
        let size = body.len() as u32;
        let mut state = self.state.lock();
        if state.serial != serial || !matches!(state.phase, Phase::Open) {
            // It has ended here meanwhile.
            return Ok(());
        }
        let Some(flow) = &mut state.flow else {
            return Err(Fault::protocol("a message for a call without streams"));
        };
        if flow.is_ended {
            return Err(Fault::protocol("a message behind the last"));
        }
        if flags & END != 0 {
            flow.is_ended = true;
        } else {
            if flow.allowance <= 0 {
                return Err(Fault::protocol("a message beyond the window"));
            }
            // Small ones do not keep the memory of all that came with them.
            let parts = match size {
                0..1024 => frame::read_message(Bytes::copy_from_slice(&body))?,
                _ => frame::read_message(body)?,
            };
            // Messages without bytes would have no bound.
            let size = size.max(LEAST);
            flow.allowance -= i64::from(size);
            flow.incoming.push_back((parts, size));
        }
        drop(state);
        self.poller.waker().wake_by_ref();
        Ok(())
    }

    /// The peer takes so much more.
    pub(crate) fn widen(&self, serial: u32, bytes: u32) {
        let mut state = self.state.lock();
        if state.serial != serial {
            return;
        }
        if let Some(flow) = &mut state.flow {
            flow.window = flow.window.saturating_add(bytes.into());
        }
        if let Some(writer) = state.writer.take() {
            writer.wake();
        }
    }

    /// Waits for the next message; none behind the last, or once the call has ended.
    pub(crate) fn next(&self, link: &Link, call: CallId) -> io::Result<Option<Parts>> {
        let mut grant = 0;
        let next = self.poller.wait(None, |_| {
            let mut state = self.state.lock();
            if matches!(state.phase, Phase::Abandoned) {
                return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
            }
            let is_open = matches!(state.phase, Phase::Open);
            let Some(flow) = &mut state.flow else {
                return Poll::Ready(Ok(None));
            };
            match flow.incoming.pop_front() {
                Some((parts, size)) => {
                    flow.taken = flow.taken.saturating_add(size);
                    let is_much =
                        flow.taken >= flow.whole / 2 || rarely!("room is granted for each message");
                    if is_much && is_open && !flow.is_ended {
                        grant = std::mem::take(&mut flow.taken);
                        flow.allowance = flow.allowance.saturating_add(grant.into());
                    }
                    Poll::Ready(Ok(Some(parts)))
                }
                None if flow.is_ended || !is_open => Poll::Ready(Ok(None)),
                None => Poll::Pending,
            }
        });
        let next: io::Result<_> = next?;
        if grant > 0 {
            link.send_short(Kind::Window, call, &grant.to_be_bytes());
        }
        next
    }

    /// Waits until the peer takes more, and sends a message.
    pub(crate) fn send<M: Message>(
        &self,
        link: &Link,
        call: CallId,
        poller: &Poller,
        message: &M,
        attachment: &Bytes,
    ) -> Result<(), Status> {
        let body = |out: &mut Vec<u8>| encode(message, out);
        self.send_bytes(
            link,
            call,
            poller,
            (message.encoded_len(), body),
            attachment,
        )
    }

    /// The same with a message of so many bytes, which `body` appends.
    pub(crate) fn send_bytes(
        &self,
        link: &Link,
        call: CallId,
        poller: &Poller,
        (length, body): (usize, impl FnOnce(&mut Vec<u8>)),
        attachment: &Bytes,
    ) -> Result<(), Status> {
        let size = length.saturating_add(attachment.len()).saturating_add(4);
        let size = i64::try_from(size).unwrap_or(i64::MAX).max(LEAST.into());
        let is_open = poller.wait(None, |context| {
            let mut state = self.state.lock();
            if state.serial != call.serial || !matches!(state.phase, Phase::Open) {
                return Poll::Ready(false);
            }
            let Some(flow) = &mut state.flow else {
                return Poll::Ready(false);
            };
            if flow.window > 0 {
                flow.window = flow.window.saturating_sub(size);
                return Poll::Ready(true);
            }
            state.writer = Some(context.waker().clone());
            Poll::Pending
        });
        if !is_open.map_err(|error| Status::of_io(&error))? {
            return Err(Status::new(Code::Cancelled, "the call has ended"));
        }
        let sent = link.send_in_turn((Kind::Message, 0, call), None, attachment, |out| {
            frame::write_stream_message(out, body)
        });
        sent.map_err(|error| Status::of_io(&error))?
            .map_err(Status::from)
    }
}

/// What a message counts at least.
const LEAST: u32 = 64;

pub(crate) fn encode<M: Message>(message: &M, out: &mut Vec<u8>) {
    // A vector has room for all.
    let _ = message.encode(out);
}
