//! In place of TLS where the feature `tls` is off.

use std::io;

use super::{Listener, Transport};

/// How a client speaks TLS: not at all.
#[derive(Clone, Debug, Default)]
pub(crate) struct ClientTls(());

/// Why there is no TLS on a connection of a client's.
#[derive(Debug)]
#[allow(dead_code, reason = "as where the feature is on")]
pub(crate) enum Unsecured {
    Late,
    Refused(io::Error),
    Broken(io::Error),
}

/// Where the handshakes of a listener are counted: there are none.
#[derive(Clone, Debug)]
pub(crate) enum TlsCounts {}

impl TlsCounts {
    pub(crate) fn read(&self) -> [(&'static str, u64); 3] {
        match *self {}
    }
}

impl Listener {
    pub(crate) fn tls_counts(&self) -> Option<TlsCounts> {
        None
    }
}

impl ClientTls {
    /// Why it cannot be spoken.
    pub(crate) fn refusal(&self) -> Option<&'static str> {
        Some("https needs the feature `tls`")
    }

    /// Refuses, if it is called all the same.
    pub(crate) fn secure(&self, _: Transport, _: &str) -> Result<Transport, Unsecured> {
        Err(Unsecured::Refused(io::ErrorKind::Unsupported.into()))
    }
}

#[cfg(feature = "http2")]
impl ClientTls {
    /// Refuses, too.
    pub(crate) fn secure_for_http2(
        &self,
        below: Transport,
        name: &str,
    ) -> Result<Transport, Unsecured> {
        self.secure(below, name)
    }
}

#[cfg(feature = "http2")]
impl Transport {
    /// Whether HTTP/2 was agreed on in the handshake.
    pub(crate) fn speaks_http2(&self) -> bool {
        false
    }
}

pub(crate) fn is_plain_http(_: &io::Error) -> bool {
    false
}
