//! Why a route was not added.

/// Why a route was not added.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{route}: {reason}")]
pub struct RouteError {
    /// Its method and path.
    pub(super) route: String,
    pub(super) reason: String,
}

#[track_caller]
pub(super) fn or_panic(added: Result<(), RouteError>) {
    if let Err(error) = added {
        panic!("{error}");
    }
}
