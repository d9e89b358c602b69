//! A connection to a server, with its buffers, and one exchange over it.

use std::{
    io::{self, IoSlice, Read, Write},
    sync::Arc,
    thread::ThreadId,
    time::Instant,
};

use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, HOST, TRANSFER_ENCODING},
};
use maniple::net::TcpStream;

use super::{ClientError, url::Url};
use crate::http1::reply::Reply;

/// A connection, and what has been received on it but not used.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) host: Arc<str>,
    pub(super) stream: TcpStream,
    pub(super) input: Inbox,
    output: Vec<u8>,
    /// When it was put into the pool, and by whom: where its readiness is watched already.
    pub(super) kept: Option<(Instant, ThreadId)>,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(super) struct Outgoing<'a> {
    pub(super) method: &'a Method,
    pub(super) url: Url<'a>,
    pub(super) headers: &'a HeaderMap,
    pub(super) body: &'a [u8],
}

/// Why an exchange failed.
#[derive(Debug)]
pub(super) struct Failed {
    pub(super) error: ClientError,
    /// Not a byte came back, and no wait was cut short: the server may have closed before it saw the
    /// request.
    pub(super) unheard: bool,
}

/// A response's head may take this much.
const MAX_HEAD: usize = 64 * 1024;

/// Bodies up to this are copied behind their head.
const COPIED_BODY: usize = 4 * 1024;

impl Connection {
    pub(super) fn new(host: &str, stream: TcpStream) -> Self {
        Self {
            host: host.into(),
            stream,
            input: Inbox::default(),
            output: Vec::new(),
            kept: None,
        }
    }

    /// Sends a request and reads the head of its final response.
    pub(super) fn exchange(&mut self, request: &Outgoing<'_>) -> Result<Reply, Failed> {
        let mut heard = false;
        if let Err(error) = self.send(request) {
            // The server may have answered and closed before it had read everything.
            let closed = [io::ErrorKind::BrokenPipe, io::ErrorKind::ConnectionReset];
            if !closed.contains(&error.kind()) {
                return Err(self.failed(error, heard));
            }
        }
        loop {
            match Reply::parse(self.input.unread(), request.method) {
                Ok(Some(reply)) => {
                    self.input.consume(reply.length);
                    if !reply.is_interim() {
                        return Ok(reply);
                    }
                }
                Ok(None) if self.input.unread().len() > MAX_HEAD => {
                    return Err(self.malformed("head too large"));
                }
                Ok(None) => match self.fill() {
                    Ok(0) => {
                        let text = "connection closed before the response";
                        let gone = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                        return Err(self.failed(gone, heard));
                    }
                    Ok(_) => heard = true,
                    Err(error) => return Err(self.failed(error, heard)),
                },
                Err(reason) => return Err(self.malformed(&reason)),
            }
        }
    }

    fn send(&mut self, request: &Outgoing<'_>) -> io::Result<()> {
        self.output.clear();
        write_head(&mut self.output, request);
        if request.body.len() <= COPIED_BODY {
            self.output.extend_from_slice(request.body);
            return self.stream.write_all(&self.output);
        }
        let mut slices = &mut [IoSlice::new(&self.output), IoSlice::new(request.body)][..];
        while !slices.is_empty() {
            match self.stream.write_vectored(slices) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(count) => IoSlice::advance_slices(&mut slices, count),
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Receives more; 0 at the end.
    pub(super) fn fill(&mut self) -> io::Result<usize> {
        let count = self.stream.read(self.input.room())?;
        self.input.end += count;
        Ok(count)
    }

    /// What was received already, else from the connection; 0 at the end.
    pub(super) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = self.input.unread();
        if unread.is_empty() {
            return self.stream.read(buffer);
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
            body: b"",
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
