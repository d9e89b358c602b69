//! Text as a reference to a resource, as `Location` has it (RFC 3986, 4.1).

use http::HeaderValue;
use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};

/// What a reference may not have; browsers encode it where servers send it. A `%` stays, since it most likely is the
/// beginning of what has been encoded before.
const FORBIDDEN: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'<')
    .add(b'>')
    .add(b'\\')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The text with what may not stand there percent-encoded.
pub(crate) fn encoded(text: &str) -> String {
    utf8_percent_encode(text, FORBIDDEN).to_string()
}

/// The same, as a field's value.
pub(crate) fn value(text: &str) -> HeaderValue {
    HeaderValue::try_from(encoded(text)).expect("visible ASCII alone")
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn what_is_no_uri_is_encoded_and_the_rest_stays() {
        for (text, found) in [
            ("/a/b?c=d&e[]=%20#f", "/a/b?c=d&e[]=%20#f"),
            ("/a b", "/a%20b"),
            ("/\u{e4}", "/%C3%A4"),
            ("/\r\nset-cookie: a", "/%0D%0Aset-cookie:%20a"),
            ("http://[::1]:80/{x}", "http://[::1]:80/%7Bx%7D"),
            ("", ""),
        ] {
            assert_eq!(encoded(text), found);
        }
    }

    proptest! {
        #[test]
        fn any_text_becomes_a_value_of_visible_characters(text in ".*") {
            let value = value(&text);
            prop_assert!(value.as_bytes().iter().all(u8::is_ascii_graphic));
        }
    }
}
