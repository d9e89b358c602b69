//! Response heads and chunks, as bytes.

use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};

use super::conversation::Ending;
use crate::id::Id;

/// A type that is known beforehand, so that no header map is made for it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct ContentType {
    pub(crate) value: &'static str,
    /// What most heads begin with: the status line of 200, this field's line, the name of the length's.
    opening: &'static [u8],
}

macro_rules! content_type {
    ($name:ident, $value:literal) => {
        pub(crate) static $name: ContentType = ContentType {
            value: $value,
            opening: concat!(
                "HTTP/1.1 200 OK\r\ncontent-type: ",
                $value,
                "\r\ncontent-length: "
            )
            .as_bytes(),
        };
    };
}

content_type!(TEXT, "text/plain; charset=utf-8");
content_type!(HTML, "text/html; charset=utf-8");
content_type!(JSON, "application/json");
content_type!(OCTETS, "application/octet-stream");

/// A `date` line and the empty one that ends a head: its name, an IMF-fixdate of 29 bytes, twice CR LF.
pub(crate) type DateLine = [u8; 6 + 29 + 4];

/// Header fields beside the type, as they are written.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Extra<'a> {
    pub(crate) map: Option<&'a HeaderMap>,
    pub(crate) id: Option<&'a Id>,
}

impl Extra<'_> {
    /// Most answers have no others.
    pub(crate) const NONE: Self = Self {
        map: None,
        id: None,
    };
}

/// A response's head.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    pub(crate) content_type: Option<&'static ContentType>,
    pub(crate) extra: Extra<'a>,
    pub(crate) ending: Ending,
    /// `Connection: close`, or `keep-alive` for HTTP/1.0 peers that asked.
    pub(crate) connection: Option<&'static str>,
}

/// A head like most: 200 with a type, a body that is not long, no further fields but the id, and a connection that goes on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct UsualHead<'a> {
    pub(crate) content_type: &'static ContentType,
    /// Less than [`UsualHead::LONGEST`].
    pub(crate) length: u64,
    pub(crate) id: Option<&'a Id>,
}

impl UsualHead<'_> {
    pub(crate) const LONGEST: u64 = 10_000;

    /// Appends what [`write_head`] would.
    #[inline(always)]
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        debug_assert!(self.length < Self::LONGEST);
        out.extend_from_slice(self.content_type.opening);
        write_short_length(out, self.length);
        if let Some(id) = self.id {
            write_id(out, id);
        }
    }
}

/// Appends a length of up to four digits and the end of its line: put together in a register, and appended at once.
#[inline(always)]
fn write_short_length(out: &mut Vec<u8>, length: u64) {
    let two = |number: u64| (number / 10) | ((number % 10) << 8);
    let (digits, count) = match length {
        0..10 => (length, 1),
        10..100 => (two(length), 2),
        _ => {
            let [hundreds, rest] = [length / 100, length % 100];
            let four = two(hundreds) | (two(rest) << 16);
            match hundreds {
                0..10 => (four >> 8, 3),
                _ => (four, 4),
            }
        }
    };
    const ZEROS: u64 = 0x3030_3030;
    const CR_LF: u64 = 0x0a0d;
    let shift = 8 * count;
    let text = ((digits | ZEROS) & !(u64::MAX << shift)) | (CR_LF << shift);
    out.extend_from_slice(&text.to_le_bytes());
    out.truncate(out.len() - (8 - 2 - count));
}

/// Appends the head up to its end, which is a [`DateLine`].
#[inline(never)]
pub(crate) fn write_head(out: &mut Vec<u8>, head: &Head<'_>) {
    write_opening(out, head.status, head.content_type);
    match head.ending {
        Ending::Length(length) => {
            let mut digits = itoa::Buffer::new();
            field(out, b"content-length: ", digits.format(length).as_bytes());
        }
        Ending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Ending::NoBody | Ending::Close => {}
    }
    if let Some(connection) = head.connection {
        field(out, b"connection: ", connection.as_bytes());
    }
    if let Some(headers) = head.extra.map {
        write_fields(out, headers);
    }
    if let Some(id) = head.extra.id {
        write_id(out, id);
    }
}

fn write_id(out: &mut Vec<u8>, id: &Id) {
    field(out, b"x-request-id: ", id.bytes());
}

