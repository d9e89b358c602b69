//! Where tokens and field values end, by the bytes that HTTP allows in them (RFC 9110, 5.5 and 5.6.2), and what a length is.

/// Where the first byte from `at` on is that is not of the class.
#[inline]
pub(super) fn run_end(bytes: &[u8], mut at: usize, class: &[bool; 256]) -> usize {
    let is_in = |byte: u8| class[usize::from(byte)];
    while let Some(&[a, b, c, d]) = bytes[at..].first_chunk() {
        if !(is_in(a) & is_in(b) & is_in(c) & is_in(d)) {
            break;
        }
        at += 4;
    }
    while let Some(&byte) = bytes.get(at)
        && is_in(byte)
    {
        at += 1;
    }
    at
}

/// Where the token ends that begins at `at`, if there is one.
#[inline]
pub(super) fn token_end(bytes: &[u8], at: usize) -> usize {
    run_end(bytes, at, &IN_TOKEN)
}

#[inline]
pub(super) fn is_token(byte: u8) -> bool {
    IN_TOKEN[usize::from(byte)]
}

static IN_TOKEN: [bool; 256] = {
    let mut table = [false; 256];
    let mut byte = b'!';
    while byte <= b'~' {
        table[byte as usize] = byte.is_ascii_alphanumeric();
        byte += 1;
    }
    let marks = b"!#$%&'*+-.^_`|~";
    let mut at = 0;
    while at < marks.len() {
        table[marks[at] as usize] = true;
        at += 1;
    }
    table
};

/// Where the first byte from `at` on is that cannot be in a field's value: a control character other than
/// a tab.
#[inline]
pub(super) fn value_end(bytes: &[u8], mut at: usize) -> usize {
    while let Some(eight) = bytes[at..].first_chunk() {
        match controls(u64::from_le_bytes(*eight)) {
            0 => at += 8,
            controls => {
                at += controls.trailing_zeros() as usize / 8;
                if bytes[at] != b'\t' {
                    return at;
                }
                at += 1;
            }
        }
    }
    while let Some(&byte) = bytes.get(at)
        && is_text(byte)
    {
        at += 1;
    }
    at
}

#[inline]
pub(super) fn is_text(byte: u8) -> bool {
    byte == b'\t' || (byte >= b' ' && byte != 0x7f)
}

/// The high bit of each byte that is a control character, the lowest of which is exact: a borrow can mark
/// a byte above another that is marked rightly.
#[inline]
fn controls(eight: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let below_space = eight.wrapping_sub(EACH * 0x20) & !eight;
    let delete = eight ^ (EACH * 0x7f);
    let is_delete = delete.wrapping_sub(EACH) & !delete;
    (below_space | is_delete) & (EACH * 0x80)
}

/// How many digits there are at the start, of the first eight bytes.
#[inline]
pub(super) fn leading_digits(bytes: &[u8]) -> usize {
    match bytes.first_chunk() {
        Some(eight) => others_than_digits(u64::from_le_bytes(*eight)).trailing_zeros() as usize / 8,
        None => bytes
            .iter()
            .take_while(|byte| byte.is_ascii_digit())
            .count(),
    }
}

/// The high bit of each byte that is no digit, the lowest of which is exact: a carry comes from one that is marked
/// rightly.
#[inline]
fn others_than_digits(eight: u64) -> u64 {
    const EACH: u64 = u64::from_le_bytes([1; 8]);
    let value = eight ^ (EACH * u64::from(b'0'));
    (value.wrapping_add(EACH * 0x76) | value) & (EACH * 0x80)
}

/// Digits only: no sign, list, space or overflow.
pub(super) fn parse_length(value: &[u8]) -> Option<u64> {
    if value.is_empty() || value.len() > 19 || !value.iter().all(u8::is_ascii_digit) {
        return None;
    }
    Some(
        value
            .iter()
            .fold(0, |length, digit| length * 10 + u64::from(digit - b'0')),
    )
}

#[cfg(test)]
mod tests {
    use proptest::{collection::vec, prelude::*};

    use super::*;

    proptest! {
        #[test]
        fn a_value_ends_at_the_first_control_character(
            bytes in vec(prop_oneof![any::<u8>(), b' '..=b'~', Just(b'\t')], 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            let end = bytes[at..].iter().position(|&byte| !is_text(byte));
            prop_assert_eq!(value_end(&bytes, at), end.map_or(bytes.len(), |end| at + end));
        }
    }

    #[test]
    fn each_byte_in_each_place_of_a_word_is_told_apart() {
        for byte in 0..=u8::MAX {
            for place in 0..8 {
                for others in [b' ', b'~', 0xff, 0x80, b'\t', b'0', b'9'] {
                    let mut eight = [others; 8];
                    eight[place] = byte;
                    let digits = eight.iter().take_while(|byte| byte.is_ascii_digit());
                    assert_eq!(leading_digits(&eight), digits.count(), "{eight:?}");
                    let short = &eight[..7];
                    let digits = short.iter().take_while(|byte| byte.is_ascii_digit());
                    assert_eq!(leading_digits(short), digits.count(), "{short:?}");
                    let first = eight.iter().position(|byte| byte.is_ascii_control());
                    let marked = controls(u64::from_le_bytes(eight));
                    let found = (marked != 0).then(|| marked.trailing_zeros() as usize / 8);
                    assert_eq!(found, first, "{eight:?}");
                }
            }
        }
    }

    proptest! {
        #[test]
        fn a_run_ends_at_the_first_byte_of_another_class(
            bytes in vec(prop_oneof![any::<u8>(), b'a'..=b'z'], 0..40),
            at in any::<prop::sample::Index>(),
        ) {
            let at = at.index(bytes.len() + 1);
            let end = bytes[at..].iter().position(|&byte| !is_token(byte));
            prop_assert_eq!(token_end(&bytes, at), end.map_or(bytes.len(), |end| at + end));
        }
    }

    #[test]
    fn tokens_are_those_of_http() {
        for byte in 0..=u8::MAX {
            let name = http::HeaderName::from_bytes(&[byte]);
            assert_eq!(is_token(byte), name.is_ok(), "{byte:#x}");
            assert_eq!(
                token_end(&[b'a', byte], 0),
                if name.is_ok() { 2 } else { 1 }
            );
        }
    }
}
