//! What a handshake came to: version, names, the peer's certificate.

use rustls::{CipherSuite, ProtocolVersion, pki_types::CertificateDer};

use crate::names;

/// What a handshake came to.
#[derive(Clone, Debug)]
pub struct Info {
    pub(crate) version: Option<ProtocolVersion>,
    pub(crate) cipher_suite: Option<CipherSuite>,
    pub(crate) alpn: Option<Box<[u8]>>,
    pub(crate) server_name: Option<Box<str>>,
    pub(crate) is_resumed: bool,
    pub(crate) certificates: Box<[CertificateDer<'static>]>,
}

impl Info {
    /// `TLSv1.3` or `TLSv1.2`.
    pub fn version(&self) -> &'static str {
        match self.version {
            Some(ProtocolVersion::TLSv1_3) => "TLSv1.3",
            Some(ProtocolVersion::TLSv1_2) => "TLSv1.2",
            _ => "TLS",
        }
    }

    /// The name of the cipher suite, as in `TLS13_AES_256_GCM_SHA384`.
    pub fn cipher_suite(&self) -> &'static str {
        self.cipher_suite
            .and_then(|suite| suite.as_str())
            .unwrap_or("?")
    }

    /// The protocol that both sides agreed on (ALPN, RFC 7301), `http/1.1` for example; `None` if they did not talk of
    /// it.
    pub fn alpn(&self) -> Option<&[u8]> {
        self.alpn.as_deref()
    }

    /// The name of the server that the client asked for (SNI, RFC 6066), in lower case; `None` if it named none, as with
    /// an address, and on the client's side.
    pub fn server_name(&self) -> Option<&str> {
        self.server_name.as_deref()
    }

    /// Whether a session was resumed.
    pub fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// The peer's certificate and those that it sent along, each DER: empty if it has none. On a server, a client's that
    /// was checked against the roots.
    pub fn peer_certificates(&self) -> &[CertificateDer<'static>] {
        &self.certificates
    }

    /// The common name of the subject of the peer's certificate.
    pub fn peer_name(&self) -> Option<String> {
        names::common_name(self.certificates.first()?)
    }

    /// The DNS names of the peer's certificate, in lower case.
    pub fn peer_dns_names(&self) -> Vec<String> {
        let names = self.certificates.first().map(names::dns_names);
        names.and_then(Result::ok).unwrap_or_default()
    }

    /// The URIs of the peer's certificate: a SPIFFE ID, for example.
    pub fn peer_uris(&self) -> Vec<String> {
        self.certificates
            .first()
            .map(names::uris)
            .unwrap_or_default()
    }
}
