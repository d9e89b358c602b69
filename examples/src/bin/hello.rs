//! The smallest HTTP server: one route, one handler, a graceful end on Ctrl-C.
//!
//! Try it: `cargo run --release --bin hello`, then `curl http://127.0.0.1:8080/hello/you`.

use std::io;
use std::process::ExitCode;

use clap::Parser;
use maniple_server::{Request, Router, Server};

/// Greets over HTTP.
#[derive(Parser)]
#[command(version)]
struct Cli {
    /// Where to listen
    #[arg(long, value_name = "HOST:PORT", default_value = "127.0.0.1:8080")]
    listen: String,

    /// Worker threads [default: one for each core]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u16).range(1..=1024))]
    workers: Option<u16>,
}

fn main() -> ExitCode {
    match run(&Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hello: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(cli: &Cli) -> io::Result<()> {
    let mut runtime = maniple::Runtime::builder();
    if let Some(workers) = cli.workers {
        runtime = runtime.workers(workers.into());
    }
    runtime.build()?.run(|| {
        let router = Router::new().get("/hello/{name}", hello);
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&cli.listen)?;
        println!("hello listening on http://{}", server.local_addr());
        server.serve().map(drop)
    })
}

fn hello(req: &mut Request) -> String {
    format!("Hello, {}!\n", req.param("name").unwrap_or("world"))
}
