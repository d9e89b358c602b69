//! The reusable parts of servers keep their promises: the worker pool, the hub, the two layers.

mod chat;
mod harm;
mod hub;
mod layers;
mod pool;
