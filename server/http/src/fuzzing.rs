//! What must hold for any bytes that a peer may send: for the fuzz targets, and for random ones at each
//! test run.

use std::ops::Range;

use crate::{
    extract::{
        Cookies,
        parts::{PartHead, Parts, Step as Part, boundary, part_head},
    },
    http1::{
        Reject,
        chunk::{Decoder, Step, TOO_LARGE, USUAL_OVERHEAD},
        head::{self, Field, Framing, Head, Limits},
        reply::{Ending, Reply, Search},
    },
};

pub use crate::proxy::fuzzing::passed_on;
#[cfg(feature = "http2")]
pub use crate::server::http2::fuzzing::http2;
pub use crate::sse::fuzzing::event;
#[cfg(feature = "websocket")]
pub use crate::websocket::fuzzing::websocket;

const LIMITS: Limits = Limits {
    head_bytes: 4 * 1024,
    line_bytes: 1024,
    fields: 40,
    values: 1_000,
};

/// Reads `bytes` as a request.
///
/// # Panics
/// If what is taken for a head breaks a rule of heads, or depends on how it is cut, or on what follows.
pub fn request(bytes: &[u8]) {
    let whole = read(bytes);
    if let Ok(Some((head, fields))) = &whole {
        let alone = &bytes[..head.length];
        check_lines(alone, head, fields);
        check_target(alone, head);
        check_framing(alone, head, fields);
        let again = read(alone).expect("what follows a head does not matter");
        let (again, _) = again.expect("a head ends where it ends");
        assert_eq!(again.length, head.length);
        if head.framing == Framing::Chunked {
            body(&bytes[head.length..], 1);
        }
        check_behind(alone, &bytes[head.length..]);
    }
    check_prefixes(bytes, &whole);
    check_against_httparse(bytes, &whole);
}

/// Reads requests for the target that `bytes` are, by methods that have different forms of it.
///
/// # Panics
/// If what [`request`] holds does not hold here, or a form is taken that the method has not.
pub fn target(bytes: &[u8]) {
    for method in ["GET", "OPTIONS", "CONNECT", "BREW"] {
        let text = [
            method.as_bytes(),
            b" ",
            bytes,
            b" HTTP/1.1\r\nHost:\r\n\r\n",
        ]
        .concat();
        request(&text);
        if let Ok(Some((head, _))) = read(&text) {
            let path = &text[head.path.clone()];
            assert!(path != b"*" || matches!(method, "OPTIONS" | "CONNECT"));
            let names_port = path.rsplit(|&byte| byte == b':').next() != Some(path);
            assert!(method != "CONNECT" || names_port, "a tunnel has a port");
        }
    }
}

/// Reads `bytes` as the head of a response to `HEAD` or to another method, whole and in pieces.
///
/// # Panics
/// If these differ, or what frames the body is read in two ways.
pub fn response(bytes: &[u8], piece: usize, of_head: bool) {
    let whole = Search::default().find(bytes);
    let (mut search, mut known) = (Search::default(), 0);
    let in_pieces = loop {
        known = (known + piece.max(1)).min(bytes.len());
        match search.find(&bytes[..known]) {
            Ok(None) if known < bytes.len() => {}
            found => break found,
        }
    };
    assert_eq!(in_pieces, whole, "in pieces of {piece}");
    let Ok(Some(length)) = whole else {
        return;
    };
    assert!(length <= bytes.len());
    let method = match of_head {
        true => http::Method::HEAD,
        false => http::Method::GET,
    };
    let Ok(reply) = Reply::parse(&bytes[..length], &method) else {
        return;
    };
    let code = reply.status.as_u16();
    let values = |name: &str| reply.headers.get_all(name).iter().count();
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    if of_head || code < 200 || code == 204 || code == 304 {
        assert!(matches!(reply.ending, Ending::Done), "it has no body");
        return;
    }
    assert!(lengths == 0 || encodings == 0, "{:?}", reply.headers);
    match reply.ending {
        Ending::Chunked(_) => assert_eq!(encodings, 1),
        Ending::Length(length) => assert!(lengths > 0 && length > 0),
        Ending::Done => assert!(lengths > 0 && encodings == 0),
        Ending::Close => {
            assert!(lengths == 0 && encodings == 0);
            assert!(!reply.keep_alive, "its end is the connection's");
        }
    }
}

