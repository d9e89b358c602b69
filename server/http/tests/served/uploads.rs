//! Bodies of the client's requests that are made while they are sent.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::net::TcpListener;
use maniple::sync::mpsc;
use maniple_server::{
    Body, BodyError, Client, ClientError, Flush, HeaderName, HeaderValue, Request, Router,
    StatusCode,
};

use super::Served;

const LONG: Duration = Duration::from_secs(60);

/// Reads that give what is sent by a channel.
struct Parts(mpsc::Receiver<&'static str>);

impl Read for Parts {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let part = loop {
            match self.0.try_recv() {
                Ok(part) => break part,
                Err(mpsc::TryRecvError::Disconnected) => return Ok(0),
                Err(mpsc::TryRecvError::Empty) => maniple::sleep(Duration::from_millis(1)),
            }
        };
        buffer[..part.len()].copy_from_slice(part.as_bytes());
        Ok(part.len())
    }
}

/// Counts how often it is read, and gives bytes without end.
struct Endless(Arc<AtomicUsize>);

impl Read for Endless {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        self.0.fetch_add(1, SeqCst);
        buffer.fill(b'x');
        Ok(buffer.len())
    }
}

/// A server of one connection after the other, each of which has its head read and is then given to `serve`.
fn server(serve: impl Fn(&mut maniple::net::TcpStream) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(LONG)).unwrap();
            if !read_head(&mut stream).is_empty() {
                serve(&mut stream);
            }
        }
    });
    url
}

fn read_head(stream: &mut impl Read) -> String {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => head.push(byte[0]),
            _ => return String::new(),
        }
    }
    String::from_utf8(head).unwrap()
}

/// What a request's fields say of its body, and the body.
fn told() -> Router {
    Router::new().post("/", |request: &mut Request| -> Result<String, BodyError> {
        let body = request.read_body()?;
        let field = |name| request.header_str(name).unwrap_or("-").to_owned();
        let trailers = request.trailers().unwrap_or_default();
        let sum = trailers
            .get("x-sum")
            .map_or("-", |sum| sum.to_str().unwrap());
        Ok(format!(
            "{} {} {} {sum}",
            field("content-length"),
            field("transfer-encoding"),
            body.len(),
        ))
    })
}

/// From a plain thread, and from a coroutine.
fn both_ways(ask: impl Fn() + Send + Sync) {
    ask();
    let runtime = crate::driven::Runtime::builder()
        .workers(1)
        .build()
        .unwrap();
    runtime.run(|| maniple::timeout(LONG, &ask).unwrap());
}

#[test]
fn bodies_of_known_and_unknown_length_come_whole_over_one_connection() {
    let served = Served::of(told(), |builder| builder);
    both_ways(|| {
        crate::driven::run(|| {
            let client = Client::new();
            for length in [0_usize, 1, 16 * 1024, 300_000] {
                let bytes = || io::repeat(b'z').take(length as u64);
                let say = |body| {
                    let answer = client.post(&served.url("/")).body(body).send().unwrap();
                    answer.text().unwrap()
                };
                let sized = say(Body::from_sized_reader(bytes(), length as u64));
                assert_eq!(sized, format!("{length} - {length} -"));
                let chunked = say(Body::from_reader(bytes()));
                assert_eq!(chunked, format!("- chunked {length} -"));
                let written = say(Body::from_fn(move |out| out.write_all(&vec![b'y'; length])));
                assert_eq!(written, format!("- chunked {length} -"));
                let written = say(Body::from_sized_fn(length as u64, move |out| {
                    out.set_flush(Flush::Bytes(1_000));
                    (0..length).try_for_each(|_| out.write_all(b"y"))
                }));
                assert_eq!(written, format!("{length} - {length} -"));
            }
        });
    });
}

#[test]
fn a_part_leaves_before_the_next_is_made() {
    let (seen, sees) = mpsc::channel();
    let url = server(move |stream| {
        let mut heard = Vec::new();
        while !heard.ends_with(b"0\r\n\r\n") {
            let mut byte = [0];
            stream.read_exact(&mut byte).unwrap();
            heard.push(byte[0]);
            if heard.ends_with(b"one\r\n") {
                seen.send(()).unwrap();
            }
        }
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\ndone")
            .unwrap();
    });
    let (make, parts) = mpsc::channel();
    let asking = crate::driven::thread::spawn(move || {
        let body = Body::from_reader(Parts(parts));
        Client::new().post(&url).body(body).send()?.text()
    });
    make.send("one").unwrap();
    sees.recv_timeout(LONG).expect("it left by itself");
    make.send("two").unwrap();
    drop(make);
    assert_eq!(asking.join().unwrap().unwrap(), "done");
}

