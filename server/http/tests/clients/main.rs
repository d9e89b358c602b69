//! Clients that others have written, over TCP, at a server and at a `Proxy` in front of it: EventSource of Node and of
//! Chromium, and who takes answers in codings. `.ci/run clients` installs them and runs these.

use std::{
    env,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    sync::mpsc::{Receiver, channel},
    time::Duration,
};

use maniple::Runtime;
use maniple_server::{
    Body, BodyError, Html, IntoResponse, Proxy, Request, Response, Router, Server, ServerHandle,
    StatusCode,
    middleware::{Compression, Decompression},
    sse,
};

/// Longer than any of these tests may take: only a hang reaches it.
const LONG: Duration = Duration::from_secs(60);

/// Events of a stream before it ends, and the client is to come back for more; and all there are.
const AT_ONCE: u64 = 3;
const EVENTS: u64 = 6;

/// Where `.ci/run` puts them.
fn tools() -> PathBuf {
    let installed = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ci-tools/clients");
    env::var_os("MANIPLE_CLIENTS").map_or(installed, PathBuf::from)
}

fn program(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    // Packages of Node are looked for where the program lies.
    let here = tools().join(name);
    std::fs::copy(folder.join(name), &here).unwrap();
    here
}

/// What `codings.py` and `codings.mjs` know, too.
fn text() -> String {
    (0..20_000)
        .map(|number| format!("line {number}\n"))
        .collect()
}

/// A part of all events, from where the client has come to; 204 once there are no more.
fn events(request: &mut Request) -> Response {
    let last = sse::last_event_id(request).and_then(|id| id.parse().ok());
    let begin: u64 = last.unwrap_or(0);
    if begin >= EVENTS {
        return StatusCode::NO_CONTENT.into_response();
    }
    let settings = sse::Settings::new().retry(Duration::from_millis(20));
    settings.stream(request, move |events| {
        for number in begin + 1..=begin + AT_ONCE {
            let event = match number % 2 {
                0 => sse::Event::named("even").with_data(format!("{number}\ntwo lines")),
                _ => sse::Event::data(number.to_string()),
            };
            events.send(&event.with_id(number))?;
        }
        Ok(())
    })
}

struct Serving {
    /// The server itself, and a proxy in front of it.
    places: Vec<ServerHandle>,
    /// What a page has found out.
    results: Receiver<String>,
    _runtime: Runtime,
}

impl Serving {
    fn start() -> Self {
        let (found, results) = channel();
        let router = Router::new()
            .with(Compression::new())
            .with(Decompression::new())
            .get("/", |_: &mut Request| Html(include_str!("events.html")))
            .get("/result", move |request: &mut Request| {
                let text = request.query_param("text").unwrap_or_default();
                found.send(text.into_owned()).unwrap();
            })
            .get("/events", events)
            .get("/text", |_: &mut Request| text())
            .get("/streamed", |_: &mut Request| {
                Response::text(Body::from_reader(std::io::Cursor::new(text())))
            })
            .post(
                "/echo",
                |request: &mut Request| -> Result<Vec<u8>, BodyError> {
                    Ok(request.read_body()?.to_vec())
                },
            );
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let serve = |router| {
            let server = runtime
                .run(|| Server::builder(router).bind("127.0.0.1:0"))
                .unwrap();
            let handle = server.handle();
            drop(runtime.spawn(move || server.serve()));
            handle
        };
        let behind = serve(router);
        let url = format!("http://{}", behind.local_addr());
        let front = serve(Router::new().fallback(Proxy::to(&url)));
        Self {
            places: vec![behind, front],
            results,
            _runtime: runtime,
        }
    }

    /// What a client prints that is told the address, which is the same at both.
    fn seen_by(&self, command: impl Fn() -> Command) -> String {
        let mut seen = self.places.iter().map(|place| {
            let mut command = command();
            let output = command
                .arg(place.local_addr().to_string())
                .output()
                .unwrap();
            let errors = String::from_utf8_lossy(&output.stderr);
            assert!(output.status.success(), "{command:?}: {errors}");
            String::from_utf8(output.stdout).unwrap()
        });
        let (direct, proxied) = (seen.next().unwrap(), seen.next().unwrap());
        assert_eq!(direct, proxied);
        direct
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.places.iter().rev().for_each(ServerHandle::drain);
    }
}

const SEEN: &str =
    "1: 1; 2 even: 2|two lines; 3: 3; 4 even: 4|two lines; 5: 5; 6 even: 6|two lines; closed";

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn event_sources_of_node_come_back_for_the_rest_and_end_at_204() {
    let serving = Serving::start();
    for client in ["eventsource", "undici"] {
        let program = program("events.mjs");
        let seen = serving.seen_by(|| {
            let mut command = Command::new("node");
            command.arg(&program).arg(client);
            command
        });
        assert_eq!(seen, format!("{SEEN}\n"), "{client}");
    }
}

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn chromiums_event_source_comes_back_for_the_rest_and_ends_at_204() {
    let serving = Serving::start();
    for place in &serving.places {
        let name = format!("maniple-events-{}", std::process::id());
        let profile = env::temp_dir().join(name);
        let mut command = Command::new("chromium");
        command
            .args(["--headless", "--no-sandbox", "--disable-gpu"])
            // So that it stays.
            .arg("--remote-debugging-port=0")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("http://{}/", place.local_addr()))
            .stdin(Stdio::null())
            .stderr(Stdio::null());
        let mut browser = command.spawn().unwrap();
        let result = serving.results.recv_timeout(LONG);
        browser.kill().unwrap();
        browser.wait().unwrap();
        let _ = std::fs::remove_dir_all(profile);
        assert_eq!(result.as_deref(), Ok(SEEN));
    }
}

#[test]
#[ignore = "needs what .ci/run clients installs"]
fn answers_in_codings_are_read_by_python_and_node() {
    let serving = Serving::start();
    let python = program("codings.py");
    let seen = serving.seen_by(|| {
        let mut command = Command::new(tools().join("python/bin/python"));
        command.arg(&python);
        command
    });
    let each = |codings: &[&str]| {
        let lines = ["text", "streamed"].iter().flat_map(|path| {
            codings
                .iter()
                .map(move |coding| format!("{path} {coding} whole\n"))
        });
        lines.collect::<String>()
    };
    assert_eq!(
        seen,
        each(&["gzip", "br", "zstd", "identity"]) + "echoes gzip\n"
    );
    let node = program("codings.mjs");
    let seen = serving.seen_by(|| {
        let mut command = Command::new("node");
        command.arg(&node);
        command
    });
    assert_eq!(seen, each(&["gzip", "br", "identity"]));
}
