//! The service as its supervisor meets it, and the numbers that have to fit together.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpStream,
    path::Path,
    process::{Child, ChildStderr, Command, Stdio},
    time::Duration,
};

/// Longer than any of these tests may take: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

struct Service {
    process: Child,
    log: BufReader<ChildStderr>,
    address: String,
}

impl Service {
    /// The processes that serve; none but its own if it is 0.
    fn of(workers: &str) -> Service {
        Self::with(workers, &[])
    }

    fn with(workers: &str, arguments: &[&str]) -> Service {
        let mut command = Command::new(env!("CARGO_BIN_EXE_greeter"));
        command.args(arguments);
        command.env("LISTEN", "127.0.0.1:0").env_remove("RUST_LOG");
        command.env("WORKERS", workers);
        let mut process = command.stderr(Stdio::piped()).spawn().unwrap();
        let mut log = BufReader::new(process.stderr.take().unwrap());
        let mut lines = log.by_ref().lines().map(Result::unwrap);
        let line = lines.find(|line| line.contains("listening on ")).unwrap();
        let address = line.rsplit(' ').next().unwrap().to_owned();
        Service {
            process,
            log,
            address,
        }
    }

    fn ask(&self, path: &str) -> TcpStream {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let request = format!("GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        stream
    }

    fn signal(&self, signal: &str) {
        let kill = format!("kill -{signal} {}", self.process.id());
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.unwrap().success());
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn whole(mut stream: TcpStream) -> String {
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

#[test]
fn it_is_healthy_shows_itself_and_ends_gracefully() {
    let mut service = Service::of("0");
    assert!(whole(service.ask("/livez")).ends_with("\r\n\r\nlive\n"));

    service.signal("QUIT");
    let mut lines = service.log.by_ref().lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("coroutines on ")));
    assert!(lines.any(|line| line.contains("\"main\"")));

    let answer = whole(service.ask("/hello/Ann"));
    assert!(answer.ends_with("\r\n\r\nHello, Ann!\n"), "{answer}");

    service.signal("TERM");
    let mut rest = String::new();
    service.log.read_to_string(&mut rest).unwrap();
    assert!(rest.contains("ended: DrainReport"), "{rest}");
    assert!(service.process.wait().unwrap().success());
}

#[test]
fn its_workers_are_replaced_and_end_with_it() {
    let mut service = Service::of("2");
    let mut lines = service.log.by_ref().lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("2 workers are ready")));
    let answer = whole(service.ask("/hello/Ann"));
    assert!(answer.ends_with("\r\n\r\nHello, Ann!\n"), "{answer}");
    service.signal("HUP");
    let mut lines = service.log.by_ref().lines().map(Result::unwrap);
    assert!(lines.any(|line| line.contains("generation 2 serves")));
    assert!(whole(service.ask("/who")).ends_with("\r\n\r\n127.0.0.1 by http\n"));
    service.signal("TERM");
    let mut rest = String::new();
    service.log.read_to_string(&mut rest).unwrap();
    // Those that were replaced, and their followers.
    assert!(rest.contains("ended: DrainReport"), "{rest}");
    assert!(service.process.wait().unwrap().success());
}

/// Each of the workers makes a certificate for itself.
#[test]
fn it_speaks_https_with_a_certificate_that_it_makes_itself() {
    if Command::new("curl").arg("--version").output().is_err() {
        let is_required = std::env::var_os("MANIPLE_REQUIRE_PROGRAMS").is_some();
        assert!(!is_required, "curl is not installed");
        return eprintln!("skipped: curl is not installed");
    }
    for workers in ["0", "2"] {
        let service = Service::with(workers, &["--tls-self-signed"]);
        let url = format!("https://{}/who", service.address);
        let ask = |more: &[&str]| {
            let mut curl = Command::new("curl");
            curl.args(["-sS", "--max-time", "60"]).args(more).arg(&url);
            curl.output().unwrap()
        };
        let answer = ask(&["--insecure"]);
        let text = String::from_utf8_lossy(&answer.stdout);
        assert_eq!(text, "127.0.0.1 by https\n", "{answer:?}");
        // Nobody else has signed it.
        assert_eq!(ask(&[]).status.code(), Some(60));
        service.signal("TERM");
    }
}

/// The digits behind the first `before`, which end at something else.
fn number(text: &str, before: &str) -> u64 {
    let at = text.find(before).unwrap_or_else(|| panic!("no {before:?}"));
    let digits = text[at + before.len()..].chars();
    let digits: String = digits
        .filter(|c| *c != '_')
        .take_while(char::is_ascii_digit)
        .collect();
    digits.parse().unwrap()
}

#[test]
fn what_the_service_says_and_what_stands_around_it_fit() {
    let read =
        |name: &str| fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(name)).unwrap();
    let (main, unit) = (read("src/main.rs"), read("greeter.service"));
    let socket = read("greeter.socket");
    let (nginx, haproxy) = (read("nginx.conf"), read("haproxy.cfg"));
    assert!(number(&unit, "\nLimitNOFILE=") > number(&main, "max_connections("));
    let seconds = |setting: &str| number(&main, &format!("{setting}(Duration::from_secs("));
    let drain = seconds("drain_delay") + seconds("drain_grace");
    assert!(seconds("end_timeout") > drain);
    assert!(number(&unit, "\nTimeoutStopSec=") > seconds("end_timeout"));
    let checks = number(&haproxy, " inter ") * (number(&haproxy, " fall ") + 1);
    assert!(checks < seconds("drain_delay"), "HAProxy sees that it ends");
    let idle = seconds("idle_timeout");
    assert!(number(&nginx, "keepalive_timeout ") < idle);
    assert!(number(&haproxy, "pool-purge-delay ") < idle);
    // The service listens where the socket unit does, by the name that it looks for.
    assert!(main.contains("\"http\"") && socket.contains("\nFileDescriptorName=http\n"));
    assert!(socket.contains("\nListenStream=127.0.0.1:8080\n"));
    assert!(unit.contains("LISTEN=127.0.0.1:8080"));
}
