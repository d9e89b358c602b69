//! How a service ends: in order, at once, or since it could not begin.

use std::{
    fs,
    io::{Read, Write},
    net::TcpStream,
    process::Command,
};

use maniple_supervise::ctl::Request;

use super::{Folder, Service, ask, connect, service, signal_to, until};

#[test]
fn sigterm_ends_the_service_once_what_was_asked_is_answered() {
    let mut service = Service::start();
    let address = service.address();
    let mut stream = connect(address).unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    // It is served before the signal comes.
    assert_eq!(ask(address, "/").unwrap(), "hello");
    service.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer:?}");
    assert!(service.ended().success());
    assert!(TcpStream::connect(address).is_err());
    assert!(!service.control().exists());
}

#[test]
fn a_signal_to_all_of_the_group_ends_nobody_early() {
    let mut service = Service::start();
    let address = service.address();
    let mut stream = connect(address).unwrap();
    stream
        .write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    assert_eq!(ask(address, "/").unwrap(), "hello");
    // As systemd does with `KillMode=control-group`.
    let workers = super::pids(&service.status());
    for worker in workers {
        signal_to(worker, "TERM");
    }
    service.signal("TERM");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("\r\n\r\nslow"), "{answer:?}");
    assert!(service.ended().success());
}

#[test]
fn ctl_stop_ends_it_as_sigterm_does() {
    let mut service = Service::start();
    service.address();
    service.ctl(Request::Stop).unwrap();
    assert!(service.ended().success());
}

#[test]
fn a_second_signal_kills_what_is_left() {
    let mut service = Service::with(|command| {
        command.env("WORKERS", "1");
    });
    let address = service.address();
    let mut stream = connect(address).unwrap();
    stream
        .write_all(b"GET /hang HTTP/1.1\r\nHost: h\r\n\r\n")
        .unwrap();
    service.signal("TERM");
    service.until_status("stopping");
    service.signal("TERM");
    assert!(service.ended().success());
}

#[test]
fn workers_end_when_their_supervisor_is_killed() {
    let mut service = Service::start();
    let address = service.address();
    service.process.kill().unwrap();
    until("the workers' end", || TcpStream::connect(address).err());
}

#[test]
fn a_service_that_cannot_begin_ends_and_says_why() {
    let mut service = Service::with(|command| {
        command.env("REFUSES", "1");
    });
    assert!(!service.ended().success());
    let said = fs::read_to_string(service.folder.join("error")).unwrap();
    assert!(said.contains("was never ready: exit status 101"), "{said}");
}

#[test]
fn an_address_in_use_is_named_before_anything_starts() {
    let taken = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let folder = Folder::new();
    let status = service(&folder).env("ADDRESS", &address).status().unwrap();
    assert!(!status.success());
    let said = fs::read_to_string(folder.join("error")).unwrap();
    assert!(said.starts_with(&format!("bind {address}")), "{said}");
}

#[test]
fn a_unix_socket_is_served_and_removed_at_the_end() {
    let folder = Folder::new();
    let path = folder.join("http");
    let mut service = Service::with(|command| {
        command.env("ADDRESS", format!("unix:{}", path.display()));
    });
    service.until_status("2 of 2 workers ready");
    let mut stream = std::os::unix::net::UnixStream::connect(&path).unwrap();
    stream
        .write_all(b"GET / HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n")
        .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    assert!(answer.ends_with("hello"), "{answer:?}");
    service.signal("INT");
    assert!(service.ended().success());
    assert!(!path.exists());
}

#[test]
fn the_command_says_what_it_is_asked() {
    let mut service = Service::start();
    service.address();
    let ctl = |words: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_maniple-ctl"));
        command.env("MANIPLE_CTL", service.control()).args(words);
        let output = command.output().unwrap();
        let text = [output.stdout, output.stderr].concat();
        (output.status.success(), String::from_utf8(text).unwrap())
    };
    let (fine, text) = ctl(&["status"]);
    assert!(
        fine && text.starts_with("serving: 2 of 2 workers ready"),
        "{text}"
    );
    let (fine, text) = ctl(&["dance"]);
    assert!(
        !fine && text.contains("none of status, reload and stop"),
        "{text}"
    );
    let (fine, text) = ctl(&["--socket", "/nowhere", "status"]);
    assert!(!fine && text.starts_with("/nowhere: "), "{text}");
}
