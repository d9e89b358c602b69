//! A gateway: requests that are passed on to another server.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering::SeqCst},
    },
    time::Duration,
};

use maniple::net::{Shutdown, TcpListener, TcpStream};
use maniple::sync::mpsc;
use maniple_server::{
    Body, BodyError, Client, HeaderMap, HeaderName, HeaderValue, IntoResponse, Method, Proxy,
    Request, Response, Router, Server, StatusCode,
    transport::{Listener, memory},
    websocket,
};

use super::{Served, statuses};

const LONG: Duration = Duration::from_secs(60);

/// A gateway in front of these routes.
struct Behind {
    gate: Served,
    server: Served,
}

fn behind(routes: Router) -> Behind {
    behind_by(routes, |proxy| proxy)
}

fn behind_by(routes: Router, settings: impl FnOnce(Proxy) -> Proxy) -> Behind {
    let server = Served::of(routes, |builder| builder);
    let gate = gate(settings(Proxy::to(&server.url(""))));
    Behind { gate, server }
}

fn gate(proxy: Proxy) -> Served {
    Served::of(Router::new().fallback(proxy), |builder| builder)
}

fn until(has_come: impl Fn() -> bool) {
    let patience = maniple::time::now() + LONG;
    while !has_come() {
        assert!(maniple::time::now() < patience, "it does not come");
        maniple::sleep(Duration::from_millis(5));
    }
}

/// A server whose connections, of which a head has been read, are given to `serve`.
fn server(serve: impl Fn(&mut TcpStream, String) + Send + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    crate::driven::thread::spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            stream.set_read_timeout(Some(LONG)).unwrap();
            let head = read_until(&mut stream, "\r\n\r\n");
            serve(&mut stream, head);
        }
    });
    url
}

fn read_until(stream: &mut impl Read, end: &str) -> String {
    let mut read = Vec::new();
    while !read.ends_with(end.as_bytes()) {
        let mut byte = [0];
        match stream.read(&mut byte) {
            Ok(1) => read.push(byte[0]),
            _ => break,
        }
    }
    String::from_utf8(read).unwrap()
}

/// Says what came: method, path, query, fields in their order, body.
fn mirror(request: &mut Request) -> Result<String, BodyError> {
    let body = request.read_body()?;
    let mut fields: Vec<String> = request
        .headers()
        .iter()
        .map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()))
        .collect();
    fields.sort();
    Ok(format!(
        "{} {} {:?}\n{}\n\n{}",
        request.method(),
        request.path(),
        request.query(),
        fields.join("\n"),
        String::from_utf8_lossy(&body),
    ))
}

