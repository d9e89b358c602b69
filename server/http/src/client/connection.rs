//! A connection to a server, with its buffers, and one exchange over it.
//!
//! A request is sent and its response received by the same coroutine, in turns: while it waits for more of the response
//! it sends what is left of the request. So a server may answer before it has read everything (RFC 9112, 9.5),
//! and one that echoes as it reads finds a reader. A body that is made while it is sent has a coroutine of its own for that:
//! see [`upload`](super::upload).

use std::{
    io,
    sync::Arc,
    thread::ThreadId,
    time::{Duration, Instant},
};

use bytes::Bytes;
use http::{
    HeaderMap, Method, StatusCode,
    header::{CONTENT_LENGTH, EXPECT, HOST, TRAILER, TRANSFER_ENCODING},
};
use maniple::{
    cancel::{check, is_cancelled_error},
    net::Shutdown,
    time::coarse_now,
};

use super::{
    error::ClientError,
    upload::{Courier, Progress, Sender, State},
    url::Url,
};
use crate::{
    http1::{
        conversation::{Awaiting, MAX_HEAD},
        reply::{Reply, Search},
    },
    response::Body,
    trace_context::{TRACEPARENT, TRACESTATE, trace_context},
    transport::Transport,
};

/// A connection, what is still to be sent on it, and what has been received on it but not used.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) host: Arc<str>,
    stream: Arc<Transport>,
    pub(crate) input: Inbox,
    sending: Sending,
    /// Of a body that others send.
    upload: Option<Upload>,
    /// When it was put into the pool, and by whom: where its readiness is watched already.
    pub(crate) kept: Option<(Instant, ThreadId)>,
}

/// What is sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Outgoing<'a> {
    pub(crate) method: &'a Method,
    pub(crate) url: Url<'a>,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) body: &'a Bytes,
    /// The body is made while it is sent; its length, if that is known.
    pub(crate) streamed: Option<Option<u64>>,
    /// How long the server may take to say that it wants the body.
    pub(crate) expect: Option<Duration>,
}

/// A body that is sent by others than who reads the answer.
#[derive(Debug)]
struct Upload {
    stream: Arc<Transport>,
    progress: Arc<Progress>,
    _courier: Option<Courier>,
}

/// A final answer, or word that the body is wanted.
#[derive(Debug)]
enum Heard {
    Final(Reply),
    GoOn,
}

/// What is heard of answers before the final one.
pub(crate) type OnInterim<'a> = &'a mut dyn FnMut(StatusCode, HeaderMap);

/// The search for the head of the final answer.
#[derive(Debug, Default)]
struct Hearing {
    search: Search,
    awaiting: Awaiting,
    heard: bool,
}

/// Why an exchange failed.
#[derive(Debug)]
pub(crate) struct Failed {
    pub(crate) error: ClientError,
    /// Not a byte came back, and no wait was cut short: the server may have closed before it saw the
    /// request.
    pub(crate) unheard: bool,
    /// Not even the head has left.
    pub(crate) unsent: bool,
}

/// Bodies up to this are copied behind their head, and so is the beginning of longer ones.
const COPIED_BODY: usize = 4 * 1024;

/// In place of a time that never comes.
const LONG: Duration = Duration::from_secs(365 * 24 * 3600);

impl Connection {
    pub(crate) fn new(host: &str, stream: Transport) -> Self {
        Self {
            host: host.into(),
            stream: Arc::new(stream),
            input: Inbox::default(),
            sending: Sending::default(),
            upload: None,
            kept: None,
        }
    }

    /// Sends a request and reads the head of its final response. That may come before all has been sent: the rest is
    /// sent while more is received. A body that is made meanwhile is taken out of `body` once the server may have it.
    pub(crate) fn exchange(
        &mut self,
        request: &Outgoing<'_>,
        body: &mut Option<Body>,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        if request.streamed.is_none() && request.expect.is_none() {
            self.sending.load(request);
            return self.hear(request.method, on_interim);
        }
        let mut hearing = Hearing::default();
        if let Some(early) = self.begin_in(request, &mut hearing, on_interim)? {
            return Ok(early);
        }
        match (request.streamed, body.take()) {
            (Some(_), Some(body)) => {
                let sender = self.sender(request);
                let progress = sender.progress();
                let courier = Courier::send(sender, body.kind);
                let courier = courier.map_err(|error| self.failed(error, true))?;
                self.upload = Some(Upload {
                    stream: self.stream.clone(),
                    progress,
                    _courier: Some(courier),
                });
            }
            _ => self.sending.load_body(request),
        }
        self.hear_in(request.method, &mut hearing, on_interim)
    }

