//! Calls through proxies: which are asked for what, what they are told, and what they are not.

use std::{
    io::{self, Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::net::{Ipv4Addr, Shutdown, SocketAddr, TcpListener, TcpStream};
use maniple_server::{
    Client, ClientError, Method, Request, Router, Server, StatusCode,
    client::{self, Phase, Proxy},
    tls::ClientConfig,
    websocket,
};

use super::{Served, client_ends, routes, secure};
use crate::driven::{Reserved, Runtime};

const PATIENCE: Duration = Duration::from_secs(30);

/// A proxy on plain threads that leads everything to one server, and notes what it was told.
struct Middle {
    address: SocketAddr,
    /// The first head that came over each connection, or the target that SOCKS named.
    told: Arc<Mutex<Vec<String>>>,
}

impl Middle {
    fn start(treat: impl Fn(&mut TcpStream) -> io::Result<String> + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let told: Arc<Mutex<Vec<String>>> = Arc::default();
        let (notes, treat) = (told.clone(), Arc::new(treat));
        crate::driven::thread::spawn(move || {
            while let Ok((mut stream, _)) = listener.accept() {
                let (notes, treat) = (notes.clone(), treat.clone());
                crate::driven::thread::spawn(move || {
                    if let Ok(note) = treat(&mut stream) {
                        notes.lock().unwrap().push(note);
                    }
                });
            }
        });
        Self { address, told }
    }

    /// Passes on what comes to the server, whatever it is asked for, once it has answered a `CONNECT` if there is one.
    fn http(server: SocketAddr, answer: &'static str) -> Self {
        Self::start(move |stream| {
            let head = head(stream)?;
            let mut behind = TcpStream::connect(server)?;
            match head.starts_with("CONNECT ") {
                true => stream.write_all(answer.as_bytes())?,
                // As a proxy has to, in the form of an origin.
                false => behind.write_all(head.replacen("http://", "/", 1).as_bytes())?,
            }
            both_ways(stream, &behind)?;
            Ok(head)
        })
    }

    /// SOCKS5, with a password if there is one.
    fn socks(server: SocketAddr, password: Option<&'static str>) -> Self {
        Self::start(move |stream| {
            let [_, count] = exactly::<2>(stream)?;
            let mut methods = vec![0; usize::from(count)];
            stream.read_exact(&mut methods)?;
            let mut note = String::new();
            if let Some(password) = password {
                if !methods.contains(&2) {
                    stream.write_all(&[5, 0xff])?;
                    return Ok("no password".to_owned());
                }
                stream.write_all(&[5, 2])?;
                let [_, length] = exactly::<2>(stream)?;
                let user = text(stream, length)?;
                let [length] = exactly::<1>(stream)?;
                let is_right = text(stream, length)? == password;
                stream.write_all(&[1, u8::from(!is_right)])?;
                note = format!("{user}@");
            } else {
                stream.write_all(&[5, 0])?;
            }
            let [_, _, _, kind] = exactly::<4>(stream)?;
            let host = match kind {
                1 => Ipv4Addr::from(exactly::<4>(stream)?).to_string(),
                _ => {
                    let [length] = exactly::<1>(stream)?;
                    text(stream, length)?
                }
            };
            let port = u16::from_be_bytes(exactly::<2>(stream)?);
            stream.write_all(&[5, 0, 0, 1, 127, 0, 0, 1, 0, 80])?;
            both_ways(stream, &TcpStream::connect(server)?)?;
            Ok(format!("{note}{host}:{port}"))
        })
    }

    fn url(&self, scheme: &str) -> String {
        format!("{scheme}://{}", self.address)
    }

    /// What it was told on each connection, once they have ended.
    #[track_caller]
    fn told(&self, count: usize) -> Vec<String> {
        let over = maniple::time::now() + PATIENCE;
        while self.told.lock().unwrap().len() < count {
            assert!(maniple::time::now() < over, "{:?}", self.told);
            maniple::sleep(Duration::from_millis(1));
        }
        self.told.lock().unwrap().clone()
    }
}

fn head(stream: &mut TcpStream) -> io::Result<String> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.extend(exactly::<1>(stream)?);
    }
    Ok(String::from_utf8(head).unwrap())
}

