//! What log lines and error messages of all parts share: how many there may be, and what a panic said.

use std::any::Any;

use maniple::panics;

/// Lines in ten seconds of what peers and jobs can bring about, each kind for itself.
pub(crate) const MOST_LINES: u32 = 20;

/// What a panic said.
pub(crate) fn panic_message(payload: &(dyn Any + Send)) -> String {
    let text = panics::message(payload).unwrap_or("(no message)");
    text.to_owned()
}
