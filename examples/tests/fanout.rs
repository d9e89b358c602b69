//! The fan-out demo as a user meets it: the built binary, real sockets, each mode and each mistake.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::mpsc;
use std::thread;
use std::time::Duration;

use serde_json::{Value, json};

/// Longer than any of these tests may take: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);
/// A latency that no test waits out.
const NEVER: &str = "latency=fixed:60s";
const QUICK: &str = "latency=fixed:1ms";
const QUICK_FAILURE: &str = "latency=fixed:1ms,errors=1";

mod page {
    use super::*;

    #[test]
    #[ignore = "needs what .ci/run clients installs"]
    fn chromium_asks_both_ways_and_shows_the_answers() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK, "--c", QUICK]);
        let profile = std::env::temp_dir().join(format!("maniple-fanout-{}", std::process::id()));
        let output = Command::new("chromium")
            .args(["--headless", "--no-sandbox", "--disable-gpu", "--dump-dom"])
            // Of the page's own time, which stands still while it waits for answers.
            .arg("--virtual-time-budget=5000")
            .arg(format!("--user-data-dir={}", profile.display()))
            .arg(format!("http://{}/", demo.address))
            .output()
            .unwrap();
        let _ = std::fs::remove_dir_all(profile);
        let page = String::from_utf8_lossy(&output.stdout);
        assert!(page.contains("</b> than serial: <b>"), "{page}");
        assert!(page.contains("<h2>serial</h2>"), "{page}");
        assert!(page.contains("<h2>parallel</h2>"), "{page}");
        let (_, panels) = page.split_once("id=\"panels\"").unwrap();
        let answered = panels.matches("<b>ok</b>").count();
        assert_eq!(answered, 6, "{page}");
    }
}

mod modes {
    use super::*;