fn exactly<const N: usize>(stream: &mut TcpStream) -> io::Result<[u8; N]> {
    let mut bytes = [0; N];
    stream.read_exact(&mut bytes)?;
    Ok(bytes)
}

fn text(stream: &mut TcpStream, length: u8) -> io::Result<String> {
    let mut bytes = vec![0; usize::from(length)];
    stream.read_exact(&mut bytes)?;
    Ok(String::from_utf8(bytes).unwrap())
}

fn both_ways(near: &TcpStream, far: &TcpStream) -> io::Result<()> {
    let (mut from, mut to) = (near.try_clone()?, far.try_clone()?);
    let up = crate::driven::thread::spawn(move || {
        let _ = io::copy(&mut from, &mut to);
        let _ = to.shutdown(Shutdown::Write);
    });
    let _ = io::copy(&mut &*far, &mut &*near);
    let _ = near.shutdown(Shutdown::Both);
    up.join().map_err(|_| io::ErrorKind::Other.into())
}

const OPENED: &str = "HTTP/1.1 200 Connection established\r\n\r\n";

fn via(proxy: Proxy) -> Client {
    Client::builder().proxy(proxy).build()
}

/// A server that speaks TLS, and what makes a client believe it.
fn served_by_tls() -> (secure::Served, ClientConfig, u16) {
    let served = secure::Served::start(routes());
    let config = ClientConfig::builder().roots_pem(served.believed.clone());
    let port = served.handle.local_addr().port();
    (served, config.build().unwrap(), port)
}

