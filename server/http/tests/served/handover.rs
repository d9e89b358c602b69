//! Connections that are handed over: to another protocol, and to tunnels.

use std::{
    io::{self, ErrorKind, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use maniple::{net::Shutdown, sync::channel::unbounded};
use maniple_server::{Request, Response, Router, Server, StatusCode, Upgraded};

use super::{statuses, transports::Served};

const UPGRADE: &str =
    "GET /echo HTTP/1.1\r\nHost: h\r\nConnection: keep-alive, Upgrade\r\nUpgrade: x, ECHO\r\n\r\n";
const LONG: Duration = Duration::from_secs(60);

fn echo(mut connection: Upgraded) {
    let mut bytes = [0; 64];
    while let Ok(count @ 1..) = connection.read(&mut bytes) {
        if connection.write_all(&bytes[..count]).is_err() {
            break;
        }
    }
}

fn routes() -> Router {
    Router::new()
        .get("/", |_: &mut Request| "hello")
        .get("/echo", |_: &mut Request| Response::upgrade("echo", echo))
        .post("/echo", |_: &mut Request| Response::upgrade("echo", echo))
        .get("/tunnel", |_: &mut Request| Response::tunnel(echo))
        .get("/panic", |_: &mut Request| {
            Response::upgrade("echo", |_| panic!("intended"))
        })
        .connect(|request: &mut Request| match request.path() {
            "echo:7" => Response::tunnel(echo).with_header("x-by", "maniple"),
            "none:1" => Response::text("no tunnel"),
            _ => Response::new(StatusCode::FORBIDDEN),
        })
}

fn served() -> [Served; 5] {
    Served::each(|| Server::builder(routes()))
}

/// Reads up to the end of a head.
fn head(stream: &mut impl Read) -> String {
    let (mut head, mut byte) = (Vec::new(), [0]);
    while !head.ends_with(b"\r\n\r\n") {
        stream.read_exact(&mut byte).unwrap();
        head.push(byte[0]);
    }
    String::from_utf8(head).unwrap()
}

fn exactly(stream: &mut impl Read, count: usize) -> Vec<u8> {
    let mut bytes = vec![0; count];
    stream.read_exact(&mut bytes).unwrap();
    bytes
}

fn wait_until(what: &str, mut is_so: impl FnMut() -> bool) {
    let until = maniple::time::now() + LONG;
    while !is_so() {
        assert!(maniple::time::now() < until, "{what}");
        maniple::sleep(Duration::from_millis(5));
    }
}

#[test]
fn what_came_behind_the_request_is_read_first_and_then_the_connection() {
    for served in served() {
        let address = served.handle.address().to_string();
        let mut stream = served.connect();
        let before = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let bytes = format!("{before}{UPGRADE}ahead");
        stream.write_all(bytes.as_bytes()).unwrap();
        assert_eq!(statuses(&head(&mut stream)), [200], "{address}");
        assert_eq!(exactly(&mut stream, 5), b"hello", "{address}");
        let switched = head(&mut stream);
        assert_eq!(statuses(&switched), [101], "{address}");
        assert!(switched.contains("\r\nconnection: upgrade\r\nupgrade: echo\r\n"));
        assert!(!switched.contains("content-length") && !switched.contains("transfer-encoding"));
        assert_eq!(exactly(&mut stream, 5), b"ahead", "{address}");
        for _ in 0..3 {
            stream.write_all(b"later").unwrap();
            assert_eq!(exactly(&mut stream, 5), b"later", "{address}");
        }
        stream.end_writing().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0, "{address}");
        wait_until("it has left", || served.handle.connections() == 0);
    }
}

#[test]
fn a_body_before_the_switch_is_read_away() {
    for served in served() {
        for (body, upgraded) in [
            ("Content-Length: 4\r\n\r\nbody", &[101][..]),
            (
                "Transfer-Encoding: chunked\r\n\r\n4\r\nbody\r\n0\r\n\r\n",
                &[101],
            ),
            (
                "Expect: 100-continue\r\nContent-Length: 4\r\n\r\nbody",
                &[100, 101],
            ),
        ] {
            let post = UPGRADE.replace("GET", "POST").replace("\r\n\r\n", "\r\n");
            let answer = served.say(format!("{post}{body}behind"));
            assert_eq!(statuses(&answer), upgraded, "{answer}");
            assert!(answer.ends_with("\r\n\r\nbehind"), "{answer}");
        }
    }
}

#[test]
fn a_client_that_has_not_asked_is_told_what_it_would_have_to_speak() {
    for served in served() {
        for (from, to) in [
            ("Upgrade: x, ECHO", "Upgrade: websocket"),
            ("Upgrade: x, ECHO", "X: y"),
            ("keep-alive, Upgrade", "keep-alive"),
            ("HTTP/1.1", "HTTP/1.0"),
        ] {
            let answer = served.say(UPGRADE.replace(from, to));
            assert_eq!(statuses(&answer), [426], "{answer}");
            assert!(
                answer.contains("\r\nconnection: upgrade\r\nupgrade: echo\r\n"),
                "{answer}"
            );
        }
        // The connection goes on.
        let plain = UPGRADE.replace("x, ECHO", "y");
        let answer = served.say(format!("{plain}GET / HTTP/1.1\r\nHost: h\r\n\r\n"));
        assert_eq!(statuses(&answer), [426, 200], "{answer}");
    }
}

#[test]
fn connect_opens_a_tunnel_or_is_refused() {
    for served in served() {
        let connect = |to: &str, version: &str| {
            served.say(format!(
                "CONNECT {to} HTTP/{version}\r\nHost: {to}\r\n\r\nthrough"
            ))
        };
        for version in ["1.1", "1.0"] {
            let answer = connect("echo:7", version);
            assert_eq!(answer, "HTTP/1.1 200 OK\r\nx-by: maniple\r\n\r\nthrough");
        }
        assert_eq!(statuses(&connect("other:7", "1.1"))[0], 403);
        // A success without a tunnel would be taken for one.
        assert_eq!(statuses(&connect("none:1", "1.1"))[0], 500);
        // And a tunnel is not for who has not asked for one.
        let get = "GET /tunnel HTTP/1.1\r\nHost: h\r\n\r\n";
        assert_eq!(statuses(&served.say(get)), [500]);
    }
    for served in Served::each(|| Server::builder(super::routes())) {
        let answer = served.say("CONNECT a:1 HTTP/1.1\r\nHost: a\r\n\r\n");
        assert_eq!(statuses(&answer), [501]);
    }
}

#[test]
fn halves_serve_two_coroutines_and_outlive_the_handler() {
    let routes = || {
        Router::new().get("/echo", |_: &mut Request| {
            Response::upgrade("echo", |connection| {
                let (mut reader, mut writer) = connection.split();
                let (there, back) = unbounded::<Vec<u8>>();
                maniple::spawn(move || {
                    let mut bytes = [0; 64];
                    while let Ok(count @ 1..) = reader.read(&mut bytes) {
                        there.send(bytes[..count].to_vec()).unwrap();
                    }
                });
                maniple::spawn(move || {
                    while let Ok(bytes) = back.recv() {
                        writer.write_all(&bytes).unwrap();
                    }
                    writer.shutdown().unwrap();
                });
            })
        })
    };
    for served in Served::each(|| Server::builder(routes())) {
        let mut stream = served.connect();
        stream.write_all(UPGRADE.as_bytes()).unwrap();
        head(&mut stream);
        stream.write_all(b"both ways").unwrap();
        assert_eq!(exactly(&mut stream, 9), b"both ways");
        assert_eq!(served.handle.connections(), 1);
        stream.end_writing().unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        wait_until("it has left", || served.handle.connections() == 0);
    }
}

#[test]
fn a_drain_waits_for_what_was_handed_over_and_tells_it() {
    let routes = || {
        Router::new().get("/echo", |_: &mut Request| {
            Response::upgrade("echo", |mut connection| {
                let cut = connection.until_draining(|connection| connection.read(&mut [0]));
                let cut = cut.unwrap().unwrap_err();
                assert!(maniple::cancel::is_cancelled_error(&cut));
                assert!(connection.is_draining());
                assert!(connection.draining().recv().is_err());
                connection.write_all(b"goodbye").unwrap();
                connection.shutdown(Shutdown::Write).unwrap();
                let mut rest = Vec::new();
                connection.read_to_end(&mut rest).unwrap();
                assert_eq!(rest, b"and to you");
            })
        })
    };
    for served in Served::each(|| Server::builder(routes())) {
        let mut stream = served.connect();
        stream.write_all(UPGRADE.as_bytes()).unwrap();
        head(&mut stream);
        let client = crate::driven::thread::spawn(move || {
            let mut said = Vec::new();
            stream.read_to_end(&mut said).unwrap();
            stream.write_all(b"and to you").unwrap();
            said
        });
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (0, 0));
        assert_eq!(client.join().unwrap(), b"goodbye");
    }
}