/// Reads the lines of `bytes` as fields of cookies.
///
/// # Panics
/// If one is not as it was sent, or depends on how they are spread over fields.
pub fn cookies(bytes: &[u8]) {
    let fields = || bytes.split(|&byte| byte == b'\n');
    let all = Cookies::of(fields());
    let found: Vec<(&str, &str)> = all.iter().collect();
    let text: Vec<_> = fields().map(String::from_utf8_lossy).collect();
    let is_blank = |character: char| character == ' ' || character == '\t';
    for &(name, value) in &found {
        assert!(!name.is_empty() && name.trim_matches(is_blank) == name);
        assert!(!name.contains(['=', ';']) && !value.contains(';'));
        let sent = |text: &str| text.contains(name) && text.contains(value);
        assert!(text.iter().any(|text| sent(text)), "{name:?}={value:?}");
        let first = found.iter().find(|(other, _)| *other == name);
        assert_eq!(all.get(name), first.map(|(_, value)| *value));
    }
    let alone: Vec<_> = fields()
        .map(|field| Cookies::of([field].into_iter()))
        .collect();
    let alone: Vec<_> = alone.iter().flat_map(Cookies::iter).collect();
    assert_eq!(alone, found);
}

/// Reads `bytes` as a chunked body, whole and in pieces.
///
/// # Panics
/// If these differ, or differ from what a decoder finds that reads line by line, or if a body gets beyond
/// a limit.
pub fn body(bytes: &[u8], piece: usize) {
    let whole = decode(bytes, piece.max(bytes.len()), u64::MAX);
    assert_eq!(
        whole,
        decode(bytes, piece, u64::MAX),
        "in pieces of {piece}"
    );
    if let Decoded::Whole { data, used } = &whole {
        assert_eq!(line_by_line(&bytes[..*used]).as_ref(), Some(data));
    }
    check_limits(bytes, piece, &whole);
}

/// Reads `bytes` as a form, whole and in pieces, and as the head of a part.
///
/// # Panics
/// If these differ, or a step takes more than there is, or nothing.
pub fn multipart(bytes: &[u8], piece: usize) {
    let _ = part_head(bytes);
    let _ = std::str::from_utf8(bytes).map(boundary);
    assert_eq!(
        form(bytes, bytes.len()),
        form(bytes, piece),
        "in pieces of {piece}"
    );
}

/// Names and data of a form's parts up to its end, or what is wrong.
fn form(bytes: &[u8], piece: usize) -> Result<Vec<(PartHead, Vec<u8>)>, &'static str> {
    let mut parts = Parts::new("B");
    let (mut taken, mut filled) = (0, piece.min(bytes.len()));
    let mut found: Vec<(PartHead, Vec<u8>)> = Vec::new();
    loop {
        let input = &bytes[taken..filled];
        let used = match parts.step(input)? {
            Part::End => return Ok(found),
            Part::More if filled == bytes.len() => return Err("cut"),
            Part::More => {
                filled = (filled + piece.max(1)).min(bytes.len());
                continue;
            }
            Part::Skip(count) | Part::PartEnd(count) => count,
            Part::Head(count) => {
                found.push((part_head(&input[..count])?, Vec::new()));
                count
            }
            Part::Data(count) => {
                let (_, data) = found.last_mut().expect("data is of a part");
                data.extend_from_slice(&input[..count]);
                count
            }
        };
        assert!(used > 0 && used <= input.len(), "{used} of {}", input.len());
        taken += used;
    }
}