#[test]
fn method_path_query_fields_and_body_are_passed_on_and_hops_are_not() {
    let server = Served::of(Router::new().fallback(mirror), |builder| builder);
    let proxy = Proxy::to(&server.url("/base/"))
        .strip_prefix("/api")
        .name("gate");
    let gate = gate(proxy);
    let answer = gate.say(
        "PUT /api/a%20b/c?x=1&y HTTP/1.1\r\nHost: shop.example:81\r\nX-A: 1\r\nX-A: 2\r\nCookie: c\r\n\
         Connection: keep-alive, X-Hop\r\nX-Hop: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\n\
         Proxy-Authorization: Basic x\r\nX-Forwarded-For: 9.9.9.9\r\nForwarded: for=9.9.9.9\r\n\
         Via: 1.0 fred\r\nContent-Length: 3\r\n\r\nabc",
    );
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    assert!(head.contains("via: 1.1 gate"), "{head}");
    let expected = format!(
        "PUT /base/a%20b/c Some(\"x=1&y\")\ncontent-length: 3\ncookie: c\nhost: {}\nvia: 1.0 fred\n\
         via: 1.1 gate\nx-a: 1\nx-a: 2\nx-forwarded-for: 127.0.0.1\nx-forwarded-host: shop.example:81\n\
         x-forwarded-proto: http\n\nabc",
        server.address(),
    );
    assert_eq!(body, expected);
    // Not what only begins like the prefix.
    let answers =
        gate.say("GET /apis HTTP/1.1\r\nHost: h\r\n\r\nGET /api HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(&answers), [404, 200]);
}

#[test]
fn the_host_is_kept_if_told_and_trusted_proxies_are_believed() {
    let server = Served::of(Router::new().fallback(mirror), |builder| builder);
    let url = server.url("");
    let ask = |proxy: Proxy| {
        crate::driven::run(|| {
            let (listener, connector) = memory::listener();
            let listener = Listener::try_from(listener).unwrap();
            let listener = listener.trust("memory 10.0.0.0/8".parse().unwrap());
            let gate = Server::builder(Router::new().fallback(proxy));
            let gate = gate.listener(listener).unwrap();
            let handle = gate.handle();
            let serving = maniple::spawn(move || gate.serve());
            let client = Client::builder().connector(connector).unwrap().build();
            let request = client.request(Method::GET, "http://shop.example/");
            let said = "9.9.9.9, 2001:db8::1, 10.0.0.1";
            let request = request.header("x-forwarded-for", said);
            let request = request.header("x-forwarded-proto", "https");
            let answer = request.send().unwrap().text().unwrap();
            handle.drain();
            serving.join().unwrap().unwrap();
            answer
        })
    };
    let answer = ask(Proxy::to(&url).keep_host(true).by_forwarded());
    assert!(answer.contains("\nhost: shop.example\n"), "{answer}");
    let forwarded =
        "forwarded: for=\"[2001:db8::1]\", for=10.0.0.1;proto=https;host=\"shop.example\"\n";
    assert!(answer.contains(forwarded), "{answer}");
    assert!(!answer.contains("x-forwarded"), "{answer}");
    let answer = ask(Proxy::to(&url));
    assert!(
        answer.contains("\nx-forwarded-for: 2001:db8::1, 10.0.0.1\n"),
        "{answer}"
    );
    assert!(answer.contains("\nx-forwarded-proto: https"), "{answer}");
}

#[test]
fn bodies_go_both_ways_in_their_framing() {
    let behind = behind(Router::new().fallback(mirror));
    let client = Client::new();
    let url = behind.gate.url("/");
    for _ in 0..3 {
        let sized = client.post(&url).body(vec![b'z'; 200_000]).send().unwrap();
        assert!(sized.header("content-length").is_some());
        let text = sized.text().unwrap();
        assert!(text.contains("content-length: 200000\n"), "{:.300}", text);
        assert_eq!(text.len() - text.find("\n\n").unwrap() - 2, 200_000);
        let made = Body::from_reader(std::io::repeat(b'y').take(100_000));
        let text = client.post(&url).body(made).send().unwrap().text().unwrap();
        assert!(
            text.contains("transfer-encoding: chunked\n"),
            "{:.300}",
            text
        );
        assert_eq!(text.len() - text.find("\n\n").unwrap() - 2, 100_000);
    }
    let connections = [&behind.gate, &behind.server].map(|served| served.handle.connections());
    assert_eq!(connections, [1, 1], "both are kept");
}

#[test]
fn answers_without_bodies_stay_so() {
    let routes = Router::new()
        .get("/sized", |_: &mut Request| "hello")
        .get("/none", |_: &mut Request| StatusCode::NO_CONTENT)
        .get("/same", |_: &mut Request| {
            Response::new(StatusCode::NOT_MODIFIED).with_header("etag", "\"a\"")
        })
        .get("/moved", |_: &mut Request| {
            Response::new(StatusCode::FOUND).with_header("location", "/sized")
        })
        .get("/stream", |_: &mut Request| {
            Response::text(Body::from_reader(&b"streamed"[..]))
        });
    let behind = behind(routes);
    let ask = |method: &str, path: &str| {
        let request = format!("{method} {path} HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n");
        behind.gate.say(request)
    };
    let answer = ask("HEAD", "/sized");
    assert!(answer.contains("content-length: 5\r\n") && answer.ends_with("\r\n\r\n"));
    for (path, status) in [("/none", "204"), ("/same", "304")] {
        let answer = ask("GET", path);
        assert!(
            answer.starts_with(&format!("HTTP/1.1 {status} ")),
            "{answer}"
        );
        assert!(answer.ends_with("\r\n\r\n") && !answer.contains("content-length"));
    }
    assert!(ask("GET", "/same").contains("etag: \"a\"\r\n"));
    assert!(ask("GET", "/moved").contains("location: /sized\r\n"));
    assert!(ask("GET", "/stream").contains("8\r\nstreamed\r\n"));
    // To HTTP/1.0, the end is the connection's.
    let old = behind.gate.say("GET /stream HTTP/1.0\r\n\r\n");
    assert!(old.ends_with("\r\n\r\nstreamed"), "{old}");
}

#[test]
fn parts_are_passed_on_as_they_come() {
    let behind = behind(Router::new().post("/", |_: &mut Request| {
        Response::text(Body::duplex(|request, out| {
            let mut buffer = [0; 64];
            while let count @ 1.. = request.read(&mut buffer)? {
                out.write_all(&buffer[..count])?;
                out.flush()?;
            }
            Ok(())
        }))
    }));
    let mut stream = behind.gate.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\n")
        .unwrap();
    for part in ["one", "two", "six"] {
        write!(stream, "3\r\n{part}\r\n").unwrap();
        let echo = read_until(&mut stream, &format!("3\r\n{part}\r\n"));
        assert!(!echo.contains("0\r\n\r\n"), "{echo}");
    }
    stream.write_all(b"0\r\n\r\n").unwrap();
    assert_eq!(read_until(&mut stream, "0\r\n\r\n"), "0\r\n\r\n");
}

#[test]
fn an_early_refusal_reaches_a_client_that_still_sends() {
    let url = server(|stream, _| {
        stream
            .write_all(b"HTTP/1.1 413 Too Large\r\nContent-Length: 4\r\n\r\nmore")
            .unwrap();
        let _ = std::io::copy(stream, &mut std::io::sink());
    });
    let gate = gate(Proxy::to(&url));
    let mut stream = gate.connect();
    stream
        .write_all(b"POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 10000000\r\n\r\nbegun")
        .unwrap();
    let answer = read_until(&mut stream, "more");
    assert!(answer.starts_with("HTTP/1.1 413 "), "{answer}");
}

#[test]
fn an_answer_that_breaks_off_never_looks_whole() {
    for cut in [
        "HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhello",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTrailer: x-a\r\n\r\n5\r\nhello\r\n",
        "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\nzz\r\n",
    ] {
        let url = server(move |stream, _| stream.write_all(cut.as_bytes()).unwrap());
        let gate = gate(Proxy::to(&url));
        let answer = Client::new().get(&gate.url("/")).unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
        assert!(answer.text().is_err(), "{cut:?}");
    }
}

#[test]
fn a_client_that_goes_away_ends_the_call() {
    let ended = Arc::new(AtomicUsize::new(0));
    struct Ends(Arc<AtomicUsize>);
    impl Drop for Ends {
        fn drop(&mut self) {
            self.0.fetch_add(1, SeqCst);
        }
    }
    let (counted, entered) = (ended.clone(), Arc::new(AtomicUsize::new(0)));
    let seen = entered.clone();
    let behind = behind(Router::new().any("/", move |_: &mut Request| {
        let _ends = Ends(counted.clone());
        seen.fetch_add(1, SeqCst);
        maniple::sleep(LONG * 10);
    }));
    for (calls, request) in [
        "GET / HTTP/1.1\r\nHost: h\r\n\r\n",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\nabc",
        "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 3\r\n\r\na",
    ]
    .iter()
    .enumerate()
    {
        let mut stream = behind.gate.connect();
        stream.write_all(request.as_bytes()).unwrap();
        until(|| entered.load(SeqCst) > calls);
        drop(stream);
        until(|| ended.load(SeqCst) > calls);
    }
}

#[test]
fn a_body_that_its_client_breaks_off_is_no_request_behind() {
    let handled = Arc::new(AtomicUsize::new(0));
    let counted = handled.clone();
    let behind = behind(Router::new().post("/", move |request: &mut Request| {
        if request.read_body().is_ok() {
            counted.fetch_add(1, SeqCst);
        }
    }));
    for body in [
        "Content-Length: 9\r\n\r\nabc",
        "Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
    ] {
        let answer = behind
            .gate
            .say(format!("POST / HTTP/1.1\r\nHost: h\r\n{body}"));
        assert!(!answer.contains("200"), "{answer}");
    }
    let malformed = "POST / HTTP/1.1\r\nHost: h\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n";
    assert_eq!(statuses(&behind.gate.say(malformed)), [400]);
    until(|| behind.server.handle.connections() == 0);
    assert_eq!(handled.load(SeqCst), 0);
}

#[test]
fn failures_behind_have_their_statuses() {
    let nobody = TcpListener::bind("127.0.0.1:0").unwrap();
    let gone = format!("http://{}", nobody.local_addr().unwrap());
    drop(nobody);
    let ask = |proxy: Proxy| {
        let gate = gate(proxy);
        let request = "GET / HTTP/1.1\r\nHost: h\r\n\r\n";
        let with_body = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\na";
        // Behind what asks whether the client listens.
        let both = [request, with_body].map(|request| statuses(&gate.say(request)).pop());
        assert_eq!(both[0], both[1]);
        both[0].unwrap()
    };
    assert_eq!(ask(Proxy::to(&gone)), 502);
    let closes = server(|_, _| {});
    assert_eq!(ask(Proxy::to(&closes)), 502);
    let garbage = server(|stream, _| stream.write_all(b"SSH-2.0\r\n\r\n").unwrap());
    assert_eq!(ask(Proxy::to(&garbage)), 502);
    let switches = server(|stream, _| {
        let head = b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n";
        stream.write_all(head).unwrap();
    });
    assert_eq!(ask(Proxy::to(&switches)), 502);
    let (over, is_over) = mpsc::channel::<()>();
    let stuck = server(move |_, _| _ = is_over.recv_timeout(Duration::from_secs(2)));
    assert_eq!(
        ask(Proxy::to(&stuck).timeout(Duration::from_millis(100))),
        504
    );
    drop(over);
    // Where another can be reached, it is.
    let here = Served::start();
    let proxy = Proxy::to_any([gone.as_str(), here.url("").as_str()]);
    let gate = gate(proxy);
    for _ in 0..4 {
        assert_eq!(
            Client::new().get(&gate.url("/")).unwrap().text().unwrap(),
            "hello"
        );
    }
}

#[test]
fn what_is_answered_at_the_gate_goes_no_further() {
    let asked = Arc::new(AtomicUsize::new(0));
    let counted = asked.clone();
    let behind = behind(Router::new().fallback(move |_: &mut Request| {
        counted.fetch_add(1, SeqCst);
    }));
    let line = |line: &str, more: &str| {
        let request = format!("{line} HTTP/1.1\r\nHost: h\r\n{more}\r\n");
        statuses(&behind.gate.say(request))[0]
    };
    assert_eq!(line("TRACE /", ""), 405);
    assert_eq!(line("OPTIONS /", "Max-Forwards: 0\r\n"), 204);
    for path in ["/../a", "/a/%2e%2e/b", "/."] {
        assert_eq!(line(&format!("GET {path}"), ""), 400, "{path}");
    }
    let both = "POST / HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n";
    assert_eq!(statuses(&behind.gate.say(both)), [400]);
    assert_eq!(asked.load(SeqCst), 0);
    assert_eq!(line("OPTIONS /", "Max-Forwards: 1\r\n"), 200);
    assert_eq!(asked.load(SeqCst), 1);
}

#[test]
fn a_request_that_comes_round_again_is_refused() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let runtime = crate::driven::Runtime::builder()
        .workers(2)
        .build()
        .unwrap();
    let router = Router::new().fallback(Proxy::to(&url));
    let server = maniple_server::Server::builder(router)
        .listener(listener)
        .unwrap();
    let handle = server.handle();
    let serving = runtime.spawn(move || server.serve());
    let answer = Client::new().get(&url).unwrap();
    assert_eq!(answer.status(), StatusCode::LOOP_DETECTED);
    handle.drain();
    serving.join().unwrap().unwrap();
}

