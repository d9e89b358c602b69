//! Connections of HTTP/2 that are made from here: many requests at a time over each.
//!
//! ```text
//!   caller ──► Link::request ──► SendHalf, ReceiveHalf         each waits as blocking calls do
//!                  ▼                  ▲
//!              streams of h2, which all share
//!                  ▲                  ▼
//!              a coroutine of the connection's own: reads, writes, asks whether the server is there
//! ```
//!
//! With the feature `http2`. For who speaks a protocol of his own over HTTP/2, as gRPC is one. Requests of HTTP are what
//! [`Client`](crate::Client) is for.

mod driving;
mod error;
pub(crate) mod frames;
mod heads;
mod keep_alive;
mod link;
mod load;
mod settings;
mod stream;

pub use error::LinkError;
pub use h2::Reason;
pub use link::Link;
pub use settings::LinkSettings;
pub(crate) use stream::Heard;
pub use stream::{ReceiveHalf, SendHalf};
