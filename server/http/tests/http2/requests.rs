//! Requests and answers: what handlers see, and what clients do.

use http::Request as Asked;
use maniple::block_on;
use maniple_server::{HeaderMap, HeaderValue, Request, Response, Router, StatusCode, Version};

use super::{
    Served,
    client::{Client, get, post, read},
    raw::{self, GOAWAY, HEADERS, RST_STREAM, Raw, block, frame, pseudo},
    run,
};

#[test]
fn a_handler_sees_a_request_like_any_other() {
    run(|| {
        let router = Router::new().get("/user/{id}", |request: &mut Request| {
            assert_eq!(request.version(), Version::HTTP_2);
            assert_eq!(request.host(), Some("test"));
            assert_eq!(request.header_str("x-field"), Some("value"));
            assert_eq!(request.query_param("q").as_deref(), Some("a b"));
            format!("user {}", request.param("id").unwrap())
        });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let request = Asked::get("http://test/user/7?q=a+b").header("x-field", "value");
        let answer = client.ask(request.body(()).unwrap()).unwrap();
        assert_eq!(
            (answer.status, answer.body.as_str()),
            (StatusCode::OK, "user 7")
        );
        let field = |name| {
            answer
                .headers
                .get(name)
                .and_then(|value| value.to_str().ok())
        };
        assert_eq!(field("content-type"), Some("text/plain; charset=utf-8"));
        assert_eq!(field("content-length"), Some("6"));
        assert!(field("date").is_some_and(|date| date.ends_with(" GMT")));
        assert_eq!(client.get("/nowhere").status, StatusCode::NOT_FOUND);
    });
}

#[test]
fn both_protocols_are_spoken_on_one_listener() {
    run(|| {
        let served = Served::of(Router::new().get("/", |request: &mut Request| {
            format!("{:?}", request.version())
        }));
        assert_eq!(Client::connect(served.address()).get("/").body, "HTTP/2.0");
        let url = format!("http://{}/", served.address());
        let text = maniple_server::Client::new().get(&url).unwrap().text();
        assert_eq!(text.unwrap(), "HTTP/1.1");
    });
}

#[test]
fn who_does_not_speak_it_says_so() {
    run(|| {
        let off = maniple_server::server::Http2::off();
        let served = Served::with(Router::new(), |builder| builder.http2(off));
        let mut stream = maniple::net::TcpStream::connect(served.address()).unwrap();
        use std::io::{Read, Write};
        stream
            .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
            .unwrap();
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(answer.starts_with("HTTP/1.1 505 "), "{answer}");
    });
}

#[test]
fn a_preface_behind_a_request_is_no_preface() {
    run(|| {
        let served = Served::of(Router::new().get("/", |_: &mut Request| "hello"));
        let mut stream = maniple::net::TcpStream::connect(served.address()).unwrap();
        use std::io::{Read, Write};
        for piece in [
            "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
            "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        ] {
            stream.write_all(piece.as_bytes()).unwrap();
            if piece.starts_with("GET") {
                let mut answer = [0; 1];
                stream.read_exact(&mut answer).unwrap();
            }
        }
        let mut answer = String::new();
        let _ = stream.read_to_string(&mut answer);
        assert!(
            answer.contains("hello") && answer.contains("HTTP/1.1 505 "),
            "{answer}"
        );
    });
}

#[test]
fn requests_on_one_connection_are_answered_as_they_are_ready() {
    run(|| {
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new()
            .get("/slow", move |_: &mut Request| {
                gate.recv().unwrap();
                "slow"
            })
            .get("/fast", |_: &mut Request| "fast");
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let (slow, _) = client.begin(get("/slow"), true).unwrap();
        assert_eq!(client.get("/fast").body, "fast");
        open.send(()).unwrap();
        assert_eq!(read(block_on(slow).unwrap()).unwrap().body, "slow");
    });
}

#[test]
fn answers_without_a_body_have_none() {
    run(|| {
        let router = Router::new()
            .get("/", |_: &mut Request| "hello")
            .get("/none", |_: &mut Request| StatusCode::NO_CONTENT)
            .get("/same", |_: &mut Request| {
                Response::new(StatusCode::NOT_MODIFIED).with_header("etag", "\"1\"")
            });
        let served = Served::of(router);
        let client = Client::connect(served.address());
        let head = Asked::head("http://test/").body(()).unwrap();
        let answer = client.ask(head).unwrap();
        assert_eq!(answer.headers["content-length"], "5");
        assert_eq!(answer.body, "");
        let none = client.get("/none");
        assert_eq!(
            (none.status, none.body.as_str()),
            (StatusCode::NO_CONTENT, "")
        );
        assert!(!none.headers.contains_key("content-length"));
        let same = client.get("/same");
        assert_eq!(
            (same.status, same.body.as_str()),
            (StatusCode::NOT_MODIFIED, "")
        );
        assert_eq!(same.headers["etag"], "\"1\"");
    });
}

#[test]
fn a_panic_is_one_answer_and_the_connection_goes_on() {
    run(|| {
        let router = Router::new()
            .get("/panic", |_: &mut Request| -> &'static str {
                panic!("intended")
            })
            .get("/interim", |_: &mut Request| StatusCode::PROCESSING)
            .get("/", |_: &mut Request| "hello");
        let served = Served::of(router);
        let client = Client::connect(served.address());
        for path in ["/panic", "/interim"] {
            assert_eq!(client.get(path).status, StatusCode::INTERNAL_SERVER_ERROR);
        }
        assert_eq!(client.get("/").body, "hello");
    });
}

