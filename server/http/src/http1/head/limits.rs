//! What a head may use, and the answers to one that uses more.

use http::StatusCode;

use super::parts::Field;
use crate::http1::Reject;

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
    pub(super) fn unsuspicious(&self) -> usize {
        self.head_bytes.min(MOST_NAME_BYTES).min(self.values)
    }
}

/// The most fields that a limit can allow.
pub(crate) const MOST_FIELDS: usize = 256;

/// The most bytes of a field's name, whatever the limit of the head is: a [`http::HeaderName`] holds no more.
const MOST_NAME_BYTES: usize = u16::MAX as usize;

/// The most bytes of a target that a limit can allow: a [`http::Uri`] holds no more.
pub(crate) const MOST_TARGET_BYTES: usize = u16::MAX as usize - 1;

/// Whether a head of that length is within the limits.
#[cold]
pub(super) fn check_sizes(head: &[u8], limits: &Limits, fields: &[Field]) -> Result<(), Reject> {
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

/// Whether an unfinished head may still become acceptable.
pub(super) fn check_partial(bytes: &[u8], limits: &Limits) -> Result<(), Reject> {
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

const TOO_MANY_VALUES: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many values in a header field",
);

pub(super) const TOO_MANY_FIELDS: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "too many header fields",
);

const HEAD_TOO_LARGE: Reject = Reject::new(
    StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
    "header fields too large",
);

pub(super) const LINE_TOO_LONG: Reject =
    Reject::new(StatusCode::URI_TOO_LONG, "request line too long");
