//! Sockets over loopback: what std promises of its own holds here too, and waiting leaves the worker to others.

mod connecting;
mod files;
mod hangups;
mod sharing;
mod tcp;
mod waiting;

use std::{
    io::{Read, Write},
    net::SocketAddr,
};

use maniple::{
    JoinHandle,
    net::{TcpListener, TcpStream},
    spawn,
};

use crate::SHORT;

fn pair() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let client = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    (client, listener.accept().unwrap().0)
}

/// Answers each connection with what it says, until cancelled.
fn echo() -> (SocketAddr, JoinHandle<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap();
    let server = spawn(move || {
        while let Ok((mut stream, _)) = listener.accept() {
            spawn(move || {
                let mut buffer = [0; 4096];
                while let Ok(count @ 1..) = stream.read(&mut buffer) {
                    if stream.write_all(&buffer[..count]).is_err() {
                        break;
                    }
                }
            });
        }
    });
    (address, server)
}

/// Fills the stream until a write has to wait.
fn fill(stream: &mut TcpStream) -> std::io::Error {
    stream.set_write_timeout(Some(SHORT)).unwrap();
    let block = [0; 64 << 10];
    loop {
        if let Err(error) = stream.write(&block) {
            return error;
        }
    }
}
