//! hyper and axum on tokio's current-thread runtime.

use std::convert::Infallible;

use anyhow::Result;
use axum::{Router, routing::get, serve::ListenerExt};
use http_body_util::Full;
use hyper::{
    Request, Response,
    body::{Bytes, Incoming},
    header::{self, HeaderValue},
    server::conn::http1,
    service::service_fn,
};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::{net::TcpListener, runtime::Builder, task::LocalSet};

use super::{ANY_PORT, BODY, CONTENT_TYPE, announce};

pub(super) fn serve_hyper() -> Result<()> {
    let tasks = LocalSet::new();
    let accept = async {
        let listener = TcpListener::bind(ANY_PORT).await?;
        announce(listener.local_addr()?);
        loop {
            let (stream, _) = listener.accept().await?;
            stream.set_nodelay(true)?;
            tokio::task::spawn_local(async move {
                let connection = http1::Builder::new()
                    .timer(TokioTimer::new())
                    .pipeline_flush(true)
                    .serve_connection(TokioIo::new(stream), service_fn(hello));
                // A client that goes away ends its connection with an error.
                drop(connection.await);
            });
        }
    };
    let runtime = Builder::new_current_thread().enable_all().build()?;
    tasks.block_on(&runtime, accept)
}

async fn hello(_: Request<Incoming>) -> Result<Response<Full<Bytes>>, Infallible> {
    let mut response = Response::new(Full::new(Bytes::from_static(BODY.as_bytes())));
    let content_type = HeaderValue::from_static(CONTENT_TYPE);
    response
        .headers_mut()
        .insert(header::CONTENT_TYPE, content_type);
    Ok(response)
}

pub(super) fn serve_axum() -> Result<()> {
    let runtime = Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let listener = TcpListener::bind(ANY_PORT).await?;
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
