//! Connections to be used again, the latest first.

use std::{collections::HashMap, io, sync::Arc, thread, time::Duration};

use maniple::{sync::Mutex, time::recent};

use super::connection::Connection;

/// Idle connections by host and port.
#[derive(Debug)]
pub(super) struct Pool {
    idle: Mutex<HashMap<Arc<str>, Vec<Connection>>>,
    per_host: usize,
    max_age: Duration,
}

/// Among so many of the latest one is looked for that the caller's thread has used.
const NEAR: usize = 8;

impl Pool {
    pub(super) fn new(per_host: usize, max_age: Duration) -> Self {
        Self {
            idle: Mutex::new(HashMap::new()),
            per_host,
            max_age,
        }
    }

    /// A connection that is still alive: the latest, if possible of those that this thread has used.
    pub(super) fn take(&self, host: &str) -> Option<Connection> {
        let own = thread::current().id();
        loop {
            let connection = {
                let mut idle = self.idle.lock();
                let kept = idle.get_mut(host)?;
                let near = kept.iter().rev().take(NEAR).position(|connection| {
                    connection.kept.is_some_and(|(_, thread)| thread == own)
                });
                let last = kept.len().checked_sub(1)?;
                kept.remove(last - near.unwrap_or(0))
            };
            let young = |since| recent().saturating_duration_since(since) < self.max_age;
            if connection.kept.is_some_and(|(since, _)| young(since)) && is_quiet(&connection) {
                return Some(connection);
            }
        }
    }

    /// Keeps a connection whose last response was read to its end.
    pub(super) fn put(&self, mut connection: Connection) {
        connection.kept = Some((recent(), thread::current().id()));
        let mut idle = self.idle.lock();
        if let Some(kept) = idle.get_mut(&connection.host) {
            if kept.len() < self.per_host {
                kept.push(connection);
            }
        } else if self.per_host > 0 {
            idle.insert(connection.host.clone(), vec![connection]);
        }
    }
}

/// An idle connection has nothing to say: bytes or an end mean that it is of no use.
fn is_quiet(connection: &Connection) -> bool {
    match connection.stream.try_read(&mut [0]) {
        Err(error) => error.kind() == io::ErrorKind::WouldBlock,
        Ok(_) => false,
    }
}
