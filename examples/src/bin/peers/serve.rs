//! The server's role: greets with its process id, answers pings, takes bytes, and may ask clients to come anew.

use std::io::{self, BufRead, BufReader, Read, Write};
use std::process;
use std::time::Duration;

use clap::Args;
use maniple::net::{TcpListener, TcpStream};

use crate::alone;

#[derive(Debug, Args)]
pub struct Serve {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7200")]
    pub listen: String,

    /// Let others listen there too (SO_REUSEPORT): no single instance any more
    #[arg(long)]
    pub shared: bool,

    /// End each connection after so many answers, for its client to choose a server again
    #[arg(long, value_name = "N")]
    pub requests_per_connection: Option<u64>,
}

const LONGEST_LINE: u64 = 64;

pub fn run(options: &Serve) -> io::Result<()> {
    let listener = match options.shared {
        true => TcpListener::builder()
            .reuse_port(true)
            .bind(&*options.listen)?,
        false => alone::listen(&options.listen)?,
    };
    println!(
        "process {} listening on {}",
        process::id(),
        listener.local_addr()?
    );
    let most = options.requests_per_connection.unwrap_or(u64::MAX);
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                drop(maniple::spawn(move || {
                    if let Err(error) = connection(&stream, most) {
                        log::info!("{peer}: {error}");
                    }
                }));
            }
            // Out of descriptors: closing connections free some, so wait rather than spin or end.
            Err(error) => {
                log::warn!("accept: {error}");
                maniple::sleep(Duration::from_millis(50));
            }
        }
    }
}

/// Pings are answered where all requests would be: a pong shows that this loop works, not only its process.
fn connection(mut stream: &TcpStream, most: u64) -> io::Result<()> {
    stream.set_nodelay(true)?;
    writeln!(stream, "hello {}", process::id())?;
    let mut reader = BufReader::with_capacity(4096, stream);
    let mut line = String::new();
    for answered in 1..=most {
        line.clear();
        (&mut reader).take(LONGEST_LINE).read_line(&mut line)?;
        // Its end came before that of the line: there was no request.
        if !line.ends_with('\n') && (line.len() as u64) < LONGEST_LINE {
            return Ok(());
        }
        let request = line
            .strip_suffix('\n')
            .and_then(|line| line.split_once(' '));
        let answer = match request.map(|(verb, number)| (verb, number.parse::<u64>())) {
            Some(("ping", Ok(number))) => format!("pong {number}"),
            Some(("take", Ok(bytes))) => {
                let taken = io::copy(&mut (&mut reader).take(bytes), &mut io::sink())?;
                if taken < bytes {
                    return Ok(()); // nobody is there for an answer, and it would not be true
                }
                format!("taken {bytes}")
            }
            _ => return stream.write_all(b"write ping or take, and a number\n"),
        };
        let last = if answered == most { " last" } else { "" };
        // In one write: one segment.
        stream.write_all(format!("{answer}{last}\n").as_bytes())?;
    }
    // The client closes first, so that it is not the server that keeps TIME-WAIT. It may be slow to.
    stream.set_read_timeout(Some(Duration::from_secs(5)))?;
    io::copy(&mut reader.take(LONGEST_LINE), &mut io::sink()).map(drop)
}
