//! The target of a request and the authorities that it and `Host` name (RFC 9112, 3.2; RFC 3986).
//!
//! What is let through is a URI to all who look at it: [`http::Uri`] must find the same path and query, or
//! a check of the one could be passed by the other.

use std::{net::Ipv6Addr, ops::Range};

use http::{Method, Uri};

use super::{
    Reject,
    scan::{leading_digits, run_end},
};

/// Where the path ends and where the target does, in origin form: at the first byte that cannot be in it.
#[inline]
pub(super) fn origin_form_ends(bytes: &[u8], start: usize) -> (usize, usize) {
    let path_end = path_end(bytes, start);
    match bytes.get(path_end) {
        Some(b'?') => (path_end, run_end(bytes, path_end + 1, &IN_QUERY)),
        _ => (path_end, path_end),
    }
}

/// Where the target ends, whatever its form; no path is looked for. An error if there is none.
#[cold]
pub(super) fn any_form_ends(bytes: &[u8], start: usize) -> Result<(usize, usize), Reject> {
    let length = bytes[start..]
        .iter()
        .position(|byte| !byte.is_ascii_graphic());
    match length {
        Some(0) => Err(INVALID),
        Some(length) => Ok((start, start + length)),
        None => Ok((start, bytes.len())),
    }
}

/// Whether a target that ends where these bytes begin may only not have come whole.
pub(super) fn may_go_on(bytes: &[u8]) -> bool {
    match bytes {
        [] | [b'%'] => true,
        [b'%', digit] => digit.is_ascii_hexdigit(),
        _ => false,
    }
}

pub(super) const INVALID: Reject = Reject::bad("invalid request target");

/// Path and query of a target that may be in any form.
#[cold]
pub(super) fn split(
    bytes: &[u8],
    at: Range<usize>,
    method: &Method,
    host: Option<&[u8]>,
) -> Result<(Range<usize>, Option<Range<usize>>), Reject> {
    let target = &bytes[at.clone()];
    let path_start = match target {
        _ if *method == Method::CONNECT => return tunnel(target).map(|()| (at, None)),
        b"*" if *method == Method::OPTIONS => return Ok((at, None)),
        b"*" => return Err(Reject::bad("request target * is for OPTIONS")),
        _ => authority_end(target, host)?,
    };
    let (path_end, end) = origin_form_ends(target, path_start);
    if end != target.len() {
        return Err(INVALID);
    }
    let query = path_end + 1..end;
    let moved = |part: Range<usize>| at.start + part.start..at.start + part.end;
    Ok((
        moved(path_start..path_end),
        (path_end < end).then(|| moved(query)),
    ))
}

#[inline(always)]
fn path_end(bytes: &[u8], mut at: usize) -> usize {
    loop {
        at = run_end(bytes, at, &IN_PATH);
        match bytes[at..] {
            [b'%', high, low, ..] if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
            _ => return at,
        }
    }
}

/// Bytes that may be in a path, without `%` and two digits, and in a query: by RFC 3986, 3.3 and 3.4, and what
/// browsers do not encode there though that asks for it (the percent-encode sets of the URL Standard). That
/// goes for a lone `%` in a query too. A fragment is not sent (RFC 9110, 7.1).
static IN_PATH: [bool; 256] = graphic_without(b"\"#<>%?\\^`{}");
static IN_QUERY: [bool; 256] = graphic_without(b"\"#<>");

const fn graphic_without(others: &[u8]) -> [bool; 256] {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = true;
        byte += 1;
    }
    let mut at = 0;
    while at < others.len() {
        table[others[at] as usize] = false;
        at += 1;
    }
    table
}

/// A tunnel is asked for by host and port alone (RFC 9112, 3.2.3).
#[cold]
fn tunnel(target: &[u8]) -> Result<(), Reject> {
    let port = target.iter().rposition(|&byte| byte == b':');
    let names_port = port.is_some_and(|colon| colon > 0 && colon + 1 < target.len());
    let is_right = names_port && is_host(target);
    match Uri::try_from(target) {
        Ok(uri) if is_right && uri.port_u16().is_some() => Ok(()),
        _ => Err(Reject::bad("invalid request target for CONNECT")),
    }
}

