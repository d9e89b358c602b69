//! Heads that come in pieces: how long the rest of one is waited for, and what an end in its middle means.

use std::{io, rc::Rc, time::Instant};

use http::StatusCode;

use super::{
    dialogue::{Dialogue, Flow},
    out::Out,
};
use crate::http1::{Reject, head};

impl Dialogue<'_> {
    /// Reads until the head may be complete; the flow if it will not be.
    #[cold]
    pub(super) fn complete_head(
        &mut self,
        until: Instant,
        out: &Rc<Out>,
    ) -> io::Result<Option<Flow>> {
        self.way(out).flush()?;
        loop {
            // Only the end of a head makes it worth parsing again, or a head cut into single bytes
            // would be parsed once for each.
            let searched = {
                let input = &self.exchange().scratch().input;
                input.filled - input.start
            };
            if let Err(error) = self.exchange().await_readable(until) {
                if error.kind() != io::ErrorKind::TimedOut {
                    return Err(error);
                }
                let late = Reject::new(StatusCode::REQUEST_TIMEOUT, "header did not come in time");
                return self.refuse(late, out).map(Some);
            }
            if self.exchange_mut().fill()? == 0 {
                if self.exchange().connection().is_ending() {
                    // The drain shut a connection that had been idle: the client repeats this elsewhere.
                    return Ok(Some(Flow::Close));
                }
                let cut = Reject::bad("connection closed within the header");
                return self.refuse(cut, out).map(Some);
            }
            let input = &self.exchange().scratch().input;
            let head = &input.bytes[input.start..input.filled];
            if head::may_be_complete(head, searched, &self.service.limits) {
                return Ok(None);
            }
        }
    }
}
