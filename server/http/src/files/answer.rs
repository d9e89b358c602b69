//! What is answered of a version: all of it, parts of it, or that the client has it.

use std::{
    hash::{BuildHasher, Hasher, RandomState},
    ops::Range,
    sync::{
        LazyLock,
        atomic::{AtomicU64, Ordering},
    },
};

use bytes::Bytes;
use http::{
    HeaderName, HeaderValue, Method, StatusCode,
    header::{ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_RANGE, CONTENT_TYPE},
};

use super::{content::Piece, version::Version};
use crate::{
    http1::{
        condition::{Verdict, is_this},
        range::{Wanted, wanted},
    },
    problem::Problem,
    request::Request,
    response::{Body, IntoResponse, Response},
    validators::failed,
};

/// Answers a `GET` or `HEAD`.
pub(super) fn answer(request: &Request, version: &Version) -> Response {
    match version.validators.judge(request) {
        Verdict::Failed => return failed(),
        Verdict::NotModified => return not_modified(version),
        Verdict::Proceed => {}
    }
    let all = 0..version.length;
    match wanted_of(request, version) {
        Wanted::Whole => with_body(version, StatusCode::OK, version.content.body(all)),
        Wanted::Unsatisfiable => unsatisfiable(version.length),
        Wanted::Parts(parts) => match &*parts {
            [part] => one_part(version, part.clone()),
            parts => several_parts(version, parts),
        },
    }
}

fn wanted_of(request: &Request, version: &Version) -> Wanted {
    // Ranges are for `GET` alone (RFC 9110, 14.2).
    let mut ranges = request.header_values("range");
    let (Some(range), None, &Method::GET) = (ranges.next(), ranges.next(), request.method()) else {
        return Wanted::Whole;
    };
    if let Some(if_range) = request.header("if-range")
        && !is_this(if_range, version.validators.version(), version.date_is_sure)
    {
        return Wanted::Whole;
    }
    wanted(range, version.length)
}

fn with_body(version: &Version, status: StatusCode, body: Body) -> Response {
    let mut response = Response::new(status).with_body(body);
    *response.headers_mut() = version.fields.clone();
    response
}

fn not_modified(version: &Version) -> Response {
    let mut response = with_body(version, StatusCode::NOT_MODIFIED, Body::empty());
    const OF_THE_BODY: [HeaderName; 3] = [ACCEPT_RANGES, CONTENT_ENCODING, CONTENT_TYPE];
    for name in OF_THE_BODY {
        response.headers_mut().remove(name);
    }
    response
}

fn unsatisfiable(length: u64) -> Response {
    let reason = "nothing of that range is there";
    let mut response = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, reason).into_response();
    let there = value(format!("bytes */{length}"));
    response.headers_mut().insert(CONTENT_RANGE, there);
    response
}

fn one_part(version: &Version, part: Range<u64>) -> Response {
    let body = version.content.body(part.clone());
    let mut response = with_body(version, StatusCode::PARTIAL_CONTENT, body);
    let there = value(content_range(&part, version.length));
    response.headers_mut().insert(CONTENT_RANGE, there);
    response
}

/// `multipart/byteranges` (RFC 9110, 14.6).
fn several_parts(version: &Version, parts: &[Range<u64>]) -> Response {
    let boundary = boundary();
    let media = version.fields.get(CONTENT_TYPE);
    let mut pieces = Vec::with_capacity(2 * parts.len() + 1);
    let mut length = 0;
    for (index, part) in parts.iter().enumerate() {
        let mut head = Vec::with_capacity(160);
        if index > 0 {
            head.extend_from_slice(b"\r\n");
        }
        head.extend_from_slice(format!("--{boundary}\r\n").as_bytes());
        if let Some(media) = media {
            head.extend_from_slice(b"content-type: ");
            head.extend_from_slice(media.as_bytes());
            head.extend_from_slice(b"\r\n");
        }
        let range = content_range(part, version.length);
        head.extend_from_slice(format!("content-range: {range}\r\n\r\n").as_bytes());
        length += head.len() as u64 + (part.end - part.start);
        pieces.push(Piece::Text(head.into()));
        pieces.push(Piece::Of(part.clone()));
    }
    let end = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    length += end.len() as u64;
    pieces.push(Piece::Text(end));
    let body = version.content.pieces(pieces, length);
    let mut response = with_body(version, StatusCode::PARTIAL_CONTENT, body);
    let media = value(format!("multipart/byteranges; boundary={boundary}"));
    response.headers_mut().insert(CONTENT_TYPE, media);
    response
}

fn content_range(part: &Range<u64>, length: u64) -> String {
    format!("bytes {}-{}/{length}", part.start, part.end - 1)
}

/// What no file can have in it by intent: its maker cannot know it.
fn boundary() -> String {
    static KEYS: LazyLock<(RandomState, RandomState)> = LazyLock::new(Default::default);
    static NEXT: AtomicU64 = AtomicU64::new(0);
    if let (Some(first), Some(second)) = (maniple::sim::random(), maniple::sim::random()) {
        return format!("{first:016x}{second:016x}");
    }
    // A number of its own for each, in no order with anything.
    let number = NEXT.fetch_add(1, Ordering::Relaxed);
    let part = |key: &RandomState| {
        let mut hasher = key.build_hasher();
        hasher.write_u64(number);
        hasher.finish()
    };
    format!("{:016x}{:016x}", part(&KEYS.0), part(&KEYS.1))
}

fn value(text: String) -> HeaderValue {
    HeaderValue::try_from(text).expect("it is of printable characters")
}
