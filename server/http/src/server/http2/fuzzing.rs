//! What must hold for any frames and any heads of a client of HTTP/2.

use std::time::Instant;

use http::{HeaderName, HeaderValue, Request, Uri};

use super::{head::write_request, watch::Watch};
use crate::{
    http1::head::{self, Field, Head, Limits},
    http2::frames::{Frame, PREFACE, Scanner},
};

/// Reads `bytes` as what follows the preface, whole and in pieces, and then as the fields of a request's head, a line each.
///
/// # Panics
/// If what is found depends on the pieces, or differs from what a reader finds that has all of it; or if a head says something else
/// behind its way through HTTP/1.1, which is how one request is made to look like two.
pub fn http2(bytes: &[u8], piece: usize) {
    let whole = scan(bytes, bytes.len().max(1));
    assert_eq!(whole, scan(bytes, piece), "in pieces of {piece}");
    assert_eq!(whole, plainly(bytes));
    let (whole, pieces) = (watch(bytes, bytes.len().max(1)), watch(bytes, piece));
    assert_eq!(whole, pieces, "in pieces of {piece}");
    carry(bytes);
}

fn scan(bytes: &[u8], piece: usize) -> Vec<Frame> {
    let (mut scanner, mut frames) = (Scanner::behind(0), Vec::new());
    for part in bytes.chunks(piece) {
        scanner.scan(part, |frame| frames.push(frame));
    }
    frames
}

fn plainly(mut bytes: &[u8]) -> Vec<Frame> {
    let mut frames = Vec::new();
    while let [a, b, c, kind, flags, s, t, u, v, rest @ ..] = bytes {
        let length = u32::from_be_bytes([0, *a, *b, *c]);
        frames.push(Frame {
            kind: *kind,
            flags: *flags,
            stream: u32::from_be_bytes([*s, *t, *u, *v]) & (u32::MAX >> 1),
            length,
        });
        bytes = rest.get(length as usize..).unwrap_or_default();
    }
    frames
}

/// What it comes to: what was done too often, what was reset, whether something has begun.
fn watch(bytes: &[u8], piece: usize) -> (Option<&'static str>, Vec<u32>, bool) {
    let now = Instant::now();
    let mut watch = Watch::new(20, 10, now);
    watch.came(PREFACE, now);
    for part in bytes.chunks(piece) {
        watch.came(part, now);
        // What goes the other way is of no account to that.
        let _ = watch.is_between_frames();
    }
    let is_unfinished = watch.unfinished_until(std::time::Duration::ZERO).is_some();
    (watch.excess(), watch.take_reset(), is_unfinished)
}

const LIMITS: Limits = Limits {
    head_bytes: 64 * 1024,
    line_bytes: 8 * 1024,
    fields: 100,
    values: 10_000,
};

fn carry(bytes: &[u8]) {
    let mut lines = bytes.split(|&byte| byte == b'\n');
    let path = lines.next().unwrap_or_default();
    let uri = Uri::builder().scheme("http").authority("test");
    let Ok(uri) = uri.path_and_query(path).build() else {
        return;
    };
    let mut request = Request::post(uri).body(()).expect("its parts are whole");
    let mut given = Vec::new();
    for line in lines.take(20) {
        let at = line.iter().position(|&byte| byte == b'=');
        let (name, value) = line.split_at(at.unwrap_or(line.len()));
        let value = value.get(1..).unwrap_or_default();
        let name = HeaderName::from_lowercase(name);
        let (Ok(name), Ok(value)) = (name, HeaderValue::from_bytes(value)) else {
            continue;
        };
        // These are put together with others.
        if !["host", "cookie"].contains(&name.as_str()) {
            request.headers_mut().append(name, value);
        }
    }
    for (name, value) in request.headers() {
        given.push((
            name.as_str().to_owned(),
            value.as_bytes().trim_ascii().to_vec(),
        ));
    }
    let (parts, ()) = request.into_parts();
    let mut written = Vec::new();
    if write_request(&parts, &mut written).is_err() {
        return;
    }
    let (mut head, mut fields) = (Head::default(), Vec::<Field>::new());
    let parsed = head::parse(&written, &LIMITS, &mut fields, &mut head);
    let Ok(is_whole) = parsed else {
        return;
    };
    assert!(is_whole, "a head that is written has an end");
    assert_eq!(head.length, written.len(), "and no more behind it");
    let target = &written[head.target.clone()];
    assert_eq!(
        target,
        parts
            .uri
            .path_and_query()
            .map_or("/", |it| it.as_str())
            .as_bytes()
    );
    let mut read: Vec<_> = fields
        .iter()
        .map(|field| {
            let name = String::from_utf8_lossy(&written[field.name.clone()]).into_owned();
            (name, written[field.value.clone()].to_vec())
        })
        .collect();
    read.retain(|(name, _)| name != "host");
    read.sort();
    given.sort();
    assert_eq!(read, given);
}
