//! Programs that others wrote: curl, openssl and Python's ssl, by HTTPS; and curl in plain text.
//!
//! Where one is not installed its test says so and passes, unless `MANIPLE_REQUIRE_PROGRAMS` is set, as `.ci/run` does.

use std::{
    io::Write,
    path::PathBuf,
    process::{Command, Output, Stdio},
};

use maniple_server::{Request, Route, Router, TrailingSlash};

use super::{routes, secure::Served};

/// A served address, and the certificate in a file.
struct Site {
    served: Served,
    believed: PathBuf,
}

fn is_installed(program: &str) -> bool {
    let probe = Command::new(program).arg("--version").output();
    let probe = probe.or_else(|_| Command::new(program).arg("version").output());
    if probe.is_err() {
        let is_required = std::env::var_os("MANIPLE_REQUIRE_PROGRAMS").is_some();
        assert!(!is_required, "{program} is not installed");
        eprintln!("skipped: {program} is not installed");
    }
    probe.is_ok()
}

impl Site {
    /// Nothing without the program.
    fn for_program(program: &str) -> Option<Self> {
        if !is_installed(program) {
            return None;
        }
        let served = Served::start(routes());
        let name = format!("maniple-{}-{program}.pem", std::process::id());
        let believed = std::env::temp_dir().join(name);
        std::fs::write(&believed, &served.believed).unwrap();
        Some(Self { served, believed })
    }

    fn port(&self) -> String {
        self.served.handle.local_addr().port().to_string()
    }

    fn url(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.port())
    }

    fn believed(&self) -> &str {
        self.believed.to_str().unwrap()
    }
}

impl Drop for Site {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.believed);
    }
}

/// What it printed, if it went well.
#[track_caller]
fn told(output: Output) -> String {
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(
        output.status.success(),
        "{}\n{told}\n{errors}",
        output.status
    );
    told
}