#[test]
fn a_proxy_is_sent_the_whole_url_and_keeps_its_connection() {
    let served = Served::start();
    let proxy = Middle::start({
        let server = served.address();
        move |stream| {
            let mut heads = String::new();
            while let Ok(head) = head(stream) {
                let mut behind = TcpStream::connect(server)?;
                let line = head.split("\r\n").next().unwrap().to_owned();
                let path = line.split(' ').nth(1).unwrap().rsplit_once('/').unwrap().1;
                let request =
                    format!("GET /{path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
                behind.write_all(request.as_bytes())?;
                let mut answer = String::new();
                behind.read_to_string(&mut answer)?;
                let answer = answer.replacen("connection: close\r\n", "", 1);
                stream.write_all(answer.as_bytes())?;
                heads.push_str(&head);
            }
            Ok(heads)
        }
    });
    let client = via(Proxy::new(&proxy.url("http"))
        .unwrap()
        .credentials("me", "pass word"));
    for _ in 0..2 {
        let answer = client.get("http://nowhere.test:81/").unwrap();
        assert_eq!(answer.text().unwrap(), "hello");
    }
    drop(client);
    let told = proxy.told(1);
    let request = "GET http://nowhere.test:81/ HTTP/1.1\r\nhost: nowhere.test:81\r\n";
    assert_eq!(told[0].matches(request).count(), 2, "{told:?}");
    let credentials = "proxy-authorization: Basic bWU6cGFzcyB3b3Jk\r\n";
    assert_eq!(told[0].matches(credentials).count(), 2, "{told:?}");
}

#[test]
fn https_goes_through_a_tunnel_and_the_server_hears_nothing_of_the_proxys() {
    let (served, config, port) = served_by_tls();
    let proxy = Middle::http(([127, 0, 0, 1], port).into(), OPENED);
    let asks = Proxy::new(&format!("http://u:p@{}", proxy.address)).unwrap();
    let client = Client::builder().proxy(asks).tls(config).build();
    let url = format!("https://localhost:{port}/");
    for _ in 0..2 {
        assert_eq!(client.get(&url).unwrap().text().unwrap(), "hello");
    }
    drop(client);
    let told = proxy.told(1);
    assert_eq!(told.len(), 1, "one tunnel served both");
    let connect = format!(
        "CONNECT localhost:{port} HTTP/1.1\r\nhost: localhost:{port}\r\n\
         proxy-authorization: Basic dTpw\r\n\r\n"
    );
    assert_eq!(told[0], connect);
    drop(served);
}

#[test]
fn socks_is_told_a_name_or_an_address_as_the_url_of_the_proxy_says() {
    let served = Served::start();
    let proxy = Middle::socks(served.address(), None);
    let pinned = [SocketAddr::from(([10, 9, 8, 7], 0))];
    for scheme in ["socks5", "socks5h"] {
        let client = Client::builder()
            .resolve("name.test", pinned)
            .proxy(Proxy::new(&proxy.url(scheme)).unwrap())
            .build();
        let answer = client.get("http://name.test:81/").unwrap();
        assert_eq!(answer.text().unwrap(), "hello");
    }
    let mut told = proxy.told(2);
    told.sort();
    assert_eq!(told, ["10.9.8.7:81", "name.test:81"]);

    let proxy = Middle::socks(served.address(), Some("right"));
    let client = |password| {
        let asks = Proxy::new(&proxy.url("socks5h")).unwrap();
        via(asks.credentials("me", password))
    };
    assert_eq!(
        client("right")
            .get("http://a.test/")
            .unwrap()
            .text()
            .unwrap(),
        "hello"
    );
    assert_eq!(proxy.told(1), ["me@a.test:80"]);
    let error = client("wrong").get("http://a.test/").unwrap_err();
    assert!(matches!(error, ClientError::Proxy { .. }), "{error}");
    assert!(error.is_unsent());
    assert_eq!(error.phase(), Some(Phase::Connect));
    assert_eq!(error.status(), StatusCode::BAD_GATEWAY);
    assert!(!error.to_string().contains("wrong"), "{error}");
}

#[test]
fn hosts_that_are_excepted_are_asked_straight_and_are_told_no_credentials() {
    let heads: Arc<Mutex<Vec<bool>>> = Arc::default();
    let notes = heads.clone();
    let routes = Router::new().get("/", move |request: &mut Request| {
        let told = request.header_str("proxy-authorization").is_some();
        notes.lock().unwrap().push(told);
        "straight"
    });
    let served = Served::of(routes, |builder| builder);
    let reserved = Reserved::new();
    let nobody = reserved.address();
    let proxy = Proxy::new(&format!("http://u:p@{nobody}")).unwrap();
    let client = via(proxy.clone().except("127.0.0.0/8"));
    let answer = client.get(&served.url("/")).unwrap();
    assert_eq!(answer.text().unwrap(), "straight");
    assert_eq!(*heads.lock().unwrap(), [false]);
    // Nothing is excepted unless it is said.
    let error = via(proxy).get(&served.url("/")).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.to_string().contains(&nobody.to_string()), "{error}");
}

#[test]
fn a_redirect_takes_the_way_that_its_own_host_has() {
    let target = Served::start();
    let to = target.url("/");
    let first = Served::of(
        Router::new().get("/", move |_: &mut Request| {
            maniple_server::Response::new(StatusCode::FOUND).with_header("location", &to)
        }),
        |builder| builder,
    );
    let proxy = Middle::socks(first.address(), None);
    let asks = Proxy::new(&proxy.url("socks5h"))
        .unwrap()
        .except("127.0.0.1");
    let client = Client::builder().max_redirects(2).proxy(asks).build();
    let answer = client.get("http://behind.test/").unwrap();
    assert_eq!(answer.redirected_to(), Some(&*target.url("/")));
    assert_eq!(answer.text().unwrap(), "hello");
    drop(client);
    assert_eq!(proxy.told(1), ["behind.test:80"]);
}

