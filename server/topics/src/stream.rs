//! The bytes of a connection to a broker, by TLS or not.

use std::{
    io::{self, Read, Write},
    sync::Arc,
};

use maniple::net::{Shutdown, TcpStream};

use crate::tls::{Secured, Tls};

/// A connection, for one who reads and one who writes; clones are the same.
#[derive(Clone)]
pub(crate) enum Stream {
    Plain(Arc<TcpStream>),
    Secured(Arc<Secured>),
}

impl Stream {
    pub(crate) fn connect(authority: &str) -> io::Result<Self> {
        let stream = TcpStream::connect(authority)?;
        stream.set_nodelay(true)?;
        Ok(Self::Plain(Arc::new(stream)))
    }

    /// Goes on by TLS. Nobody else may have it.
    pub(crate) fn secure(self, tls: &Tls, host: &str) -> io::Result<Self> {
        let Self::Plain(stream) = self else {
            return Ok(self);
        };
        let stream = Arc::into_inner(stream).ok_or(io::ErrorKind::ResourceBusy)?;
        Ok(Self::Secured(Arc::new(tls.secure(stream, host)?)))
    }

    /// Ends both directions, also under who waits in one.
    pub(crate) fn shut_down(&self) -> io::Result<()> {
        match self {
            Self::Plain(stream) => stream.shutdown(Shutdown::Both),
            Self::Secured(stream) => stream.shutdown(Shutdown::Both),
        }
    }
}

impl Read for &Stream {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => (&**stream).read(buffer),
            Stream::Secured(stream) => (&**stream).read(buffer),
        }
    }
}

impl Write for &Stream {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self {
            Stream::Plain(stream) => (&**stream).write(bytes),
            Stream::Secured(stream) => (&**stream).write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        match self {
            Stream::Plain(stream) => (&**stream).flush(),
            Stream::Secured(stream) => (&**stream).flush(),
        }
    }
}
