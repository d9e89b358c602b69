//! The clients, each asking over and over.

use std::{io::Read, thread};

use anyhow::{Context, Result, ensure};
use bytes::Bytes;
use http_body_util::{BodyExt, Empty};
use hyper::{Request, Uri};
use hyper_util::{
    client::legacy::{Client as Pooled, connect::HttpConnector},
    rt::{TokioExecutor, TokioIo},
};
use maniple_server::{Client, client::ClientResponse};

use super::{Name, ureq};
use crate::{
    compare::meter::{Laps, Meter},
    memory::Memory,
};

/// Has callers ask over and over, each a coroutine of one worker.
fn on_coroutines(
    callers: u16,
    meter: &'static Meter,
    ask: impl Fn() -> Result<usize> + Clone + Send + Sync + 'static,
) -> Result<()> {
    let runtime = maniple::Runtime::builder().workers(1).build()?;
    runtime.run(|| -> Result<()> {
        let mut asking = Vec::new();
        for _ in 0..callers {
            let (ask, laps) = (ask.clone(), meter.laps()?);
            asking.push(maniple::spawn(move || over_and_over(laps, ask)));
        }
        asking.into_iter().try_for_each(|asking| asking.join()?)
    })
}

/// The same, each a thread.
fn on_threads(
    callers: u16,
    meter: &'static Meter,
    ask: impl Fn() -> Result<usize> + Sync,
) -> Result<()> {
    thread::scope(|scope| {
        let ask = || over_and_over(meter.laps()?, &ask);
        let asking: Vec<_> = (0..callers).map(|_| scope.spawn(ask)).collect();
        asking.into_iter().try_for_each(|asking| {
            let ended = asking.join();
            ended.unwrap_or_else(|cause| std::panic::resume_unwind(cause))
        })
    })
}

/// One caller. What is asked is how long the answer's body is.
fn over_and_over(mut laps: Laps<'_>, ask: impl Fn() -> Result<usize>) -> Result<()> {
    loop {
        ensure!(ask()? > 0, "an empty answer");
        if !laps.count() {
            return Ok(());
        }
    }
}

/// The same, each a task of the runtime in hand, with values of its own. A macro, since what is spawned is a future that may
/// be sent, which no bound says of an async closure.
macro_rules! on_tasks {
    ($callers:expr, $meter:expr, [$($own:ident),*], { $($before:tt)* }, $ask:expr) => {{
        let mut asking = Vec::new();
        for _ in 0..$callers {
            $(let $own = $own.clone();)*
            let mut laps = $meter.laps()?;
            asking.push(tokio::spawn(async move {
                $($before)*
                loop {
                    let body: Bytes = $ask;
                    ensure!(!body.is_empty(), "an empty answer");
                    if !laps.count() {
                        return Ok(());
                    }
                }
            }));
        }
        for asking in asking {
            asking.await??;
        }
        Ok(())
    }};
}

pub(super) fn maniple(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let client = Client::builder()
        .max_idle_per_host(usize::from(callers))
        .build();
    let url = url.to_owned();
    on_coroutines(callers, meter, move || Ok(client.get(&url)?.bytes()?.len()))
}

fn current_thread() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
}

fn pooled() -> Pooled<HttpConnector, Empty<Bytes>> {
    Pooled::builder(TokioExecutor::new()).build_http()
}

pub(super) fn hyper(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let uri: Uri = url.parse()?;
    current_thread()?.block_on(async {
        let client = pooled();
        on_tasks!(callers, meter, [client, uri], {}, {
            let answer = client.get(uri.clone()).await?;
            answer.into_body().collect().await?.to_bytes()
        })
    })
}

