//! A hub: lines of text to a room reach all that are in it, and who does not read is disconnected.
//!
//! Try it: `cargo run --bin rooms`, then `nc 127.0.0.1 7000` twice; the first line is the
//! room's name.

use std::io::{self, BufRead, BufReader, Write};
use std::{env, net::Shutdown, sync::Arc};

use maniple::net::{TcpListener, TcpStream};
use maniple_parts::hub::{Hub, Lag, Member};

fn talk(stream: &TcpStream, hub: &Hub<Arc<str>>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines(); // in earnest, bound their length
    let room = lines.next().unwrap_or_else(|| Ok("lobby".into()))?;
    let member = hub
        .subscribe(&room, Lag::Disconnect)
        .map_err(io::Error::other)?;
    maniple::group(|group| {
        group.spawn(|| send(stream, member));
        lines.try_for_each(|line| {
            let line = format!("{}\n", line?).into();
            hub.publish(&room, line).map(drop).map_err(io::Error::other)
        })?;
        group.cancel(); // the peer has ended, and so does its sender
        Ok(())
    })
}

fn send(mut stream: &TcpStream, mut member: Member<Arc<str>>) {
    while let Ok(line) = member.recv() {
        let _ = stream.write_all(line.message.as_bytes()); // the reader meets the error, too
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    maniple::run(|| {
        let hub = Arc::new(Hub::builder("rooms").queue(64).build::<Arc<str>>()?);
        let listener = TcpListener::bind(&address)?;
        println!("listening on {}", listener.local_addr()?);
        loop {
            let ((stream, _peer), hub) = (listener.accept()?, Arc::clone(&hub));
            maniple::spawn(move || talk(&stream, &hub));
        }
    })
}
