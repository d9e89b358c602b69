//! Who signs, for engines that speak TLS: certificates of the tests' own.

use std::{fs, path::Path};

use maniple_tls::{ClientBuilder, ClientConfig};
use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair,
};

pub struct Authority {
    issuer: Issuer<'static, KeyPair>,
    pub pem: String,
}

impl Authority {
    pub fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        let pem = params.self_signed(&key).unwrap().pem();
        Self {
            issuer: Issuer::new(params, key),
            pem,
        }
    }

    /// A certificate for this machine's loopback address, and its key.
    pub fn sign(&self, name: &str) -> (String, String) {
        let mut params = CertificateParams::new(vec!["127.0.0.1".to_owned()]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        // An engine can be the client of another, or of itself.
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        (signed.pem(), key.serialize_pem())
    }

    /// Writes `ca.pem`, and a certificate with its key as `NAME.pem` and `NAME-key.pem`.
    pub fn write(&self, folder: &Path, name: &str) {
        let (chain, key) = self.sign(name);
        for (file, text) in [
            ("ca.pem".to_owned(), &self.pem),
            (format!("{name}.pem"), &chain),
            (format!("{name}-key.pem"), &key),
        ] {
            fs::write(folder.join(file), text).unwrap();
        }
    }

    /// Who believes it.
    pub fn client(&self) -> ClientBuilder {
        ClientConfig::builder().roots_pem(self.pem.clone())
    }
}
