//! The client against the server, and against servers that misbehave.

use std::{
    io::{Read, Write},
    net::TcpListener,
    time::Duration,
};

use maniple_server::{Client, ClientError, Method, StatusCode};

use super::Served;

/// A server that answers every connection with these bytes and closes.
fn canned(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            let _ = stream.read(&mut [0; 1024]);
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
    maniple::run(|| {
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
    let server = std::thread::spawn(move || {
        for _ in 0..2 {
            let (mut stream, _) = listener.accept().unwrap();
            let _ = stream.read(&mut [0; 1024]).unwrap();
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
    let gone = TcpListener::bind("127.0.0.1:0")
        .unwrap()
        .local_addr()
        .unwrap();
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
