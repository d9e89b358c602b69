//! Settings of TLS to etcd, with the feature `tls`.

use maniple_tls::ClientConfig;

use crate::{etcd::Builder, tls::Tls};

impl Builder {
    /// How TLS is spoken, with members that are named by `https://` and those without a scheme: whom to believe, and the
    /// certificate to show, which can stand for a user. Default: with the first, by what this machine believes; with the others, no TLS.
    ///
    /// With the feature `tls`.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_discovery::Etcd;
    /// use maniple_tls::{Certificate, ClientConfig};
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = ClientConfig::builder()
    ///     .roots("etcd-ca.pem")
    ///     .certificate(Certificate::files("prices.pem", "prices-key.pem"))
    ///     .build()?;
    /// let etcd = Etcd::builder(["https://10.0.0.1:2379", "https://10.0.0.2:2379"]).tls(tls).build()?;
    /// # let _ = etcd;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.tls = Some(Tls::of(&config));
        self
    }
}
