//! nginx, as Debian has it, before a server of ours.

use std::{
    process::Command,
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
};

use maniple_server::{Request, Response, Router};

use super::{
    super::{Served, run},
    *,
};

/// What is behind it.
fn behind() -> Served {
    let works = Arc::new(maniple::sync::Mutex::new(Vec::new()));
    let done = works.clone();
    let router = Router::new()
        .get("/", |_: &mut Request| "hello\n")
        .get("/long", |_: &mut Request| vec![b'x'; 5_000_000])
        .get("/empty", |_: &mut Request| StatusCode::NO_CONTENT)
        .get("/same", |_: &mut Request| StatusCode::NOT_MODIFIED)
        .get("/cut", |_: &mut Request| {
            Response::text(Body::from_fn(|out| {
                std::io::Write::write_all(out, b"begun")?;
                std::io::Write::flush(out)?;
                Err(io::Error::other("no more of it"))
            }))
        })
        .get("/big", |request: &mut Request| {
            let size: usize = request.query().unwrap()["size=".len()..].parse().unwrap();
            let mut answer = Response::text("big");
            let value = "x".repeat(size).parse().unwrap();
            answer.headers_mut().insert("x-big", value);
            answer
        })
        .post("/echo", |_: &mut Request| {
            Response::text(Body::duplex(|request, out| {
                maniple::io::copy(request, out).map(drop)
            }))
        })
        .post("/work", move |request: &mut Request| {
            let number = super::super::asking::text(request);
            works.lock().push(number.clone());
            number
        })
        .get("/works", move |_: &mut Request| done.lock().join(" "));
    Served::with(router, |builder| builder.max_body_bytes(100_000_000))
}

/// With these lines in `server`.
fn start(behind: &Served, lines: &str) -> Program {
    Program::start(&BOTH, |place| {
        let folder = place.folder.display();
        let temporary: String = ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"]
            .iter()
            .map(|kind| format!("{kind}_temp_path {folder}/{kind};\n"))
            .collect();
        let file = format!(
            "daemon off;
            pid {folder}/nginx.pid;
            worker_processes 2;
            error_log stderr warn;
            events {{}}
            http {{
                access_log off;
                {temporary}
                server {{
                    listen {plain} http2;
                    listen {secure} ssl http2;
                    ssl_certificate {certificate};
                    ssl_certificate_key {key};
                    client_max_body_size 10m;
                    {lines}
                    location / {{
                        proxy_pass http://{behind};
                        proxy_http_version 1.1;
                        proxy_request_buffering off;
                        proxy_buffer_size 128k;
                        proxy_buffers 8 128k;
                    }}
                    location = /early {{ return 413 'early'; }}
                    location = /little {{
                        client_max_body_size 1k;
                        proxy_pass http://{behind};
                    }}
                }}
            }}\n",
            plain = place.address(Way::Plain),
            secure = place.address(Way::Tls),
            certificate = place.certificate().display(),
            key = place.key().display(),
            behind = behind.address(),
        );
        let path = place.folder.join("nginx.conf");
        fs::write(&path, file).unwrap();
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.arg("-e").arg(place.folder.join("log"));
        nginx.arg("-p").arg(&place.folder).arg("-c").arg(path);
        nginx
    })
}

/// With these lines in `server`, in plain text and over TLS.
fn with(lines: &'static str, test: impl Fn(&Program, &Client, Way) + Send + 'static) {
    run(move || {
        for way in BOTH {
            let behind = behind();
            let program = start(&behind, lines);
            test(&program, &program.client(way), way);
        }
    });
}

#[test]
#[ignore = "needs nginx"]
fn answers_of_all_kinds_come() {
    with("", gets);
}

#[test]
#[ignore = "needs nginx"]
fn bodies_go_both_ways_at_once() {
    with("", echoes);
}

#[test]
#[ignore = "needs nginx"]
fn an_answer_that_is_cut_is_told_and_ends_alone() {
    with("proxy_buffering off;", cuts);
}

#[test]
#[ignore = "needs nginx"]
fn who_does_not_want_the_body_is_heard() {
    with("", early_answers);
    with("", |program, client, way| {
        let cursor = || io::Cursor::new(vec![b'x'; 3_000_000]);
        for body in [
            Body::from(vec![b'x'; 3_000_000]),
            Body::from_reader(cursor()),
        ] {
            let sent = client.post(&program.url(way, "/little")).body(body).send();
            assert_eq!(sent.unwrap().status(), StatusCode::PAYLOAD_TOO_LARGE);
        }
    });
}

#[test]
#[ignore = "needs nginx"]
fn heads_are_large_up_to_the_limit() {
    with("", big_heads);
    // What nginx does not want of a request it answers, or ends the connection for.
    with("", |program, client, way| {
        let asked = client.request(Method::GET, &program.url(way, "/"));
        match asked.header("x-big", &"x".repeat(100_000)).send() {
            Ok(answer) => assert!(answer.status().is_client_error()),
            Err(error) => assert!(!error.is_timeout() && !error.is_unsent(), "{error:?}"),
        }
        assert_eq!(text(client, &program.url(way, "/")), "hello\n");
    });
}

#[test]
#[ignore = "needs nginx"]
fn a_server_that_takes_few_gets_no_more() {
    for few in [
        "http2_max_concurrent_streams 1;",
        "http2_max_concurrent_streams 3;",
    ] {
        with(few, |program, client, way| works(program, client, way, 200));
    }
}

#[test]
#[ignore = "needs nginx"]
fn connections_that_end_lose_no_call_and_do_none_twice() {
    for few in ["keepalive_requests 1;", "keepalive_requests 7;"] {
        with(few, |program, client, way| works(program, client, way, 300));
    }
}

#[test]
#[ignore = "needs nginx"]
fn a_reload_loses_no_call_and_does_none_twice() {
    with("", |program, client, way| {
        let over = AtomicBool::new(false);
        maniple::group(|g| {
            g.spawn(|| {
                let master = rustix::process::Pid::from_raw(program.child.id() as i32).unwrap();
                while !over.load(Ordering::Relaxed) {
                    maniple::sleep(Duration::from_millis(50));
                    rustix::process::kill_process(master, rustix::process::Signal::HUP).unwrap();
                }
            });
            works(program, client, way, 5_000);
            over.store(true, Ordering::Relaxed);
            Ok::<_, ()>(())
        })
        .unwrap();
    });
}