/// Whatever sizes are claimed, no more is taken than a limit allows, and all that it allows.
fn check_limits(bytes: &[u8], piece: usize, whole: &Decoded) {
    let claimed = claimed(bytes);
    // Limits on which a sum could go wrong: none, those that it just meets and misses, and the highest.
    let near = |sum: u128| {
        let sum = u64::try_from(sum).unwrap_or(u64::MAX);
        [sum.saturating_sub(1), sum, sum.saturating_add(1)]
    };
    let few = claimed.iter().take(8).copied().flat_map(near);
    for limit in few.chain([0, 1000, u64::MAX - 1, u64::MAX]) {
        let within = decode(bytes, piece, limit);
        match (&within, whole) {
            (Decoded::Wrong | Decoded::TooLarge, Decoded::Wrong) => {}
            (Decoded::TooLarge, _) => assert!(
                claimed.iter().any(|&sum| sum > u128::from(limit)),
                "too large for {limit}, though no more than {claimed:?} is claimed"
            ),
            _ => {
                assert_eq!(&within, whole, "within {limit}");
                let sum = claimed.last().copied().unwrap_or(0);
                assert!(sum <= u128::from(limit), "{sum} is within {limit}");
            }
        }
    }
}

/// How much data chunks claim in all, after each size line that is complete.
fn claimed(mut bytes: &[u8]) -> Vec<u128> {
    let (mut sums, mut sum) = (Vec::new(), 0);
    while let Some(size) = take_size(&mut bytes) {
        sum += u128::from(size);
        sums.push(sum);
        let behind = usize::try_from(size)
            .ok()
            .and_then(|size| bytes.get(size..));
        match behind.and_then(|behind| behind.strip_prefix(b"\r\n")) {
            Some(behind) if size > 0 => bytes = behind,
            _ => break,
        }
    }
    sums
}

type Read = Result<Option<(Head, Vec<Field>)>, Reject>;

fn read(bytes: &[u8]) -> Read {
    let (mut head, mut fields) = (Head::default(), Vec::new());
    let complete = head::parse(bytes, &LIMITS, &mut fields, &mut head)?;
    Ok(complete.then_some((head, fields)))
}

/// A head is read behind another as it is alone, also if that other says the same in its fields.
fn check_behind(first: &[u8], bytes: &[u8]) {
    let again = [&b"GET /a?b HTTP/1.1\r\n"[..], first].concat();
    let line = first.windows(2).position(|two| two == b"\r\n");
    let same_fields = [
        &b"GET /a?b HTTP/1.1\r\n"[..],
        &first[line.map_or(first.len(), |at| at + 2)..],
    ]
    .concat();
    for second in [bytes, first, &again, &same_fields] {
        let (mut head, mut fields) = read(first).expect("good").expect("whole");
        let former = &first[head.field_lines()];
        let behind = head::parse_behind(Some(former), second, &LIMITS, &mut fields, &mut head);
        let behind = behind.map(|complete| complete.then_some((head, fields)));
        assert_eq!(format!("{behind:?}"), format!("{:?}", read(second)));
    }
}

/// No beginning of a good head, or of an unfinished one, is bad or a head itself.
fn check_prefixes(bytes: &[u8], whole: &Read) {
    let end = match whole {
        Ok(Some((head, _))) => head.length,
        Ok(None) => bytes.len(),
        Err(_) => return,
    };
    // Each is parsed from its start: all of a long one would take too long.
    for cut in (0..end).step_by(1 + end / 64) {
        let prefix = &bytes[..cut];
        assert!(matches!(read(prefix), Ok(None)), "cut at {cut} of {end}");
    }
    if let Ok(Some(_)) = whole {
        for cut in end.saturating_sub(8)..end {
            assert!(
                head::may_be_complete(&bytes[..end], cut, &LIMITS),
                "the end is overlooked when it comes after {cut} bytes"
            );
        }
    }
}

