//! What is particular to HTTPS: handshakes, names, certificates, ends.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{Shutdown, TcpStream},
};
use maniple_server::{
    DrainReport, Request, Response, Router, Server, ServerHandle, StatusCode,
    middleware::Metrics,
    server::Builder,
    tls::{ClientConfig, Error, ServerBuilder, ServerConfig, Stream, self_signed},
};

use super::{routes, statuses};
use crate::driven::Runtime;

const LONG: Duration = Duration::from_secs(60);
const MOMENT: Duration = Duration::from_millis(100);

/// A server that speaks TLS, and a client that believes it.
pub(super) struct Served {
    pub(super) handle: ServerHandle,
    pub(super) config: ServerConfig,
    client: ClientConfig,
    /// The certificate, PEM.
    pub(super) believed: Vec<u8>,
    serving: Option<JoinHandle<io::Result<DrainReport>>>,
    _runtime: Runtime,
}

impl Served {
    pub(super) fn start(routes: Router) -> Self {
        Self::with(routes, |builder| builder, |tls| tls)
    }

    pub(super) fn with(
        routes: Router,
        settings: impl FnOnce(Builder) -> Builder,
        tls: impl FnOnce(ServerBuilder) -> ServerBuilder,
    ) -> Self {
        let certificate = self_signed(["localhost", "127.0.0.1"]).unwrap();
        let believed = certificate.chain_pem();
        let client = ClientConfig::builder().roots_pem(believed.clone());
        let config = tls(ServerConfig::builder().certificate(certificate))
            .build()
            .unwrap();
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = settings(Server::builder(routes));
        let server = server.bind_tls("127.0.0.1:0", config.clone()).unwrap();
        let handle = server.handle();
        let serving = Some(runtime.spawn(move || server.serve()));
        Self {
            handle,
            config,
            client: client.build().unwrap(),
            believed,
            serving,
            _runtime: runtime,
        }
    }

