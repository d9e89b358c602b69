//! Gateway S: checks the request, has the plan carried out, and serves the page and the controls.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use maniple_discovery::Following;
use maniple_parts::endpoints::{EndpointState, EndpointStats};
use maniple_server::client::ClientResponse;
use maniple_server::{
    Client, ClientError, Html, IntoResponse, Json, Method, Request, Response, Router, Server,
    StatusCode, tls,
};
use serde::{Deserialize, Serialize};

use crate::backend::Power;
use crate::duration;
use crate::error_response;
use crate::plan::{FanOut, Target};
use crate::report::Mode;

const PAGE: &str = include_str!("page.html");
const CONTROL_DEADLINE: Duration = Duration::from_secs(2);

/// What the handlers share.
#[derive(Debug)]
pub struct Gateway {
    pub client: Client,
    pub backends: Vec<Target>,
    /// What keeps the lists of those that register, until the gateway ends.
    #[allow(dead_code, reason = "it is there to be dropped")]
    pub followings: Vec<Following>,
    /// The switches of those that are embedded.
    pub powers: Vec<Arc<Power>>,
    pub deadline: Duration,
    pub hedge_after: Duration,
    /// Whether it speaks HTTPS, with a certificate of its own.
    pub tls_self_signed: bool,
}

/// A request that cannot be carried out as it stands, and why.
#[derive(Debug)]
struct Refusal(StatusCode, String);

/// What the page has to know before its first request.
#[derive(Debug, Serialize)]
struct Setup<'a> {
    deadline_ms: f64,
    hedge_after_ms: f64,
    backends: Vec<Named<'a>>,
}

#[derive(Debug, Serialize)]
struct Named<'a> {
    name: &'a str,
    address: String,
}

/// What `GET /state` tells: who gets calls, and what becomes of them.
#[derive(Debug, Serialize)]
struct State<'a> {
    name: &'a str,
    calls: u64,
    retries: u64,
    retries_refused: u64,
    /// Further attempts that may be made at once.
    retries_left: u64,
    breaker: String,
    breaker_opened: u64,
    /// Calls that were not made, since the breaker was open.
    breaker_refused: u64,
    replicas: Vec<Replica>,
}

#[derive(Debug, Serialize)]
struct Replica {
    address: String,
    state: &'static str,
    weight: u32,
    in_flight: usize,
    latency_ms: f64,
    calls: u64,
    failed: u64,
    ejections: u64,
    /// Whether it runs, if it is embedded here.
    on: Option<bool>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Switch {
    on: bool,
}

impl Gateway {
    pub fn bind(self: &Arc<Self>, listen: &str) -> io::Result<Server> {
        let [setup, aggregate, state, power, show, change] = [(); 6].map(|()| Arc::clone(self));
        let router = Router::new()
            .get("/", |_: &mut Request| Html(PAGE))
            .get("/healthz", |_: &mut Request| "ok\n")
            .get("/setup", move |_: &mut Request| setup.setup())
            .get("/aggregate/{id}", move |req: &mut Request| {
                aggregate.aggregate(req)
            })
            .get("/state", move |_: &mut Request| state.state())
            .post("/power/{address}", move |req: &mut Request| {
                power.power(req)
            })
            .get("/control/{backend}", move |req: &mut Request| {
                show.show_control(req)
            })
            .post("/control/{backend}", move |req: &mut Request| {
                change.change_control(req)
            });
        let server = Server::builder(router).handle_signals(true);
        if !self.tls_self_signed {
            return server.bind(listen);
        }
        let certificate = tls::self_signed(["localhost", "127.0.0.1"])?;
        let config = tls::ServerConfig::builder().certificate(certificate);
        server.bind_tls(listen, config.alpn(["http/1.1"]).build()?)
    }

    fn aggregate(&self, req: &Request) -> Result<Response, Refusal> {
        let arrived = Instant::now();
        let id = checked_id(req.param("id").unwrap_or_default())?;
        let mode = match req.query_param("mode") {
            Some(text) => parse_mode(&text)?,
            None => Mode::Parallel,
        };
        let deadline = match req.query_param("deadline_ms") {
            Some(text) => parse_deadline_ms(&text)?,
            None => self.deadline,
        };
        let report = self.fan_out(id, arrived).run(mode, deadline);
        Ok((report.status(), Json(report)).into_response())
    }

