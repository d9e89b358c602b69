//! The head of a response as a client reads it, and how its body ends.
//!
//! What comes in pieces is searched for the head's end, each byte once, and the head parsed once when it is whole.

#![deny(clippy::arithmetic_side_effects)]

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, CONTENT_TYPE, DATE, SERVER, TRANSFER_ENCODING},
};

use super::{
    chunk::{Decoder, USUAL_OVERHEAD},
    conversation::{is_bodiless, persists},
    scan::parse_length,
};

/// A parsed response head.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) ending: Ending,
    /// Whether another request may follow on the connection.
    pub(crate) keep_alive: bool,
}

/// How the end of a response's body is found.
#[derive(Debug)]
pub(crate) enum Ending {
    Length(u64),
    Chunked(Decoder),
    Close,
    Done,
}

/// Heads with no more fields than this need no memory to be parsed.
const FEW: usize = 32;

const MOST_FIELDS: usize = 128;

/// Looks for the end of a head in what has come of it so far.
#[derive(Debug, Default)]
pub(crate) struct Search {
    /// So many bytes at the start need not be looked at again.
    searched: usize,
}

/// What a head begins with.
const START: &[u8] = b"HTTP/1.";

impl Search {
    /// The length of the head at the start of `bytes`, its empty line included; `None` if its end has not come yet.
    /// The next call has the same bytes and more. An error if no head begins like this.
    pub(crate) fn find(&mut self, bytes: &[u8]) -> Result<Option<usize>, &'static str> {
        let begun = without_empty_line(bytes);
        let known = begun.len().min(START.len());
        if begun[..known] != START[..known] && begun != b"\r" {
            return Err("not an HTTP/1 response");
        }
        // An empty line before the head is not its end.
        let first = bytes.len().saturating_sub(begun.len());
        let from = self.searched.max(first);
        for at in memchr::memchr_iter(b'\n', &bytes[from..]) {
            let line_end = from.saturating_add(at).saturating_add(1);
            let length = match bytes[line_end..] {
                [b'\n', ..] => line_end.saturating_add(1),
                [b'\r', b'\n', ..] => line_end.saturating_add(2),
                _ => continue,
            };
            return Ok(Some(length));
        }
        // The last line end may turn out to be the one before the empty line.
        self.searched = bytes.len().saturating_sub(2);
        Ok(None)
    }
}

/// Some servers end a body with a line end too many, which then comes before the next head.
fn without_empty_line(bytes: &[u8]) -> &[u8] {
    bytes.strip_prefix(b"\r\n").unwrap_or(bytes)
}

impl Reply {
    /// Parses a head that is there as a whole. What is wrong with it is for people to read.
    pub(crate) fn parse(head: &[u8], method: &Method) -> Result<Self, String> {
        let mut readable = without_empty_line(head).to_vec();
        // A later minor version is read as the latest that is known (RFC 9110, 2.5).
        if let Some(minor @ b'2'..=b'9') = readable.get_mut(START.len()) {
            *minor = b'1';
        }
        unfold(&mut readable)?;
        // The values share this copy of the head.
        let shared = Bytes::from(readable);
        let mut few = [const { MaybeUninit::uninit() }; FEW];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let found = config.parse_response_with_uninit_headers(&mut parsed, &shared, &mut few);
        let mut many;
        let found = match found {
            Err(httparse::Error::TooManyHeaders) => {
                many = vec![MaybeUninit::uninit(); MOST_FIELDS];
                parsed = httparse::Response::new(&mut []);
                config.parse_response_with_uninit_headers(&mut parsed, &shared, &mut many)
            }
            found => found,
        };
        match found {
            Ok(httparse::Status::Complete(_)) => Self::interpret(&parsed, &shared, method),
            Ok(httparse::Status::Partial) => Err("an empty line in the head".to_owned()),
            Err(error) => Err(error.to_string()),
        }
    }

