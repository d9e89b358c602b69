//! A request is answered: by the host of its URL, or by one of the servers that are the service of that name.
//!
//! ```text
//!   exchange ──► exchange_at                         the host of the URL
//!       │
//!       └─ a service ──► Retry ──► Hedger ──► pick a server ──► exchange_at       again at another, if that is safe
//! ```

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use http::{Method, StatusCode};
use maniple_parts::endpoints::Want;

use super::{
    call::Call,
    connection::{Connection, Failed, OnInterim},
    error::ClientError,
    head::Outgoing,
    phase::Phase,
    place::Place,
    pool::Given,
    reach::Speaks,
    response::ClientResponse,
    servers::{Service, To},
    shared::Shared,
    source::Source,
    upload::Sender,
    url::Url,
};
use crate::{http1::reply::Reply, response::Body, transport::Transport};

type Answer = (Reply, Source);

/// Why an attempt has no answer that is good enough.
struct Missed {
    error: ClientError,
    /// Another server may be asked.
    again: bool,
}

impl Shared {
    pub(super) fn exchange(
        self: &Arc<Self>,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
        on_interim: Option<OnInterim<'_>>,
    ) -> Result<Answer, ClientError> {
        if let Some(service) = self.services.of(&request.url) {
            return self.exchange_with(service, request, body, on_interim);
        }
        let to = To::host_of(&request.url);
        let answer = self.exchange_at(&to, None, request, body, on_interim);
        answer.map_err(|failed| failed.error)
    }

    /// Sends the head of a request whose body the caller sends.
    pub(super) fn begin(
        &self,
        request: &Outgoing<'_>,
    ) -> Result<(Box<Connection>, Sender), ClientError> {
        let Some(service) = self.services.of(&request.url) else {
            let to = To::host_of(&request.url);
            return self
                .begin_at(&to, None, request)
                .map_err(|failed| failed.error);
        };
        let want = want_of(request);
        service.counts.call();
        let begun = service.servers.retry.run(
            |missed: &Missed| missed.again,
            |number| {
                service.counts.attempt(number);
                let (call, to) = service.pick(&want, &request.url)?;
                let begun = self.begin_at(&to, Some(call), request);
                begun.map_err(|failed| Missed {
                    again: failed.error.is_of_the_server() && is_unsent(&failed),
                    error: failed.error,
                })
            },
        );
        begun.map_err(|missed| missed.error)
    }

