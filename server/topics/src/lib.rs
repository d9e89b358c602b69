//! Publish and subscribe across processes: the topics of [`maniple_parts::hub`] over a broker that exists, Redis or NATS.
//!
//! ```no_run
//! use maniple_parts::hub::{Lag, RecvError};
//! use maniple_topics::SharedHub;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! maniple::run(|| {
//!     let rooms = SharedHub::redis("rooms", ["127.0.0.1:6379"]).prefix("chat:").build()?;
//!     let mut member = rooms.subscribe("garden", Lag::DropOldest)?;
//!     rooms.publish("garden", *b"hello")?;
//!     loop {
//!         match member.recv() {
//!             Ok(received) => println!("{:?}", received.message),
//!             Err(RecvError::Gap { .. }) => println!("something may be missing here"),
//!             Err(other) => return Err(other.into()),
//!         }
//!     }
//! })
//! # }
//! ```
//!
//! By TLS, with the feature `tls`, and with who asks: `rediss://chat:password@10.0.0.1`, `tls://token@10.0.0.1`.
//!
//! A broker forgets: what is published while a process has no connection is lost for its members. They are told so, once they hear
//! again.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod builder;
mod hub;
mod link;
mod nats;
mod redis;
#[cfg(feature = "tls")]
mod secure;
mod shared;
mod stream;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;
mod wire;

pub use builder::Builder;
pub use hub::{SharedHub, SharedMember};
pub use shared::{Message, SharedStats};
