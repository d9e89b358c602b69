//! Behind HAProxy, as Debian has it.

use super::{Front, Service, example, with};

/// With the file of the example, changed by `change`.
fn start(service: &Service, change: impl FnOnce(String) -> String) -> Front {
    Front::start("haproxy", |_, address| {
        let file = with(
            &example("haproxy.cfg"),
            "bind :80",
            &format!("bind {address}"),
        );
        let file = with(&file, "127.0.0.1:8080", &service.address().to_string());
        // What the checks ask for.
        change(with(&file, "GET /readyz", "GET /"))
    })
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn websockets_pass() {
    let service = Service::start(|settings| settings);
    start(&service, |file| file).echoes_by_websocket();
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn events_pass_as_they_are_sent_with_the_option_that_the_example_has() {
    let service = Service::start(|settings| settings);
    let with_it = start(&service, |file| file).events(&service, 20);
    let service = Service::start(|settings| settings);
    let without = start(&service, |file| {
        file.lines()
            .filter(|line| !line.contains("option http-no-delay"))
            .map(|line| line.to_owned() + "\n")
            .collect()
    });
    let without = without.events(&service, 20);
    // There each comes 200 ms late.
    assert!(
        with_it < without,
        "{with_it:?} with it, {without:?} without"
    );
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn early_answers_pass() {
    let service = Service::start(|settings| settings);
    let answer = start(&service, |file| file).get("/hinted");
    let hint = "HTTP/1.1 103 Early Hints\r\nlink: </style.css>; rel=preload\r\n";
    assert!(answer.starts_with(hint), "{answer}");
    assert!(answer.ends_with("\r\n\r\ntold before: true\n"), "{answer}");
}

#[test]
#[ignore = "needs what .ci/run proxies installs"]
fn connections_are_kept_beside_checks_that_end_with_a_reset() {
    let service = Service::start(|settings| settings);
    let front = start(&service, |file| with(&file, "inter 1s", "inter 20ms"));
    front.ask_again_and_again(50);
    let peers = service.peers.lock().unwrap().len();
    assert!(peers <= 8, "{peers} connections");
}