    /// Has one of a service's servers answer; another if that is safe, and again if it may be.
    fn exchange_with(
        self: &Arc<Self>,
        service: &Service,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
        mut on_interim: Option<OnInterim<'_>>,
    ) -> Result<Answer, ClientError> {
        let want = want_of(request);
        let refusal = Mutex::new(None);
        let attempt = |body: &mut Option<Body>, on_interim: Option<OnInterim<'_>>| {
            self.attempt(service, &want, request, (body, on_interim), &refusal)
        };
        let servers = &service.servers;
        let may_hedge =
            request.method.is_idempotent() && request.streamed.is_none() && on_interim.is_none();
        let hedger = servers.hedger.as_ref().filter(|_| may_hedge);
        service.counts.call();
        let answer = servers.retry.run(
            |missed: &Missed| missed.again,
            |number| {
                service.counts.attempt(number);
                match (hedger, &mut on_interim) {
                    (Some(hedger), _) => hedger.run(|index| {
                        service.counts.hedge(index);
                        attempt(&mut None, None)
                    }),
                    (None, Some(on_interim)) => attempt(body, Some(on_interim)),
                    (None, None) => attempt(body, None),
                }
            },
        );
        let missed = match answer {
            Ok(answer) => return Ok(answer),
            Err(missed) => missed,
        };
        // Where nobody does better, it is what the server says.
        let refusal = locked(&refusal).take();
        match (missed.error, refusal) {
            (ClientError::Status { .. } | ClientError::NoServer { .. }, Some(answer)) => Ok(answer),
            (error, _) => Err(error),
        }
    }

    fn attempt(
        self: &Arc<Self>,
        service: &Service,
        want: &Want,
        request: &Outgoing<'_>,
        (body, on_interim): (&mut Option<Body>, Option<OnInterim<'_>>),
        refusal: &Mutex<Option<Answer>>,
    ) -> Result<Answer, Missed> {
        let (call, to) = service.pick(want, &request.url)?;
        let before = locked(refusal).take();
        if let Some((reply, source)) = before {
            // Of use for others, if it has come whole.
            drop(ClientResponse::new(reply, source, self.clone()));
        }
        let exchanged = self.exchange_at(&to, Some(call), request, body, on_interim);
        let is_whole = body.is_some() || request.streamed.is_none();
        let may_repeat = request.method.is_idempotent() && is_whole;
        match exchanged {
            Ok((reply, mut source)) if may_repeat && is_refusal(reply.status) => {
                // The next attempt may need its place.
                if let Some(call) = source.call() {
                    call.end();
                }
                let host = source.host().to_string();
                let status = reply.status;
                *locked(refusal) = Some((reply, source));
                Err(Missed {
                    error: ClientError::Status { host, status },
                    again: true,
                })
            }
            Ok(answer) => Ok(answer),
            Err(failed) => Err(Missed {
                again: failed.error.is_of_the_server() && (may_repeat || is_unsent(&failed)),
                error: failed.error,
            }),
        }
    }

    fn exchange_at(
        &self,
        to: &To<'_>,
        mut call: Option<Box<Call>>,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
        on_interim: Option<OnInterim<'_>>,
    ) -> Result<Answer, Failed> {
        // Who hears interim answers may be told of another protocol, which goes over a connection of its own.
        #[cfg(feature = "http2")]
        let given = match on_interim.is_none() && self.links.may_take(request) {
            true => match self.exchange_by_link(to, &mut call, request, body)? {
                super::linked::Linked::Answer(answer) => return Ok(answer),
                super::linked::Linked::Http1(given) => given,
            },
            false => None,
        };
        #[cfg(not(feature = "http2"))]
        let given = None;
        let mut ignored = |_, _| {};
        let on_interim: OnInterim<'_> = match on_interim {
            Some(on_interim) => on_interim,
            None => &mut ignored,
        };
        let given = match given {
            Some(given) => given,
            None => self.obtain(to, request).map_err(Failed::before)?,
        };
        let place = match given {
            Given::Leave(place) => place,
            Given::Kept(mut kept) => {
                kept.call = call.take();
                match kept.exchange(request, body, on_interim) {
                    Ok(reply) => return Ok((reply, Source::Http1(kept))),
                    // The server closed it just before: nothing was lost that may not be repeated.
                    Err(failed) if failed.unsent => {}
                    Err(failed)
                        if failed.unheard
                            && request.method.is_idempotent()
                            && (body.is_some() || request.streamed.is_none()) => {}
                    Err(failed) => return Err(kept.end_call(failed)),
                }
                call = kept.call.take();
                kept.place.take()
            }
        };
        let mut fresh = self.connect(to, &request.url, place, call)?;
        match fresh.exchange(request, body, on_interim) {
            Ok(reply) => Ok((reply, Source::Http1(fresh))),
            Err(failed) => Err(fresh.end_call(failed)),
        }
    }

    fn begin_at(
        &self,
        to: &To<'_>,
        mut call: Option<Box<Call>>,
        request: &Outgoing<'_>,
    ) -> Result<(Box<Connection>, Sender), Failed> {
        let place = match self.obtain(to, request).map_err(Failed::before)? {
            Given::Leave(place) => place,
            Given::Kept(mut kept) => {
                kept.call = call.take();
                match kept.begin(request) {
                    Ok(sender) => return Ok((kept, sender)),
                    Err(failed) if failed.unsent => {}
                    Err(failed) => return Err(kept.end_call(failed)),
                }
                call = kept.call.take();
                kept.place.take()
            }
        };
        let mut fresh = self.connect(to, &request.url, place, call)?;
        match fresh.begin(request) {
            Ok(sender) => Ok((fresh, sender)),
            Err(failed) => Err(fresh.end_call(failed)),
        }
    }

    pub(super) fn obtain(&self, to: &To<'_>, request: &Outgoing<'_>) -> Result<Given, ClientError> {
        self.check(request)?;
        let may_repeat = request.method.is_idempotent() && request.streamed.is_none();
        self.pool.obtain(&to.origin, self.limits.queue, may_repeat)
    }

    pub(super) fn check(&self, request: &Outgoing<'_>) -> Result<(), ClientError> {
        let host = request.url.authority;
        if *request.method == Method::CONNECT {
            let url = format!("http://{host}");
            let reason = "CONNECT asks for a tunnel, which there is none here".to_owned();
            return Err(ClientError::Url { url, reason });
        }
        self.check_scheme(&request.url)?;
        if self.timeout.is_some_and(|timeout| timeout.is_zero()) {
            return Err(ClientError::timeout(host, Phase::Send));
        }
        Ok(())
    }

    fn connect(
        &self,
        to: &To<'_>,
        url: &Url<'_>,
        place: Option<Place>,
        call: Option<Box<Call>>,
    ) -> Result<Box<Connection>, Failed> {
        let (stream, forwards) = match self.reach_to(to, url, Speaks::Http1) {
            Ok(reached) => reached,
            Err(error) => {
                if let Some(call) = call {
                    call.failed(&error);
                }
                return Err(Failed::before(error));
            }
        };
        let mut connection = self.connection(to, stream, forwards, place);
        connection.call = call;
        Ok(connection)
    }

    /// That stream as a connection of HTTP/1.1.
    pub(super) fn connection(
        &self,
        to: &To<'_>,
        stream: Transport,
        forwards: bool,
        place: Option<Place>,
    ) -> Box<Connection> {
        let manner = match forwards {
            true => &self.forwarded,
            false => &self.straight,
        };
        Box::new(Connection::new(&to.origin, stream, manner.clone(), place))
    }
}

impl From<ClientError> for Missed {
    /// Nobody was asked.
    fn from(error: ClientError) -> Self {
        Self {
            error,
            again: false,
        }
    }
}

/// What a server says that has too much to do, or goes, or does not reach what is behind it: another may do better.
fn is_refusal(status: StatusCode) -> bool {
    matches!(status.as_u16(), 502..=504)
}

fn is_unsent(failed: &Failed) -> bool {
    failed.unsent || failed.error.is_unsent()
}

fn want_of(request: &Outgoing<'_>) -> Want {
    match request.key {
        Some(key) => Want::new().key(key),
        None => Want::new(),
    }
}

/// Nothing waits while it is held.
fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