    #[test]
    fn serial_asks_one_after_another() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK, "--c", QUICK]);
        let (status, report) = demo.get("/aggregate/42?mode=serial");
        assert_eq!(status, 200);
        assert_eq!(report["id"], "42");
        assert_eq!(report["mode"], "serial");
        assert_eq!(report["complete"], true);
        assert_eq!(outcomes(&report), ["A ok 200", "B ok 200", "C ok 200"]);
        for pair in calls(&report).windows(2) {
            assert!(
                ms(&pair[0]["end_ms"]) <= ms(&pair[1]["start_ms"]),
                "{report}"
            );
        }
        assert!(
            ms(&calls(&report)[2]["end_ms"]) <= ms(&report["total_ms"]),
            "{report}"
        );
    }

    #[test]
    fn serial_ends_at_the_first_failure() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK_FAILURE, "--c", QUICK]);
        let (status, report) = demo.get("/aggregate/42?mode=serial");
        assert_eq!((status, &report["complete"]), (502, &json!(false)));
        assert_eq!(
            outcomes(&report),
            ["A ok 200", "B failed 500", "C cancelled"]
        );
    }

    #[test]
    fn parallel_asks_all_at_once() {
        let slow = "latency=fixed:300ms";
        let demo = Demo::start(&["--a", slow, "--b", slow, "--c", slow]);
        let (status, report) = demo.get("/aggregate/42?mode=parallel&deadline_ms=60000");
        assert_eq!((status, &report["complete"]), (200, &json!(true)));
        assert_eq!(outcomes(&report), ["A ok 200", "B ok 200", "C ok 200"]);
        let last_start = calls(&report)
            .iter()
            .map(|call| ms(&call["start_ms"]))
            .fold(0.0, f64::max);
        let first_end = calls(&report)
            .iter()
            .map(|call| ms(&call["end_ms"]))
            .fold(f64::MAX, f64::min);
        assert!(last_start < first_end, "{report}");
    }

    #[test]
    fn parallel_is_what_one_gets_without_asking() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK, "--c", QUICK]);
        assert_eq!(demo.get("/aggregate/42").1["mode"], "parallel");
    }

    #[test]
    fn parallel_cancels_the_siblings_of_a_failure() {
        let demo = Demo::start(&["--a", NEVER, "--b", QUICK_FAILURE, "--c", NEVER]);
        let (status, report) = demo.get("/aggregate/42?mode=parallel&deadline_ms=60000");
        assert_eq!((status, &report["complete"]), (502, &json!(false)));
        assert_eq!(
            outcomes(&report),
            ["A cancelled", "B failed 500", "C cancelled"]
        );
    }

    #[test]
    fn race_takes_the_first_success_and_cancels_the_rest() {
        let demo = Demo::start(&[
            "--a",
            QUICK_FAILURE,
            "--b",
            "latency=fixed:50ms",
            "--c",
            NEVER,
        ]);
        let (status, report) = demo.get("/aggregate/42?mode=race&deadline_ms=60000");
        assert_eq!((status, &report["complete"]), (200, &json!(true)));
        assert_eq!(
            outcomes(&report),
            ["A failed 500", "B ok 200", "C cancelled"]
        );
    }

    #[test]
    fn race_without_a_winner_is_no_success() {
        let demo = Demo::start(&[
            "--a",
            QUICK_FAILURE,
            "--b",
            QUICK_FAILURE,
            "--c",
            QUICK_FAILURE,
        ]);
        let (status, report) = demo.get("/aggregate/42?mode=race");
        assert_eq!((status, &report["complete"]), (502, &json!(false)));
        assert_eq!(
            outcomes(&report),
            ["A failed 500", "B failed 500", "C failed 500"]
        );
    }

    #[test]
    fn hedged_makes_one_attempt_where_one_is_quick() {
        let flags = [
            "--a",
            QUICK,
            "--b",
            QUICK,
            "--c",
            QUICK,
            "--hedge-after",
            "60s",
        ];
        let (status, report) = Demo::start(&flags).get("/aggregate/42?mode=hedged");
        assert_eq!((status, &report["complete"]), (200, &json!(true)));
        assert_eq!(outcomes(&report), ["A ok 200", "B ok 200", "C ok 200"]);
    }

    #[test]
    fn hedged_cancels_the_slow_attempt_when_the_other_wins() {
        let backend = Scripted::start(vec![Reply::Silence, Reply::Status(200)]);
        let demo = Demo::start(&["--backend", &backend.flag("X"), "--hedge-after", "1ms"]);
        let (status, report) = demo.get("/aggregate/42?mode=hedged&deadline_ms=60000");
        assert_eq!((status, &report["complete"]), (200, &json!(true)));
        // Which of them the backend hears first, and leaves without an answer, is left to the system.
        let mut outcomes = outcomes(&report);
        outcomes.sort_unstable();
        assert_eq!(outcomes, ["X cancelled", "X ok 200"]);
    }

    #[test]
    fn hedged_tries_again_at_once_after_a_failure() {
        let backend = Scripted::start(vec![Reply::Status(500), Reply::Status(200)]);
        let demo = Demo::start(&["--backend", &backend.flag("X"), "--hedge-after", "60s"]);
        let (status, report) = demo.get("/aggregate/42?mode=hedged&deadline_ms=60000");
        assert_eq!((status, &report["complete"]), (200, &json!(true)));
        assert_eq!(outcomes(&report), ["X failed 500", "X ok 200"]);
    }

    #[test]
    fn hedged_fails_with_both_attempts() {
        let demo = Demo::start(&[
            "--a",
            QUICK_FAILURE,
            "--b",
            NEVER,
            "--c",
            NEVER,
            "--hedge-after",
            "60s",
        ]);
        let (status, report) = demo.get("/aggregate/42?mode=hedged&deadline_ms=60000");
        assert_eq!(status, 502);
        assert_eq!(
            outcomes(&report),
            ["A failed 500", "A failed 500", "B cancelled", "C cancelled"]
        );
    }

    #[test]
    fn partial_returns_what_is_in_by_the_deadline() {
        let demo = Demo::start(&["--a", QUICK, "--b", NEVER, "--c", QUICK_FAILURE]);
        let (status, report) = demo.get("/aggregate/42?mode=partial&deadline_ms=500");
        assert_eq!((status, &report["complete"]), (200, &json!(false)));
        assert_eq!(outcomes(&report), ["A ok 200", "B late", "C failed 500"]);
    }

    #[test]
    fn partial_with_nothing_in_is_a_gateway_timeout() {
        let demo = Demo::start(&["--a", NEVER, "--b", NEVER, "--c", NEVER]);
        let (status, report) = demo.get("/aggregate/42?mode=partial&deadline_ms=50");
        assert_eq!((status, &report["complete"]), (504, &json!(false)));
        assert_eq!(outcomes(&report), ["A late", "B late", "C late"]);
    }

    #[test]
    fn every_mode_keeps_the_deadline() {
        let demo = Demo::start(&[
            "--a",
            NEVER,
            "--b",
            NEVER,
            "--c",
            NEVER,
            "--hedge-after",
            "60s",
        ]);
        for mode in ["serial", "parallel", "race", "hedged", "partial"] {
            let (status, report) = demo.get(&format!("/aggregate/42?mode={mode}&deadline_ms=80"));
            assert_eq!(status, 504, "{report}");
            assert_eq!(outcomes(&report), ["A late", "B late", "C late"], "{mode}");
            assert!(ms(&report["total_ms"]) >= 80.0, "{report}");
        }
    }

    #[test]
    fn the_report_has_the_promised_fields_and_no_others() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK, "--c", QUICK]);
        let (_, report) = demo.get("/aggregate/42");
        let fields = |value: &Value| {
            value
                .as_object()
                .unwrap()
                .keys()
                .cloned()
                .collect::<Vec<_>>()
        };
        assert_eq!(
            fields(&report),
            ["calls", "complete", "id", "mode", "total_ms"]
        );
        let call = &calls(&report)[0];
        assert_eq!(
            fields(call),
            ["backend", "end_ms", "outcome", "start_ms", "status"]
        );
    }
}

