//! The `Date` field, formatted once a second on each worker.

use std::{
    cell::Cell,
    time::{Duration, Instant, UNIX_EPOCH},
};

use crate::http1::response::DateLine;

thread_local! {
    static LINE: Cell<DateLine> = const { Cell::new([b' '; _]) };
    /// Until when it is right.
    static VALID_UNTIL: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// Appends the field line with the current time (RFC 9110, 5.6.7), as of the worker's recent clock, and the empty
/// line: a head's end. Returns until when that is right.
#[inline(always)]
pub(crate) fn end_head(out: &mut Vec<u8>) -> Instant {
    let recent = maniple::time::coarse_now();
    let (line, until) = match VALID_UNTIL.get() {
        Some(valid_until) if recent < valid_until => (LINE.get(), valid_until),
        _ => refresh(recent),
    };
    out.extend_from_slice(&line);
    until
}

#[cold]
fn refresh(recent: Instant) -> (DateLine, Instant) {
    let now = maniple::time::system_now();
    let text = format!("date: {}\r\n\r\n", httpdate::fmt_http_date(now));
    let mut line: DateLine = [b' '; _];
    let length = line.len();
    line.copy_from_slice(&text.as_bytes()[..length]);
    let into_second = now
        .duration_since(UNIX_EPOCH)
        .map_or(0, |since| since.subsec_nanos());
    let left = Duration::from_secs(1) - Duration::from_nanos(into_second.into());
    let until = recent + left;
    LINE.set(line);
    VALID_UNTIL.set(Some(until));
    (line, until)
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
        let off = maniple::time::system_now().duration_since(then).unwrap();
        assert!(off < Duration::from_secs(5), "{off:?}");
        assert_eq!(now(), now());
    }
}
