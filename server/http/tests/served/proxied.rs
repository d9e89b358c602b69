//! Who the client is behind proxies: the PROXY protocol and header fields, as far as who is connected is trusted.

use std::{
    io::{Read, Write},
    os::{linux::net::SocketAddrExt, unix::net::SocketAddr as UnixAddr},
    time::Duration,
};

use maniple::{
    JoinHandle,
    net::{Shutdown, TcpListener, TcpStream},
    net::{UnixListener, UnixStream},
};
use maniple_server::{
    DrainReport, Request, Router, Server, ServerHandle,
    middleware::HttpsOnly,
    server::Builder,
    transport::{IntoListener, Listener, Trust},
};

use super::{statuses, transports::tls_configs};
use crate::driven::Runtime;

const LONG: Duration = Duration::from_secs(60);

/// `client scheme host`, and what the PROXY protocol adds.
fn who(request: &mut Request) -> String {
    let address = request.client_address();
    let address = address.map_or("unknown".to_owned(), |address| address.to_string());
    let host = request.host().unwrap_or("none");
    let mut said = format!("{address} {} {host}", request.scheme());
    if let Some(header) = request.proxy() {
        said += &format!(" proxy local={}", header.is_local());
        if let Some(authority) = header.authority() {
            said += &format!(" sni={authority}");
        }
    }
    said + "\n"
}

struct Served {
    handle: ServerHandle,
    serving: Option<JoinHandle<std::io::Result<DrainReport>>>,
    _runtime: Runtime,
}

impl Served {
    fn by(listener: impl IntoListener, settings: impl FnOnce(Builder) -> Builder) -> Self {
        Self::of(Router::new().get("/", who), listener, settings)
    }

    fn of(
        router: Router,
        listener: impl IntoListener,
        settings: impl FnOnce(Builder) -> Builder,
    ) -> Self {
        let runtime = Runtime::builder().workers(2).build().unwrap();
        let server = settings(Server::builder(router))
            .listener(listener)
            .unwrap();
        let handle = server.handle();
        let serving = Some(runtime.spawn(move || server.serve()));
        Self {
            handle,
            serving,
            _runtime: runtime,
        }
    }

    fn trusting(trust: Trust, proxy_protocol: bool) -> Self {
        let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let listener = listener.trust(trust).proxy_protocol(proxy_protocol);
        Self::by(listener, |settings| settings)
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.handle.local_addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream.set_nodelay(true).unwrap();
        stream
    }

    /// All that comes back to those bytes.
    fn say(&self, bytes: &[u8]) -> String {
        let mut stream = self.connect();
        // It may be closed before it has all.
        let _ = stream.write_all(bytes);
        let _ = stream.shutdown(Shutdown::Write);
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        crate::driven::without_questions(bytes, String::from_utf8(answer).unwrap())
    }

    /// What the handler says to a request with those fields.
    fn said(&self, fields: &str) -> String {
        let answer = self.say(get(fields).as_bytes());
        let (_, body) = answer.split_once("\r\n\r\n").expect("an answer");
        body.trim_end().to_owned()
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

fn trust(peers: &str) -> Trust {
    peers.parse().unwrap()
}

fn get(fields: &str) -> String {
    format!("GET / HTTP/1.1\r\nHost: h\r\n{fields}\r\n")
}

const LINE: &[u8] = b"PROXY TCP4 192.0.2.1 198.51.100.2 12345 80\r\n";

fn binary(command: u8, extensions: &[u8]) -> Vec<u8> {
    let addresses = [192, 0, 2, 1, 198, 51, 100, 2, 0x30, 0x39, 0, 80];
    let length = (12 + extensions.len() as u16).to_be_bytes();
    let start = b"\r\n\r\n\0\r\nQUIT\n";
    [
        &start[..],
        &[command, 0x11],
        &length,
        &addresses,
        extensions,
    ]
    .concat()
}

#[test]
fn a_trusted_peers_proxy_header_says_who_the_client_is() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    for header in [LINE.to_vec(), binary(0x21, b"\x02\0\x09a.example")] {
        let both = [&header[..], get("").as_bytes(), get("").as_bytes()].concat();
        let answer = served.say(&both);
        assert_eq!(statuses(&answer), [200, 200], "{answer}");
        let said = "192.0.2.1 http h proxy local=false";
        assert_eq!(answer.matches(said).count(), 2, "{answer}");
        assert_eq!(answer.contains("sni=a.example"), header[0] == b'\r');
    }
}

#[test]
fn a_proxy_header_may_come_in_single_bytes() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    for header in [LINE.to_vec(), binary(0x21, &[])] {
        let mut stream = served.connect();
        for byte in header {
            stream.write_all(&[byte]).unwrap();
        }
        stream
            .write_all(get("Connection: close\r\n").as_bytes())
            .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.contains("192.0.2.1 http"), "{answer}");
    }
}

