//! Whether a service lives and whether it is ready, as routes for those who ask.

use std::{
    collections::BTreeMap,
    fmt::Write,
    sync::{
        Arc, Mutex, MutexGuard, PoisonError,
        atomic::{AtomicBool, Ordering},
    },
};

use http::StatusCode;
use maniple::sync::watch;

use crate::{
    request::Request,
    response::{IntoResponse, Response},
};

/// Whether a service lives and is ready, and routes that tell; clones are of the same.
///
/// *Live* means that it answers: who restarts what hangs asks for that. *Ready* means that it is to be sent requests: a
/// balancer asks for that. A server with this [setting](super::Builder::health) is not ready any more from the moment in
/// which it is told to drain, and goes on accepting for [`drain_delay`](super::Builder::drain_delay).
///
/// # Examples
/// ```
/// use maniple_server::{Client, Router, Server, StatusCode, server::Health};
/// # fn main() -> std::io::Result<()> {
/// maniple::run(|| {
///     let health = Health::new();
///     let router = Router::new().get("/livez", health.live()).get("/readyz", health.ready());
///     let server = Server::builder(router).health(&health).bind("127.0.0.1:0")?;
///     let (url, handle) = (format!("http://{}/readyz", server.local_addr()), server.handle());
///     let serving = maniple::spawn(move || server.serve());
///
///     assert_eq!(Client::new().get(&url)?.text()?, "ready\n");
///     health.set("database", false);
///     let answer = Client::new().get(&url)?;
///     assert_eq!(answer.status(), StatusCode::SERVICE_UNAVAILABLE);
///     assert_eq!(answer.text()?, "not ready: database\n");
///
///     handle.drain();
///     serving.join()??;
///     Ok(())
/// })
/// # }
/// ```
#[derive(Clone, Debug, Default)]
pub struct Health {
    state: Arc<State>,
}

#[derive(Debug)]
struct State {
    draining: AtomicBool,
    /// Whether it is ready, for those who wait for a change.
    told: watch::Sender<bool>,
    /// What is needed, and whether it is there. Held for some instructions, never over a wait.
    needs: Mutex<BTreeMap<String, bool>>,
}

impl Default for State {
    fn default() -> Self {
        Self {
            draining: AtomicBool::new(false),
            told: watch::channel(true).0,
            needs: Mutex::default(),
        }
    }
}

impl Health {
    /// One that is ready.
    pub fn new() -> Self {
        Self::default()
    }

    /// Says whether something is there without which the service is not ready: a warm cache, a database.
    pub fn set(&self, need: &str, is_there: bool) {
        let mut needs = self.needs();
        match needs.get_mut(need) {
            Some(there) => *there = is_there,
            None => _ = needs.insert(need.to_owned(), is_there),
        }
        drop(needs);
        self.tell();
    }

    /// Whether the service is to be sent requests, as it changes.
    ///
    /// # Examples
    /// ```
    /// let health = maniple_server::server::Health::new();
    /// let mut ready = health.watch();
    /// assert!(*ready.borrow());
    /// health.set("database", false);
    /// ready.changed().unwrap();
    /// assert!(!*ready.borrow());
    /// ```
    pub fn watch(&self) -> watch::Receiver<bool> {
        self.state.told.subscribe()
    }

    fn tell(&self) {
        self.state.told.send_if_modified(|told| {
            // Asked for here, so that of two who tell at once the later tells what is.
            let is_ready = self.is_ready();
            std::mem::replace(told, is_ready) != is_ready
        });
    }

    /// Whether the service is to be sent requests.
    pub fn is_ready(&self) -> bool {
        !self.is_draining() && self.needs().values().all(|there| *there)
    }

    /// A handler that answers 200 as long as it can answer.
    pub fn live(&self) -> impl Fn(&mut Request) -> Response + Send + Sync + 'static {
        |_: &mut Request| state(StatusCode::OK, "live\n".to_owned())
    }

    /// A handler that answers 200 while the service is ready, else 503 and what is missing.
    pub fn ready(&self) -> impl Fn(&mut Request) -> Response + Send + Sync + 'static {
        let health = self.clone();
        move |_: &mut Request| match health.missing() {
            None => state(StatusCode::OK, "ready\n".to_owned()),
            Some(missing) => {
                let text = format!("not ready: {missing}\n");
                state(StatusCode::SERVICE_UNAVAILABLE, text)
            }
        }
    }

    fn missing(&self) -> Option<String> {
        if self.is_draining() {
            return Some("draining".to_owned());
        }
        let mut missing = String::new();
        for (need, _) in self.needs().iter().filter(|(_, there)| !**there) {
            let comma = if missing.is_empty() { "" } else { ", " };
            let _ = write!(missing, "{comma}{need}");
        }
        (!missing.is_empty()).then_some(missing)
    }

    fn is_draining(&self) -> bool {
        self.state.draining.load(Ordering::SeqCst)
    }

    fn needs(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        // Nothing that can panic leaves it half changed.
        let needs = self.state.needs.lock();
        needs.unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn begin_drain(&self) {
        self.state.draining.store(true, Ordering::SeqCst);
        self.tell();
    }
}

/// What no cache is to answer in the service's place.
fn state(status: StatusCode, text: String) -> Response {
    let response = (status, text).into_response();
    response.with_header("cache-control", "no-store")
}
