//! Loads over TLS, by rustls as it comes: keep-alive connections in a closed loop, connections that each shake hands for
//! one request, and connections that do nothing.

use std::{
    io::{ErrorKind, Read, Write},
    net::{SocketAddr, TcpStream},
    os::fd::AsFd,
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, bail, ensure};
use clap::{Args, ValueEnum};
use rustix::event::{
    Timespec,
    epoll::{self, CreateFlags, EventData, EventFlags},
};
use rustls::{
    ClientConfig, ClientConnection, DigitallySignedStruct, SignatureScheme, StreamOwned,
    client::{
        Resumption,
        danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier},
    },
    crypto::ring::default_provider,
    pki_types::{CertificateDer, ServerName, UnixTime},
};
use serde::{Deserialize, Serialize};

use super::{
    Seen,
    connections::SILENCE,
    framing::{Answer, Framing},
    latencies,
};
use crate::{
    memory::Memory,
    process::{self, Core, cpu_time_of, kernel_share, ticks_of},
};

#[derive(Args, Clone, Debug)]
pub(crate) struct Options {
    #[arg(long)]
    address: SocketAddr,
    /// Process id of the server.
    #[arg(long)]
    server: u32,
    #[arg(long)]
    kind: Kind,
    #[arg(long)]
    connections: usize,
    #[arg(long)]
    warm_up_seconds: f64,
    #[arg(long)]
    seconds: f64,
}

/// What is done over TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// A request, its answer, the next request.
    KeepAlive,
    /// A full handshake, a request, its answer, the end.
    Handshakes,
    /// The same with a session that is resumed.
    Resumptions,
    /// A request each, then nothing.
    Idle,
}

/// What connections hold that do nothing, in bytes of the server's memory for each.
#[derive(Clone, Copy, Debug, Deserialize, Serialize)]
pub(crate) struct Held {
    pub(crate) bytes_each: f64,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    process::settle(Core::Last)?;
    ensure!(options.connections > 0, "no connections");
    let line = match options.kind {
        Kind::KeepAlive => serde_json::to_string(&KeepAlive::open(options)?.measure(options)?)?,
        Kind::Handshakes | Kind::Resumptions => serde_json::to_string(&handshakes(options)?)?,
        Kind::Idle => serde_json::to_string(&idle(options)?)?,
    };
    println!("{line}");
    Ok(())
}

type Stream = StreamOwned<ClientConnection, TcpStream>;

fn connect(address: SocketAddr, config: &Arc<ClientConfig>) -> Result<Stream> {
    let mut socket = TcpStream::connect(address)?;
    socket.set_nodelay(true)?;
    socket.set_read_timeout(Some(SILENCE))?;
    let name = ServerName::try_from("localhost")?;
    let mut session = ClientConnection::new(config.clone(), name)?;
    while session.is_handshaking() {
        session.complete_io(&mut socket).context("shaking hands")?;
    }
    Ok(StreamOwned::new(session, socket))
}

fn request(address: SocketAddr) -> Vec<u8> {
    format!("GET / HTTP/1.1\r\nHost: {address}\r\n\r\n").into_bytes()
}

/// Sends a request and waits for its answer.
fn ask(stream: &mut Stream, request: &[u8], usual: &mut Answer) -> Result<()> {
    stream.write_all(request)?;
    let mut framing = Framing::default();
    let mut buffer = [0; 4096];
    loop {
        match stream.read(&mut buffer).context("reading an answer")? {
            0 => bail!("the server closed a connection"),
            count if framing.feed(&buffer[..count], usual)? > 0 => return Ok(()),
            _ => {}
        }
    }
}

/// The server's clocks, read at both ends of what is measured.
struct Clocks {
    server: u32,
    ticks: (u64, u64),
    cpu: Duration,
    own: Duration,
    since: Instant,
}

impl Clocks {
    fn start(server: u32) -> Result<Self> {
        Ok(Self {
            server,
            ticks: ticks_of(server)?,
            cpu: cpu_time_of(server)?,
            own: cpu_time_of(std::process::id())?,
            since: Instant::now(),
        })
    }

    fn seen(self, requests: u64, latencies_ns: &hdrhistogram::Histogram<u64>) -> Result<Seen> {
        let at = |quantile| latencies_ns.value_at_quantile(quantile) as f64 / 1e3;
        Ok(Seen {
            requests,
            seconds: self.since.elapsed().as_secs_f64(),
            server_cpu_seconds: (cpu_time_of(self.server)? - self.cpu).as_secs_f64(),
            server_kernel_share: kernel_share(self.ticks, ticks_of(self.server)?),
            load_cpu_seconds: (cpu_time_of(std::process::id())? - self.own).as_secs_f64(),
            p50_us: at(0.5),
            p99_us: at(0.99),
            max_us: at(1.0),
        })
    }
}

fn handshakes(options: &Options) -> Result<Seen> {
    let config = believing(options.kind == Kind::Resumptions);
    let request = request(options.address);
    let mut usual = Answer::default();
    let mut latencies_ns = latencies()?;
    let mut for_so_long = |seconds: f64, latencies_ns: &mut hdrhistogram::Histogram<u64>| {
        let began = Instant::now();
        let mut count = 0;
        while began.elapsed().as_secs_f64() < seconds {
            let before = Instant::now();
            let mut stream = connect(options.address, &config)?;
            ask(&mut stream, &request, &mut usual)?;
            stream.conn.send_close_notify();
            stream.flush()?;
            latencies_ns.saturating_record(before.elapsed().as_nanos() as u64);
            count += 1;
        }
        anyhow::Ok(count)
    };
    for_so_long(options.warm_up_seconds, &mut latencies_ns)?;
    latencies_ns.reset();
    let clocks = Clocks::start(options.server)?;
    let count = for_so_long(options.seconds, &mut latencies_ns)?;
    clocks.seen(count, &latencies_ns)
}

