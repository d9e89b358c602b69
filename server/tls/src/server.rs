//! A server's settings: certificates, who may connect, limits; and reading them again while connections go on.

use std::{
    path::Path,
    sync::{Arc, PoisonError, RwLock},
    time::Duration,
};

use maniple::sync::Semaphore;
use rustls::{
    RootCertStore,
    crypto::CryptoProvider,
    server::{ProducesTickets, WebPkiClientVerifier, danger::ClientCertVerifier},
};

use crate::{
    certificate::{self, Certificate, Choice},
    counts::{Counts, Handshakes},
    error::ConfigError,
    pem::{Source, Text},
    provider::Provider,
    session::Session,
    stream::{OfServer, Stream},
    transport::Transport,
};

/// A server's settings. Clones share them: what is [read again](ServerConfig::reload) counts for all.
///
/// # Examples
/// ```
/// use maniple_tls::ServerConfig;
/// # fn main() -> Result<(), maniple_tls::ConfigError> {
/// # #[cfg(feature = "self-signed")] {
/// let config = ServerConfig::builder()
///     .certificate(maniple_tls::self_signed(["localhost"])?)
///     .alpn(["http/1.1"])
///     .build()?;
/// # let _ = config;
/// # }
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct ServerConfig {
    shared: Arc<Shared>,
}

struct Shared {
    settings: ServerBuilder,
    provider: Arc<CryptoProvider>,
    places: Arc<Semaphore>,
    counts: Arc<Counts>,
    /// The secret of tickets outlives certificates.
    ticketer: Option<Arc<dyn ProducesTickets>>,
    present: RwLock<Present>,
}

/// What was read last, and what was made of it.
struct Present {
    read: Files,
    config: Arc<rustls::ServerConfig>,
}

/// What certificates and roots had in them.
#[derive(PartialEq, Eq)]
struct Files {
    certificates: Vec<certificate::Read>,
    roots: Option<Text>,
}

/// Makes a [`ServerConfig`]; from [`ServerConfig::builder`].
#[derive(Clone, Debug)]
#[must_use = "a builder does nothing until it builds"]
pub struct ServerBuilder {
    certificates: Vec<Certificate>,
    refuses_unknown_names: bool,
    clients: Clients,
    alpn: Vec<Vec<u8>>,
    tickets: bool,
    handshake_timeout: Duration,
    max_handshakes: usize,
    provider: Provider,
}

/// Whether clients show certificates, and by whom those have to be signed.
#[derive(Clone, Debug)]
enum Clients {
    Unknown,
    May(Source),
    Must(Source),
}

impl ServerConfig {
    /// Settings with their defaults: tickets for resumption, 10 s for a handshake, 1024 handshakes at a time.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            certificates: Vec::new(),
            refuses_unknown_names: false,
            clients: Clients::Unknown,
            alpn: Vec::new(),
            tickets: true,
            handshake_timeout: Duration::from_secs(10),
            max_handshakes: 1024,
            provider: Provider::default(),
        }
    }

    /// A connection that a client has made, to be talked over by TLS. Nothing waits here: the first call on it, or
    /// [`Stream::handshake`], shakes hands.
    pub fn stream<T: Transport>(&self, transport: T) -> std::io::Result<Stream<T>> {
        let session = Session::server(self.present())?;
        let timeout = self.shared.settings.handshake_timeout;
        let of_server = OfServer {
            places: self.shared.places.clone(),
            counts: self.shared.counts.clone(),
        };
        Ok(Stream::new(transport, session, timeout, Some(of_server)))
    }

    /// Reads certificates, keys and roots again, for connections that begin from now on; those that there are go on with
    /// what they had. Whether anything was new.
    ///
    /// Blocks the thread while it reads; [`Reloading`](crate::Reloading) does that elsewhere.
    ///
    /// # Errors
    /// Those of [`ServerBuilder::build`]; then all stays as it was.
    pub fn reload(&self) -> Result<bool, ConfigError> {
        let read = self.shared.settings.read()?;
        let is_new = {
            let present = self.shared.present.read();
            present.unwrap_or_else(PoisonError::into_inner).read != read
        };
        if is_new {
            let shared = &self.shared;
            let config = shared
                .settings
                .make(&read, &shared.provider, shared.ticketer.as_ref())?;
            let mut present = shared
                .present
                .write()
                .unwrap_or_else(PoisonError::into_inner);
            let former = std::mem::replace(&mut *present, Present { read, config });
            drop(present);
            drop(former);
        }
        Ok(is_new)
    }

    /// Handshakes so far, on all streams that this and its clones have made.
    ///
    /// # Examples
    /// ```
    /// # #[cfg(feature = "self-signed")]
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// use maniple_tls::{ServerConfig, self_signed};
    /// let server = ServerConfig::builder().certificate(self_signed(["localhost"])?).build()?;
    /// let so_far = server.handshakes();
    /// assert_eq!((so_far.full, so_far.resumed, so_far.failed), (0, 0, 0));
    /// # Ok(())
    /// # }
    /// # #[cfg(not(feature = "self-signed"))]
    /// # fn main() {}
    /// ```
    pub fn handshakes(&self) -> Handshakes {
        self.shared.counts.read()
    }

    /// Handshakes that may begin now before further ones have to wait.
    pub fn free_handshakes(&self) -> usize {
        self.shared.places.available()
    }

    fn present(&self) -> Arc<rustls::ServerConfig> {
        let present = self.shared.present.read();
        present
            .unwrap_or_else(PoisonError::into_inner)
            .config
            .clone()
    }
}

