//! A TCP echo server: a coroutine for each connection, and plain blocking reads and writes.
//!
//! Try it: `cargo run --bin echo`, then `nc 127.0.0.1 7000` and type.

use std::{env, io, time::Duration};

use maniple::net::{TcpListener, TcpStream};

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    maniple::run(|| {
        let listener = TcpListener::bind(&address)?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            match listener.accept() {
                Ok((stream, _peer)) => drop(maniple::spawn(move || echo(&stream))),
                // Out of descriptors: connections that close free some, so wait rather than spin.
                Err(error) => {
                    eprintln!("accept: {error}");
                    maniple::sleep(Duration::from_millis(50));
                }
            }
        }
    })
}

fn echo(stream: &TcpStream) -> io::Result<u64> {
    io::copy(&mut &*stream, &mut &*stream)
}
