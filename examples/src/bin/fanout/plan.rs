//! The five ways to ask the backends. Each is a few lines of groups around the same call.

use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use maniple::sync::channel;
use maniple_server::{Client, ClientError};

use crate::duration::as_ms;
use crate::report::{Call, Mode, Outcome, Report};

/// A backend as the gateway sees it.
#[derive(Debug)]
pub struct Target {
    pub name: String,
    /// `host:port`
    pub address: String,
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

/// The matter is decided: it ends a group early, and with it the calls that no longer count.
#[derive(Debug)]
struct Decided;

impl FanOut<'_> {
    /// Asks the backends. Once this returns, no call is under way any more.
    pub fn run(&self, mode: Mode, deadline: Duration) -> Report {
        let mut calls = vec![Vec::new(); self.backends.len()];
        // Each call notes for itself that the deadline cut it: there is nothing to add here.
        let _ = maniple::timeout(deadline, || match mode {
            Mode::Serial => self.serial(&mut calls),
            Mode::Parallel => self.at_once(&mut calls, |call| call.outcome == Outcome::Failed),
            Mode::Race => self.at_once(&mut calls, |call| call.outcome == Outcome::Ok),
            Mode::Hedged => self.hedged(&mut calls),
            Mode::Partial => self.at_once(&mut calls, |_| false),
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

    /// All at once, until one call decides the matter for all.
    fn at_once(&self, calls: &mut [Vec<Call>], decides: impl Fn(&Call) -> bool + Copy + Send) {
        let _: Result<(), Decided> = maniple::group(|g| {
            for (backend, calls) in self.backends.iter().zip(calls) {
                drop(g.try_spawn(move || {
                    let call = self.call(backend);
                    let decided = decides(&call);
                    calls.push(call);
                    decided_if(decided)
                }));
            }
            Ok(())
        });
    }

    /// Like parallel, but each backend has two attempts.
    fn hedged(&self, calls: &mut [Vec<Call>]) {
        let _: Result<(), Decided> = maniple::group(|g| {
            for (backend, calls) in self.backends.iter().zip(calls) {
                drop(g.try_spawn(move || {
                    *calls = self.hedge(backend);
                    decided_if(calls.iter().all(|call| call.outcome == Outcome::Failed))
                }));
            }
            Ok(())
        });
    }

    /// A second attempt joins the first once that is slow or has failed; the first success counts.
    fn hedge(&self, backend: &Target) -> Vec<Call> {
        let (mut first, mut second) = (None, None);
        // It outlives both: closed by the end of a first attempt that won, it would start the second.
        let (failed, first_failed) = channel::bounded(1);
        let _: Result<(), Decided> = maniple::group(|g| {
            drop(g.try_spawn(|| {
                let call = first.insert(self.call(backend));
                if call.outcome == Outcome::Failed {
                    let _ = failed.try_send(());
                }
                decided_if(call.outcome == Outcome::Ok)
            }));
            drop(g.try_spawn(|| {
                let _slow_or_failed = first_failed.recv_timeout(self.hedge_after);
                if maniple::cancel::check().is_err() {
                    return Ok(());
                }
                let call = second.insert(self.call(backend));
                decided_if(call.outcome == Outcome::Ok)
            }));
            Ok(())
        });
        first.into_iter().chain(second).collect()
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

fn decided_if(decided: bool) -> Result<(), Decided> {
    if decided { Err(Decided) } else { Ok(()) }
}

/// Whether the deadline of the whole request has passed.
fn out_of_time() -> bool {
    maniple::time::remaining().is_some_and(|left| left.is_zero())
}

impl Target {
    pub fn new(name: impl Into<String>, address: impl ToString) -> Target {
        let address = address.to_string();
        Target {
            name: name.into(),
            address,
            reachable: AtomicBool::new(true),
        }
    }

    /// Tells at start-up, rather than at the first request, that nobody is there.
    pub fn probe(&self) {
        let connected = maniple::timeout(PROBE_DEADLINE, || {
            maniple::net::TcpStream::connect(self.address.as_str())
        });
        let reason = match connected {
            Ok(Ok(_)) => return,
            Ok(Err(error)) => error.to_string(),
            Err(elapsed) => elapsed.to_string(),
        };
        if self.reachable.swap(false, Ordering::Relaxed) {
            let Target { name, address, .. } = self;
            log::warn!("backend {name} at {address} gives no answer yet: {reason}");
        }
    }

    /// Whole answer or error: a body that breaks off is no success.
    fn ask(&self, client: &Client, id: &str) -> Result<u16, ClientError> {
        let response = client.get(&format!("http://{}/work/{id}", self.address))?;
        let status = response.status().as_u16();
        response.bytes()?;
        Ok(status)
    }

    /// One line when the backend gets out of reach, one when it is back, none in between.
    fn note(&self, answer: &Result<u16, ClientError>) {
        match answer {
            Err(ClientError::Cancelled { .. } | ClientError::Timeout { .. }) => {}
            // Relaxed: the flag orders nothing, it only keeps the log short.
            Ok(_) if !self.reachable.swap(true, Ordering::Relaxed) => {
                log::info!("backend {} at {} answers again", self.name, self.address);
            }
            Err(error) if self.reachable.swap(false, Ordering::Relaxed) => {
                log::warn!("backend {} gives no answer: {error}", self.name);
            }
            Ok(_) | Err(_) => {}
        }
    }
}
