//! A response as the client's caller sees it.

use std::{
    fmt,
    io::{self, Read},
    sync::Arc,
};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode};
use serde::de::DeserializeOwned;

use super::{ClientError, Shared, pool::Pooled};
use crate::http1::chunk::{Decoder, Step};

/// A parsed response head, and how its body ends.
#[derive(Debug)]
pub(super) struct ResponseHead {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) length: usize,
    body: Ending,
    keep_alive: bool,
}

#[derive(Debug)]
enum Ending {
    Length(u64),
    Chunked(Decoder),
    Close,
    Done,
}

const MAX_FIELDS: usize = 128;

impl ResponseHead {
    /// Parses the head at the start of `bytes`; `None` if its end has not come yet.
    pub(super) fn parse(bytes: &[u8], method: &Method) -> Result<Option<Self>, String> {
        let mut slots = [const { std::mem::MaybeUninit::uninit() }; 32];
        let mut many;
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let status = match config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut slots)
        {
            Err(httparse::Error::TooManyHeaders) => {
                many = vec![std::mem::MaybeUninit::uninit(); MAX_FIELDS];
                parsed = httparse::Response::new(&mut []);
                config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut many)
            }
            status => status,
        };
        let length = match status.map_err(|error| error.to_string())? {
            httparse::Status::Complete(length) => length,
            httparse::Status::Partial => return Ok(None),
        };
        let status = parsed
            .code
            .and_then(|code| StatusCode::from_u16(code).ok())
            .ok_or("invalid status")?;
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for header in parsed.headers.iter() {
            headers.append(
                HeaderName::from_bytes(header.name.as_bytes()).map_err(|e| e.to_string())?,
                HeaderValue::from_bytes(header.value).map_err(|e| e.to_string())?,
            );
        }
        let body = ending(&headers, status, method)?;
        let options = || {
            headers
                .get_all(http::header::CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
                .map(<[u8]>::trim_ascii)
        };
        let keep_alive = match parsed.version {
            Some(1) => !options().any(|option| option.eq_ignore_ascii_case(b"close")),
            _ => options().any(|option| option.eq_ignore_ascii_case(b"keep-alive")),
        };
        Ok(Some(Self {
            status,
            headers,
            length,
            keep_alive: keep_alive && !matches!(body, Ending::Close),
            body,
        }))
    }

    /// Whether the final response is still to come.
    pub(super) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// How the body ends (RFC 9112, 6.3).
fn ending(headers: &HeaderMap, status: StatusCode, method: &Method) -> Result<Ending, String> {
    use http::header::{CONTENT_LENGTH, TRANSFER_ENCODING};
    if *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(Ending::Done);
    }
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let length = lengths.next();
    if let Some(encoding) = headers.get(TRANSFER_ENCODING) {
        if length.is_some() {
            return Err("both Content-Length and Transfer-Encoding".to_owned());
        }
        if !encoding.as_bytes().eq_ignore_ascii_case(b"chunked") {
            return Err(format!("transfer coding {encoding:?} is not understood"));
        }
        return Ok(Ending::Chunked(Decoder::new()));
    }
    let Some(length) = length else {
        return Ok(Ending::Close);
    };
    if lengths.any(|other| other != length) {
        return Err("different Content-Lengths".to_owned());
    }
    let digits = length.as_bytes();
    let length = std::str::from_utf8(digits)
        .ok()
        .filter(|text| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|text| text.parse().ok())
        .ok_or_else(|| format!("invalid Content-Length {length:?}"))?;
    Ok(match length {
        0 => Ending::Done,
        length => Ending::Length(length),
    })
}

/// An answer: status and header fields, and a body that is read as it comes.
///
/// The connection is used again once the body has been read to its end; dropped earlier, it is closed.
pub struct ClientResponse {
    status: StatusCode,
    headers: HeaderMap,
    body: Ending,
    keep_alive: bool,
    connection: Option<Pooled>,
    host: String,
    shared: Arc<Shared>,
}

impl ClientResponse {
    pub(super) fn new(
        head: ResponseHead,
        connection: Pooled,
        shared: Arc<Shared>,
    ) -> Result<Self, ClientError> {
        let mut response = Self {
            status: head.status,
            headers: head.headers,
            body: head.body,
            keep_alive: head.keep_alive,
            host: connection.host.clone(),
            connection: Some(connection),
            shared,
        };
        response.finish_if_done();
        Ok(response)
    }

    /// The status.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// All header fields.
    pub fn headers(&self) -> &HeaderMap {
        &self.headers
    }

