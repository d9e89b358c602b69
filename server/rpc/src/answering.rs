//! That each request is answered, once, however its method ends.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use maniple::{future::Poller, task};
use prost::Message;

use crate::{
    frame::{CallId, Kind, Parts, Response, TooLarge},
    link::Link,
    slot::{Outcome, Phase, Runner, Slot},
    status::{Code, Status},
};

/// What the calls of a server's connection share.
pub(crate) struct Calls {
    pub(crate) link: Link,
    /// Calls that are not answered.
    pub(crate) open: AtomicU32,
    /// Requests that were taken.
    pub(crate) taken: AtomicU64,
    /// Whether it is drained: the end of a call is news then.
    pub(crate) is_draining: AtomicBool,
    /// The client knows of that.
    pub(crate) has_heard: AtomicBool,
    /// What comes from now on is not looked at.
    pub(crate) is_finished: AtomicBool,
}

/// A request that is to be answered. One that is dropped before says what has become of its method.
pub(crate) struct Answering {
    calls: Arc<Calls>,
    slot: Arc<Slot>,
    id: CallId,
    /// Its method has begun.
    has_begun: bool,
    is_answered: bool,
}

impl Answering {
    pub(crate) fn new(calls: Arc<Calls>, slot: Arc<Slot>, id: CallId) -> Self {
        calls.open.fetch_add(1, Ordering::AcqRel);
        Self {
            calls,
            slot,
            id,
            has_begun: false,
            is_answered: false,
        }
    }

    /// Says who carries it out; false if it was given up before.
    pub(crate) fn begin(&mut self, runner: Runner) -> bool {
        let mut state = self.slot.state.lock();
        let is_open = matches!(state.phase, Phase::Open);
        if is_open {
            state.runner = Some(runner);
        }
        drop(state);
        self.has_begun = is_open;
        is_open
    }

    pub(crate) fn next(&self) -> io::Result<Option<Parts>> {
        self.slot.next(&self.calls.link, self.id)
    }

    pub(crate) fn send<M: Message>(
        &self,
        poller: &Poller,
        message: &M,
        attachment: &Bytes,
    ) -> Result<(), Status> {
        self.slot
            .send(&self.calls.link, self.id, poller, message, attachment)
    }

    pub(crate) fn answer(
        &mut self,
        code: u8,
        metadata: &[u8],
        attachment: &Bytes,
        message: impl FnOnce(&mut Vec<u8>),
    ) {
        self.is_answered = true;
        let head = (Kind::Response, 0, self.id);
        let sent = self.calls.link.send_in_turn(head, None, attachment, |out| {
            Response::write(out, code, metadata, message)?;
            self.free();
            Ok(())
        });
        match sent {
            Ok(Ok(())) => {}
            Ok(Err(TooLarge)) => {
                let text = "the answer is larger than the caller takes";
                self.send_status(&Status::new(Code::ResourceExhausted, text));
            }
            // Few bytes need not wait.
            Err(error) => self.send_status(&Status::of_io(&error)),
        }
        self.end();
    }

    pub(crate) fn fail(&mut self, status: &Status) {
        self.close();
        self.send_status(status);
        self.end();
    }

    fn send_status(&self, status: &Status) {
        // A failure is none that is called OK.
        let code = match status.code() {
            Code::Ok => Code::Unknown,
            code => code,
        } as u8;
        let metadata = status.metadata().as_bytes();
        let sent = self.send_response(code, metadata, status.details(), |out| {
            out.extend_from_slice(status.message().as_bytes());
        });
        if sent.is_err() {
            let message = status.message();
            let short = &message[..message.floor_char_boundary(400)];
            let _ = self.send_response(code, &[], &Bytes::new(), |out| {
                out.extend_from_slice(short.as_bytes());
            });
        }
    }

    fn send_response(
        &self,
        code: u8,
        metadata: &[u8],
        attachment: &Bytes,
        message: impl FnOnce(&mut Vec<u8>),
    ) -> Result<(), TooLarge> {
        let head = (Kind::Response, 0, self.id);
        self.calls.link.send(head, attachment, |out| {
            Response::write(out, code, metadata, message)?;
            self.free();
            Ok(())
        })
    }

    /// What comes for it from now on comes too late.
    fn close(&mut self) {
        self.is_answered = true;
        let mut state = self.slot.state.lock();
        state.phase = Phase::Done(Outcome::Lost {
            may_have_run: false,
        });
        (state.flow, state.runner) = (None, None);
    }

    /// The slot is the caller's again: as its answer is put among what is sent, since one that were free earlier could be
    /// used without end by who reads no answers.
    fn free(&self) {
        let mut state = self.slot.state.lock();
        state.phase = Phase::Free;
        state.runner = None;
        let flow = state.flow.take();
        drop(state);
        drop(flow);
    }

    fn end(&self) {
        let was = self.calls.open.fetch_sub(1, Ordering::AcqRel);
        if was == 1 && self.calls.is_draining.load(Ordering::Acquire) {
            self.calls.link.tell_keeper();
        }
    }
}

impl Drop for Answering {
    fn drop(&mut self) {
        if self.is_answered {
            return;
        }
        let was_given_up = matches!(self.slot.state.lock().phase, Phase::Abandoned);
        let status = match (was_given_up, self.has_begun) {
            (true, _) => Status::new(Code::Cancelled, "the call was given up"),
            (false, false) => Status::new(Code::ResourceExhausted, "no room for one more call"),
            (false, true) if task::panicking() => {
                Status::new(Code::Unknown, "the method has panicked")
            }
            (false, true) => Status::new(Code::Unknown, "the method has not answered"),
        };
        self.fail(&status);
    }
}
