//! How long each phase of a client's call may take, and what the error says of it.

use std::{
    io::{Read, Write},
    sync::{Arc, Mutex},
    time::Duration,
};

use maniple::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use maniple::sync::mpsc;
use maniple_server::{
    Body, Client, ClientError, HeaderName, Method, StatusCode,
    client::{self, Phase},
    tls,
};

use super::Served;
use crate::driven::Runtime;

/// Of what is to pass.
const SOON: Duration = Duration::from_millis(60);
/// Of what is not to.
const LONG: Duration = Duration::from_secs(60);
/// By when what was to pass has passed, on any machine.
const PATIENCE: Duration = Duration::from_secs(30);

/// A peer on a plain thread that treats each connection alike.
fn peer(treat: impl Fn(TcpStream) + Clone + Send + 'static) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    crate::driven::thread::spawn(move || {
        while let Ok((stream, _)) = listener.accept() {
            let treat = treat.clone();
            crate::driven::thread::spawn(move || treat(stream));
        }
    });
    address
}

/// Reads until the client has closed.
fn read_away(stream: &mut TcpStream) {
    let _ = std::io::copy(stream, &mut std::io::sink());
}

fn until_head(stream: &mut TcpStream) -> String {
    let mut head = Vec::new();
    let mut byte = [0];
    while !head.ends_with(b"\r\n\r\n") && stream.read(&mut byte).unwrap_or(0) == 1 {
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

/// A socket whose queue is full, so that who connects hears nothing.
struct BlackHole {
    address: SocketAddr,
    _kept: (TcpListener, Vec<TcpStream>),
}

impl BlackHole {
    fn open() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        rustix::net::listen(&listener, 0).unwrap();
        let mut kept = Vec::new();
        while let Ok(stream) = TcpStream::connect_timeout(&address, Duration::from_millis(200)) {
            kept.push(stream);
            assert!(kept.len() < 64, "the queue has an end");
        }
        Self {
            address,
            _kept: (listener, kept),
        }
    }
}

#[track_caller]
fn times_out_in(phase: Phase, call: impl FnOnce() -> Result<(), ClientError> + Send) {
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let began = maniple::time::now();
    let error = runtime.run(call).unwrap_err();
    assert!(maniple::time::now() - began < PATIENCE);
    assert_eq!(error.phase(), Some(phase), "{error}");
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.status(), StatusCode::GATEWAY_TIMEOUT);
    let unsent = [Phase::Queue, Phase::Resolve, Phase::Connect, Phase::Tls];
    assert_eq!(error.is_unsent(), unsent.contains(&phase), "{error}");
}

fn with(set: impl FnOnce(client::Builder) -> client::Builder) -> Client {
    set(Client::builder()).build()
}

#[test]
fn each_phase_has_its_own_time_and_the_error_names_it() {
    let silent = peer(|mut stream| read_away(&mut stream));
    let deaf = peer(|_stream| maniple::sleep(LONG));
    let begins = peer(|mut stream| {
        until_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
        read_away(&mut stream);
    });
    let hole = BlackHole::open();
    let big = || vec![0; 64 << 20];

    times_out_in(Phase::Connect, || {
        let client = with(|builder| builder.connect_timeout(SOON).answer_timeout(LONG));
        client.get(&format!("http://{}/", hole.address)).map(drop)
    });
    times_out_in(Phase::Tls, || {
        let roots = tls::self_signed(["localhost"]).unwrap();
        let config = tls::ClientConfig::builder()
            .roots_pem(roots.chain_pem())
            .handshake_timeout(SOON)
            .build()
            .unwrap();
        let client = with(|builder| builder.tls(config));
        client.get(&format!("https://{silent}/")).map(drop)
    });
    times_out_in(Phase::Send, || {
        let client = with(|builder| builder.send_timeout(SOON).answer_timeout(LONG));
        client
            .post(&format!("http://{deaf}/"))
            .body(big())
            .send()
            .map(drop)
    });
    times_out_in(Phase::Send, || {
        let client = with(|builder| builder.send_timeout(SOON));
        let endless = Body::from_reader(std::io::repeat(0));
        client
            .post(&format!("http://{deaf}/"))
            .body(endless)
            .send()
            .map(drop)
    });
    times_out_in(Phase::Answer, || {
        let client = with(|builder| builder.send_timeout(LONG).answer_timeout(SOON));
        client.get(&format!("http://{silent}/")).map(drop)
    });
    // A body that takes its time is no answer that does.
    times_out_in(Phase::Answer, || {
        let client = with(|builder| builder.answer_timeout(SOON));
        let slow = Body::from_fn(|out| {
            for _ in 0..10 {
                maniple::sleep(SOON / 4);
                out.write_all(b"part")?;
            }
            Ok(())
        });
        client
            .post(&format!("http://{silent}/"))
            .body(slow)
            .send()
            .map(drop)
    });
    times_out_in(Phase::Body, || {
        let client = with(|builder| builder.body_timeout(SOON).answer_timeout(LONG));
        client.get(&format!("http://{begins}/"))?.text().map(drop)
    });
}

