//! A server that asks three others for each request that it answers: what does an aggregate cost over the real client and server?
//!
//! Each gateway has one worker on the first core. Three raw epoll loops that answer `GET /` and the load are on the last one.
//! A request is answered once all three have answered whole; the answer is the sum of their lengths.

use std::{fmt, net::SocketAddr, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use axum::{Router, routing::get, serve::ListenerExt};
use bytes::Bytes;
use clap::{Args, ValueEnum};
use http_body_util::{BodyExt, Empty};
use hyper::{StatusCode, Uri};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::TokioExecutor,
};
use maniple_server::{Client, Request, Server};
use serde::Serialize;

use super::rows;
use crate::{
    go::{self, enlist},
    json::JsonFile,
    load::Seen,
    process::{self, Child, Core},
    stats::Machine,
    terminal::{progress, seconds},
};

const BACKENDS: usize = 3;

#[derive(Args, Clone, Debug, Serialize)]
pub(crate) struct Options {
    /// Connections of the load, each with one request at a time.
    #[arg(long, value_name = "N", default_value_t = 32)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    connections: u16,
    /// How long each gateway is measured in each round, after a fifth of that to warm up.
    #[arg(long, default_value = "3", value_parser = seconds)]
    seconds: f64,
    /// How often each gateway is measured.
    #[arg(long, value_name = "N", default_value_t = 5)]
    #[arg(value_parser = clap::value_parser!(u16).range(1..))]
    rounds: u16,
    /// The gateways; all if none is named. Ratios need axum.
    #[arg(long, value_name = "NAME,..", value_delimiter = ',')]
    only: Vec<Name>,
    /// Where to write everything as JSON.
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
}

#[derive(Args, Debug)]
pub(crate) struct ChildOptions {
    /// The gateway; a backend if there is none.
    #[arg(long)]
    gateway: Option<Name>,
    #[arg(long, value_delimiter = ',')]
    backends: Vec<SocketAddr>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize)]
#[serde(rename_all = "kebab-case")]
enum Name {
    /// maniple_server's server and client, and maniple::join! of three calls; one worker.
    Maniple,
    /// axum, with the client of hyper-util and tokio::join! of three calls; current-thread runtime.
    Axum,
    /// Go's net/http, server and client, with a goroutine for each of three calls; GOMAXPROCS=1.
    Go,
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.to_possible_value() {
            Some(value) => f.write_str(value.get_name()),
            None => Ok(()),
        }
    }
}

type Run = rows::Run<Name, Seen>;
type Row = rows::Row<Name>;

/// Everything, as it goes to the JSON file.
#[derive(Debug, Serialize)]
struct Report<'a> {
    machine: Machine,
    options: &'a Options,
    gateways: Vec<Row>,
    runs: Vec<Run>,
}

pub(crate) fn run(options: &Options) -> Result<()> {
    let file = JsonFile::create(options.json.as_deref())?;
    let mut machine = Machine::here(&["axum", "hyper", "hyper-util", "tokio"]);
    let names = enlist(
        &options.only,
        Name::value_variants(),
        &[Name::Go],
        &mut machine,
    );
    println!("{machine}");
    let mut backends = Vec::new();
    let mut addresses = Vec::new();
    for _ in 0..BACKENDS {
        let mut backend = Child::start(["serve-gateway"])?;
        addresses.push(backend.line(PATIENCE)?.trim().to_owned());
        backends.push(backend);
    }
    let addresses = addresses.join(",");
    let mut runs = Vec::new();
    for round in 1..=options.rounds {
        for &name in &names {
            progress(&format!("round {round} of {}, {name}", options.rounds));
            runs.push(Run {
                round,
                contender: name,
                outcome: measure_once(options, name, &addresses).into(),
            });
            for backend in &mut backends {
                if let Some(cause) = backend.ended() {
                    return Err(cause.context("a backend ended"));
                }
            }
        }
    }
    progress("");
    let rows: Vec<Row> = names
        .iter()
        .map(|&name| Row::of(name, Name::Axum, &runs))
        .collect();
    let Options {
        connections,
        rounds,
        seconds,
        ..
    } = options;
    println!(
        "\n{connections} connections, {BACKENDS} calls for each request; median (min..max) of {rounds} × {seconds} s\n"
    );
    print!(
        "{}",
        rows::table_against("axum", "gateway", "aggregate", &rows)
    );
    let measured = rows.iter().any(|row| row.cpu_us.is_some());
    file.write(&Report {
        machine,
        options,
        gateways: rows,
        runs,
    })?;
    match measured {
        true => Ok(()),
        false => bail!("no gateway could be measured"),
    }
}

