//! Services that call others: what their clients see when a call fails.

use std::time::Duration;

use maniple_server::{
    Client, ClientError, ClientResponse, IntoResponse, Request, Router, StatusCode, client::Phase,
};

use super::Served;
use crate::driven::Reserved;

#[test]
fn a_post_has_its_body() {
    let served = Served::start();
    let client = Client::new();
    let answer = client
        .post(&served.url("/echo"))
        .body("abc")
        .send()
        .unwrap();
    assert_eq!(answer.text().unwrap(), "abc");
}

#[test]
fn an_answer_that_is_a_failure_can_be_made_an_error() {
    let routes = Router::new()
        .get("/fine", |_: &mut Request| "fine")
        .get("/moved", |_: &mut Request| StatusCode::FOUND)
        .get("/gone", |_: &mut Request| StatusCode::GONE)
        .get("/broken", |_: &mut Request| {
            StatusCode::INTERNAL_SERVER_ERROR
        });
    let served = Served::of(routes, |builder| builder);
    let client = Client::new();
    let get = |path: &str| {
        let answer = client.get(&served.url(path));
        answer.and_then(ClientResponse::error_for_status)
    };
    assert_eq!(get("/fine").unwrap().text().unwrap(), "fine");
    assert_eq!(get("/moved").unwrap().status(), StatusCode::FOUND);
    for (path, code) in [
        ("/gone", "410 Gone"),
        ("/broken", "500 Internal Server Error"),
    ] {
        let error = get(path).unwrap_err();
        assert!(matches!(&error, ClientError::Status { .. }), "{error:?}");
        let expected = format!("{}: answered {code}", served.address());
        assert_eq!(error.to_string(), expected);
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    }
}

#[test]
fn a_call_that_fails_is_an_answer_which_does_not_name_hosts() {
    let backend = Served::of(
        Router::new().get("/slow", |_: &mut Request| {
            maniple::sleep(Duration::from_secs(60));
            "late"
        }),
        |builder| builder.drain_grace(Duration::ZERO),
    );
    let slow = backend.url("/slow");
    let nobody = Reserved::new();
    let dead = format!("http://{}/", nobody.address());
    let client = Client::new();
    let theirs = client.clone();
    let gateway = Router::new()
        .get(
            "/dead",
            move |_: &mut Request| -> Result<String, ClientError> {
                theirs.get(&dead)?.error_for_status()?.text()
            },
        )
        .get(
            "/slow",
            move |_: &mut Request| -> Result<String, ClientError> {
                let call = || client.get(&slow)?.text();
                let late = ClientError::Timeout {
                    host: "the backend".into(),
                    phase: Phase::Answer,
                };
                maniple::timeout(Duration::from_millis(20), call).unwrap_or(Err(late))
            },
        );
    let served = Served::of(gateway, |builder| builder);
    let client = Client::new();
    for (path, status, text) in [
        ("/dead", StatusCode::BAD_GATEWAY, "bad gateway\n"),
        ("/slow", StatusCode::GATEWAY_TIMEOUT, "gateway timeout\n"),
    ] {
        let answer = client.get(&served.url(path)).unwrap();
        assert_eq!(answer.status(), status);
        assert_eq!(answer.text().unwrap(), text);
    }
}

#[test]
fn what_cannot_be_asked_is_the_services_own_fault() {
    let client = Client::new();
    let error = client.get("no url").unwrap_err();
    let answer = error.into_response();
    assert_eq!(answer.status(), StatusCode::INTERNAL_SERVER_ERROR);
}
