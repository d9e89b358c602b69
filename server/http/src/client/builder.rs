//! Settings of a client, and their defaults.

use std::{io, time::Duration};

use super::{
    pool::{Limits, Pool},
    shared::Shared,
};
use crate::transport::{ClientTls, Connector};

/// Settings of a [`Client`](crate::Client); made by [`Client::builder`](crate::Client::builder).
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct Builder {
    connector: Option<Connector>,
    pub(crate) security: ClientTls,
    connect_timeout: Duration,
    timeout: Option<Duration>,
    idle: Limits,
    max_body_bytes: u64,
}

impl Builder {
    pub(super) fn new() -> Self {
        Self {
            connector: None,
            security: ClientTls::default(),
            connect_timeout: Duration::from_secs(5),
            timeout: None,
            idle: Limits {
                total: 512,
                per_host: 64,
                age: Duration::from_secs(30),
            },
            max_body_bytes: 16 * 1024 * 1024,
        }
    }

    /// Sends all requests there, whatever host their URLs name: to a Unix-domain socket, or to a listener
    /// [in memory](crate::transport::memory). See [`Connector`]. The host of a URL is what the `Host` field says then, and
    /// is not looked up. Default: none, which connects by TCP to the host of the URL.
    ///
    /// # Errors
    /// If it is no address (`InvalidInput`): a path of more than 107 bytes, for instance.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// use std::path::Path;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// // curl --unix-socket /run/hello.sock http://hello/
    /// let client = Client::builder().connector(Path::new("/run/hello.sock"))?.build();
    /// println!("{}", client.get("http://hello/")?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn connector<C>(mut self, connector: C) -> io::Result<Self>
    where
        C: TryInto<Connector, Error = io::Error>,
    {
        self.connector = Some(connector.try_into()?);
        Ok(self)
    }

    /// How long making a connection may take, for each address of the host. Default: 5 s. Zero lets no connection be
    /// made: requests end with [`ClientError::Connect`](crate::ClientError::Connect), of which
    /// [`ClientError::is_timeout`](crate::ClientError::is_timeout) is true.
    pub fn connect_timeout(mut self, timeout: Duration) -> Self {
        self.connect_timeout = timeout;
        self
    }

    /// How long each read or write may wait. Default: no limit but the caller's deadline. With zero, which no answer
    /// can keep to, requests end with [`ClientError::Timeout`](crate::ClientError::Timeout) at once.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = Some(timeout);
        self
    }

    /// Idle connections that are kept for all hosts. Default: 512. Beyond that the one is closed that has been idle for
    /// longest. With 0 none is kept.
    pub fn max_idle(mut self, connections: usize) -> Self {
        self.idle.total = connections;
        self
    }

    /// Idle connections that are kept for each host and port. Default: 64. Beyond that the host's one is closed that has
    /// been idle for longest. With 0 none is kept.
    pub fn max_idle_per_host(mut self, connections: usize) -> Self {
        self.idle.per_host = connections;
        self
    }

    /// How long a connection is kept idle. Default: 30 s, which is less than servers allow. It is closed within a second
    /// after that, whether the client is used or not. With zero none is kept.
    pub fn idle_timeout(mut self, timeout: Duration) -> Self {
        self.idle.age = timeout;
        self
    }

    /// Bytes of a response body that are read into memory. Default: 16 MiB.
    pub fn max_body_bytes(mut self, bytes: u64) -> Self {
        self.max_body_bytes = bytes;
        self
    }

    pub(super) fn into_shared(self) -> Shared {
        Shared {
            pool: Pool::new(self.idle),
            connector: self.connector,
            security: self.security,
            connect_timeout: self.connect_timeout,
            timeout: self.timeout,
            max_body_bytes: self.max_body_bytes,
        }
    }
}
