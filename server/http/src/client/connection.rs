//! A connection to a server, with its buffers, and one exchange over it.
//!
//! A request is sent and its response received by the same coroutine, in turns: while it waits for more of the response
//! it sends what is left of the request. So a server may answer before it has read everything (RFC 9112, 9.5),
//! and one that echoes as it reads finds a reader.

use std::{io, sync::Arc, thread::ThreadId, time::Instant};

use bytes::Bytes;
use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use maniple::cancel::check;

use super::{error::ClientError, url::Url};
use crate::{
    http1::{
        conversation::{Awaiting, MAX_HEAD},
        reply::{Reply, Search},
    },
    transport::Transport,
};

/// A connection, what is still to be sent on it, and what has been received on it but not used.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) host: Arc<str>,
    stream: Transport,
    pub(super) input: Inbox,
    sending: Sending,
    /// When it was put into the pool, and by whom: where its readiness is watched already.
    pub(super) kept: Option<(Instant, ThreadId)>,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) method: &'a Method,
    pub(super) url: Url<'a>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a Bytes,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ClientError,
    /// Not a byte came back, and no wait was cut short: the server may have closed before it saw the
    /// request.
    pub(super) unheard: bool,
}

/// Bodies up to this are copied behind their head, and so is the beginning of longer ones.
const COPIED_BODY: usize = 4 * 1024;

impl Connection {
    pub(super) fn new(host: &str, stream: Transport) -> Self {
        Self {
            host: host.into(),
            stream,
            input: Inbox::default(),
            sending: Sending::default(),
            kept: None,
        }
    }

    /// Sends a request and reads the head of its final response. That may come before all has been sent: the rest is
    /// sent while more is received.
    pub(super) fn exchange(&mut self, request: &Outgoing<'_>) -> Result<Reply, Failed> {
        self.sending.load(request);
        let mut heard = false;
        let mut search = Search::default();
        let mut awaiting = Awaiting::default();
        loop {
            let unread = self.input.unread();
            let found = search.find(unread).map_err(|text| self.malformed(text))?;
            let Some(length) = found.filter(|&length| length <= MAX_HEAD) else {
                if unread.len() > MAX_HEAD {
                    return Err(self.malformed("head too large"));
                }
                match self.fill() {
                    Ok(0) => {
                        let text = "connection closed before the response";
                        let gone = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                        return Err(self.failed(gone, heard));
                    }
                    Ok(_) => heard = true,
                    Err(error) => return Err(self.failed(error, heard)),
                }
                continue;
            };
            let parsed = Reply::parse(&unread[..length], request.method);
            let reply = parsed.map_err(|reason| self.malformed(&reason))?;
            self.input.consume(length);
            let is_final = awaiting.is_final(reply.status, length);
            if is_final.map_err(|text| self.malformed(text))? {
                return Ok(reply);
            }
            search = Search::default();
        }
    }

    /// Whether the request has been sent whole, once what there is room for now has been.
    pub(super) fn has_sent_all(&mut self) -> bool {
        while let Ok(true) = self.sending.advance(&self.stream) {}
        self.sending.is_over() && self.sending.refused.is_none()
    }

    /// An idle connection has nothing to say: bytes or an end mean that it is of no use.
    pub(super) fn is_quiet(&self) -> bool {
        match self.stream.try_read(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Receives more; 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let count = read(&self.stream, &mut self.sending, self.input.room())?;
        self.input.end += count;
        Ok(count)
    }

    /// What was received already, else from the connection; 0 at the end.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = self.input.unread();
        if unread.is_empty() {
            return read(&self.stream, &mut self.sending, buffer);
        }
        let count = unread.len().min(buffer.len());
        buffer[..count].copy_from_slice(&unread[..count]);
        self.input.consume(count);
        Ok(count)
    }

    fn failed(&self, error: io::Error, heard: bool) -> Failed {
        let error = ClientError::io(&self.host, error);
        Failed {
            unheard: !heard && matches!(error, ClientError::Io { .. }),
            error,
        }
    }

    fn malformed(&self, reason: &str) -> Failed {
        Failed {
            unheard: false,
            error: ClientError::protocol(&self.host, reason),
        }
    }
}

/// Reads what comes, and sends what is left while nothing does; 0 at the end.
fn read(stream: &Transport, sending: &mut Sending, buffer: &mut [u8]) -> io::Result<usize> {
    while !sending.is_over() {
        // Neither try looks at the scope, and both may always succeed.
        check()?;
        let has_moved = sending.advance(stream)?;
        if sending.is_over() {
            break;
        }
        match stream.try_read(buffer) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                if !has_moved {
                    stream.wait_either()?;
                }
            }
            read => return read,
        }
    }
    match (stream.read(buffer), sending.refused) {
        // A reset is reported once. Told to the sender, it looks to the reader like a clean end.
        (Ok(0), Some(io::ErrorKind::ConnectionReset)) if !buffer.is_empty() => {
            Err(io::ErrorKind::ConnectionReset.into())
        }
        (read, _) => read,
    }
}

