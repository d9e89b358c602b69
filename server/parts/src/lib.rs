//! Parts of servers on [`maniple`]: a pool of workers, topics with members, calls that may fail, and servers for a protocol of
//! your own.
//!
//! ```
//! use maniple_parts::pool::{Pool, WhenFull};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
//! maniple::run(|| {
//!     // At most two of these at once, at most eight waiting; a ninth submitter waits too.
//!     let pool = Pool::builder("reports").workers(2).queue(8).when_full(WhenFull::Wait).build()?;
//!     let report = pool.submit(|| "quarterly".len())?;
//!     assert_eq!(report.join()?, 9);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! - [`pool`]: workers that were started ahead, behind a bounded queue.
//! - [`hub`]: topics, members, and what becomes of members that fall behind.
//! - [`adaptive`]: how many calls at a time are good, found out by how long they take.
//! - [`combined`]: calls to several groups of servers as one call.
//! - [`endpoints`]: the servers that calls may go to: which there are, which are fit, which gets the next call.
//! - [`engine`]: where an engine is, such as a broker, and who asks it, with secrets that no log shows.
//! - [`resilience`]: calls that may fail: retries within a budget, circuit breakers, one call for many, divided deadlines.
//! - [`connections`]: a pool of connections, to databases and others.
//! - [`actor`]: servers for a protocol of your own, with one owner of all state.
//!
//! None of them knows HTTP; the server for that is the crate `maniple-server`. Each has its limits, and says
//! what happens beyond them.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod actor;
pub mod adaptive;
pub mod combined;
pub mod connections;
pub mod endpoints;
pub mod engine;
mod enlisted;
pub mod hub;
mod lines;
pub mod pool;
pub mod resilience;