impl std::fmt::Debug for ServerConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = &self.shared.settings;
        f.debug_struct("ServerConfig")
            .field("settings", settings)
            .finish_non_exhaustive()
    }
}

impl ServerBuilder {
    /// A certificate to show, at least one. A client gets the one for the name that it asks for (SNI), by the names in the
    /// certificates, `*.` included; of several for a name the first whose kind of key it knows. One that asks for no name,
    /// or for another, gets the first of all.
    pub fn certificate(mut self, certificate: Certificate) -> Self {
        self.certificates.push(certificate);
        self
    }

    /// Whether a client is refused that asks for a name of which there is no certificate, or for none. Default: no.
    pub fn refuse_unknown_names(mut self, refuse: bool) -> Self {
        self.refuses_unknown_names = refuse;
        self
    }

    /// Clients are asked for a certificate and may have none. One that they have must lead to a certificate in the file.
    pub fn optional_client_certificates(mut self, roots: impl AsRef<Path>) -> Self {
        self.clients = Clients::May(Source::file(roots.as_ref()));
        self
    }

    /// Clients need a certificate that leads to one in the file: the handshake fails without.
    pub fn required_client_certificates(mut self, roots: impl AsRef<Path>) -> Self {
        self.clients = Clients::Must(Source::file(roots.as_ref()));
        self
    }

    /// Clients are asked for a certificate and may have none. One that they have must lead to one of these roots.
    pub fn optional_client_certificates_pem(mut self, roots: impl Into<Vec<u8>>) -> Self {
        self.clients = Clients::May(Source::Memory(ROOTS, roots.into()));
        self
    }

    /// Clients need a certificate that leads to one of these roots: the handshake fails without.
    pub fn required_client_certificates_pem(mut self, roots: impl Into<Vec<u8>>) -> Self {
        self.clients = Clients::Must(Source::Memory(ROOTS, roots.into()));
        self
    }

    /// The protocols to agree on (ALPN), the best first. Default: none, which agrees to nothing and refuses nobody. A
    /// client that offers only others is refused.
    pub fn alpn<P: Into<Vec<u8>>>(mut self, protocols: impl IntoIterator<Item = P>) -> Self {
        self.alpn = protocols.into_iter().map(Into::into).collect();
        self
    }

    /// Whether clients get tickets, with which they resume without a signature, for twelve hours and on any connection to
    /// this process. Default: yes. Without, sessions are not resumed at all.
    pub fn tickets(mut self, tickets: bool) -> Self {
        self.tickets = tickets;
        self
    }

    /// How long a handshake may take, from the making of the stream. Default: 10 s. Then [`Error::HandshakeTimeout`].
    ///
    /// [`Error::HandshakeTimeout`]: crate::Error::HandshakeTimeout
    pub fn handshake_timeout(mut self, timeout: Duration) -> Self {
        self.handshake_timeout = timeout;
        self
    }

