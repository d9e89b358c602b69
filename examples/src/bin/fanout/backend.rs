//! One backend: an HTTP service that answers as slowly, as wrongly or as little as it is told to.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use maniple::sync::{Condvar, Mutex};
use maniple_server::{Json, Request, Response, Router, Server, ServerHandle, StatusCode};
use serde::Serialize;

use crate::behaviour::{Behaviour, Change, Outage};
use crate::cli::Embedded;
use crate::error_response;

/// A backend that is bound but does not serve yet.
#[derive(Debug)]
pub struct Backend {
    pub name: &'static str,
    state: Arc<State>,
    server: Server,
}

/// Whether an embedded backend is to run: the switch that kills it, and has it come back where it was.
#[derive(Debug)]
pub struct Power {
    pub name: &'static str,
    pub address: SocketAddr,
    is_on: Mutex<bool>,
    /// Notified when it is switched.
    switched: Condvar,
}

/// How a backend's service ends.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Ends {
    /// At a signal, once what is under way is answered.
    AtSignals,
    /// By [`Stop::stop`], once what is under way is answered.
    WhenTold,
    /// By [`Stop::stop`], at once.
    Cut,
}

/// Ends a backend's service from elsewhere.
#[derive(Clone, Debug)]
pub struct Stop {
    state: Arc<State>,
    server: ServerHandle,
}

/// How long a request waits for an outage to end: it occupies a coroutine here even when its
/// caller has given up.
const LONGEST_HANG: Duration = Duration::from_secs(30);

#[derive(Debug)]
struct State {
    name: &'static str,
    service: Mutex<Service>,
    /// Notified when the behaviour changes and when the service stops.
    changed: Condvar,
}

#[derive(Debug)]
struct Service {
    behaviour: Behaviour,
    rng: fastrand::Rng,
    stopping: bool,
}

/// The answer to `GET /work/{id}`.
#[derive(Debug, Serialize)]
struct Work<'a> {
    backend: &'static str,
    id: &'a str,
}

impl Backend {
    pub fn bind(embedded: &Embedded, listen: &str, ends: Ends) -> io::Result<Backend> {
        let state = Arc::new(State {
            name: embedded.name,
            service: Mutex::new(Service {
                behaviour: embedded.behaviour,
                rng: embedded
                    .seed
                    .map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed),
                stopping: false,
            }),
            changed: Condvar::new(),
        });
        let [work, show, change] = [(); 3].map(|()| Arc::clone(&state));
        let router = Router::new()
            .get("/work/{id}", move |req: &mut Request| work.work(req))
            .get("/control", move |_: &mut Request| {
                Json(show.service.lock().behaviour)
            })
            .post("/control", move |req: &mut Request| change.change(req));
        let mut server = Server::builder(router).handle_signals(ends == Ends::AtSignals);
        if ends == Ends::Cut {
            // Who ends it has no requests under way, or is to see them cut.
            server = server.drain_grace(Duration::ZERO);
        }
        let server = server.bind(listen)?;
        Ok(Backend {
            name: embedded.name,
            state,
            server,
        })
    }

    pub fn local_addr(&self) -> SocketAddr {
        self.server.local_addr()
    }

    pub fn behaviour(&self) -> Behaviour {
        self.state.service.lock().behaviour
    }

    pub fn stop(&self) -> Stop {
        Stop {
            state: Arc::clone(&self.state),
            server: self.server.handle(),
        }
    }

    /// Serves until [`Stop::stop`], or until a signal if it was bound to handle them.
    pub fn serve(self) -> io::Result<()> {
        self.server.serve().map(drop)
    }
}

impl Power {
    /// On, for a backend that is bound.
    pub fn of(backend: &Backend) -> Arc<Power> {
        Arc::new(Power {
            name: backend.name,
            address: backend.local_addr(),
            is_on: Mutex::new(true),
            switched: Condvar::new(),
        })
    }

    pub fn is_on(&self) -> bool {
        *self.is_on.lock()
    }

    pub fn switch(&self, on: bool) {
        *self.is_on.lock() = on;
        self.switched.notify_all();
    }

    fn wait_until(&self, on: bool) {
        let mut is_on = self.is_on.lock();
        self.switched.wait_while(&mut is_on, |is_on| *is_on != on);
    }

    /// Serves while it is on, until the caller is cancelled.
    pub fn keep(&self, first: Backend, embedded: &Embedded) -> io::Result<()> {
        let mut next = Some(first);
        loop {
            let backend = match next.take() {
                Some(backend) => backend,
                None => Backend::bind(embedded, &self.address.to_string(), Ends::Cut)?,
            };
            let stop = backend.stop();
            maniple::group(|g| {
                drop(g.try_spawn(move || backend.serve()));
                self.wait_until(false);
                stop.stop();
                Ok::<_, io::Error>(())
            })?;
            self.wait_until(true);
        }
    }
}

impl Stop {
    /// Lets go of what hangs, then answers what is in flight and closes.
    pub fn stop(&self) {
        self.state.service.lock().stopping = true;
        self.state.changed.notify_all();
        self.server.drain();
    }
}

impl State {
    fn work(&self, req: &Request) -> Response {
        let (latency, fails) = {
            let mut service = self.service.lock();
            self.wait_while_hanging(&mut service);
            let Service { behaviour, rng, .. } = &mut *service;
            if behaviour.outage != Outage::Off {
                return error_response(StatusCode::SERVICE_UNAVAILABLE, "out of service");
            }
            (behaviour.latency.sample(rng), rng.f64() < behaviour.errors)
        };
        maniple::sleep(latency);
        if fails {
            return error_response(
                StatusCode::INTERNAL_SERVER_ERROR,
                "failed, as it was told to",
            );
        }
        let id = req.param("id").unwrap_or_default();
        Response::json(&Work {
            backend: self.name,
            id,
        })
    }

    fn wait_while_hanging(&self, service: &mut maniple::sync::MutexGuard<'_, Service>) {
        while service.behaviour.outage == Outage::Hang && !service.stopping {
            if self.changed.wait_timeout(service, LONGEST_HANG).timed_out() {
                return;
            }
        }
    }

    fn change(&self, req: &mut Request) -> Response {
        match req.json::<Change>() {
            Ok(change) => {
                let mut service = self.service.lock();
                service.behaviour = service.behaviour.with(change);
                self.changed.notify_all();
                Response::json(&service.behaviour)
            }
            Err(error) => error_response(StatusCode::BAD_REQUEST, &error.to_string()),
        }
    }
}
