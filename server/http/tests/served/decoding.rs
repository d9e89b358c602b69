//! Answers that come to the client in a coding.

use std::io::{Read, Write};

use maniple::net::TcpListener;
use maniple_server::{
    Body, Client, ClientError, Method, Request, Response, Router, StatusCode,
    middleware::Compression,
};

use super::{Served, take_head};

const TEXT: &str = "some text, and ";

fn long() -> String {
    TEXT.repeat(20_000)
}

fn served() -> Served {
    let accepts = |request: &mut Request| request.header_str("accept-encoding").map(str::to_owned);
    let streamed = |_: &mut Request| {
        let body =
            Body::from_fn(|out| (0..20_000).try_for_each(|_| out.write_all(TEXT.as_bytes())));
        Response::text(body)
    };
    let routes = Router::new()
        .with(Compression::new())
        .get("/long", |_: &mut Request| long())
        .get("/streamed", streamed)
        .get("/short", |_: &mut Request| "short")
        .get("/nothing", |_: &mut Request| StatusCode::NO_CONTENT)
        .get("/accepts", accepts)
        .get("/away", |_: &mut Request| Response::see_other("/long"));
    Served::of(routes, |builder| builder)
}

fn client() -> Client {
    Client::builder()
        .decompression(true)
        .max_redirects(1)
        .build()
}

#[test]
fn bodies_come_out_as_they_were_over_one_connection() {
    let served = served();
    let client = client();
    for path in ["/long", "/streamed", "/away", "/short", "/nothing", "/long"] {
        let answer = client.get(&served.url(path)).unwrap();
        assert_eq!(answer.header("content-encoding"), None, "{path}");
        let expected = match path {
            "/short" => "short".to_owned(),
            "/nothing" => String::new(),
            _ => {
                assert_eq!(answer.header("content-length"), None, "{path}");
                long()
            }
        };
        assert_eq!(answer.text().unwrap(), expected, "{path}");
    }
    // In pieces of any size, as a reader.
    let mut answer = client.get(&served.url("/streamed")).unwrap();
    let (mut all, mut piece) = (Vec::new(), [0; 777]);
    while let count @ 1.. = answer.read(&mut piece).unwrap() {
        all.extend_from_slice(&piece[..count]);
    }
    assert_eq!(all, long().into_bytes());
    drop(answer);
    assert_eq!(served.handle.connections(), 1);
}

#[test]
fn only_who_did_not_ask_for_more_is_asked_for() {
    let served = served();
    let url = served.url("/accepts");
    let asked = |client: &Client, name: &str, value: &str| {
        let request = client.request(Method::GET, &url).header(name, value);
        request.send().unwrap().text().unwrap()
    };
    assert_eq!(asked(&client(), "x-a", "b"), "zstd, gzip, br");
    assert_eq!(asked(&client(), "accept-encoding", "identity"), "identity");
    assert_eq!(asked(&client(), "range", "bytes=0-1"), "");
    assert_eq!(asked(&Client::new(), "x-a", "b"), "");
    // What the caller has asked for is the caller's.
    let client = client();
    let request = client.request(Method::GET, &served.url("/long"));
    let request = request.header("accept-encoding", "gzip");
    let answer = request.send().unwrap();
    assert_eq!(answer.header("content-encoding"), Some("gzip"));
    assert!(answer.bytes().unwrap().len() < 10_000);
}

#[test]
fn what_comes_out_is_bounded() {
    let served = served();
    let limit = long().len() as u64;
    for (bytes, fits) in [(limit, true), (limit - 1, false)] {
        let client = Client::builder()
            .decompression(true)
            .max_body_bytes(bytes)
            .build();
        let read = client.get(&served.url("/long")).unwrap().bytes();
        assert_eq!(read.is_ok(), fits, "{bytes}");
        if let Err(error) = read {
            assert!(error.to_string().contains("larger than"), "{error}");
        }
    }
}

/// A server that answers one connection with these bytes and closes.
fn canned(answer: Vec<u8>) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    crate::driven::thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        take_head(&mut stream);
        let _ = stream.write_all(&answer);
    });
    url
}

#[test]
fn a_body_that_breaks_off_or_is_another_thing_is_an_error_and_stays_one() {
    let mut coded = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    coded.write_all(long().as_bytes()).unwrap();
    let coded = coded.finish().unwrap();
    let behind = [&coded[..], b"no member"].concat();
    for body in [&coded[..coded.len() - 9], &behind[..], b"no such thing"] {
        let head = format!(
            "HTTP/1.1 200 OK\r\ncontent-encoding: gzip\r\ncontent-length: {}\r\n\r\n",
            body.len()
        );
        let url = canned([head.as_bytes(), body].concat());
        let mut answer = client().get(&url).unwrap();
        let mut all = Vec::new();
        let error = answer.read_to_end(&mut all).unwrap_err();
        let error = error
            .into_inner()
            .unwrap()
            .downcast::<ClientError>()
            .unwrap();
        assert!(error.to_string().contains("not in its coding"), "{error}");
        assert!(answer.read(&mut [0; 10]).is_err(), "it has no end");
    }
}

#[test]
fn a_coding_that_nobody_asked_for_stays() {
    let url = canned(
        b"HTTP/1.1 200 OK\r\ncontent-encoding: compress\r\ncontent-length: 4\r\n\r\ntext".to_vec(),
    );
    let answer = client().get(&url).unwrap();
    assert_eq!(answer.header("content-encoding"), Some("compress"));
    assert_eq!(answer.text().unwrap(), "text");
}
