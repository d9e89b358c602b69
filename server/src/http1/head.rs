//! The head of a request: where its parts are, and how its body is framed.
//!
//! `httparse` finds the parts; the rules about framing, which it leaves to its caller, are here. They
//! are strict where two readings of a message could differ, because a proxy in front may have chosen
//! the other one (request smuggling): one `Content-Length` of digits only, never together with
//! `Transfer-Encoding`, line ends of CR LF only, one valid `Host`.

use std::{mem::MaybeUninit, net::Ipv6Addr, ops::Range};

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::Reject;

/// Where the parts of a request's head are in the buffer it was parsed from.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// The request target as it was sent.
    pub(crate) target: Range<usize>,
    /// The path within the target.
    pub(crate) path: Range<usize>,
    /// What follows the `?`, if there is one.
    pub(crate) query: Option<Range<usize>>,
    pub(crate) http_11: bool,
    pub(crate) framing: Framing,
    pub(crate) keep_alive: bool,
    pub(crate) expects_continue: bool,
    /// Length in bytes, the empty line included.
    pub(crate) length: usize,
}

impl Head {
    /// The path, given the bytes that the head was parsed from.
    #[inline]
    pub(crate) fn path_in<'b>(&self, bytes: &'b [u8]) -> &'b str {
        match ascii(&bytes[self.path.clone()]) {
            // An absolute URI may have none (RFC 9110, 4.2.3).
            "" => "/",
            path => path,
        }
    }

    /// The target as a [`Uri`], which finds the same path and query.
    pub(crate) fn uri_in(&self, bytes: &[u8]) -> Uri {
        let target = Uri::try_from(&bytes[self.target.clone()]);
        target.expect("the parser lets only URIs through")
    }
}

/// All fields, given the bytes that they were found in.
pub(crate) fn header_map(bytes: &[u8], fields: &[Field]) -> HeaderMap {
    let mut headers = HeaderMap::with_capacity(fields.len());
    for field in fields {
        let name = HeaderName::from_bytes(&bytes[field.name.clone()]);
        let value = HeaderValue::from_bytes(&bytes[field.value.clone()]);
        headers.append(
            name.expect("the parser lets only names through"),
            value.expect("the parser lets only values through"),
        );
    }
    headers
}

/// A part of a target, all of which is ASCII.
#[inline]
pub(crate) fn ascii(part: &[u8]) -> &str {
    std::str::from_utf8(part).expect("the parser lets only ASCII into targets")
}

/// How the end of a body is found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Framing {
    #[default]
    None,
    Length(u64),
    Chunked,
}

/// One field line.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Field {
    pub(crate) name: Range<usize>,
    pub(crate) value: Range<usize>,
}

/// What a head may use.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Limits {
    pub(crate) head_bytes: usize,
    pub(crate) line_bytes: usize,
    pub(crate) fields: usize,
}

/// Heads with no more fields than this need little stack.
const FEW: usize = 24;

/// The most fields that a limit can allow.
pub(crate) const MOST_FIELDS: usize = 256;

/// The most bytes of a field's name, whatever the limit of the head is: a [`HeaderName`] holds no more.
const MOST_NAME_BYTES: usize = u16::MAX as usize;

