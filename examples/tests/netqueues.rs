//! The watched server as a user meets it: who is named, and who is not.

use std::io::{self, BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::process::{Child, ChildStdout, Command, Stdio};

#[test]
fn the_demo_names_each_stalled_peer_and_no_other() {
    let output = Command::new(env!("CARGO_BIN_EXE_netqueues"))
        .args(["--demo", "--stalled-after", "300"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{stdout}{:?}", output.stderr);

    let peer = |kind: &str| {
        let line = stdout.lines().find(|line| line.ends_with(kind));
        line.unwrap().split(' ').nth(1).unwrap().to_owned()
    };
    let stalled: Vec<_> = stdout
        .lines()
        .filter(|line| line.starts_with("STALLED"))
        .collect();
    assert_eq!(stalled.len(), 4, "{stdout}");
    assert!(
        stalled[0].contains("has not accepted all")
            && stalled[0].ends_with("2 connections wait, the backlog is 1"),
        "{stdout}"
    );
    for (client, verdict) in [
        ("stops reading", "has not read for"),
        ("stops sending amid a request", "has not sent the rest"),
        ("sends while the server thinks", "this server has not read"),
    ] {
        let of_client = |line: &&&str| line.contains(&peer(client));
        let line = stalled.iter().find(of_client);
        assert!(line.is_some_and(|line| line.contains(verdict)), "{stdout}");
    }
    // Queue by queue, as ss(8) would have it: state, Recv-Q, Send-Q, this end, the peer.
    let queues = |kind: &str| -> (u64, u64) {
        let row = stdout.lines().find(|line| {
            let columns: Vec<_> = line.split_whitespace().collect();
            columns.first() == Some(&"ESTAB") && columns[4] == peer(kind)
        });
        let columns: Vec<_> = row.unwrap().split_whitespace().collect();
        (columns[1].parse().unwrap(), columns[2].parse().unwrap())
    };
    assert!(matches!(queues("stops reading"), (0, 1..)), "{stdout}");
    assert_eq!(queues("stops sending amid a request"), (0, 0), "{stdout}");
    assert!(
        matches!(queues("sends while the server thinks"), (1.., 0)),
        "{stdout}"
    );
}

#[test]
fn a_stall_is_reported_when_it_begins_and_when_it_ends() {
    let mut server = Serving::start();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"get 30000000\n").unwrap();
    let name = stream.local_addr().unwrap().to_string();
    server.wait_for(|line| line.starts_with("STALLED") && line.contains(&name));

    let read = io::copy(&mut (&stream).take(30_000_000), &mut io::sink()).unwrap();
    assert_eq!(read, 30_000_000);
    server.wait_for(|line| line == "nobody is stalled");
}

#[test]
fn half_a_request_is_a_stall_until_its_end_comes() {
    let mut server = Serving::start();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"get").unwrap();
    let name = stream.local_addr().unwrap().to_string();
    server.wait_for(|line| line.contains(&format!("{name} has not sent")));
    stream.write_all(b" 1\n").unwrap();
    stream.read_exact(&mut [0; 1]).unwrap();
    server.wait_for(|line| line == "nobody is stalled");
}

#[test]
fn a_server_that_thinks_names_itself_even_with_more_requests_read_ahead() {
    let mut server = Serving::start();
    let mut stream = TcpStream::connect(&server.address).unwrap();
    stream.write_all(b"think 2000\nget 10\n").unwrap();
    let name = stream.local_addr().unwrap().to_string();
    server.wait_for(|line| line.contains(&format!("this server has not answered {name}")));
    stream.read_exact(&mut [0; 11]).unwrap();
    server.wait_for(|line| line == "nobody is stalled");
}

#[test]
fn a_client_that_has_closed_its_half_makes_nobody_a_stalled_reader() {
    let mut server = Serving::start();
    let mut closed = TcpStream::connect(&server.address).unwrap();
    closed.write_all(b"think 2000\n").unwrap();
    closed.shutdown(std::net::Shutdown::Write).unwrap();
    let name = closed.local_addr().unwrap().to_string();
    server.wait_for(|line| {
        assert!(!line.contains("has not read from"), "{line}");
        line.contains(&format!("this server has not answered {name}"))
    });
    let mut answer = Vec::new();
    closed.read_to_end(&mut answer).unwrap();
    assert_eq!(answer, b".");
}

/// A running server and what it says; dropping it kills the process.
struct Serving {
    process: Child,
    says: Lines<BufReader<ChildStdout>>,
    address: String,
}

impl Serving {
    fn start() -> Serving {
        let mut process = Command::new(env!("CARGO_BIN_EXE_netqueues"))
            .args(["--listen", "127.0.0.1:0", "--stalled-after", "300"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut says = BufReader::new(process.stdout.take().unwrap()).lines();
        let first = says.next().unwrap().unwrap();
        let address = first.rsplit(' ').next().unwrap().to_owned();
        Serving {
            process,
            says,
            address,
        }
    }

    fn wait_for(&mut self, wanted: impl Fn(&str) -> bool) {
        for line in &mut self.says {
            if wanted(&line.unwrap()) {
                return;
            }
        }
        panic!("the server ended without saying it");
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}