#[test]
fn a_proxy_that_asks_for_itself_is_the_client() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    let check = [&binary(0x20, &[])[..], b"GET / HTTP/1.0\r\n\r\n"].concat();
    let answer = served.say(&check);
    assert!(
        answer.contains("127.0.0.1 http none proxy local=true"),
        "{answer}"
    );
}

#[test]
fn tls_is_what_the_extensions_bit_says_and_not_that_it_is_there() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    for (client, scheme) in [(0, "http"), (1, "https")] {
        let extension = [0x20, 0, 5, client, 0, 0, 0, 0];
        let answer = served.say(&[&binary(0x21, &extension)[..], get("").as_bytes()].concat());
        let said = format!("192.0.2.1 {scheme} h");
        assert!(answer.contains(&said), "{answer}");
    }
}

#[test]
fn a_trusted_peer_that_sends_no_proxy_header_is_not_served() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    for wrong in [
        get("").into_bytes(),
        b"PROXY TCP4 a b c d\r\n".to_vec(),
        binary(0x22, &[]),
        LINE[..20].to_vec(),
        Vec::new(),
    ] {
        assert_eq!(served.say(&wrong), "");
    }
    let answer = served.say(&[LINE, get("").as_bytes()].concat());
    assert_eq!(statuses(&answer), [200]);
}

#[test]
fn a_trusted_peer_that_says_nothing_is_given_up_in_time() {
    let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let listener = listener.trust(trust("127.0.0.1")).proxy_protocol(true);
    let served = Served::by(listener, |settings| {
        settings.header_timeout(Duration::from_millis(100))
    });
    for begun in [&b""[..], &LINE[..20]] {
        let mut stream = served.connect();
        stream.write_all(begun).unwrap();
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        assert_eq!(answer, b"");
    }
}

#[test]
fn who_is_not_trusted_is_served_without_a_proxy_header_and_refused_with_one() {
    let served = Served::trusting(trust("10.0.0.0/8"), true);
    assert_eq!(served.said(""), "127.0.0.1 http h");
    let answer = served.say(&[LINE, get("").as_bytes()].concat());
    assert_eq!(statuses(&answer), [400], "{answer}");
}

#[test]
fn proxy_headers_from_nobody_are_an_error_that_says_so() {
    let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let server = Server::builder(Router::new()).listener(listener.proxy_protocol(true));
    let error = server.unwrap_err().to_string();
    assert!(error.contains("must trust somebody"), "{error}");
}

const FIELDS: &str = "X-Forwarded-For: 9.9.9.9, 192.0.2.7, 10.0.0.1\r\n\
                      X-Forwarded-Proto: https\r\nX-Forwarded-Host: a.example\r\n";

#[test]
fn fields_count_if_who_is_connected_is_trusted() {
    let trusting = Served::trusting(trust("127.0.0.1 10.0.0.0/8"), false);
    assert_eq!(trusting.said(FIELDS), "192.0.2.7 https a.example");
    assert_eq!(trusting.said(""), "127.0.0.1 http h");
    let other = Served::trusting(trust("10.0.0.0/8"), false);
    assert_eq!(other.said(FIELDS), "127.0.0.1 http h");
    let nobody = Served::by(TcpListener::bind("127.0.0.1:0").unwrap(), |settings| {
        settings
    });
    assert_eq!(nobody.said(FIELDS), "127.0.0.1 http h");
    let by_none = Served::trusting(trust("127.0.0.1").by_no_field(), false);
    assert_eq!(by_none.said(FIELDS), "127.0.0.1 http h");
}

#[test]
fn fields_of_the_other_kind_do_not_count() {
    let forwarded = "Forwarded: for=9.9.9.9, for=192.0.2.8;proto=https;host=b.example\r\n";
    let usual = Served::trusting(trust("127.0.0.1"), false);
    assert_eq!(usual.said(forwarded), "127.0.0.1 http h");
    let by_forwarded = Served::trusting(trust("127.0.0.1").by_forwarded(), false);
    assert_eq!(by_forwarded.said(forwarded), "192.0.2.8 https b.example");
    assert_eq!(by_forwarded.said(FIELDS), "127.0.0.1 http h");
}

#[test]
fn what_a_trusted_proxy_does_not_know_is_unknown() {
    let served = Served::trusting(trust("127.0.0.1"), false);
    assert_eq!(
        served.said("X-Forwarded-For: unknown\r\n"),
        "unknown http h"
    );
    let odd = "X-Forwarded-Proto: gopher\r\nX-Forwarded-Host: a b\r\n";
    assert_eq!(served.said(odd), "127.0.0.1 http h");
}

#[test]
fn fields_count_behind_a_proxy_header_if_its_source_is_trusted() {
    let served = Served::trusting(trust("127.0.0.1 192.0.2.1"), true);
    let fields = "X-Forwarded-For: 203.0.113.5\r\n";
    let answer = served.say(&[LINE, get(fields).as_bytes()].concat());
    assert!(answer.contains("203.0.113.5 http h proxy"), "{answer}");
    let served = Served::trusting(trust("127.0.0.1"), true);
    let answer = served.say(&[LINE, get(fields).as_bytes()].concat());
    assert!(answer.contains("192.0.2.1 http h proxy"), "{answer}");
}