/// The most bytes of a target that a limit can allow: a [`http::Uri`] holds no more.
pub(crate) const MOST_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// Parses the head at the start of `bytes` into `head`; false if its end has not come yet.
#[inline]
pub(crate) fn parse(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<bool, Reject> {
    let mut slots = [const { MaybeUninit::uninit() }; FEW];
    match parse_into(bytes, limits, fields, head, &mut slots) {
        Err(Outcome::TooManyFields) if limits.fields > FEW => {
            parse_many(bytes, limits, fields, head)
        }
        Err(Outcome::TooManyFields) => Err(TOO_MANY_FIELDS),
        Err(Outcome::Reject(reject)) => Err(reject),
        Ok(complete) => Ok(complete),
    }
}

#[cold]
#[inline(never)]
fn parse_many(
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<bool, Reject> {
    let mut slots = vec![MaybeUninit::uninit(); limits.fields.min(MOST_FIELDS)];
    parse_into(bytes, limits, fields, head, &mut slots).map_err(|outcome| match outcome {
        Outcome::TooManyFields => TOO_MANY_FIELDS,
        Outcome::Reject(reject) => reject,
    })
}

const TOO_MANY_FIELDS: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header fields",
);

enum Outcome {
    TooManyFields,
    Reject(Reject),
}

impl From<Reject> for Outcome {
    fn from(reject: Reject) -> Self {
        Outcome::Reject(reject)
    }
}

fn parse_into<'b>(
    bytes: &'b [u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
    slots: &mut [MaybeUninit<httparse::Header<'b>>],
) -> Result<bool, Outcome> {
    fields.clear();
    let mut parsed = httparse::Request::new(&mut []);
    let length = match parsed.parse_with_uninit_headers(bytes, slots) {
        Ok(httparse::Status::Complete(length)) if length <= limits.head_bytes => length,
        Ok(httparse::Status::Complete(_)) => return Err(HEAD_TOO_LARGE.into()),
        Ok(httparse::Status::Partial) => {
            check_partial(bytes, limits)?;
            return Ok(false);
        }
        Err(httparse::Error::TooManyHeaders) => return Err(Outcome::TooManyFields),
        Err(error) => return Err(explain(bytes, error).into()),
    };
    let (Some(method), Some(target), Some(version)) = (parsed.method, parsed.path, parsed.version)
    else {
        return Err(Reject::bad("incomplete request line").into());
    };
    if parsed.headers.len() > limits.fields {
        return Err(TOO_MANY_FIELDS.into());
    }
    let method_name = method;
    let method =
        Method::from_bytes(method.as_bytes()).map_err(|_| Reject::bad("invalid method"))?;
    let http_11 = version == 1;
    let mut meaning = Meaning::default();
    let start = bytes.as_ptr().addr();
    let place = |part: &[u8]| {
        let from = part.as_ptr().addr() - start;
        from..from + part.len()
    };
    let target_at = place(target.as_bytes());
    // The target is followed by a space and the version.
    let mut lines_end_well = line_ends(bytes, target_at.end + 1 + VERSION_BYTES);
    for header in parsed.headers.iter() {
        meaning.take_in(header.name, header.value)?;
        let value = place(header.value);
        lines_end_well &= line_ends(bytes, value.end);
        fields.push(Field {
            name: place(header.name.as_bytes()),
            value,
        });
    }
    if length > MOST_NAME_BYTES
        && fields
            .iter()
            .any(|field| field.name.len() > MOST_NAME_BYTES)
    {
        return Err(HEAD_TOO_LARGE.into());
    }
    lines_end_well = lines_end_well
        && bytes[..length].ends_with(b"\r\n\r\n")
        && is_blank_lines(&bytes[..place(method_name.as_bytes()).start]);
    if !lines_end_well {
        return Err(Reject::bad("line ends in LF without CR").into());
    }
    if target.len() > limits.line_bytes {
        return Err(LINE_TOO_LONG.into());
    }
    let (path, query) = split_target(target.as_bytes(), &method, &meaning)?;
    let at = target_at.start;
    let (framing, keep_alive) = meaning.conclude(http_11)?;
    head.method = method;
    head.path = at + path.start..at + path.end;
    head.query = query.map(|query| at + query.start..at + query.end);
    head.target = target_at;
    head.http_11 = http_11;
    head.framing = framing;
    head.keep_alive = keep_alive;
    head.expects_continue = meaning.expects_continue && http_11;
    head.length = length;
    Ok(true)
}

const HEAD_TOO_LARGE: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "header fields too large",
);

const LINE_TOO_LONG: Reject = Reject::new(StatusCode::URI_TOO_LONG, "request line too long");