    pub fn fan_out<'a>(&'a self, id: &'a str, arrived: Instant) -> FanOut<'a> {
        let Gateway {
            client,
            backends,
            hedge_after,
            ..
        } = self;
        FanOut {
            client,
            backends,
            id,
            hedge_after: *hedge_after,
            arrived,
        }
    }

    fn setup(&self) -> Response {
        let backends = self.backends.iter();
        Response::json(&Setup {
            deadline_ms: duration::as_ms(self.deadline),
            hedge_after_ms: duration::as_ms(self.hedge_after),
            backends: backends
                .map(|b| Named {
                    name: &b.name,
                    address: b.addresses().join(", "),
                })
                .collect(),
        })
    }

    fn state(&self) -> Response {
        let backends = self.backends.iter().map(|backend| {
            let (replicas, budget, breaker) = backend.numbers();
            State {
                name: &backend.name,
                calls: budget.calls,
                retries: budget.retries,
                retries_refused: budget.refused,
                retries_left: budget.left,
                breaker: breaker.state.to_string(),
                breaker_opened: breaker.opened,
                breaker_refused: breaker.refused,
                replicas: replicas.iter().map(|stats| self.replica(stats)).collect(),
            }
        });
        Response::json(&backends.collect::<Vec<_>>())
    }

    fn replica(&self, stats: &EndpointStats) -> Replica {
        let address = stats.endpoint.address();
        Replica {
            address: address.to_owned(),
            state: match stats.state {
                EndpointState::Serving => "serving",
                EndpointState::Returning => "returning",
                EndpointState::Ejected { .. } => "left out",
                EndpointState::Down => "down",
                _ => "draining",
            },
            weight: stats.endpoint.weight_of(),
            in_flight: stats.in_flight,
            latency_ms: duration::as_ms(stats.latency),
            calls: stats.calls,
            failed: stats.failed,
            ejections: stats.ejections,
            on: self.power_of(address).map(|power| power.is_on()),
        }
    }

    fn power_of(&self, address: &str) -> Option<&Arc<Power>> {
        let mut powers = self.powers.iter();
        powers.find(|power| power.address.to_string() == address)
    }

    /// Kills an embedded backend, or has it come back.
    fn power(&self, req: &mut Request) -> Result<Response, Refusal> {
        let address = req.param("address").unwrap_or_default().to_owned();
        let Some(power) = self.power_of(&address) else {
            let reason = format!("no backend of this process is at \"{address}\"");
            return Err(Refusal(StatusCode::NOT_FOUND, reason));
        };
        let Switch { on } = req.json().map_err(|error| bad_request(error.to_string()))?;
        power.switch(on);
        Ok(Response::json(
            &serde_json::json!({ "name": power.name, "on": on }),
        ))
    }

    fn show_control(&self, req: &Request) -> Result<Response, Refusal> {
        let urls = self.control_urls(req)?;
        forward(|| self.client.get(&urls[0]))
    }

    fn change_control(&self, req: &mut Request) -> Result<Response, Refusal> {
        let urls = self.control_urls(req)?;
        let change = req
            .read_body()
            .map_err(|error| bad_request(error.to_string()))?;
        // Replicas behave alike; what the first says is the answer.
        let mut answers = urls.iter().map(|url| {
            forward(|| {
                let request = self.client.request(Method::POST, url);
                request
                    .header("content-type", "application/json")
                    .body(change.clone())
                    .send()
            })
        });
        let first = answers.next().expect("a backend has an address");
        answers.for_each(drop);
        first
    }

