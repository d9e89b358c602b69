//! The head of a request: where its parts are, and how its body is framed.
//!
//! Each byte is looked at once, on the way from the method to the empty line. The rules are strict where
//! two readings of a message could differ, because a proxy in front may have chosen the other one (request
//! smuggling): one `Content-Length` of digits only, never together with `Transfer-Encoding`, line ends of
//! CR LF only, one valid `Host`.

use std::ops::Range;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, Uri};

use super::{
    Reject,
    conversation::persists,
    scan::{parse_length, token_end, value_end},
    target::{self, is_host},
};

/// Where the parts of a request's head are in the buffer it was parsed from.
#[derive(Debug, Default)]
pub(crate) struct Head {
    pub(crate) method: Method,
    /// Whether that is `HEAD`, whose answer has no body.
    pub(crate) of_head: bool,
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
    /// Where the field lines begin.
    fields: usize,
    /// Length in bytes, the empty line included.
    pub(crate) length: usize,
}

impl Head {
    /// Where its field lines are, with the empty line behind them.
    #[inline]
    pub(crate) fn field_lines(&self) -> Range<usize> {
        self.fields..self.length
    }

    /// The path, given the bytes that the head was parsed from; all ASCII.
    #[inline]
    pub(crate) fn path_in<'b>(&self, bytes: &'b [u8]) -> &'b [u8] {
        match &bytes[self.path.clone()] {
            // An absolute URI may have none (RFC 9110, 4.2.3).
            b"" => b"/",
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
    /// Of one field, parted by commas.
    pub(crate) values: usize,
}

impl Limits {
    /// Heads up to this length are within all limits of lengths, without a closer look.
    #[inline]
    fn unsuspicious(&self) -> usize {
        self.head_bytes.min(MOST_NAME_BYTES).min(self.values)
    }
}

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
    parse_behind(None, bytes, limits, fields, head)
}

