//! WebSockets as their clients meet them: frames byte by byte, and clients that others have written.

#![cfg(feature = "websocket")]

#[macro_use]
extern crate maniple_driven;

mod clients;
mod conformance;
#[path = "../driven/mod.rs"]
mod driven;
mod raw;
#[cfg(feature = "tls")]
mod secure;
mod serving;
