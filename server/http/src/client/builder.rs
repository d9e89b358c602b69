//! Settings of a client, and their defaults.

use std::{io, time::Duration};

use super::{
    pool::{Limits, Pool},
    shared::{Decoding, Shared},
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
    max_redirects: usize,
    pub(crate) decoding: Option<Decoding>,
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
            max_redirects: 0,
            decoding: None,
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

    /// How many redirects are followed for one request. Default: none, and the answer that tells of one is returned.
    /// Beyond that, requests end with [`ClientError::Redirect`](crate::ClientError::Redirect).
    ///
    /// 301, 302, 303, 307 and 308 with a `Location` are followed. 303 is followed by `GET`, or `HEAD` after one; so are 301
    /// and 302 after a `POST`. Any other time method and body stay (RFC 9110, 15.4). An answer that asks for a body again
    /// which was made while it was sent is returned, since that cannot be sent again.
    ///
    /// **Secrets stay with their origin**: to another scheme, host or port go the method, the body with the fields that
    /// describe it, and of the other fields `Accept` and its kin, `Cache-Control`, `Range`, `TE` and `User-Agent`. Not
    /// followed, but an error: from `https` to `http`; with user information; to a place that is no URL; to another
    /// origin where a [`connector`](Self::connector) leads to one server.
    ///
    /// [`ClientResponse::redirected_to`](crate::ClientResponse::redirected_to) is where the answer came from in the end.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::Client;
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let client = Client::builder().max_redirects(5).build();
    /// let page = client.get("http://127.0.0.1:9001/latest")?;
    /// println!("found at {}", page.redirected_to().unwrap_or("the same place"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn max_redirects(mut self, redirects: usize) -> Self {
        self.max_redirects = redirects;
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
            max_redirects: self.max_redirects,
            decoding: self.decoding,
        }
    }
}