/// Parses a head like [`parse`], with the [field lines](Head::field_lines) of another at hand, which `fields` and `head`
/// still describe: a client that sends many requests at once says the same of each, and it need not be read again.
#[inline]
pub(crate) fn parse_behind(
    former: Option<&[u8]>,
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<bool, Reject> {
    match read(former, bytes, limits, fields, head) {
        Ok(()) => Ok(true),
        Err(stop) => {
            fields.clear();
            match stop {
                Stop::Short => check_partial(bytes, limits).map(|()| false),
                Stop::Wrong(reject) => Err(reject),
            }
        }
    }
}

/// Why reading went no further.
enum Stop {
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
fn unexpected(bytes: &[u8], at: usize, reason: &'static str) -> Stop {
    match bytes.get(at) {
        None => Stop::Short,
        Some(b'\n') => Stop::Wrong(Reject::bad("line ends in LF without CR")),
        Some(_) => Stop::Wrong(Reject::bad(reason)),
    }
}

#[inline]
fn read(
    former: Option<&[u8]>,
    bytes: &[u8],
    limits: &Limits,
    fields: &mut Vec<Field>,
    head: &mut Head,
) -> Result<(), Stop> {
    // Whether the target is in origin form is clear for the method that most requests have.
    let (method, start, is_origin_form) = match bytes.starts_with(b"GET /") {
        true => (Method::GET, 4, true),
        false => read_method(bytes)?,
    };
    let (path_end, end) = match is_origin_form {
        true => target::origin_form_ends(bytes, start),
        false => target::any_form_ends(bytes, start)?,
    };
    // Before all else, so that the answer does not depend on how much has come.
    if end - start > limits.line_bytes {
        return Err(LINE_TOO_LONG.into());
    }
    let (http_11, lines) = match bytes[end..].starts_with(HTTP_11) {
        true => (true, end + HTTP_11.len()),
        false => read_version(bytes, end)?,
    };
    // A target in another form is held against the `Host`, and behind a tunnel that was not made comes nothing.
    let same = former.filter(|former| {
        is_origin_form
            && http_11 == head.http_11
            && head.method != Method::CONNECT
            && bytes[lines..].starts_with(former)
    });
    let mut meaning = Meaning::default();
    let length = match same {
        Some(same) => {
            move_fields(fields, head.fields, lines);
            lines + same.len()
        }
        None => read_fields(bytes, lines, limits, fields, &mut meaning)?,
    };
    if length > limits.unsuspicious() {
        check_sizes(&bytes[..length], limits, fields)?;
    }
    let (path, query) = match is_origin_form {
        true => (start..path_end, (path_end < end).then(|| path_end + 1..end)),
        false => target::split(bytes, start..end, &method, meaning.host)?,
    };
    if same.is_none() {
        (head.framing, head.keep_alive) = meaning.conclude(http_11)?;
        // What comes behind it may have been sent for the tunnel, which another answer than 2xx does not make.
        head.keep_alive &= is_origin_form || method != Method::CONNECT;
        head.expects_continue = meaning.expects_continue && http_11;
    }
    head.of_head = method == Method::HEAD;
    head.method = method;
    head.target = start..end;
    head.path = path;
    head.query = query;
    head.http_11 = http_11;
    head.fields = lines;
    head.length = length;
    Ok(())
}

/// Has fields whose lines began at `from` be those of the same lines at `to`.
#[inline]
fn move_fields(fields: &mut [Field], from: usize, to: usize) {
    if from != to {
        for Field { name, value } in fields {
            for at in [
                &mut name.start,
                &mut name.end,
                &mut value.start,
                &mut value.end,
            ] {
                *at = *at - from + to;
            }
        }
    }
}

/// Reads the field lines from `at` on; where the head ends. Inlined, so that what they mean need not be laid out in
/// memory.
#[inline(always)]
fn read_fields<'b>(
    bytes: &'b [u8],
    mut at: usize,
    limits: &Limits,
    fields: &mut Vec<Field>,
    meaning: &mut Meaning<'b>,
) -> Result<usize, Stop> {
    fields.clear();
    // The field that most requests begin with needs no look at its name.
    if let Some(end) = target::usual_host_line(&bytes[at..]) {
        let (name, value) = (at..at + 4, at + 6..at + end - 2);
        meaning.host = Some(&bytes[value.clone()]);
        fields.push(Field { name, value });
        at += end;
    }
    loop {
        if bytes[at..].starts_with(b"\r\n") {
            return Ok(at + 2);
        }
        let name = at..token_end(bytes, at);
        if name.is_empty() || bytes.get(name.end) != Some(&b':') {
            return match bytes[at..] {
                [b'\r'] => Err(Stop::Short),
                _ => Err(unexpected(bytes, name.end, "invalid header name")),
            };
        }
        let value = read_value(bytes, name.end + 1)?;
        at = value.line_end;
        let value = value.start..value.end;
        if Meaning::may_lie_in(name.len()) {
            meaning.take_in(&bytes[name.clone()], &bytes[value.clone()])?;
        }
        if fields.len() >= limits.fields {
            return Err(TOO_MANY_FIELDS.into());
        }
        fields.push(Field { name, value });
    }
}

const HTTP_11: &[u8; 11] = b" HTTP/1.1\r\n";

/// The method, where the target begins and whether in origin form, behind empty lines that may come first
/// (RFC 9112, 2.2).
fn read_method(bytes: &[u8]) -> Result<(Method, usize, bool), Stop> {
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
fn read_version(bytes: &[u8], target_end: usize) -> Result<(bool, usize), Stop> {
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
struct Value {
    start: usize,
    end: usize,
    line_end: usize,
}

/// Reads a field's value, from behind the colon on.
#[inline]
fn read_value(bytes: &[u8], mut start: usize) -> Result<Value, Stop> {
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

/// Whether a head of that length is within the limits.
#[cold]
fn check_sizes(head: &[u8], limits: &Limits, fields: &[Field]) -> Result<(), Reject> {
    if head.len() > limits.head_bytes
        || fields
            .iter()
            .any(|field| field.name.len() > MOST_NAME_BYTES)
    {
        return Err(HEAD_TOO_LARGE);
    }
    let values = |field: &Field| memchr::memchr_iter(b',', &head[field.value.clone()]).count();
    if fields.iter().any(|field| values(field) >= limits.values) {
        return Err(TOO_MANY_VALUES);
    }
    Ok(())
}

const TOO_MANY_VALUES: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many values in a header field",
);

const TOO_MANY_FIELDS: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header fields",
);

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
    /// Whether a field may say something about the message whose name is as long.
    #[inline]
    fn may_lie_in(name: usize) -> bool {
        const LENGTHS: u32 = 1 << 4 | 1 << 6 | 1 << 10 | 1 << 14 | 1 << 17;
        name < 32 && LENGTHS & 1 << name != 0
    }

    fn take_in(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Reject> {
        match name.len() {
            4 if name.eq_ignore_ascii_case(b"host") => {
                if self.host.replace(value).is_some() {
                    return Err(Reject::bad("more than one Host"));
                }
                if !is_host(value) {
                    return Err(Reject::bad("invalid Host"));
                }
            }
            6 if name.eq_ignore_ascii_case(b"expect") => {
                if !value.eq_ignore_ascii_case(b"100-continue") {
                    return Err(Reject::new(
                        StatusCode::EXPECTATION_FAILED,
                        "unknown expectation",
                    ));
                }
                self.expects_continue = true;
            }
            10 if name.eq_ignore_ascii_case(b"connection") => {
                for option in value.split(|&byte| byte == b',') {
                    let option = option.trim_ascii();
                    self.close |= option.eq_ignore_ascii_case(b"close");
                    self.keep_alive |= option.eq_ignore_ascii_case(b"keep-alive");
                }
            }
            14 if name.eq_ignore_ascii_case(b"content-length") => {
                let length = parse_length(value).ok_or(Reject::bad("invalid Content-Length"))?;
                if self.length.replace(length).is_some() {
                    return Err(Reject::bad("more than one Content-Length"));
                }
            }
            17 if name.eq_ignore_ascii_case(b"transfer-encoding")
                && self.encoding.replace(value).is_some() =>
            {
                return Err(Reject::bad("more than one Transfer-Encoding"));
            }
            _ => {}
        }
        Ok(())
    }

    /// How the body is framed, and whether the connection stays. Inlined, so that what was found need not be laid
    /// out in memory.
    #[inline(always)]
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
        Ok((framing, persists(http_11, self.close, self.keep_alive)))
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
    let well_formed =
        codings().all(|coding| !coding.is_empty() && token_end(coding, 0) == coding.len());
    if chunked.count() == 1 && ends_chunked && well_formed {
        return Err(Reject::new(
            StatusCode::NOT_IMPLEMENTED,
            "transfer coding is not implemented",
        ));
    }
    Err(Reject::bad("invalid Transfer-Encoding"))
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*, sample::select};

    use super::*;

    const LIMITS: Limits = Limits {
        head_bytes: 4096,
        line_bytes: 1024,
        fields: 100,
        values: 1_000,
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
        for text in [
            "GET / HTTP/1.1\r\nHost: h\r\nA: b\r\n\r\n",
            "\r\n\r\nPOST /%41?a%=b HTTP/1.2\r\nHost: h\r\nA:\r\nB: \t x y \t\r\n\r\n",
            "OPTIONS * HTTP/1.0\r\nHost: h\r\n\r\n",
            "BREW http://h/x?y HTTP/1.1\r\nHost: h\r\n\r\n",
        ] {
            for end in 0..text.len() {
                assert!(
                    parsed(&text[..end]).unwrap().is_none(),
                    "{:?}",
                    &text[..end]
                );
            }
            assert!(parsed(text).unwrap().is_some());
        }
    }

    #[test]
    fn a_target_that_is_too_long_is_that_however_much_has_come() {
        for length in [2_000, 5_000] {
            let target = "a".repeat(length);
            let fields = "A: b\r\n".repeat(200);
            for text in [
                format!("GET /{target} HTTP/1.1\r\nHost: h\r\n\r\n"),
                format!("GET /{target} HTTP/1.1\r\nHost: h\r\n{fields}\r\n"),
                format!("GET /{target} HTTP/3.0\r\n"),
                format!("GET /{target}"),
            ] {
                assert_eq!(status(&text), 414, "{length}");
            }
        }
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
    fn connect_names_a_host_and_a_port() {
        for target in ["a:443", "[::1]:443"] {
            let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            let head = parsed(&text).unwrap().unwrap();
            assert_eq!(head.path_in(text.as_bytes()), target.as_bytes());
        }
        for target in [
            "a",
            "a:",
            ":443",
            "/",
            "*",
            "http://a:443/",
            "u@a:443",
            "a:99999",
            "a:8x",
            "a:443/x",
            "a:443?x",
        ] {
            let text = format!("CONNECT {target} HTTP/1.1\r\nHost: a\r\n\r\n");
            assert_eq!(status(&text), 400, "{target}");
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

    /// A head of few kinds, so that two of them often say the same of the message; whole or not, right or not.
    fn request() -> impl Strategy<Value = String> {
        let line = select(vec![
            "GET / HTTP/1.1",
            "GET /a/b?c=d HTTP/1.1",
            "POST / HTTP/1.1",
            "\r\nHEAD /a HTTP/1.1",
            "GET / HTTP/1.0",
            "GET http://h/ HTTP/1.1",
            "GET http://i/ HTTP/1.1",
            "OPTIONS * HTTP/1.1",
            "CONNECT h:1 HTTP/1.1",
            "GET /\u{1} HTTP/1.1",
        ]);
        let fields = select(vec![
            "Host: h\r\n",
            "Host: h\r\nA: b\r\n",
            "Accept: c\r\nhost: h\r\n",
            "A: b\r\n",
            "",
            "Host: h\r\nContent-Length: 3\r\n",
            "Host: h\r\nContent-Length: 3\r\nExpect: 100-continue\r\n",
            "Host: h\r\nTransfer-Encoding: chunked\r\n",
            "Host: h\r\nConnection: close\r\n",
            "Host: h\r\nConnection: keep-alive\r\n",
            "Host: h\r\nHost: h\r\n",
        ]);
        let end = select(vec![
            "\r\n",
            "\r\nGET / HTTP/1.1\r\n",
            "\r\nabc",
            "\r",
            "\n",
            "",
        ]);
        (line, fields, end).prop_map(|(line, fields, end)| format!("{line}\r\n{fields}{end}"))
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(2000))]

        #[test]
        fn the_usual_host_line_is_read_as_any_other(
            host in prop_oneof![
                "[a-z0-9.%_-]{0,12}(:[0-9]{0,7})?[ \t]{0,2}",
                "[ -~\t]{0,12}",
                vec(any::<u8>(), 0..12).prop_map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
            ],
            end in select(vec!["\r\n", "\n", "\r", "", "\r\nHost: a\r\n", "\r\nhost: b\r\n\r\n"]),
        ) {
            let read = |name: &str| {
                let mut fields = Vec::new();
                let text = format!("GET / HTTP/1.1\r\n{name}{host}{end}\r\n");
                let head = parsed_with(&text, &mut fields);
                let value = |field: &Field| text[field.value.clone()].to_owned();
                head.map(|head| head.map(|head| (head.framing, fields.iter().map(value).collect::<Vec<_>>())))
            };
            prop_assert_eq!(read("Host: "), read("hOst: "));
        }

        #[test]
        fn a_head_behind_another_is_read_as_if_it_were_alone(one in request(), other in request()) {
            let (mut head, mut fields) = (Head::default(), Vec::new());
            if parse(one.as_bytes(), &LIMITS, &mut fields, &mut head) == Ok(true) {
                let former = &one.as_bytes()[head.field_lines()];
                let other = other.as_bytes();
                let behind = parse_behind(Some(former), other, &LIMITS, &mut fields, &mut head);
                let (mut alone, mut its_fields) = (Head::default(), Vec::new());
                prop_assert_eq!(&behind, &parse(other, &LIMITS, &mut its_fields, &mut alone));
                prop_assert_eq!(&fields, &its_fields);
                if behind == Ok(true) {
                    prop_assert_eq!(format!("{head:?}"), format!("{alone:?}"));
                }
            }
        }

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
                if method == "CONNECT" {
                    let authority = uri.authority().map(|authority| authority.as_str().as_bytes());
                    prop_assert_eq!(authority, Some(head.path_in(&bytes)));
                    return Ok(());
                }
                prop_assert_eq!(uri.path().as_bytes(), head.path_in(&bytes));
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
        assert_eq!(status("GET / HTTP/0.9\r\nHost: h\r\n\r\n"), 505);
        for other in ["HTTP/5.6", "HTTP/0.", "HTTP/2"] {
            assert_eq!(
                status(&format!("GET / {other}")),
                505,
                "whatever follows {other}"
            );
        }
        assert_eq!(status("GET / HTTQ/1.1\r\nHost: h\r\n\r\n"), 400);
        assert_eq!(status("GET /\r\n\r\n"), 400);
        for no_target in ["GET  ", "GET  HTTP/1.1", "PUT \r", "Hnec  "] {
            assert_eq!(status(no_target), 400, "whatever follows {no_target:?}");
        }
        for (version, is_11) in [("1.0", false), ("1.1", true), ("1.2", true), ("1.9", true)] {
            let text = format!("GET / HTTP/{version}\r\nHost: h\r\n\r\n");
            let head = parsed(&text).unwrap().unwrap();
            assert_eq!((head.http_11, head.keep_alive), (is_11, is_11), "{version}");
            assert_eq!(head.length, text.len());
        }
        for line in [
            "HTTP/1.10",
            "HTTP/1.",
            "HTTP/1",
            "HTTP/11",
            "HTTP/1.2 ",
            "HTTP/1.2\n",
            "HTTP/x.1",
        ] {
            assert_eq!(
                status(&format!("GET / {line}\r\nHost: h\r\n\r\n")),
                400,
                "{line}"
            );
        }
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