/// Whether a head that need not be well-formed is that of a `HEAD` request, whose answer has no body.
#[cold]
pub(crate) fn is_of_head(bytes: &[u8]) -> bool {
    bytes.trim_ascii_start().starts_with(b"HEAD ")
}

/// Whether more bytes make it worth parsing a head again, of which the first `searched` bytes were not
/// enough: its end may have come, or it is beyond a limit.
pub(crate) fn may_be_complete(bytes: &[u8], searched: usize, limits: &Limits) -> bool {
    let from = searched.saturating_sub(3);
    let ends = |end: &[u8]| memchr::memmem::find(&bytes[from..], end).is_some();
    ends(b"\n\r\n") || ends(b"\n\n") || check_partial(bytes, limits).is_err()
}

/// Whether an unfinished head may still become acceptable.
fn check_partial(bytes: &[u8], limits: &Limits) -> Result<(), Reject> {
    let line = memchr::memchr(b'\n', bytes).unwrap_or(bytes.len());
    // The method and the version take a few bytes beyond the target.
    if line > limits.line_bytes.saturating_add(64) {
        return Err(LINE_TOO_LONG);
    }
    if bytes.len() >= limits.head_bytes {
        return Err(HEAD_TOO_LARGE);
    }
    Ok(())
}

/// What httparse found wrong, as a status.
#[cold]
fn explain(bytes: &[u8], error: httparse::Error) -> Reject {
    match error {
        httparse::Error::Version if names_another_version(bytes) => Reject::new(
            StatusCode::HTTP_VERSION_NOT_SUPPORTED,
            "only HTTP/1.0 and HTTP/1.1 are spoken here",
        ),
        httparse::Error::Version => Reject::bad("invalid HTTP version"),
        httparse::Error::HeaderName => Reject::bad("invalid header name"),
        httparse::Error::HeaderValue => Reject::bad("invalid header value"),
        httparse::Error::NewLine => Reject::bad("invalid line end"),
        httparse::Error::Token => Reject::bad("invalid request line"),
        _ => Reject::bad("invalid request"),
    }
}

/// Whether the request line ends in a well-formed `HTTP/x.y` that is not one of ours.
fn names_another_version(bytes: &[u8]) -> bool {
    let bytes = bytes.trim_ascii_start();
    let line = &bytes[..memchr::memchr(b'\r', bytes).unwrap_or(bytes.len())];
    let version = line.rsplit(|&byte| byte == b' ').next().unwrap_or(line);
    matches!(version, [b'H', b'T', b'T', b'P', b'/', major, b'.', minor]
        if major.is_ascii_digit() && minor.is_ascii_digit())
        && version != b"HTTP/1.1"
        && version != b"HTTP/1.0"
}

const VERSION_BYTES: usize = "HTTP/1.1".len();

/// Whether what follows a field's value, or the version, is CR LF: httparse takes LF alone as well.
#[inline]
fn line_ends(bytes: &[u8], mut at: usize) -> bool {
    while let Some(b' ' | b'\t') = bytes.get(at) {
        at += 1;
    }
    bytes.get(at..at + 2) == Some(b"\r\n")
}

/// Whether these, which came before the request line, are empty lines (RFC 9112, 2.2).
fn is_blank_lines(bytes: &[u8]) -> bool {
    bytes.chunks(2).all(|line| line == b"\r\n")
}

/// Path and query of a target in origin, absolute or asterisk form (RFC 9112, 3.2).
///
/// What is let through is a URI to all who look at it: [`http::Uri`] must find the same path and query,
/// or a check of the one could be passed by the other.
fn split_target(
    target: &[u8],
    method: &Method,
    meaning: &Meaning<'_>,
) -> Result<(Range<usize>, Option<Range<usize>>), Reject> {
    let path_start = match target {
        _ if *method == Method::CONNECT => return Err(refuse_connect(target)),
        [b'/', ..] => 0,
        b"*" if *method == Method::OPTIONS => return Ok((0..1, None)),
        b"*" => return Err(Reject::bad("request target * is for OPTIONS")),
        _ => authority_end(target, meaning)?,
    };
    let path_end = path_end(target, path_start)?;
    if path_end == target.len() {
        return Ok((path_start..path_end, None));
    }
    let query = path_end + 1..target.len();
    if target[query.clone()]
        .iter()
        .any(|&byte| !is_in(QUERY, byte))
    {
        return Err(INVALID_IN_TARGET);
    }
    Ok((path_start..path_end, Some(query)))
}

