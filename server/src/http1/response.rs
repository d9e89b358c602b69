//! Response heads and chunks, as bytes.

use http::{HeaderMap, StatusCode};

/// How the body of a response ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Ending {
    /// There is none, and no field says so (1xx, 204, 304).
    NoBody,
    Length(u64),
    Chunked,
    /// With the connection, for HTTP/1.0.
    Close,
}

/// A response's head without its fields of its own.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Head<'a> {
    pub(crate) status: StatusCode,
    /// A whole `content-type` line.
    pub(crate) content_type: Option<&'a [u8]>,
    pub(crate) headers: Option<&'a HeaderMap>,
    pub(crate) ending: Ending,
    /// `Connection: close`, or `keep-alive` for HTTP/1.0 peers that asked.
    pub(crate) connection: Option<&'static str>,
    /// A whole `date` line.
    pub(crate) date: &'a [u8],
}

/// Appends the head, empty line included.
#[inline]
pub(crate) fn write_head(out: &mut Vec<u8>, head: &Head<'_>) {
    match head.status {
        StatusCode::OK => out.extend_from_slice(b"HTTP/1.1 200 OK\r\n"),
        status => write_status(out, status),
    }
    if let Some(content_type) = head.content_type {
        out.extend_from_slice(content_type);
    }
    match head.ending {
        Ending::Length(length) => {
            field(
                out,
                b"content-length: ",
                itoa::Buffer::new().format(length).as_bytes(),
            );
        }
        Ending::Chunked => out.extend_from_slice(b"transfer-encoding: chunked\r\n"),
        Ending::NoBody | Ending::Close => {}
    }
    if let Some(connection) = head.connection {
        field(out, b"connection: ", connection.as_bytes());
    }
    if let Some(headers) = head.headers {
        write_fields(out, headers);
    }
    out.extend_from_slice(head.date);
    out.extend_from_slice(b"\r\n");
}

/// The fields of the handler's own; those that frame the message are ours to write.
#[inline(never)]
fn write_fields(out: &mut Vec<u8>, headers: &HeaderMap) {
    use http::header::{CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING};
    for (name, value) in headers {
        if [CONNECTION, CONTENT_LENGTH, DATE, TRANSFER_ENCODING].contains(name) {
            continue;
        }
        out.extend_from_slice(name.as_str().as_bytes());
        field(out, b": ", value.as_bytes());
    }
}

#[inline]
fn field(out: &mut Vec<u8>, name: &[u8], value: &[u8]) {
    out.extend_from_slice(name);
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

#[inline(never)]
fn write_status(out: &mut Vec<u8>, status: StatusCode) {
    out.extend_from_slice(b"HTTP/1.1 ");
    out.extend_from_slice(status.as_str().as_bytes());
    out.push(b' ');
    out.extend_from_slice(status.canonical_reason().unwrap_or("").as_bytes());
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

/// Asks the client to go on with its body.
pub(crate) const CONTINUE: &[u8] = b"HTTP/1.1 100 Continue\r\n\r\n";

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

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
        let head = Head {
            status: StatusCode::NOT_FOUND,
            content_type: Some(b"content-type: text/plain\r\n"),
            headers: Some(&headers),
            ending: Ending::Length(3),
            connection: Some("close"),
            date: b"date: now\r\n",
        };
        assert_eq!(
            text(&head),
            "HTTP/1.1 404 Not Found\r\ncontent-type: text/plain\r\ncontent-length: 3\r\n\
             connection: close\r\nx-a: b\r\ndate: now\r\n\r\n"
        );
    }

    #[test]
    fn unknown_statuses_have_an_empty_reason() {
        let head = Head {
            status: StatusCode::from_u16(799).unwrap(),
            content_type: None,
            headers: None,
            ending: Ending::NoBody,
            connection: None,
            date: b"date: now\r\n",
        };
        assert_eq!(text(&head), "HTTP/1.1 799 \r\ndate: now\r\n\r\n");
    }

    #[test]
    fn chunks_carry_their_size_and_none_is_empty() {
        let mut out = Vec::new();
        write_chunk(&mut out, b"");
        write_chunk(&mut out, &[b'x'; 17]);
        assert_eq!(out, [&b"11\r\n"[..], &[b'x'; 17], b"\r\n"].concat());
    }
}