    /// Sends the head of a request whose body the caller sends, by the [`Sender`] that comes back.
    pub(crate) fn begin(&mut self, request: &Outgoing<'_>) -> Result<Sender, Failed> {
        self.begin_in(request, &mut Hearing::default(), &mut |_, _| {})?;
        let sender = self.sender(request);
        self.upload = Some(Upload {
            stream: self.stream.clone(),
            progress: sender.progress(),
            _courier: None,
        });
        Ok(sender)
    }

    /// Reads the head of the final response to a request whose body is being sent. Once that is over, the head has between
    /// one and two times `timeout` to come.
    pub(crate) fn hear_in_time(
        &mut self,
        method: &Method,
        timeout: Duration,
    ) -> Result<Reply, ClientError> {
        let is_going = |upload: &Option<Upload>| {
            let upload = upload.as_ref();
            upload.is_some_and(|upload| upload.progress.is_going())
        };
        let mut hearing = Hearing::default();
        let mut was_going = true;
        loop {
            let now = coarse_now();
            let until = now.checked_add(timeout).unwrap_or(now + LONG);
            match self.hear_until(method, &mut hearing, Some(until), &mut |_, _| {}) {
                Ok(Heard::Final(reply)) => return Ok(reply),
                // An interim answer, or the time.
                Ok(Heard::GoOn) if was_going || coarse_now() < until => {}
                Ok(Heard::GoOn) => {
                    let host = self.host.to_string();
                    return Err(ClientError::Timeout { host });
                }
                Err(failed) => return Err(failed.error),
            }
            was_going = is_going(&self.upload);
        }
    }

    /// Reads the head of the final response to what has been sent, or is being sent.
    pub(crate) fn hear(
        &mut self,
        method: &Method,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        self.hear_in(method, &mut Hearing::default(), on_interim)
    }