    fn connect_plainly(&self) -> TcpStream {
        let stream = TcpStream::connect(self.handle.local_addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn connect(&self) -> Stream<maniple::net::TcpStream> {
        let stream = maniple::net::TcpStream::connect(self.handle.local_addr()).unwrap();
        let stream = self.client.stream(stream, "localhost").unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    }

    fn say(&self, bytes: impl AsRef<[u8]>) -> String {
        let mut stream = self.connect();
        stream.write_all(bytes.as_ref()).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        crate::driven::without_questions(bytes.as_ref(), answer)
    }

    fn until_there_are(&self, connections: usize) {
        let patience = maniple::time::now() + LONG;
        while self.handle.connections() != connections {
            assert!(
                maniple::time::now() < patience,
                "{} connections",
                self.handle.connections()
            );
            maniple::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.handle.drain();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

/// Reads an answer with a body of that length.
fn answer(stream: &mut impl Read, body: &str) -> String {
    let (mut answer, mut byte) = (Vec::new(), [0]);
    while !answer.ends_with(format!("\r\n\r\n{body}").as_bytes()) {
        stream.read_exact(&mut byte).unwrap();
        answer.push(byte[0]);
    }
    String::from_utf8(answer).unwrap()
}

#[test]
fn plain_http_on_a_port_for_tls_is_answered_readably() {
    let served = Served::start(routes());
    for request in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n".to_owned(),
        format!(
            "POST /echo HTTP/1.1\r\nHost: h\r\nContent-Length: 200000\r\n\r\n{}",
            "x".repeat(200_000)
        ),
    ] {
        let mut stream = served.connect_plainly();
        stream.write_all(request.as_bytes()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert_eq!(statuses(&answer), [400]);
        let (head, body) = answer.split_once("\r\n\r\n").unwrap();
        assert!(body.contains("HTTPS"), "{body}");
        assert!(
            head.contains(&format!("content-length: {}\r\n", body.len())),
            "{head}"
        );
    }
    let mut stream = served.connect_plainly();
    stream.write_all(b"SSH-2.0-x\r\n").unwrap();
    assert_eq!(stream.read(&mut [0; 16]).unwrap_or(0), 0);
    served.until_there_are(0);
}

#[test]
fn a_handler_learns_what_was_agreed_on() {
    let routes = Router::new().get("/", |request: &mut Request| {
        let tls = request.tls().expect("it came over TLS");
        format!(
            "{} {:?} {:?}",
            tls.version(),
            tls.server_name(),
            tls.peer_name()
        )
    });
    let served = Served::start(routes);
    let answer = served.say("GET / HTTP/1.0\r\n\r\n");
    assert!(
        answer.ends_with("TLSv1.3 Some(\"localhost\") None"),
        "{answer}"
    );
    assert!(Request::for_test("GET", "/").tls().is_none());
}

#[test]
fn a_clients_certificate_names_it_to_the_handler() {
    let known = self_signed(["worker-7.example"]).unwrap();
    let routes = Router::new().get("/", |request: &mut Request| {
        let names = request.tls().map(|tls| tls.peer_dns_names());
        match names.unwrap_or_default().first() {
            Some(name) => name.clone(),
            None => "nobody".to_owned(),
        }
    });
    let roots = known.chain_pem();
    let served = Served::with(
        routes,
        |b| b,
        |tls| tls.optional_client_certificates_pem(roots),
    );
    assert!(served.say("GET / HTTP/1.0\r\n\r\n").ends_with("nobody"));
    let client = ClientConfig::builder()
        .roots_pem(served.believed.clone())
        .certificate(known);
    let client = client.build().unwrap();
    for turn in 0..2 {
        let stream = maniple::net::TcpStream::connect(served.handle.local_addr()).unwrap();
        let mut stream = client.stream(stream, "localhost").unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.ends_with("worker-7.example"), "{answer}");
        // Who resumes is known, too.
        assert_eq!(stream.info().unwrap().is_resumed(), turn > 0);
    }
}

#[test]
fn who_does_not_shake_hands_in_time_is_closed() {
    let served = Served::with(routes(), |b| b, |tls| tls.handshake_timeout(MOMENT));
    for begun in [&b""[..], &[22, 3, 1, 2]] {
        let mut stream = served.connect_plainly();
        stream.write_all(begun).unwrap();
        // A header would have 10 s.
        let begins = maniple::time::now();
        assert_eq!(stream.read(&mut [0; 16]).unwrap(), 0);
        assert!(maniple::time::now() - begins < Duration::from_secs(9));
    }
    // Those in time have all the time of HTTP.
    let mut stream = served.connect();
    stream.handshake().unwrap();
    maniple::sleep(3 * MOMENT);
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    answer(&mut stream, "hello");
}

#[test]
fn half_a_record_holds_nobody_up_and_has_the_time_of_a_header() {
    let served = Served::with(
        routes(),
        |builder| {
            builder
                .header_timeout(Duration::from_secs(1))
                .idle_timeout(LONG)
        },
        |tls| tls,
    );
    let mut stream = served.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    answer(&mut stream, "hello");
    let mut stalls = served.connect();
    stalls.handshake().unwrap();
    // The beginning of a record, whose rest does not come.
    (&mut stalls.transport())
        .write_all(&[23, 3, 3, 1, 0, 7, 7, 7])
        .unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    answer(&mut stream, "hello");
    let begins = maniple::time::now();
    let ended = stalls.read(&mut [0; 16]);
    assert_eq!(ended.unwrap(), 0);
    assert!(maniple::time::now() - begins < LONG / 2);
}

#[test]
fn requests_that_one_record_brings_are_all_answered_also_behind_a_rest() {
    let served = Served::start(routes());
    let mut stream = served.connect();
    let one = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
    stream.write_all(one.as_bytes()).unwrap();
    answer(&mut stream, "hello");
    // So long that the server waits without a coroutine, and for the socket alone.
    maniple::sleep(Duration::from_millis(2_500));
    let many = 16 * 1024 / one.len();
    for _ in 0..3 {
        // More than a connection's buffer takes at once.
        stream.write_all(one.repeat(many).as_bytes()).unwrap();
        for _ in 0..many {
            answer(&mut stream, "hello");
        }
    }
}

#[test]
fn a_body_that_ends_without_close_notify_is_not_taken_for_whole() {
    let (sees, seen) = maniple::sync::mpsc::channel();
    let routes = Router::new().post("/", move |request: &mut Request| {
        let _ = sees.send(request.read_body().map_err(|error| error.to_string()));
        StatusCode::OK
    });
    let served = Served::start(routes);
    let begins = b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n";
    let mut stream = served.connect();
    stream.write_all(begins).unwrap();
    stream.transport().shutdown(Shutdown::Write).unwrap();
    let error = seen.recv_timeout(LONG).unwrap().unwrap_err();
    assert!(error.contains("close_notify"), "{error}");
}

#[test]
fn an_answer_that_breaks_off_ends_without_close_notify() {
    let routes = Router::new().get("/", |_: &mut Request| {
        let broken = io::Read::chain(&b"begun"[..], Breaks);
        Response::text(maniple_server::Body::from_reader(broken))
    });
    let served = Served::start(routes);
    let mut stream = served.connect();
    // Whose body is as long as the connection lasts.
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
    let mut answer = Vec::new();
    let error = stream.read_to_end(&mut answer).unwrap_err();
    let is_truncated = Error::of(&error) == Some(&Error::Truncated);
    assert!(
        is_truncated || error.kind() == io::ErrorKind::ConnectionReset,
        "{error}"
    );
}

struct Breaks;

impl Read for Breaks {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("intended"))
    }
}

#[test]
fn certificates_are_read_again_under_load_and_no_request_is_lost() {
    let folder = std::env::temp_dir().join(format!("maniple-https-{}", std::process::id()));
    std::fs::create_dir_all(&folder).unwrap();
    let (chain, key) = (folder.join("site.crt"), folder.join("site.key"));
    let renew = || {
        let params = rcgen::CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
        let signing = rcgen::KeyPair::generate().unwrap();
        std::fs::write(&chain, params.self_signed(&signing).unwrap().pem()).unwrap();
        std::fs::write(&key, signing.serialize_pem()).unwrap();
        std::fs::read(&chain).unwrap()
    };
    let first = renew();
    let config = ServerConfig::builder()
        .certificate(maniple_server::tls::Certificate::files(&chain, &key))
        .build()
        .unwrap();
    let runtime = Runtime::builder().workers(2).build().unwrap();
    let server = Server::builder(routes())
        .bind_tls("127.0.0.1:0", config.clone())
        .unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let connect = |believed: &[u8]| {
        let client = ClientConfig::builder().roots_pem(believed).build().unwrap();
        let stream = maniple::net::TcpStream::connect(handle.local_addr()).unwrap();
        client.stream(stream, "localhost").unwrap()
    };
    let answered = AtomicUsize::new(0);
    let is_over = std::sync::atomic::AtomicBool::new(false);
    crate::driven::thread::scope(|scope| {
        for _ in 0..4 {
            let mut stream = connect(&first);
            stream.handshake().unwrap();
            let (answered, is_over) = (&answered, &is_over);
            scope.spawn(move || {
                while !is_over.load(SeqCst) {
                    stream
                        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
                        .unwrap();
                    answer(&mut stream, "hello");
                    answered.fetch_add(1, SeqCst);
                }
            });
        }
        for _ in 0..5 {
            let believed = renew();
            assert!(config.reload().unwrap());
            // New ones get the new one, and old ones go on.
            connect(&believed).handshake().unwrap();
            let before = answered.load(SeqCst);
            let patience = maniple::time::now() + LONG;
            while answered.load(SeqCst) < before + 20 {
                assert!(maniple::time::now() < patience);
                maniple::sleep(Duration::from_millis(1));
            }
        }
        is_over.store(true, SeqCst);
    });
    handle.drain();
    serving.join().unwrap().unwrap();
    std::fs::remove_dir_all(&folder).unwrap();
}

#[test]
fn an_idle_connection_is_ended_by_a_drain_with_close_notify() {
    let served = Served::start(routes());
    let mut stream = served.connect();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    answer(&mut stream, "hello");
    served.handle.drain();
    assert_eq!(stream.read(&mut [0]).unwrap(), 0);
}

#[test]
fn handshakes_that_are_made_at_once_leave_their_places_to_others() {
    let served = Arc::new(Served::with(routes(), |b| b, |tls| tls.max_handshakes(2)));
    crate::driven::thread::scope(|scope| {
        for _ in 0..16 {
            let served = &served;
            scope.spawn(move || {
                let mut stream = served.connect();
                stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
                answer(&mut stream, "hello");
            });
        }
    });
    served.until_there_are(0);
    assert_eq!(served.config.free_handshakes(), 2);
}

/// A client that believes this server alone.
fn asking(served: &Served) -> maniple_server::Client {
    maniple_server::Client::builder()
        .tls(served.client.clone())
        .build()
}

fn url(served: &Served, host: &str, path: &str) -> String {
    format!("https://{host}:{}{path}", served.handle.local_addr().port())
}

#[test]
fn the_client_asks_https_urls_by_name_and_address_over_kept_connections() {
    let served = Served::start(routes());
    let client = asking(&served);
    for host in ["localhost", "127.0.0.1"] {
        for _ in 0..3 {
            let answer = client.get(&url(&served, host, "/user/7")).unwrap();
            assert_eq!(answer.text().unwrap(), "7");
        }
        let large = vec![b'z'; 500_000];
        let made = maniple_server::Body::from_reader(io::Cursor::new(large.clone()));
        for body in [large.into(), made] {
            let asked = client.post(&url(&served, host, "/echo")).body(body).send();
            assert_eq!(asked.unwrap().bytes().unwrap().len(), 500_000);
        }
    }
    assert_eq!(served.handle.connections(), 2, "one for each name");
}

#[test]
fn a_certificate_that_does_not_hold_is_told_by_its_fault() {
    use maniple_server::{Client, ClientError, tls::CertificateFault};
    let served = Served::start(routes());
    let fault = |client: &Client, host: &str| {
        let error = client.get(&url(&served, host, "/")).unwrap_err();
        assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
        let ClientError::Tls { error, .. } = error else {
            panic!("{error}");
        };
        Error::of(&error).unwrap().certificate_fault()
    };
    let other = self_signed(["localhost"]).unwrap().chain_pem();
    let other = ClientConfig::builder().roots_pem(other).build().unwrap();
    let stranger = Client::builder().tls(other).build();
    assert_eq!(
        fault(&stranger, "localhost"),
        Some(CertificateFault::Unknown)
    );
    // Another name of the same place.
    assert_eq!(
        fault(&asking(&served), "[::ffff:127.0.0.1]"),
        Some(CertificateFault::WrongName)
    );
    crate::driven::run(|| served.until_there_are(0));
}

#[test]
fn a_handshake_that_nobody_answers_ends_in_time() {
    let silent = maniple::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let believed = self_signed(["localhost"]).unwrap().chain_pem();
    let config = ClientConfig::builder().roots_pem(believed);
    let config = config.handshake_timeout(MOMENT).build().unwrap();
    let client = maniple_server::Client::builder().tls(config).build();
    let url = format!("https://{}/", silent.local_addr().unwrap());
    let error = client.get(&url).unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn handshakes_are_told_by_what_they_came_to() {
    let metrics = Metrics::new();
    let served = Served::start(routes());
    served.handle.report_to(&metrics);
    let told = |result: &str, count: u64| {
        let server = served.handle.local_addr();
        let told = metrics.handler()(&mut Request::for_test("GET", "/"));
        let told = told.into_text().unwrap();
        let family = "http_server_tls_handshakes_total";
        let line = format!("\n{family}{{server=\"{server}\",result=\"{result}\"}} {count}\n");
        assert!(told.contains(&line), "no {line} in {told}");
    };
    told("full", 0);
    let get = "GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
    for _ in 0..3 {
        assert_eq!(statuses(&served.say(get)), [200]);
    }
    let mut plain = served.connect_plainly();
    plain.write_all(get.as_bytes()).unwrap();
    let _ = plain.read_to_string(&mut String::new());
    drop(plain);
    served.until_there_are(0);
    told("full", 1);
    told("resumed", 2);
    told("failed", 1);
}
