//! A client, or a server, that writes frames byte by byte, as none should.

use std::{
    io::{Read, Write},
    net::SocketAddr,
    time::Duration,
};

use maniple::net::{TcpListener, TcpStream};

pub(crate) const DATA: u8 = 0;
pub(crate) const HEADERS: u8 = 1;
pub(crate) const PRIORITY: u8 = 2;
pub(crate) const RST_STREAM: u8 = 3;
pub(crate) const SETTINGS: u8 = 4;
pub(crate) const PING: u8 = 6;
pub(crate) const GOAWAY: u8 = 7;
pub(crate) const WINDOW_UPDATE: u8 = 8;
pub(crate) const CONTINUATION: u8 = 9;

pub(crate) const END_STREAM: u8 = 1;
pub(crate) const ACK: u8 = 1;
pub(crate) const END_HEADERS: u8 = 4;

pub(crate) const ENHANCE_YOUR_CALM: u32 = 11;

/// A frame that came.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Frame {
    pub(crate) kind: u8,
    pub(crate) flags: u8,
    pub(crate) stream: u32,
    pub(crate) payload: Vec<u8>,
}

impl Frame {
    /// Of GOAWAY and RST_STREAM: why.
    pub(crate) fn code(&self) -> u32 {
        let at = self.payload.len() - 4;
        let code = match self.kind {
            GOAWAY => &self.payload[4..8],
            _ => &self.payload[at..],
        };
        u32::from_be_bytes(code.try_into().unwrap())
    }

    /// Of the first HEADERS of an answer: the status, which comes first.
    pub(crate) fn status(&self) -> u16 {
        let mut block = &self.payload[..];
        // The size of the table (RFC 7541, 6.3).
        while let [0x20..=0x3f, rest @ ..] = block {
            block = rest;
        }
        const USUAL: [u16; 7] = [200, 204, 206, 304, 400, 404, 500];
        match block {
            [index @ 0x88..=0x8e, ..] => USUAL[usize::from(index - 0x88)],
            [_, length, rest @ ..] if length & 0x80 != 0 => {
                huffman_digits(&rest[..usize::from(length & 0x7f)])
            }
            [_, 3, rest @ ..] => std::str::from_utf8(&rest[..3]).unwrap().parse().unwrap(),
            _ => panic!("no status: {self:?}"),
        }
    }

    /// Of GOAWAY: the last request that is answered.
    pub(crate) fn last(&self) -> u32 {
        u32::from_be_bytes(self.payload[..4].try_into().unwrap())
    }
}

pub(crate) struct Raw {
    stream: TcpStream,
}

impl Raw {
    /// One that has said hello, with these settings.
    pub(crate) fn connect(address: SocketAddr, settings: &[(u16, u32)]) -> Self {
        let mut raw = Self::over(TcpStream::connect(address).unwrap());
        let mut hello = HELLO.to_vec();
        let mut payload = Vec::new();
        for (id, value) in settings {
            payload.extend(id.to_be_bytes());
            payload.extend(value.to_be_bytes());
        }
        hello.extend(frame(SETTINGS, 0, 0, &payload));
        hello.extend(frame(SETTINGS, ACK, 0, &[]));
        raw.say(&hello);
        raw
    }

    /// A server, whose client has said hello. It has said nothing yet.
    pub(crate) fn accept(listener: &TcpListener) -> Self {
        let mut raw = Self::over(listener.accept().unwrap().0);
        let mut hello = [0; HELLO.len()];
        raw.stream.read_exact(&mut hello).unwrap();
        assert_eq!(hello, *HELLO);
        raw
    }

    fn over(stream: TcpStream) -> Self {
        let timeout = Some(Duration::from_secs(30));
        stream.set_read_timeout(timeout).unwrap();
        Self { stream }
    }

    /// Whether it can still be said.
    pub(crate) fn say(&mut self, bytes: &[u8]) -> bool {
        self.stream.write_all(bytes).is_ok()
    }