#[test]
fn what_is_open_at_the_end_of_the_grace_time_is_cut_wherever_it_went() {
    let (told, errors) = unbounded::<ErrorKind>();
    let routes = move || {
        let told = told.clone();
        Router::new().get("/echo", move |_: &mut Request| {
            let told = told.clone();
            Response::upgrade("echo", move |connection| {
                let (mut reader, _writer) = connection.split();
                // Nobody cancels this one.
                let elsewhere = maniple::spawn(move || {
                    let error = reader.read(&mut [0]).unwrap_err();
                    told.send(error.kind()).unwrap();
                });
                maniple::sleep(10 * LONG);
                drop(elsewhere);
            })
        })
    };
    let grace = Duration::from_millis(50);
    for served in Served::each(|| Server::builder(routes()).drain_grace(grace)) {
        let mut stream = served.connect();
        stream.write_all(UPGRADE.as_bytes()).unwrap();
        head(&mut stream);
        let report = served.drain();
        assert_eq!((report.cancelled, report.left), (1, 0));
        assert_eq!(errors.recv_timeout(LONG), Ok(ErrorKind::ConnectionAborted));
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );
    }
}

#[test]
fn a_panic_of_who_took_over_ends_the_connection_alone() {
    for served in served() {
        let mut stream = served.connect();
        let asked = UPGRADE.replace("/echo", "/panic");
        stream.write_all(asked.as_bytes()).unwrap();
        head(&mut stream);
        let end = stream.read(&mut [0]).map_err(|error| error.kind());
        assert!(
            matches!(end, Ok(0) | Err(ErrorKind::ConnectionReset)),
            "{end:?}"
        );
        assert_eq!(statuses(&served.say("GET / HTTP/1.0\r\n\r\n")), [200]);
    }
}

