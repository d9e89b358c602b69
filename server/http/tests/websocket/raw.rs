//! A server, and a client's end of a connection to it on which each byte can be chosen.

use std::{
    io::{self, Read, Write},
    time::Duration,
};

use crate::driven::Runtime;
use maniple::JoinHandle;
use maniple_server::{
    DrainReport, Request, Response, Router, Server, ServerHandle,
    transport::memory,
    websocket::{BoxError, Settings, WebSocket},
};

/// Longer than any of these tests may take: only a hang reaches it.
pub(super) const LONG: Duration = Duration::from_secs(60);

pub(super) const MASK: [u8; 4] = [0x37, 0xFA, 0x21, 0x3D];

pub(super) struct Serving {
    pub(super) handle: ServerHandle,
    pub(super) connector: memory::Connector,
    serving: Option<JoinHandle<io::Result<DrainReport>>>,
    _runtime: Runtime,
}

pub(super) fn echo(socket: &mut WebSocket) -> Result<(), BoxError> {
    while let Some(message) = socket.receive()? {
        socket.send(message)?;
    }
    Ok(())
}

impl Serving {
    /// Has `f` serve each WebSocket.
    pub(super) fn with(
        settings: Settings,
        f: impl Fn(&mut WebSocket) -> Result<(), BoxError> + Clone + Send + Sync + 'static,
    ) -> Self {
        Self::of(move |request: &mut Request| {
            let f = f.clone();
            settings.upgrade(request, move |socket| f(socket))
        })
    }

    /// Has `handler` answer.
    pub(super) fn of(
        handler: impl Fn(&mut Request) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let router = Router::new().get("/", handler.clone()).post("/", handler);
        let (listener, connector) = memory::listener();
        let server = Server::builder(router)
            .drain_grace(LONG)
            .listener(listener)
            .unwrap();
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let handle = server.handle();
        let serving = Some(runtime.spawn(move || server.serve()));
        Self {
            handle,
            connector,
            serving,
            _runtime: runtime,
        }
    }

    pub(super) fn echo() -> Self {
        let large = Settings::new().max_message(1 << 24).max_frame(1 << 24);
        Self::with(large, echo)
    }

    pub(super) fn open(&self) -> Raw {
        self.open_with("")
    }

    /// Opens a WebSocket with these header fields beside those that it takes.
    pub(super) fn open_with(&self, fields: &str) -> Raw {
        let raw = Raw {
            stream: self.connect(),
        };
        let answer = raw.ask(&request(fields));
        assert!(answer.starts_with("HTTP/1.1 101 "), "{answer}");
        let accept = "\r\nsec-websocket-accept: s3pPLMBiTxaQ9kYGzzhZRbK+xOo=\r\n";
        assert!(answer.contains(accept), "{answer}");
        raw
    }

    pub(super) fn connect(&self) -> memory::Stream {
        let stream = self.connector.connect().unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_write_timeout(Some(LONG)).unwrap();
        stream
    }

    /// The status of the answer to such a request, and the answer.
    pub(super) fn asked(&self, request: &str) -> (u16, String) {
        let raw = Raw {
            stream: self.connect(),
        };
        let answer = raw.ask(request);
        (answer[9..12].parse().unwrap(), answer)
    }

    pub(super) fn drain(mut self) -> DrainReport {
        self.handle.drain();
        self.serving.take().unwrap().join().unwrap().unwrap()
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        self.handle.drain();
    }
}

pub(super) fn request(fields: &str) -> String {
    format!(
        "GET / HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: websocket\r\n\
         Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n{fields}\r\n"
    )
}

/// A client that can do everything wrong.
pub(super) struct Raw {
    pub(super) stream: memory::Stream,
}

/// What a server sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Sent {
    Text(String),
    Binary(Vec<u8>),
    Ping(Vec<u8>),
    Pong(Vec<u8>),
    /// A code, 0 if there is none.
    Close(u16),
    /// The end of what it sends.
    End,
}

impl Raw {
    /// Sends a request and reads the head of the answer.
    fn ask(&self, request: &str) -> String {
        (&self.stream).write_all(request.as_bytes()).unwrap();
        let (mut head, mut byte) = (Vec::new(), [0]);
        while !head.ends_with(b"\r\n\r\n") {
            (&self.stream).read_exact(&mut byte).unwrap();
            head.push(byte[0]);
        }
        String::from_utf8(head).unwrap()
    }

    pub(super) fn send(&self, bytes: &[u8]) {
        (&self.stream).write_all(bytes).unwrap();
    }

    /// Reads a frame, which must be one that a server may send.
    pub(super) fn receive(&self) -> Sent {
        let mut head = [0; 2];
        match (&self.stream).read(&mut head[..1]).unwrap() {
            0 => return Sent::End,
            _ => (&self.stream).read_exact(&mut head[1..]).unwrap(),
        }
        assert_eq!(head[1] & 0x80, 0, "a server does not mask");
        let length = match head[1] {
            126 => {
                let mut length = [0; 2];
                (&self.stream).read_exact(&mut length).unwrap();
                usize::from(u16::from_be_bytes(length))
            }
            127 => {
                let mut length = [0; 8];
                (&self.stream).read_exact(&mut length).unwrap();
                usize::try_from(u64::from_be_bytes(length)).unwrap()
            }
            short => usize::from(short),
        };
        let mut payload = vec![0; length];
        (&self.stream).read_exact(&mut payload).unwrap();
        match head[0] {
            0x81 => Sent::Text(String::from_utf8(payload).unwrap()),
            0x82 => Sent::Binary(payload),
            0x88 => match payload.split_first_chunk() {
                Some((code, reason)) => {
                    std::str::from_utf8(reason).unwrap();
                    Sent::Close(u16::from_be_bytes(*code))
                }
                None => Sent::Close(0),
            },
            0x89 => Sent::Ping(payload),
            0x8A => Sent::Pong(payload),
            first => panic!("a frame that begins with {first:#x}"),
        }
    }
}

/// A masked frame with that first byte.
pub(super) fn frame(first: u8, payload: &[u8]) -> Vec<u8> {
    let mut bytes = vec![first];
    match payload.len() {
        length @ ..126 => bytes.push(0x80 | length as u8),
        length @ ..0x1_0000 => {
            bytes.push(0x80 | 126);
            bytes.extend((length as u16).to_be_bytes());
        }
        length => {
            bytes.push(0x80 | 127);
            bytes.extend((length as u64).to_be_bytes());
        }
    }
    bytes.extend(MASK);
    bytes.extend(
        payload
            .iter()
            .zip(MASK.iter().cycle())
            .map(|(byte, mask)| byte ^ mask),
    );
    bytes
}

pub(super) fn text(text: &str) -> Vec<u8> {
    frame(0x81, text.as_bytes())
}

/// A Close frame.
pub(super) fn close(code: u16) -> Vec<u8> {
    frame(0x88, &code.to_be_bytes())
}

pub(super) fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = maniple::time::now() + LONG;
    while !is_so() {
        assert!(maniple::time::now() < until, "{what}");
        maniple::sleep(Duration::from_millis(5));
    }
}
