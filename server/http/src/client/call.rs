//! A call as the set of servers has it that its server was picked from.

use http::StatusCode;
use maniple_parts::endpoints::Picked;

use super::error::ClientError;

/// A call to a server of a set: under way until this is dropped.
#[derive(Debug)]
pub(crate) struct Call {
    picked: Picked,
    fails: fn(StatusCode) -> bool,
}

impl Call {
    pub(super) fn new(picked: Picked, fails: fn(StatusCode) -> bool) -> Self {
        Self { picked, fails }
    }

    /// The head of its answer has come.
    pub(super) fn answered(&mut self, status: StatusCode) {
        self.picked.answered(!(self.fails)(status));
    }

    /// The rest of its answer may be read, or not.
    pub(super) fn end(&mut self) {
        self.picked.end();
    }

    /// It has no answer, or no whole one.
    pub(super) fn failed(mut self, error: &ClientError) {
        if error.is_of_the_server() {
            self.picked.answered(false);
        }
    }

    /// Whether the server is in the set no more.
    pub(super) fn has_left(&self) -> bool {
        self.picked.has_left()
    }
}