const INVALID_IN_TARGET: Reject = Reject::bad("invalid character in request target");

/// Where the `?` is that ends the path, or the target.
#[inline]
fn path_end(target: &[u8], mut at: usize) -> Result<usize, Reject> {
    loop {
        match target.get(at) {
            Some(&byte) if is_in(PATH, byte) => at += 1,
            None | Some(b'?') => return Ok(at),
            Some(b'%') => match target.get(at + 1..at + 3) {
                Some([high, low]) if high.is_ascii_hexdigit() && low.is_ascii_hexdigit() => at += 3,
                _ => return Err(Reject::bad("invalid percent-encoding in request target")),
            },
            Some(_) => return Err(INVALID_IN_TARGET),
        }
    }
}

#[inline]
fn is_in(part: u8, byte: u8) -> bool {
    IN_TARGET[usize::from(byte)] & part != 0
}

/// May be in a path, without `%` and two digits.
const PATH: u8 = 1;
/// May be in a query. Browsers leave a lone `%` there as it is.
const QUERY: u8 = 2;

/// Where a byte may be in a target: by RFC 3986, 3.3 and 3.4, and where browsers do not encode what that
/// asks to encode (the percent-encode sets of the URL Standard). A fragment is not sent (RFC 9110, 7.1).
const IN_TARGET: [u8; 256] = {
    let mut table = [0; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = match byte {
            b'"' | b'#' | b'<' | b'>' => 0,
            b'%' | b'?' | b'\\' | b'^' | b'`' | b'{' | b'}' => QUERY,
            _ => PATH | QUERY,
        };
        byte += 1;
    }
    table
};

/// A tunnel is asked for by host and port alone (RFC 9112, 3.2.3).
#[cold]
fn refuse_connect(target: &[u8]) -> Reject {
    let port = target.iter().rposition(|&byte| byte == b':');
    let names_port = port.is_some_and(|colon| colon > 0 && colon + 1 < target.len());
    if names_port && is_host(target) {
        Reject::new(StatusCode::NOT_IMPLEMENTED, "CONNECT is not implemented")
    } else {
        Reject::bad("invalid request target for CONNECT")
    }
}

/// Where the path begins in an absolute-form target, whose authority must be the `Host`'s.
#[cold]
fn authority_end(target: &[u8], meaning: &Meaning<'_>) -> Result<usize, Reject> {
    let (scheme_end, default_port) = [("http://", b"80".as_slice()), ("https://", b"443")]
        .iter()
        .find(|(scheme, _)| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme.as_bytes()))
        })
        .map(|(scheme, port)| (scheme.len(), *port))
        .ok_or(Reject::bad("invalid request target"))?;
    let rest = &target[scheme_end..];
    let ends = rest.iter().position(|byte| matches!(byte, b'/' | b'?'));
    let authority = &rest[..ends.unwrap_or(rest.len())];
    let (host, port) = split_port(authority);
    // A host cannot be empty here (RFC 9110, 4.2.1), nor encoded: it would have two spellings.
    if host.is_empty() || host.contains(&b'%') || !is_host(authority) {
        return Err(Reject::bad("invalid authority in request target"));
    }
    // A client that has no authority to name says so by an empty one (RFC 9112, 3.2).
    if let Some(named) = meaning.host.filter(|named| !named.is_empty()) {
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

/// What the fields say about the message itself.
#[derive(Default)]
struct Meaning<'b> {
    length: Option<u64>,
    encoding: Option<&'b [u8]>,
    host: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    expects_continue: bool,
}

