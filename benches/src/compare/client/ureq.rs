//! What ureq takes to go over our sockets: a connector, a transport and a resolver. Its own resolver starts a thread for each
//! look-up with a time limit, so it has to be replaced, too.

use std::io::{ErrorKind, Read, Write};

use maniple::net::{TcpStream, ToSocketAddrs};
use ureq::{
    Agent, Error,
    config::Config,
    http::Uri,
    unversioned::{
        resolver::{ResolvedSocketAddrs, Resolver},
        transport::{Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport},
    },
};

/// An agent whose calls suspend coroutines.
pub(super) fn agent(config: Config) -> Agent {
    Agent::with_parts(config, Sockets, Names)
}

#[derive(Debug)]
struct Sockets;

#[derive(Debug)]
struct Names;

#[derive(Debug)]
struct Socket {
    stream: TcpStream,
    buffers: LazyBuffers,
}

impl Connector for Sockets {
    type Out = Socket;

    fn connect(
        &self,
        details: &ConnectionDetails<'_>,
        _: Option<()>,
    ) -> Result<Option<Socket>, Error> {
        let connect = || TcpStream::connect(&details.addrs[..]);
        let stream = in_time(details.timeout, connect)?;
        stream.set_nodelay(true)?;
        let config = details.config;
        let buffers = LazyBuffers::new(config.input_buffer_size(), config.output_buffer_size());
        Ok(Some(Socket { stream, buffers }))
    }
}

impl Transport for Socket {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.buffers
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), Error> {
        let output = &self.buffers.output()[..amount];
        in_time(timeout.for_write(), || {
            (&mut &self.stream).write_all(output)
        })
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, Error> {
        let room = self.buffers.input_append_buf();
        let read = || (&mut &self.stream).read(room);
        let count = in_time(timeout.for_read(), read)?;
        self.buffers.input_appended(count);
        Ok(count > 0)
    }

    fn is_open(&mut self) -> bool {
        let tried = self.stream.try_read(&mut [0]);
        tried.is_err_and(|error| error.kind() == ErrorKind::WouldBlock)
    }
}

impl Resolver for Names {
    fn resolve(
        &self,
        uri: &Uri,
        _: &Config,
        timeout: NextTimeout,
    ) -> Result<ResolvedSocketAddrs, Error> {
        let host = uri.host().ok_or(Error::HostNotFound)?;
        let port = uri.port_u16().unwrap_or(80);
        let found = in_time(timeout, || (host, port).to_socket_addrs())?;
        let mut addresses = self.empty();
        for address in found.into_iter().take(16) {
            addresses.push(address);
        }
        match addresses.is_empty() {
            true => Err(Error::HostNotFound),
            false => Ok(addresses),
        }
    }
}

/// What does not come in time is told by ureq's error.
fn in_time<T>(timeout: NextTimeout, wait: impl FnOnce() -> std::io::Result<T>) -> Result<T, Error> {
    let Some(limit) = timeout.not_zero() else {
        return Ok(wait()?);
    };
    match maniple::timeout(*limit, wait) {
        Ok(Ok(done)) => Ok(done),
        Ok(Err(error)) if error.kind() != ErrorKind::TimedOut => Err(error.into()),
        _ => Err(Error::Timeout(timeout.reason)),
    }
}
