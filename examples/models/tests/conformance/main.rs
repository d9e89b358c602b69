//! What every model must do, whoever waits where in it: each is started as a process of its own and met over real
//! sockets.

mod http;
mod process;

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
    thread
    epoll
    tokio
    message_passing
    leader
    may
    worker_pool
}

fn conforms(test: &str) {
    let model = MODELS
        .iter()
        .find(|model| test_of(model) == test)
        .expect("a model of this name");
    match model.service {
        Service::Http | Service::HttpOfItsOwn => http::conforms(model),
        Service::Chat => unreachable!("no model has it yet"),
    }
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

fn test_of(model: &Model) -> String {
    model.name.replace('-', "_")
}
