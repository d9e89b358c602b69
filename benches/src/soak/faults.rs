//! What clients of a soak do, right and wrong, and how that may end.

use std::{
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    time::Duration,
};

use fastrand::Rng;
use maniple::net::{Shutdown, TcpStream};

use super::server::{FILE, HUGE, LIMIT, MOST_BODY, STREAMED};

/// A kind of conversation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Fault {
    /// None: requests one after the other.
    None,
    Pipelined,
    Uploads,
    Streams,
    Files,
    SlowReader,
    StopsReading,
    ResetInHead,
    ResetInAnswer,
    LeavesInUpload,
    HalfClose,
    StallInHead,
    StallInBody,
    Oversize,
    Garbage,
    Panic,
    PanicInBody,
    Idle,
}

const ALL: [Fault; 18] = [
    Fault::None,
    Fault::Pipelined,
    Fault::Uploads,
    Fault::Streams,
    Fault::Files,
    Fault::SlowReader,
    Fault::StopsReading,
    Fault::ResetInHead,
    Fault::ResetInAnswer,
    Fault::LeavesInUpload,
    Fault::HalfClose,
    Fault::StallInHead,
    Fault::StallInBody,
    Fault::Oversize,
    Fault::Garbage,
    Fault::Panic,
    Fault::PanicInBody,
    Fault::Idle,
];

/// How a conversation ended, or what is wrong with that.
type Ended = Result<&'static str, String>;

/// Longer than any limit of the server, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

impl Fault {
    pub(super) fn any(random: &mut Rng) -> Self {
        ALL[random.usize(..ALL.len())]
    }

    pub(super) fn converse(self, address: SocketAddr, random: &mut Rng) -> Ended {
        let stream = TcpStream::connect(address).map_err(|error| format!("connect: {error}"))?;
        let set = stream.set_read_timeout(Some(PATIENCE));
        set.and_then(|()| stream.set_nodelay(true))
            .map_err(|error| error.to_string())?;
        let mut client = Client {
            stream,
            ahead: Vec::new(),
        };
        self.talk(&mut client, random)
    }

