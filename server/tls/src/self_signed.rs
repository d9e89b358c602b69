//! Certificates for development, made at start.

use crate::{certificate::Certificate, error::ConfigError};

/// A certificate for these names and addresses that nobody has signed, with a new key. Clients have to be told to believe
/// it: for development.
///
/// # Errors
/// If a name is none.
pub fn self_signed<S: Into<String>>(
    names: impl IntoIterator<Item = S>,
) -> Result<Certificate, ConfigError> {
    let names: Vec<String> = names.into_iter().map(Into::into).collect();
    let made = rcgen::generate_simple_self_signed(names).map_err(|error| {
        ConfigError::Other(rustls::Error::General(format!(
            "make a certificate: {error}"
        )))
    })?;
    Ok(Certificate::pem(
        made.cert.pem(),
        made.signing_key.serialize_pem(),
    ))
}
