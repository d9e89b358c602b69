//! A request over a link, and its answer as it comes.
//!
//! A body that is at hand is sent while the answer is waited for. One that is made meanwhile has a coroutine of its own for that:
//! see [`upload`](super::super::upload).

use std::{
    io,
    sync::Arc,
    time::{Duration, Instant},
};

use bytes::{Buf, Bytes};
use http::{HeaderMap, Response, StatusCode};
use maniple::{cancel::check, time::now};

use super::{
    head,
    links::Kept,
    ways::{Half, Way},
};
use crate::{
    client::{
        call::Call,
        connection::Failed,
        error::ClientError,
        head::Outgoing,
        manner::Manner,
        phase::Phase,
        upload::{Courier, Progress, Sender},
    },
    http1::reply::{Ending, Reply},
    http2::{Heard, LinkError, ReceiveHalf, SendHalf},
    response::Body,
};

/// A request over a link. Dropped before the end of its answer it is given up, and the link goes on.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) host: Arc<str>,
    /// The request, to the set of servers that this one was picked from.
    pub(crate) call: Option<Box<Call>>,
    manner: Arc<Manner>,
    /// How long each wait may take.
    timeout: Option<Duration>,
    began: Option<Instant>,
    left: Option<Instant>,
    half: Option<SendHalf>,
    /// What of a body at hand is still to be sent.
    rest: Bytes,
    /// Of a body that is made meanwhile.
    upload: Option<Upload>,
    receiving: ReceiveHalf,
    /// What of the answer's body has come and was not read.
    part: Bytes,
    has_heard: bool,
}

/// A body that is sent by others than who reads the answer.
#[derive(Debug)]
struct Upload {
    half: Half,
    progress: Arc<Progress>,
    _courier: Courier,
}

/// What a client has requests kept to.
pub(crate) struct Bounds<'a> {
    pub(crate) manner: &'a Arc<Manner>,
    pub(crate) timeout: Option<Duration>,
    /// How long a request may wait until the server lets it begin.
    pub(crate) queue: Option<Duration>,
}

/// A body of so many bytes is handed over at once, since the server has room for it as a rule.
const AT_ONCE: usize = 64 * 1024 - 1;

impl Asked {
    /// Sends the head of a request.
    pub(crate) fn begin(
        kept: &Kept,
        host: &str,
        request: &Outgoing<'_>,
        bounds: &Bounds<'_>,
    ) -> Result<Self, Failed> {
        let manner = bounds.manner.clone();
        let head = head::of_request(request, &manner).map_err(Failed::before)?;
        let is_whole = request.streamed.is_none() && request.body.is_empty();
        let begun = kept.link.request(head, is_whole);
        let (half, receiving) = begun.map_err(|error| Failed {
            // Nothing has left, but what the link does not take is taken by none.
            unsent: !kept.link.is_open(),
            unheard: false,
            error: told(host, Phase::Send, error),
        })?;
        let mut asked = Self {
            host: host.into(),
            call: None,
            timeout: bounds.timeout,
            began: manner.bounds_phases().then(now),
            left: None,
            manner,
            half: (!is_whole).then_some(half),
            rest: Bytes::new(),
            upload: None,
            receiving,
            part: Bytes::new(),
            has_heard: false,
        };
        if let Some(limit) = bounds.queue {
            asked.await_turn(now().checked_add(limit))?;
        } else if request.streamed.is_some() {
            // What is made now cannot be made again: not before it can be sent.
            asked.await_turn(None)?;
        }
        Ok(asked)
    }

    fn await_turn(&mut self, until: Option<Instant>) -> Result<(), Failed> {
        let turn = self.receiving.turn(until);
        turn.map_err(|error| self.failed(error))
    }

    /// Sends the body, and waits for the head of the final answer. That may come before all has been sent. A body that is made
    /// meanwhile is taken out of `body` once the server may have it.
    pub(crate) fn exchange(
        &mut self,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
    ) -> Result<Reply, Failed> {
        if let Some(patience) = request.expect {
            let until = now().checked_add(patience);
            if let Some(reply) = self.hear(until)? {
                return Ok(reply);
            }
        }
        self.send_body(request, body)?;
        loop {
            if let Some(reply) = self.hear(None)? {
                return Ok(reply);
            }
        }
    }

