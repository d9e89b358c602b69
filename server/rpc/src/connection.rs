//! A client's connection, which its calls share.

use std::{
    io,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    task::{Poll, Waker},
};

use bytes::Bytes;
use maniple::{future::Poller, log_limit::LogLimit, sync::Mutex};

use crate::{
    frame::{CallId, Fault, Frame, Goaway, Inlet, Kind, Response, TooLarge, read_window},
    link::{Link, Side},
    settings::Settings,
    slot::{Flow, Outcome, Phase, Slot},
    transport::Stream,
    waiters::Waiters,
};

pub(crate) struct Connection {
    pub(crate) link: Link,
    calls: Mutex<Calls>,
    /// It takes no new calls.
    is_leaving: AtomicBool,
    /// Calls that were answered.
    answered: AtomicU64,
    /// Requests that the server has looked at, if it has said so.
    taken: AtomicU64,
    /// Called once it takes no new calls.
    left: Box<dyn Fn() + Send + Sync>,
}

#[derive(Default)]
struct Calls {
    slots: Vec<Arc<Slot>>,
    free: Vec<u32>,
    /// Who waits for a slot.
    waiting: Waiters,
}

/// Why no call began.
pub(crate) enum NotBegun {
    /// The connection takes none any more.
    Leaving,
    TooLarge,
    Cut(io::Error),
}

/// A call that has begun. Dropping it gives the call up.
pub(crate) struct Open {
    pub(crate) connection: Arc<Connection>,
    pub(crate) slot: Arc<Slot>,
    pub(crate) id: CallId,
}

impl Connection {
    /// Says hello to a server.
    pub(crate) fn open(
        stream: Stream,
        settings: Settings,
        left: Box<dyn Fn() + Send + Sync>,
    ) -> io::Result<(Self, Inlet)> {
        let (link, inlet) = Link::open(stream, settings, Side::Client)?;
        if link.hello.max_calls == 0 {
            return Err(io::Error::other("a server that takes no calls"));
        }
        let connection = Self {
            link,
            calls: Mutex::new(Calls::default()),
            is_leaving: AtomicBool::new(false),
            answered: AtomicU64::new(0),
            taken: AtomicU64::new(Goaway::SOON),
            left,
        };
        Ok((connection, inlet))
    }

    /// Whether it takes no new calls.
    pub(crate) fn is_leaving(&self) -> bool {
        self.is_leaving.load(Ordering::Acquire)
    }

    /// Calls that the server has not answered.
    pub(crate) fn calls(&self) -> u32 {
        let calls = self.calls.lock();
        (calls.slots.len() - calls.free.len()) as u32
    }

    pub(crate) fn answered(&self) -> u64 {
        self.answered.load(Ordering::Relaxed)
    }

    /// Begins a call, once there is room for one.
    pub(crate) fn begin(
        self: &Arc<Self>,
        flags: u8,
        has_streams: bool,
        attachment: &Bytes,
        body: impl FnOnce(&mut Vec<u8>) -> Result<(), TooLarge>,
    ) -> Result<Open, NotBegun> {
        let (slot, id) = match self.try_acquire(has_streams, None)? {
            Some(acquired) => acquired,
            None => self.acquire(has_streams)?,
        };
        let open = Open {
            connection: self.clone(),
            slot,
            id,
        };
        let head = (Kind::Request, flags, id);
        let number = Some(&open.slot.number);
        let sent = self.link.send_in_turn(head, number, attachment, body);
        let error = match sent {
            Ok(Ok(())) => return Ok(open),
            Ok(Err(TooLarge)) => NotBegun::TooLarge,
            Err(error) => NotBegun::Cut(error),
        };
        // The server has not heard of it.
        open.slot.state.lock().phase = Phase::Done(Outcome::Lost {
            may_have_run: false,
        });
        Err(error)
    }

    #[cold]
    fn acquire(&self, has_streams: bool) -> Result<(Arc<Slot>, CallId), NotBegun> {
        let mut own = None;
        let acquired = Poller::new().wait(None, |context| {
            match self.try_acquire(has_streams, Some((&mut own, context.waker()))) {
                Ok(None) => Poll::Pending,
                Ok(Some(acquired)) => Poll::Ready(Ok(acquired)),
                Err(error) => Poll::Ready(Err(error)),
            }
        });
        match acquired {
            Ok(acquired) => acquired,
            Err(error) => {
                self.give_up(own.as_ref());
                Err(NotBegun::Cut(error))
            }
        }
    }

