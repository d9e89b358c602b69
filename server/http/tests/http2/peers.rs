//! Clients that others have written: `.ci/run http2` installs and runs them.

use std::{path::PathBuf, process::Command, thread, time::Duration};

use maniple::{JoinHandle, Runtime};
use maniple_server::{
    Body, DrainReport, Request, Response, Router, Server, ServerHandle,
    server::Http2,
    tls::{ServerConfig, self_signed},
    transport::Listener,
};

/// A server that speaks plain text on one port, and TLS on another.
struct Both {
    plain: u16,
    secure: u16,
    handle: ServerHandle,
    serving: JoinHandle<std::io::Result<DrainReport>>,
    _runtime: Runtime,
}

impl Both {
    fn start() -> Self {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let router = Router::new()
            .get("/", |request: &mut Request| {
                format!("{:?}\n", request.version())
            })
            .get("/long", |_: &mut Request| vec![b'x'; 5_000_000])
            .post("/echo", |_: &mut Request| {
                Response::text(Body::duplex(|request, out| {
                    maniple::io::copy(request, out).map(drop)
                }))
            });
        let config = ServerConfig::builder()
            .certificate(self_signed(["localhost"]).unwrap())
            .alpn(["h2", "http/1.1"])
            .build()
            .unwrap();
        let bind = || std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let (plain, secure) = (bind(), bind());
        let port = |listener: &std::net::TcpListener| listener.local_addr().unwrap().port();
        let ports = (port(&plain), port(&secure));
        let server = Server::builder(router)
            .max_body_bytes(100_000_000)
            .listen(plain)
            .unwrap()
            .listener(Listener::try_from(secure).unwrap().tls(config))
            .unwrap();
        let handle = server.handle();
        Self {
            plain: ports.0,
            secure: ports.1,
            handle,
            serving: runtime.spawn(move || server.serve()),
            _runtime: runtime,
        }
    }

    fn end(self) {
        self.handle.drain();
        let report = self.serving.join().unwrap().unwrap();
        assert_eq!((report.cancelled, report.left), (0, 0));
    }
}

/// Where the step has put what is no package of the system's.
fn tools() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../..");
    root.join("target/ci-tools/http2").canonicalize().unwrap()
}

fn output(command: &mut Command) -> String {
    let done = command
        .output()
        .unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let (out, wrong) = (
        String::from_utf8_lossy(&done.stdout).into_owned(),
        String::from_utf8_lossy(&done.stderr),
    );
    assert!(done.status.success(), "{command:?}: {out}{wrong}");
    out
}

#[test]
#[ignore = "needs curl"]
fn curl_speaks_it_by_prior_knowledge_and_by_tls() {
    let both = Both::start();
    let urls = [
        format!("http://127.0.0.1:{}", both.plain),
        format!("https://localhost:{}", both.secure),
    ];
    for (url, flag) in urls.iter().zip(["--http2-prior-knowledge", "--http2"]) {
        let curl = |path: &str| {
            let mut curl = Command::new("curl");
            curl.args(["-sSk", "--max-time", "60", flag, &format!("{url}{path}")]);
            curl
        };
        assert_eq!(output(&mut curl("/")), "HTTP/2.0\n");
        assert_eq!(output(&mut curl("/long")).len(), 5_000_000);
        let long = "x".repeat(3_000_000);
        let file = std::env::temp_dir().join(format!("maniple-http2-{}", std::process::id()));
        std::fs::write(&file, &long).unwrap();
        let data = format!("@{}", file.display());
        let echoed = output(curl("/echo").args(["--data-binary", &data]));
        std::fs::remove_file(&file).unwrap();
        assert!(echoed == long);
    }
    both.end();
}

#[test]
#[ignore = "needs nghttp and h2load"]
fn nghttp_and_h2load_get_all_their_answers() {
    let both = Both::start();
    let url = format!("http://127.0.0.1:{}/", both.plain);
    assert_eq!(output(Command::new("nghttp").arg(&url)), "HTTP/2.0\n");
    let secure = format!("https://localhost:{}/", both.secure);
    for url in [&url, &secure] {
        let load = ["-n", "20000", "-c", "10", "-m", "100", url];
        let told = output(Command::new("h2load").args(load));
        assert!(told.contains("20000 succeeded, 0 failed"), "{told}");
    }
    // A drain in the middle answers what it takes, and closes.
    let loading = thread::spawn(move || {
        let load = ["-D", "3", "-c", "4", "-m", "10", &url];
        output(Command::new("h2load").args(load))
    });
    thread::park_timeout(Duration::from_secs(1));
    both.end();
    let told = loading.join().unwrap();
    assert!(told.contains(" succeeded"), "{told}");
}

#[test]
#[ignore = "needs node"]
fn node_asks_many_at_once_and_both_ways() {
    let both = Both::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http2/peers/client.mjs");
    for url in [
        format!("http://127.0.0.1:{}", both.plain),
        format!("https://localhost:{}", both.secure),
    ] {
        let told = output(Command::new("node").args([script, &url]));
        assert!(told.ends_with("all is well\n"), "{told}");
    }
    both.end();
}

#[test]
#[ignore = "needs httpx and h2 of Python"]
fn pythons_h2_asks_by_httpx() {
    let both = Both::start();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http2/peers/client.py");
    let url = format!("https://localhost:{}", both.secure);
    let python = tools().join("python/bin/python");
    let told = output(Command::new(python).args([script, &url]));
    assert!(told.ends_with("all is well\n"), "{told}");
    both.end();
}

#[test]
#[ignore = "needs hyperframe and hpack of Python"]
fn frames_that_none_should_send_end_their_own_connection() {
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let router = Router::new()
        .get("/", |_: &mut Request| "hello")
        .post("/echo", |request: &mut Request| request.read_body());
    let limits = Http2::new().max_resets(50).max_control_frames(100);
    let server = Server::builder(router)
        .http2(limits)
        .header_timeout(Duration::from_secs(2))
        .bind("127.0.0.1:0")
        .unwrap();
    let (port, handle) = (server.local_addr().port(), server.handle());
    let serving = runtime.spawn(move || server.serve());
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/http2/peers/hostile.py");
    let python = tools().join("python/bin/python");
    let told = output(Command::new(python).args([script, &port.to_string()]));
    assert!(told.ends_with("all is well\n"), "{told}");
    handle.drain();
    serving.join().unwrap().unwrap();
}
