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
    pub fn bind(embedded: &Embedded, listen: &str, handle_signals: bool) -> io::Result<Backend> {
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
        let server = Server::builder(router)
            .handle_signals(handle_signals)
            .bind(listen)?;
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
