//! A recorded call that is made again, and its answer beside the recorded one.

use std::{
    collections::BTreeMap,
    hash::{DefaultHasher, Hash, Hasher},
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use bytes::Bytes;
use maniple::{
    cancel::CancelToken,
    future::Poller,
    sync::{Mutex, channel::Receiver},
};

use super::told::{Shared, TOLD};
use crate::{
    channel::Channel,
    connection::{NotBegun, Open},
    frame::{END, IDEMPOTENT, Kind, Parts, Request, Response, STREAM},
    metadata::Metadata,
    slot::Outcome,
    status::{Code, Status},
};

/// A recorded call that is made again.
pub(super) struct Replayed {
    pub(super) path: String,
    pub(super) connection: u32,
    pub(super) serial: u32,
    /// When it began, in the recording.
    pub(super) at: Duration,
    pub(super) began: Instant,
    pub(super) stop: CancelToken,
    pub(super) state: Mutex<State>,
}

#[derive(Default)]
pub(super) struct State {
    pub(super) open: Option<Arc<Open>>,
    /// What came, and what should; messages by their hashes.
    pub(super) came: Vec<u64>,
    pub(super) should: Vec<u64>,
    pub(super) end: Option<(Result<Response, Status>, Duration)>,
    pub(super) should_end: Option<(Response, Duration)>,
    /// Its caller has given it up, or not all of it is in the recording.
    pub(super) is_given_up: bool,
    pub(super) is_partial: bool,
    /// Messages of its answer may be missing.
    pub(super) has_gap: bool,
    pub(super) is_counted: bool,
}

/// What is sent behind a request.
pub(super) enum Sent {
    Message(Parts),
    End,
}

/// Counts a call as one under way; dropped, it has ended, and is compared if its answer was known before.
pub(super) struct Underway {
    pub(super) shared: Arc<Shared>,
    pub(super) call: Arc<Replayed>,
}

impl Underway {
    pub(super) fn of(shared: &Arc<Shared>, call: &Arc<Replayed>) -> Self {
        shared.underway.fetch_add(1, Ordering::AcqRel);
        Self {
            shared: shared.clone(),
            call: call.clone(),
        }
    }
}

impl Drop for Underway {
    fn drop(&mut self) {
        // In case that it never began.
        let cut = || Err(Status::new(Code::Cancelled, "the call was not made"));
        self.call.end(cut());
        self.call.compare(&self.shared);
        self.shared.underway.fetch_sub(1, Ordering::AcqRel);
        self.shared.news.notify_one();
    }
}

impl Replayed {
    /// Makes the call, and waits for its end.
    pub(super) fn make(
        &self,
        shared: &Shared,
        channel: &Channel,
        flags: u8,
        request: Request,
        sent: Option<Receiver<Sent>>,
    ) -> Result<Response, Status> {
        let flags = flags & (STREAM | IDEMPOTENT);
        let open = Arc::new(self.open(shared, channel, flags, &request)?);
        let mut state = self.state.lock();
        state.open = Some(open.clone());
        let was_given_up = state.is_given_up || state.is_partial;
        drop(state);
        if was_given_up {
            open.cancel();
        }
        // Not kept beyond the call.
        let _closing = Closing(self);
        maniple::group(|g| {
            let sending = sent.map(|sent| {
                let open = open.clone();
                g.spawn(move || send_all(&open, &sent))
            });
            let link = &open.connection.link;
            loop {
                match open.slot.next(link, open.id) {
                    Ok(Some(parts)) => {
                        self.state.lock().came.push(hash(&parts));
                        shared.news.notify_one();
                    }
                    Ok(None) => break,
                    Err(error) => return Err(Status::of_io(&error)),
                }
            }
            let outcome = open.outcome();
            // Nobody is to wait for messages that the recording has behind the answer.
            if let Some(sending) = sending {
                sending.cancel();
            }
            match outcome {
                Ok(Outcome::Answered(response)) => Ok(response),
                Ok(Outcome::Lost { .. }) => {
                    Err(Status::new(Code::Unavailable, "the connection was lost"))
                }
                Err(error) => Err(Status::of_io(&error)),
            }
        })
    }

    fn open(
        &self,
        shared: &Shared,
        channel: &Channel,
        flags: u8,
        request: &Request,
    ) -> Result<Open, Status> {
        let Request {
            timeout,
            method,
            parts,
        } = request;
        let method = std::str::from_utf8(method)
            .map_err(|_| Status::new(Code::Unimplemented, "the name of the method is no text"))?;
        loop {
            let connection = channel.usable().inspect_err(|status| {
                if status.code() == Code::Unavailable {
                    *shared.gone.lock() = Some(status.clone());
                }
            })?;
            let begun = connection.begin(flags, true, &parts.attachment, |out| {
                Request::write(out, *timeout, method, &parts.metadata, |out| {
                    out.extend_from_slice(&parts.message);
                })
            });
            match begun {
                Ok(open) => return Ok(open),
                Err(NotBegun::Leaving) => {}
                Err(NotBegun::TooLarge) => return Err(crate::frame::TooLarge.into()),
                Err(NotBegun::Cut(error)) => return Err(Status::of_io(&error)),
            }
        }
    }

    /// Tells the server that nobody waits, as the recorded caller did.
    pub(super) fn give_up(&self) {
        let open = self.state.lock().open.clone();
        if let Some(open) = open {
            open.cancel();
        }
    }

    pub(super) fn end(&self, end: Result<Response, Status>) {
        let took = maniple::time::now().saturating_duration_since(self.began);
        let mut state = self.state.lock();
        if state.end.is_none() {
            state.end = Some((end, took));
        }
    }

    pub(super) fn not_compared(&self, shared: &Shared) {
        let mut state = self.state.lock();
        if !std::mem::replace(&mut state.is_counted, true) {
            drop(state);
            shared.summary.lock().not_compared += 1;
        }
    }

    /// Compares, once both answers are there.
    pub(super) fn compare(&self, shared: &Shared) {
        let mut state = self.state.lock();
        if state.is_counted {
            return;
        }
        let State {
            end: Some((end, took)),
            should_end: Some((should_end, should_take)),
            came,
            should,
            ..
        } = &*state
        else {
            return;
        };
        let lacks_some = state.is_partial || (state.has_gap && !came.is_empty());
        let difference = match state.is_given_up || lacks_some {
            true => None,
            false => Some(difference(
                (end, came),
                (should_end, should),
                shared.settings.compares_metadata,
            )),
        };
        let times =
            [should_take, took].map(|time| u32::try_from(time.as_micros()).unwrap_or(u32::MAX));
        state.is_counted = true;
        (state.end, state.should_end) = (Some((Err(done()), Duration::ZERO)), None);
        drop(state);
        let mut summary = shared.summary.lock();
        let Some(difference) = difference else {
            summary.not_compared += 1;
            return;
        };
        summary.then.push(times[0]);
        summary.now.push(times[1]);
        let Some(difference) = difference else {
            summary.same += 1;
            return;
        };
        summary.different += 1;
        if summary.differences.len() < TOLD {
            let Self {
                path,
                connection,
                at,
                ..
            } = self;
            summary.differences.push(format!(
                "{path} at {at:?} on connection {connection}: {difference}"
            ));
        }
    }
}

fn done() -> Status {
    Status::new(Code::Ok, "")
}

/// Lets the call go, whose end is then known to its connection.
struct Closing<'a>(&'a Replayed);

