//! What came to no handler, since the server could not take it for a request.

use std::fmt;

use http::StatusCode;

use crate::transport::Peer;

/// What the server refused before it was a request: what is no HTTP (400), has no end in time (408), or goes beyond a
/// limit of the head (414, 431), or asks for what there is not (501, 505); plain HTTP where TLS is spoken (400), and a
/// connection that is one too many of its peer's (429), both without a line. For
/// [`Middleware::refused`](super::Middleware::refused).
///
/// Of very many connections beyond the limit at a time some are closed without an answer, and are not heard of.
pub struct Refused<'a> {
    peer: &'a Peer,
    status: StatusCode,
    reason: &'static str,
    line: &'a [u8],
}

impl<'a> Refused<'a> {
    /// Of what was received, which may be anything.
    pub(crate) fn new(
        peer: &'a Peer,
        status: StatusCode,
        reason: &'static str,
        received: &'a [u8],
    ) -> Self {
        let received = match received.iter().position(|byte| !b"\r\n".contains(byte)) {
            Some(start) => &received[start..],
            None => &[],
        };
        let first = &received[..received.len().min(LONGEST_LINE)];
        let end = first.iter().position(|byte| b"\r\n".contains(byte));
        Self {
            peer,
            status,
            reason,
            line: &first[..end.unwrap_or(first.len())],
        }
    }

    /// Who sent it.
    pub fn peer(&self) -> &Peer {
        self.peer
    }

    /// What it was answered with.
    pub fn status(&self) -> StatusCode {
        self.status
    }

    /// What is wrong with it: one of few texts.
    pub fn reason(&self) -> &'static str {
        self.reason
    }

    /// Its first line as far as it came, and no more than 1 KiB of it. That may be any bytes: escape them before you show
    /// them to anybody.
    pub fn line(&self) -> &[u8] {
        self.line
    }
}

const LONGEST_LINE: usize = 1024;

impl fmt::Debug for Refused<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Refused")
            .field("peer", self.peer)
            .field("status", &self.status)
            .field("reason", &self.reason)
            .field("line", &self.line.escape_ascii().to_string())
            .finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn its_line_is_the_first_that_has_something_and_is_cut() {
        let line = |received: &[u8]| {
            let refused = Refused::new(&Peer::Memory, StatusCode::BAD_REQUEST, "", received);
            refused.line().to_vec()
        };
        for (received, expected) in [
            ("", ""),
            ("\r\n\r\n", ""),
            ("\r\nGET / HTTP/1.1\r\nA: b\r\n", "GET / HTTP/1.1"),
            ("GET / HT", "GET / HT"),
            ("a\nb", "a"),
        ] {
            assert_eq!(
                line(received.as_bytes()),
                expected.as_bytes(),
                "{received:?}"
            );
        }
        assert_eq!(line(&[b'x'; 5000]), [b'x'; 1024]);
    }
}
