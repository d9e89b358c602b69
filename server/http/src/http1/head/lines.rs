//! The lines of a head: its first, around the target, and the value of a field.

use http::{Method, StatusCode};

use crate::http1::{
    Reject,
    scan::{token_end, value_end},
    target,
};

/// Why reading went no further.
pub(super) enum Stop {
    /// The bytes end here, and what there is of a head is good.
    Short,
    Wrong(Reject),
}

impl From<Reject> for Stop {
    fn from(reject: Reject) -> Self {
        Stop::Wrong(reject)
    }
}

/// What is wrong if the byte at `at` is not what must be there.
#[cold]
pub(super) fn unexpected(bytes: &[u8], at: usize, reason: &'static str) -> Stop {
    match bytes.get(at) {
        None => Stop::Short,
        Some(b'\n') => Stop::Wrong(Reject::bad("line ends in LF without CR")),
        Some(_) => Stop::Wrong(Reject::bad(reason)),
    }
}

pub(super) const HTTP_11: &[u8; 11] = b" HTTP/1.1\r\n";

/// The method, where the target begins and whether in origin form, behind empty lines that may come first
/// (RFC 9112, 2.2).
pub(super) fn read_method(bytes: &[u8]) -> Result<(Method, usize, bool), Stop> {
    let mut start = 0;
    loop {
        match &bytes[start..] {
            [b'\r', b'\n', ..] => start += 2,
            [b'\r'] => return Err(Stop::Short),
            _ => break,
        }
    }
    let end = token_end(bytes, start);
    if end == start || bytes.get(end) != Some(&b' ') {
        return Err(unexpected(bytes, end, "invalid method"));
    }
    let method =
        Method::from_bytes(&bytes[start..end]).map_err(|_| Reject::bad("invalid method"))?;
    let is_origin_form = bytes.get(end + 1) == Some(&b'/') && method != Method::CONNECT;
    Ok((method, end + 1, is_origin_form))
}

/// Whether the version is 1.1, and where the fields begin, given where the target ends.
///
/// A later version of the same kind is understood as the one that we know (RFC 9110, 2.5).
#[cold]
pub(super) fn read_version(bytes: &[u8], target_end: usize) -> Result<(bool, usize), Stop> {
    let rest = &bytes[target_end..];
    match rest {
        [b' ', ..] => {}
        _ if target::may_go_on(rest) => return Err(Stop::Short),
        _ => return Err(target::INVALID.into()),
    }
    for ((at, byte), shape) in rest.iter().enumerate().zip(b" HTTP/1.0\r\n") {
        let fits = match (shape, byte) {
            (b'1', b'0' | b'2'..=b'9') => {
                return Err(Stop::Wrong(Reject::new(
                    StatusCode::HTTP_VERSION_NOT_SUPPORTED,
                    "only HTTP/1 is spoken here",
                )));
            }
            (b'0', digit) => digit.is_ascii_digit(),
            (shape, byte) => byte == shape,
        };
        if !fits {
            return Err(unexpected(bytes, target_end + at, "invalid HTTP version"));
        }
    }
    match rest.get(..HTTP_11.len()) {
        Some([.., minor, b'\r', b'\n']) => Ok((*minor != b'0', target_end + HTTP_11.len())),
        _ => Err(Stop::Short),
    }
}

/// Where a field's value is, and where its line ends.
pub(super) struct Value {
    pub(super) start: usize,
    pub(super) end: usize,
    pub(super) line_end: usize,
}

/// Reads a field's value, from behind the colon on.
#[inline]
pub(super) fn read_value(bytes: &[u8], mut start: usize) -> Result<Value, Stop> {
    let is_space = |at: usize| matches!(bytes.get(at), Some(b' ' | b'\t'));
    while is_space(start) {
        start += 1;
    }
    let stop = value_end(bytes, start);
    match bytes.get(stop..stop + 2) {
        Some(b"\r\n") => {}
        _ if bytes[stop..] == *b"\r" => return Err(Stop::Short),
        _ => return Err(unexpected(bytes, stop, "invalid header value")),
    }
    let mut end = stop;
    while end > start && is_space(end - 1) {
        end -= 1;
    }
    Ok(Value {
        start,
        end,
        line_end: stop + 2,
    })
}
