//! The head of a request: where its parts are, and how its body is framed.
//!
//! `httparse` finds the parts; the rules about framing, which it leaves to its caller, are here. They
//! are strict where two readings of a message could differ, because a proxy in front may have chosen
//! the other one (request smuggling): one `Content-Length` of digits only, never together with
//! `Transfer-Encoding`, line ends of CR LF only, one valid `Host`.

use std::{mem::MaybeUninit, ops::Range};

use http::{Method, StatusCode};

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
        // The parser has let only ASCII through.
        match std::str::from_utf8(&bytes[self.path.clone()]) {
            Ok("") | Err(_) => "/",
            Ok(path) => path,
        }
    }
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
    lines_end_well = lines_end_well
        && bytes[..length].ends_with(b"\r\n\r\n")
        && is_blank_lines(&bytes[..place(method_name.as_bytes()).start]);
    if !lines_end_well {
        return Err(Reject::bad("line ends in LF without CR").into());
    }
    if target.len() > limits.line_bytes {
        return Err(LINE_TOO_LONG.into());
    }
    let (path, query) = split_target(target, &method, &meaning)?;
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
    if line > limits.line_bytes + 64 {
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
fn split_target(
    target: &str,
    method: &Method,
    meaning: &Meaning<'_>,
) -> Result<(Range<usize>, Option<Range<usize>>), Reject> {
    let mut mark = None;
    for (at, byte) in target.bytes().enumerate() {
        match TARGET[usize::from(byte)] {
            InTarget::Plain => {}
            InTarget::Mark => mark = mark.or(Some(at)),
            InTarget::Never => return Err(Reject::bad("invalid character in request target")),
        }
    }
    let path_start = if target.starts_with('/') {
        0
    } else if target == "*" {
        return match *method {
            Method::OPTIONS => Ok((0..1, None)),
            _ => Err(Reject::bad("request target * is for OPTIONS")),
        };
    } else if *method == Method::CONNECT {
        return Err(Reject::new(
            StatusCode::NOT_IMPLEMENTED,
            "CONNECT is not implemented",
        ));
    } else {
        authority_end(target, meaning)?
    };
    let path_end = mark.unwrap_or(target.len());
    Ok((
        path_start..path_end,
        mark.map(|mark| mark + 1..target.len()),
    ))
}

/// What a byte is in a request target.
#[derive(Clone, Copy)]
enum InTarget {
    Plain,
    /// The first of these begins the query.
    Mark,
    Never,
}

const TARGET: [InTarget; 256] = {
    let mut table = [InTarget::Never; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = InTarget::Plain;
        byte += 1;
    }
    table[b'?' as usize] = InTarget::Mark;
    // A fragment is not sent (RFC 9110, 7.1).
    table[b'#' as usize] = InTarget::Never;
    table
};

/// Where the path begins in an absolute-form target, whose authority must be the `Host`'s.
fn authority_end(target: &str, meaning: &Meaning<'_>) -> Result<usize, Reject> {
    let scheme_end = ["http://", "https://"]
        .iter()
        .find(|scheme| {
            target
                .get(..scheme.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(scheme))
        })
        .map(|scheme| scheme.len())
        .ok_or(Reject::bad("invalid request target"))?;
    let rest = &target[scheme_end..];
    let authority_len = rest.find(['/', '?']).unwrap_or(rest.len());
    let authority = &rest[..authority_len];
    if authority.is_empty() || !is_host(authority.as_bytes()) {
        return Err(Reject::bad("invalid authority in request target"));
    }
    if meaning
        .host
        .is_some_and(|host| !host.eq_ignore_ascii_case(authority.as_bytes()))
    {
        return Err(Reject::bad("Host differs from the request target"));
    }
    Ok(scheme_end + authority_len)
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
        if literal.is_empty()
            || !literal
                .iter()
                .all(|&byte| byte.is_ascii_hexdigit() || b":.".contains(&byte))
        {
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
        let differs = "GET http://a/ HTTP/1.1\r\nHost: b\r\n\r\n";
        assert_eq!(status(differs), 400);
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
