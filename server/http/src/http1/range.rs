//! What a client asks for of a body: byte ranges (RFC 9110, 14).

use std::ops::Range;

/// Ranges that are answered in one request at most: more are answered with the whole.
pub(crate) const MOST_RANGES: usize = 16;

/// What is to be sent of a body.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Wanted {
    /// All of it: nothing else was asked for, or not in a way that is answered.
    Whole,
    /// Nothing of what was asked for is there.
    Unsatisfiable,
    /// These ranges, at least one, each of at least one byte, in the order in which they were asked for.
    Parts(Vec<Range<u64>>),
}

/// What the value of a `Range` field asks for of a body of that length.
///
/// The whole is the answer to what is malformed, of another unit, or of an empty body; to more than [`MOST_RANGES`]; and to
/// ranges of which more than two overlap, or that together are longer than the whole, which are attacks or mistakes
/// (RFC 9110, 14.2 and 17.15).
pub(crate) fn wanted(value: &[u8], length: u64) -> Wanted {
    let Some(specs) = specs(value) else {
        return Wanted::Whole;
    };
    if length == 0 {
        return Wanted::Whole;
    }
    let parts: Vec<_> = specs.iter().filter_map(|spec| spec.of(length)).collect();
    if parts.is_empty() {
        return Wanted::Unsatisfiable;
    }
    let overlaps = parts.iter().enumerate().flat_map(|(index, one)| {
        let others = parts[..index].iter();
        others.filter(move |other| one.start < other.end && other.start < one.end)
    });
    let total = parts
        .iter()
        .fold(0_u64, |sum, part| sum.saturating_add(part.end - part.start));
    if overlaps.count() > 1 || (parts.len() > 1 && total > length) {
        return Wanted::Whole;
    }
    Wanted::Parts(parts)
}

/// One of the ranges that are asked for.
#[derive(Clone, Copy, Debug)]
enum Spec {
    /// From the first to the last, both included.
    FromTo(u64, u64),
    /// So many at the end.
    Last(u64),
}

impl Spec {
    fn of(self, length: u64) -> Option<Range<u64>> {
        let range = match self {
            Self::FromTo(first, last) => first..last.saturating_add(1).min(length),
            Self::Last(bytes) => length.saturating_sub(bytes)..length,
        };
        (range.start < range.end).then_some(range)
    }
}

fn specs(value: &[u8]) -> Option<Vec<Spec>> {
    let value = value.trim_ascii();
    let (unit, set) = value.split_at_checked(b"bytes=".len())?;
    if !unit.eq_ignore_ascii_case(b"bytes=") {
        return None;
    }
    let mut specs = Vec::new();
    for one in set.split(|&byte| byte == b',') {
        let one = one.without_blanks();
        // Empty elements of a list mean nothing (RFC 9110, 5.6.1).
        if one.is_empty() {
            continue;
        }
        if specs.len() == MOST_RANGES {
            return None;
        }
        specs.push(spec(one)?);
    }
    (!specs.is_empty()).then_some(specs)
}

fn spec(text: &[u8]) -> Option<Spec> {
    let dash = text.iter().position(|&byte| byte == b'-')?;
    let (first, last) = (&text[..dash], &text[dash + 1..]);
    match (first, last) {
        (b"", b"") => None,
        (b"", last) => number(last).map(Spec::Last),
        (first, b"") => number(first).map(|first| Spec::FromTo(first, u64::MAX)),
        (first, last) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some(Spec::FromTo(first, last))
        }
    }
}

/// A number of any size: one beyond `u64` is beyond any body.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |number, digit| {
        let digit = digit.is_ascii_digit().then(|| u64::from(digit - b'0'))?;
        Some(number.saturating_mul(10).saturating_add(digit))
    })
}

trait WithoutBlanks {
    fn without_blanks(&self) -> &Self;
}

impl WithoutBlanks for [u8] {
    /// Without optional white space, which is blanks and tabs alone.
    fn without_blanks(&self) -> &Self {
        let mut text = self;
        while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = text {
            text = rest;
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    #[allow(clippy::single_range_in_vec_init)]
    fn ranges_are_those_of_the_standard() {
        use Wanted::{Parts, Unsatisfiable, Whole};
        for (value, length, expected) in [
            ("bytes=0-499", 10_000, Parts(vec![0..500])),
            ("bytes=500-999", 10_000, Parts(vec![500..1000])),
            ("bytes=-500", 10_000, Parts(vec![9500..10_000])),
            ("bytes=9500-", 10_000, Parts(vec![9500..10_000])),
            ("bytes=0-0,-1", 10_000, Parts(vec![0..1, 9999..10_000])),
            ("Bytes=0-0 , ,\t2-3", 10, Parts(vec![0..1, 2..4])),
            ("bytes=5-6,0-1", 10, Parts(vec![5..7, 0..2])),
            ("bytes=0-99", 10, Parts(vec![0..10])),
            ("bytes=-99", 10, Parts(vec![0..10])),
            ("bytes=9-9", 10, Parts(vec![9..10])),
            ("bytes=10-", 10, Unsatisfiable),
            ("bytes=10-12", 10, Unsatisfiable),
            ("bytes=-0", 10, Unsatisfiable),
            ("bytes=10-,2-3", 10, Parts(vec![2..4])),
            ("bytes=0-18446744073709551615", 10, Parts(vec![0..10])),
            ("bytes=0-99999999999999999999999", 10, Parts(vec![0..10])),
            ("bytes=99999999999999999999999-", 10, Unsatisfiable),
            ("bytes=-99999999999999999999999", 10, Parts(vec![0..10])),
            ("bytes=0-", u64::MAX, Parts(vec![0..u64::MAX])),
            ("bytes=0-1", 0, Whole),
            ("bytes=-1", 0, Whole),
            ("bytes=3-2", 10, Whole),
            ("bytes=-", 10, Whole),
            ("bytes=", 10, Whole),
            ("bytes=,", 10, Whole),
            ("bytes=a-b", 10, Whole),
            ("bytes=+1-2", 10, Whole),
            ("bytes=1--2", 10, Whole),
            ("bytes=1-2,x", 10, Whole),
            ("bytes 1-2", 10, Whole),
            ("items=1-2", 10, Whole),
            ("", 10, Whole),
        ] {
            assert_eq!(
                wanted(value.as_bytes(), length),
                expected,
                "{value} of {length}"
            );
        }
    }

    #[test]
    fn many_ranges_and_overlapping_ones_are_the_whole() {
        let many = |count: u64| {
            let each = (0..count).map(|n| format!("{}-{}", 2 * n, 2 * n));
            format!("bytes={}", each.collect::<Vec<_>>().join(","))
        };
        let most = MOST_RANGES as u64;
        let Wanted::Parts(parts) = wanted(many(most).as_bytes(), 1000) else {
            panic!("so many are answered");
        };
        assert_eq!(parts.len(), MOST_RANGES);
        assert_eq!(wanted(many(most + 1).as_bytes(), 1000), Wanted::Whole);
        assert_eq!(
            wanted(b"bytes=0-4,3-6", 100),
            Wanted::Parts(vec![0..5, 3..7]),
            "two that overlap"
        );
        assert_eq!(wanted(b"bytes=0-4,3-6,4-9", 100), Wanted::Whole);
        assert_eq!(wanted(b"bytes=0-,0-", 100), Wanted::Whole);
    }
}
