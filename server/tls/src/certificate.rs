//! A certificate with its key, where both come from, and which one a client gets.

use std::{collections::HashMap, path::Path, sync::Arc};

use rustls::{
    InconsistentKeys,
    crypto::CryptoProvider,
    server::{ClientHello, ResolvesServerCert},
    sign::CertifiedKey,
};

use crate::{
    error::ConfigError,
    names::{dns_names, note_asked_name},
    pem::{At, Source, Text},
};

/// A certificate, those that certify it, and its private key, all PEM.
///
/// # Examples
/// ```no_run
/// use maniple_tls::Certificate;
/// let certificate = Certificate::files("site.crt", "site.key").ocsp_file("site.ocsp");
/// # let _ = certificate;
/// ```
#[derive(Clone, PartialEq, Eq)]
pub struct Certificate {
    chain: Source,
    key: Source,
    ocsp: Option<Source>,
}

impl Certificate {
    /// In files; they may be the same. The certificate for the name itself comes first, then those that lead to a root.
    pub fn files(chain: impl AsRef<Path>, key: impl AsRef<Path>) -> Self {
        Self {
            chain: Source::file(chain.as_ref()),
            key: Source::file(key.as_ref()),
            ocsp: None,
        }
    }

    /// In memory.
    pub fn pem(chain: impl Into<Vec<u8>>, key: impl Into<Vec<u8>>) -> Self {
        Self {
            chain: Source::Memory("the certificate", chain.into()),
            key: Source::Memory("the private key", key.into()),
            ocsp: None,
        }
    }

    /// A file with an OCSP response (DER) to send along, so that clients need not ask whether the certificate is revoked
    /// ("stapling", RFC 6066). Something else renews it; it is read again with the certificate.
    #[must_use]
    pub fn ocsp_file(mut self, path: impl AsRef<Path>) -> Self {
        self.ocsp = Some(Source::file(path.as_ref()));
        self
    }

    /// The certificates, PEM, of one that was made in memory: for a client to believe. Empty for one in files.
    pub fn chain_pem(&self) -> Vec<u8> {
        match &self.chain {
            Source::Memory(_, bytes) => bytes.clone(),
            Source::File(_) => Vec::new(),
        }
    }

    pub(crate) fn read(&self) -> Result<Read, ConfigError> {
        Ok(Read {
            chain: self.chain.read()?,
            key: self.key.read()?,
            ocsp: self.ocsp.as_ref().map(Source::read).transpose()?,
        })
    }
}

impl std::fmt::Debug for Certificate {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // Not the key.
        let mut shown = f.debug_struct("Certificate");
        if let Source::File(path) = &self.chain {
            shown.field("chain", path);
        }
        shown.finish_non_exhaustive()
    }
}

/// A certificate as it was read.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Read {
    chain: Text,
    key: Text,
    ocsp: Option<Text>,
}

impl Read {
    /// Ready to be shown to peers, and the names that it is for.
    pub(crate) fn certify(
        &self,
        provider: &CryptoProvider,
    ) -> Result<(CertifiedKey, Vec<String>), ConfigError> {
        let chain = self.chain.certificates()?;
        let mut names = Vec::new();
        for (index, At { line, item }) in chain.iter().enumerate() {
            let of_this = dns_names(item).map_err(|source| ConfigError::Certificate {
                place: self.chain.place.clone(),
                line: *line,
                source,
            })?;
            if index == 0 {
                names = of_this;
            }
        }
        let chain = chain.into_iter().map(|found| found.item).collect();
        let At { line, item } = self.key.key()?;
        let mut certified =
            CertifiedKey::from_der(chain, item, provider).map_err(|error| match error {
                rustls::Error::InconsistentKeys(InconsistentKeys::KeyMismatch) => {
                    ConfigError::Mismatch {
                        certificate: self.chain.place.clone(),
                        key: self.key.place.clone(),
                    }
                }
                source => ConfigError::Key {
                    place: self.key.place.clone(),
                    line,
                    source,
                },
            })?;
        certified.ocsp = self.ocsp.as_ref().map(|ocsp| ocsp.bytes.clone());
        Ok((certified, names))
    }
}

/// Chooses a server's certificate by the name that the client asks for.
#[derive(Debug)]
pub(crate) struct Choice {
    /// The first is for who asks for no name, or one that no certificate has.
    all: Vec<Arc<CertifiedKey>>,
    by_name: HashMap<String, Vec<usize>>,
    /// By the part behind the first dot.
    by_wildcard: HashMap<String, Vec<usize>>,
    refuses_unknown: bool,
}

impl Choice {
    pub(crate) fn among(all: Vec<(CertifiedKey, Vec<String>)>, refuses_unknown: bool) -> Self {
        let mut choice = Self {
            all: Vec::new(),
            by_name: HashMap::new(),
            by_wildcard: HashMap::new(),
            refuses_unknown,
        };
        for (index, (key, names)) in all.into_iter().enumerate() {
            choice.all.push(Arc::new(key));
            for name in names {
                let of_name = match name.strip_prefix("*.") {
                    Some(parent) => choice.by_wildcard.entry(parent.to_owned()),
                    None => choice.by_name.entry(name),
                };
                of_name.or_default().push(index);
            }
        }
        choice
    }

    fn for_name(&self, name: &str) -> Option<&[usize]> {
        let of_name = self.by_name.get(name).or_else(|| {
            let (_, parent) = name.split_once('.')?;
            self.by_wildcard.get(parent)
        });
        of_name.map(Vec::as_slice)
    }
}

impl ResolvesServerCert for Choice {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        note_asked_name(name.as_deref());
        let of_name = name.as_deref().and_then(|name| self.for_name(name));
        let among = match of_name {
            Some(of_name) => of_name,
            None if self.refuses_unknown => return None,
            None => &[0],
        };
        // Of one with an old and one with a new kind of key, what the client understands.
        let schemes = hello.signature_schemes();
        let suits = among
            .iter()
            .find(|&&index| self.all[index].key.choose_scheme(schemes).is_some());
        suits
            .or(among.first())
            .map(|&index| self.all[index].clone())
    }
}
