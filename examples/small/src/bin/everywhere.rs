//! Topics that processes share: chat rooms over TCP that are the same in all servers of one broker.
//!
//! Try it: `cargo run --bin everywhere` is alone. With `BROKER=redis:127.0.0.1:6379` before it,
//! or NATS as `nats:127.0.0.1:4222`, and with `127.0.0.1:7001` behind it for a second one, both
//! have the same rooms: `nc 127.0.0.1 7000` and `nc 127.0.0.1 7001`; the first line is the room's
//! name.

use std::io::{self, BufRead, BufReader, Write};
use std::{env, net::Shutdown};

use maniple::net::{TcpListener, TcpStream};
use maniple_parts::hub::{Hub, Lag, Listen, RecvError, Topics};
use maniple_topics::{Message, SharedHub};

fn talk(stream: &TcpStream, rooms: &impl Topics<Message>) -> io::Result<()> {
    let mut lines = BufReader::new(stream).lines(); // in earnest, bound their length
    let room = lines.next().unwrap_or_else(|| Ok("lobby".into()))?;
    let member = rooms.subscribe(&room, Lag::DropOldest);
    let member = member.map_err(io::Error::other)?;
    maniple::group(|group| {
        group.spawn(|| send(stream, member));
        lines.try_for_each(
            |line| match rooms.publish(&room, line?.into_bytes().into()) {
                Ok(()) => Ok(()),
                Err(error) => writeln!(&*stream, "* not said: {error}"),
            },
        )?;
        group.cancel(); // the peer has ended, and so does its sender
        Ok(())
    })
}

fn send(mut stream: &TcpStream, mut member: impl Listen<Message>) {
    loop {
        let line = match member.recv() {
            Ok(line) => [&*line.message, b"\n"].concat(),
            Err(RecvError::Gap { .. }) => b"* something may be missing here\n".to_vec(),
            Err(_) => break,
        };
        let _ = stream.write_all(&line); // the reader meets the error, too
    }
    let _ = stream.shutdown(Shutdown::Both);
}

fn serve(rooms: &impl Topics<Message>) -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:7000".into());
    let listener = TcpListener::bind(&address)?;
    println!("listening on {}", listener.local_addr()?);
    loop {
        let ((stream, _peer), rooms) = (listener.accept()?, rooms.clone());
        maniple::spawn(move || talk(&stream, &rooms));
    }
}

fn main() -> io::Result<()> {
    let broker = env::var("BROKER").unwrap_or_default();
    maniple::run(|| match broker.split_once(':') {
        Some(("redis", at)) => serve(&SharedHub::redis("rooms", [at]).prefix("chat:").build()?),
        Some(("nats", at)) => serve(&SharedHub::nats("rooms", [at]).prefix("chat.").build()?),
        None if broker.is_empty() => serve(&Hub::builder("rooms").build()?),
        _ => Err(io::Error::other("BROKER is neither redis:... nor nats:...")),
    })
}
