//! A set of servers that follows the keys under a prefix: listed, then watched, then listed again.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::Duration,
};

use maniple::{
    JoinHandle, cancel, log_within,
    sync::channel::{Receiver, RecvTimeoutError, bounded},
    sync::oneshot,
    task, time,
};
use maniple_grpc::{Code, Status};
use maniple_parts::{
    endpoints::Endpoints,
    resilience::{Backoff, about},
};

use crate::{
    etcd::{Etcd, PAUSES, Session, TROUBLE, late},
    list::{List, MOST_KEYS},
    rpc::{
        RangeRequest, WatchCreateRequest, WatchProgressRequest, WatchRequest, WatchResponse,
        watch_request::RequestUnion,
    },
};

/// Keeps a set of servers as etcd has it, until it is dropped; made by [`Etcd::follow`].
#[derive(Debug)]
#[must_use = "nothing is followed any more once this is dropped"]
pub struct Following {
    follower: JoinHandle<()>,
    stats: Arc<Mutex<FollowStats>>,
}

/// How it goes with what follows; made by [`Following::stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct FollowStats {
    /// The member that is watched now; none while there is no watch.
    pub member: Option<String>,
    /// Why the list stays as it was, since it last could not be read, or had no servers; none while it is as etcd has it.
    pub fault: Option<String>,
    /// How often the list was read.
    pub lists: u64,
    /// How many changes a watch has told.
    pub changes: u64,
    /// How often a watch began behind what etcd still knew, and the list was read anew for it.
    pub compacted: u64,
    /// How often an attempt came to nothing, or a watch broke off.
    pub failures: u64,
}

impl Following {
    /// How it goes.
    pub fn stats(&self) -> FollowStats {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.clone()
    }
}

impl Drop for Following {
    fn drop(&mut self) {
        self.follower.cancel();
    }
}

impl Etcd {
    /// Keeps the list of `endpoints` as the keys under `prefix` are: a key for each server, whose value is a server as a
    /// [file](maniple_parts::endpoints::source::file) has it on a line, or empty, and then the rest of the key is its address.
    ///
    /// The keys are read, and then watched. They are read again when the watch breaks off, falls silent, has a member without a
    /// leader, or asks for what etcd has compacted away; from the next member, if it was this one's fault. Meanwhile, and while
    /// there is not one server in etcd, the list stays as it was: a registry that is down does not take the service along. A
    /// key whose value is no server is left out, and the log says so.
    ///
    /// Waits for the first list, for as long as each member may take; without one it goes on trying.
    ///
    /// # Errors
    /// If `prefix` does not end with a slash (`InvalidInput`), so that `/prices/` has nothing of `/prices-old/`; or if there is
    /// no stack for what follows.
    pub fn follow(
        &self,
        endpoints: &Endpoints,
        prefix: impl Into<String>,
    ) -> io::Result<Following> {
        let prefix = checked(prefix.into())?;
        let stats = Arc::default();
        let (first, came) = oneshot::channel();
        let mut follower = Follower {
            etcd: self.clone(),
            endpoints: endpoints.clone(),
            list: List::new(prefix),
            stats: Arc::clone(&stats),
            pauses: Backoff::new(PAUSES),
            first: Some(first),
            told: None,
        };
        let builder = task::Builder::new().name("etcd list").without_locals();
        let follower = builder.spawn(move || follower.run())?;
        let following = Following { follower, stats };
        // Who is cut short meanwhile has the list as it is by then.
        let _ = came.recv();
        Ok(following)
    }
}

/// A prefix that names a folder.
pub(crate) fn checked(prefix: String) -> io::Result<String> {
    match prefix.ends_with('/') {
        true => Ok(prefix),
        false => {
            let text = format!("\"{prefix}\" is no prefix: it must end with a slash");
            Err(io::Error::new(io::ErrorKind::InvalidInput, text))
        }
    }
}

struct Follower {
    etcd: Etcd,
    endpoints: Endpoints,
    list: List,
    stats: Arc<Mutex<FollowStats>>,
    pauses: Backoff,
    /// Told with the first list, or when no member had one.
    first: Option<oneshot::Sender<()>>,
    /// The fault that the log has last, which is not to be in it again and again.
    told: Option<String>,
}

/// Why a watch that had no fault is over.
enum Over {
    /// What it was to begin with is no longer known.
    Compacted,
    /// It is time to see whether the list is right.
    Due,
}

impl Follower {
    fn run(&mut self) {
        let mut failures = 0;
        while cancel::check().is_ok() {
            let failed = match self.etcd.session() {
                Ok(session) => {
                    let failed = self.follow_at(&session);
                    let text = format!("{}: {failed}", session.member);
                    self.note(|stats| stats.member = None);
                    text
                }
                Err(status) => status.to_string(),
            };
            if cancel::check().is_err() {
                return;
            }
            self.note(|stats| stats.failures += 1);
            self.tell(failed);
            failures += 1;
            if failures == self.etcd.members() {
                self.has_begun();
            }
            maniple::sleep(self.pauses.pause());
        }
    }

    fn has_begun(&mut self) {
        if let Some(first) = self.first.take() {
            let _ = first.send(());
        }
    }

