//! The same hot paths in a program whose calls are hooked, for `count --hooked`; and a server there, for `compare http
//! --only maniple,maniple_hooked`: what it costs those who do without the hook that it is linked in.

use std::{env, net::SocketAddr, process::ExitCode};

use anyhow::Result;
use maniple_server::{Request, Router, Server};

#[path = "main.rs"]
mod counted;

fn main() -> ExitCode {
    // A thread that looks around now and then would be counted too.
    maniple_hook::install!(unwatched);
    let arguments: Vec<String> = env::args().skip(1).collect();
    let served = match &arguments[..] {
        [what, at] if what == "serve" => serve(at),
        _ => return counted::main(),
    };
    match served {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("maniple-hooked: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// As `maniple` of the servers that are compared.
fn serve(at: &str) -> Result<()> {
    let at: SocketAddr = at.parse()?;
    let router = Router::new().get("/", |_: &mut Request| "Hello, World!");
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let server = Server::builder(router).bind(at)?;
        println!("{}", server.local_addr());
        server.serve()
    })?;
    Ok(())
}