    fn talk(self, client: &mut Client, random: &mut Rng) -> Ended {
        match self {
            Fault::None => {
                for _ in 0..random.usize(1..20) {
                    client.say(&get("/hello"))?;
                    client.expect(200, |body| body == b"hello")?;
                }
                Ok("answered")
            }
            Fault::Pipelined => {
                client.say(&get("/hello").repeat(16))?;
                for _ in 0..16 {
                    client.expect(200, |body| body == b"hello")?;
                }
                Ok("answered")
            }
            Fault::Uploads => {
                for _ in 0..random.usize(1..5) {
                    let body = vec![b'u'; random.usize(1..100_000)];
                    let request = match random.bool() {
                        true => post("/echo", body.len(), &body),
                        false => chunked(&body, random),
                    };
                    client.say(&request)?;
                    client.expect(200, |echoed| echoed == body)?;
                }
                client.say(&post("/ignore", 1000, &[b'i'; 1000]))?;
                client.expect(202, <[u8]>::is_empty)?;
                Ok("answered")
            }
            Fault::Streams => {
                client.say(&get("/stream"))?;
                client.expect(200, |body| body.len() == STREAMED)?;
                Ok("answered")
            }
            Fault::Files => {
                client.say(&get("/files/file"))?;
                client.expect(200, |body| body.len() as u64 == FILE)?;
                let from = random.u64(..FILE);
                let range = format!("Range: bytes={from}-");
                client.say(&with_field("GET", "/files/file", &range))?;
                client.expect(206, |body| body.len() as u64 == FILE - from)?;
                Ok("answered")
            }
            Fault::SlowReader => {
                client.say(&get("/files/file"))?;
                let head = client.head()?;
                let mut left = length(&head)?.saturating_sub(client.ahead.len());
                let mut buffer = vec![0; 128 * 1024];
                while left > 0 {
                    match client.stream.read(&mut buffer) {
                        Ok(count @ 1..) => left -= count,
                        other => return Err(format!("{other:?} with {left} bytes to come")),
                    }
                    maniple::sleep(Duration::from_millis(2));
                }
                Ok("answered")
            }
            Fault::StopsReading => {
                client.say(&get("/files/huge"))?;
                maniple::sleep(LIMIT * 4);
                let head = client.head()?;
                let whole = length(&head)?;
                let (rest, _) = client.until_the_end();
                // All was on its way before the limit on a machine that is slow, or the client is cut off.
                match rest as u64 {
                    ..HUGE if whole as u64 == HUGE => Ok("cut off"),
                    _ => Err(format!("{rest} of {whole} bytes came")),
                }
            }
            Fault::ResetInHead => {
                let request = get("/hello");
                client.say(&request[..random.usize(1..request.len() - 1)])?;
                client.reset();
                Ok("reset by the client")
            }
            Fault::ResetInAnswer => {
                let path = ["/files/huge", "/stream", "/slow"][random.usize(..3)];
                client.say(&get(path))?;
                let mut some = vec![0; random.usize(1..10_000)];
                let _ = client.stream.read(&mut some);
                client.reset();
                Ok("reset by the client")
            }
            Fault::LeavesInUpload => {
                let path = ["/echo", "/ignore"][random.usize(..2)];
                client.say(&post(path, 100_000, &[b'l'; 10_000]))?;
                if random.bool() {
                    client.reset();
                }
                Ok("left by the client")
            }
            Fault::HalfClose => {
                client.say(&get(["/slow", "/files/file"][random.usize(..2)]))?;
                let ended = client.stream.shutdown(Shutdown::Write);
                ended.map_err(|error| error.to_string())?;
                client.expect(200, |body| !body.is_empty())?;
                client.ends("answered")
            }
            Fault::StallInHead => {
                client.say(b"GET /hello HTTP/1.1\r\nHo")?;
                client.expect_end_of(&[408])
            }
            Fault::StallInBody => {
                client.say(&post("/echo", 1000, b"only this"))?;
                client.expect_end_of(&[408])
            }
            Fault::Oversize => {
                let long = "x".repeat(50_000);
                let (request, status) = match random.u8(..4) {
                    0 => (get(&format!("/{long}")), 414),
                    1 => (with_field("GET", "/hello", &format!("X: {long}")), 431),
                    2 => (post("/echo", MOST_BODY as usize + 1, b""), 413),
                    _ => {
                        let head = with_field("POST", "/echo", "Transfer-Encoding: chunked");
                        ([&head[..], b"ffffffff\r\n"].concat(), 413)
                    }
                };
                client.say(&request)?;
                client.expect_end_of(&[status])
            }
            Fault::Garbage => {
                let junk: Vec<u8> = (0..random.usize(1..200)).map(|_| random.u8(..)).collect();
                let _ = client.say(&[&junk[..], b"\r\n\r\n"].concat());
                client.expect_end_of(&[400, 505, 414, 431])
            }
            Fault::Panic => {
                client.say(&get("/panic"))?;
                client.expect_end_of(&[500])
            }
            Fault::PanicInBody => {
                client.say(&get("/broken"))?;
                let head = client.head()?;
                let (_, end) = client.until_the_end();
                match head.contains("chunked") && !end.ends_with(b"0\r\n\r\n") {
                    true => Ok("cut off"),
                    false => Err(format!("it looks complete: {head}")),
                }
            }
            Fault::Idle => {
                if random.bool() {
                    client.say(&get("/hello"))?;
                    client.expect(200, |body| body == b"hello")?;
                }
                client.ends("closed by the server")
            }
        }
    }
}

struct Client {
    stream: TcpStream,
    /// Read and not used.
    ahead: Vec<u8>,
}