    /// Goes away without a word of farewell.
    pub(crate) fn vanish(self) {
        self.stream.reset_on_close().unwrap();
    }

    /// Ends what it says, and still listens.
    pub(crate) fn fall_silent(&self) {
        self.stream.shutdown(maniple::net::Shutdown::Write).unwrap();
    }

    /// The next frame; none at the end, orderly or not.
    pub(crate) fn hear(&mut self) -> Option<Frame> {
        let mut head = [0; 9];
        if let Err(error) = self.stream.read_exact(&mut head) {
            assert_ne!(error.kind(), std::io::ErrorKind::TimedOut, "nothing comes");
            return None;
        }
        let length = u32::from_be_bytes([0, head[0], head[1], head[2]]);
        let mut payload = vec![0; length as usize];
        self.stream.read_exact(&mut payload).ok()?;
        Some(Frame {
            kind: head[3],
            flags: head[4],
            stream: u32::from_be_bytes(head[5..].try_into().unwrap()),
            payload,
        })
    }

    /// The next frame of that kind.
    pub(crate) fn hear_of(&mut self, kind: u8) -> Option<Frame> {
        std::iter::from_fn(|| self.hear()).find(|frame| frame.kind == kind)
    }
}

/// The first words of a client (RFC 9113, 3.4).
const HELLO: &[u8; 24] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// The head of an answer with status 200.
pub(crate) fn answer(flags: u8, stream: u32) -> Vec<u8> {
    frame(
        HEADERS,
        flags | END_HEADERS,
        stream,
        &block(&[(":status", "200")]),
    )
}

pub(crate) fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let mut bytes = (payload.len() as u32).to_be_bytes()[1..].to_vec();
    bytes.extend([kind, flags]);
    bytes.extend(stream.to_be_bytes());
    bytes.extend(payload);
    bytes
}

/// A block of fields, none of which is compressed.
pub(crate) fn block(fields: &[(&str, &str)]) -> Vec<u8> {
    let mut block = Vec::new();
    for (name, value) in fields {
        // Literal, without indexing, with a new name (RFC 7541, 6.2.2).
        block.push(0);
        for text in [name, value] {
            length(&mut block, text.len());
            block.extend(text.as_bytes());
        }
    }
    block
}

fn length(block: &mut Vec<u8>, length: usize) {
    match length.checked_sub(127) {
        None => block.push(length as u8),
        Some(mut rest) => {
            block.push(127);
            while rest >= 128 {
                block.push((rest % 128) as u8 | 128);
                rest /= 128;
            }
            block.push(rest as u8);
        }
    }
}

/// What a GET of that path begins with.
pub(crate) fn pseudo(path: &str) -> [(&str, &str); 4] {
    [
        (":method", "GET"),
        (":scheme", "http"),
        (":authority", "test"),
        (":path", path),
    ]
}

/// A GET without a body.
pub(crate) fn get(stream: u32, path: &str) -> Vec<u8> {
    let flags = END_STREAM | END_HEADERS;
    frame(HEADERS, flags, stream, &block(&pseudo(path)))
}

impl Raw {
    /// The next frame of one of those kinds.
    pub(crate) fn hear_of_any(&mut self, kinds: &[u8]) -> Option<Frame> {
        std::iter::from_fn(|| self.hear()).find(|frame| kinds.contains(&frame.kind))
    }
}

/// Three digits in the code of HPACK (RFC 7541, B).
fn huffman_digits(bytes: &[u8]) -> u16 {
    let bits: String = bytes.iter().map(|byte| format!("{byte:08b}")).collect();
    let mut bits = bits.as_str();
    let mut number = 0;
    for _ in 0..3 {
        let short = u16::from_str_radix(&bits[..5], 2).unwrap();
        let (digit, length) = match short {
            0..=2 => (short, 5),
            _ => (
                u16::from_str_radix(&bits[..6], 2).unwrap() - 0b01_1001 + 3,
                6,
            ),
        };
        number = number * 10 + digit;
        bits = &bits[length..];
    }
    number
}
