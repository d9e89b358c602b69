//! Python's h2 as a server, by hypercorn.

use std::process::Command;

use super::{super::run, *};

fn start(settings: &str) -> Program {
    Program::start(&BOTH, |place| {
        let file = place.folder.join("hypercorn.toml");
        fs::write(&file, settings).unwrap();
        let tools = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../target/ci-tools/http2");
        let mut hypercorn = Command::new(tools.join("python/bin/hypercorn"));
        hypercorn
            .args(["--bind", &place.address(Way::Tls).to_string()])
            .args(["--insecure-bind", &place.address(Way::Plain).to_string()])
            .args(["--workers", "0"])
            .arg("--certfile")
            .arg(place.certificate())
            .arg("--keyfile")
            .arg(place.key())
            .arg("--config")
            .arg(file)
            .arg("server:app")
            .current_dir(script(""));
        hypercorn
    })
}

/// With these settings, in plain text and over TLS.
fn with(settings: &'static str, test: impl Fn(&Program, &Client, Way) + Send + 'static) {
    run(move || {
        for way in BOTH {
            let program = start(settings);
            test(&program, &program.client(way), way);
        }
    });
}

#[test]
#[ignore = "needs hypercorn"]
fn answers_of_all_kinds_come() {
    with("", |program, client, way| {
        gets(program, client, way);
        trailers(program, client, way);
    });
}

#[test]
#[ignore = "needs hypercorn"]
fn bodies_go_both_ways_at_once() {
    with("", echoes);
}

#[test]
#[ignore = "needs hypercorn"]
fn early_hints_are_passed_over_as_far_as_there_is_an_end() {
    with("", hints);
}

#[test]
#[ignore = "needs hypercorn"]
fn heads_are_large_up_to_the_limit() {
    with("", big_heads);
}

#[test]
#[ignore = "needs hypercorn"]
fn a_server_that_takes_few_gets_no_more() {
    for few in [
        "h2_max_concurrent_streams = 1",
        "h2_max_concurrent_streams = 3",
    ] {
        with(few, |program, client, way| works(program, client, way, 100));
    }
}
