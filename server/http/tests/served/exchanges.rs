//! Raw exchanges: what goes in, byte for byte, and what must come out, over each transport and however it is cut.
//!
//! The cases are in `exchanges/`. A line in the first column says what must come out, where that is written, and what the
//! case is; the lines below it, indented, are the bytes that go in, one behind the other. There `\r`, `\n`, `\t`, `\0`,
//! `\\` and `\xHH` are what they are in Rust, and `\*5(ab)` is five times `ab`.
//!
//! What must come out is a status for each answer, and what follows:
//!
//! - `stays`: a further request on the same connection is answered;
//! - `closes`: it is not, and the last answer says so;
//! - `waits`: the server waits for more, and refuses the rest with 400 if that never comes (RFC 9112, 8).
//!
//! Behind a status may stand the body, of what the handler saw: method, target and body. Behind that of an answer to
//! `HEAD` stands `head`.

use std::{
    collections::BTreeMap,
    io::{Read, Write},
    time::Duration,
};

use maniple::net::Shutdown;
use maniple_server::{
    BodyError, Request, Router, Server,
    server::Builder,
    transport::memory::{self, Stream},
};

use super::transports::Served;
use crate::driven::{self, Runtime};

const CASES: [(&str, &str); 5] = [
    ("lines", include_str!("exchanges/lines.txt")),
    ("targets", include_str!("exchanges/targets.txt")),
    ("fields", include_str!("exchanges/fields.txt")),
    ("bodies", include_str!("exchanges/bodies.txt")),
    ("connections", include_str!("exchanges/connections.txt")),
];

/// A further request, to see whether the connection goes on.
const FURTHER: &[u8] = b"GET /further HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";

/// Cut at each byte only if it is no longer than that: what tests the limits is long.
const CUT_UP_TO: usize = 1_000;

struct Case {
    title: String,
    answers: Vec<Expected>,
    then: Then,
    bytes: Vec<u8>,
}

struct Expected {
    status: u16,
    body: Option<String>,
    of_head: bool,
}

#[derive(Clone, Copy, PartialEq)]
enum Then {
    Stays,
    Closes,
    Waits,
}

fn cases() -> Vec<Case> {
    let mut cases: Vec<Case> = Vec::new();
    for (file, text) in CASES {
        for line in text.lines() {
            if let Some(bytes) = line.strip_prefix("    ") {
                let case = cases.last_mut().expect("a case before its bytes");
                case.bytes.extend(unescaped(bytes));
            } else if !line.is_empty() && !line.starts_with('#') {
                cases.push(Case::of(file, line));
            }
        }
    }
    assert!(cases.len() > 300, "{} cases", cases.len());
    cases
}

impl Case {
    fn of(file: &str, line: &str) -> Self {
        let mut parts = line.rsplitn(3, " | ");
        let (Some(title), Some(source), Some(expected)) =
            (parts.next(), parts.next(), parts.next())
        else {
            panic!("{file}: {line}");
        };
        assert!(
            source.starts_with("RFC ") && source.contains(", "),
            "{line}"
        );
        let mut case = Self {
            title: format!("{file}: {title} ({source})"),
            answers: Vec::new(),
            then: Then::Waits,
            bytes: Vec::new(),
        };
        let mut rest = expected;
        while !rest.is_empty() {
            let (word, behind) = match rest.strip_prefix('"') {
                Some(quoted) => quoted.split_once('"').expect("an end of the quotes"),
                None => rest.split_once(' ').unwrap_or((rest, "")),
            };
            match word {
                "stays" => case.then = Then::Stays,
                "closes" => case.then = Then::Closes,
                "waits" => case.then = Then::Waits,
                _ if rest.starts_with('"') => {
                    let body = String::from_utf8(unescaped(word)).unwrap();
                    case.answers.last_mut().expect("a status").body = Some(body);
                }
                "head" => case.answers.last_mut().expect("a status").of_head = true,
                status => case.answers.push(Expected {
                    status: status.parse().unwrap_or_else(|_| panic!("{line}")),
                    body: None,
                    of_head: false,
                }),
            }
            rest = behind.trim_start();
        }
        case
    }

