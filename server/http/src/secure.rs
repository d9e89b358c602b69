//! HTTPS: a server that speaks TLS, what its handlers learn of it, and a client that speaks it.

use std::io;

use maniple::net::ToSocketAddrs;
use maniple_tls::{ClientConfig, Info, ServerConfig};

use crate::{
    client,
    request::Request,
    server::{Builder, Server},
    transport::{ClientTls, Listener},
};

impl Builder {
    /// Listens on the address, and speaks TLS there: HTTPS. Other listeners do so by [`Listener::tls`].
    ///
    /// A connection shakes hands in its own coroutine, within the time and the bound of the settings, and its first
    /// request has its time besides. Who comes with plain HTTP is answered with 400 in plain HTTP.
    ///
    /// # Errors
    /// Those of [`Builder::bind`].
    ///
    /// # Examples
    /// ```no_run
    /// use std::time::Duration;
    /// use maniple_server::{Request, Router, Server, tls};
    /// # fn main() -> std::io::Result<()> {
    /// maniple::run(|| {
    ///     let config = tls::ServerConfig::builder()
    ///         .certificate(tls::Certificate::files("site.crt", "site.key"))
    ///         .alpn(["http/1.1"])
    ///         .build()?;
    ///     let _reloading = config.reload_on_change(Duration::from_secs(60))?;
    ///     let router = Router::new().get("/", |_: &mut Request| "hello");
    ///     Server::builder(router).bind_tls("0.0.0.0:443", config)?.serve().map(drop)
    /// })
    /// # }
    /// ```
    pub fn bind_tls<A: ToSocketAddrs>(
        self,
        address: A,
        config: ServerConfig,
    ) -> io::Result<Server> {
        self.listener(Listener::bind_tls(address, config)?)
    }
}

impl Request {
    /// What the TLS handshake of its connection came to: version, name that was asked for, the client's certificate;
    /// `None` if it came without TLS.
    ///
    /// # Examples
    /// ```
    /// use maniple_server::{Request, StatusCode};
    /// fn whoami(request: &mut Request) -> Result<String, StatusCode> {
    ///     let name = request.tls().and_then(|tls| tls.peer_name());
    ///     name.ok_or(StatusCode::UNAUTHORIZED)
    /// }
    /// ```
    pub fn tls(&self) -> Option<&Info> {
        self.exchange.connection().transport.tls()
    }
}

impl client::Builder {
    /// How `https` URLs are asked: whom to believe, a certificate of the client's own, the time for a handshake. Default: the
    /// roots that [this machine believes](maniple_tls::ClientBuilder::system_roots), and 10 s, which begin when the
    /// connection has been made.
    ///
    /// With the feature `tls`. Over a [connector](client::Builder::connector) `https` URLs are asked by TLS, too, and the server has
    /// to have a certificate for the name in the URL.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_server::{Client, tls::ClientConfig};
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let ours = ClientConfig::builder().roots("company-ca.pem").build()?;
    /// let client = Client::builder().tls(ours).build();
    /// println!("{}", client.get("https://internal.example/")?.text()?);
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.security = ClientTls::by(config);
        self
    }
}