impl Client {
    fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        let said = self.stream.write_all(bytes);
        said.map_err(|error| format!("sending: {error}"))
    }

    fn reset(&self) {
        let _ = self.stream.reset_on_close();
    }

    fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let count = self.stream.read(&mut buffer)?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    fn head(&mut self) -> Result<String, String> {
        loop {
            let end = self.ahead.windows(4).position(|four| four == b"\r\n\r\n");
            if let Some(end) = end {
                let head: Vec<u8> = self.ahead.drain(..end + 4).collect();
                return String::from_utf8(head).map_err(|error| error.to_string());
            }
            match self.more() {
                Ok(1..) => {}
                Ok(0) => {
                    return Err(format!(
                        "the end in place of a head: {:?}",
                        self.ahead.len()
                    ));
                }
                Err(error) => return Err(format!("{error} in place of a head")),
            }
        }
    }

    fn take(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        while self.ahead.len() < bytes {
            match self.more() {
                Ok(1..) => {}
                other => return Err(format!("{other:?} within a body")),
            }
        }
        Ok(self.ahead.drain(..bytes).collect())
    }

    fn line(&mut self) -> Result<String, String> {
        loop {
            if let Some(end) = self.ahead.windows(2).position(|two| two == b"\r\n") {
                let line: Vec<u8> = self.ahead.drain(..end + 2).collect();
                return Ok(String::from_utf8_lossy(&line).trim_end().to_owned());
            }
            match self.more() {
                Ok(1..) => {}
                other => return Err(format!("{other:?} within a line")),
            }
        }
    }

    /// Reads an answer, which has that status and such a body.
    fn expect(&mut self, status: u16, is_right: impl Fn(&[u8]) -> bool) -> Result<(), String> {
        let mut head = self.head()?;
        // By which the server finds out whether a client that has ended its sending is still there.
        while status_of(&head) == Some(100) {
            head = self.head()?;
        }
        if status_of(&head) != Some(status) {
            return Err(format!("in place of {status}: {head}"));
        }
        let body = if head.contains("transfer-encoding: chunked") {
            let mut body = Vec::new();
            loop {
                let line = self.line()?;
                let size = usize::from_str_radix(&line, 16);
                let size = size.map_err(|error| format!("{error}: {line:?}"))?;
                body.extend(self.take(size)?);
                self.take(2)?;
                if size == 0 {
                    break body;
                }
            }
        } else {
            let length = length(&head)?;
            self.take(length)?
        };
        match is_right(&body) {
            true => Ok(()),
            false => Err(format!(
                "a wrong body of {} bytes behind {head}",
                body.len()
            )),
        }
    }

    /// The server ends the conversation, with one of these statuses or without a word.
    fn expect_end_of(&mut self, statuses: &[u16]) -> Ended {
        let (_, mut all) = self.until_the_end();
        all.splice(0..0, std::mem::take(&mut self.ahead));
        let text = String::from_utf8_lossy(&all);
        match status_of(&text) {
            None if all.is_empty() => Ok("closed without a word"),
            Some(status) if statuses.contains(&status) && text.contains("connection: close") => {
                Ok("refused with a status")
            }
            _ => Err(format!("in place of {statuses:?}: {text}")),
        }
    }

    /// Nothing more comes but the end.
    fn ends(&mut self, how: &'static str) -> Ended {
        match (self.stream.read(&mut [0; 64]), &self.ahead[..]) {
            (Ok(0), []) => Ok(how),
            (other, _) => Err(format!("{other:?} in place of the end")),
        }
    }

    /// Reads until the end or a reset: how much, and the last of it. What was read ahead counts.
    fn until_the_end(&mut self) -> (usize, Vec<u8>) {
        let mut last = std::mem::take(&mut self.ahead);
        let mut count = last.len();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.stream.read(&mut buffer) {
                Ok(read @ 1..) => {
                    count += read;
                    last.extend_from_slice(&buffer[..read]);
                    let extra = last.len().saturating_sub(KEPT);
                    last.drain(..extra);
                }
                Err(error) if error.kind() == ErrorKind::TimedOut => {
                    last.extend_from_slice(b"(and then nothing)");
                    return (usize::MAX, last);
                }
                _ => return (count, last),
            }
        }
    }
}

/// Bytes of an answer that are kept to be looked at.
const KEPT: usize = 4096;

fn status_of(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

fn length(head: &str) -> Result<usize, String> {
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    length.ok_or_else(|| format!("no length in {head}"))
}

fn with_field(method: &str, path: &str, field: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: soak\r\n{field}\r\n\r\n").into_bytes()
}

fn get(path: &str) -> Vec<u8> {
    with_field("GET", path, "Accept: */*")
}

fn post(path: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut request = with_field("POST", path, &format!("Content-Length: {length}"));
    request.extend_from_slice(body);
    request
}

fn chunked(mut body: &[u8], random: &mut Rng) -> Vec<u8> {
    let mut request = with_field("POST", "/echo", "Transfer-Encoding: chunked");
    while !body.is_empty() {
        let (chunk, rest) = body.split_at(random.usize(1..=body.len()));
        request.extend(format!("{:x}\r\n", chunk.len()).bytes());
        request.extend_from_slice(chunk);
        request.extend_from_slice(b"\r\n");
        body = rest;
    }
    request.extend_from_slice(b"0\r\n\r\n");
    request
}
