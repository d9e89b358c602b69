//! The contenders over TLS: maniple-server, hyper with tokio-rustls, and the limit, a loop around epoll and rustls. All have
//! a new P-256 key, ring, and tickets of its ticketer.

use std::{
    io::{ErrorKind, Read, Write},
    net::{TcpListener, TcpStream},
    os::fd::{AsFd, AsRawFd},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result};
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use maniple_server::{Request, Router, Server, tls};
use rustix::event::epoll::{self, CreateFlags, EventData, EventFlags};
use rustls::{
    ServerConfig, ServerConnection,
    crypto::ring::{Ticketer, default_provider},
    pki_types::PrivateKeyDer,
};
use tokio::{runtime::Builder, task::LocalSet};
use tokio_rustls::TlsAcceptor;

use super::{
    BODY, Listening, announce,
    epoll::{Answers, requests},
    tokio::{hello, protocol},
};

pub(super) fn serve_maniple(listening: &Listening) -> Result<()> {
    // Stacks that nobody needs give their memory back after six times this, and not after a minute: they are no connection's.
    let runtime = maniple::Runtime::builder().workers(1);
    let runtime = runtime.idle_trim(Some(TRIM)).build()?;
    runtime.run(|| {
        let certificate = tls::self_signed(["localhost"])?;
        let config = tls::ServerConfig::builder()
            .certificate(certificate)
            .build()?;
        let router = Router::new().get("/", |_: &mut Request| BODY);
        let server = Server::builder(router).bind_tls(listening.listen, config)?;
        announce(server.local_addr());
        server.serve()
    })?;
    Ok(())
}

pub(super) fn serve_hyper(listening: &Listening) -> Result<()> {
    let acceptor = TlsAcceptor::from(config()?);
    let tasks = LocalSet::new();
    let protocol = protocol(listening);
    let accept = async {
        let listener = tokio::net::TcpListener::bind(listening.listen).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let (acceptor, protocol) = (acceptor.clone(), protocol.clone());
            tokio::task::spawn_local(async move {
                // A client that goes away ends its connection with an error.
                if let Ok(stream) = acceptor.accept(stream).await {
                    drop(
                        protocol
                            .serve_connection(TokioIo::new(stream), service_fn(hello))
                            .await,
                    );
                }
            });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    tasks.block_on(&runtime, accept)
}

pub(super) fn serve_epoll(listening: &Listening) -> Result<()> {
    let config = config()?;
    let listener = TcpListener::bind(listening.listen)?;
    listener.set_nonblocking(true)?;
    let epoll = epoll::create(CreateFlags::CLOEXEC)?;
    let data = EventData::new_u64(LISTENER);
    epoll::add(&epoll, &listener, data, EventFlags::IN)?;
    announce(listener.local_addr()?);
    let answers = Answers::new();
    // By descriptor, which is small and unique among those that are open.
    let mut connections: Vec<Option<Box<Connection>>> = Vec::new();
    let mut events = Vec::with_capacity(1024);
    let mut buffer = vec![0; 64 * 1024];
    loop {
        events.clear();
        let room = rustix::buffer::spare_capacity(&mut events);
        match epoll::wait(&epoll, room, None) {
            Ok(_) | Err(rustix::io::Errno::INTR) => {}
            Err(error) => return Err(error).context("epoll_wait"),
        }
        for event in &events {
            let place = event.data.u64();
            if place == LISTENER {
                while let Some(connection) = accept(&listener, &config)? {
                    let place = connection.socket.as_raw_fd() as usize;
                    let data = EventData::new_u64(place as u64);
                    epoll::add(&epoll, connection.socket.as_fd(), data, EventFlags::IN)?;
                    connections.resize_with(connections.len().max(place + 1), || None);
                    connections[place] = Some(Box::new(connection));
                }
            } else if let Some(connection) = &mut connections[place as usize]
                && !connection.turn(&mut buffer, &answers)
            {
                connections[place as usize] = None;
            }
        }
    }
}

fn accept(listener: &TcpListener, config: &Arc<ServerConfig>) -> Result<Option<Connection>> {
    match listener.accept() {
        Ok((socket, _)) => {
            socket.set_nonblocking(true)?;
            socket.set_nodelay(true)?;
            Ok(Some(Connection {
                socket,
                session: ServerConnection::new(config.clone())?,
                rest: Vec::new(),
            }))
        }
        Err(error) if error.kind() == ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error).context("accept"),
    }
}

struct Connection {
    socket: TcpStream,
    session: ServerConnection,
    /// The beginning of a request whose end is still to come.
    rest: Vec<u8>,
}

impl Connection {
    /// Reads once and answers what is complete. Whether the connection stays.
    fn turn(&mut self, buffer: &mut [u8], answers: &Answers) -> bool {
        match self.session.read_tls(&mut self.socket) {
            Ok(0) => return false,
            Ok(_) => {}
            Err(error) => return error.kind() == ErrorKind::WouldBlock,
        }
        let Ok(state) = self.session.process_new_packets() else {
            // What it says about it.
            let _ = self.session.write_tls(&mut self.socket);
            return false;
        };
        let is_closed = state.peer_has_closed();
        while let Ok(count @ 1..) = self.session.reader().read(buffer) {
            let count = if self.rest.is_empty() {
                let (count, used) = count_in(&buffer[..count]);
                self.rest.extend_from_slice(used);
                count
            } else {
                self.rest.extend_from_slice(&buffer[..count]);
                let (count, used) = requests(&self.rest);
                self.rest.drain(..used);
                count
            };
            if count > 0 && self.session.writer().write_all(answers.of(count)).is_err() {
                return false;
            }
        }
        // The client waits for its answers before it sends more, so they always fit the socket's buffer.
        while self.session.wants_write() {
            if self.session.write_tls(&mut self.socket).is_err() {
                return false;
            }
        }
        !is_closed
    }
}

/// How many requests there are, and what is behind them.
fn count_in(received: &[u8]) -> (usize, &[u8]) {
    let (count, used) = requests(received);
    (count, &received[used..])
}

fn config() -> Result<Arc<ServerConfig>> {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned()])?;
    let key = PrivateKeyDer::try_from(made.signing_key.serialize_der());
    let key = key.map_err(anyhow::Error::msg)?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()?
        .with_no_client_auth()
        .with_single_cert(vec![made.cert.der().clone()], key)?;
    config.ticketer = Ticketer::new()?;
    Ok(Arc::new(config))
}

const TRIM: Duration = Duration::from_secs(1);

const LISTENER: u64 = u64::MAX;