    /// What is sent in all.
    fn sent(&self) -> Vec<u8> {
        match self.then {
            Then::Waits => self.bytes.clone(),
            Then::Stays | Then::Closes => [&self.bytes, FURTHER].concat(),
        }
    }

    /// What is wrong with all that came back until the server closed.
    fn judge(&self, output: &str) -> Result<(), String> {
        let output = driven::without_questions(&self.bytes, output.to_owned());
        let mut rest = &*output;
        let mut last = None;
        for expected in &self.answers {
            let answer = Answer::take(&mut rest, expected.of_head)?;
            if answer.status != expected.status {
                return Err(format!("{} in place of {}", answer.status, expected.status));
            }
            if let Some(body) = &expected.body
                && answer.body != body
            {
                return Err(format!("the body is {:?}", answer.body));
            }
            last = Some(answer);
        }
        match self.then {
            Then::Stays => {
                let further = Answer::take(&mut rest, false)?;
                if (further.status, further.body) != (200, "GET /further ") {
                    return Err(format!("then {} {:?}", further.status, further.body));
                }
            }
            Then::Closes => {
                let says_so =
                    last.is_some_and(|last| last.fields.get("connection") == Some(&"close"));
                if !says_so {
                    return Err("the last answer does not say that it is the last".to_owned());
                }
            }
            Then::Waits => {
                let refused = Answer::take(&mut rest, false)?;
                if (refused.status, refused.fields.get("connection")) != (400, Some(&"close")) {
                    return Err(format!("then {}", refused.status));
                }
            }
        }
        match rest {
            "" => Ok(()),
            _ => Err(format!("more came: {rest:?}")),
        }
    }
}

struct Answer<'o> {
    status: u16,
    fields: BTreeMap<&'o str, &'o str>,
    body: &'o str,
}

impl<'o> Answer<'o> {
    fn take(rest: &mut &'o str, of_head: bool) -> Result<Self, String> {
        let (head, behind) = rest
            .split_once("\r\n\r\n")
            .ok_or_else(|| format!("no answer in {rest:?}"))?;
        let mut lines = head.split("\r\n");
        let line = lines.next().unwrap_or("");
        let status = line
            .strip_prefix("HTTP/1.1 ")
            .and_then(|line| line.get(..3)?.parse().ok())
            .ok_or_else(|| format!("no status in {line:?}"))?;
        let fields: BTreeMap<_, _> = lines.filter_map(|line| line.split_once(": ")).collect();
        let length = match fields.get("content-length") {
            Some(length) if !of_head => length.parse().map_err(|error| format!("{error}"))?,
            _ => 0,
        };
        let body = behind.get(..length).ok_or("the body is cut")?;
        *rest = &behind[length..];
        Ok(Self {
            status,
            fields,
            body,
        })
    }
}