#[test]
fn what_belongs_to_one_connection_of_http_1_is_left_out() {
    run(|| {
        let router = Router::new().get("/", |_: &mut Request| {
            Response::text("hello")
                .with_header("connection", "x-own")
                .with_header("keep-alive", "timeout=5")
                .with_header("transfer-encoding", "chunked")
                .with_header("upgrade", "h2c")
                .with_header("content-length", "77")
        });
        let served = Served::of(router);
        let answer = Client::connect(served.address()).get("/");
        for name in ["connection", "keep-alive", "transfer-encoding", "upgrade"] {
            assert!(!answer.headers.contains_key(name), "{name}");
        }
        assert_eq!(answer.headers["content-length"], "5");
    });
}

#[test]
fn crumbs_of_cookies_are_one_field() {
    run(|| {
        let router = Router::new().get("/", |request: &mut Request| {
            assert_eq!(request.header_values("cookie").count(), 1);
            request.header_str("cookie").unwrap().to_owned()
        });
        let served = Served::of(router);
        let request = get("/");
        let (mut parts, ()) = request.into_parts();
        for crumb in ["a=1", "b=2", "c=3"] {
            parts
                .headers
                .append("cookie", HeaderValue::from_static(crumb));
        }
        let answer = Client::connect(served.address()).ask(Asked::from_parts(parts, ()));
        assert_eq!(answer.unwrap().body, "a=1; b=2; c=3");
    });
}

#[test]
fn who_is_asked_is_said_once_or_twice_the_same() {
    run(|| {
        let router = Router::new().get("/", |request: &mut Request| {
            assert_eq!(request.header_values("host").count(), 1);
            request.host().unwrap_or("nobody").to_owned()
        });
        let served = Served::of(router);
        let cases: [(&[(&str, &str)], u16); 5] = [
            (&[(":authority", "test")], 200),
            (&[("host", "test")], 200),
            (&[(":authority", "test"), ("host", "test")], 200),
            (&[(":authority", "test"), ("host", "other")], 400),
            (&[], 400),
        ];
        for (who, status) in cases {
            let mut raw = Raw::connect(served.address(), &[(1, 0)]);
            let mut fields = vec![(":method", "GET"), (":scheme", "http"), (":path", "/")];
            fields.extend(who);
            let flags = raw::END_STREAM | raw::END_HEADERS;
            raw.say(&frame(HEADERS, flags, 1, &block(&fields)));
            let head = raw.hear_of(HEADERS).unwrap();
            assert_eq!(head.status(), status, "{who:?}");
        }
    });
}

#[test]
fn what_is_malformed_costs_its_own_stream_alone() {
    run(|| {
        let served = Served::of(Router::new().get("/", |_: &mut Request| "hello"));
        let cases: [&[(&str, &str)]; 3] = [
            &[("connection", "close")],
            &[("transfer-encoding", "chunked")],
            &[("te", "gzip")],
        ];
        let mut raw = Raw::connect(served.address(), &[(1, 0)]);
        for (index, wrong) in cases.into_iter().enumerate() {
            let stream = 2 * index as u32 + 1;
            let mut fields = pseudo("/").to_vec();
            fields.extend(wrong);
            let flags = raw::END_STREAM | raw::END_HEADERS;
            raw.say(&frame(HEADERS, flags, stream, &block(&fields)));
            let reset = raw
                .hear_of(RST_STREAM)
                .unwrap_or_else(|| panic!("{wrong:?}"));
            assert_eq!((reset.stream, reset.code()), (stream, 1), "{wrong:?}");
        }
        raw.say(&raw::get(99, "/"));
        assert_eq!(raw.hear_of(HEADERS).unwrap().stream, 99);
        // What no encoder of HTTP/2 writes ends the connection.
        for wrong in [("UPPER", "case"), (":late", "pseudo")] {
            let mut raw = Raw::connect(served.address(), &[]);
            let mut fields = pseudo("/").to_vec();
            fields.push(wrong);
            raw.say(&frame(HEADERS, raw::END_HEADERS, 1, &block(&fields)));
            assert_eq!(raw.hear_of(GOAWAY).unwrap().code(), 1, "{wrong:?}");
        }
    });
}

#[test]
fn hints_come_before_the_answer() {
    run(|| {
        let router = Router::new().get("/", |request: &mut Request| {
            let mut hints = HeaderMap::new();
            hints.insert("link", HeaderValue::from_static("</a.css>; rel=preload"));
            hints.insert("connection", HeaderValue::from_static("close"));
            assert!(request.inform(StatusCode::EARLY_HINTS, &hints).unwrap());
            "page"
        });
        let served = Served::of(router);
        let mut raw = Raw::connect(served.address(), &[(1, 0)]);
        raw.say(&raw::get(1, "/"));
        let hints = raw.hear_of(HEADERS).unwrap();
        assert_eq!(hints.flags & raw::END_STREAM, 0);
        assert_eq!(hints.status(), 103);
        assert_eq!(raw.hear_of(HEADERS).unwrap().status(), 200);
    });
}

#[test]
fn an_answer_that_asks_for_it_is_the_last_of_its_connection() {
    run(|| {
        let router = Router::new().get("/", |_: &mut Request| {
            Response::text("bye").with_header("connection", "close")
        });
        let served = Served::of(router);
        let mut raw = Raw::connect(served.address(), &[]);
        raw.say(&raw::get(1, "/"));
        let goodbye = raw.hear_of(GOAWAY).unwrap();
        assert_eq!(goodbye.code(), 0);
    });
}

#[test]
fn post_needs_no_length() {
    run(|| {
        let router = Router::new().post("/", |request: &mut Request| {
            assert!(request.header("transfer-encoding").is_none());
            format!("{}", request.read_body().unwrap().len())
        });
        let served = Served::of(router);
        let answer = Client::connect(served.address()).send(post("/"), &[b'x'; 100_000]);
        assert_eq!(answer.unwrap().body, "100000");
    });
}
