//! What is said to a client, as bytes.

use std::io::Write;

/// An answer that is not yet bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The status code of HTTP.
    pub status: u16,
    /// JSON where the status is 200, otherwise a line of text.
    pub body: String,
}

impl Answer {
    /// 200, with JSON.
    pub fn ok(body: String) -> Self {
        Self { status: 200, body }
    }

    /// Another status, and why.
    pub fn refusal(status: u16, why: &str) -> Self {
        Self {
            status,
            body: format!("{why}\n"),
        }
    }

    /// Appends the answer to `out`, as HTTP/1.1.
    pub fn write_to(&self, closes: bool, out: &mut Vec<u8>) {
        let Self { status, body } = self;
        let kind = if *status == 200 {
            "application/json"
        } else {
            "text/plain"
        };
        let connection = if closes { "connection: close\r\n" } else { "" };
        write!(
            out,
            "HTTP/1.1 {status} {}\r\ncontent-type: {kind}\r\ncontent-length: {}\r\n{connection}\r\n{body}",
            reason(*status),
            body.len(),
        )
        .expect("writing to a Vec does not fail");
    }
}

fn reason(status: u16) -> &'static str {
    match status {
        200 => "OK",
        400 => "Bad Request",
        404 => "Not Found",
        405 => "Method Not Allowed",
        431 => "Request Header Fields Too Large",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        _ => "Error",
    }
}
