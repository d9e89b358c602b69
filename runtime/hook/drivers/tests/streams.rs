//! Crates that take a stream, on maniple's own: no call is hooked here. The book shows them.

use std::io::{self, BufReader, Read, Write};

use maniple::{
    Runtime,
    net::{TcpListener, TcpStream},
    spawn,
};
use maniple_drivers::Server;

fn on_one_worker<T: Send>(test: impl FnOnce() -> T + Send) -> T {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let long = std::time::Duration::from_secs(60);
    runtime.run(|| maniple::timeout(long, test).expect("it does not hang"))
}

// ANCHOR: redis
use redis::{ConnectionLike, RedisResult, Value};

/// A connection to Redis: its parser, over a socket of maniple's.
struct Redis(BufReader<TcpStream>, redis::Parser);

impl ConnectionLike for Redis {
    fn req_packed_command(&mut self, command: &[u8]) -> RedisResult<Value> {
        Ok(self.req_packed_commands(command, 0, 1)?.remove(0))
    }

    fn req_packed_commands(
        &mut self,
        commands: &[u8],
        skip: usize,
        n: usize,
    ) -> RedisResult<Vec<Value>> {
        self.0.get_mut().write_all(commands)?;
        let mut next = || self.1.parse_value(&mut self.0);
        (0..skip).try_for_each(|_| next().map(drop))?;
        (0..n).map(|_| next()).collect()
    }

    fn get_db(&self) -> i64 {
        0
    }

    fn check_connection(&mut self) -> bool {
        redis::cmd("PING").query::<()>(self).is_ok()
    }

    fn is_open(&self) -> bool {
        true
    }
}
// ANCHOR_END: redis