fn write_opening(out: &mut Vec<u8>, status: StatusCode, content_type: Option<&ContentType>) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    field(out, status.canonical_reason().unwrap_or("").as_bytes(), b"");
    if let Some(content_type) = content_type {
        field(out, b"content-type: ", content_type.value.as_bytes());
    }
}

/// The fields of the handler's own; those that frame the message are ours to write.
fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING, UPGRADE};
    for (name, value) in headers {
        if [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING].contains(name) {
            continue;
        }
        if name == UPGRADE {
            // Without it the field would be meant for the next recipient, too (RFC 9110, 7.8).
            out.extend_from_slice(b"connection: upgrade\r\n");
        }
        write_field(out, name, value);
    }
}

/// Appends one field.
pub(crate) fn write_field(out: &mut Vec<u8>, name: &HeaderName, value: &HeaderValue) {
    out.extend_from_slice(name.as_str().as_bytes());
    field(out, b": ", value.as_bytes());
}

/// Appends an answer before the final one, whole.
#[cold]
pub(crate) fn write_interim(out: &mut Vec<u8>, status: StatusCode, headers: &HeaderMap) {
    write_opening(out, status, None);
    write_fields(out, headers);
    out.extend_from_slice(b"\r\n");
}

#[inline]
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends one chunk; an empty one would end the body and is left out.
pub(crate) fn write_chunk(out: &mut Vec<u8>, data: &[u8]) {
    if !data.is_empty() {
        out.extend_from_slice(format!("{:x}\r\n", data.len()).as_bytes());
        out.extend_from_slice(data);
        out.extend_from_slice(b"\r\n");
    }
}

/// Ends a chunked body.
pub(crate) const LAST_CHUNK: &[u8] = b"0\r\n\r\n";

/// Before the trailers of a chunked body, and behind them.
pub(crate) const LAST_SIZE: &[u8] = b"0\r\n";
pub(crate) const END_OF_TRAILERS: &[u8] = b"\r\n";

/// All trailers of a message.
const MAX_TRAILERS: usize = 8 * 1024;

/// Appends a line to the trailers of a message with these fields, whose `Trailer` must list its name; why not, if not.
#[cold]
pub(crate) fn append_trailer(
    trailers: &mut Vec<u8>,
    headers: Option<&HeaderMap>,
    name: &HeaderName,
    value: &HeaderValue,
) -> Result<(), String> {
    let listed = headers
        .iter()
        .flat_map(|headers| headers.get_all(header::TRAILER));
    let is_listed = listed
        .flat_map(|value| value.as_bytes().split(|&byte| byte == b','))
        .any(|item| {
            item.trim_ascii()
                .eq_ignore_ascii_case(name.as_str().as_bytes())
        });
    if !is_listed {
        return Err(format!("the Trailer field does not list {name}"));
    }
    append_any_trailer(trailers, name, value)
}

/// Appends a trailer that need not be announced.
pub(crate) fn append_any_trailer(
    trailers: &mut Vec<u8>,
    name: &HeaderName,
    value: &HeaderValue,
) -> Result<(), String> {
    if FRAMES.contains(name) {
        return Err(format!("{name} cannot be a trailer"));
    }
    if trailers.len() + name.as_str().len() + value.len() > MAX_TRAILERS {
        return Err(format!("trailers are longer than {MAX_TRAILERS} bytes"));
    }
    write_field(trailers, name, value);
    Ok(())
}

/// Fields that say how a message, or what it carries, is to be read: behind it they come too late (RFC 9110, 6.5.1).
const FRAMES: [HeaderName; 14] = [
    header::TRANSFER_ENCODING,
    header::CONTENT_LENGTH,
    header::CONTENT_ENCODING,
    header::CONTENT_TYPE,
    header::CONTENT_RANGE,
    header::TRAILER,
    header::HOST,
    header::CONNECTION,
    header::UPGRADE,
    header::TE,
    header::DATE,
    header::LOCATION,
    header::SET_COOKIE,
    header::WWW_AUTHENTICATE,
];

/// The last chunk of what has been collected: more data can be added to it, as its size has room for that.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Chunk {
    start: usize,
    end: usize,
}