    fn begin_in(
        &mut self,
        request: &Outgoing<'_>,
        hearing: &mut Hearing,
        on_interim: OnInterim<'_>,
    ) -> Result<Option<Reply>, Failed> {
        self.sending.load_head(request);
        while !self.sending.is_over() {
            let written = self.stream.write(self.sending.unsent());
            match written {
                Ok(count) => self.sending.sent += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    let unsent = self.sending.sent == 0;
                    self.sending.let_go();
                    return Err(Failed {
                        unsent,
                        ..self.failed(error, false)
                    });
                }
            }
        }
        let flushed = self.stream.flush();
        flushed.map_err(|error| self.failed(error, false))?;
        let Some(patience) = request.expect else {
            return Ok(None);
        };
        // Until it is found out that the server wants it, nothing of the body has been sent.
        self.sending.withheld = true;
        let now = coarse_now();
        let until = now.checked_add(patience).unwrap_or(now + LONG);
        match self.hear_until(request.method, hearing, Some(until), on_interim)? {
            Heard::Final(reply) => Ok(Some(reply)),
            Heard::GoOn => {
                self.sending.withheld = false;
                Ok(None)
            }
        }
    }

    fn sender(&self, request: &Outgoing<'_>) -> Sender {
        let mut announced = HeaderMap::new();
        for names in request.headers.get_all(TRAILER) {
            announced.append(TRAILER, names.clone());
        }
        Sender::new(self.stream.clone(), request.streamed.flatten(), announced)
    }

    fn hear_in(
        &mut self,
        method: &Method,
        hearing: &mut Hearing,
        on_interim: OnInterim<'_>,
    ) -> Result<Reply, Failed> {
        loop {
            if let Heard::Final(reply) = self.hear_until(method, hearing, None, on_interim)? {
                return Ok(reply);
            }
        }
    }

    /// Reads heads up to the final response's. With a time, also up to that, and to `100 Continue`.
    fn hear_until(
        &mut self,
        method: &Method,
        hearing: &mut Hearing,
        until: Option<Instant>,
        on_interim: OnInterim<'_>,
    ) -> Result<Heard, Failed> {
        loop {
            let unread = self.input.unread();
            let found = hearing.search.find(unread);
            let found = found.map_err(|text| self.malformed(text))?;
            let Some(length) = found.filter(|&length| length <= MAX_HEAD) else {
                if unread.len() > MAX_HEAD {
                    return Err(self.malformed("head too large"));
                }
                if let Some(until) = until
                    && !self.has_come_until(until)?
                {
                    return Ok(Heard::GoOn);
                }
                match self.fill() {
                    Ok(0) => {
                        let text = "connection closed before the response";
                        let gone = io::Error::new(io::ErrorKind::UnexpectedEof, text);
                        return Err(self.failed(gone, hearing.heard));
                    }
                    Ok(_) => hearing.heard = true,
                    Err(error) => return Err(self.failed(error, hearing.heard)),
                }
                continue;
            };
            let parsed = Reply::parse(&unread[..length], method);
            let reply = parsed.map_err(|reason| self.malformed(&reason))?;
            self.input.consume(length);
            let is_final = hearing.awaiting.is_final(reply.status, length);
            if is_final.map_err(|text| self.malformed(text))? {
                return Ok(Heard::Final(reply));
            }
            hearing.search = Search::default();
            let is_continue = reply.status == StatusCode::CONTINUE;
            on_interim(reply.status, reply.headers);
            if is_continue && until.is_some() {
                return Ok(Heard::GoOn);
            }
        }
    }

    /// Whether something has come of the server before that time.
    fn has_come_until(&self, until: Instant) -> Result<bool, Failed> {
        match self.stream.wait_readable_until(until) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::TimedOut && coarse_now() >= until => {
                Ok(false)
            }
            Err(error) => Err(self.failed(error, false)),
        }
    }

    /// The connection, and what has been received on it beyond the head, for another protocol; `None` if something is
    /// still sent on it.
    pub(crate) fn into_parts(self) -> Option<(Transport, Vec<u8>)> {
        let Self { stream, input, .. } = self;
        let ahead = input.unread().to_vec();
        Some((Arc::into_inner(stream)?, ahead))
    }

    /// Whether the request has been sent whole, once what there is room for now has been.
    pub(crate) fn has_sent_all(&mut self) -> bool {
        if let Some(upload) = &self.upload {
            if upload.progress.state_behind_the_answer() != State::Whole {
                return false;
            }
            self.upload = None;
        }
        while let Ok(true) = self.sending.advance(&self.stream) {}
        self.sending.is_over() && self.sending.refused.is_none() && !self.sending.withheld
    }

    /// An idle connection has nothing to say: bytes or an end mean that it is of no use.
    pub(crate) fn is_quiet(&self) -> bool {
        match self.stream.try_read(&mut [0]) {
            Err(error) => error.kind() == io::ErrorKind::WouldBlock,
            Ok(_) => false,
        }
    }

    /// Receives more; 0 at the end.
    pub(crate) fn fill(&mut self) -> io::Result<usize> {
        let upload = self.upload.as_ref();
        let count = read(&self.stream, &mut self.sending, upload, self.input.room())?;
        self.input.end += count;
        Ok(count)
    }

    /// What was received already, else from the connection; 0 at the end.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let unread = self.input.unread();
        if unread.is_empty() {
            let upload = self.upload.as_ref();
            return read(&self.stream, &mut self.sending, upload, buffer);
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
            unsent: false,
            error,
        }
    }

    fn malformed(&self, reason: &str) -> Failed {
        Failed {
            unheard: false,
            unsent: false,
            error: ClientError::protocol(&self.host, reason),
        }
    }
}

impl Drop for Upload {
    /// Whatever its maker does meanwhile, the server sees the end.
    fn drop(&mut self) {
        if self.progress.is_going() {
            // An error says that the connection is gone already.
            let _ = self.stream.shutdown(Shutdown::Both);
        }
    }
}

