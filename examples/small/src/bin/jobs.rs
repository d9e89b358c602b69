//! A worker pool: two jobs at a time, four that wait, and 503 beyond.
//!
//! Try it: `cargo run --bin jobs`, then `for i in 1 2 3 4 5 6 7 8; do curl
//! http://127.0.0.1:8080/report & done`.

use std::{env, io, time::Duration};

use maniple_parts::pool::{Pool, SubmitError, WhenFull};
use maniple_server::{Request, Router, Server, StatusCode};

fn report(pool: &Pool) -> Result<&'static str, (StatusCode, &'static str)> {
    let job = || maniple::sleep(Duration::from_secs(1)); // such as a dear query
    match pool.submit(job) {
        Ok(ticket) => ticket
            .join()
            .map(|()| "the report\n")
            .map_err(|_| (StatusCode::INTERNAL_SERVER_ERROR, "no report\n")),
        Err(SubmitError::Full { .. }) => Err((StatusCode::SERVICE_UNAVAILABLE, "try later\n")),
        Err(_) => Err((StatusCode::SERVICE_UNAVAILABLE, "about to end\n")),
    }
}

fn main() -> io::Result<()> {
    let address = env::args().nth(1).unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let settings = Pool::builder("reports").workers(2).queue(4);
        let pool = settings.when_full(WhenFull::Reject).build()?;
        let router = Router::new().get("/report", move |_: &mut Request| report(&pool));
        let server = Server::builder(router)
            .handle_signals(true)
            .bind(&address)?;
        println!("listening on {}", server.local_addr());
        server.serve().map(drop)
    })
}