#[test]
fn redis_parser() {
    let server = Server::redis();
    on_one_worker(|| {
        let calls: Vec<_> = (0..20)
            .map(|n| {
                let port = server.port;
                spawn(move || {
                    let stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
                    let mut redis = Redis(BufReader::new(stream), redis::Parser::new());
                    let told: i32 = redis::cmd("ECHO").arg(n).query(&mut redis).unwrap();
                    assert_eq!(told, n);
                    let both: (i32, i32) = redis::pipe()
                        .set(n, n)
                        .ignore()
                        .get(n)
                        .cmd("ECHO")
                        .arg(n + 1)
                        .query(&mut redis)
                        .unwrap();
                    assert_eq!(both, (n, n + 1));
                    assert!(redis::cmd("NONSENSE").query::<()>(&mut redis).is_err());
                    assert!(redis.check_connection() && redis.is_open() && redis.get_db() == 0);
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
    });
}

// ANCHOR: ureq
use ureq::unversioned::transport::{
    Buffers, ConnectionDetails, Connector, LazyBuffers, NextTimeout, Transport,
};

/// Connects ureq by sockets of maniple's.
#[derive(Debug)]
struct Ours;

#[derive(Debug)]
struct Connection(TcpStream, LazyBuffers);

impl<In: Transport> Connector<In> for Ours {
    type Out = Connection;

    fn connect(
        &self,
        to: &ConnectionDetails,
        _: Option<In>,
    ) -> Result<Option<Connection>, ureq::Error> {
        let buffers = LazyBuffers::new(
            to.config.input_buffer_size(),
            to.config.output_buffer_size(),
        );
        let stream = within(to.timeout, || TcpStream::connect(&to.addrs[..]))?;
        Ok(Some(Connection(stream, buffers)))
    }
}

impl Transport for Connection {
    fn buffers(&mut self) -> &mut dyn Buffers {
        &mut self.1
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), ureq::Error> {
        within(timeout, || self.0.write_all(&self.1.output()[..amount]))
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, ureq::Error> {
        let got = within(timeout, || self.0.read(self.1.input_append_buf()))?;
        self.1.input_appended(got);
        Ok(got > 0)
    }

    fn is_open(&mut self) -> bool {
        matches!(self.0.try_read(&mut [0]), Err(error) if error.kind() == io::ErrorKind::WouldBlock)
    }
}

fn within<T>(timeout: NextTimeout, call: impl FnOnce() -> io::Result<T>) -> Result<T, ureq::Error> {
    let Some(time) = timeout.not_zero() else {
        return Ok(call()?);
    };
    match maniple::timeout(*time, call) {
        Ok(Err(error)) if error.kind() == io::ErrorKind::TimedOut => {}
        Ok(done) => return Ok(done?),
        Err(_elapsed) => {}
    }
    Err(ureq::Error::Timeout(timeout.reason))
}
// ANCHOR_END: ureq

#[test]
fn ureqs_transport() {
    let server = Server::http();
    on_one_worker(|| {
        let resolver = ureq::unversioned::resolver::DefaultResolver::default();
        let settings =
            ureq::Agent::config_builder().timeout_global(Some(std::time::Duration::from_secs(30)));
        let agent = ureq::Agent::with_parts(settings.build(), Ours, resolver);
        let calls: Vec<_> = (0..10)
            .map(|n| {
                let (agent, port) = (agent.clone(), server.port);
                spawn(move || {
                    for _ in 0..2 {
                        let mut told = agent
                            .get(format!("http://127.0.0.1:{port}/{n}"))
                            .call()
                            .unwrap();
                        assert_eq!(told.body_mut().read_to_string().unwrap(), format!("/{n}"));
                    }
                })
            })
            .collect();
        calls.into_iter().for_each(|call| call.join().unwrap());
        let slow = format!("http://127.0.0.1:{}/slow", server.port);
        let short = agent
            .get(slow)
            .config()
            .timeout_global(Some(maniple_drivers::CALL / 4))
            .build()
            .call();
        assert!(matches!(short, Err(ureq::Error::Timeout(_))), "{short:?}");
    });
}

#[test]
fn tungstenite_over_ours() {
    on_one_worker(|| {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = spawn(move || -> tungstenite::Result<()> {
            // ANCHOR: tungstenite
            let (stream, _) = listener.accept()?;
            let mut socket = tungstenite::accept(stream).expect("a handshake");
            let message = socket.read()?; // suspends
            socket.send(message)
            // ANCHOR_END: tungstenite
        });
        let stream = TcpStream::connect(address).unwrap();
        let (mut socket, _) = tungstenite::client(format!("ws://{address}/"), stream).unwrap();
        socket.send("hello".into()).unwrap();
        assert_eq!(socket.read().unwrap().to_text().unwrap(), "hello");
        server.join().unwrap().unwrap();
    });
}

#[test]
fn rustls_over_ours() {
    use rustls::{
        ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection, StreamOwned,
    };
    use std::sync::Arc;
    let own = rcgen::generate_simple_self_signed(["localhost".to_owned()]).unwrap();
    let key = own.signing_key.serialize_der().try_into().unwrap();
    let mut known = RootCertStore::empty();
    known.add(own.cert.der().clone()).unwrap();
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let server =
        ServerConfig::builder_with_provider(ring.clone()).with_safe_default_protocol_versions();
    let server = server.unwrap().with_no_client_auth();
    let server = Arc::new(
        server
            .with_single_cert(vec![own.cert.der().clone()], key)
            .unwrap(),
    );
    let client = ClientConfig::builder_with_provider(ring).with_safe_default_protocol_versions();
    let client = Arc::new(
        client
            .unwrap()
            .with_root_certificates(known)
            .with_no_client_auth(),
    );
    on_one_worker(move || {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let echo = spawn(move || {
            let (stream, _) = listener.accept().unwrap();
            let mut stream = StreamOwned::new(ServerConnection::new(server).unwrap(), stream);
            let mut got = [0; 5];
            stream.read_exact(&mut got).unwrap();
            stream.write_all(&got).unwrap();
        });
        let hello = || -> Result<[u8; 5], Box<dyn std::error::Error>> {
            // ANCHOR: rustls
            let tcp = TcpStream::connect(address)?;
            let tls = ClientConnection::new(client, "localhost".try_into()?)?;
            let mut stream = StreamOwned::new(tls, tcp);
            stream.write_all(b"hello")?; // the handshake suspends
            let mut told = [0; 5];
            stream.read_exact(&mut told)?;
            // ANCHOR_END: rustls
            Ok(told)
        };
        assert_eq!(&hello().unwrap(), b"hello");
        echo.join().unwrap();
    });
}
