//! With jemalloc as the allocator, which makes calls of its own, and asks for memory within hooked ones.

use std::{
    io::{Read, Write},
    net::ToSocketAddrs,
    process::Command,
};

use maniple_drivers::{Server, at_once, at_once_by, lines};

#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

#[test]
fn hooked_calls_suspend() {
    let port = lines(|line| format!("{line}\n")).unwrap();
    at_once_by(100, move |n| {
        let mut stream = std::net::TcpStream::connect(("127.0.0.1", port)).unwrap();
        stream.write_all(format!("{n}\n").as_bytes()).unwrap();
        stream.shutdown(std::net::Shutdown::Write).unwrap();
        let mut told = String::new();
        stream.read_to_string(&mut told).unwrap();
        assert_eq!(told, format!("{n}\n"));
    });
    let server = Server::redis();
    let client = redis::Client::open(format!("redis://127.0.0.1:{}/", server.port)).unwrap();
    at_once(move |_| {
        assert!(
            ("localhost", 80)
                .to_socket_addrs()
                .unwrap()
                .next()
                .is_some()
        );
        assert!(Command::new("true").status().unwrap().success());
        // More than any cache of a thread holds.
        let large = vec![1_u8; 4 << 20];
        let mut connection = client.get_connection().unwrap();
        let wait = redis::cmd("BLPOP")
            .arg("nothing")
            .arg(0.3)
            .query::<()>(&mut connection);
        wait.unwrap();
        assert_eq!(large[large.len() - 1], 1);
    });
}
