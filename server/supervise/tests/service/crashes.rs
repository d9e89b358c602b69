//! A worker that crashes or hangs is followed by another, while the others serve.

use maniple_supervise::ctl::Request;

use super::{Service, ask, pids, until};

#[test]
fn a_crash_leaves_the_others_serving_and_is_followed() {
    let mut service = Service::start();
    let address = service.address();
    let before = pids(&service.status());
    assert_eq!(before.len(), 2);
    for crashes in 1..=3 {
        ask(address, "/crash").unwrap_err();
        for _ in 0..20 {
            assert_eq!(ask(address, "/").unwrap(), "hello");
        }
        let count = |status: &str| -> u64 {
            let rows = status.lines().skip(2);
            let column = rows.filter_map(|row| row.split_whitespace().nth(5)?.parse::<u64>().ok());
            column.sum()
        };
        until("a new worker", || {
            let status = service.status();
            let is_whole = status.contains("2 of 2 workers ready");
            (is_whole && count(&status) == crashes).then_some(())
        });
    }
    let status = service.status();
    assert!(status.contains("last crash of worker"), "{status}");
    assert!(status.contains("killed by SIGABRT"), "{status}");
}

#[test]
fn one_that_hangs_is_ended_and_followed() {
    let mut service = Service::with(|command| {
        command.env("WATCHDOG", "2000").env("WORKERS", "1");
    });
    let address = service.address();
    ask(address, "/hang").unwrap_err();
    // A busy machine may have others taken for hanging, too.
    let hello = super::until("an answer", || ask(address, "/").ok());
    assert_eq!(hello, "hello");
    let status = service.status();
    assert!(status.contains("did not answer the watchdog"), "{status}");
}

#[test]
fn a_worker_finds_no_supervisor_at_its_standard_input() {
    let mut service = Service::start();
    let address = service.address();
    assert_eq!(ask(address, "/stdin").unwrap(), "/dev/null");
}

#[test]
fn what_a_worker_leaves_behind_does_not_stay_in_the_systems_table() {
    let mut service = Service::start();
    let address = service.address();
    let orphan = ask(address, "/orphan").unwrap();
    let place = format!("/proc/{}", orphan.trim());
    until("the orphan's end", || {
        (!std::path::Path::new(&place).exists()).then_some(())
    });
    assert!(service.ctl(Request::Status).unwrap().contains("2 of 2"));
}
