//! The kernel closes what a killed process had open. Of one that is stopped it says nothing.

use std::io;
use std::time::Instant;

use anyhow::ensure;
use maniple::net::TcpStream;
use maniple_examples::sockdiag::{Ends, State};

use crate::session::{Lost, Session};
use crate::stage::{self, PATIENCE, Peer};

pub fn play() -> anyhow::Result<()> {
    let (server, address) = Peer::serve("127.0.0.1:0", &[])?;
    let mut idle = Session::open(address, PATIENCE)?;
    let mut owing = Session::open(address, PATIENCE)?;
    println!("process {} serves two connections", server.id());

    server.stop()?;
    owing.send(1)?;
    let unread = stage::see(Ends::At(address), |sockets| {
        let peer = owing.stream().local_addr().ok()?;
        let socket = sockets.iter().find(|socket| socket.peer == peer)?;
        (socket.recv_queue > 0).then_some(socket.recv_queue)
    })?;
    println!("it is stopped: a write still succeeds, and {unread} bytes lie in its Recv-Q");
    let late = TcpStream::connect(address)?;
    stage::see(Ends::At(address), |sockets| {
        let listening = sockets
            .iter()
            .find(|socket| socket.state == State::LISTEN)?;
        (listening.recv_queue == 1).then_some(())
    })?;
    println!("a new connection succeeds too: its kernel makes it, and it waits to be accepted");
    for session in [&idle, &owing] {
        let error = session.stream().try_read(&mut [0; 64]).err();
        ensure!(error.is_some_and(|error| error.kind() == io::ErrorKind::WouldBlock));
    }
    println!("nothing has come on any of them that tells of the stop");

    // All wait before the kill, so what they see is what the kernel tells by itself.
    let id = server.id();
    let (killed, seen) = maniple::group(|g| -> anyhow::Result<_> {
        let ends = [&mut idle, &mut owing]
            .map(|session| g.spawn(move || (session.wait_for_end(), Instant::now())));
        let late = g.spawn(|| (peek_end(&late), Instant::now()));
        maniple::yield_now();
        let killed = server.kill()?;
        let [idle, owing] = ends.map(|end| end.join());
        Ok((killed, [idle?, owing?, late.join()?]))
    })?;
    println!("process {id} is killed with signal 9:");
    let what = ["that was idle", "with unread bytes", "not yet accepted"];
    for (what, (lost, at)) in what.iter().zip(&seen) {
        let ms = at.saturating_duration_since(killed).as_secs_f64() * 1e3;
        println!("  the connection {what}: {lost} after {ms:.1} ms");
    }
    let expected = matches!(
        &seen.each_ref().map(|(lost, _)| lost)[..],
        [Lost::Closed, Lost::Reset, Lost::Reset]
    );
    ensure!(expected, "the connections did not end as expected");

    let refused = TcpStream::connect(address).map(drop);
    ensure!(
        refused
            .as_ref()
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused)
    );
    println!("  a new connection: refused, since nobody listens");
    Ok(())
}

fn peek_end(stream: &TcpStream) -> Lost {
    match stream.peek(&mut [0; 1]) {
        Ok(_) => Lost::Closed,
        Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Lost::Reset,
        Err(error) => Lost::Other(error),
    }
}
