//! Links through the tunnels of proxies: to each server its own, shared by all calls, with TLS from end to end.

use std::{
    collections::BTreeMap,
    io::{self, Read, Write},
    net::SocketAddr,
    sync::Arc,
};

use maniple::{
    JoinHandle,
    net::{TcpListener, TcpStream},
    sync::Mutex,
};
use maniple_server::{
    Client, ClientError, DrainReport, Request, Router, Server, ServerHandle, StatusCode, Version,
    client::{Phase, Proxy},
    tls::{ClientConfig, ServerConfig, self_signed},
};

use super::{Served, run};

/// A proxy that makes tunnels for who has the password.
struct Middle {
    address: SocketAddr,
    /// The heads of all requests, in order.
    told: Arc<Mutex<Vec<String>>>,
    accepting: JoinHandle<()>,
}

impl Middle {
    /// Each name leads to the server with it, and to none what has none.
    fn start(names: &[(&str, SocketAddr)]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let names = names.iter().map(|(name, at)| ((*name).to_owned(), *at));
        let (notes, names): (_, Arc<BTreeMap<_, _>>) = (told.clone(), Arc::new(names.collect()));
        let accepting = maniple::spawn(move || {
            while let Ok((stream, _)) = listener.accept() {
                let (notes, names) = (notes.clone(), names.clone());
                maniple::spawn(move || drop(lead(stream, &notes, &names)));
            }
        });
        Self {
            address,
            told,
            accepting,
        }
    }

    fn proxy(&self) -> Proxy {
        let proxy = Proxy::new(&format!("http://{}", self.address)).unwrap();
        proxy.credentials("me", "secret")
    }

    /// What was asked for, over each connection.
    fn asked(&self) -> Vec<String> {
        let told = self.told.lock();
        let asked = told.iter().map(|head| head.split(' ').nth(1));
        asked.map(|asked| asked.unwrap().to_owned()).collect()
    }
}

impl Drop for Middle {
    fn drop(&mut self) {
        self.accepting.cancel();
    }
}

fn lead(
    mut stream: TcpStream,
    notes: &Mutex<Vec<String>>,
    names: &BTreeMap<String, SocketAddr>,
) -> io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        stream.read_exact(&mut byte)?;
        head.extend(byte);
    }
    let head = String::from_utf8(head).unwrap();
    let authority = head.split(' ').nth(1).unwrap_or_default();
    let name = authority.split(':').next().unwrap_or_default();
    let at = names.get(name).copied();
    let allowed = head.contains("\r\nproxy-authorization: Basic bWU6c2VjcmV0\r\n");
    notes.lock().push(head);
    let (Some(at), true) = (at, allowed) else {
        let status = match allowed {
            true => "502 Bad Gateway",
            false => "407 Proxy Authentication Required",
        };
        return write!(stream, "HTTP/1.1 {status}\r\ncontent-length: 0\r\n\r\n");
    };
    let behind = TcpStream::connect(at)?;
    stream.write_all(b"HTTP/1.1 200 Connection established\r\n\r\n")?;
    maniple::io::copy_bidirectional(&stream, &behind).map(drop)
}

/// A server that speaks TLS.
struct Secure {
    handle: ServerHandle,
    believed: Vec<u8>,
    serving: Option<JoinHandle<io::Result<DrainReport>>>,
}

impl Secure {
    fn start(names: &[&str], protocols: &[&str]) -> Self {
        let certificate = self_signed(names.iter().copied()).unwrap();
        let believed = certificate.chain_pem();
        let config = ServerConfig::builder().certificate(certificate);
        let config = config.alpn(protocols.iter().copied()).build().unwrap();
        let server = Server::builder(router()).bind_tls("127.0.0.1:0", config);
        let server = server.unwrap();
        Self {
            handle: server.handle(),
            believed,
            serving: Some(maniple::spawn(move || server.serve())),
        }
    }

    fn address(&self) -> SocketAddr {
        self.handle.local_addr()
    }
}

impl Drop for Secure {
    fn drop(&mut self) {
        self.handle.drain();
        if let Some(serving) = self.serving.take() {
            let _ = serving.join();
        }
    }
}

fn router() -> Router {
    Router::new().get("/", |request: &mut Request| {
        let names = request.headers().keys().filter(|name| {
            let name = name.as_str();
            name.starts_with("proxy-") || name == "authorization"
        });
        let names: Vec<_> = names.map(ToString::to_string).collect();
        format!("{:?} {}", request.version(), names.join(" "))
    })
}

fn client(proxy: Proxy, servers: &[&Secure]) -> Client {
    let believed: Vec<u8> = servers
        .iter()
        .flat_map(|server| server.believed.clone())
        .collect();
    let config = ClientConfig::builder().roots_pem(believed);
    let config = config.build().unwrap();
    Client::builder().proxy(proxy).tls(config).build()
}

