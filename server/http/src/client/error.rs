//! Why a request has no response.

use std::io;

use http::StatusCode;
use maniple::cancel::is_cancelled_error;
use maniple_parts::endpoints::PickError;

use super::{phase::Phase, upload::Unmade};

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
    /// The proxy did not do what it was asked for, or is none.
    #[error("{host}: proxy {proxy}: {reason}")]
    Proxy {
        /// Host and port that were to be reached.
        host: String,
        /// Host and port of the proxy.
        proxy: String,
        /// What it said.
        reason: String,
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
    /// The deadline of the caller's scope, of the request or of the phase passed, or a wait was longer than the client's timeout.
    #[error("{host}: out of time while {phase}")]
    Timeout {
        /// Host and port.
        host: String,
        /// What the call was at.
        phase: Phase,
    },
    /// The caller's scope was cancelled.
    #[error("{host}: cancelled while {phase}")]
    Cancelled {
        /// Host and port.
        host: String,
        /// What the call was at.
        phase: Phase,
    },
    /// There are as many connections as there may be, and as many calls wait for one. Only with
    /// [`Builder::max_connections`](super::Builder::max_connections) or
    /// [`Builder::max_connections_per_host`](super::Builder::max_connections_per_host).
    #[error("{host}: too many calls wait for a connection")]
    Full {
        /// Host and port.
        host: String,
    },
    /// None of the servers that provide a service may be called: there is none, or each has as many calls as it may have. Only with
    /// [`Builder::servers`](super::Builder::servers).
    #[error("{host}: {error}")]
    NoServer {
        /// The service.
        host: String,
        /// Why.
        error: PickError,
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
    #[error("{host}: {error}, while {phase}")]
    Io {
        /// Host and port.
        host: String,
        /// What the call was at.
        phase: Phase,
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

    /// What the call was at, if it had begun, and ended by a time, a cancellation or the connection.
    pub fn phase(&self) -> Option<Phase> {
        match self {
            ClientError::Timeout { phase, .. }
            | ClientError::Cancelled { phase, .. }
            | ClientError::Io { phase, .. } => Some(*phase),
            ClientError::Full { .. } | ClientError::NoServer { .. } => Some(Phase::Queue),
            ClientError::Resolve { .. } => Some(Phase::Resolve),
            ClientError::Connect { .. } | ClientError::Proxy { .. } => Some(Phase::Connect),
            ClientError::Tls { .. } => Some(Phase::Tls),
            ClientError::Body { .. } => Some(Phase::Send),
            _ => None,
        }
    }

    /// Whether no byte of the request has left for certain, so that any request may be made again, also one that must not be
    /// done twice.
    pub fn is_unsent(&self) -> bool {
        let before = [Phase::Queue, Phase::Resolve, Phase::Connect, Phase::Tls];
        match self {
            ClientError::Url { .. } | ClientError::Header { .. } => true,
            error => error.phase().is_some_and(|phase| before.contains(&phase)),
        }
    }

    /// The status to answer one's own client with: 504 if a deadline or timeout passed, 503 if the call was cancelled or there
    /// was no connection for it, 500 if the request was not one that can be made, 502 otherwise.
    pub fn status(&self) -> StatusCode {
        match self {
            _ if self.is_timeout() => StatusCode::GATEWAY_TIMEOUT,
            ClientError::Cancelled { .. }
            | ClientError::Full { .. }
            | ClientError::NoServer { .. } => StatusCode::SERVICE_UNAVAILABLE,
            ClientError::Url { .. } | ClientError::Header { .. } | ClientError::Body { .. } => {
                StatusCode::INTERNAL_SERVER_ERROR
            }
            _ => StatusCode::BAD_GATEWAY,
        }
    }

    /// Whether it is the fault of the server, or of the way to it: another may do better.
    pub(super) fn is_of_the_server(&self) -> bool {
        match self {
            ClientError::Resolve { .. }
            | ClientError::Connect { .. }
            | ClientError::Proxy { .. }
            | ClientError::Tls { .. }
            | ClientError::Io { .. }
            | ClientError::Protocol { .. } => true,
            // For a place among its own connections the client waits for itself.
            ClientError::Timeout { phase, .. } => *phase != Phase::Queue,
            _ => false,
        }
    }

    /// What an error of the connection means.
    pub(super) fn io(host: &str, phase: Phase, error: io::Error) -> Self {
        if error.get_ref().is_some_and(|inner| inner.is::<Unmade>()) {
            let inner = error
                .into_inner()
                .and_then(|inner| inner.downcast::<Unmade>().ok());
            let error = inner.map_or_else(|| io::ErrorKind::Other.into(), |unmade| unmade.0);
            let host = host.to_owned();
            return ClientError::Body { host, error };
        }
        Self::cut(host, phase, error).unwrap_or_else(|error| ClientError::Io {
            host: host.to_owned(),
            phase,
            error,
        })
    }

    pub(super) fn resolve(host: &str, error: io::Error) -> Self {
        Self::cut(host, Phase::Resolve, error).unwrap_or_else(|error| ClientError::Resolve {
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
        let cut = Self::cut(&host, Phase::Connect, error);
        cut.unwrap_or_else(|error| ClientError::Connect { host, error })
    }

    /// A connection that broke before the handshake was done.
    pub(super) fn tls(host: &str, error: io::Error) -> Self {
        let host = host.to_owned();
        let cut = Self::cut(&host, Phase::Tls, error);
        cut.unwrap_or_else(|error| ClientError::Connect { host, error })
    }

    pub(super) fn timeout(host: &str, phase: Phase) -> Self {
        ClientError::Timeout {
            host: host.to_owned(),
            phase,
        }
    }

    /// The caller's scope has ended, by its deadline or a cancellation.
    #[cfg(feature = "http2")]
    pub(super) fn cut_short(host: &str, phase: Phase) -> Self {
        let host = host.to_owned();
        match maniple::time::remaining() {
            Some(left) if left.is_zero() => ClientError::Timeout { host, phase },
            _ => ClientError::Cancelled { host, phase },
        }
    }

    pub(super) fn protocol(host: &str, reason: impl Into<String>) -> Self {
        ClientError::Protocol {
            host: host.to_owned(),
            reason: reason.into(),
        }
    }

    /// The error of a wait that was cut short; other errors come back.
    fn cut(host: &str, phase: Phase, error: io::Error) -> Result<Self, io::Error> {
        let host = host.to_owned();
        if is_cancelled_error(&error) {
            Ok(ClientError::Cancelled { host, phase })
        } else if error.kind() == io::ErrorKind::TimedOut {
            Ok(ClientError::Timeout { host, phase })
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
            ClientError::Full { .. } | ClientError::NoServer { .. } => io::ErrorKind::ResourceBusy,
            ClientError::Proxy { .. } => io::ErrorKind::ConnectionRefused,
            ClientError::Status { .. } => io::ErrorKind::Other,
        };
        io::Error::new(kind, error)
    }
}