    /// Handshakes at a time, from a client's first bytes on. Default: 1024. Further ones wait, on their own time.
    ///
    /// A handshake holds up to 70 KiB, and a millisecond of a worker: this bounds what a flood of them takes.
    pub fn max_handshakes(mut self, handshakes: usize) -> Self {
        self.max_handshakes = handshakes;
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
    /// If there is no certificate, a setting is out of range, or a file is not what it should be: the message says which,
    /// and where in it.
    pub fn build(self) -> Result<ServerConfig, ConfigError> {
        if self.certificates.is_empty() {
            return Err(ConfigError::NoCertificate);
        }
        if self.handshake_timeout.is_zero() {
            return Err(ConfigError::Range(
                "handshake_timeout must be longer than zero",
            ));
        }
        if self.max_handshakes == 0 {
            return Err(ConfigError::Range("max_handshakes must be at least 1"));
        }
        let provider = self.provider.crypto();
        // Who resumes is not asked for a certificate again: with tickets of before, a client would go on whose root is gone.
        let ticketer = match (self.tickets, &self.clients) {
            (true, Clients::Unknown) => Some(self.provider.ticketer()?),
            _ => None,
        };
        let read = self.read()?;
        let config = self.make(&read, &provider, ticketer.as_ref())?;
        Ok(ServerConfig {
            shared: Arc::new(Shared {
                places: Arc::new(Semaphore::new(self.max_handshakes)),
                counts: Arc::default(),
                settings: self,
                provider,
                ticketer,
                present: RwLock::new(Present { read, config }),
            }),
        })
    }

    fn read(&self) -> Result<Files, ConfigError> {
        Ok(Files {
            certificates: self
                .certificates
                .iter()
                .map(Certificate::read)
                .collect::<Result<_, _>>()?,
            roots: match &self.clients {
                Clients::Unknown => None,
                Clients::May(roots) | Clients::Must(roots) => Some(roots.read()?),
            },
        })
    }

    fn make(
        &self,
        read: &Files,
        provider: &Arc<CryptoProvider>,
        ticketer: Option<&Arc<dyn ProducesTickets>>,
    ) -> Result<Arc<rustls::ServerConfig>, ConfigError> {
        let certified = read.certificates.iter().map(|read| read.certify(provider));
        let certified = certified.collect::<Result<_, _>>()?;
        let choice = Choice::among(certified, self.refuses_unknown_names);
        let mut config = rustls::ServerConfig::builder_with_provider(provider.clone())
            .with_safe_default_protocol_versions()?
            .with_client_cert_verifier(self.verifier(read, provider)?)
            .with_cert_resolver(Arc::new(choice));
        config.alpn_protocols.clone_from(&self.alpn);
        match (self.tickets, ticketer) {
            (true, Some(ticketer)) => config.ticketer = ticketer.clone(),
            (true, None) => config.ticketer = self.provider.ticketer()?,
            (false, _) => {
                config.send_tls13_tickets = 0;
                config.session_storage = Arc::new(rustls::server::NoServerSessionStorage {});
            }
        }
        Ok(Arc::new(config))
    }

    fn verifier(
        &self,
        read: &Files,
        provider: &Arc<CryptoProvider>,
    ) -> Result<Arc<dyn ClientCertVerifier>, ConfigError> {
        let Some(text) = &read.roots else {
            return Ok(WebPkiClientVerifier::no_client_auth());
        };
        let roots = Arc::new(root_store(text)?);
        let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone());
        let verifier = match self.clients {
            Clients::May(_) => verifier.allow_unauthenticated(),
            _ => verifier,
        };
        let verifier = verifier.build();
        verifier.map_err(|error| ConfigError::Other(rustls::Error::General(error.to_string())))
    }
}

const ROOTS: &str = "the roots of clients' certificates";

/// The certificates of a file, as those that others must lead to.
pub(crate) fn root_store(text: &Text) -> Result<RootCertStore, ConfigError> {
    let mut roots = RootCertStore::empty();
    for found in text.certificates()? {
        if let Err(error) = roots.add(found.item) {
            return Err(ConfigError::Pem {
                place: text.place.clone(),
                line: found.line,
                what: format!("the certificate cannot be a root: {error}"),
            });
        }
    }
    Ok(roots)
}