pub(super) fn hyper_connections(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let uri: Uri = url.parse()?;
    let authority = uri.authority().context("no authority")?.clone();
    current_thread()?.block_on(async {
        on_tasks!(
            callers,
            meter,
            [authority],
            {
                let stream = tokio::net::TcpStream::connect(authority.as_str()).await?;
                stream.set_nodelay(true)?;
                let (mut sender, connection) =
                    hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
                tokio::spawn(connection);
            },
            {
                sender.ready().await?;
                let request = Request::get("/").header("host", authority.as_str());
                let answer = sender.send_request(request.body(Empty::<Bytes>::new())?);
                answer.await?.into_body().collect().await?.to_bytes()
            }
        )
    })
}

pub(super) fn reqwest(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let url = url.to_owned();
    current_thread()?.block_on(async {
        let client = reqwest::Client::new();
        on_tasks!(callers, meter, [client, url], {}, {
            client.get(&url).send().await?.bytes().await?
        })
    })
}

fn ureq_settings(callers: u16) -> ::ureq::config::Config {
    ::ureq::Agent::config_builder()
        .max_idle_connections(usize::from(callers))
        .max_idle_connections_per_host(usize::from(callers))
        .build()
}

fn ask_ureq(agent: &::ureq::Agent, url: &str) -> Result<usize> {
    Ok(agent.get(url).call()?.body_mut().read_to_vec()?.len())
}

pub(super) fn ureq_on_threads(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let agent = ureq_settings(callers).new_agent();
    on_threads(callers, meter, || ask_ureq(&agent, url))
}

pub(super) fn ureq_on_coroutines(url: &str, callers: u16, meter: &'static Meter) -> Result<()> {
    let (agent, url) = (ureq::agent(ureq_settings(callers)), url.to_owned());
    on_coroutines(callers, meter, move || ask_ureq(&agent, &url))
}

/// What a connection takes while it lies in the pool, in this process: the difference that so many make to it when all are idle.
pub(super) fn idle_bytes(name: Name, url: &str, count: u16) -> Result<Option<f64>> {
    let connections = usize::from(count);
    match name {
        Name::Maniple => {
            let runtime = maniple::Runtime::builder().workers(1).build()?;
            let builder = Client::builder().max_idle(connections);
            let client = builder.max_idle_per_host(connections).build();
            runtime.run(|| {
                let ask = |count| -> Result<()> {
                    let answers: Vec<ClientResponse> = (0..count)
                        .map(|_| client.get(url))
                        .collect::<Result<_, _>>()?;
                    for mut answer in answers {
                        answer.read_to_end(&mut Vec::new())?;
                    }
                    Ok(())
                };
                // What does not grow with them.
                ask(1)?;
                let before = resident()?;
                ask(connections)?;
                Ok(Some(
                    resident()?.saturating_sub(before) as f64 / connections as f64,
                ))
            })
        }
        Name::Hyper => {
            let uri: Uri = url.parse()?;
            let client = &pooled();
            idle_of(connections, async |count| {
                let asked = (0..count).map(|_| client.get(uri.clone()));
                for answer in futures_util::future::try_join_all(asked).await? {
                    answer.into_body().collect().await?;
                }
                Ok(())
            })
        }
        Name::Reqwest => {
            let client = &reqwest::Client::new();
            idle_of(connections, async |count| {
                let asked = (0..count).map(|_| client.get(url).send());
                for answer in futures_util::future::try_join_all(asked).await? {
                    answer.bytes().await?;
                }
                Ok(())
            })
        }
        // The one has no pool; the other holds a thread for each call.
        Name::HyperConnections | Name::Ureq | Name::UreqOnManiple => Ok(None),
    }
}

/// The same for those that ask so many at once on tokio.
fn idle_of(connections: usize, ask: impl AsyncFn(usize) -> Result<()>) -> Result<Option<f64>> {
    current_thread()?.block_on(async {
        ask(1).await?;
        let before = resident()?;
        ask(connections).await?;
        let grown = resident()?.saturating_sub(before);
        Ok(Some(grown as f64 / connections as f64))
    })
}

fn resident() -> Result<u64> {
    Ok(Memory::of(&[std::process::id()])?.resident)
}
