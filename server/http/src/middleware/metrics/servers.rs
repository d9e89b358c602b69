//! Numbers of servers: their connections, and handshakes.

use std::{fmt, sync::Arc};

use super::exposition::{Exposition, Kind};

/// What a server tells of itself.
#[derive(Debug, Default)]
pub(crate) struct ServerNumbers {
    /// How many connections are in which state.
    pub(crate) connections: Vec<(&'static str, u64)>,
    /// Connections for which there was no stack.
    pub(crate) refused: u64,
    /// How many handshakes came to what, where it speaks TLS.
    pub(crate) handshakes: Vec<(&'static str, u64)>,
}

/// A server that is asked.
#[derive(Clone)]
pub(super) struct Asked {
    /// Where it listens, which tells it from others.
    pub(super) name: String,
    pub(super) ask: Arc<Ask>,
}

/// Nothing once it is gone.
type Ask = dyn Fn() -> Option<ServerNumbers> + Send + Sync;

impl fmt::Debug for Asked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Asked").field(&self.name).finish()
    }
}

/// Tells the numbers of all that are there.
pub(super) fn tell(out: &mut Exposition, servers: &[Asked]) {
    let asked = servers
        .iter()
        .filter_map(|of| Some((&*of.name, (of.ask)()?)));
    let asked: Vec<_> = asked.collect();
    if asked.is_empty() {
        return;
    }
    let name = "http_server_connections";
    out.begin(name, "Open connections.", Kind::Gauge);
    for (server, numbers) in &asked {
        for (state, count) in &numbers.connections {
            out.sample("", &[("server", server), ("state", state)], count);
        }
    }
    let name = "http_server_connections_refused_total";
    out.begin(name, "Connections without a stack.", Kind::Counter);
    for (server, numbers) in &asked {
        out.sample("", &[("server", server)], numbers.refused);
    }
    if asked
        .iter()
        .all(|(_, numbers)| numbers.handshakes.is_empty())
    {
        return;
    }
    let name = "http_server_tls_handshakes_total";
    out.begin(name, "TLS handshakes.", Kind::Counter);
    for (server, numbers) in &asked {
        for (result, count) in &numbers.handshakes {
            out.sample("", &[("server", server), ("result", result)], count);
        }
    }
}
