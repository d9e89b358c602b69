//! A server's settings and their defaults.

use std::{io, time::Duration};

use super::{health::Health, http2::Http2, lookout::Disconnects, service::Timeouts};
use crate::{
    body::BodyLimits,
    http1::{
        chunk::USUAL_OVERHEAD,
        head::{Limits, MOST_FIELDS, MOST_TARGET_BYTES},
    },
    router::Router,
    transport::Listener,
};

/// Settings of a server; made by [`Server::builder`](super::Server::builder).
#[derive(Debug)]
#[must_use = "a builder does nothing until it binds"]
pub struct Builder {
    pub(super) router: Router,
    pub(super) listeners: Vec<Listener>,
    pub(super) limits: Limits,
    pub(super) timeouts: Timeouts,
    pub(super) body_limits: BodyLimits,
    pub(super) disconnects: Disconnects,
    pub(super) max_connections: usize,
    pub(super) max_connections_per_peer: usize,
    pub(super) max_requests: u64,
    pub(super) max_age: Duration,
    pub(super) slowest_answer: u64,
    pub(super) drain_delay: Duration,
    pub(super) drain_idle: Duration,
    pub(super) drain_grace: Duration,
    pub(super) health: Option<Health>,
    pub(super) handle_signals: bool,
    pub(super) http2: Http2,
}

impl Builder {
    pub(super) fn new(router: Router) -> Self {
        Self {
            router,
            listeners: Vec::new(),
            limits: Limits {
                head_bytes: 32 * 1024,
                line_bytes: 8 * 1024,
                fields: 100,
                values: 1_000,
            },
            timeouts: Timeouts {
                header: Duration::from_secs(10),
                idle: Duration::from_secs(60),
            },
            body_limits: BodyLimits {
                length: 2 * 1024 * 1024,
                stall: Duration::from_secs(20),
                interim: true,
                slowest: 240,
                overhead: USUAL_OVERHEAD,
            },
            disconnects: Disconnects::default(),
            max_connections: 1_000_000,
            max_connections_per_peer: usize::MAX,
            max_requests: u64::MAX,
            max_age: Duration::MAX,
            slowest_answer: 240,
            drain_delay: Duration::ZERO,
            drain_idle: Duration::ZERO,
            drain_grace: Duration::from_secs(30),
            health: None,
            handle_signals: false,
            http2: Http2::default(),
        }
    }