#[test]
fn an_early_answer_is_had_while_the_body_stands_still_and_ends_the_connection() {
    let closed = Arc::new(AtomicUsize::new(0));
    let counted = closed.clone();
    let url = server(move |stream| {
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmore")
            .unwrap();
        // All that comes of the body, until its end.
        let _ = io::copy(stream, &mut io::sink());
        counted.fetch_add(1, SeqCst);
    });
    both_ways(|| {
        let before = closed.load(SeqCst);
        let client = Client::new();
        let (_make, parts) = mpsc::channel();
        let body = Body::from_reader(Parts(parts));
        let answer = client.post(&url).body(body).send().unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        assert_eq!(answer.text().unwrap(), "more");
        until(|| closed.load(SeqCst) > before);
    });
}

/// Waits for an event.
fn until(has_come: impl Fn() -> bool) {
    let patience = maniple::time::now() + LONG;
    while !has_come() {
        assert!(maniple::time::now() < patience, "it does not come");
        maniple::sleep(Duration::from_millis(5));
    }
}

#[test]
fn a_server_that_reads_nothing_holds_the_body_back() {
    let (over, is_over) = mpsc::channel::<()>();
    let is_over = std::sync::Mutex::new(is_over);
    let url = server(move |_| _ = is_over.lock().unwrap().recv());
    let read = Arc::new(AtomicUsize::new(0));
    let client = Client::builder()
        .timeout(Duration::from_millis(300))
        .build();
    let body = Body::from_reader(Endless(read.clone()));
    let error = client.post(&url).body(body).send().unwrap_err();
    assert!(error.is_timeout(), "{error}");
    // What socket buffers hold, at their largest.
    let bytes = read.load(SeqCst) * 16 * 1024;
    assert!(bytes < 64 << 20, "{bytes} bytes were read");
    drop(over);
}

#[test]
fn a_body_that_fails_is_an_error_of_its_own_and_no_whole_request() {
    let handled = Arc::new(AtomicUsize::new(0));
    let counted = handled.clone();
    let routes = Router::new().post("/", move |request: &mut Request| {
        if request.read_body().is_ok() {
            counted.fetch_add(1, SeqCst);
        }
    });
    let served = Served::of(routes, |builder| builder);
    let client = Client::new();
    let broken = || io::Read::chain(&b"abc"[..], Broken);
    let bodies: [(&str, Body); 6] = [
        ("no more", Body::from_reader(broken())),
        ("no more", Body::from_sized_reader(broken(), 9)),
        (
            "ended 2 bytes before",
            Body::from_sized_reader(&b"abc"[..], 5),
        ),
        (
            "longer than was told",
            Body::from_sized_fn(2, |out| out.write_all(b"abc")),
        ),
        (
            "panicked",
            Body::from_fn(|out| {
                out.write_all(b"abc")?;
                panic!("intended")
            }),
        ),
        (
            "does not list",
            Body::from_fn(|out| {
                out.trailer(HeaderName::from_static("x-sum"), HeaderValue::from(3))
            }),
        ),
    ];
    for (reason, body) in bodies {
        let error = client.post(&served.url("/")).body(body).send().unwrap_err();
        assert!(matches!(error, ClientError::Body { .. }), "{error}");
        assert!(error.to_string().contains(reason), "{error}");
    }
    // Its connections are gone, and nothing was taken for whole.
    until(|| served.handle.connections() == 0);
    assert_eq!(handled.load(SeqCst), 0);
}

struct Broken;

impl Read for Broken {
    fn read(&mut self, _: &mut [u8]) -> io::Result<usize> {
        Err(io::Error::other("no more"))
    }
}

#[test]
fn a_request_cut_in_the_middle_leaves_no_connection_behind() {
    let served = Served::of(told(), |builder| builder);
    crate::driven::run(|| {
        let client = Client::new();
        // One is kept, which the next request would use.
        let whole = client
            .post(&served.url("/"))
            .body("abc")
            .send()
            .unwrap()
            .text();
        assert_eq!(whole.unwrap(), "3 - 3 -");
        let (make, parts) = mpsc::channel();
        make.send("first").unwrap();
        let cut = maniple::timeout(Duration::from_millis(50), || {
            let body = Body::from_reader(Parts(parts));
            client.post(&served.url("/")).body(body).send()
        });
        assert!(cut.unwrap().unwrap_err().is_timeout());
        until(|| served.handle.connections() == 0);
        until(|| make.send("").is_err());
        let whole = client
            .post(&served.url("/"))
            .body("abcd")
            .send()
            .unwrap()
            .text();
        assert_eq!(whole.unwrap(), "4 - 4 -");
    });
}

#[test]
fn what_expects_continue_is_sent_once_it_is_wanted() {
    // By our server, which says so when its handler reads.
    let served = Served::of(told(), |builder| builder);
    let client = Client::new();
    for body in [Body::from("abc"), Body::from_reader(&b"abc"[..])] {
        let request = client.post(&served.url("/")).body(body);
        let answer = request.expect_continue(LONG).send().unwrap();
        assert!(answer.text().unwrap().ends_with(" 3 -"));
    }
    assert_eq!(served.handle.connections(), 1);
    // By one that says nothing.
    let silent = server(|stream| {
        let mut body = [0; 3];
        stream.read_exact(&mut body).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n")
            .unwrap();
        stream.write_all(&body).unwrap();
    });
    for body in [Body::from("abc"), Body::from_sized_reader(&b"abc"[..], 3)] {
        let request = client.post(&silent).body(body);
        let answer = request
            .expect_continue(Duration::from_millis(20))
            .send()
            .unwrap();
        assert_eq!(answer.text().unwrap(), "abc");
    }
}

