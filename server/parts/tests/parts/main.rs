//! The reusable parts of servers keep their promises: the worker pool, the hub, the actor, and what is around calls.

mod actor;
mod chat;
mod harm;
mod hub;
mod pool;
mod resilience;
