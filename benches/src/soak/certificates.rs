//! Two certificates, of which a server has now the one and now the other.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::atomic::{AtomicUsize, Ordering::Relaxed},
};

use anyhow::Result;
use rcgen::{CertifiedKey, generate_simple_self_signed};

/// The name that is in them.
pub(super) const NAME: &str = "localhost";

pub(super) struct Certificates {
    folder: PathBuf,
    /// Chain and key, as PEM.
    pairs: [(String, String); 2],
    exchanged: AtomicUsize,
}

impl Certificates {
    /// Makes two, and writes the first into `folder`.
    pub(super) fn new(folder: &Path) -> Result<Self> {
        let pair = || -> Result<(String, String)> {
            let CertifiedKey { cert, signing_key } =
                generate_simple_self_signed([NAME.to_owned()])?;
            Ok((cert.pem(), signing_key.serialize_pem()))
        };
        let certificates = Self {
            folder: folder.to_owned(),
            pairs: [pair()?, pair()?],
            exchanged: AtomicUsize::new(0),
        };
        certificates.write(0)?;
        Ok(certificates)
    }

    /// Both, for clients to believe.
    pub(super) fn roots(&self) -> String {
        self.pairs.iter().map(|(chain, _)| chain.as_str()).collect()
    }

    /// Writes the other one.
    pub(super) fn exchange(&self) -> Result<()> {
        self.write(self.exchanged.fetch_add(1, Relaxed) + 1)
    }

    /// One file after the other, as operators do it: in between they do not fit, and the server keeps what it has.
    fn write(&self, count: usize) -> Result<()> {
        let (chain, key) = &self.pairs[count % 2];
        for (name, text) in [("chain.pem", chain), ("key.pem", key)] {
            let new = self.folder.join(format!("{name}.new"));
            fs::write(&new, text)?;
            fs::rename(&new, self.folder.join(name))?;
        }
        Ok(())
    }
}
