//! What the fields of a head say about the message itself: how its body is framed, and what becomes of the connection.

use http::StatusCode;

use super::parts::Framing;
use crate::http1::{
    Reject,
    conversation::persists,
    scan::{parse_length, token_end},
    target::is_host,
};

/// What the fields say about the message itself.
#[derive(Default)]
pub(super) struct Meaning<'b> {
    length: Option<u64>,
    encoding: Option<&'b [u8]>,
    pub(super) host: Option<&'b [u8]>,
    close: bool,
    keep_alive: bool,
    pub(super) expects_continue: bool,
}

impl<'b> Meaning<'b> {
    /// Whether a field may say something about the message whose name is as long.
    #[inline]
    pub(super) fn may_lie_in(name: usize) -> bool {
        const LENGTHS: u32 = 1 << 4 | 1 << 6 | 1 << 10 | 1 << 14 | 1 << 17;
        name < 32 && LENGTHS & 1 << name != 0
    }

    pub(super) fn take_in(&mut self, name: &[u8], value: &'b [u8]) -> Result<(), Reject> {
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
    pub(super) fn conclude(&self, http_11: bool) -> Result<(Framing, bool), Reject> {
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