#[test]
fn a_proxy_that_refuses_or_babbles_is_an_error_that_says_so() {
    let (served, config, port) = served_by_tls();
    let endless = "HTTP/1.1 103 Early Hints\r\n\r\n".repeat(200);
    let long = format!("HTTP/1.1 200 OK\r\nx: {}\r\n\r\n", "y".repeat(70 << 10));
    for (answer, reason) in [
        ("HTTP/1.1 407 Proxy Authentication Required\r\n\r\n", "407"),
        (
            "HTTP/1.1 403 Forbidden\r\nContent-Length: 5\r\n\r\nno...",
            "403",
        ),
        ("HTTP/1.1 101 Switching Protocols\r\n\r\n", "101"),
        (
            "HTTP/1.1 200 OK\r\n\r\nHTTP/1.1 200 OK\r\n\r\n",
            "bytes behind",
        ),
        ("SSH-2.0-OpenSSH_9.2\r\n", "malformed"),
        ("", "closed"),
        (&*endless, "malformed"),
        (&*long, "head too large"),
    ] {
        let answer = answer.to_owned();
        let proxy = Middle::start(move |stream| {
            let head = head(stream)?;
            stream.write_all(answer.as_bytes())?;
            stream.shutdown(Shutdown::Write)?;
            io::copy(stream, &mut io::sink())?;
            Ok(head)
        });
        let asks = Proxy::new(&proxy.url("http")).unwrap();
        let client = Client::builder().proxy(asks).tls(config.clone()).build();
        let error = client
            .get(&format!("https://localhost:{port}/"))
            .unwrap_err();
        let text = error.to_string();
        assert!(
            matches!(error, ClientError::Proxy { .. }),
            "{reason}: {text}"
        );
        assert!(text.contains(reason), "{reason}: {text}");
        assert!(text.contains(&proxy.address.to_string()), "{text}");
        assert!(error.is_unsent());
    }
    drop(served);
}

#[test]
fn a_proxy_that_says_nothing_is_waited_for_as_long_as_for_a_connection() {
    let silent = Middle::start(|stream| {
        io::copy(stream, &mut io::sink())?;
        Ok(String::new())
    });
    for scheme in ["http", "socks5h"] {
        let asks = Proxy::new(&silent.url(scheme)).unwrap();
        let soon = Duration::from_millis(50);
        let client = Client::builder().proxy(asks).connect_timeout(soon).build();
        let tunnelled = Runtime::builder().workers(1).build().unwrap().run(|| {
            let url = match scheme {
                "http" => "https://h.test/",
                _ => "http://h.test/",
            };
            client.get(url).map(drop)
        });
        let error = tunnelled.unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.phase(), Some(Phase::Connect));
        assert_eq!(client_ends(silent.address), 0, "nothing is left open");
    }
}

#[test]
fn a_post_through_a_proxy_streams_both_ways() {
    let served = Served::start();
    let proxy = Middle::socks(served.address(), None);
    let client = via(Proxy::new(&proxy.url("socks5h")).unwrap());
    let body = maniple_server::Body::from_reader(io::repeat(b'z').take(300_000));
    let echo = client
        .request(Method::POST, "http://far.test/echo")
        .body(body);
    assert_eq!(echo.send().unwrap().bytes().unwrap().len(), 300_000);
}

#[test]
fn a_websocket_goes_through_a_tunnel_though_its_url_has_no_tls() {
    let routes = Router::new().get("/", |request: &mut Request| {
        websocket::Settings::new().upgrade(request, |socket| {
            while let Some(message) = socket.receive()? {
                socket.send(message)?;
            }
            Ok(())
        })
    });
    let served = Served::of(routes, |builder| builder);
    let proxy = Middle::http(served.address(), OPENED);
    let client = via(Proxy::new(&proxy.url("http")).unwrap());
    let settings = websocket::Settings::new().client(&client);
    let mut socket = settings.connect("ws://chat.test/").unwrap();
    socket.send("there and back").unwrap();
    let back = socket.receive().unwrap().unwrap();
    assert_eq!(back.as_text(), Some("there and back"));
    drop(socket);
    assert!(proxy.told(1)[0].starts_with("CONNECT chat.test:80 "));
}

#[test]
fn a_connector_leads_past_any_proxy() {
    let (listener, connector) = maniple_server::transport::memory::listener();
    let server = Server::builder(routes()).listener(listener).unwrap();
    let handle = server.handle();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let serving = runtime.spawn(move || server.serve());
    let builder: client::Builder = Client::builder().proxy(Proxy::new("127.0.0.1:9").unwrap());
    let client = builder.connector(connector).unwrap().build();
    let answer = client.get("http://any.test/").unwrap();
    assert_eq!(answer.text().unwrap(), "hello");
    handle.drain();
    serving.join().unwrap().unwrap();
}