    /// Who waited for a slot does so no more. It may have been woken for one, which is another's then.
    fn give_up(&self, own: Option<&Waker>) {
        let mut calls = self.calls.lock();
        calls.waiting.leave(own);
        let waiting = match calls.free.is_empty() {
            true => None,
            false => calls.waiting.pop(),
        };
        drop(calls);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
    }

    fn try_acquire(
        &self,
        has_streams: bool,
        waiter: Option<(&mut Option<Waker>, &Waker)>,
    ) -> Result<Option<(Arc<Slot>, CallId)>, NotBegun> {
        let mut calls = self.calls.lock();
        if self.is_leaving() {
            return Err(NotBegun::Leaving);
        }
        let most = self.link.hello.max_calls.min(self.link.settings.max_calls);
        let index = match calls.free.pop() {
            Some(index) => index,
            None if calls.slots.len() < most.max(1) as usize => {
                calls.slots.push(Arc::new(Slot::new()));
                calls.slots.len() as u32 - 1
            }
            None => {
                if let Some((own, waker)) = waiter {
                    calls.waiting.join(own, waker);
                }
                return Ok(None);
            }
        };
        let slot = calls.slots[index as usize].clone();
        let mut state = slot.state.lock();
        state.serial = state.serial.wrapping_add(1);
        state.phase = Phase::Open;
        state.flow = match has_streams {
            true => Some(Flow::new(self.link.settings.window, self.link.hello.window)),
            false => None,
        };
        slot.number.store(0, Ordering::Release);
        let id = CallId {
            slot: index,
            serial: state.serial,
        };
        drop(state);
        Ok(Some((slot, id)))
    }

    /// A slot is free again.
    fn release(&self, index: u32) {
        let mut calls = self.calls.lock();
        calls.free.push(index);
        let waiting = calls.waiting.pop();
        let is_last = self.is_leaving() && calls.free.len() == calls.slots.len();
        drop(calls);
        if let Some(waiting) = waiting {
            waiting.wake();
        }
        if is_last {
            self.link.close();
        }
    }

    /// Reads until the connection ends, and tells all calls of its end.
    pub(crate) fn run(&self, mut inlet: Inlet) {
        let ending = Ending(self);
        let mut known = Vec::new();
        match self
            .link
            .read(&mut inlet, |frame| self.take(frame, &mut known), || false)
        {
            Ok(Ok(())) => {}
            Ok(Err(error)) if self.link.is_closed() => drop(error),
            Ok(Err(error)) => {
                maniple::panics::catch(|| log::debug!("RPC: {}: {error}", self.link));
            }
            Err(fault) => {
                static LIMIT: LogLimit = LogLimit::new(5);
                maniple::log_within!(LIMIT, warn, "RPC: {}: {}", self.link, fault.text);
                self.link.send_goaway(0, fault.reason, fault.text);
            }
        }
        drop(ending);
    }

    fn take(&self, frame: Frame, known: &mut Vec<Arc<Slot>>) -> Result<bool, Fault> {
        let Frame {
            kind,
            flags,
            call,
            body,
        } = frame;
        match kind {
            Kind::Response => {
                let response = Response::read(body)?;
                let slot = self.slot(call, known)?;
                let mut state = slot.state.lock();
                if state.serial != call.serial {
                    return Err(Fault::protocol(STRANGER));
                }
                match &state.phase {
                    Phase::Open => {
                        state.phase = Phase::Done(Outcome::Answered(response));
                        slot.wake(&mut state);
                        self.count_answer();
                        Ok(true)
                    }
                    Phase::Abandoned => {
                        state.phase = Phase::Free;
                        drop(state);
                        self.count_answer();
                        self.release(call.slot);
                        Ok(false)
                    }
                    Phase::Free | Phase::Done(_) => Err(Fault::protocol(STRANGER)),
                }
            }
            Kind::Message => {
                let slot = self.slot(call, known)?;
                slot.receive(call.serial, flags, body)?;
                Ok(true)
            }
            Kind::Window => {
                let bytes = read_window(&body)?;
                self.slot(call, known)?.widen(call.serial, bytes);
                Ok(true)
            }
            Kind::Ping => {
                self.link.send_pong(call, &body)?;
                Ok(false)
            }
            Kind::Pong => Ok(false),
            Kind::Goaway => {
                self.leave(&Goaway::read(&body)?);
                Ok(false)
            }
            Kind::Hello | Kind::Request | Kind::Cancel => {
                Err(Fault::protocol("a frame that a server does not send"))
            }
        }
    }