mod backends {
    use std::os::fd::OwnedFd;

    use super::*;

    /// A bound socket at which nobody listens, and nobody else can meanwhile.
    fn refusing() -> (OwnedFd, SocketAddr) {
        use rustix::net::{AddressFamily, SocketType, bind, getsockname, socket};
        let socket = socket(AddressFamily::INET, SocketType::STREAM, None).unwrap();
        bind(&socket, &"127.0.0.1:0".parse::<SocketAddr>().unwrap()).unwrap();
        let address = getsockname(&socket).unwrap().try_into().unwrap();
        (socket, address)
    }

    #[test]
    fn a_dead_one_fails_in_the_report_and_gives_one_line() {
        let (_kept, dead) = refusing();
        let alive = Scripted::start(vec![Reply::Status(200); 3]);
        let flags = [
            "--backend",
            &format!("dead={dead}"),
            "--backend",
            &alive.flag("alive"),
        ];
        let demo = Demo::start(&flags);
        for _ in 0..3 {
            let (status, report) = demo.get("/aggregate/42?mode=partial&deadline_ms=60000");
            assert_eq!(status, 200);
            assert_eq!(outcomes(&report), ["dead failed", "alive ok 200"]);
        }
        let output = demo.end();
        let lines: Vec<&str> = output.stderr.lines().collect();
        assert_eq!(lines.len(), 1, "{}", output.stderr);
        assert!(lines[0].contains(&dead.to_string()), "{}", lines[0]);
        assert!(lines[0].contains("refused"), "{}", lines[0]);
    }

    #[test]
    fn a_black_hole_is_late() {
        let hole = TcpListener::bind("127.0.0.1:0").unwrap();
        let flag = format!("hole={}", hole.local_addr().unwrap());
        let demo = Demo::start(&["--backend", &flag]);
        let (status, report) = demo.get("/aggregate/42?mode=parallel&deadline_ms=80");
        assert_eq!(status, 504);
        assert_eq!(outcomes(&report), ["hole late"]);
    }

    #[test]
    fn a_broken_answer_is_a_failure() {
        let backend = Scripted::start(vec![Reply::Raw(
            "HTTP/1.1 200 OK\r\ncontent-length: 9\r\n\r\nhalf",
        )]);
        let demo = Demo::start(&["--backend", &backend.flag("X")]);
        let (status, report) = demo.get("/aggregate/42?deadline_ms=60000");
        assert_eq!(status, 502);
        assert_eq!(outcomes(&report), ["X failed"]);
    }

