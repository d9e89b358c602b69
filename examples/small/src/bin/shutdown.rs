//! A graceful end: at SIGTERM or Ctrl-C requests are answered first, and then the
//! background job is told to stop.
//!
//! Try it: `cargo run --bin shutdown`, then `curl http://127.0.0.1:8080/slow & sleep 0.2;
//! pkill -x shutdown`.

use std::{env, io, time::Duration};

use maniple::sync::channel::{self, Receiver, RecvTimeoutError};
use maniple_server::{Request, Router, Server};

fn slow(_: &mut Request) -> &'static str {
    maniple::sleep(Duration::from_secs(1));
    "answered to the end\n"
}

/// Works once a minute until the sender is dropped.
fn job(stop: &Receiver<()>) {
    while let Err(RecvTimeoutError::Timeout) = stop.recv_timeout(Duration::from_secs(60)) {
        println!("the job does its work");
    }
    println!("the job has ended");
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let server = Server::builder(Router::new().get("/slow", slow))
            .drain_grace(Duration::from_secs(10)) // requests that take longer are cancelled
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        let (stop, stopped) = channel::bounded(0);
        let job = maniple::spawn(move || job(&stopped));
        let report = server.serve()?; // returns once the last connection is closed
        println!("{report:?}");
        drop(stop);
        job.join().map_err(io::Error::other)
    })
}
