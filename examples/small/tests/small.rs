//! The small examples as a user meets them: the built binaries and real sockets.

use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::{Shutdown, TcpListener, TcpStream, UdpSocket},
    path::Path,
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

/// Longer than any of these tests may take: only a hang reaches it.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running server; dropping it kills the process.
struct Running {
    process: Child,
    output: BufReader<ChildStdout>,
    address: String,
}

impl Running {
    /// Starts a server on a free port and learns that from its first line.
    fn start(program: &str) -> Running {
        Running::start_with(program, "")
    }

    /// The same in front of another server.
    fn start_with(program: &str, upstream: &str) -> Running {
        let mut command = Command::new(program);
        command.env("UPSTREAM", upstream).env("BROKER", upstream);
        command.arg("127.0.0.1:0").stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut output = BufReader::new(process.stdout.take().unwrap());
        let mut line = String::new();
        output.read_line(&mut line).unwrap();
        let address = line.trim_end().rsplit(' ').next().unwrap().to_owned();
        Running {
            process,
            output,
            address,
        }
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(&self.address).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream
    }

    /// The whole answer to one request.
    fn ask(&self, request: &str) -> String {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    fn get(&self, path: &str) -> String {
        self.ask(&format!(
            "GET {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n"
        ))
    }

    fn signal(&self, signal: &str) {
        let pid = self.process.id().to_string();
        let kill = format!("kill -{signal} {pid}");
        let sent = Command::new("sh").args(["-c", &kill]).status();
        assert!(sent.unwrap().success());
    }
}

impl Running {
    fn wait(mut self) -> std::process::ExitStatus {
        self.process.wait().unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// What a program prints that ends by itself.
fn output_of(program: &str) -> String {
    let output = Command::new(program).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn each_is_small_and_stands_in_the_book() {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    let book = fs::read_to_string(here.join("../../docs/src/examples.md")).unwrap();
    let programs: Vec<_> = fs::read_dir(here.join("src/bin")).unwrap().collect();
    assert!(programs.len() >= 14, "{programs:?}");
    for program in programs {
        let path = program.unwrap().path();
        let name = path.file_stem().unwrap().to_str().unwrap();
        let text = fs::read_to_string(&path).unwrap();
        let is_code = |line: &&str| !line.trim().is_empty() && !line.starts_with("//!");
        let lines = text.lines().filter(is_code).count();
        // A whole service has more to show than one thing, and so has one in several processes.
        let most = match name {
            "rest" => 100,
            "everywhere" => 55,
            _ => 40,
        };
        assert!((15..=most).contains(&lines), "{name} has {lines} lines");
        assert!(!text.contains("clap"), "{name}");
        let command = format!("--bin {name}`");
        assert!(text.contains(&command), "{name} says how to try it");
        assert!(
            book.contains(&format!("examples/small/src/bin/{name}.rs")),
            "the book has no {name}"
        );
    }
}

#[test]
fn echo_sends_back_what_it_is_sent() {
    let echo = Running::start(env!("CARGO_BIN_EXE_echo"));
    let mut streams: Vec<_> = (0..20).map(|_| echo.connect()).collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&vec![n as u8; 100_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back, vec![n as u8; 100_000]);
    }
}

#[test]
fn hello_greets_by_name() {
    let response = Running::start(env!("CARGO_BIN_EXE_hello")).get("/hello/Ada");
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nHello, Ada!\n"), "{response}");
}

#[test]
fn a_busy_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for program in [env!("CARGO_BIN_EXE_echo"), env!("CARGO_BIN_EXE_hello")] {
        let output = Command::new(program).arg(&address).output().unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(stderr.contains(&address), "{stderr}");
    }
}

#[test]
fn events_come_one_by_one() {
    let events = Running::start(env!("CARGO_BIN_EXE_events"));
    let mut stream = events.connect();
    stream
        .write_all(b"GET /clock HTTP/1.1\r\nhost: x\r\n\r\n")
        .unwrap();
    let mut lines = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(lines.any(|line| line == "content-type: text/event-stream"));
    // The stream goes on, so these have been sent before its end.
    assert!(lines.any(|line| line == "data: 1 seconds"));
    assert!(lines.any(|line| line == "data: 2 seconds"));
}

#[test]
fn rest_makes_lists_changes_and_deletes() {
    let rest = Running::start(env!("CARGO_BIN_EXE_rest"));
    let send = |method: &str, path: &str, body: &str| {
        let length = body.len();
        rest.ask(&format!(
            "{method} {path} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
             content-length: {length}\r\n\r\n{body}"
        ))
    };
    let answer = send("POST", "/notes", r#"{"text": "buy nails"}"#);
    assert!(answer.starts_with("HTTP/1.1 201"), "{answer}");
    assert!(answer.contains("location: /notes/1\r\n"), "{answer}");
    let answer = send("PUT", "/notes/1", r#"{"text": "buy nails", "done": true}"#);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let answer = rest.get("/notes?contains=nail");
    let expected = r#"{"1":{"text":"buy nails","done":true}}"#;
    assert!(answer.ends_with(expected), "{answer}");
    for (method, path, body, status, part) in [
        ("GET", "/notes/1", "", 200, r#""done":true"#),
        ("POST", "/notes", r#"{"text": 1}"#, 422, r#""field":"text""#),
        (
            "POST",
            "/notes",
            r#"{"text": ""}"#,
            422,
            "must not be empty",
        ),
        ("GET", "/notes/one", "", 400, r#""field":"id""#),
        (
            "PATCH",
            "/notes/1",
            "",
            405,
            "allow: GET, PUT, DELETE, HEAD, OPTIONS",
        ),
        ("DELETE", "/notes/1", "", 204, ""),
        ("DELETE", "/notes/1", "", 404, "application/problem+json"),
    ] {
        let answer = send(method, path, body);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status}")),
            "{method} {path}: {answer}"
        );
        assert!(answer.contains(part), "{method} {path}: {answer}");
    }
}

#[test]
fn websocket_sends_messages_back() {
    let server = Running::start(env!("CARGO_BIN_EXE_websocket"));
    let url = format!("ws://{}/echo", server.address);
    let mut socket = maniple_server::websocket::connect(&url).unwrap();
    for message in ["hello", "", "\u{1f600}"] {
        socket.send(message).unwrap();
        assert_eq!(socket.receive().unwrap(), Some(message.into()));
    }
    socket.close(1000, "").unwrap();
    assert!(server.get("/").contains("new WebSocket"));
}

#[test]
fn chat_tells_all_who_are_in_a_room() {
    let chat = Running::start(env!("CARGO_BIN_EXE_chat"));
    let enter = |room: &str| {
        let url = format!("ws://{}/{room}", chat.address);
        let mut socket = maniple_server::websocket::connect(&url).unwrap();
        // Whoever gets its own words is in the room.
        socket.send("hello").unwrap();
        assert_eq!(socket.receive().unwrap(), Some("hello".into()));
        socket
    };
    let (mut ann, mut eve, mut ben) = (enter("garden"), enter("cellar"), enter("garden"));
    assert_eq!(ann.receive().unwrap(), Some("hello".into())); // Ben's
    eve.send("in the cellar").unwrap();
    ben.send("in the garden").unwrap();
    assert_eq!(eve.receive().unwrap(), Some("in the cellar".into()));
    assert_eq!(ann.receive().unwrap(), Some("in the garden".into()));
    assert_eq!(ben.receive().unwrap(), Some("in the garden".into()));
    chat.signal("TERM");
    for socket in [&mut ann, &mut eve, &mut ben] {
        assert_eq!(socket.receive().unwrap(), None);
        assert_eq!(socket.closed().unwrap().code, 1001);
        socket.close(1000, "").unwrap();
    }
    assert!(chat.wait().success());
}

/// A broker, which is killed with this.
struct Broker(Child);

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Says to two servers of one broker what is to be heard at both, before and after the broker was away.
fn everywhere_is_one_room(kind: &str, start: impl Fn(u16) -> Command) {
    let free = TcpListener::bind("127.0.0.1:0").unwrap();
    let port = free.local_addr().unwrap().port();
    drop(free);
    let run = || {
        let mut command = start(port);
        command.stdin(Stdio::null()).stdout(Stdio::null());
        let broker = command.stderr(Stdio::null()).spawn().unwrap();
        while TcpStream::connect(("127.0.0.1", port)).is_err() {
            std::thread::yield_now();
        }
        Broker(broker)
    };
    let broker = run();
    let program = env!("CARGO_BIN_EXE_everywhere");
    let at = format!("{kind}:127.0.0.1:{port}");
    let servers = [(); 2].map(|()| Running::start_with(program, &at));
    let mut enter = servers.each_ref().map(|server| {
        let mut stream = server.connect();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        // Whoever gets its own words is in the room.
        stream.write_all(b"garden\nhello\n").unwrap();
        assert_eq!(lines.next().unwrap().unwrap(), "hello");
        (stream, lines)
    });
    let [(ann, of_ann), (ben, of_ben)] = &mut enter;
    assert_eq!(of_ann.next().unwrap().unwrap(), "hello"); // Ben's
    ben.write_all(b"from over there\n").unwrap();
    for lines in [&mut *of_ann, &mut *of_ben] {
        assert_eq!(lines.next().unwrap().unwrap(), "from over there");
    }
    drop(broker);
    let _again = run();
    for lines in [&mut *of_ann, &mut *of_ben] {
        assert_eq!(
            lines.next().unwrap().unwrap(),
            "* something may be missing here"
        );
    }
    ann.write_all(b"here again\n").unwrap();
    for lines in [of_ann, of_ben] {
        assert_eq!(lines.next().unwrap().unwrap(), "here again");
    }
}

#[test]
#[ignore = "it needs Redis"]
fn everywhere_is_one_room_over_redis() {
    everywhere_is_one_room("redis", |port| {
        let mut command = Command::new("redis-server");
        command.args(["--port", &port.to_string(), "--bind", "127.0.0.1"]);
        command.args(["--save", "", "--appendonly", "no"]);
        command
    });
}

#[test]
#[ignore = "it needs NATS"]
fn everywhere_is_one_room_over_nats() {
    everywhere_is_one_room("nats", |port| {
        let mut command = Command::new("nats-server");
        command.args(["-a", "127.0.0.1", "-p", &port.to_string()]);
        command
    });
}

#[test]
fn everywhere_says_which_brokers_there_are() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_everywhere"));
    let output = command.env("BROKER", "mqtt:127.0.0.1:1").output().unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&output.stderr).contains("BROKER is neither redis"));
}

#[test]
fn everywhere_without_a_broker_is_a_server_alone() {
    let server = Running::start(env!("CARGO_BIN_EXE_everywhere"));
    let mut stream = server.connect();
    stream.write_all(b"garden\nhello\n").unwrap();
    let mut lines = BufReader::new(stream).lines();
    assert_eq!(lines.next().unwrap().unwrap(), "hello");
}

#[test]
fn gateway_asks_the_server_behind_and_says_so_where_there_is_none() {
    let hello = Running::start(env!("CARGO_BIN_EXE_hello"));
    let program = env!("CARGO_BIN_EXE_gateway");
    let gateway = Running::start_with(program, &format!("http://{}", hello.address));
    let (direct, passed) = (hello.get("/hello/Ann"), gateway.get("/api/hello/Ann"));
    let body = |answer: &str| answer.split_once("\r\n\r\n").unwrap().1.to_owned();
    assert!(passed.starts_with("HTTP/1.1 200 ") && passed.contains("x-request-id: "));
    assert_eq!(body(&passed), body(&direct));
    assert!(gateway.get("/").ends_with("ask below /api\n"));
    drop(hello);
    let answer = gateway.get("/api/hello/Ann");
    assert!(answer.starts_with("HTTP/1.1 502 "), "{answer}");
}

#[test]
fn upload_stores_the_body_and_refuses_odd_names() {
    let upload = Running::start(env!("CARGO_BIN_EXE_upload"));
    let name = format!("test{}", std::process::id());
    let body = "lorem ".repeat(100_000);
    let put = |name: &str, body: &str| {
        let length = body.len();
        upload.ask(&format!(
            "PUT /files/{name} HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}"
        ))
    };
    let answer = put(&name, &body);
    assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    let path = std::env::temp_dir().join(format!("upload-{name}"));
    assert!(fs::read_to_string(&path).unwrap() == body);
    fs::remove_file(path).unwrap();
    let answer = put("%2e%2e", "");
    assert!(answer.starts_with("HTTP/1.1 400"), "{answer}");
}

#[test]
fn shutdown_answers_first_and_then_ends_its_job() {
    let mut shutdown = Running::start(env!("CARGO_BIN_EXE_shutdown"));
    let mut stream = shutdown.connect();
    let request = b"GET /slow HTTP/1.1\r\nhost: x\r\n\r\n";
    // The first answer leaves once the second request's handler waits.
    stream
        .write_all(&[&request[..], &request[..]].concat())
        .unwrap();
    let mut answers = BufReader::new(stream).lines().map(Result::unwrap);
    assert!(answers.any(|line| line == "answered to the end"));
    shutdown.signal("TERM");
    assert!(answers.any(|line| line == "answered to the end"));
    let mut output = String::new();
    shutdown.output.read_to_string(&mut output).unwrap();
    assert!(output.ends_with("the job has ended\n"), "{output}");
    assert!(shutdown.process.wait().unwrap().success());
}

#[test]
fn jobs_are_done_or_refused() {
    let jobs = Running::start(env!("CARGO_BIN_EXE_jobs"));
    let request = b"GET /report HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    let mut streams: Vec<_> = (0..20).map(|_| jobs.connect()).collect();
    for stream in &mut streams {
        stream.write_all(request).unwrap();
    }
    let (mut done, mut refused) = (0, 0);
    for mut stream in streams {
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        done += u32::from(answer.contains(" 200 ") && answer.ends_with("the report\n"));
        refused += u32::from(answer.contains(" 503 ") && answer.ends_with("try later\n"));
    }
    assert_eq!(done + refused, 20, "{done} done, {refused} refused");
    assert!(done >= 4, "{done} done, {refused} refused");
}

#[test]
fn rooms_tell_all_who_are_in_them() {
    let rooms = Running::start(env!("CARGO_BIN_EXE_rooms"));
    let enter = |room: &str| {
        let mut stream = rooms.connect();
        stream
            .write_all(format!("{room}\nhello\n").as_bytes())
            .unwrap();
        let mut lines = BufReader::new(stream.try_clone().unwrap()).lines();
        assert_eq!(lines.next().unwrap().unwrap(), "hello");
        (stream, lines)
    };
    let (_ann, mut to_ann) = enter("garden");
    let (mut eve, mut to_eve) = enter("cellar");
    let (mut ben, mut to_ben) = enter("garden");
    assert_eq!(to_ann.next().unwrap().unwrap(), "hello"); // Ben's
    eve.write_all(b"in the cellar\n").unwrap();
    ben.write_all(b"in the garden\n").unwrap();
    assert_eq!(to_eve.next().unwrap().unwrap(), "in the cellar");
    assert_eq!(to_ann.next().unwrap().unwrap(), "in the garden");
    assert_eq!(to_ben.next().unwrap().unwrap(), "in the garden");
    drop((eve, ben, to_ben));
}

#[test]
fn datagrams_are_answered() {
    let server = Running::start(env!("CARGO_BIN_EXE_datagrams"));
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket.send_to(b"marius", &server.address).unwrap();
    let mut buffer = [0; 64];
    let length = socket.recv(&mut buffer).unwrap();
    assert_eq!(&buffer[..length], b"MARIUS");
}

#[test]
fn pipeline_gathers_what_four_have_made() {
    let output = output_of(env!("CARGO_BIN_EXE_pipeline"));
    assert_eq!(output, "sum of 20 squares: 2870\n");
}

#[test]
fn deadline_leaves_out_what_is_late() {
    let output = output_of(env!("CARGO_BIN_EXE_deadline"));
    let lines: Vec<_> = output.lines().collect();
    let [first, second] = lines[..] else {
        panic!("{output}")
    };
    assert!(first.contains("no advertisement"), "{output}");
    assert!(second.contains("no page: "), "{output}");
}

#[test]
fn race_takes_the_nearest_and_the_first_two() {
    let output = output_of(env!("CARGO_BIN_EXE_race"));
    assert_eq!(output, "near's answer\nstored by 2 of 3\n");
}

#[test]
fn hedge_makes_some_calls_twice() {
    let output = output_of(env!("CARGO_BIN_EXE_hedge"));
    let calls = output.strip_prefix("50 answers by ").unwrap();
    let calls: u32 = calls.split(' ').next().unwrap().parse().unwrap();
    assert!((51..=100).contains(&calls), "{output}");
}

#[test]
fn offload_finds_the_primes() {
    let output = output_of(env!("CARGO_BIN_EXE_offload"));
    assert!(output.starts_with("17984 primes, "), "{output}");
}

#[test]
fn children_end_by_themselves_or_are_killed() {
    let output = output_of(env!("CARGO_BIN_EXE_children"));
    assert!(output.contains("uname -s: Linux\n"), "{output}");
    assert!(output.contains("exit 3 failed: "), "{output}");
    assert!(
        output.contains("exec sleep 60 failed: deadline"),
        "{output}"
    );
}
