//! The head of a response as a client reads it, and how its body ends.

use std::mem::MaybeUninit;

use bytes::Bytes;
use http::{
    HeaderMap, HeaderName, HeaderValue, Method, StatusCode,
    header::{CONNECTION, CONTENT_LENGTH, TRANSFER_ENCODING},
};

use super::chunk::Decoder;

/// A parsed response head.
#[derive(Debug)]
pub(crate) struct Reply {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    /// Length in bytes, the empty line included.
    pub(crate) length: usize,
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

impl Reply {
    /// Parses the head at the start of `bytes`; `None` if its end has not come yet. What is wrong with
    /// it is for people to read.
    pub(crate) fn parse(bytes: &[u8], method: &Method) -> Result<Option<Self>, String> {
        let mut few = [const { MaybeUninit::uninit() }; FEW];
        let mut parsed = httparse::Response::new(&mut []);
        let config = httparse::ParserConfig::default();
        let found = config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut few);
        let mut many;
        let found = match found {
            Err(httparse::Error::TooManyHeaders) => {
                many = vec![MaybeUninit::uninit(); MOST_FIELDS];
                parsed = httparse::Response::new(&mut []);
                config.parse_response_with_uninit_headers(&mut parsed, bytes, &mut many)
            }
            found => found,
        };
        match found {
            Ok(httparse::Status::Complete(length)) => {
                Self::interpret(&parsed, &bytes[..length], method).map(Some)
            }
            Ok(httparse::Status::Partial) => Ok(None),
            Err(error) => Err(error.to_string()),
        }
    }

    fn interpret(
        parsed: &httparse::Response<'_, '_>,
        head: &[u8],
        method: &Method,
    ) -> Result<Self, String> {
        let code = parsed.code.unwrap_or(0);
        let status = StatusCode::from_u16(code).map_err(|_| format!("invalid status {code}"))?;
        // The values share one copy of the head.
        let shared = Bytes::copy_from_slice(head);
        let mut headers = HeaderMap::with_capacity(parsed.headers.len());
        for field in parsed.headers.iter() {
            let wrong = |_| format!("invalid header field {:?}", field.name);
            let name = HeaderName::from_bytes(field.name.as_bytes());
            let at = field
                .value
                .as_ptr()
                .addr()
                .wrapping_sub(head.as_ptr().addr());
            let value = match field.value {
                b"" => Ok(HeaderValue::from_static("")),
                value => HeaderValue::from_maybe_shared(shared.slice(at..at + value.len())),
            };
            headers.append(name.map_err(|_| wrong(()))?, value.map_err(|_| wrong(()))?);
        }
        let http_11 = parsed.version == Some(1);
        let ending = ending(&headers, status, method, http_11)?;
        let asks = |wanted: &str| {
            headers
                .get_all(CONNECTION)
                .iter()
                .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
                .any(|option| option.trim_ascii().eq_ignore_ascii_case(wanted.as_bytes()))
        };
        let stays = match http_11 {
            true => !asks("close"),
            false => asks("keep-alive") && !asks("close"),
        };
        Ok(Self {
            status,
            length: head.len(),
            // What follows 101 is another protocol.
            keep_alive: stays
                && !matches!(ending, Ending::Close)
                && status != StatusCode::SWITCHING_PROTOCOLS,
            ending,
            headers,
        })
    }

    /// Whether the final response is still to come.
    pub(crate) fn is_interim(&self) -> bool {
        self.status.is_informational() && self.status != StatusCode::SWITCHING_PROTOCOLS
    }
}

/// How the body ends (RFC 9112, 6.3).
fn ending(
    headers: &HeaderMap,
    status: StatusCode,
    method: &Method,
    http_11: bool,
) -> Result<Ending, String> {
    let mut lengths = headers.get_all(CONTENT_LENGTH).iter();
    let mut encodings = headers.get_all(TRANSFER_ENCODING).iter();
    let (length, encoding) = (lengths.next(), encodings.next());
    if length.is_some() && encoding.is_some() {
        return Err("both Content-Length and Transfer-Encoding".to_owned());
    }
    if *method == Method::HEAD
        || status.is_informational()
        || status == StatusCode::NO_CONTENT
        || status == StatusCode::NOT_MODIFIED
    {
        return Ok(Ending::Done);
    }
    if let Some(encoding) = encoding {
        let chunked = encoding.as_bytes().eq_ignore_ascii_case(b"chunked");
        if !chunked || encodings.next().is_some() || !http_11 {
            return Err(format!("Transfer-Encoding {encoding:?} is not understood"));
        }
        return Ok(Ending::Chunked(Decoder::new(u64::MAX)));
    }
    let Some(length) = length else {
        return Ok(Ending::Close);
    };
    if lengths.any(|other| other != length) {
        return Err("different Content-Lengths".to_owned());
    }
    match super::head::parse_length(length.as_bytes()) {
        Some(0) => Ok(Ending::Done),
        Some(length) => Ok(Ending::Length(length)),
        None => Err(format!("invalid Content-Length {length:?}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parsed(text: &str) -> Result<Reply, String> {
        let reply = Reply::parse(text.as_bytes(), &Method::GET)?;
        Ok(reply.unwrap_or_else(|| panic!("incomplete: {text:?}")))
    }

    #[test]
    fn status_fields_and_length_are_found() {
        let text = "HTTP/1.1 200 OK\r\nA: b\r\nEmpty:\r\nContent-Length: 5\r\n\r\nhello";
        let reply = parsed(text).unwrap();
        assert_eq!(reply.status, StatusCode::OK);
        assert_eq!(reply.headers["a"], "b");
        assert_eq!(reply.headers["empty"], "");
        assert!(matches!(reply.ending, Ending::Length(5)));
        assert_eq!(&text[reply.length..], "hello");
        let cut = &text.as_bytes()[..reply.length - 1];
        assert!(Reply::parse(cut, &Method::GET).unwrap().is_none());
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
            "Content-Length: 5, 5",
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
}
