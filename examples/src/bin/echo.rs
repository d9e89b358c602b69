//! A TCP echo server: a coroutine for each connection, and plain blocking reads and writes.
//!
//! Try it: `cargo run --release --bin echo`, then `nc 127.0.0.1 7000` and type.

use std::io::{self, Read, Write};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use maniple::net::{TcpListener, TcpStream};

/// Sends back what it is sent.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:7000")]
    listen: String,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("echo: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> io::Result<()> {
    let mut runtime = maniple::Runtime::builder();
    if let Some(workers) = cli.workers {
        runtime = runtime.workers(workers.into());
    }
    runtime.build()?.run(|| serve(&cli.listen))
}

fn serve(listen: &str) -> io::Result<()> {
    let listener = TcpListener::bind(listen)?;
    println!("echo listening on {}", listener.local_addr()?);
    loop {
        match listener.accept() {
            Ok((stream, peer)) => {
                drop(maniple::spawn(move || {
                    if let Err(error) = echo(&stream) {
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

fn echo(mut stream: &TcpStream) -> io::Result<()> {
    let mut buffer = [0; 8 * 1024];
    loop {
        match stream.read(&mut buffer)? {
            0 => return Ok(()),
            n => stream.write_all(&buffer[..n])?,
        }
    }
}
