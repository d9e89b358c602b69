//! A request, and its head as it goes over the wire.

use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{
    HeaderMap, Method,
    header::{CONTENT_LENGTH, EXPECT, HOST, PROXY_AUTHORIZATION, TRANSFER_ENCODING},
};
use maniple::time::{now, remaining};

use super::{manner::Manner, url::Url};
use crate::trace_context::{TRACEPARENT, TRACESTATE, trace_context};

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
    /// The request's own deadline.
    pub(crate) until: Option<Instant>,
    /// Which server of several it is for.
    pub(crate) key: Option<&'a [u8]>,
}

pub(super) fn write_head(out: &mut Vec<u8>, request: &Outgoing<'_>, manner: &Manner) {
    let Outgoing {
        method,
        url,
        headers,
        body,
        streamed,
        expect,
        until,
        key: _,
    } = request;
    out.extend_from_slice(method.as_str().as_bytes());
    out.push(b' ');
    if manner.forwards {
        out.extend_from_slice(b"http://");
        out.extend_from_slice(url.authority.as_bytes());
    }
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
    if let Some(credentials) = &manner.credentials
        && !headers.contains_key(PROXY_AUTHORIZATION)
    {
        field(out, b"proxy-authorization: ", credentials.as_bytes());
    }
    if let Some(name) = &manner.deadline
        && !headers.contains_key(name)
        && let Some(left) = time_left(*until)
    {
        out.extend_from_slice(name.as_str().as_bytes());
        let mut digits = itoa::Buffer::new();
        field(out, b": ", digits.format(left).as_bytes());
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
    let length = match streamed {
        Some(length) => *length,
        None if !body.is_empty() || expects_body(method) => Some(body.len() as u64),
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

/// Whether a request with that method says how long its body is even if it has none (RFC 9110, 8.6).
pub(super) fn expects_body(method: &Method) -> bool {
    [Method::POST, Method::PUT, Method::PATCH].contains(method)
}

/// Milliseconds until the sooner of the scope's deadline and the request's own; at least one, since zero often means none.
pub(super) fn time_left(until: Option<Instant>) -> Option<u64> {
    let own = until.map(|until| until.saturating_duration_since(now()));
    let left = [own, remaining()].into_iter().flatten().min()?;
    let millis = u64::try_from(left.as_millis()).unwrap_or(u64::MAX);
    Some(millis.max(1))
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
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
            until: None,
            key: None,
        };
        write_head(&mut out, &request, &Manner::default());
        assert_eq!(
            String::from_utf8(out).unwrap(),
            "POST /?q HTTP/1.1\r\nhost: h:80\r\nx-a: b\r\ncontent-length: 0\r\n\r\n"
        );
    }
}