impl<'b> Meaning<'b> {
    /// Looks only at names of the lengths that matter.
    #[inline]
    fn take_in(&mut self, name: &str, value: &'b [u8]) -> Result<(), Reject> {
        match name.len() {
            4 if name.eq_ignore_ascii_case("host") => {
                if self.host.replace(value).is_some() {
                    return Err(Reject::bad("more than one Host"));
                }
                if !is_host(value) {
                    return Err(Reject::bad("invalid Host"));
                }
            }
            6 if name.eq_ignore_ascii_case("expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Reject::new(
                        StatusCode::EXPECTATION_FAILED,
                        "unknown expectation",
                    ));
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case("connection") => {
                for option in value.split(|&byte| byte == b',') {
                    let option = option.trim_ascii();
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case("content-length") => {
                let length = parse_length(value).ok_or(Reject::bad("invalid Content-Length"))?;
                if self.length.replace(length).is_some() {
                    return Err(Reject::bad("more than one Content-Length"));
                }
            }
            17 if name.eq_ignore_ascii_case("transfer-encoding")
                && self.encoding.replace(value).is_some() =>
            {
                return Err(Reject::bad("more than one Transfer-Encoding"));
            }
            _ => {}
        }
        Ok(())
    }

    fn conclude(&self, http_11: bool) -> Result<(Framing, bool), Reject> {
        if http_11 && self.host.is_none() {
            return Err(Reject::bad("no Host"));
        }
        let framing = match (self.encoding, self.length) {
            (Some(_), Some(_)) => {
                return Err(Reject::bad("both Content-Length and Transfer-Encoding"));
            }
            (Some(_), None) if !http_11 => {
                return Err(Reject::bad("Transfer-Encoding in HTTP/1.0"));
            }
            (Some(encoding), None) => check_encoding(encoding)?,
            (None, Some(0) | None) => Framing::None,
            (None, Some(length)) => Framing::Length(length),
        };
        let keep_alive = if http_11 {
            !self.close
        } else {
            self.keep_alive && !self.close
        };
        Ok((framing, keep_alive))
    }
}

/// Only `chunked` alone is implemented; that it is missing at the end makes a message unreadable.
fn check_encoding(encoding: &[u8]) -> Result<Framing, Reject> {
    if encoding.eq_ignore_ascii_case(b"chunked") {
        return Ok(Framing::Chunked);
    }
    let codings = || encoding.split(|&byte| byte == b',').map(<[u8]>::trim_ascii);
    let chunked = codings().filter(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let ends_chunked = codings()
        .next_back()
        .is_some_and(|coding| coding.eq_ignore_ascii_case(b"chunked"));
    let well_formed = codings().all(|coding| {
        !coding.is_empty()
            && coding
                .iter()
                .all(|&byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
    });
    if chunked.count() == 1 && ends_chunked && well_formed {
        return Err(Reject::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer coding is not implemented",
        ));
    }
    Err(Reject::bad("invalid Transfer-Encoding"))
}

/// Digits only: no sign, list, space or overflow.
pub(crate) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |length, digit| length * 10 + u64::from(digit - b'0')),
    )
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
        let end = host.iter().position(|&byte| !IN_NAME[usize::from(byte)]);
        &host[end.unwrap_or(host.len())..]
    };
    port.is_empty()
        || (port[0] == b':' && port.len() <= 6 && port[1..].iter().all(u8::is_ascii_digit))
}

