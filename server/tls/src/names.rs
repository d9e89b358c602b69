//! Names: which one a client has asked for, which a certificate is for, and who its holder is.

use std::cell::RefCell;

use rustls::pki_types::CertificateDer;
use webpki::EndEntityCert;

thread_local! {
    /// A session has rustls choose a certificate by the name, within one call; rustls tells the name to who chooses
    /// only.
    static ASKED: RefCell<Option<Box<str>>> = const { RefCell::new(None) };
}

/// Keeps the name that the client of the handshake in hand asks for.
pub(crate) fn note_asked_name(name: Option<&str>) {
    ASKED.with_borrow_mut(|asked| *asked = name.map(Into::into));
}

/// The name that was noted since this was last called.
pub(crate) fn asked_name() -> Option<Box<str>> {
    ASKED.with_borrow_mut(Option::take)
}

/// The DNS names that a certificate is for, as they stand in it.
pub(crate) fn dns_names(certificate: &CertificateDer<'_>) -> Result<Vec<String>, webpki::Error> {
    let certificate = EndEntityCert::try_from(certificate)?;
    let names = certificate.valid_dns_names();
    Ok(names.map(str::to_ascii_lowercase).collect())
}

/// The URIs that a certificate is for, SPIFFE IDs for example.
pub(crate) fn uris(certificate: &CertificateDer<'_>) -> Vec<String> {
    let certificate = EndEntityCert::try_from(certificate);
    certificate.map_or_else(
        |_| Vec::new(),
        |certificate| certificate.valid_uri_names().map(str::to_owned).collect(),
    )
}

/// The common name of a certificate's subject (X.520), which is what names a client that has neither host nor URI.
pub(crate) fn common_name(certificate: &CertificateDer<'_>) -> Option<String> {
    let certificate = EndEntityCert::try_from(certificate).ok()?;
    // The contents of its sequence of sets of pairs of type and value.
    let mut subject = Der(certificate.subject());
    let mut found = None;
    while let Some((_, set)) = subject.next() {
        let mut set = Der(set);
        while let Some((_, pair)) = set.next() {
            let mut pair = Der(pair);
            let (_, kind) = pair.next()?;
            let (tag, value) = pair.next()?;
            if kind == COMMON_NAME {
                found = text(tag, value);
            }
        }
    }
    found
}

/// The object identifier 2.5.4.3.
const COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];

fn text(tag: u8, value: &[u8]) -> Option<String> {
    const UTF8: u8 = 0x0c;
    const PRINTABLE: u8 = 0x13;
    const IA5: u8 = 0x16;
    const BMP: u8 = 0x1e;
    match tag {
        UTF8 => String::from_utf8(value.to_vec()).ok(),
        PRINTABLE | IA5 if value.is_ascii() => String::from_utf8(value.to_vec()).ok(),
        BMP if value.len().is_multiple_of(2) => {
            let units = value.chunks_exact(2);
            let units: Vec<u16> = units
                .map(|pair| u16::from_be_bytes([pair[0], pair[1]]))
                .collect();
            String::from_utf16(&units).ok()
        }
        _ => None,
    }
}

/// Elements of the distinguished encoding rules (X.690), one after the other; ends at what is malformed.
struct Der<'a>(&'a [u8]);

impl<'a> Der<'a> {
    fn next(&mut self) -> Option<(u8, &'a [u8])> {
        let (&tag, rest) = self.0.split_first()?;
        let (&length, mut rest) = rest.split_first()?;
        let length = match length {
            0..=0x7f => usize::from(length),
            0x81 | 0x82 => {
                let (bytes, behind) = rest.split_at_checked(usize::from(length - 0x80))?;
                rest = behind;
                bytes
                    .iter()
                    .fold(0, |sum, &byte| sum << 8 | usize::from(byte))
            }
            _ => return None,
        };
        let (value, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some((tag, value))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_end_at_what_is_malformed() {
        let mut long = vec![0x0c, 0x81, 200];
        long.extend([b'x'; 200]);
        let whole = [&[0x13, 1, b'a'][..], &long].concat();
        let mut elements = Der(&whole);
        assert_eq!(elements.next(), Some((0x13, &b"a"[..])));
        assert_eq!(
            elements.next().map(|(tag, value)| (tag, value.len())),
            Some((0x0c, 200))
        );
        assert_eq!(elements.next(), None);
        for cut in 0..whole.len() {
            let mut elements = Der(&whole[..cut]);
            while elements.next().is_some() {}
        }
        assert_eq!(Der(&[0x0c, 0x84, 0xff, 0xff, 0xff, 0xff, 0]).next(), None);
    }

    #[test]
    fn names_may_be_of_each_kind_of_text() {
        assert_eq!(text(0x0c, "Jürgen".as_bytes()).as_deref(), Some("Jürgen"));
        assert_eq!(text(0x13, b"worker 7").as_deref(), Some("worker 7"));
        assert_eq!(text(0x1e, &[0, b'a', 0, b'b']).as_deref(), Some("ab"));
        assert_eq!(text(0x13, &[0xff]), None);
        assert_eq!(text(0x1e, &[0]), None);
    }
}
