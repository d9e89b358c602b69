//! A stopped process keeps its connections, and its kernel answers for it. Only what it no longer says
//! gives it away.

use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use maniple_examples::sockdiag::{Ends, Info, State};
use rustix::net::sockopt;

use crate::session::Session;
use crate::stage::{self, PATIENCE, Peer};

pub fn play() -> anyhow::Result<()> {
    let (server, address) = Peer::serve("127.0.0.1:0", &[])?;
    let call = [
        "call",
        "--server",
        &address.to_string(),
        "--longest-pause",
        "100",
    ];
    let mut client = Peer::start(&call)?;
    println!("  {}", client.line(|line| line.starts_with("connected "))?);

    // A connection that relies on keepalive, as impatient as the option can be: tcp(7).
    let keeping = Session::open(address, PATIENCE)?;
    let second = Duration::from_secs(1);
    sockopt::set_tcp_keepidle(keeping.stream(), second)?;
    sockopt::set_tcp_keepintvl(keeping.stream(), second)?;
    sockopt::set_socket_keepalive(keeping.stream(), true)?;
    let here = keeping.stream().local_addr()?;
    let segments = |since: Info| {
        stage::see(Ends::Towards(address), |sockets| {
            let socket = sockets.iter().find(|socket| socket.local == here)?;
            let info = socket.info?;
            let answered =
                info.segments_in > since.segments_in && info.segments_out > since.segments_out;
            (socket.state == State::ESTABLISHED && answered).then_some(info)
        })
    };
    let before = segments(Info::default()).context("a connection")?;

    let stopped = Instant::now();
    server.stop()?;
    println!(
        "process {} is stopped; heartbeats every 100 ms, bound 500 ms:",
        server.id()
    );
    let lost = client.line(|line| line.starts_with("lost "))?;
    let after = stopped.elapsed().as_secs_f64();
    println!("  {lost}, found after {after:.1} s");
    ensure!(lost.contains("silent"));
    let attempt = client.line(|line| line.starts_with("attempt "))?;
    println!("  {attempt}");
    ensure!(attempt.contains("connected, but not greeted"));

    segments(before).context("a keepalive probe that is answered")?;
    let after = stopped.elapsed().as_secs_f64();
    println!(
        "keepalive after {after:.1} s: the kernel has answered a probe, the connection is fine"
    );

    server.go_on()?;
    println!("process {} goes on", server.id());
    println!("  {}", client.line(|line| line.starts_with("connected "))?);
    Ok(())
}