/// Another parser, which takes more, finds the same parts in what is taken here, and nothing wrong in what
/// may still become a head.
fn check_against_httparse(bytes: &[u8], whole: &Read) {
    let mut headers = [httparse::EMPTY_HEADER; LIMITS.fields + 1];
    let mut other = httparse::Request::new(&mut headers);
    let found = other.parse(bytes);
    match (whole, found) {
        (Err(_), _) => {}
        // It knows no version beyond 1.1.
        (_, Err(httparse::Error::Version)) => {
            let is_later = |part: &[u8]| part.starts_with(b"HTTP/1.") && part[7] > b'1';
            assert!(bytes.windows(8).any(is_later));
        }
        (Ok(None), found) => assert_eq!(found, Ok(httparse::Status::Partial)),
        (Ok(Some((head, fields))), found) => {
            assert_eq!(found, Ok(httparse::Status::Complete(head.length)));
            let text = |range: &Range<usize>| &bytes[range.clone()];
            assert_eq!(other.method, Some(head.method.as_str()));
            assert_eq!(other.path.map(str::as_bytes), Some(text(&head.target)));
            assert_eq!(other.version, Some(u8::from(head.http_11)));
            assert_eq!(other.headers.len(), fields.len());
            for (theirs, ours) in other.headers.iter().zip(fields) {
                assert_eq!(theirs.name.as_bytes(), text(&ours.name));
                assert_eq!(theirs.value, text(&ours.value));
            }
        }
    }
}

fn check_lines(bytes: &[u8], head: &Head, fields: &[Field]) {
    assert!(bytes.len() <= LIMITS.head_bytes && fields.len() <= LIMITS.fields);
    assert!(bytes.ends_with(b"\r\n\r\n"));
    for (at, byte) in bytes.iter().enumerate() {
        match byte {
            b'\n' => assert!(at > 0 && bytes[at - 1] == b'\r', "LF alone at {at}"),
            b'\r' => assert_eq!(bytes.get(at + 1), Some(&b'\n'), "CR alone at {at}"),
            0 => panic!("NUL at {at}"),
            _ => {}
        }
    }
    let lines = bytes.split(|&byte| byte == b'\n');
    let field_lines = lines.skip_while(|line| line == b"\r").skip(1);
    assert_eq!(
        field_lines.take_while(|line| line != b"\r").count(),
        fields.len(),
        "each line is a field"
    );
    for field in fields {
        let name = &bytes[field.name.clone()];
        assert!(!name.is_empty() && name.iter().all(u8::is_ascii_graphic));
        assert_eq!(bytes[field.name.end], b':', "something behind a name");
        assert_eq!(bytes[field.name.start - 1], b'\n', "something before it");
        assert!(field.value.start > field.name.end && field.value.end <= head.length);
    }
    assert_eq!(head::header_map(bytes, fields).len(), fields.len());
}

fn check_target(bytes: &[u8], head: &Head) {
    let part = |range: &Range<usize>| &bytes[range.clone()];
    let target = part(&head.target);
    assert!(!target.is_empty() && target.len() <= LIMITS.line_bytes);
    assert!(target.iter().all(u8::is_ascii_graphic));
    let path = part(&head.path);
    let is_connect = head.method == http::Method::CONNECT;
    assert!(path.starts_with(b"/") || matches!(path, b"" | b"*") || is_connect);
    assert!(head.path.start >= head.target.start && head.path.end <= head.target.end);
    if let Some(query) = &head.query {
        assert_eq!(bytes[query.start - 1], b'?');
        assert_eq!(query.end, head.target.end);
    }
    // None of these can fail, and they agree.
    let uri = head.uri_in(bytes);
    if is_connect {
        let authority = uri.authority().expect("a tunnel leads somewhere");
        assert_eq!(authority.as_str().as_bytes(), head.path_in(bytes));
    } else {
        assert_eq!(uri.path().as_bytes(), head.path_in(bytes));
    }
    let query = head.query.as_ref().map(part);
    assert_eq!(uri.query().map(str::as_bytes), query);
}

