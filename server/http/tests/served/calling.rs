//! The client against the server, and against servers that misbehave.

use std::{
    io::{Read, Write},
    time::Duration,
};

use maniple::net::TcpListener;
use maniple_server::{Client, ClientError, Method, StatusCode};

use super::{Served, take_head};
use crate::driven::Reserved;

/// A server that answers every connection with these bytes and closes.
fn canned(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            take_head(&mut stream);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

#[test]
fn requests_and_bodies_go_both_ways_over_kept_connections() {
    let served = Served::start();
    let client = Client::new();
    for n in 0..20 {
        let answer = client
            .request(Method::POST, &served.url("/echo"))
            .header("x-n", &n.to_string())
            .body(vec![b'z'; n * 1_000])
            .send()
            .unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.bytes().unwrap().len(), n * 1_000);
    }
    assert_eq!(
        client
            .get(&served.url("/stream"))
            .unwrap()
            .text()
            .unwrap()
            .len(),
        100_000
    );
    assert_eq!(
        served.handle.connections(),
        1,
        "one connection served them all"
    );
}

#[test]
fn the_scopes_deadline_is_the_requests() {
    let served = Served::start();
    crate::driven::run(|| {
        let client = Client::new();
        let cut = maniple::timeout(Duration::from_millis(30), || {
            client.get(&served.url("/stuck"))
        });
        assert!(cut.unwrap().unwrap_err().is_timeout());
        let asking = maniple::spawn({
            let (client, url) = (client.clone(), served.url("/stuck"));
            move || client.get(&url).map(|_| ())
        });
        maniple::yield_now();
        asking.cancel();
        let error = asking.join().map(Result::unwrap_err);
        assert!(error.map_or_else(|join| join.is_cancelled(), |error| error.is_cancelled()));
    });
}

#[test]
fn a_stale_connection_is_replaced() {
    let client = Client::new();
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = crate::driven::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            take_head(&mut stream);
            stream
                .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
                .unwrap();
        }
    });
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "ok");
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "ok");
    server.join().unwrap();
}

#[test]
fn malformed_answers_are_errors_that_name_the_host() {
    for answer in [
        "garbage\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: x\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        "HTTP/1.1 200 OK\r\nContent-Length: 50\r\n\r\nshort",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
        "HTTP/1.1 200 OK",
    ] {
        let url = canned(answer);
        let error = Client::new()
            .get(&url)
            .and_then(|answer| answer.text())
            .unwrap_err();
        assert!(
            error.to_string().contains("127.0.0.1:"),
            "{answer:?}: {error}"
        );
    }
}

#[test]
fn a_dead_host_and_a_bad_header_are_told_apart() {
    let nobody = Reserved::new();
    let gone = nobody.address();
    let client = Client::new();
    let error = client.get(&format!("http://{gone}/")).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    let injected = client
        .request(Method::GET, &format!("http://{gone}/"))
        .header("a", "b\r\nc: d");
    assert!(matches!(
        injected.send().unwrap_err(),
        ClientError::Header { .. }
    ));
}

/// A server that answers every connection with these bytes, one at a time, and then waits for its end.
fn dribbling(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.set_nodelay(true);
            take_head(&mut stream);
            for byte in &answer {
                if stream.write_all(&[*byte]).is_err() {
                    break;
                }
            }
            let _ = stream.read(&mut [0; 1024]);
        }
    });
    url
}

#[test]
fn what_older_and_newer_servers_send_is_understood() {
    for answer in [
        "HTTP/1.1 200 OK\r\nX-A: one\r\n two\r\nContent-Length: 5\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello",
        "HTTP/1.2 200 OK\r\nContent-Length: 5\r\n\r\nhello",
        "\r\nHTTP/1.1 200 OK\nContent-Length: 5\n\nhello",
        "HTTP/1.0 200 OK\r\n\r\nhello",
        "HTTP/1.1 103 \r\nLink: x\r\n\r\nHTTP/1.1 100 \r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
    ] {
        let whole = Client::new().get(&canned(answer)).unwrap();
        if let Some(value) = whole.header("x-a") {
            let words: Vec<&str> = value.split_ascii_whitespace().collect();
            assert_eq!(words, ["one", "two"]);
        }
        assert_eq!(whole.text().unwrap(), "hello", "{answer:?}");
        if answer.contains("ength") {
            let pieces = Client::new().get(&dribbling(answer.into()));
            assert_eq!(pieces.unwrap().text().unwrap(), "hello", "{answer:?}");
        }
    }
}