    fn interpret(
        parsed: &httparse::Response<'_, '_>,
        shared: &Bytes,
        method: &Method,
    ) -> Result<Self, String> {
        let code = parsed.code.unwrap_or(0);
        let status = StatusCode::from_u16(code).map_err(|_| format!("invalid status {code}"))?;
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        // What most answers lack is not looked up.
        let (mut says_encoding, mut says_connection) = (false, false);
        let mut length = Ok(None);
        for field in parsed.headers.iter() {
            let wrong = |_| format!("invalid header field {:?}", field.name);
            let name = match usual_name(field.name.as_bytes()) {
                Some(name) => name,
                None => HeaderName::from_bytes(field.name.as_bytes()).map_err(|_| wrong(()))?,
            };
            let value = HeaderValue::from_maybe_shared(shared.slice_ref(field.value));
            let value = value.map_err(|_| wrong(()))?;
            says_encoding |= name == TRANSFER_ENCODING;
            says_connection |= name == CONNECTION;
            if name == CONTENT_LENGTH {
                length = length.and_then(|agreed| agreed_length(agreed, &value));
            }
            headers.append(name, value);
        }
        let http_11 = parsed.version == Some(1);
        let ending = ending(&headers, length, says_encoding, status, method, http_11)?;
        let asks = |wanted: &str| {
            headers
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let stays = match says_connection {
            true => persists(http_11, asks("close"), asks("keep-alive")),
            false => persists(http_11, false, false),
        };
        Ok(Self {
            status,
            // What follows 101 is another protocol.
            keep_alive: stays
                && !matches!(ending, Ending::Close)
                && status != StatusCode::SWITCHING_PROTOCOLS,
            ending,
            headers,
        })
    }
}

/// Puts folded lines onto the line that they continue, with spaces for the line ends (RFC 9112, 5.2).
fn unfold(head: &mut [u8]) -> Result<(), String> {
    // All pairs, since that is done many at a time.
    let pairs = head.iter().zip(head.get(1..).unwrap_or_default());
    let is_fold = |(&end, &next): (&u8, &u8)| (end == b'\n') & ((next == b' ') | (next == b'\t'));
    if !pairs.fold(false, |found, pair| found | is_fold(pair)) {
        return Ok(());
    }
    let mut from = 0;
    let mut is_status_line = true;
    while let Some(at) = memchr::memchr(b'\n', &head[from..]) {
        let end: usize = from.saturating_add(at);
        from = end.saturating_add(1);
        if let Some(b' ' | b'\t') = head.get(from) {
            if is_status_line {
                return Err("whitespace before the first header field".to_owned());
            }
            head[end] = b' ';
            if let Some(carriage_return @ b'\r') = head[..end].last_mut() {
                *carriage_return = b' ';
            }
        }
        is_status_line = false;
    }
    Ok(())
}

/// How the body ends (RFC 9112, 6.3).
fn ending(
    headers: &HeaderMap,
    length: Result<Option<u64>, String>,
    says_encoding: bool,
    status: StatusCode,
    method: &Method,
    http_11: bool,
) -> Result<Ending, String> {
    // Whatever the fields say, which may be what a response to GET would have.
    if is_bodiless(status, *method == Method::HEAD) {
        return Ok(Ending::Done);
    }
    let length = length?;
    if says_encoding {
        let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
        let encoding = encodings.next().ok_or("no Transfer-Encoding")?;
        if length.is_some() {
            return Err("both Content-Length and Transfer-Encoding".to_owned());
        }
        let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked || encodings.next().is_some() || !http_11 {
            return Err(format!("Transfer-Encoding {encoding:?} is not understood"));
        }
        return Ok(Ending::Chunked(Decoder::new(u64::MAX, USUAL_OVERHEAD)));
    }
    Ok(match length {
        None => Ending::Close,
        Some(0) => Ending::Done,
        Some(length) => Ending::Length(length),
    })
}

/// The length that all Content-Length fields agree on, each of which may be a list: that of those before, and one more.
fn agreed_length(mut agreed: Option<u64>, value: &HeaderValue) -> Result<Option<u64>, String> {
    for element in value.as_bytes().split(|&byte| byte == b',') {
        let length = parse_length(element.trim_ascii())
            .ok_or_else(|| format!("invalid Content-Length {value:?}"))?;
        if *agreed.get_or_insert(length) != length {
            return Err("different Content-Lengths".to_owned());
        }
    }
    Ok(agreed)
}

/// Names that most answers have, as most servers write them: the way through the whole table takes longer than all else that is
/// done for a field.
fn usual_name(name: &[u8]) -> Option<HeaderName> {
    Some(match name {
        b"Content-Length" | b"content-length" => CONTENT_LENGTH,
        b"Content-Type" | b"content-type" => CONTENT_TYPE,
        b"Date" | b"date" => DATE,
        b"Server" | b"server" => SERVER,
        b"Connection" | b"connection" => CONNECTION,
        b"Transfer-Encoding" | b"transfer-encoding" => TRANSFER_ENCODING,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn parsed(text: &str) -> Result<Reply, String> {
        let found = Search::default().find(text.as_bytes())?;
        let length = found.unwrap_or_else(|| panic!("incomplete: {text:?}"));
        Reply::parse(&text.as_bytes()[..length], &Method::GET)
    }

    #[test]
    fn status_fields_and_length_are_found() {
        let text = "HTTP/1.1 200 OK\r\nA: b\r\nEmpty:\r\nContent-Length: 5\r\n\r\nhello";
        let reply = parsed(text).unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.headers["a"], "b");
        assert_eq!(reply.headers["empty"], "");
        assert!(matches!(reply.ending, Ending::Length(5)));
        let length = Search::default().find(text.as_bytes()).unwrap();
        assert_eq!(&text[length.unwrap()..], "hello");
    }

    #[test]
    fn connections_are_kept_when_both_sides_may() {
        for (head, keeps) in [
            ("HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", true),
            ("HTTP/1.1 200 OK\r\n\r\n", false),
            ("HTTP/1.1 204 No Content\r\n\r\n", true),
            (
                "HTTP/1.1 204 No Content\r\nConnection: x, Close\r\n\r\n",
                false,
            ),
            ("HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n", false),
            (
                "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n\r\n",
                true,
            ),
            ("HTTP/1.1 101 Switching Protocols\r\n\r\n", false),
        ] {
            assert_eq!(parsed(head).unwrap().keep_alive, keeps, "{head:?}");
        }
    }

    #[test]
    fn what_could_end_in_two_places_is_an_error() {
        for fields in [
            "Content-Length: 5\r\nTransfer-Encoding: chunked",
            "Content-Length: 5\r\nContent-Length: 6",
            "Content-Length: 5, 6",
            "Content-Length: 5,",
            "Content-Length: 5, 5\r\nContent-Length: 6",
            "Content-Length: 1\r\n 0",
            "Content-Length: +5",
            "Content-Length: 99999999999999999999",
            "Transfer-Encoding: gzip, chunked",
            "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        ] {
            let head = format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n");
            assert!(parsed(&head).is_err(), "{fields}");
        }
        assert!(parsed("HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n").is_err());
    }

    #[test]
    fn many_fields_are_taken_and_too_many_are_not() {
        let head = |count| format!("HTTP/1.1 204 \r\n{}\r\n", "A: b\r\n".repeat(count));
        assert_eq!(parsed(&head(100)).unwrap().headers.len(), 100);
        assert!(parsed(&head(MOST_FIELDS + 1)).is_err());
    }

    #[test]
    fn what_framed_the_same_way_twice_is_taken() {
        for fields in [
            "Content-Length: 5, 5",
            "Content-Length: 5\r\nContent-Length: 5",
            "Content-Length: 5 ,5\r\nContent-Length: 05",
            "Content-Length:\r\n\t5",
        ] {
            let reply = parsed(&format!("HTTP/1.1 200 OK\r\n{fields}\r\n\r\n"));
            assert!(
                matches!(reply.unwrap().ending, Ending::Length(5)),
                "{fields}"
            );
        }
    }

    #[test]
    fn what_has_no_body_has_none_whatever_its_fields_say() {
        for fields in [
            "Content-Length: 5",
            "Content-Length: 5, 6",
            "Transfer-Encoding: chunked",
            "Transfer-Encoding: gzip\r\nContent-Length: 18446744073709551616",
        ] {
            for (status, method) in [
                ("200 OK", Method::HEAD),
                ("100 Continue", Method::GET),
                ("204 No Content", Method::GET),
                ("304 Not Modified", Method::GET),
            ] {
                let head = format!("HTTP/1.1 {status}\r\n{fields}\r\n\r\n");
                let reply = Reply::parse(head.as_bytes(), &method).unwrap();
                assert!(matches!(reply.ending, Ending::Done), "{head}");
            }
        }
    }

    #[test]
    fn folded_lines_become_one_value() {
        let folds = "A: one\r\n two\r\n\t three\r\nB: x\n y\r\n \r\nC:\r\n z";
        let reply = parsed(&format!("HTTP/1.1 204 \r\n{folds}\r\n\r\n")).unwrap();
        let value = |name: &str| -> Vec<&str> {
            let value = reply.headers[name].to_str().unwrap();
            value.split_ascii_whitespace().collect()
        };
        assert_eq!(value("a"), ["one", "two", "three"]);
        assert_eq!(value("b"), ["x", "y"]);
        assert_eq!(value("c"), ["z"]);
        assert_eq!(reply.headers.len(), 3);
        for head in [
            "HTTP/1.1 200 OK\r\n A: b\r\n\r\n",
            "HTTP/1.1 200\r\nA\r\n : b\r\n\r\n",
        ] {
            assert!(parsed(head).is_err(), "{head}");
        }
    }

    #[test]
    fn a_later_minor_version_is_read_as_1_1_and_another_major_is_refused() {
        for version in ["1.1", "1.2", "1.9"] {
            let head = format!("HTTP/{version} 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
            let reply = parsed(&head).unwrap();
            assert!(matches!(reply.ending, Ending::Chunked(_)), "{version}");
            assert!(reply.keep_alive, "{version}");
        }
        for version in ["0.9", "2.0", "2", "1.x", "1.", "1.10"] {
            let head = format!("HTTP/{version} 200 OK\r\n\r\n");
            let found = Search::default().find(head.as_bytes());
            let length = found.ok().flatten();
            let parsed =
                length.map(|length| Reply::parse(&head.as_bytes()[..length], &Method::GET));
            assert!(parsed.is_none_or(|parsed| parsed.is_err()), "{version}");
        }
    }

    #[test]
    fn what_is_not_http_is_told_at_its_first_bytes() {
        for bytes in [&b"SSH-2.0-x\r\n"[..], b"HTTX", b"h", b"\r\n\r\n", b"\n"] {
            let found = Search::default().find(bytes);
            assert!(found.is_err(), "{}", bytes.escape_ascii());
        }
        for bytes in [&b""[..], b"H", b"HTTP/1.", b"\r", b"\r\n", b"\r\nHT"] {
            let found = Search::default().find(bytes);
            assert_eq!(found, Ok(None), "{}", bytes.escape_ascii());
        }
    }

    /// Where the head ends if all is looked at anew.
    #[expect(clippy::arithmetic_side_effects, reason = "of few bytes")]
    fn end_of(bytes: &[u8]) -> Option<usize> {
        let ends = [&b"\n\r\n"[..], b"\n\n"];
        let found = ends.map(|end| {
            let skip = usize::from(bytes.starts_with(b"\r\n")) * 2;
            let at = bytes[skip..]
                .windows(end.len())
                .position(|part| part == end)?;
            Some(skip + at + end.len())
        });
        found.into_iter().flatten().min()
    }

    proptest! {
        #[test]
        fn the_end_is_found_at_the_byte_that_brings_it(
            parts in prop::collection::vec(prop::sample::select(vec!["\r", "\n", "\r\n", "A: b", " ", "x"]), 0..12),
            begins_with_line_end in any::<bool>(),
        ) {
            let start = if begins_with_line_end { "\r\n" } else { "" };
            let bytes = format!("{start}HTTP/1.1 200 {}", parts.concat()).into_bytes();
            let mut search = Search::default();
            for end in 0..=bytes.len() {
                let found = search.find(&bytes[..end]).unwrap();
                prop_assert_eq!(found, end_of(&bytes[..end]));
                if found.is_some() {
                    break;
                }
            }
        }

        #[test]
        fn lengths_are_read_as_numbers_or_refused(
            length in prop_oneof![any::<u64>(), u64::MAX - 20..=u64::MAX, 0..20_u64],
            zeros in 0_usize..4,
        ) {
            let digits = format!("{}{length}", "0".repeat(zeros));
            let reply = parsed(&format!("HTTP/1.1 200 OK\r\nContent-Length: {digits}\r\n\r\n"));
            match reply.map(|reply| reply.ending) {
                Ok(Ending::Done) => prop_assert_eq!(length, 0),
                Ok(Ending::Length(read)) => prop_assert_eq!(read, length),
                Ok(other) => prop_assert!(false, "{:?}", other),
                Err(_) => prop_assert!(digits.len() > 19),
            }
        }

        #[test]
        fn any_bytes_are_taken_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let head = [b"HTTP/1.1 200 OK\r\n", &bytes[..], b"\r\n\r\n"].concat();
            let length = Search::default().find(&head).unwrap().unwrap();
            let _ = Reply::parse(&head[..length], &Method::GET);
        }
    }
}
