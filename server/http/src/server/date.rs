//! The `Date` field, formatted once a second on each worker.

use std::{
    cell::RefCell,
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

use crate::http1::response::DateLine;

thread_local! {
    /// Until when it is right, and the line.
    static CACHED: RefCell<Option<(Instant, DateLine)>> = const { RefCell::new(None) };
}

/// Appends the field line with the current time (RFC 9110, 5.6.7), as of the worker's recent clock, and the empty
/// line: a head's end.
#[inline]
pub(crate) fn end_head(out: &mut Vec<u8>) {
    let recent = maniple::time::coarse_now();
    CACHED.with(|cached| match &mut *cached.borrow_mut() {
        Some((valid_until, line)) if recent < *valid_until => out.extend_from_slice(line),
        outdated => out.extend_from_slice(refresh(outdated, recent)),
    });
}

#[cold]
fn refresh(cached: &mut Option<(Instant, DateLine)>, recent: Instant) -> &DateLine {
    let now = SystemTime::now();
    let text = format!("date: {}\r\n\r\n", httpdate::fmt_http_date(now));
    let mut bytes: DateLine = [b' '; _];
    let length = bytes.len();
    bytes.copy_from_slice(&text.as_bytes()[..length]);
    let into_second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let left = Duration::from_secs(1) - Duration::from_nanos(into_second.into());
    let (_, line) = cached.insert((recent + left, bytes));
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn is_an_http_date_of_now() {
        let now = || {
            let mut line = Vec::new();
            end_head(&mut line);
            line
        };
        let line = String::from_utf8(now()).unwrap();
        let text = line
            .strip_prefix("date: ")
            .and_then(|rest| rest.strip_suffix("\r\n\r\n"));
        let then = httpdate::parse_http_date(text.unwrap()).unwrap();
        let off = SystemTime::now().duration_since(then).unwrap();
        assert!(off < Duration::from_secs(5), "{off:?}");
        assert_eq!(now(), now());
    }
}