#[test]
fn a_proxy_may_be_connected_by_a_unix_socket() {
    let name = format!("maniple proxied {}", std::process::id());
    let address = UnixAddr::from_abstract_name(name).unwrap();
    let listener = Listener::try_from(UnixListener::bind_addr(&address).unwrap()).unwrap();
    let listener = listener.trust(trust("unix")).proxy_protocol(true);
    let _served = Served::by(listener, |settings| settings);
    let mut stream = UnixStream::connect_addr(&address).unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    let request = get("Connection: close\r\n");
    stream
        .write_all(&[LINE, request.as_bytes()].concat())
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.contains("192.0.2.1 http h proxy"), "{answer}");
}

#[test]
fn a_client_that_resets_behind_its_header_harms_nobody() {
    let served = Served::trusting(trust("127.0.0.1"), true);
    for _ in 0..20 {
        let mut stream = served.connect();
        stream.write_all(&binary(0x20, &[])).unwrap();
        stream.write_all(b"GET / HTTP/1.0\r\n\r\n").unwrap();
        // With something unread, so that closing resets, as HAProxy's checks do.
        drop(stream);
    }
    let answer = served.say(&[LINE, get("").as_bytes()].concat());
    assert_eq!(statuses(&answer), [200]);
}

#[test]
fn a_trusted_peer_may_have_more_connections_than_others() {
    let bound = |trusted: &str| {
        let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let listener = listener.trust(trust(trusted));
        Served::by(listener, |settings| settings.max_connections_per_peer(1))
    };
    let (trusting, other) = (bound("127.0.0.1"), bound("10.0.0.0/8"));
    for (served, status) in [(trusting, 200), (other, 429)] {
        let _held = served.connect();
        while served.handle.connections() == 0 {
            crate::driven::thread::yield_now();
        }
        assert_eq!(statuses(&served.say(get("").as_bytes())), [status]);
    }
}

#[test]
fn a_proxys_header_comes_before_the_handshake_of_tls() {
    let (config, client) = tls_configs();
    let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
    let listener = listener.trust("127.0.0.1".parse().unwrap());
    let served = Served::by(listener.proxy_protocol(true).tls(config), |settings| {
        settings
    });
    let mut below = maniple::net::TcpStream::connect(served.handle.local_addr()).unwrap();
    below
        .write_all(b"PROXY TCP4 192.0.2.7 192.0.2.1 5000 443\r\n")
        .unwrap();
    let mut stream = client.stream(below, "localhost").unwrap();
    stream.set_read_timeout(Some(LONG)).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(
        answer.ends_with("192.0.2.7 https h proxy local=false\n"),
        "{answer}"
    );
}

#[test]
fn plain_text_is_sent_on_to_https_unless_a_trusted_proxy_says_that_it_was_none() {
    let asked = |trusted: &str, fields: &str| {
        let listener = Listener::try_from(TcpListener::bind("127.0.0.1:0").unwrap()).unwrap();
        let trust = match trusted {
            "" => Trust::nobody(),
            peers => trust(peers),
        };
        let router = Router::new()
            .with(HttpsOnly::new().hosts(["a.example"]))
            .get("/x", |_: &mut Request| "here");
        let served = Served::of(router, listener.trust(trust), |settings| settings);
        let host = "Host: a.example\r\nConnection: close\r\n";
        served.say(format!("GET /x?y=z HTTP/1.1\r\n{host}{fields}\r\n").as_bytes())
    };
    let moved = "location: https://a.example/x?y=z\r\n";
    for (trusted, fields, is_let_through) in [
        ("127.0.0.1", "X-Forwarded-Proto: https\r\n", true),
        ("127.0.0.1", "X-Forwarded-Proto: http\r\n", false),
        ("127.0.0.1", "", false),
        // The nearest proxy has the last word.
        ("127.0.0.1", "X-Forwarded-Proto: https, http\r\n", false),
        ("", "X-Forwarded-Proto: https\r\n", false),
        ("192.0.2.1", "X-Forwarded-Proto: https\r\n", false),
    ] {
        let answer = asked(trusted, fields);
        let expected = if is_let_through { 200 } else { 308 };
        assert_eq!(statuses(&answer), [expected], "{trusted:?} {fields:?}");
        assert_eq!(answer.contains(moved), !is_let_through, "{answer}");
        assert_eq!(answer.ends_with("here"), is_let_through, "{answer}");
    }
    // Where the host is not one of ours, nobody is sent anywhere.
    let answer = asked("127.0.0.1", "X-Forwarded-Host: evil.example\r\n");
    assert_eq!(statuses(&answer), [400], "{answer}");
}