    fn count_answer(&self) {
        let answered = self.answered.load(Ordering::Relaxed);
        self.answered
            .store(answered.wrapping_add(1), Ordering::Relaxed);
    }

    fn slot<'a>(&self, call: CallId, known: &'a mut Vec<Arc<Slot>>) -> Result<&'a Slot, Fault> {
        let index = call.slot as usize;
        if index >= known.len() {
            let calls = self.calls.lock();
            known.extend(calls.slots[known.len()..].iter().cloned());
        }
        match known.get(index) {
            Some(slot) => Ok(slot),
            None => Err(Fault::protocol(STRANGER)),
        }
    }

    /// The server takes no more calls; of those that it has not looked at the callers are told.
    fn leave(&self, goaway: &Goaway) {
        if goaway.reason != 0 {
            static LIMIT: LogLimit = LogLimit::new(5);
            let Goaway { text, .. } = goaway;
            maniple::log_within!(LIMIT, warn, "RPC: {}: it says: {text}", self.link);
        }
        self.taken.fetch_min(goaway.taken, Ordering::AcqRel);
        let slots = self.stop();
        for slot in slots {
            if slot.number.load(Ordering::Acquire) > goaway.taken {
                lose(&slot, false);
            }
        }
        let calls = self.calls.lock();
        let is_idle = calls.free.len() == calls.slots.len();
        drop(calls);
        if is_idle {
            self.link.close();
        }
    }

    /// No new calls from now on.
    fn stop(&self) -> Vec<Arc<Slot>> {
        let mut calls = self.calls.lock();
        let was_leaving = self.is_leaving.swap(true, Ordering::AcqRel);
        let waiting = calls.waiting.take();
        let slots = calls.slots.clone();
        drop(calls);
        waiting.into_iter().for_each(Waker::wake);
        if !was_leaving {
            (self.left)();
        }
        slots
    }

    /// Ends it once nobody calls.
    pub(crate) fn retire(&self) {
        self.leave(&Goaway {
            taken: Goaway::SOON,
            reason: 0,
            text: String::new(),
        });
    }
}

const STRANGER: &str = "an answer to what was not asked";

/// Its caller is told, if one waits.
fn lose(slot: &Slot, may_have_run: bool) {
    let mut state = slot.state.lock();
    if matches!(state.phase, Phase::Open) {
        state.phase = Phase::Done(Outcome::Lost { may_have_run });
        slot.wake(&mut state);
    }
}

/// Whatever ends the reader ends the connection, and its calls.
struct Ending<'a>(&'a Connection);

impl Drop for Ending<'_> {
    fn drop(&mut self) {
        let Self(connection) = self;
        connection.link.close();
        // What has not left by now never does.
        let left = connection.link.requests_left();
        let seen = left.min(connection.taken.load(Ordering::Acquire));
        for slot in connection.stop() {
            let number = slot.number.load(Ordering::Acquire);
            lose(&slot, number != 0 && number <= seen);
        }
    }
}

impl Open {
    /// Waits for the end of the call.
    pub(crate) fn outcome(&self) -> io::Result<Outcome> {
        self.slot.poller.wait(None, |_| {
            let mut state = self.slot.state.lock();
            match &mut state.phase {
                Phase::Done(outcome) => {
                    let lost = Outcome::Lost {
                        may_have_run: false,
                    };
                    Poll::Ready(std::mem::replace(outcome, lost))
                }
                _ => Poll::Pending,
            }
        })
    }

    /// Tells the server that nobody waits.
    pub(crate) fn cancel(&self) {
        self.connection.link.send_short(Kind::Cancel, self.id, &[]);
    }
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut state = self.slot.state.lock();
        state.flow = None;
        match state.phase {
            Phase::Done(_) => {
                state.phase = Phase::Free;
                drop(state);
                self.connection.release(self.id.slot);
            }
            _ => {
                state.phase = Phase::Abandoned;
                drop(state);
                self.cancel();
            }
        }
    }
}
