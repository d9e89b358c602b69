//! The five ways to ask the backends: policies of the library around one call, which finds a replica that answers.

use std::io;
use std::ops::{ControlFlow, RangeInclusive};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maniple::group::{self, Parallel};
use maniple_discovery::{Etcd, Following};
use maniple_parts::endpoints::{CallError, EndpointStats, Endpoints, Want};
use maniple_parts::resilience::{
    BreakerError, BreakerStats, BudgetStats, CircuitBreaker, Retry, RetryBudget,
};
use maniple_server::{Client, ClientError};

use crate::duration::as_ms;
use crate::report::{Call, Mode, Outcome, Report};

/// A backend as the gateway sees it: its replicas, what further attempts cost, and whether it is left alone.
#[derive(Debug)]
pub struct Target {
    pub name: String,
    replicas: Endpoints,
    retry: Retry,
    budget: RetryBudget,
    breaker: CircuitBreaker,
    /// Whether the last call that ended by itself got through; its changes are logged.
    reachable: AtomicBool,
}

/// One aggregate request under way.
#[derive(Debug)]
pub struct FanOut<'a> {
    pub client: &'a Client,
    pub backends: &'a [Target],
    pub id: &'a str,
    pub hedge_after: Duration,
    pub arrived: Instant,
}

const PROBE_DEADLINE: Duration = Duration::from_secs(2);
/// A replica that fails is left for another at once.
const BACKOFF: RangeInclusive<Duration> = Duration::ZERO..=Duration::from_millis(20);
/// Of a hundred calls so many may be made again.
const RETRY_PERCENT: u32 = 20;

/// A backend of which no replica answers is left alone for so long, and then for longer.
const PAUSES: RangeInclusive<Duration> = Duration::from_millis(500)..=Duration::from_secs(4);

/// Why a replica has not done what it was asked for.
#[derive(Debug)]
enum Failure {
    Status(u16),
    Client(ClientError),
}

impl FanOut<'_> {
    /// Asks the backends. Once this returns, no call is under way any more.
    pub fn run(&self, mode: Mode, deadline: Duration) -> Report {
        let mut calls = vec![Vec::new(); self.backends.len()];
        // Each call notes for itself that the deadline cut it: there is nothing to add here.
        let _ = maniple::timeout(deadline, || match mode {
            Mode::Serial => self.serial(&mut calls),
            Mode::Parallel => self.at_once(&mut calls, Parallel::new().give_up_at(1), not_failed),
            Mode::Race => self.at_once(&mut calls, Parallel::new().enough_at(1), succeeded),
            Mode::Hedged => self.hedged(&mut calls),
            Mode::Partial => self.at_once(&mut calls, Parallel::new(), succeeded),
        });
        let names = self.backends.iter().map(|backend| backend.name.as_str());
        Report::new(
            self.id,
            mode,
            self.arrived.elapsed(),
            names.zip(calls).collect(),
        )
    }

    fn serial(&self, calls: &mut [Vec<Call>]) {
        for (backend, calls) in self.backends.iter().zip(calls) {
            let call = self.call(backend);
            let succeeded = call.outcome == Outcome::Ok;
            calls.push(call);
            if !succeeded {
                return;
            }
        }
    }

    /// All at once, until the policy says that it is enough.
    fn at_once(
        &self,
        calls: &mut [Vec<Call>],
        policy: Parallel,
        counts: fn(Outcome) -> Result<(), ()>,
    ) {
        let asked = self.backends.iter().zip(calls).map(|(backend, calls)| {
            Some(move || {
                let call = self.call(backend);
                let outcome = call.outcome;
                calls.push(call);
                counts(outcome)
            })
        });
        policy.run(asked, (), |(), _, ()| ControlFlow::Continue(()));
    }

    /// Like parallel, but each backend has two attempts.
    fn hedged(&self, calls: &mut [Vec<Call>]) {
        let asked = self.backends.iter().zip(calls).map(|(backend, calls)| {
            Some(move || {
                *calls = self.hedge(backend);
                let all_failed = calls.iter().all(|call| call.outcome == Outcome::Failed);
                if all_failed { Err(()) } else { Ok(()) }
            })
        });
        let policy = Parallel::new().give_up_at(1);
        policy.run(asked, (), |(), _, ()| ControlFlow::Continue(()));
    }

    /// A second attempt joins the first once that is slow or has failed; the first success counts.
    fn hedge(&self, backend: &Target) -> Vec<Call> {
        let made = Mutex::new([None, None]);
        let _ = group::hedge(self.hedge_after, |attempt| {
            let call = self.call(backend);
            let outcome = call.outcome;
            made.lock().unwrap()[attempt] = Some(call);
            succeeded(outcome)
        });
        made.into_inner().unwrap().into_iter().flatten().collect()
    }

    fn call(&self, backend: &Target) -> Call {
        let start = self.arrived.elapsed();
        let answer = backend.ask(self.client, self.id);
        let end = self.arrived.elapsed();
        backend.note(&answer);
        let (status, outcome) = match answer {
            Ok(200) => (Some(200), Outcome::Ok),
            Ok(status) => (Some(status), Outcome::Failed),
            Err(ClientError::Cancelled { .. }) => (None, Outcome::Cancelled),
            // The client may have a shorter timeout, for connects: that is a failure of the backend.
            Err(ClientError::Timeout { .. }) if out_of_time() => (None, Outcome::Late),
            Err(_) => (None, Outcome::Failed),
        };
        let backend = backend.name.clone();
        Call {
            backend,
            start_ms: as_ms(start),
            end_ms: as_ms(end),
            status,
            outcome,
        }
    }
}

