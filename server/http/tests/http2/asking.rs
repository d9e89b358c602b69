//! The client of this crate over HTTP/2: what works over HTTP/1.1 works here.

use std::{
    io::{self, Read, Write},
    sync::{
        Arc,
        atomic::{AtomicUsize, Ordering},
    },
    time::Duration,
};

use maniple_server::{
    Body, Client, ClientError, Flush, Method, Request, Response, Router, StatusCode, Version,
    client::{Builder, Phase},
    http2::LinkSettings,
    middleware::Compression,
    server::Http2,
};

use super::{
    Served,
    client::{Tell, told},
    run,
};

pub(crate) fn client() -> Client {
    with(|builder| builder)
}

fn with(settings: impl FnOnce(Builder) -> Builder) -> Client {
    settings(Client::builder().http2_prior_knowledge(true)).build()
}

/// Tells when a handler is over, however it ends.
struct Gone(Tell<()>);

impl Drop for Gone {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

pub(crate) fn text(request: &mut Request) -> String {
    String::from_utf8(request.read_body().unwrap().to_vec()).unwrap()
}

pub(crate) fn url(served: &Served, path: &str) -> String {
    format!("http://{}{path}", served.address())
}

#[test]
fn requests_and_answers_are_those_of_http1() {
    run(|| {
        let router = Router::new()
            .get("/", |request: &mut Request| {
                format!(
                    "{:?} {}",
                    request.version(),
                    request.header_str("x-a").unwrap_or("-")
                )
            })
            .get("/empty", |_: &mut Request| StatusCode::NO_CONTENT)
            .get("/fields", |request: &mut Request| {
                let fields = request.headers().iter();
                let mut names: Vec<_> = fields.map(|(name, _)| name.to_string()).collect();
                names.sort();
                names.join(" ")
            })
            .post("/", |request: &mut Request| {
                let length = request.header_str("content-length").map(str::to_owned);
                let body = text(request);
                format!("{length:?} {}", body.len())
            });
        let served = Served::of(router);
        let client = client();
        let asked = client.request(Method::GET, &url(&served, "/"));
        let answer = asked.header("x-a", "b").send().unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        assert_eq!(answer.status(), StatusCode::OK);
        assert_eq!(answer.header("content-length"), Some("10"));
        assert_eq!(answer.text().unwrap(), "HTTP/2.0 b");

        let head = client.request(Method::HEAD, &url(&served, "/")).send();
        assert_eq!(head.unwrap().read_to_vec().unwrap(), b"");
        let empty = client.get(&url(&served, "/empty")).unwrap();
        assert_eq!(empty.status(), StatusCode::NO_CONTENT);
        assert_eq!(empty.read_to_vec().unwrap(), b"");
        let missing = client.get(&url(&served, "/missing")).unwrap();
        assert_eq!(missing.status(), StatusCode::NOT_FOUND);

        for (name, value) in [("connection", "x-hop"), ("x-hop", "1"), ("te", "trailers")] {
            let fields = client.request(Method::GET, &url(&served, "/fields"));
            let fields = fields.header(name, value).send().unwrap().text().unwrap();
            let expected = match name {
                "te" => "host te",
                "x-hop" => "host x-hop",
                _ => "host",
            };
            assert_eq!(fields, expected, "{name}");
        }

        for length in [0, 1, 100_000, 1_000_000] {
            let sent = client
                .post(&url(&served, "/"))
                .body(vec![b'x'; length])
                .send();
            let expected = format!("Some(\"{length}\") {length}");
            assert_eq!(sent.unwrap().text().unwrap(), expected);
        }
        let made = Body::from_reader(io::repeat(b'y').take(300_000));
        let sent = client.post(&url(&served, "/")).body(made).send();
        assert_eq!(sent.unwrap().text().unwrap(), "None 300000");
        let sized = Body::from_sized_reader(io::repeat(b'y').take(70_000), 70_000);
        let sent = client.post(&url(&served, "/")).body(sized).send();
        assert_eq!(sent.unwrap().text().unwrap(), "Some(\"70000\") 70000");
        assert_eq!(served.handle.connections(), 1, "all over one");
    });
}

fn echo() -> Router {
    Router::new().post("/echo", |_: &mut Request| {
        Response::text(Body::duplex(|request, out| {
            maniple::io::copy(request, out).map(drop)
        }))
    })
}

#[test]
fn bodies_go_both_ways_at_once_through_small_windows() {
    run(|| {
        let small = Http2::new().stream_window(1_000).max_unsent_bytes(1_000);
        let served = Served::with(echo(), |builder| builder.http2(small));
        let windows = LinkSettings::new()
            .stream_window(777)
            .connection_window(65_535);
        let client = with(|builder| builder.http2_settings(windows));
        const LENGTH: usize = 300_000;
        let numbers: Vec<u8> = (0..LENGTH).map(|number| (number % 251) as u8).collect();
        for streamed in [false, true] {
            let body = match streamed {
                false => Body::from(numbers.clone()),
                true => Body::from_reader(io::Cursor::new(numbers.clone())),
            };
            let answer = client.post(&url(&served, "/echo")).body(body).send();
            assert!(answer.unwrap().read_to_vec().unwrap() == numbers);
        }
    });
}

#[test]
fn trailers_come_behind_bodies_both_ways() {
    run(|| {
        let router = Router::new().post("/", |request: &mut Request| {
            let body = text(request);
            let sum = request.trailers().unwrap_or_default();
            let sum = sum.get("x-sum").cloned();
            let mut response = Response::text(body);
            if let Some(sum) = sum {
                let mut fields = maniple_server::HeaderMap::new();
                fields.insert("x-sum-too", sum);
                response = response.with_trailers(fields);
            }
            response
        });
        let served = Served::of(router);
        let made = Body::from_fn(|out| {
            out.write_all(b"body")?;
            let value = maniple_server::HeaderValue::from_static("7");
            out.trailer(maniple_server::HeaderName::from_static("x-sum"), value)
        });
        let client = client();
        let mut answer = client.post(&url(&served, "/")).body(made).send().unwrap();
        let mut body = String::new();
        answer.read_to_string(&mut body).unwrap();
        assert_eq!(body, "body");
        assert_eq!(answer.trailers().get("x-sum-too").unwrap(), "7");
    });
}

#[test]
fn redirects_cookies_and_codings_work_on_top() {
    run(|| {
        let router = Router::new()
            .with(Compression::new())
            .get("/", |_: &mut Request| {
                let mut response = Response::new(StatusCode::FOUND);
                let fields = response.headers_mut();
                fields.insert("location", "/there".parse().unwrap());
                fields.insert("set-cookie", "a=1".parse().unwrap());
                response
            })
            .get("/there", |request: &mut Request| {
                let cookie = request.header_str("cookie").unwrap_or_default();
                format!("{cookie} {}", "long ".repeat(1_000))
            });
        let served = Served::of(router);
        let client = with(|builder| builder.max_redirects(3).cookies(true).decompression(true));
        let answer = client.get(&url(&served, "/")).unwrap();
        assert_eq!(answer.version(), Version::HTTP_2);
        assert!(answer.redirected_to().unwrap().ends_with("/there"));
        assert!(answer.text().unwrap().starts_with("a=1 long long"));
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn a_body_is_sent_once_the_server_wants_it_or_not_at_all() {
    run(|| {
        let router = Router::new()
            .post("/yes", |request: &mut Request| text(request))
            .post("/no", |_: &mut Request| StatusCode::FORBIDDEN);
        let served = Served::of(router);
        let made = Arc::new(AtomicUsize::new(0));
        let client = client();
        let send = |path| {
            let count = made.clone();
            let body = Body::from_fn(move |out| {
                count.fetch_add(1, Ordering::Relaxed);
                out.write_all(b"made")
            });
            let asked = client.post(&url(&served, path)).body(body);
            asked
                .expect_continue(Duration::from_secs(30))
                .send()
                .unwrap()
        };
        assert_eq!(send("/yes").text().unwrap(), "made");
        assert_eq!(made.load(Ordering::Relaxed), 1);
        assert_eq!(send("/no").status(), StatusCode::FORBIDDEN);
        assert_eq!(made.load(Ordering::Relaxed), 1, "nobody wanted it");
        assert_eq!(send("/yes").text().unwrap(), "made");
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn a_maker_that_fails_ends_the_request_and_not_the_link() {
    run(|| {
        let (tell, hear) = told();
        let (begin, has_begun) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new().post("/", move |request: &mut Request| {
            let _gone = Gone(tell.clone());
            let _ = begin.try_send(());
            let _ = request.read_body();
            "taken"
        });
        let served = Served::of(router);
        let client = client();
        let begun = has_begun.clone();
        // Of a request that is given up before it has left the server would not hear.
        let broken = Body::from_fn(move |out| {
            out.write_all(b"begun")?;
            out.flush()?;
            begun.recv().map_err(io::Error::other)?;
            Err(io::Error::other("no more of it"))
        });
        let sent = client.post(&url(&served, "/")).body(broken).send();
        let error = sent.unwrap_err();
        assert!(matches!(error, ClientError::Body { .. }), "{error}");
        hear();
        let short = Body::from_sized_reader(io::repeat(b'x').take(3), 5);
        let error = client.post(&url(&served, "/")).body(short).send();
        let error = error.unwrap_err();
        assert!(matches!(error, ClientError::Body { .. }), "{error}");
        let answer = client.post(&url(&served, "/")).body("whole").send();
        assert_eq!(answer.unwrap().text().unwrap(), "taken");
        assert_eq!(served.handle.connections(), 1);
    });
}

#[test]
fn who_gives_up_ends_his_request_alone() {
    run(|| {
        let (tell, hear) = told();
        let (cut, is_cut) = told();
        let (open, gate) = maniple::sync::channel::bounded::<()>(1);
        let router = Router::new()
            .get("/long", move |_: &mut Request| {
                tell.send(()).unwrap();
                let _gone = Gone(cut.clone());
                maniple::sleep(Duration::from_secs(3600));
            })
            .get("/other", move |_: &mut Request| {
                gate.recv().unwrap();
                "other"
            });
        let served = Served::of(router);
        let client = client();
        let (own, other) = (client.clone(), url(&served, "/other"));
        let going_on = maniple::spawn(move || own.get(&other).unwrap().text().unwrap());

        // By a cancellation, ...
        let (own, long) = (client.clone(), url(&served, "/long"));
        let given_up = maniple::spawn(move || own.get(&long).map(drop));
        hear();
        given_up.cancel();
        is_cut();
        // ... by a deadline of the scope's or the call's own, ...
        let patience = Duration::from_millis(50);
        let late = maniple::timeout(patience, || client.get(&url(&served, "/long")).map(drop));
        assert!(late.is_err() || late.unwrap().unwrap_err().is_timeout());
        hear();
        is_cut();
        let asked = client.request(Method::GET, &url(&served, "/long"));
        let late = asked.timeout(patience).send().unwrap_err();
        assert!(late.is_timeout());
        hear();
        is_cut();
        // ... and by a limit of the client's.
        open.send(()).unwrap();
        assert_eq!(going_on.join().unwrap(), "other");
        assert_eq!(served.handle.connections(), 1, "the link is whole");
    });
}

#[test]
fn phases_have_their_times() {
    run(|| {
        let router = Router::new()
            .get("/late", |_: &mut Request| {
                maniple::sleep(Duration::from_secs(3600));
            })
            .get("/endless", |_: &mut Request| {
                Response::text(Body::from_fn(|out| {
                    out.set_flush(Flush::Each);
                    out.write_all(b"begun")?;
                    maniple::sleep(Duration::from_secs(3600));
                    Ok(())
                }))
            })
            .post("/deaf", |_: &mut Request| {
                maniple::sleep(Duration::from_secs(3600));
            });
        let served = Served::of(router);
        let short = Duration::from_millis(50);
        let client = with(|builder| builder.answer_timeout(short));
        let error = client.get(&url(&served, "/late")).unwrap_err();
        assert_eq!(error.phase(), Some(Phase::Answer), "{error}");
        let client = with(|builder| builder.body_timeout(short));
        let error = client.get(&url(&served, "/endless")).unwrap().text();
        assert_eq!(error.unwrap_err().phase(), Some(Phase::Body));
        let client = with(|builder| builder.timeout(short));
        let error = client.get(&url(&served, "/endless")).unwrap().text();
        assert_eq!(error.unwrap_err().phase(), Some(Phase::Body));
        let client = with(|builder| builder.send_timeout(short));
        for body in [
            Body::from(vec![b'x'; 1_000_000]),
            Body::from_reader(io::repeat(b'x').take(1_000_000)),
        ] {
            let error = client.post(&url(&served, "/deaf")).body(body).send();
            let error = error.unwrap_err();
            assert_eq!(error.phase(), Some(Phase::Send), "{error}");
        }
    });
}

#[test]
fn an_answer_that_is_dropped_ends_its_request_alone() {
    run(|| {
        let (cut, is_cut) = told();
        let router = Router::new()
            .get("/endless", move |_: &mut Request| {
                let cut = cut.clone();
                Response::text(Body::from_fn(move |out| {
                    let _gone = Gone(cut);
                    loop {
                        out.write_all(&[b'x'; 10_000])?;
                    }
                }))
            })
            .get("/", |_: &mut Request| "hello");
        let served = Served::of(router);
        let client = client();
        let mut endless = client.get(&url(&served, "/endless")).unwrap();
        endless.read_exact(&mut [0; 100_000]).unwrap();
        drop(endless);
        is_cut();
        let hello = client.get(&url(&served, "/")).unwrap();
        assert_eq!(hello.text().unwrap(), "hello");
        assert_eq!(served.handle.connections(), 1);
    });
}