#[test]
fn a_body_that_is_sent_for_longer_than_the_answer_may_take_is_answered() {
    let counts = peer(|mut stream| {
        until_head(&mut stream);
        let mut body = Vec::new();
        let mut part = [0; 1024];
        while !body.ends_with(b"0\r\n\r\n") {
            let count = stream.read(&mut part).unwrap();
            body.extend_from_slice(&part[..count]);
        }
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone");
    });
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let answer = runtime.run(|| {
        let client = with(|builder| builder.answer_timeout(Duration::from_millis(700)));
        let slow = Body::from_fn(|out| {
            for _ in 0..10 {
                maniple::sleep(Duration::from_millis(100));
                out.write_all(b"part")?;
            }
            Ok(())
        });
        let answer = client
            .post(&format!("http://{counts}/"))
            .body(slow)
            .send()?;
        answer.text()
    });
    assert_eq!(answer.unwrap(), "done");
}

#[test]
fn interim_answers_do_not_prolong_the_wait_for_the_answer() {
    let chatty = peer(|mut stream| {
        until_head(&mut stream);
        while stream
            .write_all(b"HTTP/1.1 103 Early Hints\r\n\r\n")
            .is_ok()
        {
            maniple::sleep(SOON / 4);
        }
    });
    times_out_in(Phase::Answer, || {
        let client = with(|builder| builder.answer_timeout(SOON));
        client.get(&format!("http://{chatty}/")).map(drop)
    });
}

#[test]
fn the_callers_deadline_says_what_it_cut_too() {
    let silent = peer(|mut stream| read_away(&mut stream));
    let begins = peer(|mut stream| {
        until_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nbegun");
        read_away(&mut stream);
    });
    times_out_in(Phase::Answer, || {
        let client = Client::new();
        let call = || client.get(&format!("http://{silent}/")).map(drop);
        maniple::timeout(SOON, call).unwrap()
    });
    times_out_in(Phase::Body, || {
        let client = Client::new();
        let call = || client.get(&format!("http://{begins}/"))?.text().map(drop);
        maniple::timeout(SOON, call).unwrap()
    });
}

#[test]
fn a_request_has_a_time_of_its_own_up_to_the_end_of_the_body() {
    let silent = peer(|mut stream| read_away(&mut stream));
    let drips = peer(|mut stream| {
        until_head(&mut stream);
        let _ = stream.write_all(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n");
        while stream.write_all(b"1\r\nx\r\n").is_ok() {
            maniple::sleep(SOON / 4);
        }
    });
    let get = |client: &Client, address, timeout| {
        let request = client.request(Method::GET, &format!("http://{address}/"));
        request.timeout(timeout).send()
    };
    times_out_in(Phase::Answer, || {
        get(&Client::new(), silent, SOON).map(drop)
    });
    times_out_in(Phase::Body, || {
        get(&Client::new(), drips, SOON * 4)?.text().map(drop)
    });
    let served = Served::start();
    for timeout in [LONG, Duration::MAX] {
        let answer = get(&Client::new(), served.address(), timeout).unwrap();
        assert_eq!(answer.text().unwrap(), "hello");
    }
}

#[test]
fn the_address_that_answers_is_taken_and_the_one_that_does_not_costs_a_moment() {
    let hole = BlackHole::open();
    let served = Served::start();
    let client = Client::builder()
        .resolve("Two.test", [hole.address, served.address()])
        .connect_timeout(LONG)
        .build();
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let began = maniple::time::now();
    let answer = runtime.run(|| client.get("http://two.test/")?.text());
    assert_eq!(answer.unwrap(), "hello");
    assert!(
        maniple::time::now() - began < LONG / 2,
        "both were tried, one soon after the other"
    );
    // A port of 0 is the URL's.
    let client = Client::builder()
        .resolve("one.test", [SocketAddr::from((Ipv4Addr::LOCALHOST, 0))])
        .build();
    let url = format!("http://one.test:{}/", served.address().port());
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "hello");
}

#[test]
fn the_time_that_is_left_is_told_if_asked_and_only_then() {
    let (told, heads) = mpsc::channel();
    let told = Arc::new(Mutex::new(told));
    let heads = Mutex::new(heads);
    let notes = peer(move |mut stream| {
        loop {
            let head = until_head(&mut stream);
            if head.is_empty() {
                return;
            }
            told.lock().unwrap().send(head).unwrap();
            let _ = stream.write_all(b"HTTP/1.1 204 No Content\r\n\r\n");
        }
    });
    let field = HeaderName::from_static("x-left-ms");
    let client = Client::builder().deadline_field(field).build();
    let url = format!("http://{notes}/");
    let left = || {
        let head = heads.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        let line = head
            .lines()
            .find_map(|line| line.strip_prefix("x-left-ms: "));
        line.map(|value| value.parse::<u64>().unwrap())
    };
    Runtime::builder().workers(1).build().unwrap().run(|| {
        client.get(&url).unwrap();
        assert_eq!(left(), None, "there is no deadline");
        maniple::timeout(LONG, || client.get(&url).unwrap()).unwrap();
        assert!((1..=60_000).contains(&left().unwrap()));
        let own = client.request(Method::GET, &url).timeout(LONG / 2);
        maniple::timeout(LONG, || own.send().unwrap()).unwrap();
        assert!((1..=30_000).contains(&left().unwrap()), "the sooner counts");
        let kept = client.request(Method::GET, &url).header("x-left-ms", "7");
        maniple::timeout(LONG, || kept.send().unwrap()).unwrap();
        assert_eq!(left(), Some(7));
        maniple::timeout(LONG, || Client::new().get(&url).unwrap()).unwrap();
        assert_eq!(left(), None, "nobody has asked for it");
    });
}