fn with_input(mut command: Command, input: &[u8]) -> Output {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(input).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn curl_is_served_in_both_versions_and_keeps_its_connection() {
    let Some(site) = Site::for_program("curl") else {
        return;
    };
    let curl = |arguments: &[&str]| {
        let mut command = Command::new("curl");
        command.args([
            "--silent",
            "--show-error",
            "--max-time",
            "60",
            "--noproxy",
            "*",
        ]);
        command.args(["--cacert", site.believed()]).args(arguments);
        command
    };
    let home = site.url("/");
    for version in [&["--tlsv1.3"][..], &["--tls-max", "1.2"], &["--http1.0"]] {
        assert_eq!(
            told(curl(&[version, &[&home]].concat()).output().unwrap()),
            "hello"
        );
    }
    // The second over the connection of the first.
    let count = ["--write-out", "%{num_connects}", &home, &home];
    assert_eq!(told(curl(&count).output().unwrap()), "hello1hello0");
    let body = vec![b'u'; 1_000_000];
    for chunked in [&[][..], &["--header", "Transfer-Encoding: chunked"]] {
        let echo = site.url("/echo");
        let upload = [
            chunked,
            &[
                "--data-binary",
                "@-",
                "--header",
                "Expect: 100-continue",
                &echo,
            ],
        ];
        let output = with_input(curl(&upload.concat()), &body);
        assert!(told(output).as_bytes() == body);
    }
    let output = told(curl(&[&site.url("/stream")]).output().unwrap());
    assert_eq!(output.len(), 100_000);
    // Plain HTTP to this port.
    let plain = home.replace("https:", "http:");
    let output = told(
        curl(&["--write-out", "%{http_code}", &plain])
            .output()
            .unwrap(),
    );
    assert!(output.ends_with("400"), "{output}");
    // Who does not believe it ends by itself.
    let mut unbelieving = Command::new("curl");
    unbelieving.args(["--silent", "--max-time", "60", "--noproxy", "*", &home]);
    assert_eq!(unbelieving.output().unwrap().status.code(), Some(60));
}

#[test]
fn openssl_verifies_resumes_and_renews_its_keys() {
    let Some(site) = Site::for_program("openssl") else {
        return;
    };
    let address = format!("localhost:{}", site.port());
    let session = std::env::temp_dir().join(format!("maniple-{}.session", std::process::id()));
    let session = session.to_str().unwrap();
    let client = |arguments: &[&str]| {
        let mut command = Command::new("openssl");
        command.args(["s_client", "-connect", &address, "-servername", "localhost"]);
        command.args(["-CAfile", site.believed(), "-verify_return_error"]);
        command.args(arguments);
        command
    };
    let request = b"GET / HTTP/1.0\r\n\r\n";
    for version in ["-tls1_2", "-tls1_3"] {
        let first = told(with_input(
            client(&[version, "-ign_eof", "-sess_out", session]),
            request,
        ));
        assert!(first.contains("Verify return code: 0 (ok)"), "{first}");
        assert!(first.contains("\nhello"), "{first}");
        assert!(first.contains("\nNew, TLSv1"), "{first}");
        // An orderly end: `close_notify` came.
        assert!(first.contains("closed"), "{first}");
        let second = told(with_input(
            client(&[version, "-ign_eof", "-sess_in", session]),
            request,
        ));
        assert!(second.contains("\nReused, TLSv1"), "{version}: {second}");
    }
    let _ = std::fs::remove_file(session);
    // A line of `K` asks for new keys in both directions, a line of `k` has the client renew its own.
    let mut command = client(&["-tls1_3"]);
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut stdin = child.stdin.take().unwrap();
    for line in ["K\n", "k\n", "GET / HTTP/1.0\r\n\r\n"] {
        stdin.write_all(line.as_bytes()).unwrap();
        // It takes for a command what is the beginning of what it reads at once.
        maniple::sleep(std::time::Duration::from_millis(300));
    }
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    let errors = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(errors.contains("KEYUPDATE"), "{errors}");
    let output = told(output);
    assert!(output.contains("\nhello"), "{output}");
}

#[test]
fn python_closes_in_an_orderly_way_and_keeps_its_connection() {
    let Some(site) = Site::for_program("python3") else {
        return;
    };
    let script = r#"
import http.client, socket, ssl, sys
port, believed = int(sys.argv[1]), sys.argv[2]
context = ssl.create_default_context(cafile=believed)
context.set_alpn_protocols(["http/1.1"])
connection = http.client.HTTPSConnection("localhost", port, context=context, timeout=60)
for number in range(3):
    connection.request("GET", f"/user/{number}")
    answer = connection.getresponse()
    assert answer.read() == str(number).encode(), answer.status
    if number == 0:
        local = connection.sock.getsockname()
    assert connection.sock.getsockname() == local
body = b"p" * 300_000
connection.request("POST", "/echo", body=iter([body[:1000], body[1000:]]), encode_chunked=True,
                   headers={"Transfer-Encoding": "chunked"})
assert connection.getresponse().read() == body
connection.close()
with socket.create_connection(("localhost", port), 60) as plain:
    with context.wrap_socket(plain, server_hostname="localhost") as secure:
        secure.sendall(b"GET / HTTP/1.0\r\n\r\n")
        received = b""
        while piece := secure.recv(65536):
            received += piece
        assert received.endswith(b"\r\n\r\nhello"), received
        # Fails unless the server has said close_notify.
        secure.unwrap()
print("fine")
"#;
    let mut command = Command::new("python3");
    command.args(["-c", script, &site.port(), site.believed()]);
    assert_eq!(told(command.output().unwrap()), "fine\n");
}

#[test]
fn curl_is_told_of_limits_hosts_and_slashes() {
    if !is_installed("curl") {
        return;
    }
    let count = |request: &mut Request| request.read_body().map(|body| body.len().to_string());
    let routes = Router::new()
        .trailing_slash(TrailingSlash::Redirect)
        .post("/notes", count)
        .at(
            "/videos",
            Route::new().max_body_bytes(10_000_000).post(count),
        )
        .host(
            "*.example.com",
            Router::new().get("/", |_: &mut Request| "ours"),
        );
    let served = super::Served::of(routes, |builder| builder);
    let name = format!("maniple-{}-curl-body", std::process::id());
    let file = std::env::temp_dir().join(name);
    std::fs::write(&file, vec![b'x'; 3_000_000]).unwrap();
    let body = format!("@{}", file.display());
    let curl = |arguments: &[&str], path: &str| {
        let asked = Command::new("curl")
            .args(["--silent", "--max-time", "60"])
            .args(["--write-out", " %{http_code} %{size_upload}"])
            .args(arguments)
            .arg(served.url(path))
            .output();
        String::from_utf8(asked.unwrap().stdout).unwrap()
    };
    let upload = ["--header", "Expect: 100-continue", "--data-binary", &body];
    let refused = "request body is larger than 2097152 bytes\n 413 0";
    assert_eq!(curl(&upload, "/notes"), refused);
    assert_eq!(curl(&upload, "/videos"), "3000000 200 3000000");
    let chunked = [&upload[2..], &["--header", "Transfer-Encoding: chunked"]].concat();
    // It counts what is around the chunks, too.
    assert!(curl(&chunked, "/videos").starts_with("3000000 200 3000"));
    // The redirect has it send the body again, by the same method.
    let follow = ["--location", "--data-binary", "hello"];
    assert!(curl(&follow, "/notes/").starts_with("5 200 "));
    let host = ["--header", "Host: Ann.Example.com:99"];
    assert_eq!(curl(&host, "/"), "ours 200 0");
    let _ = std::fs::remove_file(file);
}
