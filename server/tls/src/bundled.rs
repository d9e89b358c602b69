//! Roots that a program brings along.

use crate::client::ClientBuilder;

impl ClientBuilder {
    /// Believes servers whose certificates lead to one that Mozilla believes, too: these roots are within the program. With the
    /// feature `bundled-roots` (of `maniple-server`, `tls-bundled-roots`).
    ///
    /// For machines that have no roots of their own, such as empty containers. They are as old as the crate `webpki-roots` that the
    /// program was built with, and what the machine's owner believes or does not is nothing to them: prefer
    /// [`system_roots`](Self::system_roots) where there are such.
    ///
    /// # Examples
    /// ```
    /// use maniple_tls::ClientConfig;
    /// let config = ClientConfig::builder().bundled_roots().build();
    /// assert!(config.is_ok());
    /// ```
    pub fn bundled_roots(mut self) -> Self {
        self.bundled
            .extend_from_slice(webpki_roots::TLS_SERVER_ROOTS);
        self
    }
}
