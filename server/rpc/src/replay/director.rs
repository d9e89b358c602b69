//! Who reads a recording, and has its calls made in its order.

use std::{
    collections::HashMap,
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

use maniple::{
    cancel::CancelToken,
    sync::{
        Mutex,
        channel::{self, Sender},
    },
    task,
};

use super::{
    call::{Replayed, Sent, State, Underway, hash},
    told::{Error, Pace, Shared},
};
use crate::{
    channel::Channel,
    frame::{END, Frame, IDEMPOTENT, Kind, Request, Response, STREAM, read_message},
    recording::{Record, Way, What},
    status::{Code, Status},
};

/// A call that was begun, and where what its caller says goes, if it says more.
type Directed = (Arc<Replayed>, Option<Sender<Sent>>);

/// Reads the recording, and has things happen in its order.
pub(super) struct Director<'a> {
    pub(super) shared: &'a Arc<Shared>,
    pub(super) began: Instant,
    pub(super) channels: HashMap<u32, Channel>,
    /// By connection and slot.
    pub(super) calls: HashMap<(u32, u32), Directed>,
}

/// How long a connection may take to be there.
const CONNECTED: Duration = Duration::from_secs(10);

/// Messages of a stream that wait to be sent, behind which the recording is not read on.
const WAITING: usize = 64;

