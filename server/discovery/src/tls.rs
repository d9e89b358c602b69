//! TLS to etcd, with the feature `tls`.

use std::io;

use maniple_grpc::Channel;
use maniple_tls::ClientConfig;

/// How TLS is spoken.
#[derive(Clone)]
pub(crate) struct Tls(ClientConfig);

impl Tls {
    pub(crate) fn of(config: &ClientConfig) -> Self {
        Self(config.with_alpn(["h2"]))
    }

    /// As with a server of which nothing is known: by what the machine believes.
    pub(crate) fn usual() -> io::Result<Self> {
        match ClientConfig::builder().system_roots().build() {
            Ok(config) => Ok(Self::of(&config)),
            Err(error) => Err(io::Error::new(io::ErrorKind::InvalidInput, error)),
        }
    }

    pub(crate) fn over(&self, channel: Channel) -> Channel {
        channel.tls(self.0.clone())
    }
}
