//! In place of TLS where the feature `tls` is off.

use std::io::{self, Read, Write};

use maniple::net::{Shutdown, TcpStream};

/// How TLS is spoken: not at all.
#[derive(Clone)]
pub(crate) enum Tls {}

/// A connection by TLS, of which there are none.
pub(crate) enum Secured {}

impl Tls {
    pub(crate) fn usual() -> io::Result<Self> {
        let text = "TLS to a broker needs the feature `tls`";
        Err(io::Error::new(io::ErrorKind::InvalidInput, text))
    }

    pub(crate) fn secure(&self, _: TcpStream, _: &str) -> io::Result<Secured> {
        match *self {}
    }
}

impl Secured {
    pub(crate) fn shutdown(&self, _: Shutdown) -> io::Result<()> {
        match *self {}
    }
}

impl Read for &Secured {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        match **self {}
    }
}

impl Write for &Secured {
    fn write(&mut self, _: &[u8]) -> io::Result<usize> {
        match **self {}
    }

    fn flush(&mut self) -> io::Result<()> {
        match **self {}
    }
}
