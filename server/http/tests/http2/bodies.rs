//! Bodies both ways: how they flow, end, break off and are given up.

use std::{
    io::{Read, Write},
    time::Duration,
};

use http::Request as Asked;
use maniple::{block_on, cancel};
use maniple_server::{
    Body, BodyError, Bytes, HeaderName, HeaderValue, Request, Response, Router, StatusCode,
};

use super::{
    Served,
    client::{Client, get, next_piece, post, read, send_all, told},
    raw::{self, DATA, HEADERS, RST_STREAM, Raw, WINDOW_UPDATE, block, frame},
    run,
};

#[test]
fn bodies_of_any_length_come_and_go_whole() {
    run(|| {
        let router = Router::new().post("/echo", |request: &mut Request| {
            Ok::<_, BodyError>(request.read_body()?.to_vec())
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        for length in [0, 1, 16_383, 16_384, 65_535, 65_536, 1_500_000] {
            let body = "x".repeat(length);
            let answer = client.send(post("/echo"), body.as_bytes()).unwrap();
            assert_eq!(answer.body.len(), length);
            assert!(answer.body == body);
        }
    });
}

#[test]
fn what_a_handler_writes_leaves_when_it_waits() {
    run(|| {
        let (go_on, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().get("/", move |_: &mut Request| {
            let gate = gate.clone();
            Response::text(Body::from_fn(move |out| {
                for word in ["one", "two", "three"] {
                    out.write_all(word.as_bytes())?;
                    gate.recv().unwrap();
                }
                Ok(())
            }))
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (answer, _) = client.begin(get("/"), true).unwrap();
        let mut body = block_on(answer).unwrap().into_body();
        for word in ["one", "two", "three"] {
            assert_eq!(next_piece(&mut body).unwrap().unwrap(), word);
            go_on.send(()).unwrap();
        }
        let rest: Vec<_> = std::iter::from_fn(|| next_piece(&mut body)).collect();
        assert!(rest.iter().all(|piece| piece.as_ref().unwrap().is_empty()));
    });
}

#[test]
fn trailers_go_both_ways() {
    run(|| {
        let router = Router::new().post("/", |request: &mut Request| {
            let body = request.read_body().unwrap();
            let sum = request.trailers().unwrap().get("x-sum").cloned().unwrap();
            assert!(!request.trailers().unwrap().contains_key("authorization"));
            Response::text(Body::from_fn(move |out| {
                out.write_all(&body)?;
                out.trailer(HeaderName::from_static("x-sum"), sum)?;
                let framing = HeaderName::from_static("content-length");
                assert!(out.trailer(framing, HeaderValue::from_static("1")).is_err());
                Ok(())
            }))
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (answer, mut out) = client.begin(post("/"), false).unwrap();
        send_all(&mut out, b"body").unwrap();
        let mut trailers = http::HeaderMap::new();
        trailers.insert("x-sum", HeaderValue::from_static("42"));
        trailers.insert("authorization", HeaderValue::from_static("late"));
        out.send_trailers(trailers).unwrap();
        let answer = read(block_on(answer).unwrap()).unwrap();
        assert_eq!(answer.body, "body");
        assert_eq!(answer.trailers.unwrap()["x-sum"], "42");
    });
}

#[test]
fn a_body_that_is_at_hand_may_have_trailers() {
    run(|| {
        let router = Router::new().get("/{body}", |request: &mut Request| {
            let mut trailers = http::HeaderMap::new();
            trailers.insert("x-sum", HeaderValue::from_static("42"));
            let body = request.path().trim_start_matches('/').to_owned();
            let body = body.trim_start_matches("none").to_owned();
            Response::text(body).with_trailers(trailers)
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        for (path, body) in [("/body", "body"), ("/none", "")] {
            let answer = client.get(path);
            assert_eq!(answer.body, body);
            assert_eq!(answer.trailers.unwrap()["x-sum"], "42");
        }
        let of_head = Asked::head("http://test/body").body(()).unwrap();
        assert!(client.ask(of_head).unwrap().trailers.is_none());
    });
}

#[test]
fn a_head_that_is_kept_back_leaves_with_the_first_bytes_and_may_change_until_then() {
    run(|| {
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().get("/{how}", move |request: &mut Request| {
            let (how, gate) = (request.path().to_owned(), gate.clone());
            let body = Body::from_fn(move |out| {
                let head = out.headers_mut().expect("it has not left");
                head.insert("x-late", HeaderValue::from_static("yes"));
                match &*how {
                    "/nothing" => return Ok(()),
                    "/broken" => return Err(std::io::Error::other("broken")),
                    "/flushed" => out.flush()?,
                    _ => out.write_all(b"first")?,
                }
                assert!(out.headers_mut().is_none());
                gate.recv().map_err(std::io::Error::other)?;
                out.write_all(b", last")?;
                out.trailer(
                    HeaderName::from_static("x-sum"),
                    HeaderValue::from_static("1"),
                )
            });
            Response::text(body).with_late_head()
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        for (path, body) in [("/written", "first, last"), ("/flushed", ", last")] {
            let (answer, _) = client.begin(get(path), true).unwrap();
            let answer = block_on(answer).unwrap();
            open.send(()).unwrap();
            let answer = read(answer).unwrap();
            assert_eq!(answer.body, body);
            assert_eq!(answer.headers["x-late"], "yes");
            assert_eq!(answer.trailers.unwrap()["x-sum"], "1");
        }
        let answer = client.get("/nothing");
        assert_eq!(answer.body, "");
        assert_eq!(answer.headers["x-late"], "yes");
        assert!(client.ask(get("/broken")).unwrap_err().is_reset());
    });
}

#[test]
fn a_body_is_read_while_the_answer_is_written() {
    run(|| {
        let router = Router::new().post("/", |_: &mut Request| {
            Response::text(Body::duplex(|request, out| {
                let mut buffer = [0; 16];
                loop {
                    match request.read(&mut buffer)? {
                        0 => return Ok(()),
                        count => out.write_all(&buffer[..count])?,
                    }
                }
            }))
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (answer, mut out) = client.begin(post("/"), false).unwrap();
        let mut body = block_on(answer).unwrap().into_body();
        for word in ["ping", "pong", "ping"] {
            out.send_data(Bytes::from_static(word.as_bytes()), false)
                .unwrap();
            assert_eq!(next_piece(&mut body).unwrap().unwrap(), word);
        }
        out.send_data(Bytes::new(), true).unwrap();
        assert!(next_piece(&mut body).is_none_or(|piece| piece.unwrap().is_empty()));
    });
}

#[test]
fn a_client_that_waits_to_be_asked_for_its_body_is_asked() {
    run(|| {
        let router = Router::new()
            .post("/read", |request: &mut Request| {
                String::from_utf8(request.read_body().unwrap().to_vec()).unwrap()
            })
            .post("/not", |_: &mut Request| StatusCode::FORBIDDEN);
        let served = Served::of(router);
        let head = |path| {
            block(&[
                (":method", "POST"),
                (":scheme", "http"),
                (":authority", "test"),
                (":path", path),
                ("expect", "100-continue"),
            ])
        };
        let mut raw = Raw::connect(served.address(), &[(1, 0)]);
        raw.say(&frame(HEADERS, raw::END_HEADERS, 1, &head("/read")));
        let asked = raw.hear_of(HEADERS).unwrap();
        assert_eq!(asked.status(), 100);
        raw.say(&frame(DATA, raw::END_STREAM, 1, b"body"));
        assert_eq!(raw.hear_of(DATA).unwrap().payload, b"body");

        raw.say(&frame(HEADERS, raw::END_HEADERS, 3, &head("/not")));
        let refused = raw.hear_of(HEADERS).unwrap();
        assert_eq!(refused.status(), 403);
    });
}

#[test]
fn a_body_that_breaks_off_does_not_look_whole() {
    run(|| {
        struct Breaks(bool);
        impl Read for Breaks {
            fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
                if std::mem::replace(&mut self.0, true) {
                    return Err(std::io::Error::other("intended"));
                }
                buffer[..4].copy_from_slice(b"half");
                Ok(4)
            }
        }
        let router = Router::new()
            .get("/reader", |_: &mut Request| {
                Response::text(Body::from_reader(Breaks(false)))
            })
            .get("/short", |_: &mut Request| {
                Response::text(Body::from_sized_reader(std::io::repeat(b'x').take(3), 10))
            })
            .get("/written", |_: &mut Request| {
                Response::text(Body::from_fn(|out| {
                    out.write_all(b"half")?;
                    Err(std::io::Error::other("intended"))
                }))
            })
            .get("/panics", |_: &mut Request| {
                Response::text(Body::from_fn(|_| panic!("intended")))
            })
            .get("/", |_: &mut Request| "hello");
        let served = Served::of(router);
        let client = Client::connect(served.address());
        for path in ["/reader", "/short", "/written", "/panics"] {
            let error = client.ask(get(path)).expect_err(path);
            assert!(error.is_reset(), "{path}: {error}");
        }
        assert_eq!(client.get("/").body, "hello");
    });
}

#[test]
fn a_body_of_another_length_than_was_told_is_an_error() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().post("/", move |request: &mut Request| {
            tell.send(request.read_body().map(|body| body.len()).is_err())
                .unwrap();
            "done"
        });
        let served = Served::of(router);
        let told = |length: &str| Asked::post("http://test/").header("content-length", length);
        for length in ["3", "10"] {
            let client = Client::connect(served.address());
            let request = told(length).body(()).unwrap();
            let answer = client.send(request, b"seven b");
            assert!(answer.is_err() || hear(), "{length}");
        }
    });
}

#[test]
fn a_body_that_is_too_long_is_refused() {
    run(|| {
        let router =
            Router::new().post("/", |request: &mut Request| -> Result<String, BodyError> {
                Ok(request.read_body()?.len().to_string())
            });
        let served = Served::with(router, |builder| builder.max_body_bytes(10_000));
        let client = Client::connect(served.address());
        let told = Asked::post("http://test/").header("content-length", "10001");
        let (answer, _out) = client.begin(told.body(()).unwrap(), false).unwrap();
        let answer = block_on(answer).unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let (answer, mut out) = client.begin(post("/"), false).unwrap();
        send_all(&mut out, &[b'x'; 10_001]).unwrap();
        let answer = block_on(answer).unwrap();
        assert_eq!(answer.status(), StatusCode::PAYLOAD_TOO_LARGE);
        let answer = client.send(post("/"), &[b'x'; 10_000]).unwrap();
        assert_eq!(answer.body, "10000");
    });
}

#[test]
fn an_answer_that_leaves_a_body_unread_ends_the_stream_in_order() {
    run(|| {
        let router = Router::new().post("/", |_: &mut Request| "enough");
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (answer, mut out) = client.begin(post("/"), false).unwrap();
        out.send_data(Bytes::from_static(b"some"), false).unwrap();
        assert_eq!(read(block_on(answer).unwrap()).unwrap().body, "enough");
    });
}

#[test]
fn a_reset_cuts_the_waits_of_the_handler() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().get("/", move |_: &mut Request| {
            let tell = tell.clone();
            tell.send(None).unwrap();
            let (_open, gate) = maniple::sync::channel::bounded::<()>(1);
            let waited = gate.recv();
            tell.send(Some((waited.is_err(), cancel::cause()))).unwrap();
            "gone"
        });
        let served = Served::of(router);
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/"));
        assert_eq!(hear(), None);
        raw.say(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
        assert_eq!(hear(), Some((true, Some(cancel::Cause::Disconnected))));
        // The connection goes on, and has room for others.
        raw.say(&raw::get(3, "/"));
        assert_eq!(hear(), None);
        // So does its end.
        drop(raw);
        assert_eq!(hear(), Some((true, Some(cancel::Cause::Disconnected))));
    });
}

#[test]
fn a_reset_cuts_a_body_that_is_written_and_one_that_is_read() {
    run(|| {
        let (tell, hear) = told();
        let other = tell.clone();
        let router = Router::new()
            .get("/write", move |_: &mut Request| {
                let tell = tell.clone();
                Response::text(Body::from_fn(move |out| {
                    let written = loop {
                        if let Err(error) = out.write_all(&[b'x'; 1000]) {
                            break error;
                        }
                    };
                    tell.send(written.to_string()).unwrap();
                    Err(written)
                }))
            })
            .post("/read", move |request: &mut Request| {
                let mut first = [0; 4];
                request.body().read_exact(&mut first).unwrap();
                other
                    .send(String::from_utf8(first.to_vec()).unwrap())
                    .unwrap();
                let error = request.read_body().unwrap_err();
                other.send(error.to_string()).unwrap();
                "gone"
            });
        let served = Served::of(router);
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/write"));
        assert!(raw.hear_of(DATA).is_some());
        raw.say(&frame(RST_STREAM, 0, 1, &8_u32.to_be_bytes()));
        let why = hear();
        assert!(!why.is_empty());
        let head = [
            (":method", "POST"),
            (":scheme", "http"),
            (":authority", "t"),
            (":path", "/read"),
        ];
        raw.say(&frame(HEADERS, raw::END_HEADERS, 3, &block(&head)));
        raw.say(&frame(DATA, 0, 3, b"some"));
        assert_eq!(hear(), "some");
        raw.say(&frame(RST_STREAM, 0, 3, &8_u32.to_be_bytes()));
        assert!(!hear().is_empty());
    });
}

#[test]
fn a_writer_waits_for_the_clients_window_and_for_no_longer_than_a_stall() {
    run(|| {
        let (tell, hear) = told();
        let router = Router::new().get("/", move |_: &mut Request| {
            let tell = tell.clone();
            Response::text(Body::from_fn(move |out| {
                let mut written = 0;
                let error = loop {
                    match out.write_all(&[b'x'; 1000]) {
                        Ok(()) => written += 1000,
                        Err(error) => break error,
                    }
                };
                tell.send((written, error.kind())).unwrap();
                Err(error)
            }))
        });
        let served = Served::with(router, |builder| {
            builder.body_timeout(Duration::from_millis(300))
        });
        let mut raw = Raw::connect(served.address(), &[(4, 5_000)]);
        raw.say(&raw::get(1, "/"));
        let mut came = 0;
        while came < 5_000 {
            came += raw.hear_of(DATA).unwrap().payload.len();
        }
        // Room for so much more.
        raw.say(&frame(WINDOW_UPDATE, 0, 1, &2_000_u32.to_be_bytes()));
        while came < 7_000 {
            came += raw.hear_of(DATA).unwrap().payload.len();
        }
        let (written, why) = hear();
        assert_eq!((came, why), (7_000, std::io::ErrorKind::TimedOut));
        assert!((6_000..=7_000).contains(&written), "{written}");
        let reset = raw.hear_of(RST_STREAM).unwrap();
        assert_eq!((reset.stream, reset.code()), (1, 8));
    });
}

#[test]
fn windows_may_be_as_wide_as_they_can_be() {
    run(|| {
        let router = Router::new().get("/", |_: &mut Request| vec![b'x'; 200_000]);
        let served = Served::of(router);
        // As nginx's grpc_pass does: no table, and both windows at the limit.
        let mut raw = Raw::connect(served.address(), &[(1, 0), (4, (1 << 31) - 1)]);
        let more: u32 = (1 << 31) - 1 - 65_535;
        raw.say(&frame(WINDOW_UPDATE, 0, 0, &more.to_be_bytes()));
        raw.say(&raw::get(1, "/"));
        let mut came = 0;
        while came < 200_000 {
            came += raw.hear_of(DATA).unwrap().payload.len();
        }
        assert_eq!(came, 200_000);
    });
}
