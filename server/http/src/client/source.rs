//! What an answer's body comes over: a connection of HTTP/1.1 for itself, or a link that it shares.

use std::sync::Arc;

use super::{call::Call, connection::Connection, error::ClientError, http2::Asked, phase::Phase};

/// What an answer's body comes over.
#[derive(Debug)]
pub(crate) enum Source {
    Http1(Box<Connection>),
    #[cfg_attr(not(feature = "http2"), expect(dead_code, reason = "nobody makes one"))]
    Http2(Box<Asked>),
}

impl Source {
    pub(crate) fn host(&self) -> &Arc<str> {
        match self {
            Source::Http1(connection) => &connection.host,
            Source::Http2(asked) => &asked.host,
        }
    }

    /// The request, to the set of servers that its server was picked from.
    pub(crate) fn call(&mut self) -> &mut Option<Box<Call>> {
        match self {
            Source::Http1(connection) => &mut connection.call,
            Source::Http2(asked) => &mut asked.call,
        }
    }

    pub(crate) fn fail_call(&mut self, error: &ClientError) {
        if let Some(call) = self.call().take() {
            call.failed(error);
        }
    }

    /// What has come of a body; 0 at its end.
    pub(crate) fn receive(&mut self, buffer: &mut [u8]) -> Result<usize, ClientError> {
        match self {
            Source::Http1(connection) => {
                let read = connection.receive(buffer);
                read.map_err(|error| ClientError::io(&connection.host, Phase::Body, error))
            }
            Source::Http2(asked) => asked.read(buffer),
        }
    }
}
