//! Lists of servers from etcd, and registration there.
//!
//! [`Etcd::follow`] keeps a set of [`Endpoints`](maniple_parts::endpoints::Endpoints) as the keys under a prefix are;
//! [`Etcd::register`] puts a server there, for as long as it lives. Both go on through what happens to a registry: members that
//! restart or fall silent, a leader that is lost, a history that is compacted, a lease that has run out.
//!
//! ```no_run
//! use maniple_discovery::Etcd;
//! use maniple_parts::endpoints::{Endpoint, Endpoints};
//! use std::time::Duration;
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! maniple::run(|| {
//!     let etcd = Etcd::builder(["10.0.0.1:2379", "10.0.0.2:2379", "10.0.0.3:2379"]).build()?;
//!     // A server of prices says that it is there ...
//!     let place = etcd.register("/prices/", "10.0.1.7:80", Duration::from_secs(10))?;
//!     // ... and who asks for prices knows of it.
//!     let prices = Endpoints::builder("prices").build([] as [Endpoint; 0])?;
//!     let _following = etcd.follow(&prices, "/prices/")?;
//!     let picked = prices.pick()?;
//!     println!("{} is asked", picked.address());
//!     // The first step of a drain.
//!     place.revoke()?;
//!     Ok(())
//! })
//! # }
//! ```
//!
//! It speaks etcd's interface of version 3 by gRPC, as etcd 3.4 and later have it, in plain text or, with the feature `tls`, by
//! TLS.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

mod etcd;
mod follow;
mod list;
mod register;
mod rpc;
#[cfg(feature = "tls")]
mod secure;
#[cfg_attr(not(feature = "tls"), path = "no_tls.rs")]
mod tls;

pub use etcd::{Builder, Etcd};
pub use follow::{FollowStats, Following};
pub use register::{Registration, RegistrationStats};