fn get(client: &Client, url: &str) -> (Version, String) {
    let answer = client.get(url).unwrap();
    let version = answer.version();
    (version, answer.text().unwrap())
}

const BOTH: [&str; 2] = ["h2", "http/1.1"];

#[test]
fn all_calls_to_a_server_share_a_tunnel_and_each_server_has_its_own() {
    run(|| {
        let one = Secure::start(&["one.test", "two.test"], &BOTH);
        let other = Secure::start(&["other.test"], &BOTH);
        let middle = Middle::start(&[
            ("one.test", one.address()),
            ("two.test", one.address()),
            ("other.test", other.address()),
        ]);
        let client = client(middle.proxy(), &[&one, &other]);
        // Names and ports tell servers apart, whatever they lead to.
        let targets = [
            "one.test:443",
            "two.test:443",
            "one.test:444",
            "other.test:443",
        ];
        maniple::group::map(20, 0..80, |number| {
            let target = targets[number % targets.len()].replace(":443", "");
            let (version, text) = get(&client, &format!("https://{target}/"));
            assert_eq!(version, Version::HTTP_2);
            assert_eq!(text, "HTTP/2.0 ", "the proxy alone is told who asks");
        });
        let mut asked = middle.asked();
        asked.sort();
        let mut expected = targets.map(str::to_owned);
        expected.sort();
        assert_eq!(asked, expected, "a tunnel for each");
        assert_eq!(one.handle.connections(), 3);
        assert_eq!(other.handle.connections(), 1);
    });
}

#[test]
fn a_host_that_is_excepted_has_a_link_of_its_own_without_the_proxy() {
    run(|| {
        let server = Secure::start(&["localhost", "one.test"], &BOTH);
        let middle = Middle::start(&[("one.test", server.address())]);
        let client = client(middle.proxy().except("localhost"), &[&server]);
        let port = server.address().port();
        for host in ["localhost", "one.test", "localhost", "one.test"] {
            let (version, _) = get(&client, &format!("https://{host}:{port}/"));
            assert_eq!(version, Version::HTTP_2);
        }
        assert_eq!(middle.asked(), [format!("one.test:{port}")]);
        assert_eq!(server.handle.connections(), 2);
    });
}

#[test]
fn a_server_that_speaks_http1_is_asked_over_the_tunnel_that_found_it_out() {
    run(|| {
        let server = Secure::start(&["one.test"], &["http/1.1"]);
        let middle = Middle::start(&[("one.test", server.address())]);
        let client = client(middle.proxy(), &[&server]);
        for _ in 0..3 {
            let told = get(&client, "https://one.test/");
            assert_eq!(told, (Version::HTTP_11, "HTTP/1.1 ".to_owned()));
        }
        assert_eq!(middle.asked(), ["one.test:443"]);
    });
}

#[test]
fn plain_text_by_prior_knowledge_goes_through_a_tunnel_too() {
    run(|| {
        let served = Served::of(router());
        let middle = Middle::start(&[("one.test", served.address())]);
        let builder = Client::builder().proxy(middle.proxy());
        let client = builder.http2_prior_knowledge(true).build();
        for _ in 0..3 {
            let told = get(&client, "http://one.test/");
            assert_eq!(told, (Version::HTTP_2, "HTTP/2.0 ".to_owned()));
        }
        assert_eq!(middle.asked(), ["one.test:80"]);
        assert!(middle.told.lock()[0].starts_with("CONNECT "));
    });
}

#[test]
fn a_proxy_that_refuses_is_told_and_asked_anew() {
    run(|| {
        let server = Secure::start(&["one.test"], &BOTH);
        let middle = Middle::start(&[("one.test", server.address())]);
        let refused = |error: ClientError| {
            assert!(matches!(error, ClientError::Proxy { .. }), "{error:?}");
            assert_eq!(error.phase(), Some(Phase::Connect));
            assert!(error.is_unsent());
        };
        let known = client(middle.proxy(), &[&server]);
        refused(known.get("https://nowhere.test/").unwrap_err());
        let unknown = client(middle.proxy().credentials("me", "wrong"), &[&server]);
        refused(unknown.get("https://one.test/").unwrap_err());
        // Nothing of that stays with the server.
        for _ in 0..2 {
            let answer = known.get("https://one.test/").unwrap();
            assert_eq!(
                (answer.status(), answer.version()),
                (StatusCode::OK, Version::HTTP_2)
            );
        }
        let expected = ["nowhere.test:443", "one.test:443", "one.test:443"];
        assert_eq!(middle.asked(), expected);
    });
}
