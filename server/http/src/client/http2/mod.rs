//! HTTP/2 of a client: which servers speak it, the links to them, and requests over these.

mod asked;
mod head;
mod links;
mod ways;

pub(crate) use asked::{Asked, Bounds};
pub(crate) use links::{Kept, Known, Links, Origin, WeakLinks};
pub(crate) use ways::Way;

use crate::http2::LinkSettings;

/// The name of their coroutines.
pub(crate) const LINK: &str = "http client link";

/// Whether HTTP/2 is spoken, and how.
#[derive(Clone, Debug)]
pub(crate) struct Http2 {
    /// It is offered in handshakes of TLS.
    pub(super) is_offered: bool,
    /// It is spoken in plain text, and over TLS whatever is agreed on.
    pub(super) is_known: bool,
    pub(super) link: LinkSettings,
}

impl Default for Http2 {
    fn default() -> Self {
        Self {
            is_offered: true,
            is_known: false,
            link: LinkSettings::new().name(LINK),
        }
    }
}