#[test]
fn hints_and_trailers_are_passed_on() {
    let behind = behind(Router::new().any(
        "/",
        |request: &mut Request| -> Result<Response, BodyError> {
            let mut hints = HeaderMap::new();
            hints.insert("link", HeaderValue::from_static("</a>"));
            let _ = request.inform(StatusCode::EARLY_HINTS, &hints);
            request.read_body()?;
            let sum = request
                .trailers()
                .and_then(|fields| fields.get("x-sum").cloned());
            let body = Body::from_fn(move |out| {
                out.write_all(b"abc")?;
                let name = HeaderName::from_static("x-sum");
                out.trailer(name, sum.unwrap_or(HeaderValue::from(294)))
            });
            Ok(Response::text(body).with_header("trailer", "x-sum"))
        },
    ));
    let answer = behind.gate.say("GET / HTTP/1.1\r\nHost: h\r\n\r\n");
    assert_eq!(statuses(&answer), [103, 200]);
    assert!(answer.contains("link: </a>\r\n"), "{answer}");
    assert!(answer.ends_with("0\r\nx-sum: 294\r\n\r\n"), "{answer}");
    let answer = behind.gate.say(
        "POST / HTTP/1.1\r\nHost: h\r\nTrailer: x-sum\r\nTransfer-Encoding: chunked\r\n\r\n\
         1\r\na\r\n0\r\nX-Sum: 97\r\n\r\n",
    );
    assert!(answer.ends_with("0\r\nx-sum: 97\r\n\r\n"), "{answer}");
}

