//! The classic server models, side by side: small real programs that all do the same work.
//!
//! Each file under `models` is one model, to be read from top to bottom. What is not the model, the protocol and the
//! buffers, is in [`work`]; where it serves is in [`site`]; and [`backends`] is the process that they ask. To try one:
//!
//! ```text
//! cargo run --release -p maniple-models -- thread
//! curl http://127.0.0.1:8080/aggregate/7
//! ```
//!
//! These programs show a model, not all that a server in production needs: no TLS, no logs, no graceful end, and
//! what waits for events does not cut connections that stay silent.

pub mod backends;
pub mod drawing;
pub mod fork;
pub mod models;
pub mod site;
pub mod work;

pub use models::{Client, MODELS, Model, Service, find};
pub use site::Site;
