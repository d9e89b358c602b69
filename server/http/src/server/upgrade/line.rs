//! What ends a connection that was handed over from elsewhere than its halves.

use std::{
    fmt,
    sync::{Arc, Weak},
};

use maniple::{cancel::CancelToken, net::Shutdown};

use super::{Shared, UpgradedReader, UpgradedWriter};

/// A connection as those see it who may end it, and do not keep it open.
#[derive(Clone)]
pub(crate) struct Line(Weak<Shared>);

impl Line {
    /// Ends both directions, and with that the waits of both halves.
    pub(crate) fn cut(&self) {
        if let Some(shared) = self.0.upgrade() {
            // An error says that the peer is gone already.
            let _ = shared.connection.transport.shutdown(Shutdown::Both);
        }
    }
}

impl fmt::Debug for Line {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Line")
    }
}

impl UpgradedReader {
    /// Cancelled when the server begins to drain.
    pub(crate) fn drain_token(&self) -> CancelToken {
        self.shared.drain.clone()
    }
}

impl UpgradedWriter {
    /// By which to end the connection from elsewhere.
    pub(crate) fn line(&self) -> Line {
        Line(Arc::downgrade(&self.shared))
    }
}