fn idle(options: &Options) -> Result<Held> {
    let config = believing(false);
    let request = request(options.address);
    let mut usual = Answer::default();
    let mut open = |count: usize| {
        let connections = (0..count).map(|_| {
            let mut stream = connect(options.address, &config)?;
            ask(&mut stream, &request, &mut usual)?;
            anyhow::Ok(stream)
        });
        connections.collect::<Result<Vec<_>>>()
    };
    let settle = || maniple::sleep(Duration::from_secs_f64(options.warm_up_seconds));
    // What the first ones cost is the server's own.
    let few = open(64)?;
    settle();
    let before = Memory::of(&[options.server])?.resident;
    let many = open(options.connections)?;
    settle();
    let after = Memory::of(&[options.server])?.resident;
    drop((few, many));
    let bytes_each = after.saturating_sub(before) as f64 / options.connections as f64;
    Ok(Held { bytes_each })
}

struct KeepAlive {
    epoll: std::os::fd::OwnedFd,
    all: Vec<Connection>,
    request: Vec<u8>,
}

struct Connection {
    socket: TcpStream,
    session: ClientConnection,
    framing: Framing,
    sent_at: Instant,
}

impl KeepAlive {
    fn open(options: &Options) -> Result<Self> {
        let epoll = epoll::create(CreateFlags::CLOEXEC)?;
        let config = believing(false);
        let all = (0..options.connections).map(|place| {
            let stream = connect(options.address, &config)?;
            let (session, socket) = stream.into_parts();
            socket.set_nonblocking(true)?;
            let data = EventData::new_u64(place as u64);
            epoll::add(&epoll, socket.as_fd(), data, EventFlags::IN)?;
            anyhow::Ok(Connection {
                socket,
                session,
                framing: Framing::default(),
                sent_at: Instant::now(),
            })
        });
        let all = all.collect::<Result<_>>()?;
        Ok(Self {
            epoll,
            all,
            request: request(options.address),
        })
    }

    fn measure(mut self, options: &Options) -> Result<Seen> {
        let mut latencies_ns = latencies()?;
        let now = Instant::now();
        for connection in &mut self.all {
            connection.send(&self.request, now)?;
        }
        self.run(options.warm_up_seconds, &mut latencies_ns)?;
        latencies_ns.reset();
        let clocks = Clocks::start(options.server)?;
        let answered = self.run(options.seconds, &mut latencies_ns)?;
        clocks.seen(answered, &latencies_ns)
    }

    fn run(
        &mut self,
        seconds: f64,
        latencies_ns: &mut hdrhistogram::Histogram<u64>,
    ) -> Result<u64> {
        let mut events = Vec::with_capacity(1024);
        let mut buffer = vec![0; 64 * 1024];
        let mut usual = Answer::default();
        let patience = Timespec::try_from(SILENCE)?;
        let began = Instant::now();
        let mut answered = 0;
        while began.elapsed().as_secs_f64() < seconds {
            events.clear();
            let room = rustix::buffer::spare_capacity(&mut events);
            match epoll::wait(&self.epoll, room, Some(&patience)) {
                Ok(0) => bail!("no answer for {SILENCE:?}"),
                Ok(_) | Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(error).context("epoll_wait"),
            }
            for event in &events {
                let connection = &mut self.all[event.data.u64() as usize];
                if connection.receive(&mut buffer, &mut usual)? {
                    let now = Instant::now();
                    let waited = now.saturating_duration_since(connection.sent_at);
                    latencies_ns.saturating_record(waited.as_nanos() as u64);
                    answered += 1;
                    connection.send(&self.request, now)?;
                }
            }
        }
        Ok(answered)
    }
}

impl Connection {
    fn send(&mut self, request: &[u8], now: Instant) -> Result<()> {
        self.sent_at = now;
        self.session.writer().write_all(request)?;
        while self.session.wants_write() {
            // Requests are far smaller than a socket's buffer, which is empty when they are sent.
            self.session.write_tls(&mut self.socket)?;
        }
        Ok(())
    }

    /// Whether the answer is whole.
    fn receive(&mut self, buffer: &mut [u8], usual: &mut Answer) -> Result<bool> {
        match self.session.read_tls(&mut self.socket) {
            Ok(0) => bail!("the server closed a connection"),
            Ok(_) => {}
            Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(false),
            Err(error) => return Err(error).context("reading an answer"),
        }
        self.session.process_new_packets()?;
        let mut whole = false;
        loop {
            match self.session.reader().read(buffer) {
                Ok(0) => bail!("the server closed a connection"),
                Ok(count) => whole |= self.framing.feed(&buffer[..count], usual)? > 0,
                Err(error) if error.kind() == ErrorKind::WouldBlock => return Ok(whole),
                Err(error) => return Err(error).context("reading an answer"),
            }
        }
    }
}

/// Believes every server: a load asks for no proof.
fn believing(resumes: bool) -> Arc<ClientConfig> {
    let mut config = ClientConfig::builder_with_provider(Arc::new(default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring has them")
        .dangerous()
        .with_custom_certificate_verifier(Arc::new(Believes))
        .with_no_client_auth();
    if !resumes {
        config.resumption = Resumption::disabled();
    }
    Arc::new(config)
}

#[derive(Debug)]
struct Believes;

impl ServerCertVerifier for Believes {
    fn verify_server_cert(
        &self,
        _: &CertificateDer<'_>,
        _: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        _: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn verify_tls13_signature(
        &self,
        _: &[u8],
        _: &CertificateDer<'_>,
        _: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        Ok(HandshakeSignatureValid::assertion())
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        vec![SignatureScheme::ECDSA_NISTP256_SHA256]
    }
}
