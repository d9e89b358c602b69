//! A server that a call was given to, until the call has ended.

use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

use maniple::{cancel, time};

use super::{balance::Row, endpoint::Endpoint, member::Outcome, set::Shared};
use crate::adaptive::Sample;

/// A server that was picked for a call. The call is under way until this is dropped; what it came to is told by
/// [`succeeded`](Self::succeeded) or [`failed`](Self::failed), and the time since the pick is how long it took.
///
/// Dropped without a word it counts as cut short, which says nothing of the server, except that it is as slow as that. If the
/// deadline of the caller's scope has passed, though, it has failed: a server that answers nobody is found out by that alone.
#[must_use = "a call ends when this is dropped"]
pub struct Picked {
    shared: Arc<Shared>,
    row: Arc<Row>,
    began: Instant,
    /// Set once the answer has begun.
    took: Option<Duration>,
    /// What the limit is found out by.
    sample: Option<Sample>,
    outcome: Option<Outcome>,
    is_over: bool,
}

impl Picked {
    pub(super) fn new(shared: Arc<Shared>, row: Arc<Row>, sample: Option<Sample>) -> Self {
        Self {
            shared,
            row,
            began: time::now(),
            took: None,
            sample,
            outcome: None,
            is_over: false,
        }
    }

    /// Where it is.
    pub fn address(&self) -> &str {
        self.row.endpoint.address()
    }

    /// What the list said of it.
    pub fn endpoint(&self) -> &Endpoint {
        &self.row.endpoint
    }

    /// Whether it has left the list since the call was given to it: what leads to it, such as a connection, is not to be kept.
    pub fn has_left(&self) -> bool {
        self.row.member.has_left()
    }

    /// The answer has begun, and says whether the server does well; what follows is as slow as who reads it. So it is known how long the
    /// call took, though it is under way until this is dropped. If what follows breaks off, say it again.
    pub fn answered(&mut self, does_well: bool) {
        let outcome = match does_well {
            true => Outcome::Succeeded,
            false => Outcome::Failed,
        };
        self.outcome = Some(outcome);
        self.took
            .get_or_insert_with(|| time::now().saturating_duration_since(self.began));
        if let Some(sample) = self.sample.take() {
            self.shared.end(&self.row, sample, outcome);
        }
    }

    /// Ends the call before this is dropped: the server has done its part, and its place is for others.
    pub fn end(&mut self) {
        if std::mem::replace(&mut self.is_over, true) {
            return;
        }
        let is_late = || time::remaining().is_some_and(|left| left.is_zero());
        let outcome = match self.outcome {
            // What an error of a call says that was given up meanwhile, nobody knows.
            Some(Outcome::Failed) if cancel::cause().is_some() => Outcome::Cut,
            Some(outcome) => outcome,
            None if is_late() && cancel::cause().is_none() => Outcome::Failed,
            None => Outcome::Cut,
        };
        if let Some(sample) = self.sample.take() {
            self.shared.end(&self.row, sample, outcome);
        }
        self.shared.leave(&self.row, self.began, self.took, outcome);
    }

    /// The call has its answer. One that says that the caller is to blame is an answer, too.
    pub fn succeeded(mut self) {
        self.outcome = Some(Outcome::Succeeded);
    }

    /// The call has failed, by the fault of the server or on the way to it.
    pub fn failed(mut self) {
        self.outcome = Some(Outcome::Failed);
    }
}

impl Drop for Picked {
    fn drop(&mut self) {
        self.end();
    }
}

impl fmt::Debug for Picked {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Picked").field(&self.row.endpoint).finish()
    }
}