    fn send_body(&mut self, request: &Outgoing<'_>, body: &mut Option<Body>) -> Result<(), Failed> {
        let Some(mut half) = self.half.take() else {
            return Ok(());
        };
        if let Some(length) = request.streamed {
            let half = Half::new(half, self.receiving.waker());
            let sender = Sender::over(Way::new(half.clone()), length);
            let progress = sender.progress();
            let made = body.take().map(|body| body.kind);
            let courier = match made {
                Some(made) => Courier::send(sender, made),
                None => Err(io::Error::other("the body was taken before")),
            };
            let courier = courier.map_err(|error| Failed {
                error: ClientError::io(&self.host, Phase::Send, error),
                unheard: false,
                unsent: false,
            })?;
            self.upload = Some(Upload {
                half,
                progress,
                _courier: courier,
            });
            return Ok(());
        }
        if request.body.len() <= AT_ONCE && self.began.is_none() {
            let put = half.put(request.body.clone(), true);
            // What has ended is told with the answer.
            drop(put);
        } else {
            self.rest = request.body.clone();
        }
        self.half = Some(half);
        Ok(())
    }

    /// Hears heads up to the final answer's. With a time, also up to that, and to `100 Continue`.
    fn hear(&mut self, patience: Option<Instant>) -> Result<Option<Reply>, Failed> {
        loop {
            let is_going = self.is_going();
            let until = self.until(is_going);
            let wait_until = until.into_iter().chain(patience).min();
            let sending = match (&mut self.half, self.rest.is_empty()) {
                (Some(half), false) => Some((half, &mut self.rest)),
                _ => None,
            };
            match self.receiving.hear(wait_until, sending) {
                Ok(Heard::SentAll) => {}
                Ok(Heard::Head(head)) => return self.final_of(head).map(Some),
                Ok(Heard::Interim(head)) => {
                    self.has_heard = true;
                    let (head, ()) = head.into_parts();
                    if head.status == StatusCode::SWITCHING_PROTOCOLS {
                        return Err(self.malformed("101 over HTTP/2"));
                    }
                    if patience.is_some() && head.status == StatusCode::CONTINUE {
                        return Ok(None);
                    }
                }
                Err(LinkError::Cut(error)) if error.kind() == io::ErrorKind::TimedOut => {
                    let is_past = |until: Option<Instant>| until.is_some_and(|at| now() >= at);
                    let is_own = check().is_ok() && is_past(wait_until);
                    if is_own && is_past(patience) && !is_past(until) {
                        return Ok(None);
                    }
                    // Its body may have left meanwhile, and the answer has its time from then on.
                    let has_left = is_going && !self.is_going();
                    let may_send = is_going && !is_past(self.send_until()) && !self.is_idle();
                    if !(is_own && (has_left || may_send)) {
                        return Err(self.failed(LinkError::Cut(error)));
                    }
                }
                Err(error) => return Err(self.failed(error)),
            }
        }
    }

    /// When what is waited for must have come.
    fn until(&mut self, is_going: bool) -> Option<Instant> {
        let wait = self.timeout.and_then(|limit| now().checked_add(limit));
        if self.began.is_none() {
            return wait;
        }
        let answer = self.manner.answer;
        let phase = if is_going {
            // It may have left by the time that the answer has at least.
            let at_least = answer.and_then(|answer| now().checked_add(answer));
            let at_least = at_least.filter(|_| self.upload.is_some());
            self.send_until().into_iter().chain(at_least).min()
        } else {
            let ended = self.upload.as_ref().and_then(|up| up.progress.ended());
            let left = *self.left.get_or_insert_with(|| ended.unwrap_or_else(now));
            answer.and_then(|answer| left.checked_add(answer))
        };
        wait.into_iter().chain(phase).min()
    }

    fn send_until(&self) -> Option<Instant> {
        self.began?.checked_add(self.manner.send?)
    }

