//! The small examples as a user meets them: the built binaries and real sockets.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::process::{Child, Command, Stdio};

/// A running example; dropping it kills the process.
struct Running {
    process: Child,
    address: String,
}

impl Running {
    /// Starts a server on a free port and learns that from its first line.
    fn start(program: &str) -> Running {
        let mut command = Command::new(program);
        command
            .args(["--listen", "127.0.0.1:0", "--workers", "2"])
            .stdout(Stdio::piped());
        let mut process = command.spawn().unwrap();
        let mut line = String::new();
        BufReader::new(process.stdout.take().unwrap())
            .read_line(&mut line)
            .unwrap();
        let address = line
            .trim_end()
            .rsplit([' ', '/'])
            .next()
            .unwrap()
            .to_owned();
        Running { process, address }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[test]
fn echo_sends_back_what_it_is_sent() {
    let echo = Running::start(env!("CARGO_BIN_EXE_echo"));
    let mut streams: Vec<_> = (0..20)
        .map(|_| TcpStream::connect(&echo.address).unwrap())
        .collect();
    for (n, stream) in streams.iter_mut().enumerate() {
        stream.write_all(&vec![n as u8; 100_000]).unwrap();
        stream.shutdown(Shutdown::Write).unwrap();
        let mut back = Vec::new();
        stream.read_to_end(&mut back).unwrap();
        assert_eq!(back, vec![n as u8; 100_000]);
    }
}

#[test]
fn hello_greets_by_name() {
    let hello = Running::start(env!("CARGO_BIN_EXE_hello"));
    let mut stream = TcpStream::connect(&hello.address).unwrap();
    stream
        .write_all(b"GET /hello/Ada HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n")
        .unwrap();
    let mut response = String::new();
    stream.read_to_string(&mut response).unwrap();
    assert!(response.starts_with("HTTP/1.1 200 OK\r\n"), "{response}");
    assert!(response.ends_with("\r\n\r\nHello, Ada!\n"), "{response}");
}

#[test]
fn million_parks_and_ends_as_many_as_it_is_told() {
    let output = Command::new(env!("CARGO_BIN_EXE_million"))
        .args(["--count", "2000"])
        .output()
        .unwrap();
    let stdout = String::from_utf8(output.stdout).unwrap();
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    assert_eq!(stdout.lines().count(), 3, "{stdout}");
    assert!(stdout.contains("2000 parked"), "{stdout}");
    assert!(stdout.contains("all ended"), "{stdout}");
}

#[test]
fn a_busy_port_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for program in [
        env!("CARGO_BIN_EXE_echo"),
        env!("CARGO_BIN_EXE_hello"),
        env!("CARGO_BIN_EXE_netqueues"),
    ] {
        let output = Command::new(program)
            .args(["--listen", &address])
            .output()
            .unwrap();
        let stderr = String::from_utf8(output.stderr).unwrap();
        assert_eq!(output.status.code(), Some(1), "{stderr}");
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
        assert!(
            stderr.contains(&address) && stderr.contains("in use"),
            "{stderr}"
        );
    }
}