/// A request on its way.
#[derive(Debug, Default)]
struct Sending {
    /// The head, and the beginning of the body.
    start: Vec<u8>,
    /// What follows of the body.
    rest: Bytes,
    /// So much of both has been sent.
    sent: usize,
    /// The server takes no more; it may have answered before.
    refused: Option<io::ErrorKind>,
}

impl Sending {
    fn load(&mut self, request: &Outgoing<'_>) {
        self.start.clear();
        write_head(&mut self.start, request);
        let copied = request.body.len().min(COPIED_BODY);
        self.start.extend_from_slice(&request.body[..copied]);
        self.rest = request.body.slice(copied..);
        (self.sent, self.refused) = (0, None);
    }

    /// Whether nothing more is to be sent.
    fn is_over(&self) -> bool {
        self.unsent().is_empty()
    }

    fn unsent(&self) -> &[u8] {
        match self.sent.checked_sub(self.start.len()) {
            Some(sent) => &self.rest[sent..],
            None => &self.start[self.sent..],
        }
    }

    /// Nothing more is sent; the connection may be kept for long.
    fn let_go(&mut self) {
        self.rest = Bytes::new();
        self.sent = self.start.len();
    }

    /// Sends what there is room for; whether there was any.
    fn advance(&mut self, stream: &Transport) -> io::Result<bool> {
        if self.is_over() {
            return Ok(false);
        }
        match stream.try_write(self.unsent()) {
            Ok(count) => {
                self.sent += count;
                if self.unsent().is_empty() {
                    self.let_go();
                }
                Ok(true)
            }
            Err(error) => match error.kind() {
                io::ErrorKind::WouldBlock => Ok(false),
                // It may have answered and closed before it had read everything.
                kind @ (io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) => {
                    self.refused = Some(kind);
                    self.let_go();
                    Ok(false)
                }
                _ => Err(error),
            },
        }
    }
}

fn write_head(out: &mut Vec<u8>, request: &Outgoing<'_>) {
    let Outgoing {
        method,
        url,
        headers,
        body,
    } = request;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    url.write_target(out);
    out.extend_from_slice(b" HTTP/1.1\r\n");
    if !headers.contains_key(HOST) {
        field(out, b"host: ", url.authority.as_bytes());
    }
    for (name, value) in *headers {
        // The message is framed by what is sent, not by what is claimed.
        if name != CONTENT_LENGTH && name != TRANSFER_ENCODING {
            out.extend_from_slice(name.as_str().as_bytes());
            field(out, b": ", value.as_bytes());
        }
    }
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    if !body.is_empty() || expects_body {
        let mut digits = itoa::Buffer::new();
        let length = digits.format(body.len()).as_bytes();
        field(out, b"content-length: ", length);
    }
    out.extend_from_slice(b"\r\n");
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Received bytes, of which those from `start` to `end` are unread.
#[derive(Debug, Default)]
pub(super) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Room for a read.
const READ: usize = 4 * 1024;

impl Inbox {
    pub(super) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(super) fn consume(&mut self, count: usize) {
        self.start += count;
        if self.start == self.end {
            (self.start, self.end) = (0, 0);
        }
    }

    fn room(&mut self) -> &mut [u8] {
        if self.bytes.len() - self.end < READ / 4 {
            if self.start > 0 {
                self.bytes.copy_within(self.start..self.end, 0);
                self.end -= self.start;
                self.start = 0;
            }
            if self.bytes.len() - self.end < READ / 4 {
                self.bytes.resize(self.bytes.len() + READ, 0);
            }
        }
        &mut self.bytes[self.end..]
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn the_head_frames_what_is_sent() {
        let mut headers = HeaderMap::new();
        headers.insert("content-length", HeaderValue::from_static("99"));
        headers.insert("transfer-encoding", HeaderValue::from_static("chunked"));
        headers.insert("x-a", HeaderValue::from_static("b"));
        let mut out = Vec::new();
        let request = Outgoing {
            method: &Method::POST,
            url: Url::parse("http://h:80?q").unwrap(),
            headers: &headers,
            body: &Bytes::new(),
        };
        write_head(&mut out, &request);
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /?q HTTP/1.1\r\nhost: h:80\r\nx-a: b\r\ncontent-length: 0\r\n\r\n"
        );
    }

    #[test]
    fn an_inbox_keeps_what_is_unread_while_it_makes_room() {
        let mut inbox = Inbox::default();
        let put = |inbox: &mut Inbox, text: &[u8]| {
            inbox.room()[..text.len()].copy_from_slice(text);
            inbox.end += text.len();
        };
        for n in 0..200_u32 {
            put(&mut inbox, &[n as u8; 100]);
            if n > 0 {
                assert_eq!(&inbox.unread()[..100], &[(n - 1) as u8; 100]);
                inbox.consume(100);
            }
        }
        assert!(inbox.bytes.len() <= 2 * READ);
        inbox.consume(100);
        assert_eq!(inbox.unread(), b"");
    }
}
