//! A service as it is deployed: processes that are replaced without loss, limits, a log, a look
//! inside, health checks, a graceful end.
//!
//! Try it: `cargo run --bin greeter`, then `curl http://127.0.0.1:8080/hello/you`. Where
//! `CONTROL=/tmp/greeter` is set, `cargo run --bin greeter ctl status` asks that service.
//!
//! With `--tls-self-signed` it speaks HTTPS with a certificate for `localhost` that it makes itself,
//! for development; with `TLS_CERT` and `TLS_KEY` with one in files.

use std::{env, io, path::PathBuf, process::ExitCode, time::Duration};

use maniple::{Runtime, inspect};
use maniple_server::{
    Request, Router, Server,
    server::Health,
    tls,
    transport::{Listener, Trust},
};
use maniple_supervise::{End, Supervisor, Worker, ctl};

fn hello(request: &mut Request) -> String {
    maniple::sleep(Duration::from_millis(20)); // a wait, as for a database
    format!("Hello, {}!\n", request.param("name").unwrap_or("world"))
}

/// Who asks, as far as the proxies in between are trusted.
fn who(request: &mut Request) -> String {
    let address = request.client_address();
    let address = address.map_or("somebody".to_owned(), |address| address.to_string());
    format!("{address} by {}\n", request.scheme())
}

fn router(health: &Health) -> Router {
    Router::new()
        .get("/hello/{name}", hello)
        .get("/who", who)
        .get("/livez", health.live())
        .get("/readyz", health.ready())
}

/// What it speaks TLS with, if it does.
fn security() -> io::Result<Option<tls::ServerConfig>> {
    let certificate = if env::args().any(|argument| argument == "--tls-self-signed") {
        tls::self_signed(["localhost", "127.0.0.1"])?
    } else {
        match (env::var_os("TLS_CERT"), env::var_os("TLS_KEY")) {
            (Some(certificate), Some(key)) => tls::Certificate::files(certificate, key),
            _ => return Ok(None),
        }
    };
    let config = tls::ServerConfig::builder()
        .certificate(certificate)
        .alpn(["http/1.1"]);
    Ok(Some(config.build()?))
}

fn main() -> ExitCode {
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("info")).init();
    let control = env::var_os("CONTROL").map(PathBuf::from);
    let mut arguments = env::args().skip(1);
    if arguments.next().as_deref() == Some("ctl") {
        return ctl::main(arguments, control);
    }
    match run(control) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            log::error!("{error}");
            ExitCode::FAILURE
        }
    }
}

fn run(control: Option<PathBuf>) -> io::Result<()> {
    let mut supervisor = Supervisor::new()
        .listen("http", &setting("LISTEN", "127.0.0.1:8080"))?
        .end_timeout(Duration::from_secs(30)) // longer than drain_delay and drain_grace
        .watchdog(Duration::from_secs(30));
    if let Ok(workers) = env::var("WORKERS") {
        let workers = workers.parse().map_err(io::Error::other)?;
        supervisor = supervisor.workers(workers); // 0: this process alone
    }
    if let Ok(address) = env::var("LISTEN_PROXY") {
        supervisor = supervisor.listen("proxy", &address)?;
    }
    if let Some(path) = control {
        supervisor = supervisor.control(path);
    }
    let Some(worker) = supervisor.run()? else {
        return Ok(()); // the service has ended
    };
    inspect::dump_on_sigquit()?; // on `kill -QUIT`, what every coroutine waits for
    let _watch = inspect::watch_stalls(Duration::from_millis(100))?; // in the log, who keeps a worker
    let runtime = match worker.is_supervised() {
        true => Runtime::builder().workers(1).build()?, // there are as many processes as cores
        false => Runtime::new()?,
    };
    runtime.run(|| serve(worker))
}

fn serve(mut worker: Worker) -> io::Result<()> {
    let health = Health::new();
    let trusted: Trust = setting("TRUSTED", "127.0.0.1, ::1").parse()?; // the proxies
    let mut http = Listener::try_from(worker.take("http")?)?.trust(trusted.clone());
    let mut _reloading = None;
    if let Some(config) = security()? {
        if !worker.is_supervised() {
            // Of several processes, new ones read the files anew.
            _reloading = Some(config.reload_at_hangup()?);
        }
        http = http.tls(config);
    }
    let mut server = Server::builder(router(&health))
        .health(&health)
        .max_connections(10_000) // less than the descriptors that each process may have
        .idle_timeout(Duration::from_secs(75)) // longer than a proxy keeps a connection
        .drain_delay(Duration::from_secs(4)) // for a balancer's checks to see it
        .drain_grace(Duration::from_secs(20)) // less than the supervisor waits for
        .listen(http)?;
    if let Ok(socket) = worker.take("proxy") {
        let proxy = Listener::try_from(socket)?.trust(trusted);
        server = server.listen(proxy.proxy_protocol(true))?;
    }
    let server = server.build()?;
    let handle = server.handle();
    for address in server.addresses() {
        log::info!("listening on {address}");
    }
    worker.ready(move |why| match why {
        End::Replaced => handle.hand_over(),
        End::Stopped => handle.drain(),
    })?;
    let report = server.serve()?;
    log::info!("ended: {report:?}");
    Ok(())
}

fn setting(name: &str, default: &str) -> String {
    env::var(name).unwrap_or_else(|_| default.to_owned())
}

#[cfg(test)]
mod tests {
    use maniple_server::Client;

    use super::*;

    #[test]
    fn a_name_is_greeted() {
        maniple::run(|| {
            let router = router(&Health::new());
            let server = Server::builder(router).bind("127.0.0.1:0").unwrap();
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
