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
//! - [`resilience`]: calls that may fail: retries within a budget, and circuit breakers.
//! - [`actor`]: servers for a protocol of your own, with one owner of all state.
//!
//! None of them knows HTTP; the server for that is the crate `maniple-server`. Each has its limits, and says
//! what happens beyond them.

#![forbid(unsafe_code)]
#![deny(missing_docs)]

pub mod actor;
pub mod hub;
mod lines;
pub mod pool;
pub mod resilience;