    #[test]
    fn one_connection_carries_many_requests() {
        let backend = Scripted::start(vec![Reply::Status(200); 5]);
        let demo = Demo::start(&["--backend", &backend.flag("X")]);
        for _ in 0..5 {
            assert_eq!(demo.get("/aggregate/42").0, 200);
        }
        demo.end();
        let requests = backend.requests.try_iter().collect::<Vec<_>>();
        assert_eq!(requests.len(), 5);
        assert!(
            requests.iter().all(|&connection| connection == requests[0]),
            "{requests:?}"
        );
    }

    #[test]
    fn one_runs_alone_and_serves_a_gateway_elsewhere() {
        let backend = Demo::start(&["--only", "b", "--b", QUICK]);
        let flag = format!("far={}", backend.address);
        let gateway = Demo::start(&["--backend", &flag]);
        let (status, report) = gateway.get("/aggregate/42");
        assert_eq!(status, 200);
        assert_eq!(outcomes(&report), ["far ok 200"]);
        assert_eq!(gateway.get("/control/far").1["latency"], "fixed:1ms");
        assert!(gateway.end().status.success());
        let output = backend.end();
        assert!(output.status.success());
        assert!(
            output.stdout.contains("backend B drained"),
            "{}",
            output.stdout
        );
    }

