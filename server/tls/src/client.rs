//! A client's settings: whom it believes, and who it is.

use std::{
    io,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use rustls::{
    RootCertStore,
    pki_types::{ServerName, TrustAnchor},
};

use crate::{
    certificate::Certificate, error::ConfigError, pem::Source, provider::Provider,
    server::root_store, session::Session, stream::Stream, transport::Transport,
};

/// A client's settings. Clones share them, and the sessions that are resumed.
///
/// # Examples
/// ```no_run
/// use std::io::Write;
/// use maniple::net::TcpStream;
/// use maniple_tls::ClientConfig;
/// # fn main() -> std::io::Result<()> {
/// let config = ClientConfig::builder().roots("company-ca.pem").build()?;
/// maniple::run(|| {
///     let stream = TcpStream::connect("internal.example:443")?;
///     let mut stream = config.stream(stream, "internal.example")?;
///     stream.write_all(b"hello")
/// })
/// # }
/// ```
#[derive(Clone)]
pub struct ClientConfig {
    config: Arc<rustls::ClientConfig>,
    handshake_timeout: Duration,
}

/// Makes a [`ClientConfig`]; from [`ClientConfig::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ClientBuilder {
    roots: Vec<Source>,
    has_system_roots: bool,
    pub(crate) bundled: Vec<TrustAnchor<'static>>,
    certificate: Option<Certificate>,
    alpn: Vec<Vec<u8>>,
    handshake_timeout: Duration,
    provider: Provider,
}

impl ClientConfig {
    /// Settings with their defaults: no roots yet, no certificate, 10 s for a handshake.
    pub fn builder() -> ClientBuilder {
        ClientBuilder {
            roots: Vec::new(),
            has_system_roots: false,
            bundled: Vec::new(),
            certificate: None,
            alpn: Vec::new(),
            handshake_timeout: Duration::from_secs(10),
            provider: Provider::default(),
        }
    }

    /// The same settings, offering these protocols (ALPN), the best first.
    pub fn with_alpn<P: Into<Vec<u8>>>(&self, protocols: impl IntoIterator<Item = P>) -> Self {
        let mut config = (*self.config).clone();
        config.alpn_protocols = protocols.into_iter().map(Into::into).collect();
        Self {
            config: Arc::new(config),
            handshake_timeout: self.handshake_timeout,
        }
    }

    /// The protocols that are offered (ALPN), the best first; none, if none are.
    pub fn alpn(&self) -> Vec<&[u8]> {
        let offered = self.config.alpn_protocols.iter();
        offered.map(Vec::as_slice).collect()
    }

    /// A connection to that server, to be talked over by TLS; its certificate must be for the name, or for the address.
    /// Nothing waits here: the first call on it, or [`Stream::handshake`], shakes hands.
    ///
    /// # Errors
    /// Kind `InvalidInput` if it is no name and no address.
    pub fn stream<T: Transport>(&self, transport: T, server_name: &str) -> io::Result<Stream<T>> {
        let name = ServerName::try_from(server_name.to_owned()).map_err(|_| {
            let text = format!("{server_name:?} is neither a name nor an address");
            io::Error::new(io::ErrorKind::InvalidInput, text)
        })?;
        let session = Session::client(self.config.clone(), name)?;
        Ok(Stream::new(
            transport,
            session,
            self.handshake_timeout,
            None,
        ))
    }
}

impl std::fmt::Debug for ClientConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ClientConfig").finish_non_exhaustive()
    }
}

impl ClientBuilder {
    /// Believes servers whose certificates lead to one in the file; of several files, in any.
    pub fn roots(mut self, path: impl AsRef<Path>) -> Self {
        self.roots.push(Source::file(path.as_ref()));
        self
    }

    /// Believes servers whose certificates lead to one of these, which are in memory.
    pub fn roots_pem(mut self, roots: impl Into<Vec<u8>>) -> Self {
        self.roots.push(Source::Memory(
            "the roots of servers' certificates",
            roots.into(),
        ));
        self
    }

    /// Believes servers whose certificates lead to one that this machine believes, too: those in the file that
    /// `SSL_CERT_FILE` names, or where distributions have them. What cannot be a root there is passed over.
    pub fn system_roots(mut self) -> Self {
        self.has_system_roots = true;
        self
    }

    /// Shows servers that ask for one this certificate.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificate = Some(certificate);
        self
    }

    /// The protocols to offer (ALPN), the best first. Default: none.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// How long a handshake may take, from the making of the stream. Default: 10 s.
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Where the cryptography comes from.
    pub fn provider(mut self, provider: Provider) -> Self {
        self.provider = provider;
        self
    }

    /// Reads all files.
    ///
    /// # Errors
    /// If a file is not what it should be: the message says which, and where in it. With no roots, no server would be
    /// believed, which is an error too.
    pub fn build(self) -> Result<ClientConfig, ConfigError> {
        if self.handshake_timeout.is_zero() {
            return Err(ConfigError::Range(
                "handshake_timeout must be longer than zero",
            ));
        }
        let mut roots = RootCertStore::empty();
        roots.roots.extend(self.bundled);
        for source in &self.roots {
            roots.roots.extend(root_store(&source.read()?)?.roots);
        }
        if self.has_system_roots {
            let bundle = Source::file(&system_bundle()?).read()?;
            let found = bundle.certificates()?.into_iter().map(|found| found.item);
            roots.add_parsable_certificates(found);
        }
        if roots.is_empty() {
            return Err(ConfigError::Range(
                "a client needs roots, or it believes no server",
            ));
        }
        let provider = self.provider.crypto();
        let config = rustls::ClientConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_root_certificates(roots);
        let mut config = match &self.certificate {
            None => config.with_no_client_auth(),
            Some(certificate) => {
                let (certified, _) = certificate.read()?.certify(&provider)?;
                config.with_client_cert_resolver(Arc::new(rustls::sign::SingleCertAndKey::from(
                    certified,
                )))
            }
        };
        config.alpn_protocols = self.alpn;
        Ok(ClientConfig {
            config: Arc::new(config),
            handshake_timeout: self.handshake_timeout,
        })
    }
}

/// Where Debian, Fedora, openSUSE and Alpine have the roots that the machine believes.
const BUNDLES: [&str; 4] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
];

fn system_bundle() -> Result<PathBuf, ConfigError> {
    if let Some(named) = std::env::var_os("SSL_CERT_FILE") {
        return Ok(named.into());
    }
    let mut known = BUNDLES.into_iter().map(PathBuf::from);
    known.find(|path| path.exists()).ok_or(ConfigError::Range(
        "this machine has no roots where they are looked for: set SSL_CERT_FILE",
    ))
}
