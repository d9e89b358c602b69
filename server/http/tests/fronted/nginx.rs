//! Behind nginx, as Debian has it.

use std::fmt::Write as _;

use maniple::cancel::Cause;
use maniple_server::server::Builder;

use super::{Front, LONG, Service, example, with};

/// With the file of the example, changed by `change`.
fn start(service: &Service, change: impl FnOnce(String) -> String) -> Front {
    Front::start("nginx", |folder, address| {
        let folder = folder.display();
        let mut settings = format!(
            "daemon off; pid {folder}/pid; error_log {folder}/log; events {{}}\nhttp {{ access_log off;\n"
        );
        for kind in ["client_body", "proxy", "fastcgi", "uwsgi", "scgi"] {
            writeln!(settings, "{kind}_temp_path {folder}/{kind};").unwrap();
        }
        let file = with(
            &example("nginx.conf"),
            "listen 80",
            &format!("listen {address}"),
        );
        let file = with(&file, "127.0.0.1:8080", &service.address().to_string());
        settings + &change(file) + "}\n"
    })
}

fn as_it_is(settings: Builder) -> Builder {
    settings
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn websockets_pass() {
    let service = Service::start(as_it_is);
    start(&service, |file| file).echoes_by_websocket();
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn events_pass_as_they_are_sent() {
    let service = Service::start(as_it_is);
    start(&service, |file| file).events(&service, 20);
    // By HTTP/1.0, where the end of the connection is that of the stream: what says that it must not be held back does.
    let service = Service::start(as_it_is);
    let old = |file: String| with(&file, "proxy_http_version 1.1;", "proxy_http_version 1.0;");
    start(&service, old).events(&service, 20);
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn early_answers_are_left_out_where_they_would_pass_for_the_answer() {
    let service = Service::start(|settings| settings.interim_responses(false));
    let answer = start(&service, |file| file).get("/hinted");
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(answer.ends_with("\r\n\r\ntold before: false\n"), "{answer}");
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn a_client_that_goes_away_ends_its_handler() {
    let service = Service::start(as_it_is);
    let front = start(&service, |file| file);
    let client = front.ask("/wait");
    service.begun.recv_timeout(LONG).unwrap();
    drop(client);
    assert_eq!(
        service.ended.recv_timeout(LONG),
        Ok(Some(Cause::Disconnected))
    );
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn connections_are_kept() {
    let service = Service::start(as_it_is);
    let front = start(&service, |file| file);
    front.ask_again_and_again(50);
    // Each of its processes has some.
    let peers = service.peers.lock().unwrap().len();
    assert!(peers <= 8, "{peers} connections");
}
