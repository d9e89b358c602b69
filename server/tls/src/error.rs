//! What goes wrong with a connection, and with settings: typed, with what and where.

use std::{fmt, io, path::PathBuf, time::Duration};

/// Why a connection failed, or is over.
///
/// Calls return it inside of an [`io::Error`], since a stream is `Read` and `Write`: [`Error::of`] takes it out again.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The handshake was not done in time (kind `TimedOut`).
    #[error("TLS handshake was not done within {0:?}")]
    HandshakeTimeout(Duration),
    /// The handshake failed: no version or cipher in common, a certificate that does not hold, an alert of the peer
    /// (kind `InvalidData`).
    #[error("TLS handshake: {0}")]
    Handshake(#[source] rustls::Error),
    /// The peer closed within the handshake (kind `UnexpectedEof`).
    #[error("connection closed within the TLS handshake")]
    EndedInHandshake,
    /// The client speaks plain HTTP (kind `InvalidData`). A server may answer it in kind, on
    /// [`Stream::transport`](crate::Stream::transport).
    #[error("plain HTTP came to a port for TLS")]
    PlainHttp,
    /// The peer speaks something that is neither TLS nor HTTP (kind `InvalidData`).
    #[error("something that is not TLS came: its first byte is {0:#04x}")]
    NotTls(u8),
    /// After the handshake: a record that cannot be decrypted, an alert of the peer, and the like (kind `InvalidData`).
    #[error("TLS: {0}")]
    Session(#[source] rustls::Error),
    /// The connection ended without `close_notify` (kind `UnexpectedEof`). Somebody on the way may have cut it: what
    /// ends with the connection may not be whole.
    #[error("connection ended without close_notify: what came may have been cut short")]
    Truncated,
    /// This end has said that it writes no more (kind `BrokenPipe`).
    #[error("closed for writing")]
    Closed,
}

impl Error {
    /// What an I/O error of a [`Stream`](crate::Stream) is about, if it is about TLS and not about the transport below.
    ///
    /// # Examples
    /// ```
    /// use maniple_tls::Error;
    /// let error = std::io::Error::from(Error::Truncated);
    /// assert_eq!(error.kind(), std::io::ErrorKind::UnexpectedEof);
    /// assert_eq!(Error::of(&error), Some(&Error::Truncated));
    /// ```
    pub fn of(error: &io::Error) -> Option<&Self> {
        error.get_ref()?.downcast_ref()
    }
}

/// What is wrong with a peer's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum CertificateFault {
    /// It leads to no root that is believed.
    Unknown,
    /// Its time is over.
    Expired,
    /// Its time is still to come.
    NotYetValid,
    /// It is for other names than the one that was asked for.
    WrongName,
    /// It has been revoked.
    Revoked,
    /// Something else, which the error says.
    Other,
}

impl Error {
    /// What is wrong with the peer's certificate, if that is what the handshake failed of.
    pub fn certificate_fault(&self) -> Option<CertificateFault> {
        use rustls::CertificateError as Fault;
        let Error::Handshake(rustls::Error::InvalidCertificate(fault)) = self else {
            return None;
        };
        Some(match fault {
            // Of a root that has the name of one that is believed, and another key.
            Fault::UnknownIssuer | Fault::BadSignature => CertificateFault::Unknown,
            Fault::Expired | Fault::ExpiredContext { .. } => CertificateFault::Expired,
            Fault::NotValidYet | Fault::NotValidYetContext { .. } => CertificateFault::NotYetValid,
            Fault::NotValidForName | Fault::NotValidForNameContext { .. } => {
                CertificateFault::WrongName
            }
            Fault::Revoked => CertificateFault::Revoked,
            _ => CertificateFault::Other,
        })
    }
}

impl From<Error> for io::Error {
    fn from(error: Error) -> Self {
        let kind = match &error {
            Error::HandshakeTimeout(_) => io::ErrorKind::TimedOut,
            Error::EndedInHandshake | Error::Truncated => io::ErrorKind::UnexpectedEof,
            Error::Closed => io::ErrorKind::BrokenPipe,
            Error::Handshake(_) | Error::PlainHttp | Error::NotTls(_) | Error::Session(_) => {
                io::ErrorKind::InvalidData
            }
        };
        io::Error::new(kind, error)
    }
}

/// What is wrong with settings; says in which file, and in which line of it where that is known.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// A file cannot be read.
    #[error("read {place}: {source}")]
    Read {
        /// The file.
        place: Place,
        /// Why.
        source: io::Error,
    },
    /// It is no PEM.
    #[error("{place}, line {line}: {what}")]
    Pem {
        /// Where it was read.
        place: Place,
        /// Counted from 1.
        line: usize,
        /// What is wrong there.
        what: String,
    },
    /// There is nothing in it of what was looked for.
    #[error("{place}: there is no {wanted} in it{hint}")]
    Missing {
        /// Where it was read.
        place: Place,
        /// What was looked for.
        wanted: &'static str,
        /// What is there instead.
        hint: String,
    },
    /// A certificate cannot be understood.
    #[error("{place}, line {line}: the certificate is malformed: {source}")]
    Certificate {
        /// Where it was read.
        place: Place,
        /// Where it begins, counted from 1.
        line: usize,
        /// What is wrong with it.
        source: webpki::Error,
    },
    /// A private key cannot be used: it is malformed, or of a kind that the provider does not know.
    #[error("{place}, line {line}: the private key cannot be used: {source}")]
    Key {
        /// Where it was read.
        place: Place,
        /// Where it begins, counted from 1.
        line: usize,
        /// Why.
        source: rustls::Error,
    },
    /// The key is not the one that the certificate is for.
    #[error("the private key in {key} is not that of the first certificate in {certificate}")]
    Mismatch {
        /// Where the certificate was read.
        certificate: Place,
        /// Where the key was read.
        key: Place,
    },
    /// A server has no certificate.
    #[error("a server needs a certificate: add one with `certificate`")]
    NoCertificate,
    /// A setting is out of its range.
    #[error("{0}")]
    Range(&'static str),
    /// What else there is.
    #[error("{0}")]
    Other(#[from] rustls::Error),
}

impl From<ConfigError> for io::Error {
    fn from(error: ConfigError) -> Self {
        let kind = match &error {
            ConfigError::Read { source, .. } => source.kind(),
            _ => io::ErrorKind::InvalidInput,
        };
        io::Error::new(kind, error)
    }
}

/// Where something was read.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Place {
    /// In a file.
    File(PathBuf),
    /// In bytes that the program handed over; what for.
    Memory(&'static str),
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::File(path) => path.display().fmt(f),
            Place::Memory(what) => f.write_str(what),
        }
    }
}
