//! What a run brought, or why it brought nothing.

use serde::Serialize;

/// Figures, or why there are none.
#[derive(Debug, Serialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Outcome<S> {
    Seen(S),
    Failed(String),
}

impl<S> From<anyhow::Result<S>> for Outcome<S> {
    fn from(result: anyhow::Result<S>) -> Self {
        match result {
            Ok(seen) => Self::Seen(seen),
            Err(error) => Self::Failed(format!("{error:#}")),
        }
    }
}

impl<S> Outcome<S> {
    pub(crate) fn seen(&self) -> Option<&S> {
        match self {
            Self::Seen(seen) => Some(seen),
            Self::Failed(_) => None,
        }
    }
}