#[test]
fn timeouts_of_http_do_not_hold_after_the_switch_and_own_ones_do() {
    let ended = Arc::new(AtomicBool::new(false));
    let routes = || {
        let ended = ended.clone();
        Router::new().get("/echo", move |_: &mut Request| {
            let ended = ended.clone();
            Response::upgrade("echo", move |mut connection| {
                // Longer than any timeout of the server's.
                assert_eq!(connection.read(&mut [0; 9]).unwrap(), 4);
                connection
                    .set_read_timeout(Some(Duration::from_millis(10)))
                    .unwrap();
                let late = connection.read(&mut [0]).unwrap_err();
                ended.store(late.kind() == io::ErrorKind::TimedOut, Ordering::SeqCst);
                let short = Duration::from_millis(10);
                connection.set_read_timeout(None).unwrap();
                let late = maniple::timeout(short, || connection.read(&mut [0])).unwrap();
                assert_eq!(late.unwrap_err().kind(), io::ErrorKind::TimedOut);
            })
        })
    };
    let short = Duration::from_millis(50);
    let make = || {
        let builder = Server::builder(routes()).idle_timeout(short);
        builder.header_timeout(LONG).body_timeout(short)
    };
    for served in Served::each(make) {
        let mut stream = served.connect();
        stream.write_all(UPGRADE.as_bytes()).unwrap();
        head(&mut stream);
        maniple::sleep(4 * short);
        stream.write_all(b"late").unwrap();
        assert_eq!(stream.read(&mut [0]).unwrap(), 0);
        assert!(ended.swap(false, Ordering::SeqCst));
    }
}
