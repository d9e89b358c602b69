//! Gateway S: checks the request, has the plan carried out, and serves the page and the controls.

use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use maniple_server::client::ClientResponse;
use maniple_server::{
    Client, ClientError, Html, IntoResponse, Json, Method, Request, Response, Router, Server,
    StatusCode, tls,
};
use serde::Serialize;

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
    address: &'a str,
}

impl Gateway {
    pub fn bind(self: &Arc<Self>, listen: &str) -> io::Result<Server> {
        let [setup, aggregate, show, change] = [(); 4].map(|()| Arc::clone(self));
        let router = Router::new()
            .get("/", |_: &mut Request| Html(PAGE))
            .get("/healthz", |_: &mut Request| "ok\n")
            .get("/setup", move |_: &mut Request| setup.setup())
            .get("/aggregate/{id}", move |req: &mut Request| {
                aggregate.aggregate(req)
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
                    address: &b.address,
                })
                .collect(),
        })
    }

    fn show_control(&self, req: &Request) -> Result<Response, Refusal> {
        let url = self.control_url(req)?;
        forward(|| self.client.get(&url))
    }

    fn change_control(&self, req: &mut Request) -> Result<Response, Refusal> {
        let url = self.control_url(req)?;
        let change = req
            .read_body()
            .map_err(|error| bad_request(error.to_string()))?;
        forward(|| {
            let request = self.client.request(Method::POST, &url);
            request
                .header("content-type", "application/json")
                .body(change)
                .send()
        })
    }

    fn control_url(&self, req: &Request) -> Result<String, Refusal> {
        let name = req.param("backend").unwrap_or_default();
        match self.backends.iter().find(|backend| backend.name == name) {
            Some(backend) => Ok(format!("http://{}/control", backend.address)),
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
