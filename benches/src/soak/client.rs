//! A client of a soak: its connection, plain or over TLS, and how it reads answers.

use std::{
    collections::BTreeSet,
    io::{self, ErrorKind, Read, Write},
    net::SocketAddr,
    sync::{Arc, Mutex},
    time::{Duration, Instant},
};

use anyhow::Result;
use fastrand::Rng;
use maniple::net::{Shutdown, TcpStream};
use maniple_server::tls::{ClientConfig, Stream};

use super::{
    certificates::{Certificates, NAME},
    server::LIMIT,
};

/// How a conversation ended, or what is wrong with that.
pub(super) type Ended = Result<&'static str, String>;

/// Longer than any limit of the server, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(30);

/// After so long a silence a server that is not on time either may have given a client up.
const LATE: Duration = Duration::from_millis(LIMIT.as_millis() as u64 / 2);

/// Where the server is, and how to talk to it.
#[derive(Clone)]
pub(super) struct Site {
    address: SocketAddr,
    secure: Option<Secure>,
}

#[derive(Clone)]
struct Secure {
    config: ClientConfig,
    /// Certificates that clients got.
    seen: Arc<Mutex<BTreeSet<Vec<u8>>>>,
}

impl Site {
    pub(super) fn new(address: SocketAddr, certificates: Option<&Certificates>) -> Result<Self> {
        let secure = match certificates {
            None => None,
            Some(certificates) => Some(Secure {
                config: ClientConfig::builder()
                    .roots_pem(certificates.roots())
                    .build()?,
                seen: Arc::default(),
            }),
        };
        Ok(Self { address, secure })
    }

    pub(super) fn speaks_tls(&self) -> bool {
        self.secure.is_some()
    }

    /// How many certificates clients got, over TLS.
    pub(super) fn certificates_seen(&self) -> Option<usize> {
        let secure = self.secure.as_ref()?;
        Some(
            secure
                .seen
                .lock()
                .unwrap_or_else(|poison| poison.into_inner())
                .len(),
        )
    }

    /// A connection without TLS, whatever the server speaks.
    pub(super) fn connect_plainly(&self) -> Result<Client, String> {
        let connected = || {
            let stream = TcpStream::connect(self.address)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            stream.set_nodelay(true)?;
            io::Result::Ok(stream)
        };
        let begun = Instant::now();
        let stream = connected().map_err(|error| format!("connect: {error}"))?;
        Ok(Client::new(Line::Plain(stream), begun))
    }

    /// A connection; none if it took its own time over the handshake.
    pub(super) fn connect(&self) -> Result<Option<Client>, String> {
        let client = self.connect_plainly()?;
        let Some(secure) = &self.secure else {
            return Ok(Some(client));
        };
        let Client { line, said, .. } = client;
        let Line::Plain(stream) = line else {
            return Err("there is TLS already".to_owned());
        };
        let shaken = || {
            let stream = secure.config.stream(stream, NAME)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            let certificate = stream.handshake()?.peer_certificates().first().cloned();
            let mut seen = secure
                .seen
                .lock()
                .unwrap_or_else(|poison| poison.into_inner());
            seen.extend(certificate.map(|certificate| certificate.to_vec()));
            io::Result::Ok(stream)
        };
        match shaken() {
            Ok(stream) => {
                let mut client = Client::new(Line::Secure(Box::new(stream)), said);
                // The server may have given up what is done for us.
                client.note(true);
                Ok(Some(client))
            }
            Err(_) if said.elapsed() > LATE => Ok(None),
            Err(error) => Err(format!("handshake: {error}")),
        }
    }
}

enum Line {
    Plain(TcpStream),
    Secure(Box<Stream<TcpStream>>),
}

impl Line {
    fn read(&self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Line::Plain(stream) => (&*stream).read(buffer),
            Line::Secure(stream) => (&**stream).read(buffer),
        }
    }

    fn write_all(&self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Line::Plain(stream) => (&*stream).write_all(bytes),
            Line::Secure(stream) => (&**stream).write_all(bytes),
        }
    }
}

pub(super) struct Client {
    line: Line,
    /// Read and not used.
    pub(super) ahead: Vec<u8>,
    /// The server has said that it closes, behind what it said.
    pub(super) is_closing: bool,
    /// When it last said something, or began to connect.
    said: Instant,
    /// So long ago that the server may have given it up meanwhile: on a machine that has much else to do.
    is_late: bool,
    /// The server has closed, or gave up waiting.
    is_cut: bool,
}

impl Client {
    fn new(line: Line, begun: Instant) -> Self {
        Self {
            line,
            ahead: Vec::new(),
            is_closing: false,
            said: begun,
            is_late: false,
            is_cut: false,
        }
    }