    fn control_urls(&self, req: &Request) -> Result<Vec<String>, Refusal> {
        let name = req.param("backend").unwrap_or_default();
        match self.backends.iter().find(|backend| backend.name == name) {
            Some(backend) => {
                let addresses = backend.addresses().into_iter();
                Ok(addresses.map(|at| format!("http://{at}/control")).collect())
            }
            None => Err(Refusal(
                StatusCode::NOT_FOUND,
                format!("no backend is named \"{name}\""),
            )),
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        error_response(self.0, &self.1)
    }
}

fn bad_request(reason: String) -> Refusal {
    Refusal(StatusCode::BAD_REQUEST, reason)
}

/// An id goes into the backends' URLs as it is, so it holds only what needs no escaping there, and is no step of a path.
fn checked_id(id: &str) -> Result<&str, Refusal> {
    let plain = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let is_step = matches!(id, "." | "..");
    if (1..=64).contains(&id.len()) && id.bytes().all(plain) && !is_step {
        Ok(id)
    } else {
        Err(bad_request(format!(
            "\"{id}\" is no id: use 1 to 64 letters, digits or - . _ ~, but not . or .. alone"
        )))
    }
}

fn parse_mode(text: &str) -> Result<Mode, Refusal> {
    Mode::from_str(text, false).map_err(|_| {
        let modes = "serial, parallel, race, hedged or partial";
        bad_request(format!("\"{text}\" is no mode: use {modes}"))
    })
}

fn parse_deadline_ms(text: &str) -> Result<Duration, Refusal> {
    match text.parse() {
        Ok(ms @ 1..=60_000) => Ok(Duration::from_millis(ms)),
        _ => Err(bad_request(format!(
            "\"{text}\" is no deadline_ms: give whole milliseconds from 1 to 60000"
        ))),
    }
}

/// Makes a control call, and hands on the backend's answer as it is.
fn forward(
    call: impl FnOnce() -> Result<ClientResponse, ClientError>,
) -> Result<Response, Refusal> {
    let unreachable = |error: ClientError| {
        let status = match error.is_timeout() {
            true => StatusCode::GATEWAY_TIMEOUT,
            false => StatusCode::BAD_GATEWAY,
        };
        Refusal(status, error.to_string())
    };
    let answer = maniple::timeout(CONTROL_DEADLINE, || {
        let answer = call()?;
        Ok((answer.status(), answer.bytes()?))
    });
    let (status, body) = match answer {
        Ok(answer) => answer.map_err(unreachable)?,
        Err(elapsed) => return Err(Refusal(StatusCode::GATEWAY_TIMEOUT, elapsed.to_string())),
    };
    let response = Response::new(status).with_header("content-type", "application/json");
    Ok(response.with_body(body))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn refused<T>(result: Result<T, Refusal>) -> String {
        match result {
            Ok(_) => panic!("not refused"),
            Err(Refusal(status, reason)) => {
                assert_eq!(status, StatusCode::BAD_REQUEST);
                reason
            }
        }
    }

    #[test]
    fn an_id_holds_what_a_path_may_hold() {
        assert!(checked_id("user-7.b_2~x").is_ok());
        assert!(checked_id(&"x".repeat(64)).is_ok());
        assert!(checked_id("..x").is_ok());
        for id in [
            "",
            ".",
            "..",
            "a b",
            "a/b",
            "a?b",
            "\u{e9}",
            "a\r\nb",
            &"x".repeat(65),
        ] {
            assert!(refused(checked_id(id)).contains("is no id"), "{id}");
        }
    }

    #[test]
    fn a_deadline_is_whole_milliseconds_within_a_minute() {
        assert_eq!(
            parse_deadline_ms("250").ok(),
            Some(Duration::from_millis(250))
        );
        for text in [
            "",
            "0",
            "-1",
            "1.5",
            "60001",
            "soon",
            "99999999999999999999",
        ] {
            assert!(
                refused(parse_deadline_ms(text)).contains("is no deadline_ms"),
                "{text}"
            );
        }
    }

    #[test]
    fn a_mode_is_one_of_five() {
        assert_eq!(parse_mode("hedged").ok(), Some(Mode::Hedged));
        for text in ["", "Serial", "both"] {
            assert!(refused(parse_mode(text)).contains("is no mode"), "{text}");
        }
    }
}