    /// Whether a wait took as long as each may.
    fn is_idle(&self) -> bool {
        self.timeout.is_some() && self.manner.answer.is_none()
    }

    fn is_going(&self) -> bool {
        let is_going = |upload: &Upload| upload.progress.is_going();
        !self.rest.is_empty() || self.upload.as_ref().is_some_and(is_going)
    }

    fn final_of(&mut self, head: Response<()>) -> Result<Reply, Failed> {
        let (head, ()) = head.into_parts();
        if let Some(half) = &mut self.half
            && !self.rest.is_empty()
        {
            // The rest goes as the server takes it.
            let put = half.put(std::mem::take(&mut self.rest), true);
            // What has ended takes none.
            drop(put);
        }
        if let Some(call) = &mut self.call {
            call.answered(head.status);
        }
        Ok(Reply {
            status: head.status,
            headers: head.headers,
            ending: match self.receiving.is_over() {
                true => Ending::Done,
                false => Ending::Close,
            },
            keep_alive: false,
        })
    }

    /// Reads some of the answer's body; 0 at its end.
    pub(crate) fn read(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        while self.part.is_empty() {
            let part = match self.timeout {
                Some(limit) => maniple::timeout(limit, || self.receiving.part())
                    .unwrap_or_else(|_| Err(LinkError::Cut(io::ErrorKind::TimedOut.into()))),
                None => self.receiving.part(),
            };
            match part {
                Ok(Some(part)) => self.part = part,
                Ok(None) => return Ok(0),
                Err(error) => return Err(self.told(Phase::Body, error)),
            }
        }
        let count = self.part.len().min(buffer.len());
        self.part.copy_to_slice(&mut buffer[..count]);
        Ok(count)
    }

    /// The fields behind the body, at its end.
    pub(crate) fn trailers(&mut self) -> Result<HeaderMap, ClientError> {
        let trailers = self.receiving.trailers();
        trailers.map_err(|error| self.told(Phase::Body, error))
    }

    fn phase(&mut self) -> Phase {
        match () {
            () if !self.receiving.has_begun() => Phase::Queue,
            () if self.is_going() => Phase::Send,
            () => Phase::Answer,
        }
    }

    fn failed(&mut self, error: LinkError) -> Failed {
        let unsent = error.is_unseen();
        let is_broken = error.broken().is_some();
        let phase = self.phase();
        let error = self.told(phase, error);
        Failed {
            unheard: is_broken && !self.has_heard && matches!(error, ClientError::Io { .. }),
            unsent,
            error,
        }
    }

    fn told(&self, phase: Phase, error: LinkError) -> ClientError {
        let is_cut = matches!(error, LinkError::Cut(_));
        let upload = self.upload.as_ref().filter(|_| !is_cut);
        // Who makes the body may have ended it.
        match upload.and_then(|upload| upload.progress.reason()) {
            Some(reason) => ClientError::io(&self.host, phase, reason),
            None => told(&self.host, phase, error),
        }
    }

    fn malformed(&self, reason: &str) -> Failed {
        Failed {
            error: ClientError::protocol(&self.host, reason),
            unheard: false,
            unsent: false,
        }
    }
}

impl Drop for Upload {
    /// Whatever its maker does meanwhile, the server sees the end.
    fn drop(&mut self) {
        if self.progress.is_going() {
            self.half.give_up();
        }
    }
}

/// What an error of a link means.
fn told(host: &str, phase: Phase, error: LinkError) -> ClientError {
    match error {
        LinkError::Cut(error) => ClientError::io(host, phase, error),
        LinkError::Ended(error) if error.is_library() => {
            ClientError::protocol(host, error.to_string())
        }
        LinkError::Interim => ClientError::protocol(host, error.to_string()),
        error => {
            let kind = match error.broken() {
                Some(broken) => broken.kind(),
                None => io::ErrorKind::ConnectionReset,
            };
            ClientError::Io {
                host: host.to_owned(),
                phase,
                error: io::Error::new(kind, error),
            }
        }
    }
}
