//! In place of TLS where the feature `tls` is off.

use std::io;

use maniple_grpc::Channel;

/// How TLS is spoken: not at all.
#[derive(Clone)]
pub(crate) enum Tls {}

impl Tls {
    pub(crate) fn usual() -> io::Result<Self> {
        let text = "https to etcd needs the feature `tls`";
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    pub(crate) fn over(&self, _: Channel) -> Channel {
        match *self {}
    }
}
