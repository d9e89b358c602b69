//! Clusters of three in a world, each connected to each: one that waits, and one that talks.

use std::{
    io::{Read, Write},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::Duration,
};

use anyhow::{Result, ensure};
use maniple::{
    net::{TcpListener, TcpStream},
    sim::{self, World},
};

const HOSTS: [&str; 3] = ["a", "b", "c"];

/// Between two heartbeats to the same host.
pub(super) const PACES: [Duration; 2] = [Duration::from_secs(1), Duration::from_millis(100)];

/// Connections from each host to each other.
pub(super) const CONNECTIONS: [u32; 3] = [1, 10, 100];

/// Bytes of a message.
const LENGTH: usize = 64;

/// Each host sends a heartbeat to each other, at that pace, for so long, and waits for the answer.
pub(super) fn idle(pace: Duration, time: Duration) -> Result<()> {
    let beats = u64::try_from(time.as_nanos() / pace.as_nanos())?;
    let answered = in_world(move |world, answered| {
        let _hosts = cluster(world, 1, move |stream| {
            loop {
                maniple::sleep(pace);
                ask(stream)?;
                answered.fetch_add(1, Relaxed);
            }
        });
        maniple::sleep(time);
    })?;
    // The last may be on its way.
    let (least, most) = (6 * (beats * 9 / 10), 6 * beats);
    ensure!(
        (least..=most).contains(&answered),
        "{answered} of {most} heartbeats were answered"
    );
    Ok(())
}

/// Each host asks each other over so many connections, as fast as it is answered, until there were so many messages:
/// questions and answers.
pub(super) fn busy(connections: u32, messages: u32) -> Result<()> {
    let wanted = u64::from(messages / 2);
    let answered = in_world(move |world, answered| {
        let theirs = answered.clone();
        let _hosts = cluster(world, connections, move |stream| {
            loop {
                ask(stream)?;
                theirs.fetch_add(1, Relaxed);
            }
        });
        while answered.load(Relaxed) < wanted {
            maniple::sleep(Duration::from_millis(1));
        }
    })?;
    ensure!(answered >= wanted, "{answered} of {wanted} were answered");
    Ok(())
}

/// Runs a scenario in a world, and tells how much it has counted.
fn in_world(scenario: impl FnOnce(&World, Arc<AtomicU64>) + Send + 'static) -> Result<u64> {
    let count = Arc::new(AtomicU64::new(0));
    let theirs = count.clone();
    if let Err(failure) = sim::run(7, |world| scenario(world, theirs)) {
        anyhow::bail!("{failure}");
    }
    Ok(count.load(Relaxed))
}

/// Three hosts. Each answers the others, and talks to them as `talk` says, over so many connections to each.
fn cluster(
    world: &World,
    connections: u32,
    talk: impl Fn(&mut TcpStream) -> std::io::Result<()> + Clone + Send + Sync + 'static,
) -> Vec<sim::Host> {
    let hosts = HOSTS.map(|name| {
        let talk = talk.clone();
        world.host(name, move || {
            let listener = TcpListener::bind("0.0.0.0:1").expect("nobody else listens");
            for other in HOSTS.iter().filter(|other| **other != name) {
                for _ in 0..connections {
                    let talk = talk.clone();
                    // It ends with the world.
                    maniple::spawn(move || {
                        let mut stream = TcpStream::connect((*other, 1))?;
                        talk(&mut stream)
                    });
                }
            }
            loop {
                let Ok((mut stream, _)) = listener.accept() else {
                    return;
                };
                maniple::spawn(move || answer(&mut stream));
            }
        })
    });
    hosts.into()
}

fn ask(stream: &mut TcpStream) -> std::io::Result<()> {
    stream.write_all(&[7; LENGTH])?;
    stream.read_exact(&mut [0; LENGTH])
}

fn answer(stream: &mut TcpStream) -> std::io::Result<()> {
    let mut message = [0; LENGTH];
    loop {
        stream.read_exact(&mut message)?;
        stream.write_all(&message)?;
    }
}
