//! WebSockets as their clients meet them: frames byte by byte, and clients that others have written.

#![cfg(feature = "websocket")]

mod clients;
mod conformance;
mod raw;
#[cfg(feature = "tls")]
mod secure;
mod serving;