    /// The first value of a header field, if it is text.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name)?.to_str().ok()
    }

    /// The whole body.
    ///
    /// # Errors
    /// If it is larger than the client allows, malformed or incomplete, or the wait was cut short.
    pub fn bytes(mut self) -> Result<Bytes, ClientError> {
        let limit = self.shared.max_body;
        let mut body = Vec::new();
        let mut buffer = [0; 4096];
        loop {
            match self.read_some(&mut buffer)? {
                0 => return Ok(body.into()),
                count => body.extend_from_slice(&buffer[..count]),
            }
            if body.len() as u64 > limit {
                return Err(self.malformed(format!("body is larger than {limit} bytes")));
            }
        }
    }

    /// The whole body, as text; what is not UTF-8 becomes U+FFFD.
    ///
    /// # Errors
    /// As [`ClientResponse::bytes`].
    pub fn text(self) -> Result<String, ClientError> {
        let bytes = self.bytes()?;
        Ok(String::from_utf8_lossy(&bytes).into_owned())
    }

    /// The whole body, as JSON.
    ///
    /// # Errors
    /// As [`ClientResponse::bytes`], or if it is not such JSON.
    pub fn json<T: DeserializeOwned>(self) -> Result<T, ClientError> {
        let host = self.host.clone();
        let bytes = self.bytes()?;
        serde_json::from_slice(&bytes).map_err(|error| ClientError::Protocol {
            host,
            reason: format!("invalid JSON: {error}"),
        })
    }

    fn read_some(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        let read = self.read_step(buffer);
        if read.is_err() {
            // Where the next response would begin is unknown.
            self.connection = None;
        } else {
            self.finish_if_done();
        }
        read
    }

    fn read_step(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        loop {
            let Some(connection) = self.connection.as_mut() else {
                return Ok(0);
            };
            match &mut self.body {
                Ending::Done => return Ok(0),
                Ending::Length(left) => {
                    let wanted = buffer
                        .len()
                        .min(usize::try_from(*left).unwrap_or(usize::MAX));
                    let count = receive(connection, &mut buffer[..wanted])?;
                    if count == 0 {
                        return Err(self.incomplete());
                    }
                    *left -= count as u64;
                    if *left == 0 {
                        self.body = Ending::Done;
                    }
                    return Ok(count);
                }
                Ending::Close => {
                    let count = receive(connection, buffer)?;
                    if count == 0 {
                        self.body = Ending::Done;
                    }
                    return Ok(count);
                }
                Ending::Chunked(decoder) => {
                    let step = decoder.step(&connection.received).map_err(|reject| {
                        ClientError::Protocol {
                            host: connection.host.clone(),
                            reason: reject.reason.to_owned(),
                        }
                    })?;
                    match step {
                        Step::Done(used) => {
                            connection.received.drain(..used);
                            self.body = Ending::Done;
                            return Ok(0);
                        }
                        Step::Data(left) if !connection.received.is_empty() => {
                            let wanted = buffer
                                .len()
                                .min(usize::try_from(left).unwrap_or(usize::MAX));
                            let count = receive(connection, &mut buffer[..wanted])?;
                            decoder.took(count as u64);
                            return Ok(count);
                        }
                        Step::Framing(used) if used > 0 => {
                            connection.received.drain(..used);
                        }
                        Step::Data(_) | Step::Framing(_) => {
                            let count = connection
                                .fill()
                                .map_err(|error| ClientError::from_io(&connection.host, error))?;
                            if count == 0 {
                                return Err(self.incomplete());
                            }
                        }
                    }
                }
            }
        }
    }

    /// Gives the connection back once nothing of the body is left.
    fn finish_if_done(&mut self) {
        if matches!(self.body, Ending::Done)
            && let Some(connection) = self.connection.take()
            && self.keep_alive
            && connection.received.is_empty()
        {
            self.shared.pool.put(connection);
        }
    }

    fn incomplete(&self) -> ClientError {
        self.malformed("connection closed within the body".to_owned())
    }

    fn malformed(&self, reason: String) -> ClientError {
        ClientError::Protocol {
            host: self.host.clone(),
            reason,
        }
    }
}

impl Read for ClientResponse {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        Ok(self.read_some(buffer)?)
    }
}

impl fmt::Debug for ClientResponse {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ClientResponse")
            .field("status", &self.status)
            .field("headers", &self.headers)
            .finish_non_exhaustive()
    }
}

/// What was received already, else from the connection.
fn receive(connection: &mut Pooled, buffer: &mut [u8]) -> Result<usize, ClientError> {
    if connection.received.is_empty() {
        return connection
            .stream
            .read(buffer)
            .map_err(|error| ClientError::from_io(&connection.host, error));
    }
    let count = connection.received.len().min(buffer.len());
    buffer[..count].copy_from_slice(&connection.received[..count]);
    connection.received.drain(..count);
    Ok(count)
}