/// Where the path begins in an absolute-form target, whose authority must be the `Host`'s.
#[cold]
fn authority_end(target: &[u8], host_field: Option<&[u8]>) -> Result<usize, Reject> {
    let (scheme_end, default_port) = [("http://", b"80".as_slice()), ("https://", b"443")]
        .iter()
        .find(|(scheme, _)| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        })
        .map(|(scheme, port)| (scheme.len(), *port))
        .ok_or(INVALID)?;
    let rest = &target[scheme_end..];
    let ends = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let authority = &rest[..ends.unwrap_or(rest.len())];
    let (host, port) = split_port(authority);
    // A host cannot be empty here (RFC 9110, 4.2.1), nor encoded: it would have two spellings.
    if host.is_empty() || host.contains(&b'%') || !is_host(authority) {
        return Err(Reject::bad("invalid authority in request target"));
    }
    // A client that has no authority to name says so by an empty one (RFC 9112, 3.2).
    if let Some(named) = host_field.filter(|named| !named.is_empty()) {
        let (named_host, named_port) = split_port(named);
        let number = |port| significant(port).unwrap_or(default_port);
        if !host.eq_ignore_ascii_case(named_host) || number(port) != number(named_port) {
            return Err(Reject::bad("Host differs from the request target"));
        }
    }
    Ok(scheme_end + authority.len())
}

/// The host, and the digits of the port; none if it is left out.
fn split_port(authority: &[u8]) -> (&[u8], &[u8]) {
    match authority.iter().rposition(|&byte| byte == b':') {
        Some(colon) if !authority[colon..].contains(&b']') => {
            (&authority[..colon], &authority[colon + 1..])
        }
        _ => (authority, b""),
    }
}

/// A port's digits without leading zeros, if it has any: an empty one is the default (RFC 3986, 6.2.3).
fn significant(port: &[u8]) -> Option<&[u8]> {
    let zeros = port.iter().take_while(|&&digit| digit == b'0').count();
    (!port.is_empty()).then(|| &port[zeros..])
}

/// The length of a `Host` line at the start of `bytes`, its end included, as most clients write it: a name or
/// IPv4 address, maybe a port, no more space than one. Any other is to be looked at as fields are.
#[inline]
pub(super) fn usual_host_line(bytes: &[u8]) -> Option<usize> {
    let value = bytes.strip_prefix(b"Host: ")?;
    let mut end = run_end(value, 0, &IN_NAME);
    if let Some(b':') = value.get(end) {
        end += 1 + leading_digits(&value[end + 1..]).min(5);
    }
    let is_usual = end > 0 && value[end..].starts_with(b"\r\n");
    is_usual.then_some(b"Host: ".len() + end + 2)
}

/// `uri-host [ ":" port ]` (RFC 9110, 7.2), without the user information that some take for a host.
pub(crate) fn is_host(host: &[u8]) -> bool {
    let port = if let Some(rest) = host.strip_prefix(b"[") {
        let Some(end) = memchr::memchr(b']', rest) else {
            return false;
        };
        let literal = &rest[..end];
        // Addresses of a later version (RFC 3986, 3.2.2) do not exist yet.
        let address = std::str::from_utf8(literal).map(str::parse::<Ipv6Addr>);
        if !matches!(address, Ok(Ok(_))) {
            return false;
        }
        &rest[end + 1..]
    } else {
        &host[run_end(host, 0, &IN_NAME)..]
    };
    port.is_empty()
        || (port[0] == b':' && port.len() <= 6 && port[1..].iter().all(u8::is_ascii_digit))
}

/// The bytes of a registered name (RFC 3986, 3.2.2).
static IN_NAME: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = 0_u8;
    while byte < 128 {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"-._~%!$&'()*+;=";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};