impl Chunk {
    /// Appends data of some length to the chunk that `out` ends with, or in one of its own.
    ///
    /// # Panics
    /// If the data is longer than [`Chunk::MOST`].
    pub(crate) fn append(former: Option<Self>, out: &mut Vec<u8>, data: &[u8]) -> Self {
        let fits = |chunk: &Self| {
            chunk.end == out.len() && chunk.end - chunk.start + data.len() <= Self::MOST
        };
        let start = match former.filter(fits) {
            Some(former) => {
                out.truncate(out.len() - 2);
                former.start
            }
            None => {
                out.extend_from_slice(b"0000\r\n");
                out.len() - 6
            }
        };
        out.extend_from_slice(data);
        let size = out.len() - start - 6;
        let digit = |shift: u32| b"0123456789abcdef"[(size >> shift) & 0xf];
        out[start..start + 4].copy_from_slice(&[12, 8, 4, 0].map(digit));
        out.extend_from_slice(b"\r\n");
        Self {
            start,
            end: out.len(),
        }
    }

    /// Whether `out` still ends with it.
    pub(crate) fn is_last_of(&self, out: &[u8]) -> bool {
        self.end == out.len()
    }

    /// Bytes of one, less than its size can say.
    pub(crate) const MOST: usize = 0xff00;
}

/// Asks the client to go on with its body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    #[test]
    fn lengths_are_written_as_usual() {
        let around = |power: u64| [power - 1, power, power + 1];
        let ends = (0..20)
            .map(|exponent| 10_u64.pow(exponent))
            .flat_map(around);
        let mut head = Head {
            status: StatusCode::OK,
            content_type: Some(&JSON),
            extra: Extra::NONE,
            ending: Ending::Length(0),
            connection: None,
        };
        for length in ends.chain(0..12_000).chain([u64::MAX]) {
            head.ending = Ending::Length(length);
            if length < UsualHead::LONGEST {
                assert_eq!(usual(length, None), text(&head));
            }
            assert_eq!(
                text(&head),
                format!(
                    "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n"
                )
            );
        }
    }

    fn usual(length: u64, id: Option<&Id>) -> String {
        let mut out = Vec::new();
        let usual = UsualHead {
            content_type: &JSON,
            length,
            id,
        };
        usual.write(&mut out);
        String::from_utf8(out).unwrap()
    }

    fn text(head: &Head<'_>) -> String {
        let mut out = Vec::new();
        write_head(&mut out, head);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn a_head_has_status_fields_and_an_empty_line() {
        let mut headers = HeaderMap::new();
        headers.insert("x-a", HeaderValue::from_static("b"));
        headers.insert("content-length", HeaderValue::from_static("999"));
        let id = Id::acceptable("7").unwrap();
        let head = Head {
            status: StatusCode::NOT_FOUND,
            content_type: Some(&JSON),
            extra: Extra {
                map: Some(&headers),
                id: Some(&id),
            },
            ending: Ending::Length(3),
            connection: Some("close"),
        };
        assert_eq!(
            text(&head),
            "HTTP/1.1 404 Not Found\r\ncontent-type: application/json\r\ncontent-length: 3\r\n\
             connection: close\r\nx-a: b\r\nx-request-id: 7\r\n"
        );
    }

    #[test]
    fn the_usual_head_is_the_same_as_any_other() {
        let mut head = Head {
            status: StatusCode::OK,
            content_type: Some(&TEXT),
            extra: Extra::NONE,
            ending: Ending::Length(0),
            connection: None,
        };
        let usual = text(&head);
        assert_eq!(
            usual,
            "HTTP/1.1 200 OK\r\ncontent-type: text/plain; charset=utf-8\r\ncontent-length: 0\r\n"
        );
        let id = Id::fresh();
        for id in [None, Some(&id)] {
            head.content_type = Some(&JSON);
            head.extra.id = id;
            assert_eq!(self::usual(0, id), text(&head));
        }
        head.content_type = Some(&TEXT);
        head.extra.id = None;
        head.status = StatusCode::CREATED;
        assert_eq!(text(&head), usual.replace("200 OK", "201 Created"));
    }

    #[test]
    fn unknown_statuses_have_an_empty_reason() {
        let head = Head {
            status: StatusCode::from_u16(799).unwrap(),
            content_type: None,
            extra: Extra::NONE,
            ending: Ending::NoBody,
            connection: None,
        };
        assert_eq!(text(&head), "HTTP/1.1 799 \r\n");
    }

    #[test]
    fn chunks_carry_their_size_and_none_is_empty() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        write_chunk(&mut out, &[b'x'; 17]);
        assert_eq!(out, [&b"11\r\n"[..], &[b'x'; 17], b"\r\n"].concat());
    }
}
