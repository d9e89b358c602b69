//! The fan-out demo: a gateway that asks several backends for one answer, under a leader.
//!
//! Try it: `cargo run --release --bin fanout`, then open `http://127.0.0.1:8080/`
//! or `curl 'http://127.0.0.1:8080/aggregate/42?mode=parallel'`.
//!
//! Read `plan.rs` first: it is what the demo is about.

mod backend;
mod behaviour;
mod cli;
mod duration;
mod gateway;
mod latency;
mod picture;
mod plan;
mod report;

use std::io;
use std::path::Path;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Instant;

use anyhow::Context as _;
use maniple_server::{Client, Response, StatusCode};

use crate::backend::{Backend, Stop};
use crate::cli::{Backends, Embedded, Role};
use crate::gateway::Gateway;
use crate::plan::Target;
use crate::report::Mode;

fn main() -> ExitCode {
    let cli = match cli::read() {
        Ok(cli) => cli,
        Err(code) => return code,
    };
    env_logger::Builder::from_env(env_logger::Env::default().default_filter_or("warn,fanout=info"))
        .init();

    let mut runtime = maniple::Runtime::builder();
    if let Some(workers) = cli.workers() {
        runtime = runtime.workers(workers);
    }
    let role = cli.role();
    let result = runtime
        .build()
        .context("start the runtime")
        .and_then(|runtime| {
            runtime.run(|| match role {
                Role::Gateway { listen, gateway } => run_gateway(&listen, gateway),
                Role::Backend { listen, embedded } => run_backend(&listen, &embedded),
                Role::Picture { file, gateway } => draw_picture(&file, gateway),
            })
        });
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("fanout: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run_gateway(listen: &str, options: cli::Gateway) -> anyhow::Result<()> {
    let (backends, gateway) = set_up(options)?;
    let server = gateway.bind(listen).map_err(cannot_listen)?;
    backends.iter().for_each(announce);
    let scheme = if gateway.tls_self_signed {
        "https"
    } else {
        "http"
    };
    println!("gateway S listening on {scheme}://{}", server.local_addr());
    while_serving(backends, || {
        maniple::group(|g| {
            for backend in &gateway.backends {
                drop(g.spawn_named("probe", || backend.probe()));
            }
            server.serve()
        })?;
        Ok(())
    })?;
    println!("gateway S drained: every request it took is answered");
    Ok(())
}

fn run_backend(listen: &str, embedded: &Embedded) -> anyhow::Result<()> {
    let backend = Backend::bind(embedded, listen, true).map_err(cannot_listen)?;
    announce(&backend);
    let name = backend.name;
    backend.serve()?;
    println!("backend {name} drained: every request it took is answered");
    Ok(())
}

fn draw_picture(file: &Path, options: cli::Gateway) -> anyhow::Result<()> {
    let deadline = options.deadline;
    let (backends, gateway) = set_up(options)?;
    let reports = while_serving(backends, || {
        Ok([Mode::Serial, Mode::Parallel].map(|mode| {
            gateway
                .fan_out("picture", Instant::now())
                .run(mode, deadline)
        }))
    })?;
    std::fs::write(file, picture::waterfall(&reports))
        .with_context(|| format!("write {}", file.display()))?;
    println!("wrote {}", file.display());
    Ok(())
}

/// Binds what is embedded, and tells the gateway where all its backends are.
fn set_up(options: cli::Gateway) -> anyhow::Result<(Vec<Backend>, Arc<Gateway>)> {
    let (embedded, targets) = match options.backends {
        Backends::Embedded(embedded) => {
            let bound = embedded
                .iter()
                .map(|one| Backend::bind(one, cli::ANY_PORT, false));
            let bound = bound.collect::<io::Result<Vec<_>>>()?;
            let targets = bound
                .iter()
                .map(|one| Target::new(one.name, one.local_addr()))
                .collect();
            (bound, targets)
        }
        Backends::Elsewhere(targets) => {
            let targets = targets
                .into_iter()
                .map(|(name, address)| Target::new(name, address));
            (Vec::new(), targets.collect())
        }
    };
    let gateway = Gateway {
        client: Client::new(),
        backends: targets,
        deadline: options.deadline,
        hedge_after: options.hedge_after,
        tls_self_signed: options.tls_self_signed,
    };
    Ok((embedded, Arc::new(gateway)))
}

/// Serves the backends for as long as `work` takes, and drains them after it.
fn while_serving<T>(
    backends: Vec<Backend>,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    let stops: Vec<Stop> = backends.iter().map(Backend::stop).collect();
    maniple::group(|g| {
        for backend in backends {
            drop(g.try_spawn(move || backend.serve().context("serve an embedded backend")));
        }
        let result = work();
        stops.iter().for_each(Stop::stop);
        result
    })
}

fn announce(backend: &Backend) {
    let (name, address) = (backend.name, backend.local_addr());
    println!(
        "backend {name} listening on http://{address} ({})",
        backend.behaviour()
    );
}

fn cannot_listen(error: io::Error) -> anyhow::Error {
    anyhow::anyhow!("{error}; --listen HOST:PORT takes another address")
}

/// `{"error":"..."}` on a line of its own.
fn error_response(status: StatusCode, reason: &str) -> Response {
    let line = format!("{}\n", serde_json::json!({ "error": reason }));
    Response::new(status)
        .with_header("content-type", "application/json")
        .with_body(line)
}