#[test]
fn a_websocket_is_passed_through() {
    let behind = behind(Router::new().get("/echo", |request: &mut Request| {
        websocket::upgrade(request, |socket| {
            while let Some(message) = socket.receive()? {
                socket.send(message)?;
            }
            Ok(())
        })
    }));
    let url = behind.gate.url("/echo").replace("http:", "ws:");
    let mut socket = websocket::connect(&url).unwrap();
    for n in 0..100 {
        let text = format!("hello {n}");
        socket.send(text.as_str()).unwrap();
        let echo = socket.receive().unwrap().unwrap();
        assert_eq!(echo, websocket::Message::Text(text));
    }
    socket.close(1000, "").unwrap();
    drop(socket);
    until(|| behind.gate.handle.connections() + behind.server.handle.connections() == 0);
    // Who does not ask for it gets what the server says to that.
    let plain = Client::new().get(&behind.gate.url("/echo")).unwrap();
    assert!(plain.status().is_client_error());
}

#[test]
fn a_tunnel_ends_on_both_sides_when_one_ends_it() {
    let url = server(|stream, head| {
        assert!(head.to_lowercase().contains("upgrade: lines"), "{head}");
        stream
            .write_all(
                b"HTTP/1.1 101 Switching\r\nUpgrade: lines\r\nConnection: upgrade\r\n\r\nearly\n",
            )
            .unwrap();
        let heard = read_until(stream, "\n");
        stream
            .write_all(format!("you said {heard}").as_bytes())
            .unwrap();
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        stream.write_all(b"bye\n").unwrap();
    });
    let gate = gate(Proxy::to(&url));
    let mut stream = gate.connect();
    stream
        .write_all(
            b"GET / HTTP/1.1\r\nHost: h\r\nConnection: upgrade\r\nUpgrade: lines\r\n\r\nahead\n",
        )
        .unwrap();
    let answer = read_until(&mut stream, "you said ahead\n");
    assert!(
        answer.starts_with("HTTP/1.1 101 ") && answer.contains("\r\n\r\nearly\n"),
        "{answer}"
    );
    stream.shutdown(Shutdown::Write).unwrap();
    let mut rest = String::new();
    stream.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "bye\n");
}