    /// Whether it is its own fault, and none of the server's, that the connection is closed.
    pub(super) fn came_late(&self) -> bool {
        self.is_late && self.is_cut
    }

    pub(super) fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.line.read(buffer)
    }

    /// Nothing more comes from here.
    pub(super) fn half_close(&mut self) -> Result<(), String> {
        let ended = match &self.line {
            Line::Plain(stream) => stream.shutdown(Shutdown::Write),
            Line::Secure(stream) => stream.shutdown(Shutdown::Write),
        };
        self.note(ended.is_ok());
        ended.map_err(|error| format!("half-close: {error}"))
    }

    pub(super) fn reset(&self) {
        let _ = match &self.line {
            Line::Plain(stream) => stream.reset_on_close(),
            Line::Secure(stream) => {
                stream.abandon();
                stream.transport().reset_on_close()
            }
        };
    }

    pub(super) fn say(&mut self, bytes: &[u8]) -> Result<(), String> {
        let said = self.line.write_all(bytes);
        self.note(said.is_ok());
        said.map_err(|error| format!("sending: {error}"))
    }

    fn note(&mut self, is_said: bool) {
        self.is_late |= self.said.elapsed() > LATE;
        self.said = Instant::now();
        self.is_cut |= !is_said;
    }

    pub(super) fn more(&mut self) -> io::Result<usize> {
        let mut buffer = [0; 16 * 1024];
        let read = self.line.read(&mut buffer);
        self.is_cut |= !matches!(read, Ok(1..));
        let count = read?;
        self.ahead.extend_from_slice(&buffer[..count]);
        Ok(count)
    }

    pub(super) fn head(&mut self) -> Result<String, String> {
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

    pub(super) fn take(&mut self, bytes: usize) -> Result<Vec<u8>, String> {
        while self.ahead.len() < bytes {
            match self.more() {
                Ok(1..) => {}
                other => return Err(format!("{other:?} within a body")),
            }
        }
        Ok(self.ahead.drain(..bytes).collect())
    }

    pub(super) fn line(&mut self) -> Result<String, String> {
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
    pub(super) fn expect(
        &mut self,
        status: u16,
        is_right: impl FnOnce(&[u8]) -> bool,
    ) -> Result<(), String> {
        let mut head = self.head()?;
        // By which the server finds out whether a client that has ended its sending is still there.
        while status_of(&head) == Some(100) {
            head = self.head()?;
        }
        if status_of(&head) != Some(status) {
            self.is_cut |= status_of(&head) == Some(408);
            return Err(format!("in place of {status}: {head}"));
        }
        self.is_closing = head.contains("connection: close");
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
    pub(super) fn expect_end_of(&mut self, statuses: &[u16]) -> Ended {
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
    pub(super) fn ends(&mut self, how: &'static str) -> Ended {
        let read = self.line.read(&mut [0; 64]);
        self.is_cut |= read.is_err();
        match (read, &self.ahead[..]) {
            (Ok(0), []) => Ok(how),
            (other, _) => Err(format!("{other:?} in place of the end")),
        }
    }

    /// The same where what was sent and not answered may make a reset of it.
    pub(super) fn ends_or_is_reset(&mut self, how: &'static str) -> Ended {
        match self.line.read(&mut [0; 64]) {
            Err(error) if error.kind() == ErrorKind::ConnectionReset => Ok(how),
            Ok(0) => Ok(how),
            other => Err(format!("{other:?} in place of the end")),
        }
    }

    /// Reads until the end or a reset: how much, and the last of it. What was read ahead counts.
    pub(super) fn until_the_end(&mut self) -> (usize, Vec<u8>) {
        let mut last = std::mem::take(&mut self.ahead);
        let mut count = last.len();
        let mut buffer = vec![0; 64 * 1024];
        loop {
            match self.line.read(&mut buffer) {
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

pub(super) fn status_of(head: &str) -> Option<u16> {
    head.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok()
}

pub(super) fn length(head: &str) -> Result<usize, String> {
    let length = head.split("content-length: ").nth(1);
    let length = length.and_then(|rest| rest.split("\r\n").next()?.parse().ok());
    length.ok_or_else(|| format!("no length in {head}"))
}

pub(super) fn with_field(method: &str, path: &str, field: &str) -> Vec<u8> {
    format!("{method} {path} HTTP/1.1\r\nHost: soak\r\n{field}\r\n\r\n").into_bytes()
}

pub(super) fn get(path: &str) -> Vec<u8> {
    with_field("GET", path, "Accept: */*")
}

pub(super) fn post(path: &str, length: usize, body: &[u8]) -> Vec<u8> {
    let mut request = with_field("POST", path, &format!("Content-Length: {length}"));
    request.extend_from_slice(body);
    request
}

pub(super) fn chunked(mut body: &[u8], random: &mut Rng) -> Vec<u8> {
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