/// The deadline, and another's failure, is no failure of this one.
fn not_failed(outcome: Outcome) -> Result<(), ()> {
    match outcome {
        Outcome::Failed => Err(()),
        _ => Ok(()),
    }
}

fn succeeded(outcome: Outcome) -> Result<(), ()> {
    match outcome {
        Outcome::Ok => Ok(()),
        _ => Err(()),
    }
}

/// Whether the deadline of the whole request has passed.
fn out_of_time() -> bool {
    maniple::time::remaining().is_some_and(|left| left.is_zero())
}

/// Where replicas of a backend register.
pub fn registry_of(name: &str) -> String {
    format!("/fanout/{name}/")
}

impl Target {
    pub fn new(
        name: impl Into<String>,
        addresses: impl IntoIterator<Item = impl ToString>,
    ) -> Target {
        let name = name.into();
        let addresses: Vec<String> = addresses.into_iter().map(|a| a.to_string()).collect();
        let budget = RetryBudget::new(RETRY_PERCENT).name(name.as_str());
        // A backend alone is asked once: whether to ask it again is the mode's affair.
        let attempts = addresses.len().clamp(1, 3) as u32;
        let retry = Retry::new()
            .attempts(attempts)
            .backoff(BACKOFF)
            .budget(&budget);
        let replicas = Endpoints::builder(name.as_str()).build(addresses);
        Target {
            breaker: CircuitBreaker::new().pause(PAUSES).name(name.as_str()),
            name,
            replicas: replicas.expect("a command line has no ten thousand addresses"),
            retry,
            budget,
            reachable: AtomicBool::new(true),
        }
    }

    /// One whose replicas register under its name.
    pub fn registered(name: &str, etcd: &Etcd) -> io::Result<(Target, Following)> {
        let nobody: [String; 0] = [];
        let mut target = Target::new(name, nobody);
        target.retry = target.retry.attempts(3);
        let following = etcd.follow(&target.replicas, registry_of(name))?;
        Ok((target, following))
    }

    /// `host:port` of each replica.
    pub fn addresses(&self) -> Vec<String> {
        let list = self.replicas.list();
        list.iter().map(|one| one.address().to_owned()).collect()
    }

    /// What has become of the calls to each replica, of further attempts, and of those that were not made.
    pub fn numbers(&self) -> (Vec<EndpointStats>, BudgetStats, BreakerStats) {
        let (budget, breaker) = (self.budget.stats(), self.breaker.stats());
        (self.replicas.stats(), budget, breaker)
    }

    /// Tells at start-up, rather than at the first request, that nobody is there; unless a request has been faster.
    pub fn probe(&self) {
        let mut reasons = Vec::new();
        for address in self.addresses() {
            let connected = maniple::timeout(PROBE_DEADLINE, || {
                maniple::net::TcpStream::connect(address.as_str())
            });
            let reason = match connected {
                Ok(Ok(_)) => continue,
                Ok(Err(error)) => error.to_string(),
                Err(elapsed) => elapsed.to_string(),
            };
            reasons.push(format!("{address} gives no answer yet: {reason}"));
        }
        if !reasons.is_empty() && self.reachable.swap(false, Ordering::Relaxed) {
            for reason in reasons {
                log::warn!("backend {} at {reason}", self.name);
            }
        }
    }

    /// The status of an answer that is whole, from one replica or another: a body that breaks off is no success.
    fn ask(&self, client: &Client, id: &str) -> Result<u16, ClientError> {
        let want = Want::new();
        let ask = |address: &str| {
            let response = client.get(&format!("http://{address}/work/{id}"));
            let response = response.map_err(Failure::Client)?;
            let status = response.status().as_u16();
            response.bytes().map_err(Failure::Client)?;
            if status < 500 {
                Ok(status)
            } else {
                Err(Failure::Status(status))
            }
        };
        let found = || {
            self.retry.run(
                |error| matches!(error, CallError::Call(_)),
                |_attempt| self.replicas.call_as(&want, |picked| ask(picked.address())),
            )
        };
        // A call that another has decided says nothing of the backend.
        let is_its_fault = |error: &CallError<Failure>| {
            let cancelled = |error: &ClientError| matches!(error, ClientError::Cancelled { .. });
            !matches!(error, CallError::Call(Failure::Client(error)) if cancelled(error))
        };
        match self.breaker.call_if(is_its_fault, found) {
            Ok(status) | Err(BreakerError::Call(CallError::Call(Failure::Status(status)))) => {
                Ok(status)
            }
            Err(BreakerError::Call(CallError::Call(Failure::Client(error)))) => Err(error),
            Err(BreakerError::Call(CallError::Pick(_)) | BreakerError::Open { .. }) => Ok(503),
        }
    }

    /// One line when the backend gets out of reach, one when it is back, none in between.
    fn note(&self, answer: &Result<u16, ClientError>) {
        match answer {
            Err(ClientError::Cancelled { .. } | ClientError::Timeout { .. }) => {}
            // Relaxed: the flag orders nothing, it only keeps the log short.
            Ok(_) if !self.reachable.swap(true, Ordering::Relaxed) => {
                let addresses = self.addresses().join(", ");
                log::info!("backend {} at {addresses} answers again", self.name);
            }
            Err(error) if self.reachable.swap(false, Ordering::Relaxed) => {
                log::warn!("backend {} gives no answer: {error}", self.name);
            }
            Ok(_) | Err(_) => {}
        }
    }
}