#[test]
fn what_is_refused_at_its_head_is_never_made() {
    let (heard, hears) = mpsc::channel();
    let url = server(move |stream| {
        stream
            .write_all(b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
            .unwrap();
        let mut rest = Vec::new();
        let _ = stream.read_to_end(&mut rest);
        heard.send(rest).unwrap();
    });
    let read = Arc::new(AtomicUsize::new(0));
    let client = Client::new();
    for body in [Body::from("abc"), Body::from_reader(Endless(read.clone()))] {
        let request = client.post(&url).body(body);
        let answer = request.expect_continue(LONG).send().unwrap();
        assert_eq!(answer.text().unwrap(), "no");
        assert_eq!(hears.recv_timeout(LONG).unwrap(), b"", "and it is closed");
    }
    assert_eq!(read.load(SeqCst), 0);
}

#[test]
fn what_cannot_be_made_again_is_not_sent_again() {
    let (once, counts) = mpsc::channel();
    let url = server(move |stream| {
        once.send(()).unwrap();
        stream
            .write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok")
            .unwrap();
        // The next request on it has no answer.
        let _ = read_head(stream);
    });
    let client = Client::new();
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "ok");
    let request = client.request(maniple_server::Method::PUT, &url);
    let body = Body::from_reader(&b"abc"[..]);
    let error = request.body(body).send().unwrap_err();
    assert!(matches!(error, ClientError::Io { .. }), "{error}");
    assert_eq!(counts.try_iter().count(), 1);
    // What is there may be.
    assert_eq!(client.get(&url).unwrap().text().unwrap(), "ok");
    let request = client.request(maniple_server::Method::PUT, &url);
    assert_eq!(request.body("abc").send().unwrap().text().unwrap(), "ok");
    assert_eq!(counts.try_iter().count(), 2);
}

#[test]
fn trailers_go_both_ways() {
    let served = Served::of(told(), |builder| builder);
    let client = Client::new();
    let body = Body::from_fn(|out| {
        out.write_all(b"abc")?;
        out.trailer(HeaderName::from_static("x-sum"), HeaderValue::from(294))
    });
    let request = client.post(&served.url("/")).header("trailer", "x-sum");
    let answer = request.body(body).send().unwrap();
    assert_eq!(answer.text().unwrap(), "- chunked 3 294");
    let url = server(|stream| {
        stream
            .write_all(
                b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\
                  3\r\nabc\r\n0\r\nX-Sum: 294\r\nContent-Length: 9\r\n\r\n",
            )
            .unwrap();
    });
    let mut answer = client.get(&url).unwrap();
    assert!(answer.trailers().is_empty(), "they have not come");
    let mut body = String::new();
    answer.read_to_string(&mut body).unwrap();
    assert_eq!((body.as_str(), answer.trailers().len()), ("abc", 1));
    assert_eq!(answer.trailers()["x-sum"], "294");
}

#[test]
fn a_form_with_files_comes_as_it_was_put_together() {
    use maniple_server::{client::Form, extract::Multipart};
    let routes = Router::new().post("/", |mut form: Multipart| {
        let mut told = form.text("title").unwrap_or("-").to_owned();
        for name in ["photo", "log", "disk"] {
            let file = form.file(name).unwrap();
            let mut data = String::new();
            file.read_to_string(&mut data).unwrap();
            told += &format!(" {} {}", file.file_name(), data.len());
        }
        told
    });
    let served = Served::of(routes, |builder| builder);
    let path = std::env::temp_dir().join(format!("form-{}.txt", std::process::id()));
    std::fs::write(&path, "on the disk").unwrap();
    let client = Client::new();
    for length in [Some(70_000), None] {
        let log = std::io::repeat(b'l').take(70_000);
        let form = Form::new()
            .text("title", "at the \"sea\"")
            .bytes("photo", "sea.jpg", "image/jpeg", "pixels")
            .reader("log", "a.log", "text/plain", log, length)
            .file("disk", &path, "text/plain")
            .unwrap();
        let answer = client.post(&served.url("/")).form(form).send().unwrap();
        let told = answer.text().unwrap();
        let name = path.file_name().unwrap().to_str().unwrap();
        assert_eq!(
            told,
            format!("at the \"sea\" sea.jpg 6 a.log 70000 {name} 11")
        );
    }
    std::fs::remove_file(&path).unwrap();
    let odd = Form::new().bytes("a", "b", "c\r\nd", "e");
    let error = client.post(&served.url("/")).form(odd).send().unwrap_err();
    assert!(matches!(error, ClientError::Header { .. }), "{error}");
}