    fn note(&self, change: impl FnOnce(&mut FollowStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn tell(&mut self, fault: String) {
        self.note(|stats| stats.fault = Some(fault.clone()));
        if self.told.as_ref() != Some(&fault) {
            let (name, prefix) = (self.endpoints.name(), self.list.prefix());
            log_within!(
                TROUBLE,
                warn,
                "{name}: the list from etcd ({prefix}) stays as it was: {fault}"
            );
            self.told = Some(fault);
        }
    }

    /// Lists and watches at one member until something goes wrong there.
    fn follow_at(&mut self, session: &Session) -> Status {
        loop {
            let revision = match self.read(session) {
                Ok(revision) => revision,
                Err(status) => return status,
            };
            match self.watch(session, revision) {
                Ok(Over::Compacted) => self.note(|stats| stats.compacted += 1),
                Ok(Over::Due) => {}
                Err(status) => return status,
            }
        }
    }

    /// Reads the list; the revision that it is of.
    fn read(&mut self, session: &Session) -> Result<i64, Status> {
        let request = RangeRequest {
            key: self.list.prefix().into(),
            range_end: self.list.range_end(),
            limit: MOST_KEYS,
        };
        let answer = session.ask(|| session.kv().range(&request))?.into_inner();
        if answer.more {
            let text = format!("there are more than {MOST_KEYS} keys");
            return Err(Status::new(Code::ResourceExhausted, text));
        }
        let Some(header) = answer.header else {
            return Err(Status::new(
                Code::Internal,
                "an answer without its revision",
            ));
        };
        self.list.replace(answer.kvs);
        self.note(|stats| stats.lists += 1);
        self.publish();
        self.has_begun();
        Ok(header.revision)
    }

    fn publish(&mut self) {
        let servers = self.list.servers();
        if servers.is_empty() {
            return self.tell("it has no servers".to_owned());
        }
        match self.endpoints.set(servers) {
            Ok(_) => {
                self.told = None;
                self.note(|stats| stats.fault = None);
            }
            Err(error) => self.tell(error.to_string()),
        }
    }

    fn watch(&mut self, session: &Session, revision: i64) -> Result<Over, Status> {
        // Without the time of an answer, which would be the time of the whole watch: its silence tells that it is lost.
        let (mut sending, replies) = session.watch().watch()?;
        let create = WatchCreateRequest {
            key: self.list.prefix().into(),
            range_end: self.list.range_end(),
            start_revision: revision.saturating_add(1),
        };
        let mut send = |request| {
            let request = WatchRequest {
                request_union: Some(request),
            };
            session.ask(|| sending.send(&request))
        };
        send(RequestUnion::CreateRequest(create))?;
        let (into, messages) = bounded(16);
        maniple::group(|g| {
            let reader = g.builder().name("etcd watch").spawn(move || {
                for reply in replies {
                    let is_last = reply.is_err();
                    if into.send(reply).is_err() || is_last {
                        return;
                    }
                }
            });
            let reader = reader.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            let over = self.heed(&session.member, &messages, || {
                send(RequestUnion::ProgressRequest(WatchProgressRequest {}))
            });
            drop(messages);
            reader.cancel();
            over
        })
    }

    /// Takes what a watch tells; `pulse` asks it for a sign of life.
    fn heed(
        &mut self,
        member: &str,
        messages: &Receiver<Result<WatchResponse, Status>>,
        mut pulse: impl FnMut() -> Result<(), Status>,
    ) -> Result<Over, Status> {
        let settings = Arc::clone(&self.etcd.shared);
        let until = time::now().checked_add(about(settings.relist));
        let left = || {
            until.map_or(Duration::MAX, |at| {
                at.saturating_duration_since(time::now())
            })
        };
        let mut has_asked = false;
        loop {
            match messages.recv_timeout((settings.silence / 2).min(left())) {
                Ok(reply) => {
                    has_asked = false;
                    let reply = reply?;
                    if reply.canceled {
                        return match reply.compact_revision {
                            0 => Err(Status::new(Code::Unavailable, reply.cancel_reason)),
                            _ => Ok(Over::Compacted),
                        };
                    }
                    if reply.created {
                        self.pauses.reset();
                        self.note(|stats| stats.member = Some(member.to_owned()));
                    }
                    if !reply.events.is_empty() {
                        let count = reply.events.len() as u64;
                        for event in reply.events {
                            self.list.change(event);
                        }
                        self.note(|stats| stats.changes += count);
                        self.publish();
                    }
                }
                Err(RecvTimeoutError::Timeout) if left().is_zero() => return Ok(Over::Due),
                Err(RecvTimeoutError::Timeout) if has_asked => {
                    return Err(late("the watch is silent"));
                }
                Err(RecvTimeoutError::Timeout) => {
                    pulse()?;
                    has_asked = true;
                }
                // The stream has ended, and not said why.
                Err(RecvTimeoutError::Disconnected) => {
                    return Err(Status::new(Code::Unavailable, "the watch has ended"));
                }
                Err(_) => return Err(Status::new(Code::Cancelled, "it was cancelled")),
            }
        }
    }
}