fn check_framing(bytes: &[u8], head: &Head, fields: &[Field]) {
    let values = |wanted: &str| -> Vec<&[u8]> {
        fields
            .iter()
            .filter(|field| bytes[field.name.clone()].eq_ignore_ascii_case(wanted.as_bytes()))
            .map(|field| &bytes[field.value.clone()])
            .collect()
    };
    let (lengths, encodings) = (values("content-length"), values("transfer-encoding"));
    let hosts = values("host").len();
    assert!(hosts == 1 || (hosts == 0 && !head.http_11));
    match head.framing {
        Framing::Chunked => {
            assert!(head.http_11 && lengths.is_empty() && encodings.len() == 1);
            assert!(encodings[0].eq_ignore_ascii_case(b"chunked"));
        }
        Framing::Length(length) => {
            assert!(encodings.is_empty() && lengths.len() == 1);
            let said = std::str::from_utf8(lengths[0]).unwrap().parse();
            assert_eq!(said, Ok(length));
        }
        Framing::None => {
            let zeros = |length: &&[u8]| length.iter().all(|&digit| digit == b'0');
            assert!(encodings.is_empty() && lengths.iter().all(zeros));
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Decoded {
    Whole { data: Vec<u8>, used: usize },
    Unfinished { data: Vec<u8> },
    Wrong,
    TooLarge,
}

fn decode(bytes: &[u8], piece: usize, limit: u64) -> Decoded {
    let (mut decoder, mut data, mut at) = (Decoder::new(limit, USUAL_OVERHEAD), Vec::new(), 0);
    while at < bytes.len() {
        let input = &bytes[at..bytes.len().min(at + piece)];
        let count = match decoder.step(input) {
            Err(TOO_LARGE) => return Decoded::TooLarge,
            Err(_) => return Decoded::Wrong,
            Ok(Step::Done(count)) => {
                let used = at + count;
                return Decoded::Whole { data, used };
            }
            Ok(Step::Framing(count)) => count,
            Ok(Step::Data(left)) => {
                let count = input.len().min(usize::try_from(left).unwrap_or(usize::MAX));
                data.extend_from_slice(&input[..count]);
                decoder.took(count as u64);
                assert!(data.len() as u64 <= limit, "{} within {limit}", data.len());
                count
            }
        };
        assert!(count > 0, "no progress");
        at += count;
    }
    Decoded::Unfinished { data }
}

/// RFC 9112, 7.1, for a body that is there as a whole.
fn line_by_line(mut bytes: &[u8]) -> Option<Vec<u8>> {
    let mut data = Vec::new();
    loop {
        let size = usize::try_from(take_size(&mut bytes)?).ok()?;
        if size == 0 {
            break;
        }
        data.extend_from_slice(bytes.get(..size)?);
        bytes = bytes.get(size..)?.strip_prefix(b"\r\n")?;
    }
    loop {
        let line = take_line(&mut bytes)?;
        if line.is_empty() {
            return bytes.is_empty().then_some(data);
        }
        let colon = line.iter().position(|&byte| byte == b':')?;
        if colon == 0 || !line[..colon].iter().all(u8::is_ascii_graphic) {
            return None;
        }
    }
}

/// The size that the next line claims.
fn take_size(bytes: &mut &[u8]) -> Option<u64> {
    let line = take_line(bytes)?;
    let size = std::str::from_utf8(line.split(|&byte| byte == b';').next()?).ok()?;
    if !size.bytes().all(|byte| byte.is_ascii_hexdigit()) {
        return None;
    }
    u64::from_str_radix(size, 16).ok()
}

/// The bytes before the next CR LF, unless one of them is part of another line end.
fn take_line<'b>(bytes: &mut &'b [u8]) -> Option<&'b [u8]> {
    let end = bytes.windows(2).position(|pair| pair == b"\r\n")?;
    let line = &bytes[..end];
    *bytes = &bytes[end + 2..];
    (!line.iter().any(|byte| matches!(byte, b'\r' | b'\n'))).then_some(line)
}

/// The header of the PROXY protocol: however little of it has come, no more is asked for than it has, and once it is whole
/// it stays what it is, whatever follows.
pub fn proxy(bytes: &[u8]) {
    use crate::proxied::header::{Read, read};
    let mut known = 0;
    loop {
        match read(&bytes[..known]) {
            Err(_) => return,
            Ok(Read::AtLeast(wanted)) => {
                assert!(wanted > known, "it comes to an end");
                if wanted > bytes.len() {
                    return;
                }
                known = wanted;
            }
            Ok(Read::Whole(header, length)) => {
                assert_eq!(length, known, "nothing behind it was asked for");
                assert_eq!(read(bytes), Ok(Read::Whole(header.clone(), length)));
                let tls = header.tls();
                let names = tls.map(|tls| (tls.common_name(), tls.version(), tls.cipher()));
                let _ = (names, header.authority(), header.extensions().count());
                return;
            }
        }
    }
}

/// What header fields say of the client: none of it is worth a panic, and a list is read as its parts are.
pub fn forwarded(bytes: &[u8]) {
    use crate::proxied::forwarded::{Client, client, elements_from_end, list_from_end};
    let fields: Vec<&[u8]> = bytes.split(|byte| *byte == b'\n').collect();
    let joined = fields.join(&b',');
    let apart = client(
        Client::Unknown,
        list_from_end(fields.iter().copied()),
        |_| true,
    );
    let together = client(
        Client::Unknown,
        list_from_end([&joined[..]].into_iter()),
        |_| true,
    );
    assert_eq!(apart, together);
    for element in elements_from_end(fields.iter().copied()) {
        assert!(element.client.is_some() || element.scheme.is_some() || element.host.is_some());
    }
}

/// Reads `bytes` as what a client asks of a file: a path, then values of `Range` and of the conditions, a line each.
///
/// # Panics
/// If a path leads out, ranges are not within the file or too many, or conditions that exclude each other hold both.
pub fn file(bytes: &[u8], length: u64) {
    use crate::{
        files::place::place,
        http1::{
            condition::{Conditions, Verdict, Version, is_tag, is_this},
            range::{MOST_RANGES, Wanted, wanted},
        },
    };
    use std::{ffi::OsStr, os::unix::ffi::OsStrExt, path::Component};

    let mut lines = bytes.split(|&byte| byte == b'\n');
    let mut line = || lines.next().unwrap_or_default();
    if let Ok(path) = std::str::from_utf8(line())
        && let Some(place) = place(path, false)
    {
        for component in place.path.components() {
            let Component::Normal(name) = component else {
                panic!("{path:?} leads to {place:?}");
            };
            let is_hidden = name.as_bytes().starts_with(b".");
            assert!(!is_hidden || name == OsStr::new(".well-known"), "{path:?}");
        }
        let has_nul = place.path.as_os_str().as_bytes().contains(&0);
        assert!(!has_nul && !place.path.is_absolute(), "{path:?}");
    }
    if let Wanted::Parts(parts) = wanted(line(), length) {
        assert!(!parts.is_empty() && parts.len() <= MOST_RANGES);
        let within = |part: &Range<u64>| part.start < part.end && part.end <= length;
        assert!(parts.iter().all(within), "{parts:?} of {length}");
        let total: u64 = parts.iter().map(|part| part.end - part.start).sum();
        assert!(total <= length, "{parts:?} of {length}");
    }
    let (tag, lists, date) = (line(), [line(), line()], line());
    let version = Version {
        exists: true,
        tag: is_tag(tag).then_some(tag),
        modified: Some(length),
    };
    let judge = |conditions: Conditions<'_>, reads| conditions.judge(version, reads);
    let if_match = |reads| {
        let if_match = lists.to_vec();
        judge(
            Conditions {
                if_match,
                ..Conditions::default()
            },
            reads,
        )
    };
    let if_none_match = |reads| {
        let if_none_match = lists.to_vec();
        judge(
            Conditions {
                if_none_match,
                ..Conditions::default()
            },
            reads,
        )
    };
    assert_eq!(if_match(true), if_match(false));
    // What matches strongly matches weakly.
    if if_match(true) == Verdict::Proceed {
        assert_eq!(if_none_match(true), Verdict::NotModified);
        assert_eq!(if_none_match(false), Verdict::Failed);
    }
    let modified = |since, until| {
        let conditions = Conditions {
            if_modified_since: since,
            if_unmodified_since: until,
            ..Conditions::default()
        };
        judge(conditions, true)
    };
    if modified(None, Some(date)) == Verdict::Failed {
        assert_eq!(modified(Some(date), None), Verdict::Proceed);
    }
    if is_this(date, version, false) {
        assert_eq!(version.tag, Some(date.trim_ascii()));
        assert!(!date.trim_ascii().starts_with(b"W/"));
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use proptest::{collection::vec, prelude::*, sample::select};

    /// What requests are made of, and what they are not.
    const PARTS: &[&str] = &[
        "GET / HTTP/1.1\r\n",
        "POST /a/b?c=d HTTP/1.1\r\n",
        "OPTIONS * HTTP/1.1\r\n",
        "GET http://h/x HTTP/1.0\r\n",
        "GET / HTTP/1.2\r\n",
        "GET /\u{e4} HTTP/2.0\r\n",
        "GET",
        " / ",
        "HTTP/1.1",
        "Host: h\r\n",
        "Host: \t h:80 \t\r\n",
        "Host: [::1]\r\n",
        "Host:\r\n",
        "GET http://h:80/<x HTTP/1.1\r\n",
        "GET /%4x{y}\\?{|}^`% HTTP/1.1\r\n",
        "GET /[x]|~%41?\"z HTTP/1.1\r\n",
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "Transfer-Encoding: chunked\r\n",
        "transfer-encoding: Chunked \r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Expect: 100-continue\r\n",
        "A:\r\n",
        "A: b\n",
        "A : b\r\n",
        " folded\r\n",
        "\r\n",
        "\r\n",
        "\r",
        "\n",
        "\0",
        ":",
        "5\r\nhello\r\n",
        "5;a=\"b\"\r\nhello\r\n",
        "0\r\n\r\n",
        "0\r\nT: x\r\n\r\n",
        "10000000000000000",
        ";",
        "1\r\nx\r\n",
        "ffffffffffffffff\r\n",
        "fffffffffffffffb\r\n",
        "FFFFFFFFFFFFFFFE;a\r\n",
        "7fffffffffffffff\r\n",
        "00000000000003e3\r\n",
    ];

    fn from_parts(count: usize) -> impl Strategy<Value = Vec<u8>> {
        vec(select(PARTS), 0..count).prop_map(|parts| parts.concat().into_bytes())
    }

    proptest! {
        #[test]
        fn any_lines_ask_of_a_file_by_the_rules(
            text in "(\\PC|[.%2eEfF5cC/\\x00]){0,40}\n(bytes=)?[0-9, -]{0,30}\n(W/)?\"a\"\n[Wab/\",* ]{0,20}\n[Wab/\",* ]{0,20}\n.{0,9}",
            length in any::<u64>(),
        ) {
            super::file(text.as_bytes(), length % 50);
            super::file(text.as_bytes(), length);
        }

        #[test]
        fn any_fields_are_passed_on_by_the_rules(
            text in "(a[.:]example|/\\.%2e/x|[/.%2eE\"\\\\]{0,9})\n((Connection|TE|X-Mine|Via|Max-Forwards|X-Forwarded-For|Forwarded|Keep-Alive|A): ?[a-zA-Z0-9:;=,. \"\\[\\]-]{0,30}\n){0,6}",
        ) {
            super::passed_on(text.as_bytes());
        }

        #[test]
        fn any_cookies_are_read_as_they_were_sent(text in "([a-c\"é]{0,2}[=;, \t\n]?){0,20}") {
            super::cookies(text.as_bytes());
        }

        #[test]
        fn any_lines_of_a_response_are_read_by_the_rules(
            code in prop_oneof![Just("200"), Just("204"), Just("101"), Just("304"), Just("999"), Just("20")],
            lines in vec(select(&RESPONSE[..]), 0..6),
            piece in 1_usize..9,
            of_head in any::<bool>(),
        ) {
            let text = format!("HTTP/1.1 {code} x\r\n{}\r\n", lines.concat());
            super::response(text.as_bytes(), piece, of_head);
        }

        #[test]
        fn any_bytes_are_read_by_the_rules(bytes in vec(any::<u8>(), 0..300)) {
            super::request(&bytes);
        }

        #[test]
        fn any_parts_are_read_by_the_rules(bytes in from_parts(12)) {
            super::request(&bytes);
        }

        #[test]
        fn what_looks_like_a_request_is_read_by_the_rules(
            fields in from_parts(6),
            change in proptest::option::of((any::<prop::sample::Index>(), any::<u8>())),
        ) {
            let mut bytes = b"POST /a HTTP/1.1\r\nHost: h\r\n".to_vec();
            bytes.extend(fields);
            bytes.extend(b"\r\n5\r\nhello\r\n0\r\n\r\n");
            if let Some((at, byte)) = change {
                let at = at.index(bytes.len());
                bytes[at] = byte;
            }
            super::request(&bytes);
        }

        #[test]
        fn a_body_means_the_same_however_it_is_cut(
            parts in vec(select(&PARTS[PARTS.len() - 18..]), 0..8),
            piece in 1_usize..9,
        ) {
            super::body(parts.concat().as_bytes(), piece);
        }

        #[test]
        fn a_form_means_the_same_however_it_is_cut(
            parts in vec(select(&FORM[..]), 0..12),
            piece in 1_usize..9,
        ) {
            super::multipart(parts.concat().as_bytes(), piece);
        }
    }

    /// What heads of responses are made of, right and wrong.
    const RESPONSE: [&str; 12] = [
        "Content-Length: 5\r\n",
        "Content-Length: 0\r\n",
        "Content-Length: 5, 5\r\n",
        "content-length: 6\r\n",
        "Transfer-Encoding: chunked\r\n",
        "Transfer-Encoding: gzip, chunked\r\n",
        "Connection: close\r\n",
        "Connection: keep-alive\r\n",
        "A: b\n",
        " folded\r\n",
        "A\r\n",
        "\r\n",
    ];

    /// What forms are made of, right and wrong.
    const FORM: [&str; 14] = [
        "--B",
        "\r\n--B",
        "\r\n--B\r\n",
        "--",
        "-",
        "\r\n",
        "\r",
        "\n",
        " ",
        "B",
        "data",
        "Content-Disposition: form-data; name=\"a\"\r\n\r\n",
        "content-disposition: form-data; name=b; filename=\"\\\"/..\"\r\nX: y\r\n\r\n",
        "x: y\r\n\r\n",
    ];

    #[test]
    fn the_fuzzers_seeds_are_read_by_the_rules() {
        let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../fuzz/corpus");
        let seeds = |target: &str| {
            let Ok(seeds) = std::fs::read_dir(corpus.join(target)) else {
                return Vec::new();
            };
            let paths = seeds.map(|seed| seed.unwrap().path());
            paths.map(|path| std::fs::read(path).unwrap()).collect()
        };
        for seed in seeds("request") {
            super::request(&seed);
        }
        for seed in seeds("proxy") {
            super::proxy(&seed);
        }
        for seed in seeds("forwarded") {
            super::forwarded(&seed);
        }
        for seed in seeds("target") {
            super::target(&seed);
        }
        for seed in seeds("cookies") {
            super::cookies(&seed);
        }
        for seed in seeds("passed_on") {
            super::passed_on(&seed);
        }
        for seed in seeds("response") {
            if let Some((&first, bytes)) = seed.split_first() {
                super::response(bytes, usize::from(first >> 1) + 1, first & 1 == 0);
            }
        }
        #[cfg(feature = "http2")]
        for seed in seeds("http2") {
            if let Some((&piece, bytes)) = seed.split_first() {
                super::http2(bytes, usize::from(piece) + 1);
            }
        }
        #[cfg(feature = "websocket")]
        for seed in seeds("websocket") {
            if let Some((&first, bytes)) = seed.split_first() {
                super::websocket(bytes, usize::from(first >> 1) + 1, first & 1 == 0);
            }
        }
        for seed in seeds("file") {
            let length = u64::from(seed.first().copied().unwrap_or(0));
            super::file(seed.get(1..).unwrap_or_default(), length);
        }
        for seed in seeds("event") {
            super::event(&seed);
        }
        for seed in seeds("body") {
            if let Some((&piece, bytes)) = seed.split_first() {
                super::body(bytes, usize::from(piece) + 1);
            }
        }
        for seed in seeds("multipart") {
            if let Some((&piece, bytes)) = seed.split_first() {
                super::multipart(bytes, usize::from(piece) + 1);
            }
        }
    }
}
