//! Heads, between the fields of HTTP/2 and those of the parser and of answers.
//!
//! A request is written as one of HTTP/1.1 and parsed like any: so the same rules hold for it and the same limits, and
//! handlers find it where they find others.

use std::{cell::RefCell, time::Instant};

use h2::ext::Protocol;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri,
    header::{
        CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, COOKIE, DATE, HOST, TRANSFER_ENCODING, UPGRADE,
    },
    request::Parts,
};
use maniple::time::coarse_now;

use crate::{
    http1::{
        Reject,
        conversation::{Content, Ending},
    },
    response::Response,
};

/// Writes a request's head as one of HTTP/1.1; a request to open a WebSocket (RFC 8441) as the `GET` that it is there.
pub(super) fn write_request(parts: &Parts, out: &mut Vec<u8>) -> Result<(), Reject> {
    let protocol = parts.extensions.get::<Protocol>();
    let authority = authority(&parts.uri, &parts.headers)?;
    match (&parts.method, protocol) {
        (&Method::CONNECT, Some(protocol)) => {
            if protocol.as_str() != "websocket" {
                return Err(Reject::new(
                    StatusCode::NOT_IMPLEMENTED,
                    "only WebSockets are opened by an extended CONNECT",
                ));
            }
            out.extend_from_slice(b"GET ");
            out.extend_from_slice(path(&parts.uri).as_bytes());
        }
        (&Method::CONNECT, None) => {
            out.extend_from_slice(b"CONNECT ");
            out.extend_from_slice(authority);
        }
        (method, _) => {
            out.extend_from_slice(method.as_str().as_bytes());
            out.push(b' ');
            out.extend_from_slice(path(&parts.uri).as_bytes());
        }
    }
    out.extend_from_slice(b" HTTP/1.1\r\n");
    field(out, b"host", authority);
    if protocol.is_some() {
        out.extend_from_slice(b"connection: upgrade\r\nupgrade: websocket\r\n");
        // A key proves that an HTTP/1.1 request was understood. Any will do.
        out.extend_from_slice(b"sec-websocket-key: AAAAAAAAAAAAAAAAAAAAAA==\r\n");
    }
    let mut cookies = parts.headers.get_all(COOKIE).iter();
    if let Some(first) = cookies.next() {
        // Parted for compression's sake (RFC 9113, 8.2.3).
        out.extend_from_slice(b"cookie: ");
        out.extend_from_slice(first.as_bytes());
        for cookie in cookies {
            out.extend_from_slice(b"; ");
            out.extend_from_slice(cookie.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
    }
    for (name, value) in &parts.headers {
        let is_written = name == HOST || name == COOKIE;
        if !is_written && (protocol.is_none() || name != "sec-websocket-key") {
            field(out, name.as_str().as_bytes(), value.as_bytes());
        }
    }
    out.extend_from_slice(b"\r\n");
    Ok(())
}

/// The fields as a map, of a head that is [written](write_request) with these alone.
pub(super) fn map_of(parts: Parts) -> Option<HeaderMap> {
    let is_websocket = parts.extensions.get::<Protocol>().is_some();
    (!is_websocket).then_some(parts.headers)
}

fn path(uri: &Uri) -> &str {
    uri.path_and_query().map_or("/", |target| target.as_str())
}

fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Who is asked. Two who say it must say the same (RFC 9113, 8.3.1).
fn authority<'p>(uri: &'p Uri, headers: &'p HeaderMap) -> Result<&'p [u8], Reject> {
    let mut hosts = headers.get_all(HOST).iter().map(HeaderValue::as_bytes);
    let host = hosts.next();
    let authority = uri
        .authority()
        .map(|authority| authority.as_str().as_bytes());
    match (authority, host) {
        _ if hosts.next().is_some() => Err(Reject::bad("several Host fields")),
        (Some(authority), Some(host)) if !authority.eq_ignore_ascii_case(host) => {
            Err(Reject::bad("Host differs from :authority"))
        }
        (Some(authority), _) => Ok(authority),
        (None, Some(host)) => Ok(host),
        (None, None) => Err(Reject::bad("neither :authority nor Host")),
    }
}

/// The head of an answer, and how its body ends; whether that is sent.
pub(super) fn of_response(
    response: &mut Response,
    length: Option<u64>,
    of_head: bool,
) -> (http::Response<()>, Ending, bool) {
    let content = Content {
        status: response.status,
        headers: response.map(),
        length,
        of_head,
        http_11: true,
    };
    let (ending, has_body) = content.ending();
    let mut head = http::Response::new(());
    *head.status_mut() = response.status;
    let headers = head.headers_mut();
    if response.map().is_some() {
        *headers = std::mem::take(response.headers_mut());
        without_hops(headers);
        headers.remove(CONTENT_LENGTH);
    }
    if let Some(content_type) = response.content_type {
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(content_type.value));
    }
    if let Ending::Length(length) = ending {
        headers.insert(CONTENT_LENGTH, HeaderValue::from(length));
    }
    headers.insert(DATE, date());
    (head, ending, has_body)
}

/// The head of an answer before the final one.
pub(super) fn of_interim(status: StatusCode, headers: &HeaderMap) -> http::Response<()> {
    let mut head = http::Response::new(());
    *head.status_mut() = status;
    *head.headers_mut() = headers.clone();
    without_hops(head.headers_mut());
    head
}

/// What is said of one connection of HTTP/1.1 has no place here (RFC 9113, 8.2.2).
fn without_hops(headers: &mut HeaderMap) {
    for name in [CONNECTION, TRANSFER_ENCODING, UPGRADE, KEEP_ALIVE, PROXY] {
        headers.remove(name);
    }
}

const KEEP_ALIVE: HeaderName = HeaderName::from_static("keep-alive");
const PROXY: HeaderName = HeaderName::from_static("proxy-connection");

thread_local! {
    static TODAY: RefCell<Option<(Instant, HeaderValue)>> = const { RefCell::new(None) };
}

/// The time, made once a second on each worker.
fn date() -> HeaderValue {
    TODAY.with_borrow_mut(|today| {
        let now = coarse_now();
        match today {
            Some((until, date)) if now < *until => date.clone(),
            _ => {
                let text = httpdate::fmt_http_date(maniple::time::system_now());
                let date = HeaderValue::from_str(&text).expect("a date is text");
                *today = Some((now + SECOND, date.clone()));
                date
            }
        }
    })
}

const SECOND: std::time::Duration = std::time::Duration::from_millis(500);
