//! The client is there before its server, and stays when the server goes and comes.

use anyhow::{Context as _, ensure};

use crate::session::Session;
use crate::stage::{PATIENCE, Peer, Reserved};

pub fn play() -> anyhow::Result<()> {
    let port = Reserved::any()?;
    let address = &port.address.to_string();
    let mut client = Peer::start(&["call", "--server", address, "--longest-pause", "200"])?;
    println!(
        "process {} calls {address}, where nobody listens yet",
        client.id()
    );
    for _ in 0..5 {
        println!("  {}", client.line(|line| line.starts_with("attempt "))?);
    }

    let (first, _) = Peer::serve(address, &[])?;
    println!("process {} begins to serve", first.id());
    connected(&mut client, &first)?;

    println!("process {} is killed", first.id());
    first.kill()?;
    println!(
        "  {}",
        client.line(|line| line.starts_with("lost process "))?
    );
    println!("  {}", client.line(|line| line.starts_with("attempt "))?);

    let (second, _) = Peer::serve(address, &[])?;
    println!("process {} begins to serve", second.id());
    connected(&mut client, &second)?;

    // A client alone with a port of the ephemeral range can be given that port for its own end.
    let alone = Reserved::any()?;
    let address = alone.address;
    let error = Session::over(alone.call_itself()?, PATIENCE).err();
    let error = error.context("a greeting from itself")?;
    println!("a client that calls {address} from {address}: {error}; it lets go of the port");
    Ok(())
}

fn connected(client: &mut Peer, server: &Peer) -> anyhow::Result<()> {
    let line = client.line(|line| line.starts_with("connected to "))?;
    println!("  {line}");
    ensure!(line.contains(&format!("process {} ", server.id())));
    Ok(())
}
