//! Calls to several groups of servers as one call: to one group of many, or to all parts of a whole.
//!
//! Over [`Endpoints`](crate::endpoints::Endpoints), which are one group each, and
//! [`Parallel`](maniple::group::Parallel), which makes many calls at once. brpc has the same as `SelectiveChannel`,
//! `PartitionChannel` and `DynamicPartitionChannel`.

mod partitions;
mod selective;

pub use partitions::{Partitions, Scheme};
pub use selective::Selective;
