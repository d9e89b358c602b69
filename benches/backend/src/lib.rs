//! What the service answers, and where the others are: shared by both.

use std::env;

use serde::{Deserialize, Serialize};

/// An item, as it is told.
#[derive(Debug, Deserialize, PartialEq, Eq, Serialize)]
pub struct Told {
    /// From the database.
    pub name: String,
    /// From the database, in cents.
    pub price: i32,
    /// From the cache.
    pub stock: i32,
    /// From the other service.
    pub quote: String,
}

/// The addresses that a service is given.
#[derive(Clone, Debug)]
pub struct Places {
    /// Where it listens.
    pub own: String,
    /// The database, as a URL.
    pub database: String,
    /// The cache, as a URL.
    pub cache: String,
    /// The other service, as a URL without a path.
    pub quotes: String,
}

impl Places {
    /// By the environment.
    pub fn given() -> Self {
        let of = |name: &str| env::var(name).unwrap_or_else(|_| panic!("{name} is set"));
        Self {
            own: of("OWN"),
            database: of("DATABASE"),
            cache: of("CACHE"),
            quotes: of("QUOTES"),
        }
    }
}

/// Connections to the database and to the cache, each: more than keep two cores busy would queue up behind them.
pub const CONNECTIONS: usize = 8;

/// Threads that run coroutines, or tasks.
pub const WORKERS: usize = 2;

/// What is asked of the database.
pub const QUERY: &str = "SELECT name, price FROM items WHERE id = $1";