fn measure_once(options: &Options, name: Name, backends: &str) -> Result<Seen> {
    if name == Name::Go {
        go::ready()?;
    }
    let mut gateway = Child::start([
        "serve-gateway".to_owned(),
        format!("--gateway={name}"),
        format!("--backends={backends}"),
    ])?;
    let address = gateway.line(PATIENCE)?;
    let warm_up = options.seconds / 5.0;
    let mut load = Child::start([
        "load".to_owned(),
        format!("--address={}", address.trim()),
        format!("--server={}", gateway.id()),
        format!("--connections={}", options.connections),
        "--pipeline=1".to_owned(),
        format!("--warm-up-seconds={warm_up}"),
        format!("--seconds={}", options.seconds),
    ])?;
    let patience = PATIENCE + Duration::from_secs_f64(options.seconds * 2.0);
    serde_json::from_str(&load.line(patience)?).context("what the load printed")
}

/// The child: a gateway, or a backend.
pub(crate) fn serve(options: &ChildOptions) -> Result<()> {
    let Some(name) = options.gateway else {
        return crate::servers::serve_epoll_on_last_core();
    };
    process::settle(Core::First)?;
    ensure!(
        options.backends.len() == BACKENDS,
        "{} backends, {BACKENDS} are needed",
        options.backends.len()
    );
    let mut urls = options.backends.iter().map(|at| format!("http://{at}/"));
    let urls = [(); BACKENDS].map(|()| urls.next().unwrap_or_default());
    match name {
        Name::Maniple => serve_maniple(urls),
        Name::Axum => serve_axum(urls),
        Name::Go => go::become_peer(1, ["gateway".to_owned(), urls.join(",")]),
    }
}

fn serve_maniple(urls: [String; BACKENDS]) -> Result<()> {
    let client = Client::new();
    let aggregate = move |_: &mut Request| {
        let ask = |url: &str| client.get(url)?.error_for_status()?.bytes();
        let [one, two, three] = &urls;
        match maniple::join!(ask(one), ask(two), ask(three)) {
            (Ok(one), Ok(two), Ok(three)) => Ok((one.len() + two.len() + three.len()).to_string()),
            _ => Err(maniple_server::StatusCode::BAD_GATEWAY),
        }
    };
    let router = maniple_server::Router::new().get("/", aggregate);
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| {
        let server = Server::builder(router).bind("127.0.0.1:0")?;
        println!("{}", server.local_addr());
        server.serve()
    })?;
    Ok(())
}

type Hyper = Pooled<HttpConnector, Empty<Bytes>>;

fn serve_axum(urls: [String; BACKENDS]) -> Result<()> {
    async fn ask(client: &Hyper, uri: &Uri) -> Result<Bytes> {
        let answer = client.get(uri.clone()).await?;
        ensure!(answer.status().is_success(), "{}", answer.status());
        Ok(answer.into_body().collect().await?.to_bytes())
    }
    let [one, two, three] = urls.map(|url| url.parse::<Uri>());
    let uris = [one?, two?, three?];
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        let client: Hyper = Pooled::builder(TokioExecutor::new()).build(connector);
        let shared = Arc::new((client, uris));
        let aggregate = move || {
            let shared = shared.clone();
            async move {
                let (client, [one, two, three]) = &*shared;
                let asked = tokio::join!(ask(client, one), ask(client, two), ask(client, three));
                match asked {
                    (Ok(one), Ok(two), Ok(three)) => {
                        Ok((one.len() + two.len() + three.len()).to_string())
                    }
                    _ => Err(StatusCode::BAD_GATEWAY),
                }
            }
        };
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await?;
        println!("{}", listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Without it answers are still right, only later.
            let _ = stream.set_nodelay(true);
        });
        axum::serve(listener, Router::new().route("/", get(aggregate))).await?;
        Ok(())
    })
}

/// How long a child may take to start.
const PATIENCE: Duration = Duration::from_secs(30);
