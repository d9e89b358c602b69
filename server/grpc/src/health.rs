//! The service by which balancers and orchestrators ask whether a service is well (`grpc.health.v1`).

use std::{
    collections::BTreeMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError},
};

use maniple::{group::race, sync::watch};
use maniple_server::server;

use crate::{
    server::{Call, Replies, Service},
    status::{Code, Status},
};

/// Which services are well, for who asks by `grpc.health.v1`; clones are of the same.
///
/// The service without a name is the server as a whole. It is well as long as the server is [ready](server::Health): with the
/// server's setting [`health`](server::Builder::health), not any more from the moment in which it is told to drain. No
/// other service is well then, either.
///
/// # Examples
/// ```
/// use maniple_grpc::{Call, Health, Service, Status};
/// use maniple_server::{Server, server};
///
/// # fn main() -> std::io::Result<()> {
/// # maniple::run(|| {
/// let greeter = Service::new("hello.Greeter")
///     .unary("Greet", |_: &mut Call, name: String| Ok::<_, Status>(name));
/// let ready = server::Health::new();
/// let health = Health::of(&ready);
/// health.set("hello.Greeter", true);
///
/// let router = greeter.into_router().merge(health.clone().into_service().into_router());
/// let server = Server::builder(router).health(&ready).bind("127.0.0.1:0")?;
/// health.set("hello.Greeter", false); // its callers are told
/// # drop(server);
/// # Ok(())
/// # })
/// # }
/// ```
#[derive(Clone, Debug)]
pub struct Health {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    ready: server::Health,
    services: Mutex<BTreeMap<String, bool>>,
    /// How often that has changed.
    changes: watch::Sender<u64>,
}

impl Health {
    /// One whose server is taken to be ready.
    pub fn new() -> Self {
        Self::of(&server::Health::new())
    }

    /// One that follows the readiness of a server.
    pub fn of(ready: &server::Health) -> Self {
        Self {
            shared: Arc::new(Shared {
                ready: ready.clone(),
                services: Mutex::default(),
                changes: watch::channel(0).0,
            }),
        }
    }

    /// Says whether a service is well, by its full name. One of which nothing was said is not known.
    pub fn set(&self, service: &str, is_well: bool) {
        let before = self.services().insert(service.to_owned(), is_well);
        if before != Some(is_well) {
            let changes = &self.shared.changes;
            changes.send_modify(|changes| *changes = changes.wrapping_add(1));
        }
    }

    /// The service, to be merged with others. What watches is told of a drain, and its stream ends then.
    pub fn into_service(self) -> Service {
        let check = self.clone();
        Service::new("grpc.health.v1.Health")
            .unary("Check", move |_: &mut Call, asked: Asked| {
                check.known(&asked.service)
            })
            .server_streaming(
                "Watch",
                move |call: &mut Call, asked: Asked, replies: &mut Replies<'_, '_, Answer>| {
                    self.watch(call, &asked.service, replies)
                },
            )
    }

    fn known(&self, service: &str) -> Result<Answer, Status> {
        match self.state_of(service) {
            SERVICE_UNKNOWN => Err(Status::new(Code::NotFound, "no such service is known")),
            status => Ok(Answer { status }),
        }
    }

    fn watch(
        &self,
        call: &Call,
        service: &str,
        replies: &mut Replies<'_, '_, Answer>,
    ) -> Result<(), Status> {
        let (mut changes, mut ready) = (self.shared.changes.subscribe(), self.shared.ready.watch());
        let mut told = None;
        loop {
            // What changes from here on is seen by the wait.
            changes.borrow_and_update();
            ready.borrow_and_update();
            let is_over = call.is_draining();
            let status = match self.state_of(service) {
                _ if is_over => NOT_SERVING,
                status => status,
            };
            if told.replace(status) != Some(status) {
                replies.send(&Answer { status })?;
            }
            if is_over {
                return Ok(());
            }
            let waits: [Box<dyn FnOnce() -> Result<(), watch::RecvError> + Send>; 2] =
                [Box::new(|| changes.changed()), Box::new(|| ready.changed())];
            // The drain cuts it.
            let _ = call.until_draining(|| race(waits));
            maniple::cancel::check().map_err(|cut| Status::of_io(&cut.into()))?;
        }
    }

    fn state_of(&self, service: &str) -> i32 {
        let is_ready = self.shared.ready.is_ready();
        match self.services().get(service) {
            Some(is_well) if *is_well && is_ready => SERVING,
            Some(_) => NOT_SERVING,
            None if service.is_empty() && is_ready => SERVING,
            None if service.is_empty() => NOT_SERVING,
            None => SERVICE_UNKNOWN,
        }
    }

    /// Never held over a wait.
    fn services(&self) -> MutexGuard<'_, BTreeMap<String, bool>> {
        let services = self.shared.services.lock();
        services.unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Health {
    fn default() -> Self {
        Self::new()
    }
}

/// `HealthCheckRequest`.
#[derive(Clone, PartialEq, prost::Message)]
struct Asked {
    #[prost(string, tag = "1")]
    service: String,
}

/// `HealthCheckResponse`.
#[derive(Clone, Copy, PartialEq, prost::Message)]
struct Answer {
    #[prost(int32, tag = "1")]
    status: i32,
}

const SERVING: i32 = 1;
const NOT_SERVING: i32 = 2;
const SERVICE_UNKNOWN: i32 = 3;
