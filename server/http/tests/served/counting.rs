//! Metrics over real sockets, and as Prometheus' own tool reads them.

use std::{
    io::{Read, Write},
    process::{Command, Stdio},
};

use maniple_server::{Body, Client, Request, Response, Router, middleware::Metrics};

use super::Served;

fn served(metrics: &Metrics) -> Served {
    let routes = Router::new()
        .with(metrics.clone())
        .get("/", |_: &mut Request| "hello")
        .get("/endless", |_: &mut Request| {
            Response::text(Body::from_reader(std::io::repeat(b'x')))
        })
        .get("/metrics", metrics.handler());
    Served::of(routes, |builder| builder)
}

fn told(served: &Served) -> String {
    Client::new()
        .get(&served.url("/metrics"))
        .and_then(|answer| answer.text())
        .unwrap()
}

#[test]
fn a_client_that_leaves_within_an_answer_is_counted() {
    let metrics = Metrics::new();
    let served = served(&metrics);
    let mut stream = served.connect();
    let request = "GET /endless HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    stream.read_exact(&mut [0; 100_000]).unwrap();
    let in_flight = "\nhttp_server_requests_in_flight 2\n";
    assert!(told(&served).contains(in_flight));
    drop(stream);
    let begun = std::time::Instant::now();
    let ended = "http_server_requests_total{route=\"/endless\",method=\"GET\",code=\"2xx\"} 1\n";
    while !told(&served).contains(ended) {
        assert!(begun.elapsed().as_secs() < 60, "{}", told(&served));
    }
    assert!(told(&served).contains("\nhttp_server_requests_in_flight 1\n"));
}

/// Where it is not installed the test says so and passes, unless `MANIPLE_REQUIRE_PROMTOOL` is set, as `.ci/run` does.
#[test]
fn promtool_has_nothing_to_object_to() {
    if Command::new("promtool").arg("--version").output().is_err() {
        let is_required = std::env::var_os("MANIPLE_REQUIRE_PROMTOOL").is_some();
        assert!(!is_required, "promtool is not installed");
        eprintln!("skipped: promtool is not installed");
        return;
    }
    let metrics = Metrics::new();
    metrics.collect(|out| {
        out.gauges(
            "pool_workers",
            "Workers of a pool.",
            "pool",
            [("mail", 3.0), ("a \"b\"\\\n", 0.5)],
        );
        out.counter("mails_total", "Mails that were sent.", 7);
    });
    let served = served(&metrics);
    for path in ["/", "/no/such"] {
        let _ = Client::new().get(&served.url(path)).unwrap();
    }
    let mut promtool = Command::new("promtool")
        .args(["check", "metrics"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut input = promtool.stdin.take().unwrap();
    input.write_all(told(&served).as_bytes()).unwrap();
    drop(input);
    let output = promtool.wait_with_output().unwrap();
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success() && said.is_empty(), "{said}");
}
