//! Node's http2 as a server.

use std::process::Command;

use super::{super::run, *};

fn start(settings: &str) -> Program {
    Program::start(&BOTH, |place| {
        let mut node = Command::new("node");
        node.arg(script("server.mjs"))
            .args(BOTH.map(|way| place.port(way).to_string()))
            .args([place.certificate(), place.key()])
            .arg(settings);
        node
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
#[ignore = "needs node"]
fn answers_of_all_kinds_come() {
    with("{}", |program, client, way| {
        gets(program, client, way);
        trailers(program, client, way);
    });
}

#[test]
#[ignore = "needs node"]
fn bodies_go_both_ways_at_once() {
    with("{}", echoes);
}

#[test]
#[ignore = "needs node"]
fn an_answer_that_is_cut_is_told_and_ends_alone() {
    with("{}", cuts);
}

#[test]
#[ignore = "needs node"]
fn early_hints_are_passed_over_as_far_as_there_is_an_end() {
    with("{}", hints);
}

#[test]
#[ignore = "needs node"]
fn who_does_not_want_the_body_is_heard() {
    with("{}", early_answers);
}

#[test]
#[ignore = "needs node"]
fn heads_are_large_up_to_the_limit() {
    with("{}", big_heads);
}

#[test]
#[ignore = "needs node"]
fn a_server_that_takes_few_gets_no_more() {
    for few in [
        r#"{"maxConcurrentStreams": 1}"#,
        r#"{"maxConcurrentStreams": 3}"#,
    ] {
        with(few, |program, client, way| works(program, client, way, 100));
    }
}

#[test]
#[ignore = "needs node"]
fn settings_that_change_how_is_sent_are_kept_to() {
    for odd in [
        r#"{"headerTableSize": 0}"#,
        r#"{"headerTableSize": 100000, "maxFrameSize": 1000000}"#,
        r#"{"initialWindowSize": 1000}"#,
    ] {
        with(odd, |program, client, way| {
            gets(program, client, way);
            echoes(program, client, way);
        });
    }
}

#[test]
#[ignore = "needs node"]
fn sessions_that_end_lose_no_call_and_do_none_twice() {
    with(r#"{"requestsPerSession": 7}"#, |program, client, way| {
        works(program, client, way, 300);
    });
}
