//! A server's own place in the list: a key with a lease, kept for as long as the server wants it.

use std::{
    io,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, Instant},
};

use maniple::{
    JoinHandle, cancel, log_within,
    sync::{channel::after, oneshot},
    task, time,
};
use maniple_grpc::{Code, Status};
use maniple_parts::{endpoints::Endpoint, resilience::Backoff};

use crate::{
    etcd::{Etcd, PAUSES, Session, TROUBLE, late},
    follow::checked,
    rpc::{LeaseGrantRequest, LeaseKeepAliveRequest, LeaseRevokeRequest, PutRequest},
};

/// A place in a list, kept until this is [revoked](Self::revoke) or dropped; made by [`Etcd::register`].
///
/// Dropping it revokes in the background, if the runtime still runs. A process that dies keeps its place until the lease runs out.
#[derive(Debug)]
#[must_use = "the place is given up once this is dropped"]
pub struct Registration {
    /// Taken by who waits for its end.
    keeper: Option<JoinHandle<Result<(), Status>>>,
    stats: Arc<Mutex<RegistrationStats>>,
}

/// How it goes with a registration; made by [`Registration::stats`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct RegistrationStats {
    /// The lease of the place, as far as it is known to be there.
    pub lease: Option<i64>,
    /// Why the last attempt came to nothing; none once the lease was kept since.
    pub fault: Option<String>,
    /// How long etcd keeps the place without hearing of it: what was asked for, or more.
    pub ttl: Duration,
    /// How often the place was taken: once, and again after each lease that had run out.
    pub registered: u64,
    /// How often the lease was kept.
    pub kept: u64,
    /// How often an attempt came to nothing.
    pub failures: u64,
}

impl Registration {
    /// How it goes.
    pub fn stats(&self) -> RegistrationStats {
        let stats = self.stats.lock().unwrap_or_else(PoisonError::into_inner);
        stats.clone()
    }

    /// Whether the place is there, as far as is known.
    pub fn is_registered(&self) -> bool {
        self.stats().lease.is_some()
    }

