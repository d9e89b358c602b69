//! The text of a request's id: new ones are made in place, without memory of their own.

use std::{
    collections::hash_map::RandomState,
    hash::BuildHasher,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicU64, Ordering},
    },
};

use http::{HeaderName, HeaderValue};

/// The field that ids travel in, unless another is chosen.
pub(crate) const FIELD: HeaderName = HeaderName::from_static("x-request-id");

/// An id: 1 to [`MOST`] letters, digits, `-`, `_` or `.`.
#[derive(Clone, Debug)]
pub(crate) enum Id {
    /// Digits.
    Made([u8; 32]),
    /// A client's, or one that somebody keeps.
    Shared(Arc<str>),
}

/// The longest id of a client's that is taken over.
pub(crate) const MOST: usize = 128;

impl Id {
    /// A new one: 64 random bits that are drawn when the program begins, and a counter, in hexadecimal. In
    /// a simulated world both follow from the seed.
    #[inline]
    pub(crate) fn fresh() -> Self {
        static PROCESS: OnceLock<[u8; 16]> = OnceLock::new();
        static COUNT: AtomicU64 = AtomicU64::new(0);
        let [process, count] = match (maniple::sim::random(), maniple::sim::random()) {
            (Some(first), Some(second)) => [hexadecimal(first), hexadecimal(second)],
            _ => [
                *PROCESS.get_or_init(|| hexadecimal(RandomState::new().hash_one(0))),
                hexadecimal(COUNT.fetch_add(1, Ordering::Relaxed)),
            ],
        };
        let mut text = [0; 32];
        text[..16].copy_from_slice(&process);
        text[16..].copy_from_slice(&count);
        Self::Made(text)
    }

    /// A client's, unless it could forge a line of a log.
    pub(crate) fn acceptable(theirs: &str) -> Option<Self> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.".contains(&byte);
        let is_acceptable = (1..=MOST).contains(&theirs.len()) && theirs.bytes().all(is_plain);
        is_acceptable.then(|| Self::Shared(theirs.into()))
    }

    pub(crate) fn text(&self) -> &str {
        match self {
            Self::Made(digits) => str::from_utf8(digits).expect("digits are ASCII"),
            Self::Shared(text) => text,
        }
    }

    #[inline]
    pub(crate) fn bytes(&self) -> &[u8] {
        match self {
            Self::Made(digits) => digits,
            Self::Shared(text) => text.as_bytes(),
        }
    }

    /// The text to keep, which is laid out at the first call.
    pub(crate) fn shared(&mut self) -> Arc<str> {
        if let Self::Made(_) = self {
            *self = Self::Shared(self.text().into());
        }
        match self {
            Self::Shared(text) => text.clone(),
            Self::Made(_) => unreachable!("it was shared above"),
        }
    }

    pub(crate) fn value(&self) -> HeaderValue {
        HeaderValue::from_bytes(self.bytes()).expect("an id is visible ASCII")
    }
}

/// The sixteen digits of a number, all at once: a byte for each half byte, and to each what makes it a digit or a letter.
#[inline]
fn hexadecimal(number: u64) -> [u8; 16] {
    const LOW: u128 = 0x0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f_0f0f;
    const ONES: u128 = 0x0101_0101_0101_0101_0101_0101_0101_0101;
    let mut spread = u128::from(number);
    spread = (spread | (spread << 32)) & 0x0000_0000_ffff_ffff_0000_0000_ffff_ffff;
    spread = (spread | (spread << 16)) & 0x0000_ffff_0000_ffff_0000_ffff_0000_ffff;
    spread = (spread | (spread << 8)) & 0x00ff_00ff_00ff_00ff_00ff_00ff_00ff_00ff;
    spread = (spread | (spread << 4)) & LOW;
    // 10 to 15 reach 16 with 6 more.
    let letters = ((spread + ONES * 6) >> 4) & ONES;
    let text = spread + ONES * u128::from(b'0') + letters * u128::from(b'a' - b'0' - 10);
    text.to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_as_the_library_writes_them() {
        let numbers = [0, 9, 10, 0xff, u64::MAX, 0x0123_4567_89ab_cdef, 1 << 63];
        for number in numbers.into_iter().chain((0..64).map(|bit| 1 << bit)) {
            assert_eq!(hexadecimal(number), format!("{number:016x}").as_bytes());
        }
    }

    #[test]
    fn an_id_is_the_same_text_however_it_is_asked_for() {
        let mut id = Id::fresh();
        let text = id.text().to_owned();
        assert_eq!(id.bytes(), text.as_bytes());
        assert_eq!(id.value(), text.as_str());
        let shared = id.shared();
        assert_eq!(*shared, *text);
        assert!(Arc::ptr_eq(&shared, &id.shared()), "it is laid out once");
        assert_eq!(id.text(), text);
    }
}
