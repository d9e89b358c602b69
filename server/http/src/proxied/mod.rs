//! Who the client is where a proxy stands in between: whose word is taken, and what proxies say.

pub(crate) mod forwarded;
pub(crate) mod header;
pub(crate) mod trust;