    /// Gives the place up, and waits until it is gone from the list: the first step of a drain. Those who follow the list learn of
    /// it at once; those calls that were on their way then are still to be answered.
    ///
    /// # Errors
    /// If no member takes it. Then the place is there until the lease runs out.
    pub fn revoke(mut self) -> io::Result<()> {
        let Some(keeper) = self.keeper.take() else {
            return Ok(());
        };
        keeper.cancel();
        match keeper.join() {
            Ok(revoked) => revoked.map_err(io::Error::other),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

impl Drop for Registration {
    fn drop(&mut self) {
        if let Some(keeper) = &self.keeper {
            keeper.cancel();
        }
    }
}

impl Etcd {
    /// Puts a server into the list under `prefix`, at the key of its address, and keeps it there: by a lease of so long, rounded
    /// up to a second, which is renewed three times in that time.
    ///
    /// A lease that has run out (since the process stood still, or could not reach etcd) is taken anew. While etcd cannot be
    /// reached it goes on trying, and [`is_registered`](Registration::is_registered) tells. A key that somebody deletes stays
    /// deleted for as long as the lease is kept: that is how to take a server out by hand.
    ///
    /// Waits for the first attempt at each member; also without success there is a registration, which goes on trying.
    ///
    /// # Errors
    /// If `prefix` does not end with a slash or `ttl` is nothing or more than a day (`InvalidInput`), or if there is no stack for
    /// what keeps it.
    pub fn register(
        &self,
        prefix: impl Into<String>,
        server: impl Into<Endpoint>,
        ttl: Duration,
    ) -> io::Result<Registration> {
        let (prefix, server) = (checked(prefix.into())?, server.into());
        if ttl.is_zero() || ttl > LONGEST {
            let text = format!("a lease of {ttl:?}");
            return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
        }
        let seconds = ttl.as_secs() + u64::from(ttl.subsec_nanos() > 0);
        let stats = Arc::default();
        let (first, came) = oneshot::channel();
        let mut keeper = Keeper {
            etcd: self.clone(),
            key: format!("{prefix}{}", server.address()),
            value: server.to_string(),
            seconds: seconds as i64,
            lease: None,
            stats: Arc::clone(&stats),
            pauses: Backoff::new(PAUSES),
            first: Some(first),
        };
        let builder = task::Builder::new().name("etcd lease").without_locals();
        let keeper = builder.spawn(move || keeper.run())?;
        let registration = Registration {
            keeper: Some(keeper),
            stats,
        };
        let _ = came.recv();
        Ok(registration)
    }
}

/// A lease is at most so long.
const LONGEST: Duration = Duration::from_secs(24 * 60 * 60);

struct Keeper {
    etcd: Etcd,
    key: String,
    value: String,
    seconds: i64,
    lease: Option<Lease>,
    stats: Arc<Mutex<RegistrationStats>>,
    pauses: Backoff,
    /// Told with the first success, or when no member had one.
    first: Option<oneshot::Sender<()>>,
}

/// Sleeps, and returns when it is cut short: there is something to say at the end.
fn pause(time: Duration) -> Result<(), Status> {
    let slept = after(time).recv();
    slept
        .map(drop)
        .map_err(|error| Status::new(Code::Cancelled, error.to_string()))
}

#[derive(Clone, Copy)]
struct Lease {
    id: i64,
    ttl: Duration,
    /// When etcd takes it for run out, at the earliest; it counts from when it was asked, which is before.
    until: Instant,
    /// Whether the key is there with it.
    has_key: bool,
}

impl Keeper {
    fn run(&mut self) -> Result<(), Status> {
        let mut failures = 0;
        while cancel::check().is_ok() {
            let failed = match self.etcd.session() {
                Ok(session) => match self.keep_at(&session) {
                    Ok(never) => match never {},
                    Err(status) => format!("{}: {status}", session.member),
                },
                Err(status) => status.to_string(),
            };
            if cancel::check().is_err() {
                break;
            }
            self.note(|stats| {
                stats.failures += 1;
                stats.fault = Some(failed.clone());
            });
            let key = &self.key;
            log_within!(TROUBLE, warn, "etcd: {key} is not kept: {failed}");
            failures += 1;
            if failures == self.etcd.members() {
                self.has_begun();
            }
            // Never so long that a lease runs out over it.
            let left = self.lease.map(|lease| lease.ttl / 6);
            if pause(self.pauses.pause().min(left.unwrap_or(Duration::MAX))).is_err() {
                break;
            }
            if self.lease.is_some_and(|lease| lease.until <= time::now()) {
                self.lost();
            }
        }
        self.revoke()
    }

    fn has_begun(&mut self) {
        if let Some(first) = self.first.take() {
            let _ = first.send(());
        }
    }

    fn note(&self, change: impl FnOnce(&mut RegistrationStats)) {
        change(&mut self.stats.lock().unwrap_or_else(PoisonError::into_inner));
    }

    fn lost(&mut self) {
        self.lease = None;
        self.note(|stats| stats.lease = None);
    }

    /// Keeps the place over one connection until that fails.
    fn keep_at(&mut self, session: &Session) -> Result<std::convert::Infallible, Status> {
        loop {
            let lease = match self.lease {
                Some(lease) => lease,
                None => self.grant(session)?,
            };
            if !lease.has_key {
                self.put(session, lease)?;
            }
            self.renew(session)?;
            let key = &self.key;
            log_within!(
                TROUBLE,
                warn,
                "etcd: the lease of {key} has run out, it registers again"
            );
            self.lost();
            // Not at once, should they all be like this.
            pause(self.pauses.pause())?;
        }
    }

    fn grant(&mut self, session: &Session) -> Result<Lease, Status> {
        let request = LeaseGrantRequest { ttl: self.seconds };
        let asked = time::now();
        let answer = session.ask(|| session.lease().lease_grant(&request))?;
        let ttl = Duration::from_secs(u64::try_from(answer.ttl).unwrap_or_default()).min(LONGEST);
        if answer.id == 0 || ttl.is_zero() {
            return Err(Status::new(Code::Internal, "a lease of nothing"));
        }
        let lease = Lease {
            id: answer.id,
            ttl,
            until: asked + ttl,
            has_key: false,
        };
        self.lease = Some(lease);
        Ok(lease)
    }

    fn put(&mut self, session: &Session, lease: Lease) -> Result<(), Status> {
        let request = PutRequest {
            key: self.key.clone().into(),
            value: self.value.clone().into(),
            lease: lease.id,
        };
        match session.ask(|| session.kv().put(&request)) {
            Ok(_) => {
                self.lease = Some(Lease {
                    has_key: true,
                    ..lease
                });
                self.note(|stats| {
                    stats.lease = Some(lease.id);
                    stats.ttl = lease.ttl;
                    stats.registered += 1;
                });
                self.has_begun();
                Ok(())
            }
            Err(status) => {
                if status.code() == Code::NotFound {
                    // The lease has run out in between.
                    self.lost();
                }
                Err(status)
            }
        }
    }

    /// Renews the lease until it has run out, which is no error.
    fn renew(&mut self, session: &Session) -> Result<(), Status> {
        // Without the time of an answer, which would be the time of all renewals; each has its own below.
        let (mut sending, mut replies) = session.lease().lease_keep_alive()?;
        while let Some(lease) = &mut self.lease {
            let request = LeaseKeepAliveRequest { id: lease.id };
            let asked = time::now();
            // Of a member that answers nothing there must be time left for another.
            let patience = self.etcd.shared.patience.min(lease.ttl / 3);
            let answered = crate::etcd::within(patience, || {
                sending.send(&request)?;
                replies
                    .next()
                    .unwrap_or_else(|| Err(late("the stream has ended")))
            })?;
            match u64::try_from(answered.ttl) {
                Err(_) | Ok(0) => return Ok(()),
                Ok(seconds) => {
                    lease.ttl = Duration::from_secs(seconds).min(LONGEST);
                    lease.until = asked + lease.ttl;
                }
            }
            let time = lease.ttl / 3;
            self.pauses.reset();
            self.note(|stats| {
                stats.kept += 1;
                stats.fault = None;
            });
            pause(time)?;
        }
        Ok(())
    }

    /// The end: it was cancelled, and has still this to say.
    fn revoke(&mut self) -> Result<(), Status> {
        let Some(lease) = self.lease.take() else {
            return Ok(());
        };
        let etcd = &self.etcd;
        let each = etcd.shared.patience;
        let bound = each.saturating_mul(etcd.members() as u32 + 1);
        let mut outcome = Err(late("nobody took it"));
        let _ = cancel::shield_for(bound, || {
            for _ in 0..etcd.members() {
                let request = LeaseRevokeRequest { id: lease.id };
                let revoked = etcd.session().and_then(|session| {
                    session.ask(|| session.lease().lease_revoke(&request).map(drop))
                });
                outcome = match revoked {
                    // It had run out.
                    Err(status) if status.code() == Code::NotFound => Ok(()),
                    other => other,
                };
                if outcome.is_ok() {
                    break;
                }
            }
        });
        self.note(|stats| stats.lease = None);
        outcome
    }
}