    #[test]
    fn behaviour_changes_at_run_time() {
        let demo = Demo::start(&["--a", QUICK, "--b", QUICK, "--c", QUICK]);
        let show = || demo.get("/control/A");
        assert_eq!(
            show(),
            (
                200,
                json!({"latency": "fixed:1ms", "errors": 0.0, "outage": "off"})
            )
        );

        let (status, now) = demo.post("/control/A", r#"{"errors": 1, "latency": "exp:2ms"}"#);
        assert_eq!(
            (status, &now),
            (
                200,
                &json!({"latency": "exp:2ms", "errors": 1.0, "outage": "off"})
            )
        );
        assert_eq!(show().1, now);
        assert_eq!(
            outcomes(&demo.get("/aggregate/42?mode=partial").1)[0],
            "A failed 500"
        );

        demo.post("/control/A", r#"{"outage": "fail"}"#);
        assert_eq!(
            outcomes(&demo.get("/aggregate/42?mode=partial").1)[0],
            "A failed 503"
        );

        demo.post("/control/A", r#"{"outage": "off", "errors": 0}"#);
        assert_eq!(demo.get("/aggregate/42").0, 200);
    }

    #[test]
    fn a_hanging_one_answers_once_its_outage_ends() {
        let demo = Demo::start(&[
            "--a",
            "latency=fixed:1ms,outage=hang",
            "--b",
            QUICK,
            "--c",
            QUICK,
        ]);
        let (status, report) = demo.get("/aggregate/42?mode=partial&deadline_ms=300");
        assert_eq!(status, 200);
        assert_eq!(outcomes(&report), ["A late", "B ok 200", "C ok 200"]);

        let hanging = demo.send("GET", "/aggregate/42?mode=serial&deadline_ms=60000", "");
        demo.post("/control/A", r#"{"outage": "off"}"#);
        assert_eq!(read_response(hanging).0, 200);
    }

    #[test]
    fn a_backend_that_is_silent_is_a_timeout_and_no_bad_gateway() {
        // Connections are made, and nobody takes them.
        let silent = TcpListener::bind("127.0.0.1:0").unwrap();
        let far = format!("far={}", silent.local_addr().unwrap());
        let demo = Demo::start(&["--backend", &far]);
        let (status, error) = demo.post("/control/far", r#"{"errors": 0}"#);
        assert_eq!(status, 504, "{error}");
        let (status, error) = demo.get("/control/far");
        assert_eq!(status, 504, "{error}");
    }

    #[test]
    fn a_bad_change_is_refused_with_its_reason() {
        let demo = Demo::start(&[]);
        for (body, reason) in [
            ("", "EOF"),
            ("{\"errors\": 2}", "share from 0 to 1"),
            ("{\"latency\": \"soon\"}", "is no latency"),
            ("{\"outage\": \"on\"}", "unknown variant"),
            ("{\"speed\": 1}", "unknown field"),
            ("[]", "expected an object"),
        ] {
            let (status, error) = demo.post("/control/B", body);
            assert_eq!(status, 400, "{body}: {error}");
            assert!(
                error["error"].as_str().unwrap().contains(reason),
                "{body}: {error}"
            );
        }
        let (status, error) = demo.get("/control/D");
        assert_eq!(
            (status, &error["error"]),
            (404, &json!("no backend is named \"D\""))
        );
    }
}

mod mistakes {
    use super::*;

    #[test]
    fn a_bad_request_is_refused_with_its_reason() {
        let demo = Demo::start(&[]);
        for (path, reason) in [
            ("/aggregate/42?mode=fast", "\"fast\" is no mode"),
            ("/aggregate/42?mode=", "\"\" is no mode"),
            ("/aggregate/42?deadline_ms=0", "\"0\" is no deadline_ms"),
            (
                "/aggregate/42?deadline_ms=soon",
                "\"soon\" is no deadline_ms",
            ),
            (
                "/aggregate/42?deadline_ms=60001",
                "\"60001\" is no deadline_ms",
            ),
            ("/aggregate/a%20b", "is no id"),
            ("/aggregate/.", "is no id"),
            ("/aggregate/..", "is no id"),
            ("/aggregate/%2e%2e", "is no id"),
            (&format!("/aggregate/{}", "x".repeat(65)), "is no id"),
        ] {
            let (status, error) = demo.get(path);
            assert_eq!(status, 400, "{path}: {error}");
            assert!(
                error["error"].as_str().unwrap().contains(reason),
                "{path}: {error}"
            );
        }
        assert_eq!(demo.exchange("GET", "/nowhere", "").0, 404);
        assert_eq!(demo.exchange("DELETE", "/aggregate/42", "").0, 405);
    }

    #[test]
    fn a_busy_port_is_one_line() {
        let taken = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = taken.local_addr().unwrap().to_string();
        for flags in [
            &["--listen", &address][..],
            &["--only", "a", "--listen", &address],
        ] {
            let line = refusal(flags);
            assert!(line.contains(&address) && line.contains("in use"), "{line}");
        }
    }

    #[test]
    fn a_bad_flag_is_one_line() {
        for (flags, reason) in [
            (&["--florp"][..], "unexpected argument '--florp'"),
            (&["--a", "latency=soon"], "is no latency"),
            (&["--a", "errors=2"], "share from 0 to 1"),
            (&["--backend", "x"], "write NAME=HOST:PORT"),
            (&["--listen", "nowhere"], "nowhere"),
            (&["--picture", "/nowhere/at/all.svg"], "/nowhere/at/all.svg"),
        ] {
            let line = refusal(flags);
            assert!(line.contains(reason), "{flags:?}: {line}");
        }
    }

    /// Runs the demo with flags that it refuses, and returns its one line.
    fn refusal(flags: &[&str]) -> String {
        let Output { status, stderr, .. } = command(flags).output().unwrap();
        let stderr = String::from_utf8(stderr).unwrap();
        assert!(
            matches!(status.code(), Some(1 | 2)),
            "{flags:?}: {status}, {stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{flags:?}: {stderr}");
        assert!(stderr.starts_with("fanout: "), "{stderr}");
        stderr
    }
}

mod service {
    use super::*;

    #[test]
    fn what_is_in_flight_at_sigterm_is_answered() {
        let backend = Scripted::start(vec![Reply::WhenReleased(200)]);
        let demo = Demo::start(&["--backend", &backend.flag("X"), "--deadline", "60s"]);
        let in_flight = demo.send("GET", "/aggregate/42", "");
        backend
            .requests
            .recv_timeout(PATIENCE)
            .expect("the request reaches the backend");
        demo.signal("TERM");
        backend.release.send(()).unwrap();
        let (status, report) = read_response(in_flight);
        assert_eq!(status, 200);
        assert!(report.contains("\"complete\":true"), "{report}");
        let output = demo.wait();
        assert!(output.status.success(), "{}", output.status);
        assert!(
            output
                .stdout
                .ends_with("gateway S drained: every request it took is answered\n")
        );
        assert_eq!(output.stderr, "");
    }

    #[test]
    fn a_hanging_backend_does_not_delay_the_end() {
        let demo = Demo::start(&["--a", "outage=hang"]);
        assert_eq!(demo.get("/aggregate/42?deadline_ms=50").0, 504);
        demo.signal("INT");
        assert!(demo.wait().status.success());
    }

    #[test]
    fn health_is_told() {
        let (status, body) = Demo::start(&[]).exchange("GET", "/healthz", "");
        assert_eq!((status, body.as_str()), (200, "ok\n"));
    }

    #[test]
    fn the_page_needs_nothing_from_elsewhere() {
        let (status, page) = Demo::start(&[]).exchange("GET", "/", "");
        assert_eq!(status, 200);
        assert!(page.starts_with("<!doctype html>"));
        for fetched in ["src=", "href=\"http", "href=\"/", "@import", "url("] {
            assert!(!page.contains(fetched), "the page has {fetched}");
        }
    }

    #[test]
    fn the_page_learns_the_backends() {
        let demo = Demo::start(&["--deadline", "250ms"]);
        let (status, setup) = demo.get("/setup");
        assert_eq!((status, &setup["deadline_ms"]), (200, &json!(250.0)));
        let names: Vec<_> = setup["backends"]
            .as_array()
            .unwrap()
            .iter()
            .map(|b| &b["name"])
            .collect();
        assert_eq!(names, ["A", "B", "C"]);
    }

    #[test]
    fn the_picture_shows_serial_and_parallel() {
        let file = std::env::temp_dir().join(format!("fanout-picture-{}.svg", std::process::id()));
        let flags = [
            "--picture",
            file.to_str().unwrap(),
            "--a",
            QUICK,
            "--b",
            QUICK,
            "--c",
            QUICK,
        ];
        let output = command(&flags).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        let svg = std::fs::read_to_string(&file).unwrap();
        std::fs::remove_file(&file).unwrap();
        assert!(
            svg.contains("serial: ") && svg.contains("parallel: "),
            "{svg}"
        );
        assert_eq!(svg.matches(r#"<rect class="ok""#).count(), 6);
    }
}

/// A running demo. Dropping it kills the process; [`Demo::end`] ends it as a user would.
struct Demo {
    process: Child,
    address: SocketAddr,
    /// What was printed until it was ready.
    greeting: String,
    stdout: BufReader<std::process::ChildStdout>,
}

struct Ended {
    status: ExitStatus,
    stdout: String,
    stderr: String,
}

fn command(flags: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_fanout"));
    command
        .args(flags)
        .env_remove("RUST_LOG")
        .stdin(Stdio::null());
    command
}

impl Demo {
    fn start(flags: &[&str]) -> Demo {
        let mut command = command(flags);
        command
            .args(["--listen", "127.0.0.1:0"])
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut stdout = BufReader::new(process.stdout.take().unwrap());
        let alone = flags.contains(&"--only");
        let mut greeting = String::new();
        let address = loop {
            let mut line = String::new();
            if stdout.read_line(&mut line).unwrap() == 0 {
                let mut stderr = String::new();
                process
                    .stderr
                    .take()
                    .unwrap()
                    .read_to_string(&mut stderr)
                    .unwrap();
                panic!("{flags:?} did not start: {stderr}");
            }
            greeting += &line;
            if alone || line.starts_with("gateway S") {
                let address = line.split("http://").nth(1).unwrap();
                break address.split_whitespace().next().unwrap().parse().unwrap();
            }
        };
        Demo {
            process,
            address,
            greeting,
            stdout,
        }
    }

    fn get(&self, path: &str) -> (u16, Value) {
        self.json("GET", path, "")
    }

    fn post(&self, path: &str, body: &str) -> (u16, Value) {
        self.json("POST", path, body)
    }

    fn json(&self, method: &str, path: &str, body: &str) -> (u16, Value) {
        let (status, body) = self.exchange(method, path, body);
        let json =
            serde_json::from_str(&body).unwrap_or_else(|error| panic!("{path}: {error}: {body}"));
        (status, json)
    }

    fn exchange(&self, method: &str, path: &str, body: &str) -> (u16, String) {
        read_response(self.send(method, path, body))
    }

    fn send(&self, method: &str, path: &str, body: &str) -> TcpStream {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let length = body.len();
        write!(
            stream,
            "{method} {path} HTTP/1.1\r\nhost: demo\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        )
        .unwrap();
        stream
    }

    fn signal(&self, name: &str) {
        let kill = format!("kill -{name} {}", self.process.id());
        assert!(
            Command::new("sh")
                .args(["-c", &kill])
                .status()
                .unwrap()
                .success()
        );
    }

    fn end(self) -> Ended {
        self.signal("TERM");
        self.wait()
    }

    fn wait(mut self) -> Ended {
        let mut stdout = std::mem::take(&mut self.greeting);
        self.stdout.read_to_string(&mut stdout).unwrap();
        let mut stderr = String::new();
        self.process
            .stderr
            .take()
            .unwrap()
            .read_to_string(&mut stderr)
            .unwrap();
        Ended {
            status: self.process.wait().unwrap(),
            stdout,
            stderr,
        }
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn read_response(mut stream: TcpStream) -> (u16, String) {
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    let (head, body) = response.split_once("\r\n\r\n").expect("a whole head");
    let status = head.split(' ').nth(1).unwrap().parse().unwrap();
    (status, body.to_owned())
}

fn calls(report: &Value) -> &[Value] {
    report["calls"].as_array().unwrap()
}

/// `backend outcome status` of each call.
fn outcomes(report: &Value) -> Vec<String> {
    let outcome = |call: &Value| {
        let mut text = format!(
            "{} {}",
            call["backend"].as_str().unwrap(),
            call["outcome"].as_str().unwrap()
        );
        if let Some(status) = call["status"].as_u64() {
            text += &format!(" {status}");
        }
        text
    };
    calls(report).iter().map(outcome).collect()
}

fn ms(value: &Value) -> f64 {
    value.as_f64().unwrap()
}

/// A backend that gives its replies in the order in which requests arrive, over all connections.
struct Scripted {
    address: SocketAddr,
    /// The connection's number, for each request as it arrives.
    requests: mpsc::Receiver<usize>,
    release: mpsc::Sender<()>,
}

#[derive(Clone, Copy)]
enum Reply {
    Status(u16),
    WhenReleased(u16),
    Raw(&'static str),
    Silence,
}

impl Scripted {
    fn start(replies: Vec<Reply>) -> Scripted {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (arrived, requests) = mpsc::channel();
        let (release, released) = mpsc::channel();
        let script = std::sync::Arc::new(std::sync::Mutex::new((replies.into_iter(), released)));
        thread::spawn(move || {
            for (number, stream) in listener.incoming().enumerate() {
                let (script, arrived) = (script.clone(), arrived.clone());
                thread::spawn(move || {
                    let stream = stream.unwrap();
                    let mut lines = BufReader::new(&stream).lines();
                    while lines
                        .by_ref()
                        .map_while(Result::ok)
                        .any(|line| line.is_empty())
                    {
                        let _ = arrived.send(number);
                        let mut script = script.lock().unwrap();
                        let (text, last) = match script.0.next() {
                            Some(Reply::Status(status)) => (answer(status), false),
                            Some(Reply::WhenReleased(status)) => {
                                script.1.recv().unwrap();
                                (answer(status), false)
                            }
                            Some(Reply::Raw(text)) => (text.to_owned(), true),
                            Some(Reply::Silence) | None => continue,
                        };
                        if (&stream).write_all(text.as_bytes()).is_err() || last {
                            return;
                        }
                    }
                });
            }
        });
        Scripted {
            address,
            requests,
            release,
        }
    }

    fn flag(&self, name: &str) -> String {
        format!("{name}={}", self.address)
    }
}

fn answer(status: u16) -> String {
    format!("HTTP/1.1 {status} Scripted\r\ncontent-length: 2\r\n\r\nok")
}
