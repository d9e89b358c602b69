//! Bodies that travel in a coding, in both directions, over real sockets and with a client that others wrote.

use std::{
    io::{self, BufRead, BufReader, Read, Write},
    process::Command,
    time::Duration,
};

use flate2::{read::GzDecoder, write::GzEncoder};
use maniple::{net::TcpStream, sync::channel::unbounded};
use maniple_server::{
    Body, BodyError, Files, Request, Response, Router, Server,
    middleware::{Compression, Decompression},
};

use super::{Served, statuses};
use crate::driven::Runtime;

const LONG: Duration = Duration::from_secs(60);

fn lines() -> String {
    (0..50_000).map(|number| format!("{number}\n")).collect()
}

fn length(request: &mut Request) -> Result<String, BodyError> {
    Ok(format!("{}\n", request.read_body()?.len()))
}

fn served() -> Served {
    let routes = Router::new()
        .with(Compression::new())
        .with(Decompression::new().max_bytes(1_000_000))
        .get("/whole", |_: &mut Request| lines())
        .get("/read", |_: &mut Request| {
            Response::text(Body::from_reader(io::Cursor::new(lines())))
        })
        .get("/broken", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                out.write_all(lines().as_bytes())?;
                Err(io::Error::other("no more"))
            }))
        })
        .post("/length", length)
        .post("/ignore", |_: &mut Request| "ignored\n");
    Served::of(routes, |builder| builder)
}

fn gzip(bytes: &[u8]) -> Vec<u8> {
    let mut encoder = GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes).unwrap();
    encoder.finish().unwrap()
}

#[test]
fn curl_decodes_what_it_is_sent() {
    if Command::new("curl").arg("--version").output().is_err() {
        let is_required = std::env::var_os("MANIPLE_REQUIRE_PROGRAMS").is_some();
        assert!(!is_required, "curl is not installed");
        return;
    }
    let served = served();
    for path in ["/whole", "/read"] {
        for version in ["--http1.0", "--http1.1"] {
            let mut curl = Command::new("curl");
            curl.args(["--silent", "--max-time", "60", "--noproxy", "*", version]);
            curl.args(["--compressed", "--write-out", "%{size_download}"]);
            let output = curl.arg(served.url(path)).output().unwrap();
            assert!(output.status.success(), "{output:?}");
            let said = String::from_utf8(output.stdout).unwrap();
            let travelled = said.strip_prefix(&lines()).expect("all of it");
            assert!(travelled.parse::<usize>().unwrap() < 150_000, "{travelled}");
        }
    }
}

/// Reads the head of an answer and then its chunks, as they come.
struct Chunks(BufReader<TcpStream>, usize);

impl Chunks {
    fn of(stream: TcpStream) -> Self {
        let mut reader = BufReader::new(stream);
        let mut line = String::new();
        while line != "\r\n" {
            line.clear();
            reader.read_line(&mut line).unwrap();
        }
        Self(reader, 0)
    }
}

impl Read for Chunks {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        if self.1 == 0 {
            let mut line = String::new();
            self.0.read_line(&mut line)?;
            let size = usize::from_str_radix(line.trim_end(), 16);
            self.1 = size.map_err(|_| io::ErrorKind::UnexpectedEof)?;
            if self.1 == 0 {
                return Ok(0);
            }
        }
        let most = self.1.min(buffer.len());
        let count = self.0.read(&mut buffer[..most])?;
        self.1 -= count;
        if self.1 == 0 {
            self.0.read_line(&mut String::new())?;
        }
        Ok(count)
    }
}

#[test]
fn what_a_function_has_written_can_be_read_while_it_waits() {
    let (go, gate) = unbounded::<()>();
    let routes = Router::new()
        .with(Compression::new())
        .get("/", move |_: &mut Request| {
            let gate = gate.clone();
            Response::text(Body::from_fn(move |out| {
                for number in 0..5 {
                    writeln!(out, "line {number}")?;
                    gate.recv().map_err(io::Error::other)?;
                }
                Ok(())
            }))
        });
    let served = Served::of(routes, |builder| builder);
    let mut stream = served.connect();
    let request = "GET / HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut lines = BufReader::new(GzDecoder::new(Chunks::of(stream))).lines();
    for number in 0..5 {
        assert_eq!(lines.next().unwrap().unwrap(), format!("line {number}"));
        go.send(()).unwrap();
    }
    assert!(lines.next().is_none());
}

#[test]
fn a_body_that_breaks_off_does_not_look_complete() {
    let served = served();
    let mut stream = served.connect();
    let request = "GET /broken HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n";
    stream.write_all(request.as_bytes()).unwrap();
    let mut text = String::new();
    let error = GzDecoder::new(Chunks::of(stream)).read_to_string(&mut text);
    assert!(error.is_err());
}

#[test]
fn compressed_uploads_are_read_and_the_connection_goes_on() {
    let body = gzip(&[7; 100_000]);
    let length = body.len();
    let mut all = format!(
        "POST /length HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n"
    )
    .into_bytes();
    all.extend(&body);
    // In chunks of 10 bytes.
    all.extend(b"POST /length HTTP/1.1\r\nHost: h\r\nContent-Encoding: x-gzip\r\nTransfer-Encoding: chunked\r\n\r\n");
    for chunk in body.chunks(10) {
        all.extend(format!("{:x}\r\n", chunk.len()).bytes());
        all.extend(chunk);
        all.extend(b"\r\n");
    }
    all.extend(b"0\r\n\r\n");
    // Nobody reads this one, nor decompresses it.
    all.extend(
        format!("POST /ignore HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: {length}\r\n\r\n").bytes(),
    );
    all.extend(&body);
    all.extend(
        b"POST /length HTTP/1.1\r\nHost: h\r\nContent-Length: 4\r\nConnection: close\r\n\r\nfour",
    );
    let said = served().say(all);
    assert_eq!(statuses(&said), [200; 4], "{said}");
    assert_eq!(said.matches("\r\n\r\n100000\n").count(), 2, "{said}");
    assert!(said.ends_with("\r\n\r\n4\n"), "{said}");
}

