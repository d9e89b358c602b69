//! hyper and axum on tokio's current-thread runtime, and hyper on its multi-threaded one.

use std::{borrow::Cow, convert::Infallible};

use anyhow::{Context, Result};
use axum::{Router, routing::get, serve::ListenerExt};
use http_body_util::Full;
use hyper::{
    Request, Response, StatusCode,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::{http1, http2},
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, runtime::Builder, task::LocalSet};

use super::{BODY, CONTENT_TYPE, Listening, announce, routes};

pub(super) fn serve_hyper(listening: &Listening) -> Result<()> {
    let tasks = LocalSet::new();
    let protocol = protocol(listening);
    let accept = async {
        let listener = TcpListener::bind(listening.listen).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = protocol.serve_connection(TokioIo::new(stream), service_fn(hello));
            tokio::task::spawn_local(async move {
                // A client that goes away ends its connection with an error.
                drop(connection.await);
            });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    tasks.block_on(&runtime, accept)
}

pub(super) fn serve_hyper_http2(listening: &Listening) -> Result<()> {
    let tasks = LocalSet::new();
    let protocol = http2::Builder::new(LocalTasks);
    let accept = async {
        let listener = TcpListener::bind(listening.listen).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = protocol.serve_connection(TokioIo::new(stream), service_fn(hello));
            tokio::task::spawn_local(async move {
                drop(connection.await);
            });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    tasks.block_on(&runtime, accept)
}

/// Runs what HTTP/2 spawns for each request.
#[derive(Clone, Copy)]
struct LocalTasks;

impl<F: Future<Output = ()> + 'static> hyper::rt::Executor<F> for LocalTasks {
    fn execute(&self, task: F) {
        tokio::task::spawn_local(task);
    }
}

pub(super) fn protocol(listening: &Listening) -> http1::Builder {
    let mut protocol = http1::Builder::new();
    protocol.timer(TokioTimer::new()).pipeline_flush(true);
    if let Some(patience) = listening.idle() {
        // For hyper the time for a head begins with the end of the request before.
        protocol.header_read_timeout(patience);
    }
    protocol
}

pub(super) async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    Ok(text(Bytes::from_static(BODY.as_bytes())))
}

fn text(body: Bytes) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body));
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    response
}

pub(super) fn serve_hyper_with_workers(listening: &Listening, workers: usize) -> Result<()> {
    let runtime = Builder::new_multi_thread()
        .worker_threads(workers)
        .enable_all()
        .build()?;
    let (protocol, address) = (protocol(listening), listening.listen);
    // A task, so that a worker accepts, and not the main thread, which would have to hand every connection over.
    let accepting = runtime.spawn(async move {
        let listener = TcpListener::bind(address).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            let connection = protocol.serve_connection(TokioIo::new(stream), service_fn(route));
            tokio::spawn(async move {
                // A client that goes away ends its connection with an error.
                drop(connection.await);
            });
        }
    });
    runtime.block_on(accepting).context("the accepting task")?
}

/// Answers as a handler that does not know how long it takes: within its task, as the others do.
async fn route(request: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let uri = request.uri();
    Ok(match routes::answer(uri.path(), uri.query()) {
        Some(Cow::Borrowed(body)) => text(Bytes::from_static(body.as_bytes())),
        Some(Cow::Owned(body)) => text(body.into()),
        None => {
            let mut response = Response::new(Full::default());
            *response.status_mut() = StatusCode::NOT_FOUND;
            response
        }
    })
}

pub(super) fn serve_axum(listening: &Listening) -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(listening.listen).await?;
        announce(listener.local_addr()?);
        let listener = listener.tap_io(|stream| {
            // Without it answers are still right, only later.
            let _ = stream.set_nodelay(true);
        });
        let router = Router::new().route("/", get(async || BODY));
        axum::serve(listener, router).await?;
        Ok(())
    })
}
