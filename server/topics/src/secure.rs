//! Settings of TLS to brokers, with the feature `tls`.

use maniple_tls::ClientConfig;

use crate::{builder::Builder, tls::Tls};

impl Builder {
    /// How TLS is spoken: whom to believe, and the certificate to show to who asks for one. It is spoken with brokers that are named by
    /// `rediss://` and `tls://`, by `nats://`, and without a scheme. Default: with the first two, by what this machine believes; with
    /// the others, no TLS.
    ///
    /// With the feature `tls`.
    ///
    /// # Examples
    /// ```no_run
    /// use maniple_tls::ClientConfig;
    /// use maniple_topics::SharedHub;
    ///
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// let tls = ClientConfig::builder().roots("company-ca.pem").build()?;
    /// let rooms = SharedHub::redis("rooms", ["rediss://10.0.0.1:6379"]);
    /// let rooms = rooms.user("chat", std::env::var("CHAT_PASSWORD")?).tls(tls).build()?;
    /// # let _ = rooms;
    /// # Ok(())
    /// # }
    /// ```
    pub fn tls(mut self, config: ClientConfig) -> Self {
        self.tls = Some(Tls::of(config));
        self
    }
}