    /// How long a request's head may take from its first byte. Default: 10 s. Then 408.
    pub fn header_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.header = timeout;
        self
    }

    /// How long a connection may wait for its next request. Default: 60 s. Then it is closed.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.timeouts.idle = timeout;
        self
    }

    /// How long a body may stall, and a client may take no bytes of an answer. Default: 20 s.
    ///
    /// A client that takes some bytes of its answer in that time goes on, in the long run at [`Builder::min_answer_rate`]; it is
    /// looked at four times in it. One that does not is reset, so that what it has cannot be taken for the whole.
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_limits.stall = timeout;
        self
    }

    /// Bytes of a request's head. Default: 32 KiB. Beyond it 431.
    pub fn max_header_bytes(mut self, bytes: usize) -> Self {
        self.limits.head_bytes = bytes;
        self
    }

    /// Bytes of a request's target. Default: 8 KiB, at most 65,534. Beyond it 414.
    pub fn max_target_bytes(mut self, bytes: usize) -> Self {
        self.limits.line_bytes = bytes;
        self
    }

    /// Header fields of a request. Default: 100, at most 256. Beyond it 431.
    pub fn max_header_fields(mut self, fields: usize) -> Self {
        self.limits.fields = fields;
        self
    }

    /// Values of one header field, parted by commas. Default: 1,000. Beyond it 431.
    pub fn max_header_values(mut self, values: usize) -> Self {
        self.limits.values = values;
        self
    }

    /// Bytes of the extensions of a body's chunks and of its trailers, together. Default: 8 KiB. Beyond it 431.
    pub fn max_trailer_bytes(mut self, bytes: usize) -> Self {
        self.body_limits.overhead = bytes;
        self
    }

    /// Bytes a second that a request's body must come with in the long run, beyond one `body_timeout`. Default: 240. Then
    /// 408. 0 for none.
    pub fn min_body_rate(mut self, bytes_per_second: u64) -> Self {
        self.body_limits.slowest = bytes_per_second;
        self
    }

    /// Bytes a second of an answer that a client must take in the long run, beyond one `body_timeout`: of a body that is made
    /// while it is sent, of each part. Default: 240. Then the connection is reset. 0 for none.
    pub fn min_answer_rate(mut self, bytes_per_second: u64) -> Self {
        self.slowest_answer = bytes_per_second;
        self
    }

    /// Bytes of a request's body, where its [route](crate::Router::max_body_bytes) says nothing else. Default: 2 MiB. Beyond it 413.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.body_limits.length = bytes;
        self
    }

    /// When a client counts as gone, so that the waits of its handler are cut short. Default:
    /// [`Disconnects::Asked`].
    pub fn disconnects(mut self, disconnects: Disconnects) -> Self {
        self.disconnects = disconnects;
        self
    }

    /// Whether answers with a status of 1xx may leave before the final one. Default: yes.
    ///
    /// Without, [`Request::inform`](crate::Request::inform) sends nothing, a client that expects `100 Continue` gets none
    /// and sends its body after a while, and [`Disconnects::Asked`] is as [`Disconnects::Reset`]. For a proxy in front that
    /// takes them for the answer, as nginx 1.22 does, and 1.31 but for 103.
    pub fn interim_responses(mut self, send: bool) -> Self {
        self.body_limits.interim = send;
        self
    }

    /// Connections at a time. Default: 1,000,000. Further ones wait to be accepted.
    pub fn max_connections(mut self, connections: usize) -> Self {
        self.max_connections = connections;
        self
    }

    /// How long the server accepts and serves as before once it has been told to [drain](super::ServerHandle::drain),
    /// while [`Health::ready`] says 503 already. Default: not at all.
    ///
    /// A balancer finds out by its next checks and sends no new connections, before they would be refused. So it is to be
    /// longer than the interval between two checks times the failures that it takes, and one interval more.
    pub fn drain_delay(mut self, delay: Duration) -> Self {
        self.drain_delay = delay;
        self
    }

    /// How long a drain leaves idle connections open for one request more, whose answer says `Connection: close`.
    /// Default: not at all; 1 s at least in a [hand-over](super::ServerHandle::hand_over).
    ///
    /// A client may send its next request in the moment in which the server closes. Most repeat it elsewhere, but not
    /// what changes something, such as POST (RFC 9112, 9.3.1).
    pub fn drain_idle(mut self, time: Duration) -> Self {
        self.drain_idle = time;
        self
    }

    /// Tells that service's state when the server begins to drain. Default: none.
    pub fn health(mut self, health: &Health) -> Self {
        self.health = Some(health.clone());
        self
    }

    /// Connections at a time from one address; of IPv6, from one network of 64 bits. Default: no limit, since all clients behind a
    /// proxy have its address; who is [trusted](crate::transport::Listener::trust) has no limit. Further ones are answered
    /// 429, and closed.
    pub fn max_connections_per_peer(mut self, connections: usize) -> Self {
        self.max_connections_per_peer = connections;
        self
    }

    /// Requests on one connection, after which it is closed; with more if they come together. Default: no limit.
    pub fn max_requests_per_connection(mut self, requests: u64) -> Self {
        self.max_requests = requests;
        self
    }

    /// How old a connection may become: the answer to a request that comes later closes it, so that clients connect anew and a
    /// balancer can spread them. Default: no limit.
    pub fn max_connection_age(mut self, age: Duration) -> Self {
        self.max_age = age;
        self
    }

    /// How long a drain waits for what is in flight. Default: 30 s. Then it is cancelled.
    pub fn drain_grace(mut self, grace: Duration) -> Self {
        self.drain_grace = grace;
        self
    }

    /// Whether SIGTERM and SIGINT drain the server, a second one ending the process at once.
    /// Default: no.
    pub fn handle_signals(mut self, handle: bool) -> Self {
        self.handle_signals = handle;
        self
    }

    /// Settings of HTTP/2, which is spoken with clients that begin with it: over TLS where the handshake agreed to `h2`, and
    /// else by prior knowledge. Default: [`Http2::new`].
    ///
    /// With the feature `http2`. Limits of heads and bodies, timeouts and rates are those of the other settings here.
    #[cfg(feature = "http2")]
    pub fn http2(mut self, settings: Http2) -> Self {
        self.http2 = settings;
        self
    }

    pub(super) fn check(&self) -> io::Result<()> {
        if let Some(unmet) = self.router.unmet_needs().first() {
            return Err(io::Error::new(io::ErrorKind::InvalidInput, unmet.clone()));
        }
        let wrong = if self.limits.fields == 0 || self.limits.fields > MOST_FIELDS {
            format!(
                "max_header_fields is {}, must be from 1 to {MOST_FIELDS}",
                self.limits.fields
            )
        } else if self.limits.head_bytes < 64 {
            "max_header_bytes must be at least 64".to_owned()
        } else if self.limits.line_bytes == 0 || self.limits.line_bytes > MOST_TARGET_BYTES {
            format!(
                "max_target_bytes is {}, must be from 1 to {MOST_TARGET_BYTES}",
                self.limits.line_bytes
            )
        } else if self.max_connections == 0 || self.max_connections_per_peer == 0 {
            "max_connections and max_connections_per_peer must be at least 1".to_owned()
        } else if self.limits.values == 0 || self.max_requests == 0 {
            "max_header_values and max_requests_per_connection must be at least 1".to_owned()
        } else if self.timeouts.header.is_zero()
            || self.timeouts.idle.is_zero()
            || self.body_limits.stall.is_zero()
        {
            "timeouts must be longer than zero".to_owned()
        } else if let Some(complaint) = self.http2.complaint() {
            complaint
        } else {
            return Ok(());
        };
        Err(io::Error::new(io::ErrorKind::InvalidInput, wrong))
    }
}

/// What is longer counts as this, since instants do not reach to the end of all durations.
pub(super) const NEVER: Duration = Duration::from_secs(100 * 365 * 24 * 3600);