#[test]
fn a_proxy_behind_middleware_is_a_handler_like_others() {
    let server = Served::start();
    let proxy = Proxy::to(&server.url(""));
    let router = Router::new()
        .with(
            |request: &mut Request, next: maniple_server::middleware::Next<'_>| match request
                .header_str("x-key")
            {
                Some("secret") => next.run(request),
                _ => StatusCode::UNAUTHORIZED.into_response(),
            },
        )
        .any("/user/{id}", proxy);
    let gate = Served::of(router, |builder| builder);
    let client = Client::new();
    assert_eq!(
        client.get(&gate.url("/user/7")).unwrap().status(),
        StatusCode::UNAUTHORIZED
    );
    let asked = client
        .request(Method::GET, &gate.url("/user/7"))
        .header("x-key", "secret");
    assert_eq!(asked.send().unwrap().text().unwrap(), "7");
}

#[test]
fn a_trace_goes_on_behind_with_a_new_parent_for_each_call() {
    use maniple_server::middleware::{Trace, trace_context};
    let server = Served::of(Router::new().fallback(mirror), |builder| builder);
    let (client, url) = (Client::new(), server.url("/called"));
    let router = Router::new()
        .with(Trace::new())
        .get("/calls", move |_: &mut Request| {
            let call = || client.get(&url).unwrap().text().unwrap();
            // In children too.
            let (one, other) = maniple::join!(call(), call());
            format!(
                "{one}\n{other}\nspan {}\n",
                trace_context().unwrap().span_id()
            )
        })
        .fallback(Proxy::to(&server.url("")));
    let gate = Served::of(router, |builder| builder);
    let trace = "00-4bf92f3577b34da6a3ce929d0e0e4736-";
    for path in ["/calls", "/passed"] {
        let answer = gate.say(format!(
            "GET {path} HTTP/1.1\r\nHost: h\r\ntraceparent: {trace}00f067aa0ba902b7-01\r\ntracestate: a=1\r\n\r\n"
        ));
        let parents: Vec<&str> = answer
            .lines()
            .filter_map(|line| line.strip_prefix("traceparent: "))
            .collect();
        assert_eq!(
            parents.len(),
            if path == "/calls" { 2 } else { 1 },
            "{answer}"
        );
        assert!(
            parents
                .iter()
                .all(|parent| parent.starts_with(trace) && parent.ends_with("-01"))
        );
        assert!(!answer.contains("00f067aa0ba902b7"), "{answer}");
        assert!(answer.contains("\ntracestate: a=1"), "{answer}");
        assert_ne!(parents.first(), parents.get(1));
    }
    // Without the middleware a client adds nothing.
    let plain = Client::new().get(&server.url("/")).unwrap().text().unwrap();
    assert!(!plain.contains("traceparent"), "{plain}");
}
