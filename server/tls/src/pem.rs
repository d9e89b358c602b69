//! Certificates and keys out of PEM files, with the line of what is wrong.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustls::pki_types::{
    CertificateDer, PrivateKeyDer,
    pem::{self, PemObject, SectionKind},
};

use crate::error::{ConfigError, Place};

/// Where PEM comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Source {
    File(PathBuf),
    Memory(&'static str, Vec<u8>),
}

/// What a source had when it was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Text {
    pub(crate) place: Place,
    pub(crate) bytes: Vec<u8>,
}

/// Something, and the line in which it begins.
pub(crate) struct At<T> {
    pub(crate) line: usize,
    pub(crate) item: T,
}

impl Source {
    pub(crate) fn file(path: &Path) -> Self {
        Source::File(path.to_owned())
    }

    /// Reads it, where files can be waited for without holding up others.
    pub(crate) fn read(&self) -> Result<Text, ConfigError> {
        match self {
            Source::Memory(what, bytes) => Ok(Text {
                place: Place::Memory(what),
                bytes: bytes.clone(),
            }),
            Source::File(path) => {
                let place = Place::File(path.clone());
                let longest = MOST_BYTES as u64;
                let read = match fs::metadata(path) {
                    Ok(metadata) if metadata.len() > longest => {
                        let text = "it has more than 16 MiB, which is no certificate or key";
                        Err(std::io::Error::new(std::io::ErrorKind::FileTooLarge, text))
                    }
                    Ok(_) => fs::read(path),
                    Err(error) => Err(error),
                };
                read.map(|bytes| Text {
                    place: place.clone(),
                    bytes,
                })
                .map_err(|source| ConfigError::Read { place, source })
            }
        }
    }
}

const MOST_BYTES: usize = 16 * 1024 * 1024;

impl Text {
    /// All certificates in it, at least one.
    pub(crate) fn certificates(&self) -> Result<Vec<At<CertificateDer<'static>>>, ConfigError> {
        let mut found = Vec::new();
        let mut others = Vec::new();
        for section in self.sections() {
            let At { line, item } = section?;
            match CertificateDer::from_pem(item.0, item.1) {
                Some(item) => found.push(At { line, item }),
                None => others.push(item.0),
            }
        }
        match found.is_empty() {
            true => Err(self.missing("certificate", &others)),
            false => Ok(found),
        }
    }

    /// The first private key in it.
    pub(crate) fn key(&self) -> Result<At<PrivateKeyDer<'static>>, ConfigError> {
        let mut others = Vec::new();
        for section in self.sections() {
            let At { line, item } = section?;
            match PrivateKeyDer::from_pem(item.0, item.1) {
                Some(item) => return Ok(At { line, item }),
                None => others.push(item.0),
            }
        }
        Err(self.missing("private key", &others))
    }

    fn sections(&self) -> impl Iterator<Item = Result<At<(SectionKind, Vec<u8>)>, ConfigError>> {
        let mut sections = pem::SliceIter::<(SectionKind, Vec<u8>)>::new(&self.bytes);
        let mut is_broken = false;
        std::iter::from_fn(move || {
            if is_broken {
                return None;
            }
            let from = self.bytes.len() - sections.remainder().len();
            let section = sections.next()?;
            let to = self.bytes.len() - sections.remainder().len();
            Some(match section {
                // What others there are before it is not decoded, and so the latest beginning is its own.
                Ok(item) => Ok(At {
                    line: self.line_of_last(from, to, b"-----BEGIN "),
                    item,
                }),
                Err(error) => {
                    is_broken = true;
                    Err(self.malformed(from, to, error))
                }
            })
        })
    }

    /// The line, counted from 1, of the last line between two places that begins so.
    fn line_of_last(&self, from: usize, to: usize, begins: &[u8]) -> usize {
        let mut found = self.line(from);
        for (number, line) in lines(&self.bytes[from..to]).enumerate() {
            if line.starts_with(begins) {
                found = self.line(from) + number;
            }
        }
        found
    }

    fn line(&self, offset: usize) -> usize {
        1 + self.bytes[..offset]
            .iter()
            .filter(|&&byte| byte == b'\n')
            .count()
    }

    #[cold]
    fn malformed(&self, from: usize, to: usize, error: pem::Error) -> ConfigError {
        let begins = self.line_of_last(from, to, b"-----BEGIN ");
        let (line, what) = match error {
            pem::Error::MissingSectionEnd { end_marker } => {
                let marker = String::from_utf8_lossy(&end_marker).into_owned();
                (begins, format!("what begins here has no end: {marker:?}"))
            }
            pem::Error::IllegalSectionStart { .. } => (
                begins,
                "a beginning that does not end with five dashes".to_owned(),
            ),
            pem::Error::Base64Decode(_) => {
                let is_base64 =
                    |byte: &u8| byte.is_ascii_alphanumeric() || b"+/= \t\r".contains(byte);
                let start = self.line(from);
                let odd = lines(&self.bytes[from..to])
                    .enumerate()
                    .skip(begins + 1 - start)
                    .find(|(_, line)| !line.starts_with(b"-----") && !line.iter().all(is_base64));
                match odd {
                    Some((number, _)) => (start + number, "this is not base64".to_owned()),
                    None => (
                        begins,
                        "what begins here is not base64 of a whole".to_owned(),
                    ),
                }
            }
            error => (begins, error.to_string()),
        };
        ConfigError::Pem {
            place: self.place.clone(),
            line,
            what,
        }
    }

    #[cold]
    fn missing(&self, wanted: &'static str, others: &[SectionKind]) -> ConfigError {
        let hint = match others {
            [] if self.bytes.is_empty() => ": it is empty".to_owned(),
            [] if self.bytes.starts_with(&[0x30]) => {
                ": it looks like DER, make it PEM by `openssl x509 -inform der` or `openssl pkey -inform der`"
                    .to_owned()
            }
            [] => ", nor anything else in PEM".to_owned(),
            [other, ..] => format!(", but {}", name(*other)),
        };
        ConfigError::Missing {
            place: self.place.clone(),
            wanted,
            hint,
        }
    }
}