fn unescaped(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, escape)) = rest.split_once('\\') {
        bytes.extend_from_slice(before.as_bytes());
        let (kind, mut behind) = escape.split_at(1);
        match kind {
            "r" => bytes.push(b'\r'),
            "n" => bytes.push(b'\n'),
            "t" => bytes.push(b'\t'),
            "0" => bytes.push(0),
            "\\" => bytes.push(b'\\'),
            "x" => {
                bytes.push(u8::from_str_radix(&behind[..2], 16).unwrap());
                behind = &behind[2..];
            }
            "*" => {
                let (count, inner) = behind.split_once('(').unwrap();
                let (inner, after) = inner.split_once(')').unwrap();
                let inner = unescaped(inner);
                bytes.extend(inner.repeat(count.parse().unwrap()));
                behind = after;
            }
            other => panic!("\\{other} in {text}"),
        }
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// A server that answers with what it saw.
fn server() -> Builder {
    let see = |request: &mut Request| -> Result<String, BodyError> {
        let body = request.read_body()?.escape_ascii().to_string();
        let query = request
            .query()
            .map_or(String::new(), |query| format!("?{query}"));
        let (method, path) = (request.method(), request.path());
        Ok(format!("{method} {path}{query} {body}"))
    };
    Server::builder(Router::new().fallback(see)).header_timeout(Duration::from_secs(60))
}

fn complain(complaints: &[String]) {
    assert!(complaints.is_empty(), "{}", complaints.join("\n"));
}

#[test]
fn each_exchange_ends_as_the_rfcs_have_it_over_each_transport() {
    let cases = cases();
    let mut complaints = Vec::new();
    for (served, transport) in
        Served::each(server)
            .iter()
            .zip(["TCP", "Unix", "memory", "TLS", "TLS in memory"])
    {
        for case in &cases {
            if let Err(complaint) = case.judge(&served.say(case.sent())) {
                complaints.push(format!("over {transport}, {}: {complaint}", case.title));
            }
        }
    }
    complain(&complaints);
}

/// Every eighth, byte by byte: the cuts themselves are all made in memory.
#[test]
fn some_exchanges_byte_by_byte_over_sockets_end_alike() {
    let mut complaints = Vec::new();
    let [tcp, unix, _, secure, _] = Served::each(server);
    for served in [tcp, unix, secure] {
        for case in cases().iter().step_by(8) {
            let sent = case.sent();
            if sent.len() > CUT_UP_TO {
                continue;
            }
            let output = served.say_in(sent.iter().map(std::slice::from_ref));
            if let Err(complaint) = case.judge(&output) {
                complaints.push(format!("{}: {complaint}", case.title));
            }
        }
    }
    complain(&complaints);
}

/// On one worker with the server, which has read what has come when the client has its next turn.
fn on_one_worker(converse: impl FnOnce(&memory::Connector) + Send + 'static) {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let (listener, connector) = memory::listener();
    let server = server().listener(listener).unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let talked = runtime.spawn(move || {
        let patience = Duration::from_secs(120);
        maniple::timeout(patience, || converse(&connector)).expect("it ends in time");
    });
    talked.join().unwrap();
    handle.drain();
    serving.join().unwrap().unwrap();
}

/// The server has its turns: to accept, to read, to answer.
fn let_it_read() {
    for _ in 0..4 {
        maniple::yield_now();
    }
}

fn say_in<'b>(connector: &memory::Connector, pieces: impl Iterator<Item = &'b [u8]>) -> String {
    let mut stream = connector.connect().unwrap();
    for piece in pieces {
        // It may have ended.
        let _ = stream.write_all(piece);
        let_it_read();
    }
    to_end(stream)
}

fn to_end(mut stream: Stream) -> String {
    let _ = stream.shutdown(Shutdown::Write);
    let mut output = String::new();
    let _ = stream.read_to_string(&mut output);
    output
}

#[test]
fn each_exchange_cut_in_two_anywhere_ends_alike() {
    on_one_worker(|connector| {
        let mut complaints = Vec::new();
        for case in cases() {
            let sent = case.sent();
            if sent.len() > CUT_UP_TO {
                continue;
            }
            // Behind the case the cuts are the same for all.
            for at in 1..case.bytes.len() {
                let (one, other) = sent.split_at(at);
                let output = say_in(connector, [one, other].into_iter());
                if let Err(complaint) = case.judge(&output) {
                    complaints.push(format!("{}, cut at {at}: {complaint}", case.title));
                    break;
                }
            }
        }
        complain(&complaints);
    });
}

#[test]
fn each_exchange_byte_by_byte_ends_alike() {
    on_one_worker(|connector| {
        let mut complaints = Vec::new();
        for case in cases() {
            let sent = case.sent();
            if sent.len() > CUT_UP_TO {
                continue;
            }
            let output = say_in(connector, sent.iter().map(std::slice::from_ref));
            if let Err(complaint) = case.judge(&output) {
                complaints.push(format!("{}: {complaint}", case.title));
            }
        }
        complain(&complaints);
    });
}

#[test]
fn nothing_is_answered_before_a_request_has_come_in_whole() {
    on_one_worker(|connector| {
        let mut complaints = Vec::new();
        for case in cases() {
            if case.then != Then::Waits || !case.answers.is_empty() {
                continue;
            }
            let mut stream = connector.connect().unwrap();
            stream.write_all(&case.bytes).unwrap();
            let_it_read();
            match stream.try_read(&mut [0; 64]) {
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => {}
                other => complaints.push(format!("{}: {other:?}", case.title)),
            }
        }
        complain(&complaints);
    });
}
