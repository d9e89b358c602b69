//! Why a request has no response.

use std::io;

use http::StatusCode;
use maniple::cancel::is_cancelled_error;

use super::upload::Unmade;

/// Why a request has no response. Messages name the host and port, and what was being done.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// The URL is not one that can be requested.
    #[error("bad URL {url:?}: {reason}")]
    Url {
        /// The URL as given.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
    /// A header field's name or value is not allowed.
    #[error("bad header field {name:?}")]
    Header {
        /// The field's name as given.
        name: String,
    },
    /// The host's name has no address.
    #[error("resolve {host}: {error}")]
    Resolve {
        /// Host and port.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// No connection could be made, at none of the addresses.
    #[error("connect to {host}: {error}")]
    Connect {
        /// Host and port.
        host: String,
        /// What the system said of the last address.
        error: io::Error,
    },
    /// The TLS handshake with the server of an `https` URL failed: its certificate does not hold, most likely.
    /// `tls::Error::of` has the reason in types, and its `certificate_fault` what is wrong with the certificate.
    #[error("{host}: {error}")]
    Tls {
        /// Scheme, host and port.
        host: String,
        /// What the handshake came to.
        error: io::Error,
    },
    /// The deadline of the caller's scope, or the client's timeout, passed.
    #[error("{host}: no answer in time")]
    Timeout {
        /// Host and port.
        host: String,
    },
    /// The caller's scope was cancelled.
    #[error("{host}: request was cancelled")]
    Cancelled {
        /// Host and port.
        host: String,
    },
    /// What makes the request's body failed, or did not keep to the length that was told.
    #[error("{host}: the request's body could not be sent: {error}")]
    Body {
        /// Host and port.
        host: String,
        /// What the reader or function said.
        error: io::Error,
    },
    /// The connection failed.
    #[error("{host}: {error}")]
    Io {
        /// Host and port.
        host: String,
        /// What the system said.
        error: io::Error,
    },
    /// The answer is a refusal or failure: 4xx or 5xx. Made by [`ClientResponse::error_for_status`] alone.
    ///
    /// [`ClientResponse::error_for_status`]: super::ClientResponse::error_for_status
    #[error("{host}: answered {status}")]
    Status {
        /// Host and port.
        host: String,
        /// What it answered.
        status: StatusCode,
    },
    /// A redirect is not followed: there were too many, or it leads to where it may not. Only with
    /// [`Builder::max_redirects`](super::Builder::max_redirects).
    #[error("{url}: redirected to {location:?}: {reason}")]
    Redirect {
        /// The URL that answered.
        url: String,
        /// Where it sends the client.
        location: String,
        /// Why it is not followed.
        reason: String,
    },
    /// The answer is not HTTP, or exceeds a limit.
    #[error("{host}: malformed response: {reason}")]
    Protocol {
        /// Host and port.
        host: String,
        /// What is wrong with it.
        reason: String,
    },
}

impl ClientError {
    /// Whether a deadline or timeout passed, that for connecting included.
    pub fn is_timeout(&self) -> bool {
        match self {
            ClientError::Timeout { .. } => true,
            ClientError::Connect { error, .. } => error.kind() == io::ErrorKind::TimedOut,
            _ => false,
        }
    }

    /// Whether the caller's scope was cancelled.
    pub fn is_cancelled(&self) -> bool {
        matches!(self, ClientError::Cancelled { .. })
    }

    /// The status to answer one's own client with: 504 if a deadline or timeout passed, 503 if the call was cancelled,
    /// 500 if the request was not one that can be made, 502 otherwise.
    pub fn status(&self) -> StatusCode {
        match self {
            _ if self.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            ClientError::Cancelled { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ClientError::Url { .. } | ClientError::Header { .. } | ClientError::Body { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// What an error of the connection means.
    pub(super) fn io(host: &str, error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Unmade>()) {
            let inner = error
                .into_inner()
                .and_then(|inner| inner.downcast::<Unmade>().ok());
            let error = inner.map_or_else(|| io::ErrorKind::Other.into(), |unmade| unmade.0);
            let host = host.to_owned();
            return ClientError::Body { host, error };
        }
        Self::cut(host, error).unwrap_or_else(|error| ClientError::Io {
            host: host.to_owned(),
            error,
        })
    }

    pub(super) fn resolve(host: &str, error: io::Error) -> Self {
        Self::cut(host, error).unwrap_or_else(|error| ClientError::Resolve {
            host: host.to_owned(),
            error,
        })
    }

    pub(super) fn connect(host: &str, error: io::Error) -> Self {
        let host = host.to_owned();
        let scope_is_over = maniple::time::remaining().is_some_and(|left| left.is_zero());
        if error.kind() == io::ErrorKind::TimedOut && !scope_is_over {
            return ClientError::Connect { host, error };
        }
        Self::cut(&host, error).unwrap_or_else(|error| ClientError::Connect { host, error })
    }

    pub(super) fn protocol(host: &str, reason: impl Into<String>) -> Self {
        ClientError::Protocol {
            host: host.to_owned(),
            reason: reason.into(),
        }
    }

    /// The error of a wait that was cut short; other errors come back.
    fn cut(host: &str, error: io::Error) -> Result<Self, io::Error> {
        let host = host.to_owned();
        if is_cancelled_error(&error) {
            Ok(ClientError::Cancelled { host })
        } else if error.kind() == io::ErrorKind::TimedOut {
            Ok(ClientError::Timeout { host })
        } else {
            Err(error)
        }
    }
}

impl From<ClientError> for io::Error {
    fn from(error: ClientError) -> Self {
        let kind = match &error {
            ClientError::Url { .. } | ClientError::Header { .. } => io::ErrorKind::InvalidInput,
            ClientError::Resolve { error, .. }
            | ClientError::Connect { error, .. }
            | ClientError::Tls { error, .. }
            | ClientError::Body { error, .. }
            | ClientError::Io { error, .. } => error.kind(),
            ClientError::Timeout { .. } => io::ErrorKind::TimedOut,
            ClientError::Cancelled { .. } => return maniple::cancel::Cancelled.into(),
            ClientError::Protocol { .. } | ClientError::Redirect { .. } => {
                io::ErrorKind::InvalidData
            }
            ClientError::Status { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
