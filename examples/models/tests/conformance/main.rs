//! What every model must do, wherever its clients wait in it: each is started as a process of its own and met over real
//! sockets.

mod chat;
mod descriptors;
mod hanging;
mod http;
mod process;
mod queues;
mod workers;

use std::io::{self, Write};

use maniple_models::{MODELS, Model, Service};

/// A test for each model, so that one that fails is named.
macro_rules! conform {
    ($($name:ident)*) => {
        $(
            #[test]
            fn $name() {
                conforms(stringify!($name));
            }
        )*

        const TESTED: &[&str] = &[$(stringify!($name)),*];
    };
}

conform! {
    iterative
    fork
    thread
    prefork
    prefork_reuseport
    thread_pool
    process_threads
    process_coroutines
    blocking_client
    select
    poll
    epoll
    reactor
    mux_pool
    half_sync_half_async
    half_sync_half_reactive
    leader_followers
    simulated_proactor
    proactor
    loop_per_thread
    loop_pool
    sigio
    state_machine
    tokio
    message_passing
    serial
    leader
    leader_shared
    may
    worker_pool
    chat_broadcaster
    chat_senders
    chat_mixed
}

/// A test that is left out where the kernel refuses what its model needs; the model must then say so itself.
fn left_out(model: &Model) -> bool {
    if model.name != "proactor" || process::io_uring().is_ok() {
        return false;
    }
    let output = process::model().args(ANYWHERE).arg(model.name).output();
    let said = process::refused_in_a_line(&output.unwrap());
    // Not by `eprintln!`, which a test that passes keeps to itself.
    let _ = writeln!(io::stderr(), "\nLEFT OUT: {}: {said}", model.name);
    true
}

fn conforms(test: &str) {
    let model = MODELS
        .iter()
        .find(|model| test_of(model) == test)
        .expect("a model of this name");
    if left_out(model) {
        return;
    }
    match model.service {
        Service::Http | Service::HttpOfItsOwn => http::conforms(model),
        Service::Chat(stalled) => chat::conforms(model, stalled),
    }
}

#[test]
fn where_the_kernel_refuses_io_uring_the_proactor_says_so_and_ends() {
    let mut model = process::model();
    process::without_io_uring(&mut model);
    let output = model.args(ANYWHERE).arg("proactor").output().unwrap();
    let said = process::refused_in_a_line(&output);
    assert!(said.contains("Operation not permitted"), "{said}");
}

#[test]
fn no_model_is_left_out() {
    let models: Vec<_> = MODELS.iter().map(test_of).collect();
    assert_eq!(TESTED, models);
}

#[test]
fn models_are_in_order_and_named_once() {
    assert!(MODELS.is_sorted_by_key(|model| model.number));
    let mut names: Vec<_> = MODELS.iter().map(|model| model.name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), MODELS.len());
}

#[test]
fn a_command_line_that_makes_no_sense_is_told_in_a_line() {
    for (arguments, says) in [
        (&["nonsense"][..], "there is no model \"nonsense\""),
        (
            &["thread", "--backends", "127.0.0.1:1"],
            "--backends names 1 addresses",
        ),
        (
            &["thread", "--listen", "192.0.2.1:1"],
            "Thread per connection at 192.0.2.1:1",
        ),
    ] {
        let output = process::model().args(arguments).output().unwrap();
        let error = String::from_utf8(output.stderr).unwrap();
        assert!(
            !output.status.success() && error.contains(says),
            "{arguments:?}: {error}"
        );
        assert_eq!(error.lines().count(), 1, "{error}");
    }
}

const ANYWHERE: [&str; 3] = ["--listen=127.0.0.1:0", "--cores=2", "--workers=4"];

fn test_of(model: &Model) -> String {
    model.name.replace('-', "_")
}
