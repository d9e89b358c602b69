//! In place of HTTP/2 where the feature `http2` is off.

use std::{io, sync::Arc};

use http::HeaderMap;

use super::{call::Call, error::ClientError};

/// A request over HTTP/2: there is none.
#[derive(Debug)]
pub(crate) struct Asked {
    pub(crate) host: Arc<str>,
    pub(crate) call: Option<Box<Call>>,
    never: Never,
}

#[derive(Debug)]
enum Never {}

impl Asked {
    pub(crate) fn read(&mut self, _: &mut [u8]) -> Result<usize, ClientError> {
        match self.never {}
    }

    pub(crate) fn trailers(&mut self) -> Result<HeaderMap, ClientError> {
        match self.never {}
    }
}

/// A way for a body over HTTP/2: there is none.
#[derive(Debug)]
pub(crate) enum Way {}

impl Way {
    pub(crate) fn write(&self, _: &[u8]) -> io::Result<usize> {
        match *self {}
    }

    pub(crate) fn finish(&self, _: HeaderMap) -> io::Result<()> {
        match *self {}
    }

    pub(crate) fn give_up(&self) {
        match *self {}
    }
}