/// Reads what comes, and sends what is left while nothing does; 0 at the end.
fn read(
    stream: &Transport,
    sending: &mut Sending,
    upload: Option<&Upload>,
    buffer: &mut [u8],
) -> io::Result<usize> {
    while !sending.is_over() || stream.unsent() > 0 {
        // Neither try looks at the scope, and both may always succeed.
        check()?;
        let has_moved = sending.advance(stream)?;
        if sending.is_over() && stream.unsent() == 0 {
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
    let read = stream.read(buffer);
    let Some(upload) = upload else {
        return told(read, sending.refused == Some(RESET), buffer);
    };
    let is_the_callers =
        |error: &io::Error| is_cancelled_error(error) || error.kind() == io::ErrorKind::TimedOut;
    let has_ended = match &read {
        Ok(count) => *count == 0 && !buffer.is_empty(),
        Err(error) => !is_the_callers(error),
    };
    // Its sender may have ended it.
    match has_ended.then(|| upload.progress.reason()).flatten() {
        Some(reason) => Err(reason),
        None => told(read, upload.progress.state() == State::Reset, buffer),
    }
}

const RESET: io::ErrorKind = io::ErrorKind::ConnectionReset;

/// A reset is reported once. Told to the sender, it looks to the reader like a clean end.
fn told(read: io::Result<usize>, is_reset: bool, buffer: &[u8]) -> io::Result<usize> {
    match read {
        Ok(0) if is_reset && !buffer.is_empty() => Err(RESET.into()),
        read => read,
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
    /// The body is not sent before the server says that it wants it.
    withheld: bool,
}

impl Sending {
    fn load(&mut self, request: &Outgoing<'_>) {
        self.load_head(request);
        let copied = request.body.len().min(COPIED_BODY);
        self.start.extend_from_slice(&request.body[..copied]);
        self.rest = request.body.slice(copied..);
    }

    fn load_head(&mut self, request: &Outgoing<'_>) {
        self.start.clear();
        write_head(&mut self.start, request);
        self.rest = Bytes::new();
        (self.sent, self.refused, self.withheld) = (0, None, false);
    }

    /// What follows a head that has been sent.
    fn load_body(&mut self, request: &Outgoing<'_>) {
        self.start.clear();
        self.sent = 0;
        self.rest = request.body.clone();
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
        if self.is_over() && stream.unsent() == 0 {
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
        streamed,
        expect,
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
        if ![CONTENT_LENGTH, TRANSFER_ENCODING, EXPECT].contains(name) {
            out.extend_from_slice(name.as_str().as_bytes());
            field(out, b": ", value.as_bytes());
        }
    }
    if !headers.contains_key(TRACEPARENT)
        && let Some(context) = trace_context()
    {
        let (parent, state) = context.for_call();
        field(out, b"traceparent: ", parent.as_bytes());
        if let Some(state) = state.filter(|_| !headers.contains_key(TRACESTATE)) {
            field(out, b"tracestate: ", state.as_bytes());
        }
    }
    if expect.is_some() {
        out.extend_from_slice(b"expect: 100-continue\r\n");
    }
    let expects_body = [Method::POST, Method::PUT, Method::PATCH].contains(method);
    let length = match streamed {
        Some(length) => *length,
        None if !body.is_empty() || expects_body => Some(body.len() as u64),
        None => return out.extend_from_slice(b"\r\n"),
    };
    match length {
        Some(length) => {
            let mut digits = itoa::Buffer::new();
            field(out, b"content-length: ", digits.format(length).as_bytes());
        }
        None => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
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
pub(crate) struct Inbox {
    bytes: Vec<u8>,
    start: usize,
    end: usize,
}

/// Room for a read.
const READ: usize = 4 * 1024;

impl Inbox {
    pub(crate) fn unread(&self) -> &[u8] {
        &self.bytes[self.start..self.end]
    }

    pub(crate) fn consume(&mut self, count: usize) {
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
            streamed: None,
            expect: None,
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
