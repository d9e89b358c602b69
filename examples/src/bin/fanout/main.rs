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
use std::time::{Duration, Instant};

use anyhow::Context as _;
use maniple::signal::{SIGINT, SIGTERM, shutdown_signals};
use maniple_discovery::Etcd;
use maniple_server::{Client, Response, StatusCode};

use crate::backend::{Backend, Ends, Power};
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
                Role::Backend {
                    listen,
                    embedded,
                    registry,
                } => run_backend(&listen, &embedded, &registry),
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
    backends
        .iter()
        .for_each(|(_, backend, _)| announce(backend));
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

fn run_backend(listen: &str, embedded: &Embedded, registry: &[String]) -> anyhow::Result<()> {
    let ends = match registry {
        [] => Ends::AtSignals,
        _ => Ends::WhenTold,
    };
    let backend = Backend::bind(embedded, listen, ends).map_err(cannot_listen)?;
    announce(&backend);
    let name = backend.name;
    match registry {
        [] => backend.serve()?,
        members => serve_registered(backend, members)?,
    }
    println!("backend {name} drained: every request it took is answered");
    Ok(())
}

/// Serves with a place in etcd, which is given up first when the end is asked for.
fn serve_registered(backend: Backend, members: &[String]) -> anyhow::Result<()> {
    let asked = shutdown_signals(&[SIGTERM, SIGINT])?;
    let (name, address, stop) = (backend.name, backend.local_addr(), backend.stop());
    let etcd = Etcd::builder(members).build()?;
    maniple::group(|g| {
        let serving = g.try_spawn(move || Ok(backend.serve()?));
        let place = etcd.register(plan::registry_of(name), address, LEASE)?;
        asked.recv()?;
        if let Err(error) = place.revoke() {
            log::warn!("backend {name} is listed until its lease ends: {error}");
        }
        // Those who follow the list have heard of it by then.
        maniple::sleep(HEARSAY);
        stop.stop();
        serving.join()?;
        Ok(())
    })
}

/// How long etcd lists a backend that has died.
const LEASE: Duration = Duration::from_secs(3);
const HEARSAY: Duration = Duration::from_millis(200);

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

/// A backend of this process: what it is like, where it is bound, and its switch.
type Own = (Embedded, Backend, Arc<Power>);

/// Binds what is embedded, and tells the gateway where all its backends are.
fn set_up(options: cli::Gateway) -> anyhow::Result<(Vec<Own>, Arc<Gateway>)> {
    let mut followings = Vec::new();
    let (embedded, targets): (Vec<Own>, Vec<Target>) = match options.backends {
        Backends::Embedded(embedded, replicas) => {
            let mut bound = Vec::new();
            let mut targets = Vec::new();
            for one in embedded {
                let mut addresses = Vec::new();
                for _ in 0..replicas {
                    let backend = Backend::bind(&one, cli::ANY_PORT, Ends::Cut)?;
                    addresses.push(backend.local_addr());
                    let power = Power::of(&backend);
                    bound.push((one.clone(), backend, power));
                }
                targets.push(Target::new(one.name, addresses));
            }
            (bound, targets)
        }
        Backends::Registered(members) => {
            let etcd = Etcd::builder(members).build()?;
            let mut targets = Vec::new();
            for name in ["A", "B", "C"] {
                let (target, following) = Target::registered(name, &etcd)?;
                targets.push(target);
                followings.push(following);
            }
            (Vec::new(), targets)
        }
        Backends::Elsewhere(targets) => {
            let targets = targets.into_iter();
            let targets = targets.map(|target| Target::new(target.name, target.addresses));
            (Vec::new(), targets.collect())
        }
    };
    let gateway = Gateway {
        client: Client::new(),
        backends: targets,
        followings,
        powers: embedded.iter().map(|(.., power)| power.clone()).collect(),
        deadline: options.deadline,
        hedge_after: options.hedge_after,
        tls_self_signed: options.tls_self_signed,
    };
    Ok((embedded, Arc::new(gateway)))
}

/// Serves the backends for as long as `work` takes.
fn while_serving<T>(
    backends: Vec<Own>,
    work: impl FnOnce() -> anyhow::Result<T>,
) -> anyhow::Result<T> {
    maniple::group(|g| {
        let serving: Vec<_> = backends
            .into_iter()
            .map(|(embedded, backend, power)| {
                g.try_spawn(move || {
                    let kept = power.keep(backend, &embedded);
                    kept.context("serve an embedded backend")
                })
            })
            .collect();
        let result = work();
        serving.iter().for_each(maniple::group::Child::cancel);
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
