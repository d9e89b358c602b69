//! How many calls at a time are good for what answers them, found out by how long they take.
//!
//! [`Controller`] decides it; it reads no clock, and starts and stops nothing. `maniple_server::middleware::AdaptiveLimit` is built
//! on it for requests that come, and [`endpoints::Builder::adaptive_limit`](crate::endpoints::Builder::adaptive_limit) for calls that
//! go to each of several servers.

mod controller;
#[cfg(test)]
mod simulation;

pub use controller::{Bounds, Controller, Outcome, Sample};