impl Director<'_> {
    pub(super) fn follow(&mut self, record: Record) -> Result<(), Error> {
        let connection = record.connection;
        match record.what {
            What::Frame(way, frame) => {
                let is_of_call = matches!(
                    frame.kind,
                    Kind::Request | Kind::Response | Kind::Message | Kind::Cancel
                );
                if is_of_call {
                    self.keep_pace(record.at)?;
                    self.pass(way, frame, connection, record.at)?;
                }
            }
            What::LeftOut(frames) => {
                self.shared.summary.lock().left_out += frames;
                // What was said in the calls that are under way may be among them.
                for (call, sending) in self.calls.values() {
                    let mut state = call.state.lock();
                    state.has_gap = true;
                    state.is_partial |= sending.is_some();
                    drop(state);
                    if sending.is_some() {
                        call.give_up();
                    }
                }
            }
            What::Ended => {
                self.channels.remove(&connection);
            }
            What::Begun { .. } | What::End => {}
        }
        Ok(())
    }

    fn keep_pace(&self, at: Duration) -> Result<(), Error> {
        if let Pace::Times(speed) = self.shared.settings.pace {
            let after = Duration::try_from_secs_f64(at.as_secs_f64() / speed);
            let due = after.ok().and_then(|after| self.began.checked_add(after));
            if let Some(due) = due {
                maniple::sleep_until(due);
            }
        }
        maniple::cancel::check().map_err(|cut| Error::Cut(cut.into()))?;
        match self.shared.gone.lock().take() {
            Some(status) => Err(Error::NoServer(status)),
            None => Ok(()),
        }
    }

    fn pass(&mut self, way: Way, frame: Frame, connection: u32, at: Duration) -> Result<(), Error> {
        let key = (connection, frame.call.slot);
        if (way, frame.kind) == (Way::ToServer, Kind::Request) {
            if let Some((before, _)) = self.calls.remove(&key) {
                // How it ended is not in the recording.
                before.not_compared(self.shared);
            }
            return self.begin(frame, connection, at);
        }
        let Some((call, sending)) = self.calls.get_mut(&key) else {
            return Ok(());
        };
        if call.serial != frame.call.serial {
            return Ok(());
        }
        match (way, frame.kind) {
            (Way::ToServer, Kind::Cancel) => {
                call.state.lock().is_given_up = true;
                call.give_up();
            }
            (Way::ToServer, Kind::Message) => {
                if let Some(sender) = sending {
                    let sent = match frame.flags & END {
                        0 => read_message(frame.body).map(Sent::Message),
                        _ => Ok(Sent::End),
                    };
                    let patience = self.shared.settings.patience;
                    // The call may be over.
                    let send = || drop(sent.map(|sent| sender.send(sent)));
                    if maniple::timeout(patience, send).is_err() {
                        call.stop.cancel();
                    }
                }
            }
            (Way::ToClient, Kind::Message) => {
                let Ok(parts) = read_message(frame.body) else {
                    return Ok(());
                };
                let mut state = call.state.lock();
                state.should.push(hash(&parts));
                let wanted = state.should.len();
                drop(state);
                let call = call.clone();
                self.wait_for(&call, |state| state.came.len() >= wanted);
            }
            (Way::ToClient, Kind::Response) => {
                let Ok(response) = Response::read(frame.body) else {
                    return Ok(());
                };
                if let Some((call, _)) = self.calls.remove(&key) {
                    call.state.lock().should_end = Some((response, at.saturating_sub(call.at)));
                    self.wait_for(&call, |_| false);
                    call.compare(self.shared);
                }
            }
            _ => {}
        }
        Ok(())
    }

    /// Where what follows may have followed from it: waits until the call has come so far, or has ended.
    fn wait_for(&self, call: &Replayed, has_come: impl Fn(&State) -> bool) {
        if self.shared.settings.pace != Pace::AsAnswered {
            return;
        }
        let is_there = || {
            let state = call.state.lock();
            state.end.is_some() || has_come(&state)
        };
        let waited = maniple::timeout(self.shared.settings.patience, || {
            while !is_there() {
                self.shared.news.notified();
            }
        });
        if waited.is_err() {
            call.stop.cancel();
            // Which it says at once.
            while call.state.lock().end.is_none() {
                self.shared.news.notified();
            }
        }
    }

    fn begin(&mut self, frame: Frame, connection: u32, at: Duration) -> Result<(), Error> {
        let Ok(request) = Request::read(frame.body) else {
            return Ok(());
        };
        let settings = &self.shared.settings;
        let path = String::from_utf8_lossy(&request.method).into_owned();
        let is_asked_for = (settings.only.is_empty() || settings.only.contains(&path))
            && (!settings.only_idempotent || frame.flags & IDEMPOTENT != 0);
        if !is_asked_for {
            self.shared.summary.lock().passed_over += 1;
            return Ok(());
        }
        let channel = match self.channels.get(&connection) {
            Some(channel) => channel.clone(),
            None => {
                let channel = Channel::builder(&self.shared.address)
                    .connect_timeout(settings.patience.min(CONNECTED))
                    .open()
                    .map_err(Error::Calls)?;
                channel.usable().map_err(Error::NoServer)?;
                self.channels.insert(connection, channel.clone());
                channel
            }
        };
        let call = Arc::new(Replayed {
            path,
            connection,
            serial: frame.call.serial,
            at,
            began: maniple::time::now(),
            stop: CancelToken::new(),
            state: Mutex::new(State::default()),
        });
        let (sender, sent) = match frame.flags & STREAM {
            0 => (None, None),
            _ => {
                let (sender, sent) = channel::bounded(WAITING);
                (Some(sender), Some(sent))
            }
        };
        self.shared.summary.lock().calls += 1;
        self.calls
            .insert((connection, frame.call.slot), (call.clone(), sender));
        let ending = Underway::of(self.shared, &call);
        let named = task::Builder::new().name("RPC replay");
        let begun = named.spawn(move || {
            let Underway { shared, call, .. } = &ending;
            let made = shared.stop.run(|| {
                call.stop
                    .run(|| call.make(shared, &channel, frame.flags, request, sent))
            });
            let cut = || Err(Status::new(Code::Cancelled, "no answer came"));
            let end = made.and_then(|made| made).unwrap_or_else(|_| cut());
            call.end(end);
            drop(ending);
        });
        begun.map(drop).map_err(Error::Calls)
    }

    /// Waits for the calls that are under way. Of those whose answers are not in the recording there may be no end.
    pub(super) fn end(mut self) -> Result<(), Error> {
        for (_, (call, _)) in std::mem::take(&mut self.calls) {
            call.not_compared(self.shared);
            call.stop.cancel();
        }
        let is_idle = || self.shared.underway.load(Ordering::Acquire) == 0;
        let wait = || {
            while !is_idle() {
                self.shared.news.notified();
            }
        };
        let waited = maniple::timeout(self.shared.settings.patience, wait);
        if waited.is_err() {
            self.shared.stop.cancel();
            wait();
        }
        maniple::cancel::check().map_err(|cut| Error::Cut(cut.into()))
    }
}
