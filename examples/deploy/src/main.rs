//! A service as it is deployed: limits, a log, a look inside, a health check, a graceful end.
//!
//! Try it: `cargo run --bin greeter`, then `curl http://127.0.0.1:8080/hello/you`.

use std::{env, io, time::Duration};

use maniple::inspect;
use maniple_server::{Request, Router, Server};

fn hello(request: &mut Request) -> String {
    maniple::sleep(Duration::from_millis(20)); // a wait, as for a database
    format!("Hello, {}!\n", request.param("name").unwrap_or("world"))
}

fn router() -> Router {
    Router::new()
        .get("/hello/{name}", hello)
        .get("/health", |_: &mut Request| "ok\n")
}

fn main() -> io::Result<()> {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    inspect::dump_on_sigquit()?; // on `kill -QUIT`, what every coroutine waits for
    let _watch = inspect::watch_stalls(Duration::from_millis(100))?; // in the log, who keeps a worker
    let address = env::var("LISTEN").unwrap_or("127.0.0.1:8080".into());
    maniple::run(|| {
        let server = Server::builder(router())
            .max_connections(10_000) // less than the descriptors that it may have
            .idle_timeout(Duration::from_secs(75)) // longer than a proxy keeps a connection
            .drain_grace(Duration::from_secs(20)) // less than the supervisor waits for
            .handle_signals(true)
            .bind(&address)?;
        log::info!("listening on {}", server.local_addr());
        let report = server.serve()?;
        log::info!("ended: {report:?}");
        Ok(())
    })
}

#[cfg(test)]
mod tests {
    use maniple_server::Client;

    use super::*;

    #[test]
    fn a_name_is_greeted() {
        maniple::run(|| {
            let server = Server::builder(router()).bind("127.0.0.1:0").unwrap();
            let url = format!("http://{}/hello/Ann", server.local_addr());
            let handle = server.handle();
            let serving = maniple::spawn(move || server.serve());
            let answer = Client::new().get(&url).unwrap();
            assert_eq!(answer.text().unwrap(), "Hello, Ann!\n");
            handle.drain();
            serving.join().unwrap().unwrap();
        });
    }
}
