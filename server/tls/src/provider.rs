//! Where the cryptography comes from.

use std::sync::Arc;

use rustls::{crypto::CryptoProvider, server::ProducesTickets};

#[cfg(not(any(feature = "ring", feature = "aws-lc-rs")))]
compile_error!("maniple-tls needs cryptography: the feature `ring` or `aws-lc-rs`");

/// Where the cryptography comes from. The default is `Ring` where its feature is on, which it is unless told otherwise.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum Provider {
    /// `ring`: builds in seconds with a C compiler.
    #[cfg(feature = "ring")]
    #[default]
    Ring,
    /// `aws-lc-rs`: has post-quantum key exchange, and FIPS 140-3 builds.
    #[cfg(feature = "aws-lc-rs")]
    #[cfg_attr(not(feature = "ring"), default)]
    AwsLcRs,
}

impl Provider {
    pub(crate) fn crypto(self) -> Arc<CryptoProvider> {
        Arc::new(match self {
            #[cfg(feature = "ring")]
            Provider::Ring => rustls::crypto::ring::default_provider(),
            #[cfg(feature = "aws-lc-rs")]
            Provider::AwsLcRs => rustls::crypto::aws_lc_rs::default_provider(),
        })
    }

    pub(crate) fn ticketer(self) -> Result<Arc<dyn ProducesTickets>, rustls::Error> {
        match self {
            #[cfg(feature = "ring")]
            Provider::Ring => rustls::crypto::ring::Ticketer::new(),
            #[cfg(feature = "aws-lc-rs")]
            Provider::AwsLcRs => rustls::crypto::aws_lc_rs::Ticketer::new(),
        }
    }
}
