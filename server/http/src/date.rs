//! The `Date` field, formatted once a second on each worker.

use std::{
    cell::Cell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::http1::response::DateLine;

thread_local! {
    static CACHED: Cell<Option<(Instant, DateLine)>> = const { Cell::new(None) };
}

/// The field line with the current time (RFC 9110, 5.6.7), as of the worker's recent clock, and the head's end.
#[inline]
pub(crate) fn now() -> DateLine {
    let recent = maniple::time::recent();
    match CACHED.get() {
        Some((valid_until, text)) if recent < valid_until => text,
        _ => refresh(recent),
    }
}

#[cold]
fn refresh(recent: Instant) -> DateLine {
    let now = SystemTime::now();
    let text = format!("date: {}\r\n\r\n", httpdate::fmt_http_date(now));
    let mut bytes: DateLine = [b' '; _];
    let length = bytes.len();
    bytes.copy_from_slice(&text.as_bytes()[..length]);
    let into_second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let left = Duration::from_secs(1) - Duration::from_nanos(into_second.into());
    CACHED.set(Some((recent + left, bytes)));
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_http_date_of_now() {
        let line = String::from_utf8(now().to_vec()).unwrap();
        let text = line
            .strip_prefix("date: ")
            .and_then(|rest| rest.strip_suffix("\r\n\r\n"));
        let then = httpdate::parse_http_date(text.unwrap()).unwrap();
        let off = SystemTime::now().duration_since(then).unwrap();
        assert!(off < Duration::from_secs(5), "{off:?}");
        assert_eq!(now(), now());
    }
}