fn lines(bytes: &[u8]) -> impl Iterator<Item = &[u8]> {
    bytes.split(|&byte| byte == b'\n')
}

fn name(kind: SectionKind) -> &'static str {
    match kind {
        SectionKind::Certificate => "a certificate",
        SectionKind::PublicKey => "a public key",
        SectionKind::RsaPrivateKey | SectionKind::PrivateKey | SectionKind::EcPrivateKey => {
            "a private key"
        }
        SectionKind::Crl => "a revocation list",
        SectionKind::Csr => "a request for a certificate",
        _ => "something else",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(bytes: &str) -> Text {
        Text {
            place: Place::File("certs/site.pem".into()),
            bytes: bytes.into(),
        }
    }

    fn error<T>(found: Result<T, ConfigError>) -> String {
        match found {
            Ok(_) => panic!("it was found"),
            Err(error) => error.to_string(),
        }
    }

    const CERTIFICATE: &str =
        "-----BEGIN CERTIFICATE-----\nAAAA\nBBBB\n-----END CERTIFICATE-----\n";
    const KEY: &str = "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n";

    #[test]
    fn what_is_found_has_its_line() {
        let two = format!("# Mine\n{CERTIFICATE}\n\n{CERTIFICATE}{KEY}");
        let certificates = text(&two).certificates().ok().unwrap();
        let lines: Vec<usize> = certificates.iter().map(|found| found.line).collect();
        assert_eq!(lines, [2, 8]);
        assert_eq!(text(&two).key().ok().unwrap().line, 12);
    }

    #[test]
    fn what_is_malformed_is_told_with_file_and_line() {
        let cut = CERTIFICATE.replace("-----END CERTIFICATE-----\n", "");
        assert_eq!(
            error(text(&format!("{CERTIFICATE}{cut}")).certificates()),
            "certs/site.pem, line 5: what begins here has no end: \"CERTIFICATE\""
        );
        let odd = CERTIFICATE.replace("BBBB", "BB!B");
        assert_eq!(
            error(text(&format!("{CERTIFICATE}\n{odd}")).certificates()),
            "certs/site.pem, line 8: this is not base64"
        );
        let odd = CERTIFICATE.replace("BBBB", "BBBBB");
        assert_eq!(
            error(text(&odd).certificates()),
            "certs/site.pem, line 1: what begins here is not base64 of a whole"
        );
        let odd = CERTIFICATE.replace("CERTIFICATE-----\nA", "CERTIFICATE---\nA");
        assert_eq!(
            error(text(&odd).certificates()),
            "certs/site.pem, line 1: a beginning that does not end with five dashes"
        );
    }

    #[test]
    fn what_is_missing_is_told_with_what_is_there() {
        assert_eq!(
            error(text(KEY).certificates()),
            "certs/site.pem: there is no certificate in it, but a private key"
        );
        assert_eq!(
            error(text(CERTIFICATE).key()),
            "certs/site.pem: there is no private key in it, but a certificate"
        );
        assert_eq!(
            error(text("").key()),
            "certs/site.pem: there is no private key in it: it is empty"
        );
        assert!(error(text("0\u{1}").certificates()).contains("looks like DER"));
        assert_eq!(
            error(text("hello").certificates()),
            "certs/site.pem: there is no certificate in it, nor anything else in PEM"
        );
    }
}