#[test]
fn interim_responses_without_end_are_an_error() {
    for interim in [
        "HTTP/1.1 103 Early Hints\r\n\r\n".to_owned(),
        format!(
            "HTTP/1.1 103 Early Hints\r\nLink: {}\r\n\r\n",
            "x".repeat(2_000)
        ),
    ] {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        let server = crate::driven::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            take_head(&mut stream);
            let heads = interim.repeat(100);
            while stream.write_all(heads.as_bytes()).is_ok() {}
        });
        let error = Client::new().get(&url).unwrap_err();
        assert!(error.to_string().contains("interim"), "{error}");
        server.join().unwrap();
    }
}

#[test]
fn a_head_without_end_is_an_error_and_what_is_not_http_is_one_at_once() {
    let endless = "HTTP/1.1 200 OK\r\n".to_owned() + &"A: b\r\n".repeat(20_000);
    let error = Client::new().get(&canned(endless.leak())).unwrap_err();
    assert!(error.to_string().contains("head too large"), "{error}");
    // It says nothing more, and does not close.
    let error = Client::new()
        .get(&dribbling(b"SSH-2.0-x\r\n".into()))
        .unwrap_err();
    assert!(
        error.to_string().contains("not an HTTP/1 response"),
        "{error}"
    );
}

#[test]
fn bodies_cut_short_are_errors() {
    for answer in [
        "HTTP/1.1 200 OK\r\nContent-Length: 9223372036854775807\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nffffffffffffffff\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nx\r\nffffffffffffffff\r\nhello",
    ] {
        let mut response = Client::new().get(&canned(answer)).unwrap();
        let mut heard = Vec::new();
        let error = response.read_to_end(&mut heard).unwrap_err();
        assert!(
            error.to_string().contains("127.0.0.1:"),
            "{answer:?}: {error}"
        );
        assert!(response.read(&mut [0; 9]).is_err(), "an error stays one");
        let client = Client::builder().max_body_bytes(u64::MAX).build();
        assert!(client.get(&canned(answer)).unwrap().bytes().is_err());
    }
}

#[test]
fn what_has_no_body_leaves_the_connection_for_the_next() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let server = crate::driven::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        for head in [
            "200 OK\r\nContent-Length: 5",
            "204 No Content\r\nContent-Length: 5",
            "304 Not Modified\r\nTransfer-Encoding: chunked",
            "200 OK\r\nContent-Length: 0",
        ] {
            take_head(&mut stream);
            write!(stream, "HTTP/1.1 {head}\r\n\r\n").unwrap();
        }
    });
    let client = Client::new();
    for method in [Method::HEAD, Method::GET, Method::GET, Method::GET] {
        let answer = client.request(method, &url).send().unwrap();
        assert_eq!(answer.text().unwrap(), "");
    }
    server.join().unwrap();
}

#[test]
fn a_timeout_of_zero_passes_at_once() {
    let served = Served::start();
    let never = Client::builder().timeout(Duration::ZERO).build();
    let error = never.get(&served.url("/")).unwrap_err();
    assert!(matches!(error, ClientError::Timeout { .. }), "{error}");
    let never = Client::builder().connect_timeout(Duration::ZERO).build();
    let error = never.get(&served.url("/")).unwrap_err();
    assert!(matches!(error, ClientError::Connect { .. }), "{error}");
    assert!(error.is_timeout());
    let for_ever = Client::builder()
        .timeout(Duration::MAX)
        .connect_timeout(Duration::MAX)
        .idle_timeout(Duration::MAX)
        .build();
    for _ in 0..2 {
        assert_eq!(
            for_ever.get(&served.url("/")).unwrap().text().unwrap(),
            "hello"
        );
    }
    assert_eq!(served.handle.connections(), 1);
}

#[test]
fn what_is_no_uri_is_not_sent() {
    let served = Served::start();
    let client = Client::new();
    for path in ["/<", "/a\\b", "/?q={}", "/%", "/%zz"] {
        let error = client.get(&served.url(path)).unwrap_err();
        assert!(matches!(error, ClientError::Url { .. }), "{error}");
    }
    let tunnel = client.request(Method::CONNECT, &served.url("/")).send();
    assert!(matches!(tunnel, Err(ClientError::Url { .. })));
}
