//! What holds for a route, or for all of a router's: what is not said there is as it is further out.

use std::time::Duration;

use super::{handler::Handler, slash::TrailingSlash};
use crate::{
    body::BodyError,
    request::Request,
    response::{IntoResponse, Response},
};

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Rules {
    /// Bytes of a body.
    pub(super) body: Option<u64>,
    /// For a handler.
    pub(super) time: Option<Duration>,
    pub(super) slash: Option<TrailingSlash>,
}

impl Rules {
    /// These within others.
    pub(super) fn within(self, outer: Self) -> Self {
        Self {
            body: self.body.or(outer.body),
            time: self.time.or(outer.time),
            slash: self.slash.or(outer.slash),
        }
    }

    /// Whether a handler is called as if there were none.
    pub(super) fn bind_nobody(&self) -> bool {
        self.body.is_none() && self.time.is_none()
    }
}

/// In a handler's place where the body is too long.
pub(super) struct TooLong {
    pub(super) limit: u64,
}

impl Handler for TooLong {
    fn call(&self, _: &mut Request) -> Response {
        BodyError::TooLarge { limit: self.limit }.into_response()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_further_in_counts() {
        let (body, time) = (Some(1), Some(Duration::from_secs(1)));
        let inner = Rules {
            body,
            ..Rules::default()
        };
        let slash = Some(TrailingSlash::Ignore);
        let body = Some(2);
        let outer = Rules { body, time, slash };
        let body = Some(1);
        assert_eq!(inner.within(outer), Rules { body, time, slash });
        assert_eq!(Rules::default().within(outer), outer);
        assert!(Rules::default().bind_nobody() && !inner.bind_nobody());
    }
}