impl Drop for Closing<'_> {
    fn drop(&mut self) {
        let open = self.0.state.lock().open.take();
        drop(open);
    }
}

fn send_all(open: &Open, sent: &Receiver<Sent>) {
    let poller = Poller::new();
    let Open {
        connection,
        slot,
        id,
    } = open;
    let link = &connection.link;
    // Without an end in the recording there is none here.
    while let Ok(sent) = sent.recv() {
        match sent {
            Sent::Message(Parts {
                message,
                attachment,
                ..
            }) => {
                let body = |out: &mut Vec<u8>| out.extend_from_slice(&message);
                let body = (message.len(), body);
                if slot
                    .send_bytes(link, *id, &poller, body, &attachment)
                    .is_err()
                {
                    return;
                }
            }
            Sent::End => {
                // It has no body, and fits.
                let _ = link.send((Kind::Message, END, *id), &Bytes::new(), |_| Ok(()));
                return;
            }
        }
    }
}

pub(super) fn hash(parts: &Parts) -> u64 {
    let mut hasher = DefaultHasher::new();
    (&parts.message[..], &parts.attachment[..]).hash(&mut hasher);
    hasher.finish()
}

/// In what an answer is another than it should be.
fn difference(
    (end, came): (&Result<Response, Status>, &[u64]),
    (should_end, should): (&Response, &[u64]),
    compares_metadata: bool,
) -> Option<String> {
    let response = match end {
        Ok(response) => response,
        Err(status) => return Some(format!("no answer: {status}")),
    };
    let told = |response: &Response| {
        let name = Code::from_number(response.code.into()).name();
        match response.code {
            0 => name.to_owned(),
            _ => format!(
                "{name} ({})",
                String::from_utf8_lossy(&response.parts.message)
            ),
        }
    };
    let (now, then) = (told(response), told(should_end));
    if now != then {
        return Some(format!("{now}, in the recording {then}"));
    }
    if came.len() != should.len() {
        let (now, then) = (came.len(), should.len());
        return Some(format!("{now} messages, in the recording {then}"));
    }
    if let Some(at) = came.iter().zip(should).position(|(now, then)| now != then) {
        return Some(format!("message {at} of {} is another", came.len()));
    }
    let (now, then) = (&response.parts, &should_end.parts);
    let bytes = [
        ("message", &now.message, &then.message),
        ("attachment", &now.attachment, &then.attachment),
    ];
    for (name, now, then) in bytes {
        if now != then {
            let at = now
                .iter()
                .zip(then.iter())
                .position(|(now, then)| now != then);
            let at = at.unwrap_or(now.len().min(then.len()));
            return Some(format!(
                "another {name}: {} bytes, in the recording {}, which differ from byte {at} on",
                now.len(),
                then.len()
            ));
        }
    }
    if compares_metadata && fields(&now.metadata) != fields(&then.metadata) {
        return Some("other metadata".to_owned());
    }
    None
}

/// In an order that is always the same.
fn fields(metadata: &Bytes) -> BTreeMap<(String, Vec<u8>), usize> {
    let mut fields = BTreeMap::new();
    for (name, value) in Metadata::read(metadata.clone()).unwrap_or_default().iter() {
        *fields
            .entry((name.to_owned(), value.to_owned()))
            .or_default() += 1;
    }
    fields
}