#[test]
fn what_is_too_large_once_it_is_out_ends_with_413() {
    let body = gzip(&vec![7; 1_000_001]);
    assert!(body.len() < 10_000);
    let mut all = format!(
        "POST /length HTTP/1.1\r\nHost: h\r\nContent-Encoding: gzip\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    all.extend(&body);
    let said = served().say(all);
    assert_eq!(statuses(&said), [413], "{said}");
}

/// What is compressed here has no end, so that a neighbour is answered in between or never.
#[test]
fn a_neighbour_on_the_worker_has_its_turn_while_bodies_are_compressed() {
    let routes = Router::new()
        .with(Compression::new())
        .get("/read", |_: &mut Request| {
            Response::text(Body::from_reader(io::repeat(b'x')))
        })
        .get("/written", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                loop {
                    out.write_all(&[b'x'; 4096])?;
                }
            }))
        })
        .get("/neighbour", |_: &mut Request| "here");
    let runtime = Runtime::builder().workers(1).build().unwrap();
    let server = Server::builder(routes).bind("127.0.0.1:0").unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let connect = || {
        let stream = TcpStream::connect(handle.local_addr()).unwrap();
        stream.set_read_timeout(Some(LONG)).unwrap();
        stream
    };
    for path in ["/read", "/written"] {
        let mut endless = connect();
        let request = format!("GET {path} HTTP/1.1\r\nHost: h\r\nAccept-Encoding: gzip\r\n\r\n");
        endless.write_all(request.as_bytes()).unwrap();
        // It is being compressed: the beginning is there.
        endless.read_exact(&mut [0; 300]).unwrap();
        let reads = endless.try_clone().unwrap();
        let reader =
            crate::driven::thread::spawn(move || io::copy(&mut { reads }, &mut io::sink()));
        for _ in 0..3 {
            let mut neighbour = connect();
            let request = "GET /neighbour HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n";
            neighbour.write_all(request.as_bytes()).unwrap();
            let mut answer = String::new();
            neighbour.read_to_string(&mut answer).unwrap();
            assert!(
                answer.ends_with("\r\n\r\nhere"),
                "beside {path}: {answer:?}"
            );
        }
        endless.shutdown(std::net::Shutdown::Both).unwrap();
        let _ = reader.join().unwrap();
    }
    handle.drain();
    serving.join().unwrap().unwrap();
}

#[test]
fn files_are_compressed_whole_and_not_in_parts() {
    let dir = std::env::temp_dir().join(format!("maniple-compressed-{}", std::process::id()));
    std::fs::create_dir_all(&dir).unwrap();
    let text = lines().repeat(5);
    assert!(text.len() > 1 << 20, "more than is kept in memory");
    std::fs::write(dir.join("large.txt"), &text).unwrap();
    std::fs::write(dir.join("small.txt"), lines()).unwrap();
    let routes = Router::new()
        .with(Compression::new())
        .files("/", Files::new(&dir));
    let served = Served::of(routes, |builder| builder);
    for (name, text) in [("large.txt", text), ("small.txt", lines())] {
        let ask = |fields: &str| {
            let mut stream = served.connect();
            let end = "Connection: close\r\n\r\n";
            write!(stream, "GET /{name} HTTP/1.1\r\nHost: h\r\n{fields}{end}").unwrap();
            let mut all = Vec::new();
            stream.read_to_end(&mut all).unwrap();
            let end = all.windows(4).position(|four| four == b"\r\n\r\n").unwrap();
            let body = all.split_off(end + 4);
            (String::from_utf8(all).unwrap(), body)
        };
        let (head, body) = ask("Accept-Encoding: gzip\r\n");
        assert!(head.contains("content-encoding: gzip\r\n"), "{head}");
        assert!(head.contains("vary: accept-encoding\r\n"), "{head}");
        // The tag is of the file, and so weak for what was made of it.
        assert!(head.contains("etag: W/\""), "{head}");
        let coded = match head.contains("transfer-encoding: chunked\r\n") {
            true => unchunked(&body),
            false => body,
        };
        assert!(coded.len() < text.len() / 2, "{} bytes", coded.len());
        let mut plain = String::new();
        GzDecoder::new(&*coded).read_to_string(&mut plain).unwrap();
        assert!(plain == text, "{name} is what it was");
        let (head, body) = ask("Accept-Encoding: gzip\r\nRange: bytes=10-19\r\n");
        assert!(head.starts_with("HTTP/1.1 206 "), "{head}");
        assert!(!head.contains("content-encoding"), "{head}");
        assert_eq!(body, text.as_bytes()[10..20]);
        let (head, body) = ask("");
        assert!(
            head.contains(&format!("content-length: {}\r\n", text.len())),
            "{head}"
        );
        assert!(body == text.as_bytes());
    }
    std::fs::remove_dir_all(&dir).unwrap();
}

fn unchunked(mut body: &[u8]) -> Vec<u8> {
    let mut whole = Vec::new();
    loop {
        let end = body.windows(2).position(|two| two == b"\r\n").unwrap();
        let size = std::str::from_utf8(&body[..end]).unwrap();
        let size = usize::from_str_radix(size, 16).unwrap();
        if size == 0 {
            return whole;
        }
        whole.extend_from_slice(&body[end + 2..][..size]);
        body = &body[end + 2 + size + 2..];
    }
}
