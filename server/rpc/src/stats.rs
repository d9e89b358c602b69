//! What connections are like: who is at the other end, and what waits in which queue.

use std::{fmt, fmt::Write, time::Duration};

use crate::{address::Address, link::Link};

/// A connection as it is now.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct ConnectionStats {
    /// What the peer calls itself.
    pub name: String,
    /// The end here and the end there, by which `ss` shows the connection.
    pub local: Address,
    /// The peer's address.
    pub peer: Address,
    /// Calls that are not answered.
    pub calls: u32,
    /// Bytes that wait here for room in the kernel.
    pub unsent: usize,
    /// Bytes that have come and were not read: `Recv-Q` of `ss`.
    pub recv_queue: u64,
    /// Bytes that the peer's kernel has not acknowledged: `Send-Q` of `ss`.
    pub send_queue: usize,
    /// For how long the peer takes nothing of what waits for it, once that is longer than a heartbeat.
    pub stalled: Option<Duration>,
}

impl ConnectionStats {
    pub(crate) fn of(link: &Link, calls: u32) -> Self {
        let (recv_queue, send_queue) = link.queues();
        Self {
            name: link.hello.name.clone(),
            local: link.local.clone(),
            peer: link.peer.clone(),
            calls,
            unsent: link.unsent(),
            recv_queue,
            send_queue,
            stalled: link.stalled(),
        }
    }
}

/// In a line.
impl fmt::Display for ConnectionStats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} {} -> {}: calls {}, Recv-Q {}, Send-Q {}, unsent {}",
            self.name,
            self.local,
            self.peer,
            self.calls,
            self.recv_queue,
            self.send_queue,
            self.unsent
        )?;
        match self.stalled {
            Some(time) => write!(f, ", stalled for {time:.1?}"),
            None => Ok(()),
        }
    }
}

/// Connections in the format that Prometheus reads.
pub(crate) fn exposition(side: &str, connections: &[ConnectionStats]) -> String {
    type Value = fn(&ConnectionStats) -> f64;
    let rows: [(&str, &str, Value); 5] = [
        ("calls", "Calls that are not answered", |each| {
            each.calls.into()
        }),
        (
            "recv_queue_bytes",
            "Bytes that came and were not read",
            |each| each.recv_queue as f64,
        ),
        (
            "send_queue_bytes",
            "Bytes that the peer has not acknowledged",
            |each| each.send_queue as f64,
        ),
        (
            "unsent_bytes",
            "Bytes that wait for room in the kernel",
            |each| each.unsent as f64,
        ),
        (
            "stalled_seconds",
            "How long the peer takes nothing",
            |each| each.stalled.unwrap_or_default().as_secs_f64(),
        ),
    ];
    let mut text = String::new();
    for (name, help, value) in rows {
        // Writing to text does not fail.
        let _ = writeln!(text, "# HELP rpc_{side}_{name} {help}.");
        let _ = writeln!(text, "# TYPE rpc_{side}_{name} gauge");
        for each in connections {
            let peer_name = each.name.replace('\\', "\\\\").replace('"', "\\\"");
            let _ = writeln!(
                text,
                "rpc_{side}_{name}{{peer=\"{}\",name=\"{peer_name}\",local=\"{}\"}} {}",
                each.peer,
                each.local,
                value(each)
            );
        }
    }
    text
}
