//! nghttpd, the server of nghttp2.

use std::process::Command;

use super::{super::run, *};

/// With these options, in plain text and over TLS.
fn with(options: &'static [&str], test: impl Fn(&Program, &Client, Way) + Send + 'static) {
    run(move || {
        for way in BOTH {
            let program = Program::start(&[way], |place| {
                let files = place.folder.join("files");
                fs::create_dir(&files).unwrap();
                fs::write(files.join("index.html"), "hello\n").unwrap();
                fs::write(files.join("long"), vec![b'x'; 5_000_000]).unwrap();
                let mut nghttpd = Command::new("nghttpd");
                nghttpd
                    .args(["-a", "127.0.0.1", "-d"])
                    .arg(files)
                    .args(options)
                    .arg(place.port(way).to_string());
                match way {
                    Way::Plain => nghttpd.arg("--no-tls"),
                    Way::Tls => nghttpd.arg(place.key()).arg(place.certificate()),
                };
                nghttpd
            });
            test(&program, &program.client(way), way);
        }
    });
}

fn files(program: &Program, client: &Client, way: Way) {
    assert_eq!(text(client, &program.url(way, "/")), "hello\n");
    let head = client.request(Method::HEAD, &program.url(way, "/")).send();
    let head = head.unwrap();
    assert_eq!(head.header("content-length"), Some("6"));
    let modified = head.header("last-modified").unwrap().to_owned();
    assert_eq!(head.read_to_vec().unwrap(), b"");
    let asked = client.request(Method::GET, &program.url(way, "/"));
    let same = asked.header("if-modified-since", &modified).send().unwrap();
    assert_eq!(same.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(same.read_to_vec().unwrap(), b"");
    maniple::group::map(20, 0..20, |_| {
        let long = text(client, &program.url(way, "/long"));
        assert_eq!(long.len(), 5_000_000);
    });
}

#[test]
#[ignore = "needs nghttpd"]
fn files_come_with_any_settings() {
    for options in [
        &[][..],
        &["--padding=200"],
        &["--header-table-size=0"],
        &["--header-table-size=100000"],
        &["--encoder-header-table-size=0"],
        &["--no-content-length"],
        &["--max-concurrent-streams=1"],
    ] {
        with(options, |program, client, way| {
            let url = program.url(way, "/");
            match client.request(Method::HEAD, &url).send().unwrap() {
                head if head.header("content-length").is_none() => {
                    assert_eq!(text(client, &url), "hello\n");
                }
                _ => files(program, client, way),
            }
        });
    }
}

#[test]
#[ignore = "needs nghttpd"]
fn a_push_that_nobody_wants_does_not_come() {
    with(&["--push=/=/long"], files);
}

#[test]
#[ignore = "needs nghttpd"]
fn bodies_come_back_through_small_windows() {
    with(
        &[
            "--echo-upload",
            "--window-bits=10",
            "--connection-window-bits=16",
        ],
        |program, client, way| {
            for body in [
                Body::from(vec![b'x'; 500_000]),
                Body::from_reader(io::repeat(b'x').take(500_000)),
            ] {
                let sent = client.post(&program.url(way, "/")).body(body).send();
                let echoed = sent.unwrap().read_to_vec().unwrap();
                assert!(echoed == vec![b'x'; 500_000], "{} bytes", echoed.len());
            }
        },
    );
}

#[test]
#[ignore = "needs nghttpd"]
fn trailers_come_behind_bodies() {
    with(&["--trailer=x-sum: 7"], |program, client, way| {
        let mut answer = client.get(&program.url(way, "/")).unwrap();
        let mut body = String::new();
        answer.read_to_string(&mut body).unwrap();
        assert_eq!(body, "hello\n");
        assert_eq!(answer.trailers().get("x-sum").unwrap(), "7");
    });
}

#[test]
#[ignore = "needs nghttpd"]
fn who_does_not_wait_for_the_body_is_heard() {
    with(&["--early-response"], |program, client, way| {
        let body = Body::from_reader(io::repeat(b'x').take(3_000_000));
        let sent = client.post(&program.url(way, "/")).body(body).send();
        assert_eq!(sent.unwrap().text().unwrap(), "hello\n");
        assert_eq!(text(client, &program.url(way, "/")), "hello\n");
    });
}
