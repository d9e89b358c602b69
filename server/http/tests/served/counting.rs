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
    let begun = maniple::time::now();
    let ended = "http_server_requests_total{route=\"/endless\",method=\"GET\",code=\"2xx\"} 1\n";
    while !told(&served).contains(ended) {
        assert!(
            (maniple::time::now() - begun).as_secs() < 60,
            "{}",
            told(&served)
        );
    }
    assert!(told(&served).contains("\nhttp_server_requests_in_flight 1\n"));
}

/// Waits until so many connections of the only server are in a state.
fn until_there_are(metrics: &Metrics, state: &str, count: usize) {
    let handler = metrics.handler();
    let line = format!("state=\"{state}\"}} {count}\n");
    let begun = maniple::time::now();
    loop {
        let told = handler(&mut Request::for_test("GET", "/metrics"));
        let told = told.into_text().unwrap();
        if told.contains(&line) {
            return;
        }
        assert!(
            (maniple::time::now() - begun).as_secs() < 60,
            "no {line} in {told}"
        );
        maniple::sleep(std::time::Duration::from_millis(5));
    }
}

#[test]
fn connections_are_told_by_what_they_do() {
    let metrics = Metrics::new();
    let routes = Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/stuck", |_: &mut Request| {
            maniple::sleep(std::time::Duration::from_secs(600));
        })
        .get("/switch", |_: &mut Request| {
            Response::upgrade("echo", |mut connection| {
                let _ = connection.read(&mut [0]);
            })
        });
    let served = Served::of(routes, |builder| builder);
    served.handle.report_to(&metrics);
    // Again, which changes nothing.
    served.handle.report_to(&metrics);
    let asking = |request: &str| {
        let mut stream = served.connect();
        stream.write_all(request.as_bytes()).unwrap();
        stream
    };
    let idle = asking("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    let other = asking("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    until_there_are(&metrics, "idle", 2);
    let busy = asking("GET /stuck HTTP/1.1\r\nHost: h\r\n\r\n");
    until_there_are(&metrics, "busy", 1);
    let new = served.connect();
    until_there_are(&metrics, "new", 1);
    let switched =
        "GET /switch HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: echo\r\n\r\n";
    let switched = asking(switched);
    until_there_are(&metrics, "handed_over", 1);
    let told = metrics.handler()(&mut Request::for_test("GET", "/"));
    let told = told.into_text().unwrap();
    let server = format!("server=\"{}\"", served.address());
    for (state, count) in [
        ("new", 1),
        ("idle", 2),
        ("busy", 1),
        ("ending", 0),
        ("handed_over", 1),
    ] {
        let line = format!("\nhttp_server_connections{{{server},state=\"{state}\"}} {count}\n");
        assert_eq!(told.matches(&line).count(), 1, "{line} in {told}");
    }
    let refused = format!("\nhttp_server_connections_refused_total{{{server}}} 0\n");
    assert!(told.contains(&refused), "{told}");
    assert!(!told.contains("handshakes"), "{told}");
    drop((idle, other, busy, new, switched));
    for state in ["new", "idle", "busy", "handed_over"] {
        until_there_are(&metrics, state, 0);
    }
    drop(served);
    let begun = maniple::time::now();
    loop {
        let told = metrics.handler()(&mut Request::for_test("GET", "/"));
        if !told
            .into_text()
            .unwrap()
            .contains("http_server_connections")
        {
            break;
        }
        assert!(
            (maniple::time::now() - begun).as_secs() < 60,
            "a server that is gone is told"
        );
        maniple::sleep(std::time::Duration::from_millis(5));
    }
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
    served.handle.report_to(&metrics);
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