/// The bytes of a registered name (RFC 3986, 3.2.2).
const IN_NAME: [bool; 256] = {
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

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 4096,
        line_bytes: 1024,
        fields: 100,
    };

    fn parsed(text: &str) -> Result<Option<Head>, Reject> {
        parsed_with(text, &mut Vec::new())
    }

    fn parsed_with(text: &str, fields: &mut Vec<Field>) -> Result<Option<Head>, Reject> {
        let mut head = Head::default();
        let complete = parse(text.as_bytes(), &LIMITS, fields, &mut head)?;
        Ok(complete.then_some(head))
    }

    fn status(text: &str) -> u16 {
        parsed(text).expect_err(text).status.as_u16()
    }

    #[test]
    fn finds_the_parts() {
        let text = "POST /a/b?x=1 HTTP/1.1\r\nHost: h:80\r\nContent-Length: 5\r\n\r\nhello";
        let mut fields = Vec::new();
        let head = parsed_with(text, &mut fields).unwrap().unwrap();
        assert_eq!(head.method, Method::POST);
        assert_eq!(&text[head.path.clone()], "/a/b");
        assert_eq!(&text[head.query.clone().unwrap()], "x=1");
        assert_eq!(head.framing, Framing::Length(5));
        assert!(head.keep_alive && head.http_11);
        assert_eq!(&text[head.length..], "hello");
        assert_eq!(&text[fields[0].name.clone()], "Host");
        assert_eq!(&text[fields[0].value.clone()], "h:80");
    }

    #[test]
    fn empty_values_are_values() {
        for field in ["A:", "A: ", "A:\t \t"] {
            let text = format!("\r\nGET / HTTP/1.1\r\n{field}\r\nHost: h\r\n\r\n");
            let mut fields = Vec::new();
            assert!(
                parsed_with(&text, &mut fields).unwrap().is_some(),
                "{field:?}"
            );
            assert_eq!(&text[fields[0].value.clone()], "");
            assert_eq!(&text[fields[1].value.clone()], "h");
            let bare = text.replacen(&format!("{field}\r\n"), &format!("{field}\n"), 1);
            assert_eq!(status(&bare), 400, "{bare:?}");
        }
        assert_eq!(status("\nGET / HTTP/1.1\r\nHost: h\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\nHost: h\r\n\r\n"), 400);
        assert_eq!(status("GET / HTTP/1.1\r\nHost: h\r\n\n"), 400);
    }

    #[test]
    fn any_prefix_is_incomplete() {
        let text = "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n";
        for end in 0..text.len() {
            assert!(parsed(&text[..end]).unwrap().is_none(), "{end}");
        }
        assert!(parsed(text).unwrap().is_some());
    }

    #[test]
    fn ambiguous_framing_is_rejected() {
        for fields in [
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 5",
            "Content-Length: +5",
            "Content-Length: -5",
            "Content-Length: 0x5",
            "Content-Length: ",
            "Content-Length: 99999999999999999999",
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
            "Transfer-Encoding: chunked, identity",
            "Transfer-Encoding: chunked, chunked",
            "Transfer-Encoding: xchunked",
            "Transfer-Encoding: \"chunked\"",
        ] {
            let text = format!("POST / HTTP/1.1\r\nHost: h\r\n{fields}\r\n\r\n");
            assert_eq!(status(&text), 400, "{fields}");
        }
        let gzip = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: gzip, chunked\r\n\r\n";
        assert_eq!(status(gzip), 501);
        assert_eq!(
            status("POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"),
            400
        );
    }

    #[test]
    fn malformed_lines_are_rejected() {
        for text in [
            "GET / HTTP/1.1\nHost: h\n\n",
            "GET / HTTP/1.1\r\nHost: h\nA: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\rc\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n folded\r\n\r\n",
            "GET / HTTP/1.1\r\n folded: first\r\nHost: h\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA : b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\n: b\r\n\r\n",
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\0c\r\n\r\n",
            "GET  / HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET /a#b HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET a HTTP/1.1\r\nHost: h\r\n\r\n",
            "GET * HTTP/1.1\r\nHost: h\r\n\r\n",
            "G@T / HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            assert_eq!(status(text), 400, "{text:?}");
        }
    }

    #[test]
    fn host_must_be_one_and_valid() {
        for hosts in [
            "",
            "Host: a\r\nHost: a\r\n",
            "Host: a, b\r\n",
            "Host: user@a\r\n",
            "Host: a/b\r\n",
            "Host: a:b\r\n",
            "Host: [::1\r\n",
        ] {
            assert_eq!(
                status(&format!("GET / HTTP/1.1\r\n{hosts}\r\n")),
                400,
                "{hosts:?}"
            );
        }
        for host in ["a", "a:80", "127.0.0.1:8080", "[::1]:80", "xn--a.example"] {
            let text = format!("GET / HTTP/1.1\r\nHost: {host}\r\n\r\n");
            assert!(parsed(&text).unwrap().is_some(), "{host}");
        }
    }

    #[test]
    fn an_absolute_target_names_the_host_that_the_host_field_names() {
        let status = |target: &str, host: &str| {
            let text = format!("GET {target} HTTP/1.1\r\nHost: {host}\r\n\r\n");
            parsed(&text).map_or_else(|reject| reject.status.as_u16(), |_| 200)
        };
        for (target, host) in [
            ("http://a/", "a"),
            ("http://a/", "A"),
            ("HTTP://A?x", "a"),
            ("http://a:80/", "a"),
            ("http://a/", "a:80"),
            ("http://a:/", "a:0080"),
            ("https://a:443/", "a"),
            ("https://a/", "a:443"),
            ("http://a:81/", "a:81"),
            ("http://[::1]:80/", "[::1]"),
            ("http://[::1]:8080", "[::1]:8080"),
            ("http://a/", ""),
            ("http://a:81/", ""),
        ] {
            assert_eq!(status(target, host), 200, "{target} {host}");
        }
        for (target, host) in [
            ("http://a/", "b"),
            ("http://a/", "a:443"),
            ("https://a/", "a:80"),
            ("http://a:81/", "a"),
            ("http://a/", "a:81"),
            ("http://a:0/", "a"),
            ("http://[::1]/", "[::2]"),
            ("http:///x", ""),
            ("http://:80/", ""),
            ("http://%61/", "a"),
            ("http://u@a/", "a"),
            ("http://a:b/", "a"),
            ("http://[::1:2:3:4:5:6:7:8:9]/", ""),
            ("http://[1.2]/", ""),
            ("ftp://a/", "a"),
            ("a:80", "a"),
        ] {
            assert_eq!(status(target, host), 400, "{target} {host}");
        }
    }

    #[test]
    fn what_is_no_uri_is_rejected_and_what_browsers_send_is_not() {
        let status = |target: &str| {
            let text = format!("GET {target} HTTP/1.1\r\nHost: h\r\n\r\n");
            parsed(&text).map_or_else(|reject| reject.status.as_u16(), |_| 200)
        };
        for byte in (b'!'..=b'~').map(char::from) {
            let refused = matches!(
                byte,
                '"' | '#' | '<' | '>' | '\\' | '^' | '`' | '{' | '}' | '%'
            );
            let expected = if refused { 400 } else { 200 };
            assert_eq!(status(&format!("/a{byte}")), expected, "{byte} in a path");
            let refused = matches!(byte, '"' | '#' | '<' | '>');
            let expected = if refused { 400 } else { 200 };
            assert_eq!(status(&format!("/?a{byte}")), expected, "{byte} in a query");
        }
        for escaped in ["/%41", "/%c3%a4x", "/a%2Fb", "/?100%", "/?%zz"] {
            assert_eq!(status(escaped), 200, "{escaped}");
        }
        for broken in ["/%", "/%4", "/%4?", "/%zz", "/%4%41", "http://h/%g0"] {
            assert_eq!(status(broken), 400, "{broken}");
        }
    }

    #[test]
    fn connect_is_understood_and_not_implemented() {
        for (target, expected) in [
            ("a:443", 501),
            ("[::1]:443", 501),
            ("a", 400),
            ("a:", 400),
            (":443", 400),
            ("/", 400),
            ("*", 400),
            ("http://a:443/", 400),
            ("u@a:443", 400),
        ] {
            let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(status(&text), expected, "{target}");
        }
    }

    /// What targets are made of, and what they are not.
    fn target() -> impl Strategy<Value = Vec<u8>> {
        let parts = select(vec![
            "/", "?", "#", "*", "%", "%41", "%4", "http://", "https://", "HTTP://", "h", "h:80",
            ":", "@", "[", "]", "[::1]", "//", "..", "<", ">", "\"", "{", "}", "\\", "^", "`", "|",
            "'", ";", "=", "&", "+", "\u{e4}",
        ]);
        let any_part = prop_oneof![
            parts.prop_map(|part| part.as_bytes().to_vec()),
            vec(any::<u8>(), 1..3),
            vec(b'!'..=b'~', 1..4),
        ];
        (
            select(vec!["", "/", "http://h", "http://h/"]),
            vec(any_part, 0..8),
        )
            .prop_map(|(start, parts)| [start.as_bytes(), &parts.concat()].concat())
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn a_target_means_the_same_to_all_who_look_at_it(
            target in target(),
            method in select(vec!["GET", "OPTIONS", "CONNECT"]),
            host in select(vec!["h", "h:80", ""]),
        ) {
            let mut bytes = format!("{method} ").into_bytes();
            bytes.extend(&target);
            bytes.extend(format!(" HTTP/1.1\r\nHost: {host}\r\n\r\n").bytes());
            let mut head = Head::default();
            if parse(&bytes, &LIMITS, &mut Vec::new(), &mut head) == Ok(true) {
                prop_assert_eq!(&bytes[head.target.clone()], &target);
                let uri = head.uri_in(&bytes);
                prop_assert_eq!(uri.path(), head.path_in(&bytes));
                let query = head.query.as_ref().map(|query| ascii(&bytes[query.clone()]));
                prop_assert_eq!(uri.query(), query);
                if let Some(authority) = uri.authority().filter(|_| !host.is_empty()) {
                    prop_assert_eq!(authority.host(), "h");
                    prop_assert!(matches!(authority.port_u16(), None | Some(80)));
                }
            }
        }
    }

    #[test]
    fn absolute_form_names_the_path() {
        let text = "GET http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n";
        let head = parsed(text).unwrap().unwrap();
        assert_eq!(&text[head.path], "/x");
        assert_eq!(&text[head.query.unwrap()], "y");
    }

    #[test]
    fn versions_are_told_apart_from_garbage() {
        assert_eq!(status("GET / HTTP/2.0\r\nHost: h\r\n\r\n"), 505);
        assert_eq!(status("GET / HTTP/1.9\r\nHost: h\r\n\r\n"), 505);
        assert_eq!(status("GET / HTTQ/1.1\r\nHost: h\r\n\r\n"), 400);
        assert_eq!(status("GET /\r\n\r\n"), 400);
    }

    #[test]
    fn limits_have_their_own_statuses() {
        let long_target = format!("GET /{} HTTP/1.1\r\nHost: h\r\n\r\n", "a".repeat(1100));
        assert_eq!(status(&long_target), 414);
        assert_eq!(status(&format!("GET /{}", "a".repeat(1200))), 414);
        let large = format!("GET / HTTP/1.1\r\nHost: h\r\nA: {}", "a".repeat(4100));
        assert_eq!(status(&large), 431);
        let many = format!(
            "GET / HTTP/1.1\r\nHost: h\r\n{}\r\n",
            "A: b\r\n".repeat(100)
        );
        assert_eq!(status(&many), 431);
        let fits = format!("GET / HTTP/1.1\r\nHost: h\r\n{}\r\n", "A: b\r\n".repeat(99));
        assert!(parsed(&fits).unwrap().is_some());
    }

    #[test]
    fn connection_options_decide_persistence() {
        for (version, option, keeps) in [
            ("1.1", "X: y", true),
            ("1.1", "Connection: close", false),
            ("1.1", "Connection: foo, Close", false),
            ("1.0", "X: y", false),
            ("1.0", "Connection: keep-alive", true),
        ] {
            let text = format!("GET / HTTP/{version}\r\nHost: h\r\n{option}\r\n\r\n");
            let head = parsed(&text).unwrap().unwrap();
            assert_eq!(head.keep_alive, keeps, "{version} {option}");
        }
    }
}
