//! A port is held by one process, unless all agree otherwise; and what agreeing looks like.

use std::collections::BTreeSet;
use std::io;

use anyhow::ensure;

use crate::session::Session;
use crate::stage::{self, PATIENCE, Peer, Reserved};

pub fn play() -> anyhow::Result<()> {
    let (first, address) = Peer::serve("127.0.0.1:0", &[])?;
    let port = &address.to_string();
    println!("process {} listens on {port}", first.id());

    let second = stage::output(&["serve", "--listen", port])?;
    let line = String::from_utf8_lossy(&second.stderr)
        .trim_end()
        .to_owned();
    println!(
        "a second one ends with {}, and says:\n  {line}",
        second.status
    );
    ensure!(!second.status.success() && line.lines().count() == 1);
    ensure!(line.contains(&format!("process {} ", first.id())));

    // With a client that keeps its end open, the connection of the dead stays, and with it its hold on the port.
    let client = Session::open(address, PATIENCE)?;
    let killed = first.id();
    first.kill()?;
    let error = Reserved::at(address, false).err();
    let error = error.map_or_else(|| "no error".to_owned(), |error| error.to_string());
    println!("process {killed} is killed; a successor without SO_REUSEADDR: {error}");
    ensure!(error.contains("in use"));
    let (successor, _) = Peer::serve(port, &[])?;
    println!(
        "with SO_REUSEADDR process {} listens on {port} at once",
        successor.id()
    );
    drop(client);

    let elsewhere = format!("127.0.0.2:{}", address.port());
    let (other, _) = Peer::serve(&elsewhere, &[])?;
    println!(
        "process {} listens on {elsewhere} beside it: the lock is the address and the port",
        other.id()
    );
    drop((successor, other));

    bound_twice()?;
    shared()
}

/// `SO_REUSEADDR` on both sides lets two bind; the lock is held by who listens.
fn bound_twice() -> io::Result<()> {
    let first = Reserved::any()?;
    let second = Reserved::at(first.address, true)?;
    first.listen()?;
    match second.listen() {
        Err(error) => println!("with SO_REUSEADDR two may bind, but one may listen: {error}"),
        Ok(()) => return Err(io::Error::other("both listen")),
    }
    Ok(())
}

/// With `SO_REUSEPORT` on both sides there is no lock, and neither learns of the other.
fn shared() -> anyhow::Result<()> {
    let (first, address) = Peer::serve("127.0.0.1:0", &["--shared"])?;
    let (second, _) = Peer::serve(&address.to_string(), &["--shared"])?;
    let both = BTreeSet::from([first.id(), second.id()]);
    let mut answered = BTreeSet::new();
    // The kernel picks by a hash of the addresses: that one gets all of a thousand does not happen.
    for _ in 0..1000 {
        answered.insert(Session::open(address, PATIENCE)?.process);
        if answered == both {
            println!(
                "with SO_REUSEPORT processes {both:?} both listen on {address}: no lock at all"
            );
            return Ok(());
        }
    }
    anyhow::bail!("of {both:?} only {answered:?} got connections");
}
